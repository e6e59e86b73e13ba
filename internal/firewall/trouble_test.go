package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/nstest"
)

// restores are n bans of different addresses.
func restores(jail string, n int) []bantam.Decision {
	ds := make([]bantam.Decision, n)
	end := time.Now().Add(time.Hour)
	for i := range ds {
		ds[i] = bantam.Decision{Kind: bantam.Restore, Ban: bantam.Ban{Jail: jail, ID: bantam.AddrID(address4(i)), End: end}}
	}
	return ds
}

// What Fail2Ban left behind is taken over: its sets are of another kind.
func TestTakingOverFromThePeer(t *testing.T) {
	for _, kind := range oneOfEach {
		t.Run(kind.kind, func(t *testing.T) {
			t.Parallel()
			net := nstest.New(t)
			p, s := newPeer(t, net), stockIn(t, net)
			opts := options("protocol", "tcp")
			for _, ip := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
				p.do(peerQuestion{Action: kind.action, Jail: "sshd", Options: opts, Do: "ban", IP: ip})
			}
			n := recognized(t, "sshd", kind.action, opts)
			bans := []bantam.Decision{decision(bantam.Restore, "sshd", "192.0.2.2"), decision(bantam.Restore, "sshd", "198.51.100.0/24")}
			if err := s.Configure(t.Context(), []Native{n}, bans); err != nil {
				t.Fatal(err)
			}
			wantHolds(t, net, "192.0.2.2", "198.51.100.0/24")
			do(t, s, bantam.End, "sshd", "192.0.2.2", "198.51.100.0/24")
			wantHolds(t, net)
			if err := s.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := kernel(t, net); strings.Contains(left, "f2b") || strings.Contains(left, "n2b") {
				t.Errorf("afterwards there is\n%s", left)
			}
		})
	}
}

// nftables replaces a set of another kind in one transaction: no packet sees the
// rule without the set.
func TestASetOfAnotherKindIsReplacedInOneTransaction(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	n := recognized(t, "sshd", "nftables-allports", options("protocol", "tcp"))
	configure(t, s, n)
	do(t, s, bantam.Start, "sshd", "192.0.2.1")
	output(t, net, "nft", "flush ruleset; add table inet f2b-table; add chain inet f2b-table f2b-chain { type filter hook input priority -1; };"+
		"add set inet f2b-table addr-set-sshd { type ipv4_addr; flags interval; }; add element inet f2b-table addr-set-sshd { 192.0.2.0/24 };"+
		"add rule inet f2b-table f2b-chain ip saddr @addr-set-sshd drop; add rule inet f2b-table f2b-chain ip saddr 203.0.113.99 drop")
	before, err := s.nft.sock.generation()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := s.nft.sock.generation()
	if err != nil {
		t.Fatal(err)
	}
	if after != before+1 {
		t.Errorf("it took %d transactions", after-before)
	}
	wantHolds(t, net, "192.0.2.1", "203.0.113.99") // what is not ours stays
}

func TestAnIPSetOfAnotherTypeIsReplaced(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	n := recognized(t, "sshd", "iptables-ipset-proto6-allports", options())
	output(t, net, "ipset", "create", "f2b-sshd", "hash:net")
	output(t, net, "iptables", "-I", "INPUT", "-m", "set", "--match-set", "f2b-sshd", "src", "-j", "DROP")
	configure(t, s, n)
	do(t, s, bantam.Start, "sshd", "192.0.2.1", "198.51.100.0/24")
	wantHolds(t, net, "192.0.2.1", "198.51.100.0/24")
	if rules := strings.Count(output(t, net, "iptables-save"), "--match-set"); rules != 2 {
		t.Errorf("there are %d rules, want one for addresses and one for ranges", rules)
	}
}

// A set that is full is made larger before a ban is lost.
func TestASetThatFillsUpGrows(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	inet4, _ := newPeer(t, nil).commands("iptables-ipset-proto6-allports", "sshd", options())
	*inet4 = each(*inet4, "timeout 0 ", "timeout 0 maxelem 100 ")
	n, err := Recognize("sshd", "iptables-ipset-proto6-allports", inet4, nil)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, s, n)
	bans := restores("sshd", 350)
	for _, part := range [][]bantam.Decision{bans[:90], bans[90:99], bans[99:100], bans[100:101], bans[101:350]} {
		if _, err := s.Do(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(holds(t, net)); got != 350 {
		t.Errorf("%d bans of 350 are in the kernel", got)
	}
	do(t, s, bantam.Start, "sshd", "0.0.0.0/0") // two elements of a set of ranges
	wantMore := []string{"0.0.0.0/1", "128.0.0.0/1"}
	text := output(t, net, "ipset", "save", "n2b-sshd")
	for _, w := range wantMore {
		if !strings.Contains(text, w) {
			t.Errorf("%s is not in\n%s", w, text)
		}
	}
	do(t, s, bantam.End, "sshd", "0.0.0.0/0")
	if text := output(t, net, "ipset", "save", "n2b-sshd"); strings.Contains(text, "add") {
		t.Errorf("after its end there is\n%s", text)
	}
}

// TestTrapS42_ARangeIsOneElement: an ipset of addresses would take a range as each
// of them.
func TestTrapS42_ARangeIsOneElement(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	configure(t, s, recognized(t, "sshd", "iptables-ipset-proto6", options("port", "22")))
	do(t, s, bantam.Start, "sshd", "198.51.100.0/24", "10.0.0.0/8")
	wantHolds(t, net, "198.51.100.0/24", "10.0.0.0/8")
}

// TestTrapS42_TwoJailsWantOneSet: the IPv6 set of iset has the name of the IPv4 set
// of iset6. The second is left out and said to be; the first works.
func TestTrapS42_TwoJailsWantOneSet(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	a := recognized(t, "iset", "iptables-ipset-proto6", options("port", "22"))
	b := recognized(t, "iset6", "iptables-ipset-proto6", options("port", "22"))
	err := s.Configure(t.Context(), []Native{a, b}, nil)
	if err == nil || !strings.Contains(err.Error(), `belongs to jail "iset" already`) {
		t.Errorf("the error is %v", err)
	}
	do(t, s, bantam.Start, "iset", "192.0.2.1", "2001:db8::1")
	do(t, s, bantam.Start, "iset6", "192.0.2.2")
	wantHolds(t, net, "192.0.2.1", "2001:db8::1")
	if _, ok := Conflicts([]Native{a, b})[1]; !ok {
		t.Error("the conflict is not told beforehand")
	}
}

// TestTrapS43_AMissingJumpIsNoticed, whichever of several it is, and the chain
// keeps its last rule when all bans end.
func TestTrapS43_AMissingJumpIsNoticed(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	configure(t, s, recognized(t, "sshd", "iptables-multiport", options("port", "22", "protocol", "tcp,udp")))
	do(t, s, bantam.Start, "sshd", "192.0.2.1")
	want := output(t, net, "iptables", "-S")
	for _, protocol := range []string{"tcp", "udp"} {
		output(t, net, "iptables", "-D", "INPUT", "-p", protocol, "-m", "multiport", "--dports", "22", "-j", "f2b-sshd")
		found, err := s.lookAtRules(t.Context())
		if err != nil || !found {
			t.Fatalf("the jump for %s is not missed: %v", protocol, err)
		}
		if err := s.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := output(t, net, "iptables", "-S"); got != want {
			t.Errorf("repaired, there is\n%s\nwant\n%s", got, want)
		}
	}
	do(t, s, bantam.End, "sshd", "192.0.2.1")
	if !strings.Contains(output(t, net, "iptables", "-S"), "-A f2b-sshd -j RETURN") {
		t.Error("the chain's last rule is gone")
	}
}

// TestTrapS44_AllJailsOfATableAreRepaired: one command takes the table of all jails
// away, and everything of all of them comes back.
func TestTrapS44_AllJailsOfATableAreRepaired(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	configure(t, s, recognized(t, "sshd", "nftables", options("port", "22")), recognized(t, "web", "nftables", options("port", "80")))
	do(t, s, bantam.Start, "sshd", "192.0.2.1", "192.0.2.2", "2001:db8::1")
	do(t, s, bantam.Start, "web", "192.0.2.3")
	output(t, net, "nft", "delete", "table", "inet", "f2b-table")
	wantHolds(t, net)
	// A ban on what is not there any more fails, and the next try brings all back.
	ban := []bantam.Decision{decision(bantam.Start, "sshd", "192.0.2.4")}
	if retry, err := s.Do(t.Context(), ban); err == nil || !retry {
		t.Errorf("the ban into nothing says %v", err)
	}
	if _, err := s.Do(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	if err := s.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHolds(t, net, "192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3", "192.0.2.4")
}

// TestTrapS45_ATextStartsNothing: ids that are no addresses concern no firewall.
func TestTrapS45_ATextStartsNothing(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		configure(t, s, n)
		before := kernel(t, net)
		text := bantam.Decision{Kind: bantam.Start, Ban: bantam.Ban{Jail: "sshd", ID: bantam.TextID("alice")}}
		observed := decision(bantam.Start, "sshd", "192.0.2.1")
		observed.Ban.Observed = true
		if _, err := s.Do(t.Context(), []bantam.Decision{text, observed}); err != nil {
			t.Fatal(err)
		}
		if after := kernel(t, net); after != before {
			t.Errorf("there is\n%s\nbefore it was\n%s", after, before)
		}
	})
}

// What is sent for one jail is not lost when the next needs something new.
func TestSeveralJailsAtOnce(t *testing.T) {
	for _, kind := range oneOfEach {
		t.Run(kind.kind, func(t *testing.T) {
			t.Parallel()
			net := nstest.New(t)
			s := stockIn(t, net)
			configure(t, s, recognized(t, "a", kind.action, options()), recognized(t, "b", kind.action, options()), recognized(t, "c", kind.action, options()))
			for _, jail := range []string{"a", "b", "c"} {
				do(t, s, bantam.Start, jail, "203.0.113.1")
			}
			ds := []bantam.Decision{
				decision(bantam.Start, "a", "192.0.2.1"), decision(bantam.Start, "b", "198.51.100.0/24"),
				decision(bantam.Start, "c", "192.0.2.2"), decision(bantam.End, "c", "203.0.113.1"),
				decision(bantam.End, "b", "203.0.113.1"), decision(bantam.End, "a", "203.0.113.1"),
			}
			if _, err := s.Do(t.Context(), ds); err != nil {
				t.Fatal(err)
			}
			wantHolds(t, net, "192.0.2.1", "192.0.2.2", "198.51.100.0/24")
			// What is decided in one jail leaves the others' alone.
			if _, err := s.Do(t.Context(), []bantam.Decision{decision(bantam.Start, "b", "192.0.2.4")}); err != nil {
				t.Fatal(err)
			}
			wantHolds(t, net, "192.0.2.1", "192.0.2.2", "192.0.2.4", "198.51.100.0/24")
		})
	}
}

// The older kind of iptables, of whose changes the kernel tells nobody.
func TestLegacyIPTables(t *testing.T) {
	if _, err := exec.LookPath("iptables-legacy-restore"); err != nil {
		t.Skip("iptables-legacy is not installed")
	}
	net := nstest.New(t)
	s := stockIn(t, net)
	inet4, _ := newPeer(t, nil).commands("iptables-multiport", "sshd", options("port", "22"))
	*inet4 = each(*inet4, "iptables -w", "/usr/sbin/iptables-legacy -w")
	n, err := Recognize("sshd", "iptables-multiport", inet4, nil)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, s, n)
	do(t, s, bantam.Start, "sshd", "192.0.2.1", "198.51.100.0/24")
	do(t, s, bantam.End, "sshd", "192.0.2.1")
	want := output(t, net, "iptables-legacy", "-S")
	for _, line := range []string{"-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n", "-A f2b-sshd -s 198.51.100.0/24 -j REJECT", "-A f2b-sshd -j RETURN"} {
		if !strings.Contains(want, line) {
			t.Errorf("%q is not in\n%s", line, want)
		}
	}
	output(t, net, "iptables-legacy", "-F")
	if found, err := s.lookAtRules(t.Context()); err != nil || !found {
		t.Errorf("the flush is not found: %v", err)
	}
	if err := s.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := output(t, net, "iptables-legacy", "-S"); got != want {
		t.Errorf("repaired, there is\n%s\nwant\n%s", got, want)
	}
	if err := s.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := output(t, net, "iptables-legacy", "-S"); strings.Contains(left, "f2b") {
		t.Errorf("afterwards there is\n%s", left)
	}
}

// Ranges may contain one another and addresses, and each ends by itself.
func TestRangesInsideRanges(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, n Native) {
		visit := visitor(t, net)
		expect := func(when string, reach bool, from string) {
			t.Helper()
			if got := visit(from); got != reach {
				t.Errorf("%s, %s reaches the server: %v, want %v", when, from, got, reach)
			}
		}
		configure(t, s, n)
		do(t, s, bantam.Start, "sshd", "192.0.2.128/25", "192.0.2.129")
		ds := []bantam.Decision{decisionUntil(bantam.Start, "sshd", "192.0.2.192/26", time.Now().Add(5*time.Hour))}
		if _, err := s.Do(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
		expect("with both", false, "192.0.2.200")
		expect("with both", false, "192.0.2.130")
		do(t, s, bantam.End, "sshd", "192.0.2.128/25")
		expect("after the end of the outer", false, "192.0.2.201")
		expect("after the end of the outer", false, "192.0.2.129")
		expect("after the end of the outer", true, "192.0.2.130")
		do(t, s, bantam.End, "sshd", "192.0.2.192/26")
		expect("after the end of the inner", true, "192.0.2.202")
	})
}

// More than a transaction holds: what is wanted goes in, the surplus out.
func TestStockSyncOfManyElements(t *testing.T) {
	const n = 55_000
	for _, kind := range oneOfEach[:2] {
		t.Run(kind.kind, func(t *testing.T) {
			net := nstest.New(t)
			s := stockIn(t, net)
			native := recognized(t, "sshd", kind.action, options())
			bans := restores("sshd", n)
			if err := s.Configure(t.Context(), []Native{native}, bans[:n-100]); err != nil {
				t.Fatal(err)
			}
			next := stockIn(t, net)
			if err := next.Configure(t.Context(), []Native{native}, bans[100:]); err != nil {
				t.Fatal(err)
			}
			got := inKernel(t, next, native.Inet4)
			if len(got) != n-100 || got[bans[0].Ban.ID.String()] || !got[bans[n-1].Ban.ID.String()] {
				t.Errorf("%d elements, want %d; the first is there: %v, the last: %v", len(got), n-100, got[bans[0].Ban.ID.String()], got[bans[n-1].Ban.ID.String()])
			}
		})
	}
}

// inKernel reads the addresses of a set.
func inKernel(t testing.TB, s *Stock, o *Objects) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	if o.Kind == KindNFTables {
		found, err := s.nft.sock.members(context.Background(), o.Table, o.Set)
		if err != nil {
			t.Fatal(err)
		}
		for a := range found {
			got[a.String()] = true
		}
		return got
	}
	h, err := s.ipset.header(o.Set)
	if err != nil || h == nil {
		t.Fatalf("no header: %v", err)
	}
	out, err := runner{s.opts.Start}.run(context.Background(), "", "ipset", "save", o.Set)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); f[0] == "add" {
			got[f[2]] = true
		}
	}
	if int(h.elements) != len(got) {
		t.Errorf("the header says %d elements, there are %d", h.elements, len(got))
	}
	return got
}

// What an earlier run left of jails that are gone goes; what others have in the
// same table stays.
func TestJailsThatAreGone(t *testing.T) {
	opts := options("port", "22")
	for _, tt := range []struct {
		name string
		stay []string // jails that are there still
		also string   // somebody else's set
		want []string
	}{
		{"one of two", []string{"web"}, "", []string{"192.0.2.2"}},
		{"all", nil, "", nil},
		{"all, but the table is not only ours", nil, "add set inet f2b-table mine { type ipv4_addr; elements = { 203.0.113.9 }; }", []string{"203.0.113.9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			net := nstest.New(t)
			s := stockIn(t, net)
			configure(t, s, recognized(t, "sshd", "nftables", opts), recognized(t, "web", "nftables", opts))
			do(t, s, bantam.Start, "sshd", "192.0.2.1", "198.51.100.0/24")
			do(t, s, bantam.Start, "web", "192.0.2.2")
			if tt.also != "" {
				output(t, net, "nft", tt.also)
			}
			if err := errors.Join(s.Leave(t.Context()), s.Close()); err != nil {
				t.Fatal(err)
			}
			var natives []Native
			var bans []bantam.Decision
			for _, jail := range tt.stay {
				natives = append(natives, recognized(t, jail, "nftables", opts))
				bans = append(bans, decision(bantam.Restore, jail, "192.0.2.2"))
			}
			if err := stockIn(t, net).Configure(t.Context(), natives, bans); err != nil {
				t.Fatal(err)
			}
			wantHolds(t, net, tt.want...)
			if left := output(t, net, "nft", "list", "tables"); (left != "") != (tt.want != nil) {
				t.Errorf("the tables left are %q", left)
			}
		})
	}
}

// After ENOBUFS nobody knows what the kernel did. The next try makes it equal.
func TestStockRecoversFromENOBUFS(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	configure(t, s, recognized(t, "sshd", "nftables-allports", options()))
	do(t, s, bantam.Start, "sshd", "192.0.2.1")
	// Notices of the changes fill the buffer that the acknowledgement needs.
	conn := s.nft.sock.conn
	if err := errors.Join(conn.SetReadBuffer(1), conn.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		t.Fatal(err)
	}
	ds := restores("sshd", 5000)
	retry, err := s.Do(t.Context(), ds)
	if !errors.Is(err, unix.ENOBUFS) || !errors.Is(err, ErrUnknownState) || !retry {
		t.Fatalf("the error is %v, retry %v", err, retry)
	}
	if st := s.Status()[0]; st.Err == "" || st.Bans != 5001 {
		t.Errorf("the status is %+v", st)
	}
	if err := errors.Join(conn.LeaveGroup(unix.NFNLGRP_NFTABLES), conn.SetReadBuffer(socketBuffer)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Do(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	if got := len(inKernel(t, s, s.objects[0].Objects)); got != 5001 {
		t.Errorf("%d elements, want 5001", got)
	}
}

// What one jail asks for and the kernel refuses leaves no other jail open.
func TestOneBadJailLeavesTheOthersProtected(t *testing.T) {
	forEach(t, func(t *testing.T, net *nstest.Net, s *Stock, good Native) {
		bad := good
		objects := *good.Inet4
		bad.Jail, bad.Inet4, bad.Inet6 = "bad", &objects, nil
		switch objects.Kind {
		case KindNFTables:
			objects.Set, objects.priority = "addr-set-bad", 77 // the chain has another
		default:
			objects.Set, objects.RangeSet, objects.Own = "f2b-bad", "n2b-bad", "f2b-bad"
			objects.jumps = []jump{{"NO-SUCH-CHAIN", []string{"-p", "tcp", "-m", "set", "--match-set", "f2b-bad", "src", "-j", "DROP"}}}
		}
		bans := []bantam.Decision{decision(bantam.Restore, "bad", "192.0.2.9"), decision(bantam.Restore, "sshd", "192.0.2.1")}
		err := s.Configure(t.Context(), []Native{good, bad}, bans)
		if err == nil {
			t.Fatal("the bad jail is no error")
		}
		status := fmt.Sprint(s.Status())
		if !strings.Contains(strings.Join(holds(t, net), " "), "192.0.2.1") {
			t.Errorf("the good jail's ban is missing: %v; %s", err, status)
		}
		for _, st := range s.Status() {
			if (st.Err != "") != (st.Jail == "bad") {
				t.Errorf("the status of %s is %+v", st.Jail, st)
			}
		}
	})
}
