package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"bantam"
)

func id(s string) (id bantam.ID) { _ = id.UnmarshalText([]byte(s)); return id }

// answers is a resolver that knows some names and can be slow.
type answers struct {
	delay time.Duration

	mu    sync.Mutex // guards the rest
	addrs map[string][]netip.Addr
	asked []string
}

func (a *answers) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	a.mu.Lock()
	a.asked = append(a.asked, host)
	a.mu.Unlock()
	select {
	case <-time.After(a.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if addrs := a.addrs[host]; addrs != nil {
		return addrs, nil
	}
	return nil, errors.New("no such host")
}

func newLookup(t *testing.T, r Resolver, configs ...Config) *Lookup {
	t.Helper()
	l := New(slog.New(slog.DiscardHandler), r)
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
	friends := filepath.Join(t.TempDir(), "friends")
	if err := os.WriteFile(friends, []byte("# ours\n198.51.100.0/28, 198.51.100.99 ; not 203.0.113.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLookup(t, &answers{addrs: map[string][]netip.Addr{"home.example": {netip.MustParseAddr("203.0.113.50")}}},
		Config{Jail: "sshd", IgnoreSelf: true, IgnoreIP: []string{"192.0.2.0/24", "2001:db8::/32", "::ffff:198.51.100.7", "home.example", "file:" + friends}},
		Config{Jail: "web"})
	l.SetAllow([]netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")})
	for _, c := range []struct{ name, jail, id, by string }{
		{"inside an ignored network", "sshd", "192.0.2.77", ByIP},
		{"a network inside it", "sshd", "192.0.2.128/25", ByIP},
		{"a network around it is not", "sshd", "192.0.0.0/16", ""},
		{"IPv6", "sshd", "2001:db8:7::1", ByIP},
		{"an address written as mapped", "sshd", "198.51.100.7", ByIP},
		{"the address of a name", "sshd", "203.0.113.50", ByDNS},
		{"an address beside it", "sshd", "203.0.113.51", ""},
		{"in a network of a list", "sshd", "198.51.100.3", ByFile + friends},
		{"in a comment of a list", "sshd", "203.0.113.1", ""},
		{"the same in a jail without rules", "web", "192.0.2.77", ""},
		{"a jail nobody knows", "none", "192.0.2.77", ""},
		{"this machine", "sshd", "127.0.0.1", BySelf},
		{"this machine, in a jail that does not care", "web", "127.0.0.1", ""},
		{"the allow list holds everywhere", "none", "203.0.113.9", ByAllow},
		{"a text never is", "sshd", "root", ""},
	} {
		if by, ok := l.Ignored(t.Context(), c.jail, id(c.id)); by != c.by || ok != (c.by != "") {
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
		{"a mask with a hole", Config{IgnoreIP: []string{"10.0.0.0/255.0.255.0"}}, "hole"},
		{"a range", Config{IgnoreIP: []string{"192.0.2.1-192.0.2.9"}}, "neither"},
		{"a pattern", Config{IgnoreIP: []string{"192.0.2.*"}}, "neither"},
		{"a list without a place", Config{IgnoreIP: []string{"file:friends"}}, "begins with /"},
		{"a cache that keeps nothing", Config{IgnoreCommand: "true", IgnoreCache: Cache{Key: "<ip>", MaxTime: 1}}, "max-count 0"},
		{"a cache that keeps too much", Config{IgnoreCommand: "true", IgnoreCache: Cache{Key: "<ip>", MaxCount: 1 << 30, MaxTime: 1}}, "max-count"},
		{"a cache without time", Config{IgnoreCommand: "true", IgnoreCache: Cache{Key: "<ip>", MaxCount: 1}}, "max-time"},
	} {
		if _, err := Compile(c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAListIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "friends")
	synctest.Test(t, func(t *testing.T) {
		l := newLookup(t, &answers{}, Config{Jail: "sshd", IgnoreIP: []string{"file:" + path}})
		ignored := func() bool {
			time.Sleep(recheck) // of the bubble's clock
			_, ok := l.Ignored(t.Context(), "sshd", id("192.0.2.1"))
			return ok
		}
		if ignored() {
			t.Error("a missing list ignores somebody")
		}
		for i, text := range []string{"192.0.2.1\n", "192.0.2.1/30 # wider\n", "198.51.100.1\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := ignored(); got != (i < 2) {
				t.Errorf("with %q: %v", text, got)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if ignored() {
			t.Error("a list that is gone ignores somebody")
		}
	})
}

func TestIgnoredFailuresOnlyTellThePosition(t *testing.T) {
	l := newLookup(t, &answers{}, Config{Jail: "sshd", IgnoreIP: []string{"192.0.2.1"}})
	in, out := make(chan bantam.Failure, 3), make(chan bantam.Failure, 3)
	p := bantam.Position{Source: "/a", Offset: 3}
	in <- bantam.Failure{Jail: "sshd", ID: id("192.0.2.1"), Position: p, Read: time.Now()}
	in <- bantam.Failure{Jail: "sshd", ID: id("192.0.2.2"), Read: time.Now()}
	close(in)
	l.Run(in, out)
	if f := <-out; !f.ID.IsZero() || f.Position != p {
		t.Errorf("the ignored one passes as %+v", f)
	}
	if f := <-out; f.ID != id("192.0.2.2") {
		t.Errorf("the other passes as %+v", f)
	}
	if _, ok := <-out; ok {
		t.Error("out is not closed")
	}
}

// A slow answer holds back that one offender, in order, and nobody else; what
// overtakes it does not tell how far the log was read.
func TestASlowAnswerHoldsBackOneOffender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &answers{delay: 3 * time.Second, addrs: map[string][]netip.Addr{
			"evil.example": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		}}
		l := newLookup(t, r)
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 16)
		go l.Run(in, out)
		at := func(n int64) bantam.Position { return bantam.Position{Source: "/a", Offset: n} }
		in <- bantam.Failure{Jail: "sshd", Host: "evil.example", Position: at(1), Read: time.Now()}
		in <- bantam.Failure{Jail: "sshd", ID: id("198.51.100.1"), Position: at(2), Read: time.Now()}
		in <- bantam.Failure{Jail: "sshd", Host: "evil.example", Position: at(3), Read: time.Now()}
		synctest.Wait()
		if f := <-out; f.ID != id("198.51.100.1") || f.Position.Source != "" {
			t.Errorf("first passes %+v", f)
		}
		if len(out) != 0 {
			t.Errorf("%d more pass before the answer", len(out))
		}
		var got []string
		for range 4 {
			f := <-out
			got = append(got, fmt.Sprintf("%s@%d", f.ID, f.Position.Offset))
		}
		if want := []string{"192.0.2.1@0", "2001:db8::1@0", "192.0.2.1@3", "2001:db8::1@3"}; !slices.Equal(got, want) {
			t.Errorf("then %v, want %v", got, want)
		}
		if len(r.asked) != 1 {
			t.Errorf("asked %v", r.asked)
		}
		close(in)
		<-out
	})
}

// Who is ignored by name is not counted while the name is asked for; a resolver that
// fails later takes nobody's exemption away.
func TestNamesThatAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &answers{delay: time.Second, addrs: map[string][]netip.Addr{"home.example": {netip.MustParseAddr("192.0.2.1")}}}
		l := newLookup(t, r, Config{Jail: "sshd", IgnoreIP: []string{"home.example"}})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 16)
		go l.Run(in, out)
		for range 2 {
			in <- bantam.Failure{Jail: "sshd", ID: id("192.0.2.1"), Read: time.Now()}
			if f := <-out; !f.ID.IsZero() {
				t.Errorf("the friend passes as %+v", f)
			}
			r.mu.Lock()
			r.addrs = nil
			r.mu.Unlock()
			time.Sleep(nameFresh + time.Second) // of the bubble's clock
		}
		synctest.Wait()
		close(in)
		<-out
	})
}

func TestAStopWaitsForNoName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookup(t, &answers{delay: time.Hour})
		in, out := make(chan bantam.Failure, 1), make(chan bantam.Failure, 1)
		in <- bantam.Failure{Jail: "sshd", Host: "slow.example", Read: time.Now()}
		close(in)
		begin := time.Now()
		l.Run(in, out)
		if took := time.Since(begin); took > 0 || len(out) > 0 {
			t.Errorf("the stop took %s and passed %d", took, len(out))
		}
	})
}

// Names are asked of a real DNS server, and one name brings no flood.
func TestARealServer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				for i := range 200 {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
						Body:   &dnsmessage.AResource{A: [4]byte{198, 51, 100, byte(i)}},
					})
				}
				m.Answers = m.Answers[:min(len(m.Answers), 80)] // what fits a datagram
			}
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	l := newLookup(t, resolver)
	in, out := make(chan bantam.Failure, 1), make(chan bantam.Failure, 1)
	go l.Run(in, out)
	in <- bantam.Failure{Jail: "sshd", Host: "many.example.", Read: time.Now()}
	seen := map[bantam.ID]bool{}
	for range maxAddresses {
		seen[(<-out).ID] = true
	}
	close(in)
	if _, more := <-out; more || len(seen) != maxAddresses || !seen[id("198.51.100.3")] {
		t.Errorf("%d addresses, and more: %v", len(seen), more)
	}
}

// Whatever a list holds, reading it is bounded and finds only prefixes and names.
func FuzzParseList(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.0/8 # x\nhome.example;\n\xff")
	f.Fuzz(func(t *testing.T, text string) {
		_, names, err := parseList(strings.NewReader(text))
		if err != nil && len(text) < 60<<10 {
			t.Fatal(err)
		}
		for _, n := range names {
			if n == "" || strings.ContainsAny(n, " \n#;,") {
				t.Fatalf("%q is a name of %q", n, text)
			}
		}
	})
}
