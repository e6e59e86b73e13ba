package firewall

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam"
	"bantam/internal/nstest"
)

// stockIn is a Stock in a namespace.
func stockIn(t testing.TB, net *nstest.Net) *Stock {
	t.Helper()
	s := OpenStock(StockOptions{NetNS: net.FD(), Start: net.Start, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// decision is one about an address or prefix, for an hour.
func decision(kind bantam.Kind, jail, id string) bantam.Decision {
	return decisionUntil(kind, jail, id, time.Now().Add(time.Hour))
}

func decisionUntil(kind bantam.Kind, jail, id string, end time.Time) bantam.Decision {
	parsed, err := bantam.ParsePrefix(id)
	if err != nil {
		panic(err)
	}
	return bantam.Decision{Kind: kind, Ban: bantam.Ban{Jail: jail, ID: parsed, End: end}}
}

func do(t testing.TB, s *Stock, kind bantam.Kind, jail string, ids ...string) {
	t.Helper()
	var ds []bantam.Decision
	for _, id := range ids {
		ds = append(ds, decision(kind, jail, id))
	}
	if _, err := s.Do(context.Background(), ds); err != nil {
		t.Fatal(err)
	}
}

func configure(t testing.TB, s *Stock, natives ...Native) {
	t.Helper()
	if err := s.Configure(context.Background(), natives, nil); err != nil {
		t.Fatal(err)
	}
}

func output(t testing.TB, net *nstest.Net, name string, args ...string) string {
	t.Helper()
	out, err := net.Output(context.Background(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// kernel is all that stands in a namespace, as the programs print it, without what
// may differ.
func kernel(t testing.TB, net *nstest.Net) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(normalNFT(output(t, net, "nft", "list", "ruleset")))
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		b.WriteString(program + "\n" + normalIPTables(output(t, net, program)))
	}
	b.WriteString("ipset\n" + normalIPSet(output(t, net, "ipset", "save")))
	return b.String()
}

var (
	foreignTables = regexp.MustCompile(`(?ms)^table ip6? filter \{.*?^\}\n`) // iptables' own
	setLine       = regexp.MustCompile(`^\tset (\S+) \{`)
	left          = regexp.MustCompile(` timeout \S+ expires \S+?(,| \}|$)`)
	counts        = regexp.MustCompile(`packets \d+ bytes \d+`)
)

// normalNFT takes out element timeouts, set flags and counters, puts the elements
// of companion sets into their sets, and drops the rules of companions.
func normalNFT(out string) string {
	out = foreignTables.ReplaceAllString(out, "")
	out = counts.ReplaceAllString(out, "packets 0 bytes 0")
	out = regexp.MustCompile(`,\n\s+`).ReplaceAllString(out, ", ") // one line for all elements
	elements := map[string][]string{}
	var lines []string
	set := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if m := setLine.FindStringSubmatch(line); m != nil {
			set = strings.NewReplacer("net-set-", "addr-set-", "net6-set-", "addr6-set-").Replace(m[1])
			if set != m[1] {
				line = ""
			}
		}
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "}" && strings.HasPrefix(line, "\t"):
			if set != "" {
				line, set = "", ""
			}
		case set != "" && strings.HasPrefix(trimmed, "flags"), set != "" && strings.HasPrefix(trimmed, "type"):
			line = ""
		case strings.HasPrefix(trimmed, "elements = {"):
			for e := range strings.SplitSeq(left.ReplaceAllString(strings.Trim(strings.TrimPrefix(trimmed, "elements = "), "{} "), "$1"), ", ") {
				elements[set] = append(elements[set], strings.TrimSpace(e))
			}
			line = ""
		case strings.Contains(line, "@net-set-"), strings.Contains(line, "@net6-set-"):
			line = ""
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	for i, line := range lines {
		if m := setLine.FindStringSubmatch(line); m != nil {
			slices.Sort(elements[m[1]])
			lines[i] = line + strings.Join(elements[m[1]], " ")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// normalIPTables takes out comments, counters and companions.
func normalIPTables(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "--match-set n2b-") {
			lines = append(lines, regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(line, ""))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// normalIPSet takes out timeouts and what the kernel chooses, and puts a
// companion's elements into its set. The peer's set holds a range as its single
// addresses; these are put together.
func normalIPSet(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) > 1 && strings.HasPrefix(words[1], "n2b-") {
			words[1] = "f2b-" + words[1][4:]
			if words[0] == "create" {
				continue
			}
		}
		for _, key := range []string{"timeout", "initval", "bucketsize", "hashsize"} {
			if i := slices.Index(words, key); i >= 0 {
				words = slices.Delete(words, i, i+2)
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestSameObjects bans addresses and ranges with the peer's stock actions in one
// network and with ours in another, and compares what stands in the kernels.
func TestSameObjects(t *testing.T) {
	for _, tt := range stockActions {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			theirs, ours := nstest.New(t), nstest.New(t)
			p, s := newPeer(t, theirs), stockIn(t, ours)
			var natives []Native
			jails := []string{"sshd", "web.site_2"}
			for _, jail := range jails {
				inet4, inet6 := p.commands(tt.action, jail, tt.options)
				n, err := Recognize(jail, tt.action, inet4, inet6)
				if err != nil {
					t.Fatal(err)
				}
				natives = append(natives, n)
			}
			configure(t, s, natives...)
			same := func(when string) {
				t.Helper()
				if want, got := kernel(t, theirs), kernel(t, ours); got != want {
					t.Fatalf("%s, the kernel holds\n%s\nwant\n%s", when, got, want)
				}
			}
			step := func(jail, what string, ids ...string) {
				t.Helper()
				kind := map[string]bantam.Kind{"ban": bantam.Start, "unban": bantam.End}[what]
				for _, id := range ids {
					p.do(peerQuestion{Action: tt.action, Jail: jail, Options: tt.options, Do: what, IP: id})
					do(t, s, kind, jail, id)
				}
			}
			same("before the first ban")
			step("sshd", "ban", "192.0.2.1")
			same("after the first ban")
			step("sshd", "ban", "2001:db8::1", "192.0.2.2")
			step("web.site_2", "ban", "2001:db8:1::2", "2001:db8::1", "192.0.2.1")
			same("after some bans")
			// The package's sets hold no ranges: the newer stock files' do.
			ranges := tt.kind == KindIPTables
			if ranges {
				step("sshd", "ban", "198.51.100.0/24", "2001:db8:1::/64")
				same("after bans of ranges")
			}
			step("sshd", "unban", "192.0.2.1", "2001:db8::1")
			same("after unbans")
			if ranges {
				step("sshd", "unban", "198.51.100.0/24", "2001:db8:1::/64")
			}
			// One stops, the other stays.
			p.do(peerQuestion{Action: tt.action, Jail: "sshd", Options: tt.options, Do: "stop"})
			configure(t, s, natives[1])
			same("after the stop of one jail")
			p.do(peerQuestion{Action: tt.action, Jail: "web.site_2", Options: tt.options, Do: "stop"})
			if err := s.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			same("after the stop of all")
		})
	}
}

// recognized is a stock action's native form, by the peer's own commands. They are
// asked once.
func recognized(t testing.TB, jail, action string, opts map[string]string) Native {
	t.Helper()
	key := fmt.Sprint(jail, action, opts)
	if n, ok := asked.Load(key); ok {
		return n.(Native)
	}
	inet4, inet6 := newPeer(t, nil).commands(action, jail, opts)
	n, err := Recognize(jail, action, inet4, inet6)
	if err != nil {
		t.Fatal(err)
	}
	asked.Store(key, n)
	return n
}

var asked sync.Map // Native by what was asked

var oneOfEach = []struct{ kind, action string }{
	{"nftables", "nftables-allports"}, {"ipset", "iptables-ipset-proto6-allports"}, {"iptables", "iptables-allports"},
}

// forEach runs a test with an action of each kind.
func forEach(t *testing.T, test func(t *testing.T, net *nstest.Net, s *Stock, n Native)) {
	for _, kind := range oneOfEach {
		t.Run(kind.kind, func(t *testing.T) {
			t.Parallel()
			net := nstest.New(t)
			test(t, net, stockIn(t, net), recognized(t, "sshd", kind.action, options("protocol", "tcp")))
		})
	}
}

// holds is what the kernel has for jail sshd: its addresses and ranges, in order.
func holds(t testing.TB, net *nstest.Net) []string {
	t.Helper()
	var out []string
	text := output(t, net, "nft", "list", "ruleset") + output(t, net, "ipset", "save") + output(t, net, "iptables-save") + output(t, net, "ip6tables-save")
	for _, w := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t\n,{}", c) }) {
		if p, err := bantam.ParsePrefix(w); err == nil && p.String() != "0.0.0.0" && !slices.Contains(out, p.String()) && strings.ContainsAny(w, ".:") {
			out = append(out, p.String())
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

func wantHolds(t testing.TB, net *nstest.Net, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := holds(t, net); !slices.Equal(got, want) {
		t.Errorf("the kernel holds %q, want %q", got, want)
	}
}

func TestBansAndUnbans(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		configure(t, s, n)
		wantHolds(t, net)
		all := []string{"192.0.2.1", "192.0.2.2", "198.51.100.0/24", "203.0.113.0/25", "2001:db8::1", "2001:db8:1::/64"}
		do(t, s, bantam.Start, "sshd", all...)
		wantHolds(t, net, all...)
		do(t, s, bantam.Prolong, "sshd", "192.0.2.1", "198.51.100.0/24")
		wantHolds(t, net, all...)
		do(t, s, bantam.End, "sshd", "192.0.2.1", "198.51.100.0/24", "2001:db8:1::/64", "192.0.2.77", "203.0.113.128/25")
		wantHolds(t, net, "192.0.2.2", "203.0.113.0/25", "2001:db8::1")
		do(t, s, bantam.Start, "another", "192.0.2.99")
		wantHolds(t, net, "192.0.2.2", "203.0.113.0/25", "2001:db8::1")
	})
}

func TestSyncMakesTheKernelEqual(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		configure(t, s, n)
		do(t, s, bantam.Start, "sshd", "192.0.2.1", "192.0.2.2", "198.51.100.0/24", "2001:db8::1")
		// The next run knows of others, and not of IPv6.
		next := stockIn(t, net)
		bans := []bantam.Decision{
			decision(bantam.Restore, "sshd", "192.0.2.2"), decision(bantam.Restore, "sshd", "192.0.2.3"),
			decisionUntil(bantam.Restore, "sshd", "192.0.2.4", time.Now().Add(-time.Second)),
		}
		if err := next.Configure(t.Context(), []Native{n}, bans); err != nil {
			t.Fatal(err)
		}
		wantHolds(t, net, "192.0.2.2", "192.0.2.3")
		before := kernel(t, net)
		if err := next.Resync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := kernel(t, net); after != before {
			t.Errorf("another sync changed\n%s\nto\n%s", before, after)
		}
	})
}

// Stopping leaves no gap: what ends by itself stays, the rest goes.
func TestLeaving(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		configure(t, s, n)
		do(t, s, bantam.Start, "sshd", "192.0.2.1", "2001:db8::1")
		if err := s.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.Inet4.Kind == KindIPTables {
			wantHolds(t, net)
		} else {
			wantHolds(t, net, "192.0.2.1", "2001:db8::1")
		}
		_ = s.Close()
		next := stockIn(t, net)
		configure(t, next, n)
		wantHolds(t, net)
		do(t, next, bantam.Start, "sshd", "192.0.2.5")
		wantHolds(t, net, "192.0.2.5")
	})
}

// Whatever others do, what is banned is back within a second, or two for what has
// to be looked at.
func TestForeignFlushIsRepaired(t *testing.T) {
	flushes := map[string][][]string{
		"nftables": {
			{"nft", "flush", "ruleset"},
			{"nft", "flush", "set", "inet", "f2b-table", "addr-set-sshd"},
			{"nft", "flush", "set", "inet", "f2b-table", "net-set-sshd"},
			{"nft", "flush", "chain", "inet", "f2b-table", "f2b-chain"},
			{"nft", "delete", "element", "inet", "f2b-table", "addr-set-sshd", "{ 192.0.2.1 }"},
			{"nft", "delete", "table", "inet", "f2b-table"},
		},
		"ipset":    {{"ipset", "flush"}, {"ipset", "del", "f2b-sshd", "192.0.2.1"}, {"iptables", "-F"}, {"nft", "flush", "ruleset"}},
		"iptables": {{"iptables", "-F"}, {"iptables", "-F", "f2b-sshd"}, {"iptables", "-D", "f2b-sshd", "1"}, {"nft", "flush", "ruleset"}},
	}
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		configure(t, s, n)
		do(t, s, bantam.Start, "sshd", "192.0.2.1", "198.51.100.0/24", "2001:db8::1")
		before := kernel(t, net)
		ctx, cancel := context.WithCancel(t.Context())
		repaired := make(chan error, 16)
		ended := make(chan error, 1)
		go func() { ended <- s.Watch(ctx, func() { repaired <- s.Repair(ctx) }) }()
		for _, flush := range flushes[string(n.Inet4.Kind)] {
			output(t, net, flush[0], flush[1:]...)
			began := time.Now()
			for kernel(t, net) != before {
				select {
				case err := <-repaired:
					if err != nil {
						t.Fatalf("after %q: %v", flush, err)
					}
				case <-time.After(10 * time.Second): // a deadline, not a pause
					t.Fatalf("after %q, the kernel holds\n%s\nwant\n%s", flush, kernel(t, net), before)
				}
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("after %q it took %v", flush, took)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// visitor says whether an address of a client gets through to port 22 of the server.
func visitor(t *testing.T, net *nstest.Net) (reach func(from string) bool) {
	t.Helper()
	client, err := net.AddClient("client", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "[::]:22")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return func(from string) bool {
		a := netip.MustParseAddr(from)
		to := nstest.Server4
		if a.Is6() {
			to = nstest.Server6
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, "tcp", a, netip.AddrPortFrom(to, 22))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
}

func TestPacketsOfBannedClientsAreDropped(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		reach := visitor(t, net)
		expect := func(want bool, from ...string) {
			t.Helper()
			var wg sync.WaitGroup
			for _, f := range from {
				wg.Go(func() {
					if got := reach(f); got != want {
						t.Errorf("%s reaches the server: %v, want %v", f, got, want)
					}
				})
			}
			wg.Wait()
		}
		configure(t, s, n)
		expect(true, "192.0.2.1", "192.0.2.130", "2001:db8::1")
		do(t, s, bantam.Start, "sshd", "192.0.2.1", "192.0.2.128/26", "2001:db8::1", "2001:db8::8000/113")
		expect(false, "192.0.2.1", "192.0.2.130", "192.0.2.191", "2001:db8::1", "2001:db8::8001")
		expect(true, "192.0.2.2", "192.0.2.127", "192.0.2.192", "2001:db8::2")
		do(t, s, bantam.End, "sshd", "192.0.2.1", "192.0.2.128/26", "2001:db8::1")
		expect(true, "192.0.2.1", "192.0.2.130", "2001:db8::1")
		expect(false, "2001:db8::8001")
	})
}

func ExampleNative() {
	for _, o := range []*Objects{
		{Kind: KindNFTables, Table: "f2b-table", Set: "addr-set-sshd"},
		{Kind: KindIPSet, Set: "f2b-sshd6", Program: "ip6tables"},
		{Kind: KindIPTables, Own: "f2b-sshd", Program: "iptables"},
	} {
		fmt.Println(o)
	}
	// Output:
	// nftables: table inet f2b-table, set addr-set-sshd
	// ipset f2b-sshd6 and rules of ip6tables
	// iptables: chain f2b-sshd
}
