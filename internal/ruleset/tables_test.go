package ruleset

import (
	"net/netip"
	"strings"
)

func sent(from, proto string, port uint16) func(*world) probe {
	return func(w *world) probe { return probe{packet: w.packet(netip.MustParseAddr(from), proto, port)} }
}

// running is a packet of a connection that was there before the rules.
func running(from string, port uint16) func(*world) probe {
	return func(w *world) probe { return w.connect(w.packet(netip.MustParseAddr(from), "udp", port)) }
}

const (
	bad, good   = "192.0.2.1", "192.0.2.2"
	bad6, good6 = "2001:db8::1", "2001:db8::2"
)

var bantamTable = `table inet bantam {
	set jail-sshd-4 { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h } }
	set jail-sshd-6 { type ipv6_addr; flags timeout; elements = { 2001:db8::1 timeout 1h } }
	set allow-4 { type ipv4_addr; }
	counter jail-sshd { }
	chain allow { meta nfproto ipv4 ip saddr @allow-4 accept; }
	chain jail-sshd { ip saddr @jail-sshd-4 counter name "jail-sshd" drop; ip6 saddr @jail-sshd-6 counter name "jail-sshd" drop; }
	chain prerouting { type filter hook prerouting priority -300; policy accept;
		jump allow
		meta l4proto udp udp dport { 22, 443-450 } jump jail-sshd
		meta l4proto tcp tcp dport 22 jump jail-sshd
	}
}`

var walks = []struct {
	name, rules string
	wants       []want
}{
	{"no rules at all", "table inet nothing { }", []want{{packet: udp(bad, 22)}, {packet: tcp(bad6, 22)}}},
	{"Bantam's own table drops what is banned on its ports", bantamTable, []want{
		{packet: udp(bad, 22), dropped: true, by: "jail-sshd: ip saddr @jail-sshd-4 counter name jail-sshd drop"},
		{packet: udp(bad, 443), dropped: true},
		{packet: udp(bad, 80)},
		{packet: udp(good, 22)},
		{packet: tcp(bad, 22), dropped: true},
		{packet: tcp(good, 22)},
		{packet: udp(bad6, 22), dropped: true, by: "ip6 saddr @jail-sshd-6"},
		{packet: tcp(good6, 22)},
		{packet: running(bad, 22), dropped: true},
		{packet: running(bad6, 80)},
	}},
	{"an address in the allow set passes by it", strings.Replace(bantamTable, "set allow-4 { type ipv4_addr; }", "set allow-4 { type ipv4_addr; elements = { 192.0.2.1 } }", 1), []want{
		{packet: udp(bad, 22), by: "allow: ip saddr @allow-4 accept"},
		{packet: udp(bad6, 22), dropped: true},
	}},
	{"an accept in an earlier chain does not save", bantamTable + `
table inet early { chain c { type filter hook prerouting priority -400; policy accept; ip saddr 192.0.2.0/24 accept; }; }`, []want{
		{packet: udp(bad, 22), dropped: true},
		{packet: udp(good, 22)},
	}},
	{"an accept before the drop in the same chain saves", `table inet filter { chain input { type filter hook input priority 0; policy accept;
	udp dport 22 accept
	ip saddr 192.0.2.1 drop
	}
}`, []want{
		{packet: udp(bad, 22), by: "input: udp dport 22 accept"},
		{packet: udp(bad, 80), dropped: true, by: "ip saddr 192.0.2.1 drop"},
		{packet: udp(good, 80)},
	}},
	{"established connections go on before the ban is looked at", `table inet filter {
	set f2b { type ipv4_addr; elements = { 192.0.2.1 } }
	chain input { type filter hook input priority 0; policy drop;
	iif lo accept
	ct state vmap { established : accept, related : accept, invalid : drop }
	ip saddr @f2b reject
	udp dport { 22, 80 } accept
	tcp dport 22 ct state new accept
	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
	}
}`, []want{
		{packet: running(bad, 22), by: "ct state vmap"},
		{packet: udp(bad, 22), dropped: true, by: "ip saddr @f2b reject"},
		{packet: udp(good, 22)},
		{packet: tcp(good, 22), by: "tcp dport 22 ct state new accept"},
		{packet: tcp(good, 80), dropped: true, by: "input: "},
		{packet: tcp(bad6, 22)},
	}},
}
