package bantam_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"bantam"
)

func TestParsePrefix(t *testing.T) {
	for _, c := range []struct{ in, want, name string }{
		{"192.0.2.1", "192.0.2.1", "an address"},
		{"2001:0DB8:0:0::1", "2001:db8::1", "an address in another spelling"},
		{"[2001:db8::1]", "2001:db8::1", "an address in brackets"},
		{"::ffff:192.0.2.1", "192.0.2.1", "a mapped address is the IPv4 one"},
		{"::ffff:192.0.2.1/120", "192.0.2.0/24", "a mapped prefix too"},
		{"192.0.2.77/24", "192.0.2.0/24", "host bits are cleared"},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/8", "a netmask"},
		{"2001:db8::/ffff:ffff::", "2001:db8::/32", "a netmask of IPv6"},
		{"0.0.0.0/0", "0.0.0.0/0", "everything"},
		{"192.0.2.1/32", "192.0.2.1", "a full prefix is an address"},
		{"10.0.0.0/33", "", "too long a prefix"},
		{"10.0.0.0/-1", "", "a negative prefix"},
		{"10.0.0.0/+8", "", "a signed prefix"},
		{"10.0.0.0/255.0.255.0", "", "a mask with a hole"},
		{"fe80::1%eth0", "", "a zone"},
		{"1.2.3", "", "a short form that only C libraries read"},
		{"01.2.3.4", "", "a leading zero"},
		{"", "", "nothing"},
		{"example.org", "", "a name"},
	} {
		id, err := bantam.ParsePrefix(c.in)
		if c.want == "" {
			if !errors.Is(err, bantam.ErrNotAddress) {
				t.Errorf("%s: %q is read as %s, %v", c.name, c.in, id, err)
			}
			continue
		}
		if err != nil || id.String() != c.want {
			t.Errorf("%s: %q is %s, %v, want %s", c.name, c.in, id, err, c.want)
		}
	}
}

func TestIDContains(t *testing.T) {
	id := func(s string) (id bantam.ID) { _ = id.UnmarshalText([]byte(s)); return id }
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"192.0.2.0/24", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.0/24", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"root", "root", true},
		{"root", "192.0.2.1", false},
		{"", "", false},
	} {
		if got := id(c.outer).Contains(id(c.inner)); got != c.want {
			t.Errorf("%q contains %q: %v", c.outer, c.inner, got)
		}
	}
	if got := id("2001:db8::1").Widen(0, 64).String(); got != "2001:db8::/64" {
		t.Errorf("an address counted by /64 is %s", got)
	}
	if got := id("192.0.2.0/24").Widen(32, 64).String(); got != "192.0.2.0/24" {
		t.Errorf("a prefix wider than asked for becomes %s", got)
	}
}

// Whatever an ID is made of, its text is read back as the same ID.
func FuzzID(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "2001:db8::/64", "[::1]", "root", "", "1.2.3.4/", "::ffff:1.2.3.4/100", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var id, again bantam.ID
		if err := id.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText([]byte(id.String())); err != nil || again != id {
			t.Fatalf("%q is %q, which is read as %q, %v", s, id, again, err)
		}
		text, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := id.Prefix(); ok && (p != p.Masked() || p.Addr().Is4In6()) {
			t.Fatalf("%s is not canonical (%s)", p, text)
		}
	})
}

func TestIDsAreSortedByTheirValue(t *testing.T) {
	var ids []bantam.ID
	want := []string{"9.0.0.1", "10.0.0.0/8", "10.0.0.0/24", "192.0.2.1", "2001:db8::/64", "2001:db8::1", "bob", "eve"}
	for _, text := range []string{"eve", "2001:db8::1", "192.0.2.1", "10.0.0.0/24", "bob", "9.0.0.1", "2001:db8::/64", "10.0.0.0/8"} {
		id, err := bantam.ParsePrefix(text)
		if err != nil {
			id = bantam.TextID(text)
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, bantam.ID.Compare)
	for i, id := range ids {
		if id.String() != want[i] {
			t.Errorf("number %d is %s, want %s", i, id, want[i])
		}
	}
}
