package firewall

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOrdinaryJailsAreReadable(t *testing.T) {
	for _, c := range []struct {
		key  setKey
		want string
	}{
		{setKey{"sshd", false, 32}, "sshd-4"},
		{setKey{"sshd", true, 128}, "sshd-6"},
		{setKey{"sshd", false, 24}, "sshd-4-24"},
		{setKey{"sshd", true, 64}, "sshd-6-64"},
		{setKey{"sshd", true, 0}, "sshd-6-0"},
		{setKey{"sshd", true, 32}, "sshd-6-32"},
		{setKey{"nginx-http-auth", false, 32}, "nginx-http-auth-4"},
		{setKey{"", false, 8}, "allow-4-8"},
		{setKey{"", true, 128}, "allow-6"},
	} {
		if got := c.key.name(); got != c.want {
			t.Errorf("%+v is called %s, want %s", c.key, got, c.want)
		}
	}
	if got := objectName("web server"); !strings.HasPrefix(got, "_web_server_") {
		t.Errorf("a name with a space became %s", got)
	}
}

// anyName is what the kernel and nft take as a name of ours.
var anyName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

func FuzzSetNames(f *testing.F) {
	for _, s := range [][2]string{
		{"sshd", "sshd-4"},
		{"web", "web-4-4"},
		{"a-6", "a"},
		{"allow", "allow-4"},
		{"é", "è"},
		{"_x", "x"},
		{"3proxy", "proxy"},
		{"a b", "_a_b_c8687a08aa5d6ed2044328fa6a697ab8"},
		{"\xff", "\xfe"},
		{strings.Repeat("x", 65), strings.Repeat("x", 66)},
	} {
		f.Add(s[0], s[1], uint8(24), uint8(4))
	}
	f.Fuzz(func(t *testing.T, a, b string, bitsA, bitsB uint8) {
		if a == "" || b == "" {
			return
		}
		jails := map[string]string{objectName(a): a, objectName(b): b}
		if a != b && len(jails) == 1 {
			t.Fatalf("jails %q and %q are both called %s", a, b, objectName(a))
		}
		names := make(map[string]setKey)
		for _, jail := range []string{a, b, ""} {
			for _, v6 := range []bool{false, true} {
				for _, bits := range []uint8{bitsA, bitsB, 4, 6, 32, 128} {
					k := setKey{jail: jail, v6: v6}
					k.bits = min(bits, k.length())
					name := k.name()
					if !anyName.MatchString(name) {
						t.Errorf("%+v is called %q", k, name)
					}
					if other, taken := names[name]; taken && other != k {
						t.Errorf("%+v and %+v are both called %s", k, other, name)
					}
					names[name] = k
					if back, ok := parseSetName(name, jails); !ok || back != k {
						t.Errorf("%+v is called %s, which is read as %+v, %v", k, name, back, ok)
					}
				}
			}
		}
		// What is read as ours has exactly that name.
		for _, s := range []string{a, b} {
			if k, ok := parseSetName(s, jails); ok && k.name() != s {
				t.Errorf("%q is read as %+v, whose name is %s", s, k, k.name())
			}
		}
	})
}

func TestPortsAreMerged(t *testing.T) {
	for _, c := range []struct {
		what     string
		in, want []PortRange
	}{
		{"none", nil, nil},
		{"one", []PortRange{{22, 22}}, []PortRange{{22, 22}}},
		{"the same twice", []PortRange{{22, 22}, {22, 22}}, []PortRange{{22, 22}}},
		{"neighbours", []PortRange{{23, 23}, {22, 22}}, []PortRange{{22, 23}}},
		{"one inside the other", []PortRange{{1, 100}, {5, 6}}, []PortRange{{1, 100}}},
		{"an overlap", []PortRange{{50, 150}, {1, 100}}, []PortRange{{1, 150}}},
		{"a gap of one", []PortRange{{1, 2}, {4, 5}}, []PortRange{{1, 2}, {4, 5}}},
		{"up to the last", []PortRange{{65535, 65535}, {0, 65534}}, []PortRange{{0, 65535}}},
	} {
		if got := mergePorts(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v became %v, want %v", c.what, c.in, got, c.want)
		}
	}
}

func TestProtocols(t *testing.T) {
	for name, want := range map[string][]byte{
		"tcp": {6}, "TCP": {6}, " udp ": {17}, "47": {47}, "all": nil, "0": nil, "icmp": {1, 58}, "ipv6-icmp": {58}, "255": {255},
	} {
		if got, err := protocolNumbers(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "tpc", "256", "-1", "tcp,udp", "+6"} {
		if got, err := protocolNumbers(name); err == nil {
			t.Errorf("%q is %v", name, got)
		}
	}
}
