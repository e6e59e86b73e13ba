package firewall

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bantam"
	"bantam/internal/nstest"
)

// nftCommands are what an nftables action runs for one family, in words of our own:
// set with interval flags, rules as given with @SET and FAMILY.
func nftCommands(v6 bool, name string, rules ...string) *Commands {
	set, family, typ := "addr-set-"+name, "ip", "ipv4_addr"
	if v6 {
		set, family, typ = "addr6-set-"+name, "ip6", "ipv6_addr"
	}
	start := "nft add table inet f2b-table; nft add chain inet f2b-table f2b-chain '{ type filter hook input priority -1; }'\n" +
		"nft add set inet f2b-table " + set + ` \{ type ` + typ + `\; flags interval\; \}`
	for _, r := range rules {
		start += "\nnft add rule inet f2b-table f2b-chain '" + strings.NewReplacer("SET", set, "FAMILY", family).Replace(r) + "'"
	}
	return &Commands{
		Start: start,
		Stop: "nft -a list chain inet f2b-table f2b-chain | sed -nE 's/.*@" + set + " .*# handle ([0-9]+)$/\\1/p' | while read -r h; do nft delete rule inet f2b-table f2b-chain handle $h; done\n" +
			"nft delete set inet f2b-table " + set + "\nif ! nft list table inet f2b-table | grep -qE '^\\s+set '; then nft delete table inet f2b-table; fi",
		Check: "nft list chain inet f2b-table f2b-chain | grep -q '@" + set + " '",
		Ban:   "nft add element inet f2b-table " + set + ` \{ <ip> \}`,
		Unban: "nft delete element inet f2b-table " + set + ` \{ <ip> \}`,
		Flush: "nft flush set inet f2b-table " + set,
	}
}

func mustRecognize(t *testing.T, jail string, inet4, inet6 *Commands) Native {
	t.Helper()
	n, err := Recognize(jail, jail, inet4, inet6)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The rules of spec/server.md 4.1 as nft prints them, for the forms that the
// package's version does not have, too.
func TestNFTListing(t *testing.T) {
	const ports = "{ 22, 80, 1000-1010 }"
	jails := []struct {
		name  string
		rules []string // with reject or what is done instead
	}{
		{"nm", []string{"tcp dport " + ports + " FAMILY saddr @SET reject"}},
		{"nm2", []string{"tcp dport " + ports + " FAMILY saddr @SET reject", "udp dport " + ports + " FAMILY saddr @SET reject"}},
		{"na", []string{"meta l4proto tcp FAMILY saddr @SET reject"}},
		{"nab", []string{"meta l4proto { tcp, udp } FAMILY saddr @SET reject"}},
		{"na2", []string{"FAMILY saddr @SET drop"}},
		{"nmall", []string{"th dport " + ports + " FAMILY saddr @SET reject"}},
		{"n1", []string{"tcp dport 22 FAMILY saddr @SET reject"}},
		{"nr", []string{"tcp dport 0-65535 FAMILY saddr @SET reject"}},
		{"nadj", []string{"tcp dport { 80, 81, 443 } FAMILY saddr @SET reject"}},
		{"nc", []string{"tcp dport 22 FAMILY saddr @SET counter drop"}},
		{"nrst", []string{"tcp dport 22 FAMILY saddr @SET reject with tcp reset"}},
		{"nadm", []string{"tcp dport 22 FAMILY saddr @SET reject with icmpx admin-prohibited"}},
	}
	net := nstest.New(t)
	s := stockIn(t, net)
	var natives []Native
	var want []string
	for _, j := range jails {
		natives = append(natives, mustRecognize(t, j.name, nftCommands(false, j.name, j.rules...), nftCommands(true, j.name, j.rules...)))
		for _, f := range []struct{ set, family, reject string }{
			{"addr-set-", "ip", "reject with icmp port-unreachable"}, {"addr6-set-", "ip6", "reject with icmpv6 port-unreachable"},
		} {
			for _, r := range j.rules {
				r = strings.NewReplacer("@SET", "@"+f.set+j.name, "FAMILY", f.family).Replace(r)
				if strings.HasSuffix(r, "reject") {
					r = strings.TrimSuffix(r, "reject") + f.reject
				}
				want = append(want, strings.Replace(r, "counter", "counter packets 0 bytes 0", 1))
			}
		}
	}
	configure(t, s, natives...)
	for _, j := range jails {
		do(t, s, bantam.Start, j.name, "203.0.113.5", "2001:db8::5")
	}
	var got []string
	listing := output(t, net, "nft", "list", "ruleset")
	for line := range strings.Lines(listing) {
		if line = strings.TrimSpace(line); strings.Contains(line, "saddr @") {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the rules are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, line := range []string{"table inet f2b-table {", "type filter hook input priority filter - 1; policy accept;", "set addr6-set-nmall {"} {
		if !strings.Contains(listing, line) {
			t.Errorf("%q is not in\n%s", line, listing)
		}
	}
}

// iptCommands are what an iptables or ipset action runs for one family: rules are
// what is inserted into each chain for each protocol.
func iptCommands(program, chains string, rules []string, before, after, ban, unban, flush string) *Commands {
	var add, del strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&add, "for c in $(echo '%s' | sed 's/,/ /g'); do\n{ %s -C $c %s >/dev/null 2>&1; } || { %s -I $c %s; }\ndone\n", chains, program, r, program, r)
		fmt.Fprintf(&del, "for c in $(echo '%s' | sed 's/,/ /g'); do\n%s -D $c %s\ndone\n", chains, program, r)
	}
	return &Commands{Start: before + "\n" + add.String(), Stop: del.String() + after, Ban: ban, Unban: unban, Flush: flush}
}

// The rules of spec/server.md 4.2 and 4.3, for the forms that the package's version
// does not have.
func TestIPTablesListing(t *testing.T) {
	net := nstest.New(t)
	s := stockIn(t, net)
	chain := func(jail, chains string, rules ...string) Native {
		of := func(program, reject string) *Commands {
			own, block := "f2b-"+jail, "-j REJECT --reject-with "+reject
			return iptCommands(program+" -w", chains, rules, fmt.Sprintf("%s -N %s; %s -A %s -j RETURN", program, own, program, own),
				fmt.Sprintf("%s -F %s; %s -X %s", program, own, program, own),
				program+" -I "+own+" 1 -s <ip> "+block, program+" -D "+own+" -s <ip> "+block, program+" -F "+own)
		}
		return mustRecognize(t, jail, of("iptables", "icmp-port-unreachable"), of("ip6tables", "icmp6-port-unreachable"))
	}
	set := func(jail, typ string, rules ...string) Native {
		of := func(program, set, family string) *Commands {
			return iptCommands(program, "INPUT", withSet(rules, set), "ipset -exist create "+set+" "+typ+" timeout 0 maxelem 65536 "+family,
				"ipset flush "+set+"\nipset destroy "+set+" 2>/dev/null || { sleep 1; ipset destroy "+set+"; }",
				"ipset -exist add "+set+" <ip> timeout 0", "ipset -exist del "+set+" <ip>", "ipset flush "+set)
		}
		return mustRecognize(t, jail, of("iptables", "f2b-"+jail, ""), of("ip6tables", "f2b-"+jail+"6", "family inet6"))
	}
	configure(t, s,
		chain("i2", "INPUT,FORWARD", "-p tcp -m multiport --dports 22,80,1000:1010 -j f2b-i2", "-p udp -m multiport --dports 22,80,1000:1010 -j f2b-i2"),
		chain("inew", "INPUT", "-m state --state NEW -p tcp --dport 22 -j f2b-inew"),
		chain("all", "INPUT", "-j f2b-all"),
		set("iset", "hash:ip", "-p tcp -m multiport --dports 22,80 -m set --match-set SET src -j DROP"),
		set("isetall", "hash:ip", "-m set --match-set SET src -j DROP"),
		set("isett", "hash:net", "-p tcp -m set --match-set SET src -j DROP"),
	)
	for _, jail := range []string{"i2", "inew", "all", "iset", "isetall", "isett"} {
		do(t, s, bantam.Start, jail, "203.0.113.5", "198.51.100.0/24", "2001:db8::5")
	}
	listing := output(t, net, "iptables", "-S")
	want := []string{
		"-N f2b-i2", "-N f2b-inew", "-N f2b-all",
		"-A INPUT -j f2b-all",
		"-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j f2b-inew",
		"-A INPUT -p udp -m multiport --dports 22,80,1000:1010 -j f2b-i2",
		"-A INPUT -p tcp -m multiport --dports 22,80,1000:1010 -j f2b-i2",
		"-A FORWARD -p udp -m multiport --dports 22,80,1000:1010 -j f2b-i2",
		"-A FORWARD -p tcp -m multiport --dports 22,80,1000:1010 -j f2b-i2",
		"-A f2b-i2 -s 198.51.100.0/24 -j REJECT --reject-with icmp-port-unreachable",
		"-A f2b-i2 -s 203.0.113.5/32 -j REJECT --reject-with icmp-port-unreachable",
		"-A f2b-i2 -j RETURN",
		"-A INPUT -p tcp -m multiport --dports 22,80 -m set --match-set f2b-iset src -j DROP",
		"-A INPUT -m set --match-set f2b-isetall src -j DROP",
		"-A INPUT -p tcp -m set --match-set f2b-isett src -j DROP",
		"-A INPUT -p tcp -m multiport --dports 22,80 -m set --match-set n2b-iset src -j DROP",
		"-A INPUT -m set --match-set n2b-isetall src -j DROP",
	}
	for _, line := range want {
		if strings.Count(listing, line+"\n") != 1 {
			t.Errorf("there is not one %q in\n%s", line, listing)
		}
	}
	for _, line := range []string{"-A f2b-i2 -s 2001:db8::5/128 -j REJECT --reject-with icmp6-port-unreachable", "-A INPUT -m set --match-set f2b-isetall6 src -j DROP"} {
		if listing := output(t, net, "ip6tables", "-S"); !strings.Contains(listing, line) {
			t.Errorf("%q is not in\n%s", line, listing)
		}
	}
	sets := output(t, net, "ipset", "save")
	for _, line := range []string{
		"create f2b-iset hash:ip family inet hashsize 1024 maxelem 65536 timeout 0", "create f2b-iset6 hash:ip family inet6 hashsize 1024 maxelem 65536 timeout 0",
		"add f2b-iset 203.0.113.5 timeout 3", "add n2b-iset 198.51.100.0/24 timeout 3", "create f2b-isett hash:net", "add f2b-isett 198.51.100.0/24 timeout",
	} {
		if !strings.Contains(sets, line) {
			t.Errorf("%q is not in\n%s", line, sets)
		}
	}
}

func withSet(rules []string, set string) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = strings.ReplaceAll(r, "SET", set)
	}
	return out
}
