package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bantam/internal/nstest"
)

// backend is what all backends can do.
type backend interface {
	Sync(ctx context.Context, rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) error
	Apply(changes []Change) error
	SetAllow(allow []netip.Prefix) error
	Counters() (map[string]Counter, error)
	Elements(jail string) ([]Element, error)
	Watch(ctx context.Context, notify func()) error
	Remove() error
	Close() error
}

func TestRecorderIsABackend(t *testing.T) {
	testBackend(t, func(t *testing.T) backend { return new(Recorder) })
}

func TestNFTablesIsABackend(t *testing.T) {
	testBackend(t, func(t *testing.T) backend { return openIn(t, nstest.New(t)) })
}

func TestNFTablesIsABackendOnKernelsBefore63(t *testing.T) {
	testBackend(t, func(t *testing.T) backend {
		n := openIn(t, nstest.New(t))
		if !n.destroy {
			t.Skip("this is such a kernel")
		}
		n.destroy = false
		return n
	})
}

func openIn(t testing.TB, net *nstest.Net) *NFTables {
	t.Helper()
	n, err := OpenNFTables(Options{NetNS: net.FD()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

var (
	hour = time.Hour
	ever = time.Duration(0)
)

// in is an element that ends after d; zero means for ever.
func in(jail, prefix string, d time.Duration) Element {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		a := netip.MustParseAddr(prefix)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	e := Element{Jail: jail, Prefix: p}
	if d != 0 {
		e.End = time.Now().Add(d)
	}
	return e
}

func add(jail, prefix string, d time.Duration) Change { return Change{Element: in(jail, prefix, d)} }

func remove(jail, prefix string) Change {
	return Change{Element: in(jail, prefix, ever), Remove: true}
}

// wantElements compares a jail's elements, ends to the second.
func wantElements(t *testing.T, b backend, jail string, want ...Element) {
	t.Helper()
	got, err := b.Elements(jail)
	if err != nil {
		t.Errorf("elements of %s: %v", jail, err)
		return
	}
	order := func(a, b Element) int { return cmp.Compare(a.Prefix.String(), b.Prefix.String()) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	same := slices.EqualFunc(got, want, func(a, b Element) bool {
		if a.Prefix != b.Prefix || a.End.IsZero() != b.End.IsZero() || a.Jail != jail {
			return false
		}
		return a.End.Sub(b.End).Abs() < 2*time.Second
	})
	if !same {
		t.Errorf("elements of %s:\n got %v\nwant %v", jail, got, want)
	}
}

// testBackend says what a backend is.
func testBackend(t *testing.T, open func(t *testing.T) backend) {
	ctx := context.Background()
	ssh := Rule{Jail: "sshd", Protocols: []string{"tcp"}, Ports: []PortRange{{22, 22}}}
	all := Rule{Jail: "recidive"}
	rules := []Rule{ssh, all}
	synced := func(t *testing.T, bans ...Element) backend {
		t.Helper()
		b := open(t)
		if err := b.Sync(ctx, rules, nil, slices.Values(bans)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	apply := func(t *testing.T, b backend, changes ...Change) {
		t.Helper()
		if err := b.Apply(changes); err != nil {
			t.Errorf("apply: %v", err)
		}
	}

	t.Run("a sync puts in what is wanted, of every family and length", func(t *testing.T) {
		want := []Element{
			in("sshd", "192.0.2.1", hour), in("sshd", "2001:db8::1", hour), in("sshd", "198.51.100.0/24", ever),
			in("sshd", "2001:db8:1::/64", 1000*hour), in("sshd", "0.0.0.0/0", hour), in("sshd", "::/0", hour), in("sshd", "2001:db8:1::/127", hour),
		}
		b := synced(t, append(slices.Clone(want), in("recidive", "192.0.2.1", ever))...)
		wantElements(t, b, "sshd", want...)
		wantElements(t, b, "recidive", in("recidive", "192.0.2.1", ever))
	})
	t.Run("the next sync takes out what is not wanted any more", func(t *testing.T) {
		b := synced(t, in("sshd", "192.0.2.1", hour), in("sshd", "192.0.2.2", ever), in("sshd", "198.51.100.0/24", hour), in("recidive", "192.0.2.3", hour))
		want := []Element{in("sshd", "192.0.2.2", 2*hour), in("sshd", "192.0.2.4", ever)}
		if err := b.Sync(ctx, rules, nil, slices.Values(want)); err != nil {
			t.Fatal(err)
		}
		wantElements(t, b, "sshd", want...)
		wantElements(t, b, "recidive")
		apply(t, b, add("sshd", "198.51.100.0/24", hour))
		wantElements(t, b, "sshd", append(want, in("sshd", "198.51.100.0/24", hour))...)
	})
	t.Run("a jail that lost its rule has no bans, and one that got one is empty", func(t *testing.T) {
		b := synced(t, in("recidive", "192.0.2.1", hour))
		if err := b.Sync(ctx, []Rule{ssh, {Jail: "new"}}, nil, nil); err != nil {
			t.Fatal(err)
		}
		wantElements(t, b, "recidive")
		wantElements(t, b, "new")
	})
	t.Run("a change of a jail without a rule is an error, and nothing is changed", func(t *testing.T) {
		b := synced(t)
		err := b.Apply([]Change{add("sshd", "192.0.2.1", hour), add("nobody", "192.0.2.1", hour)})
		if !errors.Is(err, ErrUnknownJail) || errors.Is(err, ErrUnknownState) {
			t.Errorf("the error is %v", err)
		}
		if err := b.Apply([]Change{{Element: Element{Jail: "sshd"}}}); err == nil || errors.Is(err, ErrUnknownState) {
			t.Errorf("no prefix at all: %v", err)
		}
		wantElements(t, b, "sshd")
		if err := b.Sync(ctx, rules, nil, slices.Values([]Element{in("nobody", "192.0.2.1", hour)})); !errors.Is(err, ErrUnknownJail) || errors.Is(err, ErrUnknownState) {
			t.Errorf("sync: %v", err)
		}
	})
	t.Run("nothing can be changed before the first sync", func(t *testing.T) {
		b := open(t)
		if err := b.Apply([]Change{add("sshd", "192.0.2.1", hour)}); !errors.Is(err, ErrUnknownJail) {
			t.Errorf("apply: %v", err)
		}
		if err := b.SetAllow(nil); !errors.Is(err, ErrUnknownState) {
			t.Errorf("set allow: %v", err)
		}
		if err := b.Remove(); err != nil {
			t.Errorf("remove what is not there: %v", err)
		}
	})
	t.Run("a ban that is added again ends when the new one does", func(t *testing.T) {
		b := synced(t)
		for _, d := range []time.Duration{hour, 3 * hour, hour, ever, 2 * hour, ever} {
			apply(t, b, add("sshd", "192.0.2.1", d), add("sshd", "2001:db8::/64", d))
			wantElements(t, b, "sshd", in("sshd", "192.0.2.1", d), in("sshd", "2001:db8::/64", d))
			if err := b.Sync(ctx, rules, nil, slices.Values([]Element{in("sshd", "192.0.2.1", d+hour), in("sshd", "2001:db8::/64", d+hour)})); err != nil {
				t.Fatal(err)
			}
			wantElements(t, b, "sshd", in("sshd", "192.0.2.1", d+hour), in("sshd", "2001:db8::/64", d+hour))
		}
	})
	t.Run("removing what is not there is no error", func(t *testing.T) {
		b := synced(t, in("sshd", "192.0.2.1", hour))
		apply(t, b, remove("sshd", "192.0.2.9"), remove("sshd", "192.0.2.0/24"), remove("sshd", "2001:db8::/64"), remove("sshd", "192.0.2.1"), remove("sshd", "192.0.2.1"))
		apply(t, b, remove("sshd", "192.0.2.1"))
		apply(t, b)
		wantElements(t, b, "sshd")
	})
	t.Run("of several changes of one prefix the last counts", func(t *testing.T) {
		b := synced(t, in("sshd", "192.0.2.3", hour))
		apply(t, b,
			add("sshd", "192.0.2.1", hour), add("sshd", "192.0.2.1", 3*hour),
			add("sshd", "192.0.2.2", hour), remove("sshd", "192.0.2.2"),
			remove("sshd", "192.0.2.3"), add("sshd", "192.0.2.3", 2*hour),
			add("sshd", "192.0.2.77/24", hour), add("sshd", "192.0.2.0/24", 4*hour),
			add("recidive", "192.0.2.2", ever))
		wantElements(t, b, "sshd", in("sshd", "192.0.2.1", 3*hour), in("sshd", "192.0.2.3", 2*hour), in("sshd", "192.0.2.0/24", 4*hour))
		wantElements(t, b, "recidive", in("recidive", "192.0.2.2", ever))
		if err := b.Sync(ctx, rules, nil, slices.Values([]Element{in("sshd", "192.0.2.1", hour), in("sshd", "192.0.2.1", 5*hour)})); err != nil {
			t.Fatal(err)
		}
		wantElements(t, b, "sshd", in("sshd", "192.0.2.1", 5*hour))
	})
	t.Run("a ban that has ended is not put in, and ends one that runs", func(t *testing.T) {
		b := synced(t, in("sshd", "192.0.2.1", hour), in("sshd", "192.0.2.2", -hour))
		apply(t, b, add("sshd", "192.0.2.1", -time.Second), add("sshd", "192.0.2.3", -time.Second), add("sshd", "192.0.2.0/24", -time.Second))
		wantElements(t, b, "sshd")
	})
	t.Run("one address written in two ways is one ban", func(t *testing.T) {
		b := synced(t)
		apply(t, b, add("sshd", "::ffff:192.0.2.1", hour), add("sshd", "192.0.2.1", 2*hour))
		wantElements(t, b, "sshd", in("sshd", "192.0.2.1", 2*hour))
	})
	t.Run("bans that contain each other are independent", func(t *testing.T) {
		b := synced(t)
		apply(t, b, add("sshd", "192.0.2.1", hour), add("sshd", "192.0.2.0/24", hour), add("sshd", "192.0.0.0/16", hour), add("sshd", "192.0.2.0/30", hour))
		apply(t, b, remove("sshd", "192.0.2.0/24"))
		wantElements(t, b, "sshd", in("sshd", "192.0.2.1", hour), in("sshd", "192.0.0.0/16", hour), in("sshd", "192.0.2.0/30", hour))
	})
	t.Run("jails may be called anything", func(t *testing.T) {
		names := []string{
			"allow", "prerouting", "jail-allow", "web", "web-4", "web-6", "web-4-4", "web-6-64", "drop", "ct state", "3proxy", "wéb", "wèb",
			"a\nb", "; flush ruleset", "UPPER", "upper", "_x", string(make([]byte, 300)), fmt.Sprintf("%0200d", 1), fmt.Sprintf("%0200d", 2), "x.y",
		}
		b := open(t)
		var rules []Rule
		var bans []Element
		want := make(map[string][]Element)
		for i, name := range names {
			rules = append(rules, Rule{Jail: name})
			es := []Element{
				in(name, fmt.Sprintf("192.0.2.%d", i), hour), in(name, fmt.Sprintf("2001:db8::%d", i), hour),
				in(name, fmt.Sprintf("%d.0.0.0/4", i<<4&0xf0), hour), in(name, fmt.Sprintf("2001:db8:%d::/64", i), hour),
			}
			want[name] = es
			bans = append(bans, es...)
		}
		for range 2 { // the second reads back the names that the first made
			if err := b.Sync(ctx, rules, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, slices.Values(bans)); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				wantElements(t, b, name, want[name]...)
			}
		}
		if c, err := b.Counters(); err != nil || len(c) != len(names) {
			t.Errorf("%d counters of %d jails: %v", len(c), len(names), err)
		}
		if err := b.Sync(ctx, []Rule{{Jail: "web"}}, nil, slices.Values(want["web"])); err != nil {
			t.Fatal(err)
		}
		wantElements(t, b, "web", want["web"]...)
	})
	t.Run("ten thousand changes at once all arrive", func(t *testing.T) {
		b := synced(t)
		var changes []Change
		for i := range 10_000 {
			changes = append(changes,
				Change{Element: Element{Jail: "sshd", Prefix: netip.PrefixFrom(address4(i), 32), End: time.Now().Add(hour)}},
				Change{Element: Element{Jail: "sshd", Prefix: netip.PrefixFrom(address6(i), 128)}})
		}
		apply(t, b, changes...)
		if es, err := b.Elements("sshd"); err != nil || len(es) != 20_000 {
			t.Errorf("%d elements, %v", len(es), err)
		}
		for i := range changes {
			changes[i].Remove = i%4 < 2
		}
		apply(t, b, changes...)
		if es, err := b.Elements("sshd"); err != nil || len(es) != 10_000 {
			t.Errorf("%d elements after half were removed, %v", len(es), err)
		}
	})
	t.Run("rules that cannot be are refused", func(t *testing.T) {
		b := open(t)
		for what, rules := range map[string][]Rule{
			"no name":           {{}},
			"twice one name":    {{Jail: "a"}, {Jail: "a"}},
			"unknown protocol":  {{Jail: "a", Protocols: []string{"tpc"}}},
			"protocol 256":      {{Jail: "a", Protocols: []string{"256"}}},
			"ports backwards":   {{Jail: "a", Ports: []PortRange{{5, 4}}}},
			"second rule wrong": {{Jail: "a"}, {Jail: "b", Protocols: []string{"x"}}},
		} {
			if err := b.Sync(ctx, rules, nil, nil); err == nil || errors.Is(err, ErrUnknownState) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := b.Sync(ctx, rules, []netip.Prefix{{}}, nil); err == nil || errors.Is(err, ErrUnknownState) {
			t.Errorf("an allow list of no prefix: %v", err)
		}
	})
	t.Run("rules of every kind are accepted", func(t *testing.T) {
		b := open(t)
		for _, r := range []Rule{
			{Jail: "a", Protocols: []string{"tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmpv6", "TCP", "47"}, Ports: []PortRange{{1, 2}, {80, 80}, {2, 5}, {6, 6}}},
			{Jail: "a", Protocols: []string{"tcp"}, Ports: []PortRange{{0, 65535}}},
			{Jail: "a", Protocols: []string{"tcp"}, Ports: []PortRange{{0, 0}, {65535, 65535}}},
			{Jail: "a", Protocols: []string{"tcp"}, Ports: []PortRange{{60000, 65535}}},
			{Jail: "a", Protocols: []string{"tcp"}, Ports: []PortRange{{22, 22}, {22, 22}, {22, 22}}},
			{Jail: "a", Protocols: []string{"all"}, Ports: []PortRange{{22, 22}}},
			{Jail: "a", Ports: []PortRange{{22, 22}}},
		} {
			if err := b.Sync(ctx, []Rule{r}, nil, nil); err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
	t.Run("the allow list is replaced as often as one likes", func(t *testing.T) {
		b := synced(t)
		for _, list := range [][]string{{"10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16", "::1/128"}, {}, {"192.0.2.1/32", "2001:db8::/32", "10.0.0.0/8"}} {
			var allow []netip.Prefix
			for _, p := range list {
				allow = append(allow, netip.MustParsePrefix(p))
			}
			if err := b.SetAllow(allow); err != nil {
				t.Errorf("set %v: %v", list, err)
			}
			if err := b.Sync(ctx, rules, allow, nil); err != nil {
				t.Errorf("sync with %v: %v", list, err)
			}
		}
	})
	t.Run("after a remove nothing is there, and a sync brings it back", func(t *testing.T) {
		b := synced(t, in("sshd", "192.0.2.1", hour))
		if err := b.Remove(); err != nil {
			t.Fatal(err)
		}
		if err := b.Apply([]Change{add("sshd", "192.0.2.1", hour)}); !errors.Is(err, ErrUnknownJail) {
			t.Errorf("apply after remove: %v", err)
		}
		if err := b.Sync(ctx, rules, nil, slices.Values([]Element{in("sshd", "192.0.2.2", hour)})); err != nil {
			t.Fatal(err)
		}
		wantElements(t, b, "sshd", in("sshd", "192.0.2.2", hour))
	})
	t.Run("a sync whose time is up says so", func(t *testing.T) {
		b := open(t)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := b.Sync(ctx, rules, nil, nil); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnknownState) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("watching ends with its context", func(t *testing.T) {
		b := synced(t)
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- b.Watch(ctx, func() {}) }()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("what is closed says so", func(t *testing.T) {
		b := synced(t)
		for range 2 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		_, counters := b.Counters()
		_, elements := b.Elements("sshd")
		for what, err := range map[string]error{
			"sync": b.Sync(ctx, rules, nil, nil), "apply": b.Apply([]Change{add("sshd", "192.0.2.1", hour)}), "allow": b.SetAllow(nil),
			"counters": counters, "elements": elements, "remove": b.Remove(), "watch": b.Watch(ctx, func() {}),
		} {
			if err == nil {
				t.Errorf("%s succeeds", what)
			}
		}
	})
	t.Run("several may call at once", func(t *testing.T) {
		b := synced(t)
		done := make(chan error)
		for i := range 4 {
			go func() {
				for j := range 50 {
					if err := b.Apply([]Change{add("sshd", address4(i*50+j).String(), hour)}); err != nil {
						done <- err
						return
					}
				}
				_, err := b.Counters()
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if es, err := b.Elements("sshd"); err != nil || len(es) != 200 {
			t.Errorf("%d elements, %v", len(es), err)
		}
	})
}

// address4 and address6 are different addresses for different numbers.
func address4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
}

func address6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

func TestARecordedBanEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(Recorder)
		if err := r.Sync(t.Context(), []Rule{{Jail: "sshd"}}, nil, slices.Values([]Element{in("sshd", "192.0.2.1", time.Minute), in("sshd", "192.0.2.2", hour)})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - 1) // the bubble's clock
		wantElements(t, r, "sshd", in("sshd", "192.0.2.1", 1), in("sshd", "192.0.2.2", hour-time.Minute))
		time.Sleep(time.Nanosecond)
		wantElements(t, r, "sshd", in("sshd", "192.0.2.2", hour-time.Minute))
	})
}

func TestARecorderTellsThatItWasDisturbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(Recorder)
		rules, allow := []Rule{{Jail: "sshd"}}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.1/8")}
		if err := r.Sync(t.Context(), rules, allow, slices.Values([]Element{in("sshd", "192.0.2.1", ever)})); err != nil {
			t.Fatal(err)
		}
		if len(r.Rules()) != 1 || !slices.Equal(r.Allow(), allow[:1]) {
			t.Errorf("recorded %v and %v", r.Rules(), r.Allow())
		}
		ctx, cancel := context.WithCancel(t.Context())
		done, calls := make(chan error), 0
		go func() { done <- r.Watch(ctx, func() { calls++ }) }()
		synctest.Wait()
		r.Disturb()
		synctest.Wait()
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		wantElements(t, r, "sshd")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
