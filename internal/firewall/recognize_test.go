package firewall

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func options(kv ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

// stockActions are the package's actions of the three families, with parameters
// as jails give them.
var stockActions = []struct {
	name, action string
	options      map[string]string
	kind         Kind
}{
	{"nftables for several ports", "nftables", options("port", "ssh,http,1000:1010"), KindNFTables},
	{"nftables-multiport for one port", "nftables-multiport", options("port", "ssh"), KindNFTables},
	{"nftables-multiport for every port", "nftables-multiport", options("port", "0:65535"), KindNFTables},
	{"nftables-multiport for two protocols and adjacent ports", "nftables-multiport", options("port", "80,81,443", "protocol", "tcp,udp"), KindNFTables},
	{"nftables-allports", "nftables-allports", options(), KindNFTables},
	{"nftables-allports for two protocols that are dropped", "nftables-allports", options("protocol", "tcp,udp", "blocktype", "drop"), KindNFTables},
	{"nftables of type allports, counted", "nftables", options("type", "allports", "blocktype", "counter drop"), KindNFTables},
	{"nftables with a reset, in chains of its own", "nftables", options("port", "22", "blocktype", "reject with tcp reset", "table", "mine", "chain", "c", "chain_hook", "forward", "chain_priority", "5"), KindNFTables},
	{"iptables", "iptables", options("port", "ssh"), KindIPTables},
	{"iptables-multiport", "iptables-multiport", options("port", "ssh,http,1000:1010"), KindIPTables},
	{"iptables-multiport for two protocols", "iptables-multiport", options("port", "22,80", "protocol", "tcp,udp"), KindIPTables},
	{"iptables-allports", "iptables-allports", options("blocktype", "DROP"), KindIPTables},
	{"iptables-new", "iptables-new", options("port", "ssh"), KindIPTables},
	{"iptables-ipset", "iptables-ipset", options("port", "ssh"), KindIPSet},
	{"iptables-ipset-proto6", "iptables-ipset-proto6", options("port", "ssh,http", "ipsettime", `$([ "<bantime>" -le 2147483 ] && echo "<bantime>" || echo 0)`), KindIPSet},
	{"iptables-ipset-proto6-allports", "iptables-ipset-proto6-allports", options("blocktype", "DROP"), KindIPSet},
}

func TestStockActionsAreRecognized(t *testing.T) {
	p := newPeer(t, nil)
	for _, tt := range stockActions {
		t.Run(tt.name, func(t *testing.T) {
			inet4, inet6 := p.commands(tt.action, "sshd", tt.options)
			began := time.Now()
			n, err := Recognize("sshd", tt.action, inet4, inet6)
			t.Log(time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
			if n.Inet4.Kind != tt.kind || n.Inet6.Kind != tt.kind || n.Inet4.V6 || !n.Inet6.V6 {
				t.Errorf("recognized as %s and %s, want %s", n.Inet4, n.Inet6, tt.kind)
			}
		})
	}
}

func TestOtherStockActionsAreShell(t *testing.T) {
	p := newPeer(t, nil)
	for _, action := range []string{
		"iptables-ipset-proto4", "iptables-multiport-log", "iptables-xt_recent-echo", "route", "hostsdeny",
		"firewallcmd-new", "firewallcmd-ipset", "shorewall", "ufw", "pf", "ipfw", "npf", "mail", "dummy", "cloudflare", "blocklist_de",
	} {
		t.Run(action, func(t *testing.T) {
			inet4, inet6 := p.commands(action, "sshd", options("port", "ssh"))
			_, err := Recognize("sshd", action, inet4, inet6)
			if !errors.Is(err, ErrShell) {
				t.Errorf("the error is %v, want one that says why it is shell", err)
			}
			t.Log(err)
		})
	}
}

// What an administrator changed decides by what it does, not by how it reads.
func TestChangedActions(t *testing.T) {
	p := newPeer(t, nil)
	tests := []struct {
		name, action string
		change       func(c *Commands)
		why          string // empty if it stays native
	}{
		{"a comment and another layout", "nftables", func(c *Commands) { c.Ban = "# ban them\n\n  " + c.Ban }, ""},
		{"an absolute path of nft", "nftables", func(c *Commands) { *c = each(*c, "nft ", "/usr/sbin/nft ") }, ""},
		{"a waiting iptables with a number", "iptables-multiport", func(c *Commands) { *c = each(*c, " -w ", " -w 5 ") }, ""},
		{"another target", "iptables-allports", func(c *Commands) { *c = each(*c, "REJECT --reject-with icmp-port-unreachable", "DROP") }, ""},
		{"a set that is larger", "iptables-ipset-proto6", func(c *Commands) { *c = each(*c, "timeout 0 ", "timeout 0 maxelem 1000000 ") }, ""},
		{"running connections ended as well", "nftables", func(c *Commands) { c.Ban += "\nconntrack -D -s <ip>" }, `"conntrack"`},
		{"a log of its own", "iptables-multiport", func(c *Commands) { c.Ban += "\necho <ip> >> /var/log/bans" }, "redirection"},
		{"the lines sent along", "nftables", func(c *Commands) { c.Ban += "\ntrue '<matches>'" }, "<matches>"},
		{"a ban in the background", "nftables", func(c *Commands) { c.Ban += " &" }, "background"},
		{"a friend spared", "nftables", func(c *Commands) { c.Ban = "[ <ip> = 192.0.2.1 ] || " + c.Ban }, "by the address"},
		{"an unban that does nothing", "nftables", func(c *Commands) { c.Unban = "true" }, "undo"},
		{"a start that flushes everything", "nftables", func(c *Commands) { c.Start = "nft flush ruleset\n" + c.Start }, "nft flush ruleset"},
		{"a stop that deletes the whole table", "nftables", func(c *Commands) { c.Stop = "nft delete table inet f2b-table" }, "actionstop"},
		{"a stop that leaves the rule", "iptables-ipset", func(c *Commands) { c.Stop = "ipset flush f2b-sshd" }, "actionstop"},
		{"two sets", "iptables-ipset", func(c *Commands) { c.Start = "ipset -exist create more hash:ip timeout 0\n" + c.Start }, "more than one"},
		{"sets of lists", "iptables-ipset", func(c *Commands) { *c = each(*c, "hash:ip", "list:set") }, "hash:ip"},
		{"a set that exempts", "iptables-ipset", func(c *Commands) { *c = each(*c, "-m set --match-set", "-m set ! --match-set") }, "look up"},
		{"the other direction", "iptables-ipset", func(c *Commands) { *c = each(*c, " src ", " dst ") }, "look up"},
		{"another table", "iptables-allports", func(c *Commands) { *c = each(*c, "iptables -w", "iptables -t mangle -w") }, "mangle"},
		{"a jump to a chain of one's own", "iptables-allports", func(c *Commands) {
			c.Ban = strings.ReplaceAll(c.Ban, "-s <ip>", "-m limit -s <ip>")
			c.Unban = strings.ReplaceAll(c.Unban, "-s <ip>", "-m limit -s <ip>")
		}, "actionban"},
		{"a table that is not inet", "nftables", func(c *Commands) { *c = each(*c, " inet ", " ip ") }, "family ip"},
		{"a set with a size", "nftables", func(c *Commands) { *c = each(*c, `type ipv4_addr\;`, `type ipv4_addr\; size 100\;`) }, "size 100"},
		{"a rule that asks for more", "nftables", func(c *Commands) { *c = each(*c, "saddr", "saddr != 192.0.2.1 ip saddr") }, "rule is"},
		{"a mark instead of an end", "nftables", func(c *Commands) { *c = each(*c, " reject", " meta mark set 1") }, "blocktype"},
		{"a ban that never ends", "nftables", func(c *Commands) { c.Ban = "while true; do true; done" }, "does not end"},
		{"a ban prolonged in its own way", "nftables", func(c *Commands) { c.Prolong = "true" }, "actionprolong"},
		{"a ban that depends on a file", "nftables", func(c *Commands) { c.Ban = "[ -e /etc/friends ] || " + c.Ban }, "files"},
		{"a program named by a variable", "nftables", func(c *Commands) { c.Ban = "X=reboot; $X" }, `"reboot"`},
		{"a sourced file", "nftables", func(c *Commands) { c.Ban = ". /etc/x; " + c.Ban }, `"."`},
		{"shell that does not parse", "nftables", func(c *Commands) { c.Ban = "if" }, "understand"},
		{"nothing for bans", "nftables", func(c *Commands) { c.Ban = "" }, "no actionstart"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inet4, _ := p.commands(tt.action, "sshd", options("port", "22"))
			if _, err := Recognize("sshd", tt.action, inet4, nil); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			tt.change(inet4)
			_, err := Recognize("sshd", tt.action, inet4, nil)
			switch {
			case tt.why == "" && err != nil:
				t.Errorf("%v", err)
			case tt.why != "" && (!errors.Is(err, ErrShell) || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("the error is %v, want one with %q", err, tt.why)
			}
		})
	}
}

// each replaces a text in all commands.
func each(c Commands, from, to string) Commands {
	for _, text := range []*string{&c.Start, &c.Stop, &c.Check, &c.Ban, &c.Unban, &c.Flush} {
		*text = strings.ReplaceAll(*text, from, to)
	}
	return c
}
