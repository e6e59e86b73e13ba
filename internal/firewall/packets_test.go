package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/nstest"
)

const (
	// soon is how long a packet that is not dropped may take.
	soon = 10 * time.Second
	// never is how long to wait for one that is dropped. Too short cannot fail a
	// test, only weaken it; the counters tell as well.
	never = 150 * time.Millisecond
)

// A scene is a server with echo services on ports 22 and 80 and a client that
// may connect from many addresses.
type scene struct {
	*testing.T
	net    *nstest.Net
	client *nstest.Host
	fw     *NFTables
}

const (
	attacker4  = "192.0.2.1"
	bystander4 = "192.0.2.2"
	attacker6  = "2001:db8::1"
	bystander6 = "2001:db8:0:1::1"
)

func newScene(t *testing.T) *scene {
	t.Helper()
	t.Parallel() // most of the time is spent waiting for packets that must not come
	n := nstest.New(t)
	client, err := n.AddClient("client", netip.MustParsePrefix(attacker4+"/24"), netip.MustParsePrefix("198.51.100.7/24"), netip.MustParsePrefix(attacker6+"/48"))
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{":22", ":80"} {
		l, err := n.Listen("tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
	return &scene{t, n, client, openIn(t, n)}
}

// sync tells the firewall that sshd means port 22 and recidive everything.
func (s *scene) sync(bans ...Element) {
	s.Helper()
	rules := []Rule{{Jail: "sshd", Protocols: []string{"tcp"}, Ports: []PortRange{{22, 22}}}, {Jail: "recidive"}}
	if err := s.fw.Sync(s.Context(), rules, nil, slices.Values(bans)); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) apply(changes ...Change) {
	s.Helper()
	if err := s.fw.Apply(changes); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) dial(from string, port uint16, wait time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.Context(), wait)
	defer cancel()
	local, to := netip.MustParseAddr(from), nstest.Server4
	if local.Is6() {
		to = nstest.Server6
	}
	return s.client.Dial(ctx, "tcp", local, netip.AddrPortFrom(to, port))
}

// reaches fails the test unless a connection and data on it get through.
func (s *scene) reaches(from string, port uint16) {
	s.Helper()
	c, err := s.dial(from, port, soon)
	if err != nil {
		s.Errorf("%s does not reach port %d: %v", from, port, err)
		return
	}
	defer c.Close()
	if err := echo(c, soon); err != nil {
		s.Errorf("%s reaches port %d, but no data comes back: %v", from, port, err)
	}
}

// blocked fails the test if a connection gets through, or if no packet is
// counted in the jail that shall drop it.
func (s *scene) blocked(from string, port uint16, jail string) {
	s.Helper()
	before := s.counter(jail)
	if c, err := s.dial(from, port, never); err == nil {
		c.Close()
		s.Errorf("%s reaches port %d", from, port)
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			s.Errorf("the connection from %s was not dropped in silence: %v", from, err)
		}
	}
	if after := s.counter(jail); after.Packets <= before.Packets || after.Bytes <= before.Bytes {
		s.Errorf("after packets from %s to port %d were dropped, jail %s counts %+v, and %+v before", from, port, jail, after, before)
	}
}

func (s *scene) counter(jail string) Counter {
	s.Helper()
	all, err := s.fw.Counters()
	if err != nil {
		s.Fatal(err)
	}
	c, ok := all[jail]
	if !ok {
		s.Fatalf("no counter of jail %s among %v", jail, all)
	}
	return c
}

// echo sends a byte and waits for it to come back.
func echo(c net.Conn, wait time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{42}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestABannedAddressReachesNothingOfItsJail(t *testing.T) {
	for _, c := range []struct{ ban, from, other string }{
		{attacker4, attacker4, bystander4},
		{attacker6, attacker6, "2001:db8::2"},
		{"198.51.100.0/24", "198.51.100.200", bystander4},
		{"2001:db8::/64", "2001:db8::abcd", bystander6},
		{"192.0.2.0/31", attacker4, bystander4},
		{"2001:db8::/127", attacker6, "2001:db8::2"},
	} {
		t.Run(c.ban, func(t *testing.T) {
			s := newScene(t)
			s.sync()
			s.reaches(c.from, 22)
			s.apply(add("sshd", c.ban, time.Hour))
			s.blocked(c.from, 22, "sshd")
			s.reaches(c.from, 80) // not a port of this jail
			s.reaches(c.other, 22)
			s.apply(add("recidive", c.ban, 0))
			s.blocked(c.from, 80, "recidive")
			s.apply(remove("sshd", c.ban), remove("recidive", c.ban))
			s.reaches(c.from, 22)
			s.reaches(c.from, 80)
		})
	}
}

func TestABanHoldsFromTheSyncThatBringsIt(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, time.Hour), in("sshd", "2001:db8::/64", 0))
	s.blocked(attacker4, 22, "sshd")
	s.blocked(attacker6, 22, "sshd")
	s.reaches(bystander4, 22)
	s.sync(in("sshd", attacker4, time.Hour))
	s.blocked(attacker4, 22, "sshd")
	s.reaches(attacker6, 22)
}

func TestThePortsOfARange(t *testing.T) {
	s := newScene(t)
	for _, c := range []struct {
		what  string
		ports []PortRange
		port  uint16
		drops bool
	}{
		{"the first of a range", []PortRange{{80, 90}}, 80, true},
		{"the last of a range", []PortRange{{70, 80}}, 80, true},
		{"above all ranges", []PortRange{{1, 21}, {30, 79}}, 80, false},
		{"below all ranges", []PortRange{{81, 90}, {1000, 65535}}, 80, false},
		{"between ranges", []PortRange{{81, 90}, {1, 79}}, 80, false},
		{"a single port beside a range", []PortRange{{1000, 2000}, {80, 80}}, 80, true},
		{"ranges that overlap", []PortRange{{70, 90}, {75, 85}, {1, 71}}, 90 - 10, true},
		{"all ports", []PortRange{{0, 65535}}, 80, true},
		{"up to the last port", []PortRange{{80, 65535}}, 80, true},
		{"one of several", []PortRange{{443, 443}, {80, 80}, {22, 22}}, 80, true},
		{"none of several", []PortRange{{443, 443}, {22, 22}}, 80, false},
	} {
		rules := []Rule{{Jail: "web", Protocols: []string{"udp", "tcp"}, Ports: c.ports}}
		if err := s.fw.Sync(t.Context(), rules, nil, slices.Values([]Element{in("web", attacker4, time.Hour)})); err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		t.Log(c.what)
		if c.drops {
			s.blocked(attacker4, c.port, "web")
		} else {
			s.reaches(attacker4, c.port)
		}
	}
}

func TestARunningConnectionStopsAndGoesOn(t *testing.T) {
	s := newScene(t)
	s.sync()
	for _, from := range []string{attacker4, attacker6} {
		c, err := s.dial(from, 22, soon)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := echo(c, soon); err != nil {
			t.Fatal(err)
		}
		before := s.counter("sshd")
		s.apply(add("sshd", from, time.Hour))
		if err := echo(c, never); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a running connection from %s after the ban: %v", from, err)
		}
		if after := s.counter("sshd"); after.Packets <= before.Packets {
			t.Errorf("nothing of it was counted")
		}
		s.apply(remove("sshd", from))
		_ = c.SetDeadline(time.Now().Add(soon))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("the connection from %s after the unban: %v", from, err)
		}
	}
}

func TestTheAllowListWins(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", "192.0.2.0/24", 0), in("recidive", "2001:db8::/32", 0))
	s.blocked(attacker4, 22, "sshd")
	s.blocked(attacker6, 22, "recidive")
	allow := []netip.Prefix{netip.MustParsePrefix(attacker4 + "/32"), netip.MustParsePrefix("2001:db8::/64")}
	if err := s.fw.SetAllow(allow); err != nil {
		t.Fatal(err)
	}
	s.reaches(attacker4, 22)
	s.reaches(attacker6, 22)
	s.blocked(bystander4, 22, "sshd")
	s.blocked(bystander6, 22, "recidive")
	if err := s.fw.SetAllow(allow[1:]); err != nil {
		t.Fatal(err)
	}
	s.blocked(attacker4, 22, "sshd")
	s.reaches(attacker6, 22)
}

func TestNestedBansEndOneByOne(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, 0), in("sshd", "192.0.2.0/24", 0), in("sshd", "192.0.0.0/16", 0), in("sshd", "0.0.0.0/0", 0))
	s.apply(remove("sshd", attacker4))
	s.blocked(attacker4, 22, "sshd")
	s.apply(remove("sshd", "192.0.0.0/16"))
	s.blocked(attacker4, 22, "sshd")
	s.blocked("198.51.100.9", 22, "sshd")
	s.apply(remove("sshd", "0.0.0.0/0"))
	s.blocked(attacker4, 22, "sshd")
	s.reaches("198.51.100.9", 22)
	s.apply(remove("sshd", "192.0.2.0/24"))
	s.reaches(attacker4, 22)
}

func TestTheKernelEndsABanByItself(t *testing.T) {
	s := newScene(t)
	s.sync()
	s.apply(add("sshd", attacker4, time.Second), add("sshd", bystander4, time.Hour))
	_ = s.fw.Close() // nobody of ours is there any more
	if c, err := s.dial(attacker4, 22, never); err == nil {
		c.Close()
		t.Error("the ban does not hold")
	}
	// The client's kernel repeats its first packet after one and after three
	// seconds.
	s.reaches(attacker4, 22)
	s.fw = openIn(t, s.net)
	s.sync(in("sshd", bystander4, time.Hour))
	wantElements(t, s.fw, "sshd", in("sshd", bystander4, time.Hour))
}

func TestClosingLeavesBansAndRemovingTakesThemAway(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, time.Hour))
	if err := s.fw.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := s.dial(attacker4, 22, never); err == nil {
		c.Close()
		t.Error("the ban ended with the connection to the kernel")
	}
	s.fw = openIn(t, s.net)
	if err := s.fw.Remove(); err != nil {
		t.Fatal(err)
	}
	s.reaches(attacker4, 22)
	if out := s.nft("list", "ruleset"); out != "" {
		t.Errorf("what is left is\n%s", out)
	}
}

func TestSyncLeavesNoGap(t *testing.T) {
	s := newScene(t)
	const wantedBans = 300
	var bans []Element
	for i := range wantedBans {
		bans = append(bans, in("recidive", address4(i).String(), time.Hour))
	}
	bans = append(bans, in("recidive", attacker4, time.Hour), in("recidive", "2001:db8::/64", 0))
	s.sync(bans...)

	server, err := s.net.ListenPacket("udp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var leaked, passed atomic.Int64
	var stop atomic.Bool
	done := make(chan struct{}, 4)
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 16)
		for {
			_, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			switch from.(*net.UDPAddr).AddrPort().Addr().Unmap().String() {
			case attacker4, attacker6:
				leaked.Add(1)
			case bystander4:
				passed.Add(1)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var sent atomic.Int64
	for _, from := range []string{attacker4, attacker6, bystander4} {
		local, to := netip.MustParseAddr(from), nstest.Server4
		if local.Is6() {
			to = nstest.Server6
		}
		c, err := s.client.Dial(ctx, "udp", local, netip.AddrPortFrom(to, 9))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			defer func() { done <- struct{}{} }()
			for !stop.Load() && ctx.Err() == nil {
				_, _ = c.Write([]byte("x"))
				if from != bystander4 {
					sent.Add(1)
				}
				runtime.Gosched()
			}
		}()
	}
	before := s.counter("recidive").Packets
	for i := range 24 {
		var err error
		switch i % 4 {
		case 0: // a restart
			_ = s.fw.Close()
			s.fw = openIn(t, s.net)
			s.sync(bans...)
		case 1: // other rules and another jail
			err = s.fw.Sync(ctx, []Rule{{Jail: "recidive"}, {Jail: fmt.Sprint("jail", i)}}, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, slices.Values(bans))
		case 2: // new ends for all
			for j := range bans {
				if !bans[j].End.IsZero() {
					bans[j].End = bans[j].End.Add(time.Minute)
				}
			}
			err = s.fw.Sync(ctx, []Rule{{Jail: "recidive"}}, nil, slices.Values(bans))
		case 3:
			err = s.fw.Apply([]Change{add("recidive", attacker4, time.Duration(i)*time.Hour), add("recidive", "2001:db8::/64", time.Duration(i)*time.Hour)})
		}
		if err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	for range 3 {
		<-done
	}
	dropped := s.counter("recidive").Packets - before
	server.Close()
	<-done
	if leaked.Load() != 0 {
		t.Errorf("%d packets of banned addresses arrived", leaked.Load())
	}
	// What this shows rests on a stream that ran all the while.
	if dropped < 100 || int64(dropped) > sent.Load() || passed.Load() == 0 {
		t.Errorf("the banned sent %d packets of which %d were dropped, and %d of another client arrived", sent.Load(), dropped, passed.Load())
	}
}

func TestCountersGoOnThroughSyncAndRestart(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, 0))
	s.blocked(attacker4, 22, "sshd")
	before := s.counter("sshd")
	s.sync()
	_ = s.fw.Close()
	s.fw = openIn(t, s.net)
	s.sync()
	if after := s.counter("sshd"); after.Packets < before.Packets {
		t.Errorf("the counter fell from %+v to %+v", before, after)
	}
}

// nft runs Debian's nft on the server.
func (s *scene) nft(args ...string) string {
	s.Helper()
	return nft(s.T, s.net, args...)
}

func nft(t *testing.T, n *nstest.Net, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("BANTAM_NEED_NETNS") == "1" {
			t.Fatal("the program nft is not installed")
		}
		t.Skip("the program nft is not installed")
	}
	out, err := n.Output(t.Context(), "nft", args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestATableThatSomebodyElseBuiltIsMadeOurs(t *testing.T) {
	s := newScene(t)
	foreign := `
		table inet bantam {
			set sshd-4 { type ipv4_addr; flags interval; auto-merge; elements = { 192.0.2.0/24 }; }
			set sshd-6 { type ipv6_addr; flags timeout; timeout 1s; elements = { 2001:db8::9 }; }
			set recidive-4 { type ipv4_addr; flags timeout; size 2; elements = { 192.0.2.9, 192.0.2.10 }; }
			set recidive-6 { type inet_service; }
			set allow-4 { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h }; }
			map verdicts { type inet_service : verdict; elements = { 80 : jump mine }; }
			chain mine { drop; }
			chain allow { type filter hook forward priority 5; policy drop; }
			chain prerouting { type filter hook input priority 0; policy drop; tcp dport vmap @verdicts; ip saddr @sshd-4 drop; tcp dport 80 drop; }
			chain jail-sshd { ip saddr 192.0.2.2 drop; }
			counter jail-sshd { packets 7 bytes 8 }
			counter other { }
		}`
	ctx := t.Context()
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(foreign)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	s.nft("list", "ruleset")
	if err := s.net.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out.String())
	}
	bans := []Element{in("sshd", attacker4, time.Hour), in("recidive", attacker6, 0)}
	for i := range 1000 {
		bans = append(bans, in("recidive", address4(i).String(), 0))
	}
	s.sync(bans...)
	s.blocked(attacker4, 22, "sshd")
	s.blocked(attacker6, 80, "recidive")
	s.reaches(attacker4, 80)
	s.reaches(bystander4, 22)
	wantElements(t, s.fw, "sshd", bans[0])
	for _, rest := range []string{"mine", "verdicts", "other", "forward", "policy drop", "interval", "size"} {
		if list := s.nft("list", "table", "inet", "bantam"); strings.Contains(list, rest) {
			t.Errorf("%q is left in\n%.3000s", rest, list)
		}
	}
	if c := s.counter("sshd"); c.Packets < 7 {
		t.Errorf("the counter stands at %+v", c)
	}
}

func TestASleepingTableIsWoken(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, time.Hour))
	s.nft("add table inet bantam { flags dormant; }")
	s.reaches(attacker4, 22)
	s.sync(in("sshd", attacker4, time.Hour))
	s.blocked(attacker4, 22, "sshd")
}

func TestOtherTablesAreLeftAlone(t *testing.T) {
	s := newScene(t)
	s.nft("add table inet other; add set inet other sshd-4 { type ipv4_addr; elements = { 192.0.2.1 }; }; add chain inet other prerouting; add table ip bantam; add chain ip bantam prerouting; add table inet bantam2")
	before := s.nft("list", "ruleset")
	s.sync(in("sshd", attacker4, time.Hour))
	s.sync()
	s.apply(add("sshd", attacker6, time.Hour))
	if err := s.fw.Remove(); err != nil {
		t.Fatal(err)
	}
	if after := s.nft("list", "ruleset"); after != before {
		t.Errorf("other tables were\n%s\nand are\n%s", before, after)
	}
}

func TestTenThousandBansAreAllInTheKernel(t *testing.T) {
	s := newScene(t)
	const many = 10_000
	var bans []Element
	for i := range many {
		bans = append(bans, Element{Jail: "sshd", Prefix: netip.PrefixFrom(address4(i), 32), End: time.Now().Add(time.Hour)},
			Element{Jail: "sshd", Prefix: netip.PrefixFrom(address6(i), 128), End: time.Now().Add(time.Hour)})
	}
	for range 2 { // into nothing, then over itself
		s.sync(bans...)
		es, err := s.fw.Elements("sshd")
		if err != nil || len(es) != 2*many {
			t.Fatalf("%d elements, %v", len(es), err)
		}
		if n := strings.Count(s.nft("list", "set", "inet", "bantam", "sshd-4"), "expires"); n != many {
			t.Errorf("nft counts %d elements", n)
		}
	}
	s.sync(bans[:2*many/10]...)
	if es, err := s.fw.Elements("sshd"); err != nil || len(es) != 2*many/10 {
		t.Errorf("%d elements of %d are left, %v", len(es), 2*many/10, err)
	}
}

func TestOneTransactionIsNotEnough(t *testing.T) {
	n := nstest.New(t)
	fw := openIn(t, n)
	const many = transactionElements + 1500
	seq := func(yield func(Element) bool) {
		for i := range many {
			if !yield(Element{Jail: "a", Prefix: netip.PrefixFrom(address4(i), 32)}) {
				return
			}
		}
	}
	for range 2 {
		if err := fw.Sync(t.Context(), []Rule{{Jail: "a"}}, nil, seq); err != nil {
			t.Fatal(err)
		}
		if es, err := fw.Elements("a"); err != nil || len(es) != many {
			t.Fatalf("%d elements of %d, %v", len(es), many, err)
		}
	}
	var changes []Change
	for e := range seq {
		changes = append(changes, Change{Element: e, Remove: true})
	}
	if err := fw.Apply(changes); err != nil {
		t.Fatal(err)
	}
	wantElements(t, fw, "a")
}

func TestASmallSocketBufferTakesMoreTransactions(t *testing.T) {
	n := nstest.New(t)
	for _, destroy := range []bool{true, false} {
		fw := openIn(t, n)
		fw.destroy = fw.destroy && destroy
		// Linux' default, which is all that is to be had without CAP_NET_ADMIN
		// on the host.
		if err := fw.sock.conn.SetWriteBuffer(212_992 / 2); err != nil {
			t.Fatal(err)
		}
		var err error
		if fw.room, err = fw.sock.conn.WriteBuffer(); err != nil || fw.room > 300_000 {
			t.Fatalf("the buffer is %d bytes, %v", fw.room, err)
		}
		const many = 12_000
		var bans []Element
		var changes []Change
		for i := range many {
			e := Element{Jail: "a", Prefix: netip.PrefixFrom(address6(i), 128), End: time.Now().Add(time.Hour)}
			bans, changes = append(bans, e), append(changes, Change{Element: e, Remove: i%2 == 0})
		}
		if out := nft(t, n, "add table inet bantam; delete table inet bantam; add table inet bantam; add set inet bantam a-6 { type ipv6_addr; }"); out != "" {
			t.Fatal(out)
		}
		for range 2 { // the first replaces the set
			if err := fw.Sync(t.Context(), []Rule{{Jail: "a"}}, nil, slices.Values(bans)); err != nil {
				t.Fatal(err)
			}
			if es, err := fw.Elements("a"); err != nil || len(es) != many {
				t.Errorf("%d elements of %d, %v", len(es), many, err)
			}
		}
		if err := fw.Apply(changes); err != nil {
			t.Fatal(err)
		}
		if es, err := fw.Elements("a"); err != nil || len(es) != many/2 {
			t.Errorf("%d elements of %d, %v", len(es), many/2, err)
		}
		if err := fw.Sync(t.Context(), []Rule{{Jail: "a"}}, nil, nil); err != nil {
			t.Fatal(err)
		}
		wantElements(t, fw, "a")
	}
}

func TestWatchTellsOfWhatOthersDo(t *testing.T) {
	s := newScene(t)
	s.sync()
	s.nft("add table inet somebody") // so that Watch calls once when it listens
	calls := make(chan struct{}, 100)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.fw.Watch(ctx, func() { calls <- struct{}{} }) }()
	called := func(what string) {
		t.Helper()
		select {
		case <-calls:
		case <-ctx.Done():
			t.Fatalf("%s: no call", what)
		}
		if len(calls) > 0 {
			t.Errorf("%s: more than one call", what)
		}
	}
	called("a change before it began")
	var bans []Element
	for i := range 5000 {
		bans = append(bans, in("sshd", address4(i).String(), time.Hour))
	}
	for _, c := range []struct{ what, command string }{
		{"a set is flushed", "flush set inet bantam sshd-4"},
		{"an element is deleted", "delete element inet bantam sshd-4 { 192.0.2.1 }"},
		{"the table's rules are flushed", "flush table inet bantam"},
		{"a chain is flushed", "flush chain inet bantam jail-sshd"},
		{"a rule is put before ours", "insert rule inet bantam prerouting accept"},
		{"the table is put to sleep", "add table inet bantam { flags dormant; }"},
		{"the table is deleted", "delete table inet bantam"},
		{"everything is flushed", "flush ruleset"},
	} {
		// What we do ourselves comes first: calls about it would be among those
		// counted.
		s.sync(append(bans, in("sshd", attacker4, time.Hour))...)
		s.apply(remove("sshd", attacker4), add("sshd", "2001:db8::/56", time.Hour), remove("sshd", "192.0.2.77"))
		s.apply(add("sshd", attacker4, time.Hour))
		if err := s.fw.SetAllow([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}); err != nil {
			t.Fatal(err)
		}
		s.nft("add table inet somebody; add set inet somebody sshd-4 { type ipv4_addr; elements = { 192.0.2.1 }; }; flush set inet somebody sshd-4; delete table inet somebody")
		s.nft("add element inet bantam sshd-4 { 192.0.2.99 }")
		s.nft(c.command)
		called(c.what)
		s.sync(in("sshd", attacker4, time.Hour))
		s.blocked(attacker4, 22, "sshd")
	}
	if len(calls) > 0 {
		t.Error("there was a call about something of ours")
	}
	if err := s.fw.Remove(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWatchStaysSilentIfNothingHappenedBefore(t *testing.T) {
	s := newScene(t)
	s.sync(in("sshd", attacker4, time.Hour))
	s.apply(add("sshd", "2001:db8::/64", time.Hour))
	if missed, err := s.fw.missed(); missed || err != nil {
		t.Errorf("our own changes were taken for somebody else's: %v, %v", missed, err)
	}
	s.nft("flush set inet bantam sshd-4")
	if missed, err := s.fw.missed(); !missed || err != nil {
		t.Errorf("a flush between sync and watch went unseen: %v", err)
	}
}

func TestApplyToATableThatIsGoneAsksForASync(t *testing.T) {
	s := newScene(t)
	s.sync()
	s.nft("delete table inet bantam")
	if err := s.fw.Apply([]Change{add("sshd", attacker4, time.Hour)}); !errors.Is(err, ErrUnknownState) {
		t.Errorf("the error is %v", err)
	}
	s.sync(in("sshd", attacker4, time.Hour))
	s.blocked(attacker4, 22, "sshd")
}

func TestWithoutPrivilegeTheErrorSaysWhatToDo(t *testing.T) {
	type result struct {
		n   *NFTables
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never given back: the thread ends without its capabilities
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- result{nil, fmt.Errorf("drop capabilities: %w", err)}
			return
		}
		n, err := OpenNFTables(Options{Log: slog.New(slog.DiscardHandler)})
		done <- result{n, err}
	}()
	r := <-done
	if !errors.Is(r.err, ErrPrivilege) || !strings.Contains(r.err.Error(), "root") {
		t.Errorf("the error is %v", r.err)
	}
	if r.n != nil {
		t.Error("it is open all the same")
	}
}

func TestATableNeedsAName(t *testing.T) {
	for _, name := range []string{"a b", "1", "x;y", strings.Repeat("x", 300), "\x00"} {
		if _, err := OpenNFTables(Options{Table: name}); err == nil || errors.Is(err, ErrPrivilege) {
			t.Errorf("table %q: %v", name, err)
		}
	}
}
