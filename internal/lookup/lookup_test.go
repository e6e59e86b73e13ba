package lookup

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bantam"
)

func id(s string) (id bantam.ID) { _ = id.UnmarshalText([]byte(s)); return id }

func newLookup(t *testing.T, configs ...Config) *Lookup {
	t.Helper()
	l := New(slog.New(slog.DiscardHandler))
	var rules []*Rules
	for _, c := range configs {
		r, err := Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	l.Configure(rules...)
	return l
}

func TestIgnored(t *testing.T) {
	l := newLookup(t,
		Config{Jail: "sshd", IgnoreSelf: true, IgnoreIP: []string{"192.0.2.0/24", "2001:db8::/32", "::ffff:198.51.100.7"}},
		Config{Jail: "web"})
	l.SetAllow([]netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")})
	for _, c := range []struct{ name, jail, id, by string }{
		{"inside an ignored network", "sshd", "192.0.2.77", ByIP},
		{"a network inside it", "sshd", "192.0.2.128/25", ByIP},
		{"a network around it is not", "sshd", "192.0.0.0/16", ""},
		{"IPv6", "sshd", "2001:db8:7::1", ByIP},
		{"an address written as mapped", "sshd", "198.51.100.7", ByIP},
		{"the same in a jail without rules", "web", "192.0.2.77", ""},
		{"a jail nobody knows", "none", "192.0.2.77", ""},
		{"this machine", "sshd", "127.0.0.1", BySelf},
		{"this machine, in a jail that does not care", "web", "127.0.0.1", ""},
		{"the allow list holds everywhere", "none", "203.0.113.9", ByAllow},
		{"a text never is", "sshd", "root", ""},
	} {
		if by, ok := l.Ignored(c.jail, id(c.id)); by != c.by || ok != (c.by != "") {
			t.Errorf("%s: %q, %v, want %q", c.name, by, ok, c.by)
		}
	}
}

func TestRulesThatCannotBeObeyedAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want string
	}{
		{"a host name", Config{IgnoreIP: []string{"example.org"}}, `"example.org"`},
		{"a mask with a hole", Config{IgnoreIP: []string{"10.0.0.0/255.0.255.0"}}, "hole"},
		{"a command", Config{IgnoreCommand: "/bin/true"}, "not built yet"},
	} {
		if _, err := Compile(c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestIgnoredFailuresOnlyTellThePosition(t *testing.T) {
	l := newLookup(t, Config{Jail: "sshd", IgnoreIP: []string{"192.0.2.1"}})
	in, out := make(chan bantam.Failure, 3), make(chan bantam.Failure, 3)
	p := bantam.Position{Source: "/a", Offset: 3}
	in <- bantam.Failure{Jail: "sshd", ID: id("192.0.2.1"), Position: p, Read: time.Now()}
	in <- bantam.Failure{Jail: "sshd", ID: id("192.0.2.2"), Read: time.Now()}
	in <- bantam.Failure{Jail: "sshd", Host: "evil.example", Read: time.Now()}
	close(in)
	l.Run(in, out)
	if f := <-out; !f.ID.IsZero() || f.Position != p {
		t.Errorf("the ignored one passes as %+v", f)
	}
	if f := <-out; f.ID != id("192.0.2.2") {
		t.Errorf("the other passes as %+v", f)
	}
	if f, ok := <-out; !ok || !f.ID.IsZero() {
		t.Errorf("the name passes as %+v", f)
	}
	if _, ok := <-out; ok {
		t.Error("out is not closed")
	}
}
