package ruleset

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bantam/internal/nstest"
)

var legacyWalks = []walkTest{
	{"iptables-multiport of stock make", `
iptables-legacy -N f2b-sshd
iptables-legacy -A f2b-sshd -j RETURN
iptables-legacy -I INPUT -p udp -m multiport --dports 22,443:450 -j f2b-sshd
iptables-legacy -I f2b-sshd 1 -s 192.0.2.1 -j REJECT --reject-with icmp-port-unreachable
ip6tables-legacy -I INPUT -s 2001:db8::/127 -p udp --dport 80 -j DROP`, []want{
		{packet: udp(bad, 22), dropped: true, by: "f2b-sshd: -A f2b-sshd -s 192.0.2.1/32 -j REJECT"},
		{packet: udp(bad, 444), dropped: true},
		{packet: udp(bad, 80)},
		{packet: udp(good, 22)},
		{packet: udp(bad6, 80), dropped: true},
		{packet: udp(good6, 80)},
		{packet: udp(bad6, 22)},
	}},
	{"ipset, states, comments and policies", `
ipset create f2b-sshd hash:ip timeout 600
ipset add f2b-sshd 192.0.2.1
iptables-legacy -P INPUT DROP
iptables-legacy -A INPUT -i lo -j ACCEPT
iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "say \"yes\" -j DROP" -j ACCEPT
iptables-legacy -A INPUT -m state --state INVALID -j DROP
iptables-legacy -A INPUT -p udp --dport 22 -m set --match-set f2b-sshd src -j DROP
iptables-legacy -A INPUT -p udp ! -s 192.0.2.3 -m iprange ! --src-range 192.0.2.4-192.0.2.9 -j ACCEPT
iptables-legacy -A INPUT -p tcp ! --dport 443 --tcp-flags FIN,SYN,RST,ACK SYN -m addrtype --dst-type LOCAL -j ACCEPT`, []want{
		{packet: running(bad, 22), by: "--ctstate RELATED,ESTABLISHED"},
		{packet: udp(bad, 22), dropped: true, by: "--match-set f2b-sshd src"},
		{packet: udp(bad, 80)},
		{packet: udp("192.0.2.3", 80), dropped: true, by: "INPUT: "},
		{packet: udp("192.0.2.5", 80), dropped: true},
		{packet: tcp(bad, 22)},
		{packet: tcp(bad, 443), dropped: true},
	}},
	{"a port of a container, and marks", `
iptables-legacy -t mangle -A PREROUTING -s 192.0.2.1 -j MARK --set-mark 0x40/0x40
iptables-legacy -t nat -A PREROUTING ! -i docker0 -p udp --dport 443 -j DNAT --to-destination 172.17.0.2:80
iptables-legacy -A FORWARD -o client+ -m mark --mark 0x40/0xc0 -j DROP
iptables-legacy -N other
iptables-legacy -A INPUT -m mark ! --mark 0x0 -g other
iptables-legacy -A other -p udp --dport 80 -j DROP`, []want{
		{packet: udp(bad, 443), dropped: true, by: "FORWARD: "},
		{packet: udp(good, 443)},
		{packet: udp(bad, 22)},
	}},
	{"a limit is a doubt", `
iptables-legacy -A INPUT -p udp --dport 22 -m limit --limit 5/min -j ACCEPT
iptables-legacy -A INPUT -p udp --dport 22 -j DROP`, []want{
		{packet: udp(bad, 22), doubt: true, by: "-m limit --limit 5/min"},
		{packet: udp(bad, 80)},
	}},
}

func TestWalkKnowsTheOlderIPTables(t *testing.T) {
	t.Parallel()
	// Of its own namespace: the older tables do not go away again.
	w := newWorld(t)
	clear := func() {
		w.run("sh", "-ec", `for p in iptables-legacy ip6tables-legacy; do
			for t in mangle nat filter; do $p -t $t -F; $p -t $t -X; done; $p -P INPUT ACCEPT; done
			ipset destroy`)
	}
	w.walks(legacyWalks, clear)
}

func TestALegacyRuleThatCannotBeJudgedIsADoubt(t *testing.T) {
	for _, test := range []struct{ name, rule string }{
		{"an unknown match", "-A INPUT -m string --string root --algo bm -j ACCEPT"},
		{"an unknown option", "-A INPUT -p udp -m udp --dport 22 --frobnicate -j ACCEPT"},
		{"an unknown target", "-A INPUT -j FROBNICATE --to 1"},
		{"a target that hands on", "-A INPUT -j NFQUEUE --queue-num 1"},
		{"the client's port", "-A INPUT -p udp --sport 1024:65535 -j ACCEPT"},
		{"a list of sets", "-A INPUT -p udp -m set --match-set nothing src -j ACCEPT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := nstest.New(t)
			r := emptyRuleset(t, n)
			r.add(t, "*filter\n:INPUT DROP [0:0]\n"+test.rule+"\nCOMMIT\n")
			path := r.Walk(Packet{Src: banned4, Dst: nstest.Server4, Protocol: "udp", Port: 22})
			if path.Dropped || len(path.Doubts) == 0 {
				t.Errorf("%s is taken as certain: %+v", test.rule, path)
			}
			// A drop that would come first is certain.
			r.add(t, "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s "+banned4.String()+" -j DROP\nCOMMIT\n")
			if path := r.Walk(Packet{Src: banned4, Dst: nstest.Server4, Protocol: "udp", Port: 22}); !path.Dropped || len(path.Doubts) > 0 {
				t.Errorf("a sure drop is in doubt: %+v", path)
			}
		})
	}
}

func emptyRuleset(t testing.TB, n *nstest.Net) *Ruleset {
	t.Helper()
	var r *Ruleset
	var err error
	if enter := n.Do(func() { r, err = Read(t.Context()) }); enter != nil || err != nil {
		t.Fatal(enter, err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// add puts a listing of iptables-save into a ruleset.
func (r *Ruleset) add(t testing.TB, save string) {
	t.Helper()
	chains, err := parseSave(strings.NewReader(save), "iptables", unix.NFPROTO_IPV4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		r.chains = append(r.chains, c)
		r.names[c.chainKey] = c
	}
}

func TestABadListingIsAnErrorWithItsLine(t *testing.T) {
	for _, test := range []struct{ listing, want string }{
		{"*filter\n:INPUT\n", "line 2"},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A OUTPUT -j DROP\n", "line 3"},
		{"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment \"open\n", "line 3"},
		{"oops\n", "line 1"},
	} {
		if _, err := parseSave(strings.NewReader(test.listing), "iptables", unix.NFPROTO_IPV4); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q gives %v, want %s", test.listing, err, test.want)
		}
	}
}

func FuzzParseSave(f *testing.F) {
	f.Add("*filter\n:INPUT DROP [0:0]\n:f2b - [0:0]\n-A INPUT -s 192.0.2.1/32 ! -d 10.0.0.0/255.0.255.0 -i eth+ -p tcp -m tcp --dport 1:2 --tcp-flags SYN,ACK SYN -m comment --comment \"a \\\"b\" -j f2b\n-A f2b -j DROP\nCOMMIT\n")
	f.Add("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m multiport --dports 1,2:3 -m addrtype ! --dst-type LOCAL -j DNAT --to-destination [::1]-[::2]:80-90\n-A PREROUTING -j REDIRECT --to-ports 5\n")
	f.Add("*raw\n:PREROUTING ACCEPT [0:0]\n[1:2] -A PREROUTING -m mark --mark 0x1/0x3 -m conntrack --ctstate NEW,DNAT -m iprange --src-range 1.2.3.4-5.6.7.8 -j CT --notrack\n-A PREROUTING -j MARK --set-xmark 0x1/0xff\n-A PREROUTING -g PREROUTING\n")
	f.Fuzz(func(t *testing.T, listing string) {
		chains, err := parseSave(strings.NewReader(listing), "iptables", unix.NFPROTO_IPV4)
		if err != nil {
			return
		}
		r := &Ruleset{names: make(map[chainKey]*chain)}
		for _, c := range chains {
			r.chains = append(r.chains, c)
			r.names[c.chainKey] = c
		}
		walkOffline(t, r)
	})
}

// walkOffline walks packets through a ruleset without a kernel to ask.
func walkOffline(t *testing.T, r *Ruleset) {
	t.Helper()
	for _, p := range []Packet{
		{Src: banned4, Dst: nstest.Server4, Protocol: "tcp", Port: 22, In: "eth0"},
		{Src: banned6, Dst: nstest.Server6, Protocol: "udp", Port: 53, Established: true},
		{Src: banned4, Dst: netip.MustParseAddr("192.0.2.99"), Protocol: "icmp"},
	} {
		path := r.Walk(p)
		if path.Dropped != (path.By != nil) {
			t.Errorf("dropped is %v, but by %+v", path.Dropped, path.By)
		}
	}
}

func TestOlderRulesThatCannotBeReadLeaveOnlyWhatDropsBeforeThem(t *testing.T) {
	n := nstest.New(t)
	loadNFT(t, n, `table inet f {
	chain early { type filter hook prerouting priority -300; ip saddr 192.0.2.1 drop; }
	chain late { type filter hook input priority 0; policy drop; }
}`)
	r := emptyRuleset(t, n)
	_, err := saved(t.Context(), "iptables", unix.NFPROTO_IPV4, []string{"no-such-program"})
	if err == nil {
		t.Fatal("a program that is not there lists rules")
	}
	r.unread[unix.NFPROTO_IPV4] = err.Error()
	if path := r.Walk(Packet{Src: banned4, Dst: nstest.Server4, Protocol: "tcp", Port: 22}); !path.Dropped {
		t.Errorf("dropped before all others it passes: %+v", path)
	}
	if path := r.Walk(Packet{Src: other4, Dst: nstest.Server4, Protocol: "tcp", Port: 22}); path.Dropped || len(path.Doubts) == 0 {
		t.Errorf("the older rules could send it elsewhere, but it is surely dropped: %+v", path)
	}
	if path := r.Walk(Packet{Src: banned6, Dst: nstest.Server6, Protocol: "tcp", Port: 22}); !path.Dropped {
		t.Errorf("a packet of another family is in doubt: %+v", path)
	}
}
