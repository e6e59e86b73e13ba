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

var walks = []walkTest{
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
	{"iptables-multiport of stock make, by iptables-nft", `
iptables-nft -N f2b-sshd
iptables-nft -A f2b-sshd -j RETURN
iptables-nft -I INPUT -p udp -m multiport --dports 22,443:450 -j f2b-sshd
iptables-nft -I f2b-sshd 1 -s 192.0.2.1 -j REJECT --reject-with icmp-port-unreachable`, []want{
		{packet: udp(bad, 22), dropped: true, by: "f2b-sshd: ip saddr 192.0.2.1 counter -j REJECT"},
		{packet: udp(bad, 443), dropped: true},
		{packet: udp(bad, 80)},
		{packet: udp(good, 22)},
		{packet: udp(bad6, 22)},
	}},
	{"iptables-ipset of stock make, by iptables-nft", `
ipset create f2b-sshd hash:ip timeout 600
ipset create net-set hash:net timeout 600
ipset add f2b-sshd 192.0.2.1
ipset add net-set 192.0.2.0/31
iptables-nft -A INPUT -p tcp -m multiport --dports ssh -m set --match-set f2b-sshd src -j DROP
iptables-nft -A INPUT -p udp --dport 22 -m set --match-set net-set src -m comment --comment "a ban" -j REJECT
iptables-nft -A INPUT -p udp -m set ! --match-set f2b-sshd src -j ACCEPT
iptables-nft -P INPUT DROP`, []want{
		{packet: tcp(bad, 22), dropped: true, by: "-m multiport --dports 22 -m set --match-set f2b-sshd src counter drop"},
		{packet: udp(bad, 22), dropped: true, by: "--match-set net-set src"},
		{packet: udp(bad, 80), dropped: true},
		{packet: udp(good, 80), by: "! -m set --match-set f2b-sshd src counter accept"},
		{packet: udp(bad6, 80)},
	}},
	{"an ipset of addresses with ports", `
ipset create ap hash:ip,port
ipset add ap 192.0.2.1,udp:22
iptables-nft -A INPUT -m set --match-set ap src,dst -j DROP`, []want{
		{packet: udp(bad, 22), dropped: true},
		{packet: udp(bad, 80)},
		{packet: tcp(bad, 22)},
		{packet: udp(good, 22)},
	}},
	{"chains as ufw has them", `
for c in before-logging-input before-input user-input after-input skip-to-policy-input; do iptables-nft -N ufw-$c; done
iptables-nft -A INPUT -j ufw-before-logging-input
iptables-nft -A INPUT -j ufw-before-input
iptables-nft -A INPUT -j ufw-after-input
iptables-nft -A ufw-before-logging-input -m conntrack --ctstate NEW -m limit --limit 3/min -j LOG --log-prefix "[UFW AUDIT] "
iptables-nft -A ufw-before-input -i lo -j ACCEPT
iptables-nft -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
iptables-nft -A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT
iptables-nft -A ufw-before-input -m addrtype --dst-type MULTICAST -j RETURN
iptables-nft -A ufw-before-input -j ufw-user-input
iptables-nft -A ufw-user-input -s 192.0.2.1 -p udp --dport 80 -j REJECT
iptables-nft -A ufw-user-input -p udp --dport 80 -j ACCEPT
iptables-nft -A ufw-user-input -p tcp -m tcp --dport 22 -m comment --comment 'dapp_OpenSSH' -j ACCEPT
iptables-nft -A ufw-after-input -p udp --dport 443 -j ufw-skip-to-policy-input
iptables-nft -A ufw-skip-to-policy-input -j DROP
iptables-nft -P INPUT DROP`, []want{
		{packet: udp(bad, 80), dropped: true, by: "ufw-user-input: ip saddr 192.0.2.1"},
		{packet: running(bad, 80), by: "ufw-before-input: -m conntrack --ctstate RELATED,ESTABLISHED"},
		{packet: udp(good, 80), by: "udp dport 80"},
		{packet: tcp(good, 22)},
		{packet: udp(good, 22), dropped: true, by: "INPUT: "},
		{packet: udp(good, 443), dropped: true, by: "ufw-skip-to-policy-input: "},
	}},
	{"tables as firewalld has them", `table inet firewalld {
	set drop4 { type ipv4_addr; flags interval; elements = { 192.0.2.1, 198.51.100.0/24 } }
	chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; jump mangle_ZONES; }
	chain mangle_ZONES { iifname "client1" goto mangle_PRE_public; goto mangle_PRE_drop; }
	chain mangle_PRE_public { return; }
	chain mangle_PRE_drop { drop; }
	chain filter_INPUT { type filter hook input priority filter + 10; policy accept
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state { invalid } drop
		jump filter_INPUT_ZONES
		reject with icmpx type admin-prohibited
	}
	chain filter_INPUT_ZONES { ip saddr @drop4 drop; iifname "client*" goto filter_IN_public; goto filter_IN_drop; }
	chain filter_IN_public { jump filter_IN_public_allow; ip protocol icmp accept; ip6 nexthdr icmpv6 accept; }
	chain filter_IN_public_allow { udp dport 22 ct state { new, untracked } accept; tcp dport { 22, 80-90 } accept; }
	chain filter_IN_drop { drop; }
}`, []want{
		{packet: udp(bad, 22), dropped: true, by: "ip saddr @drop4 drop"},
		{packet: running(bad, 22), by: "ct state { established, related } accept"},
		{packet: udp(good, 22), by: "udp dport 22 ct state { new, untracked } accept"},
		{packet: udp(good, 80), dropped: true, by: "reject"},
		{packet: tcp(good, 80), by: "tcp dport { 22, 80-90 } accept"},
		{packet: tcp(good6, 22)},
		{packet: udp(good6, 443), dropped: true},
	}},
	{"a published port of a container goes past the input chain", `table ip nat {
	chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
	chain DOCKER { iifname "docker0" return; udp dport 443 dnat to 172.17.0.2:80; }
}
table ip filter {
	chain INPUT { type filter hook input priority 0; ip saddr 192.0.2.1 drop; }
	chain FORWARD { type filter hook forward priority 0; policy drop
		jump DOCKER-USER
		oifname "client2" ct state related,established accept
		oifname "client2" jump DOCKER
	}
	chain DOCKER-USER { ip saddr 192.0.2.3 drop; return; }
	chain DOCKER { ip daddr 172.17.0.2 iifname != "client2" oifname "client2" udp dport 80 accept; }
}`, []want{
		{packet: udp(bad, 443), by: "DOCKER: udp dport 443 dnat to 172.17.0.2:80"},
		{packet: udp(good, 443), by: "DOCKER: ip daddr 172.17.0.2 iifname != \"client2\" oifname \"client2\" udp dport 80 accept"},
		{packet: udp(bad, 22), dropped: true, by: "INPUT"},
		{packet: udp("192.0.2.3", 443), dropped: true, by: "DOCKER-USER: ip saddr 192.0.2.3 drop"},
		{packet: udp("192.0.2.3", 22)},
		{packet: running(good, 22)},
	}},
	{"the same by iptables-nft", `
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A DOCKER ! -i docker0 -p udp -m udp --dport 443 -j DNAT --to-destination 172.17.0.2:80
iptables-nft -A INPUT -s 192.0.2.1 -j DROP
iptables-nft -P FORWARD DROP
iptables-nft -A FORWARD -s 192.0.2.3 -m conntrack --ctorigdstport 443 -j DROP
iptables-nft -A FORWARD -m conntrack ! --ctorigdst 10.99.0.0/24 -j DROP
iptables-nft -A FORWARD -m conntrack --ctorigsrc 192.0.2.4/31 -j DROP
iptables-nft -A FORWARD -d 172.17.0.2/32 ! -i client2 -o client2 -p udp -m udp --dport 80 -j ACCEPT`, []want{
		{packet: udp("192.0.2.3", 443), dropped: true, by: "FORWARD: ip saddr 192.0.2.3 -m conntrack --ctorigdstport 443"},
		{packet: udp("192.0.2.5", 443), dropped: true, by: "-m conntrack --ctorigsrc 192.0.2.4/31"},
		{packet: udp(bad, 443), by: "DOCKER: iifname != \"docker0\" udp dport 443 counter -j DNAT --to-destination 172.17.0.2:80"},
		{packet: udp(bad, 22), dropped: true},
		{packet: udp(good, 443)},
		{packet: tcp(good, 443)},
	}},
	{"Bantam's table sees a published port before its destination changes", bantamTable + `
table ip nat { chain PREROUTING { type nat hook prerouting priority dstnat; udp dport 443 dnat to 172.17.0.2:80; }; }`, []want{
		{packet: udp(bad, 443), dropped: true, by: "jail-sshd"},
		{packet: udp(good, 443)},
		{packet: running(bad, 443), dropped: true},
	}},
	{"a redirect keeps the packet here", `table inet n {
	chain pre { type nat hook prerouting priority dstnat; udp dport 80 redirect to :22; }
	chain in { type filter hook input priority 0; ip saddr 192.0.2.1 udp dport 22 drop; }
}`, []want{
		{packet: udp(bad, 80), dropped: true},
		{packet: udp(bad, 22), dropped: true},
		{packet: udp(bad, 443)},
	}},
	{"intervals, concatenations and maps", `table inet x {
	set ranges { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.7, 203.0.113.0/24 } }
	set pairs { type ipv4_addr . inet_service; elements = { 192.0.2.20 . 22, 192.0.2.21 . 80 } }
	set nets { type ipv4_addr . inet_proto . inet_service; flags interval; elements = { 192.0.2.32/28 . udp . 20-30 } }
	set v6 { type ipv6_addr; flags interval; elements = { 2001:db8::/127 } }
	map fate { type inet_service : verdict; flags interval; elements = { 79-81 : jump ports, * : continue } }
	map marks { type ipv4_addr : mark; elements = { 192.0.2.50 : 7 } }
	chain ports { ip saddr & 255.255.255.254 == 192.0.2.60 drop; return; }
	chain in { type filter hook input priority -10; policy accept
		ip saddr @ranges udp dport != 443 drop
		ip saddr . udp dport @pairs drop
		ip saddr . meta l4proto . udp dport @nets reject
		ip6 saddr @v6 drop
		meta mark set ip saddr map @marks
		meta mark 7 drop
		udp dport vmap @fate
		udp dport > 100 ip saddr 192.0.2.64-192.0.2.70 drop
	}
}`, []want{
		{packet: udp(bad, 22), dropped: true, by: "ip saddr @ranges udp dport != 443 drop"},
		{packet: udp(bad, 443)},
		{packet: udp("192.0.2.7", 80), dropped: true},
		{packet: udp("192.0.2.8", 80)},
		{packet: udp("192.0.2.20", 22), dropped: true, by: "ip saddr . udp dport @pairs drop"},
		{packet: udp("192.0.2.20", 80)},
		{packet: udp("192.0.2.47", 22), dropped: true, by: "@nets reject"},
		{packet: udp("192.0.2.48", 22)},
		{packet: udp("192.0.2.47", 80)},
		{packet: udp(bad6, 22), dropped: true},
		{packet: udp(good6, 22)},
		{packet: udp("192.0.2.50", 22), dropped: true, by: "meta mark 0x7 drop"},
		{packet: udp("192.0.2.61", 80), dropped: true, by: "ports: ip saddr 192.0.2.60/31 drop"},
		{packet: udp("192.0.2.61", 22)},
		{packet: udp("192.0.2.66", 443), dropped: true},
		{packet: udp("192.0.2.66", 80)},
	}},
	{"before connection tracking every packet is invalid", `table inet raw {
	chain a { type filter hook prerouting priority -300; ct state established,new drop; udp dport 80 notrack; }
	chain b { type filter hook prerouting priority -150; ct state new udp dport { 22, 80 } drop; ct state untracked accept; }
}`, []want{
		{packet: udp(good, 22), dropped: true, by: "b: ct state new udp dport { 22, 80 } drop"},
		{packet: udp(good, 80)},
		{packet: udp(good, 443)},
	}},
	{"ingress comes first and is bound to an interface", `table netdev early {
	chain one { type filter hook ingress device "client1" priority 0; ip saddr 192.0.2.1 drop; ip6 saddr 2001:db8::1 udp dport 22 drop; }
	chain two { type filter hook ingress device "client2" priority 0; ip saddr 192.0.2.2 drop; }
}
table inet both { chain c { type filter hook ingress device "client1" priority 1; udp dport 80 drop; }; }`, []want{
		{packet: udp(bad, 22), dropped: true, by: "one: ip saddr 192.0.2.1 drop"},
		{packet: udp(bad6, 22), dropped: true},
		{packet: udp(good, 22)},
		{packet: udp(good6, 80), dropped: true, by: "c: udp dport 80 drop"},
	}},
	{"a dormant table does nothing", `table inet sleeping { flags dormant; chain c { type filter hook input priority 0; policy drop; }; }`, []want{
		{packet: udp(bad, 22)},
	}},
	{"a limit before the drop may let it pass, one after does not", `table inet l { chain c { type filter hook input priority 0
	udp dport 22 limit rate 10/second accept
	udp dport { 22, 80 } ip saddr 192.0.2.1 drop
	udp dport 80 limit rate over 10/second drop
	}
}`, []want{
		{packet: udp(bad, 22), doubt: true, by: "limit rate 10/second accept"},
		{packet: udp(bad, 80), dropped: true},
		{packet: udp(good, 80), doubt: true},
		{packet: udp(good, 443)},
	}},
	{"what is limited but only logged raises no doubt", `table inet l { chain c { type filter hook input priority 0
	limit rate 1/minute log prefix "x" counter
	limit rate 1/minute jump sub
	ip saddr 192.0.2.1 counter log drop
	}
	chain sub { log prefix "y"; }
}`, []want{
		{packet: udp(bad, 22), dropped: true},
	}},
	{"goto does not come back, return ends at the policy", `table inet g {
	chain in { type filter hook input priority 0; policy drop
		udp dport 22 goto a
		udp dport 80 jump a
		udp dport 443 return
		accept
	}
	chain a { ip saddr 192.0.2.1 accept; jump b; }
	chain b { udp dport 22 return; }
}`, []want{
		{packet: udp(bad, 22), by: "a: ip saddr 192.0.2.1 accept"},
		{packet: udp(good, 22), dropped: true},
		{packet: udp(good, 80), by: "in: accept"},
		{packet: udp(bad, 443), dropped: true},
	}},
	{"a nat chain sees packets only where some rule needs connection tracking", `table ip n {
	chain pre { type nat hook prerouting priority dstnat; policy drop; }
}`, []want{
		{packet: udp(bad, 22), doubt: true},
	}},
	{"a nat chain that drops, with connection tracking", `table ip n {
	chain pre { type nat hook prerouting priority dstnat; ip saddr 192.0.2.1 drop; udp dport 80 counter; }
	chain in { type filter hook input priority 0; ct state invalid drop; }
}`, []want{
		{packet: udp(bad, 22), dropped: true, by: "pre: ip saddr 192.0.2.1 drop"},
		{packet: running(bad, 22)},
		{packet: udp(good, 22)},
	}},
	{"what a port's own owner forwards by a map, and masquerades", `table inet n {
	map published { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { udp . 443 : 172.17.0.2 . 80 } }
	chain pre { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . udp dport map @published; }
	chain post { type nat hook postrouting priority srcnat; oifname "client2" masquerade; }
	chain fw { type filter hook forward priority 0; policy drop
		ip saddr 192.0.2.1 drop
		ct status dnat accept
	}
}`, []want{
		{packet: udp(bad, 443), dropped: true, by: "fw: ip saddr 192.0.2.1 drop"},
		{packet: udp(good, 443), by: "ct status dnat accept"},
		{packet: udp(good, 22)},
		{packet: udp(good6, 443)},
	}},
	{"marks travel from rule to rule and chain to chain", `table ip m {
	chain pre { type filter hook prerouting priority mangle; ip saddr 192.0.2.1 meta mark set 0x11 ct mark set meta mark; }
	chain in { type filter hook input priority 0
		meta mark & 0xf == 1 udp dport 22 drop
		ct mark 0x11 udp dport 80 drop
		meta mark != 0 udp dport 443 return
		meta l4proto udp ct original proto-dst 443 drop
	}
}`, []want{
		{packet: udp(bad, 22), dropped: true, by: "in: meta mark & 0xf == 0x1 udp dport 22 drop"},
		{packet: udp(bad, 80), dropped: true},
		{packet: udp(bad, 443)},
		{packet: udp(good, 22)},
		{packet: udp(good, 443), dropped: true},
	}},
	{"a set that is filled by packets", `table inet d {
	set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
	set flood { type ipv4_addr; flags dynamic; }
	chain in { type filter hook input priority 0
		add @seen { ip saddr }
		udp dport 22 add @flood { ip saddr limit rate over 1/hour burst 5 packets } drop
		ip saddr @seen udp dport 80 accept
	}
}`, []want{
		{packet: udp(bad, 22), doubt: true},
		{packet: udp(bad, 443)},
	}},
	{"accept in one base chain, drop by policy in another", `table inet one { chain in { type filter hook input priority 0; policy accept; udp dport 22 accept; }; }
table inet two { chain in { type filter hook input priority 10; policy drop; udp dport { 80 } accept; }; }`, []want{
		{packet: udp(good, 22), dropped: true, by: "in: "},
		{packet: udp(good, 80), by: "udp dport 80 accept"},
	}},
	{"a chain without a name", `table inet q {
	chain in { type filter hook input priority 0
		ip saddr 192.0.2.1 jump { udp dport 22 drop; udp dport 80 return; udp dport 443 drop; }
		ip saddr 192.0.2.2 drop
	}
}`, []want{
		{packet: udp(bad, 22), dropped: true},
		{packet: udp(bad, 80)},
		{packet: udp(good, 80), dropped: true},
	}},
	{"iptables for IPv6, with a table for marks and one without tracking", `
ip6tables-nft -t raw -A PREROUTING -p udp --dport 80 -j CT --notrack
ip6tables-nft -t mangle -A PREROUTING -s 2001:db8::1 -j MARK --set-xmark 0x1/0x1
ip6tables-nft -A INPUT -m mark --mark 0x1/0x3 -p udp -m multiport ! --dports 80,443 -j DROP
ip6tables-nft -A INPUT -m conntrack --ctstate UNTRACKED -s 2001:db8::2 -j DROP
ip6tables-nft -A INPUT -m iprange --src-range 2001:db8::1-2001:db8::5 -p udp --dport 443 -m pkttype --pkt-type unicast -j REJECT`, []want{
		{packet: udp(bad6, 22), dropped: true, by: "-m multiport --dports 80,443"},
		{packet: udp(bad6, 80)},
		{packet: udp(good6, 22)},
		{packet: udp(good6, 80), dropped: true, by: "-m conntrack --ctstate UNTRACKED"},
		{packet: udp(bad6, 443), doubt: true},
	}},
}
