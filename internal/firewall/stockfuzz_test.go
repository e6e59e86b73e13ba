package firewall

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Whatever an action file says, it is judged in bounded time, without a program
// being run or a file opened, and what is native has a way to ban and to stop.
func FuzzRecognize(f *testing.F) {
	for _, c := range []Commands{
		{
			Start: "nft add table inet f2b-table\nnft -- add chain inet f2b-table f2b-chain \\{ type filter hook input priority -1 \\; \\}\n" +
				"nft add set inet f2b-table addr-set-x \\{ type ipv4_addr\\; flags interval\\; \\}\n" +
				"for p in $(echo 'tcp,udp' | sed 's/,/ /g'); do nft add rule inet f2b-table f2b-chain $p dport \\{ $(echo '22,80:90' | sed s/:/-/g) \\} ip saddr @addr-set-x reject\ndone",
			Stop: "{ nft -a list chain inet f2b-table f2b-chain | grep -oP '@addr-set-x\\s+.*\\s+\\Khandle\\s+(\\d+)$'; } | while read -r hdl; do\n" +
				"nft delete rule inet f2b-table f2b-chain $hdl; done\nnft delete set inet f2b-table addr-set-x",
			Check: "nft list chain inet f2b-table f2b-chain | grep -q '@addr-set-x[ \\t]'",
			Ban:   "nft add element inet f2b-table addr-set-x \\{ <ip> \\}",
			Unban: "nft delete element inet f2b-table addr-set-x \\{ <ip> \\}",
			Flush: "nft flush set inet f2b-table addr-set-x",
		},
		{
			Start: "ipset -exist create f2b-x hash:ip timeout 0 maxelem 65536\niptables -w -I INPUT -p tcp -m set --match-set f2b-x src -j DROP",
			Stop:  "iptables -w -D INPUT -p tcp -m set --match-set f2b-x src -j DROP\nipset flush f2b-x\nipset destroy f2b-x || { sleep 1; ipset destroy f2b-x; }",
			Ban:   "ipset -exist add f2b-x <ip> timeout $([ <bantime> -le 2147483 ] && echo <bantime> || echo 0)", Unban: "ipset -exist del f2b-x <ip>", Flush: "ipset flush f2b-x",
		},
		{
			Start: "iptables -w -N f2b-x\niptables -w -A f2b-x -j RETURN\niptables -w -I INPUT -p tcp -m multiport --dports 22 -j f2b-x",
			Stop:  "iptables -w -D INPUT -p tcp -m multiport --dports 22 -j f2b-x\niptables -w -F f2b-x\niptables -w -X f2b-x",
			Ban:   "iptables -w -I f2b-x 1 -s <ip> -j DROP", Unban: "iptables -w -D f2b-x -s <ip> -j DROP",
		},
	} {
		f.Add(c.Start, c.Stop, c.Check, c.Ban, c.Unban, c.Flush)
	}
	f.Add("while :; do :; done", "x", "", "$(", "<ip>", "`reboot`")
	f.Add("for i in 1 2 3; do for j in $i; do echo $j | sed s/1/2/; done; done", "set -- *", "", "[ -e /etc/passwd ]", "read x", "printf %d 0x")
	f.Fuzz(func(t *testing.T, start, stop, check, ban, unban, flush string) {
		began := time.Now()
		n, err := Recognize("x", "x", &Commands{Start: start, Stop: stop, Check: check, Ban: ban, Unban: unban, Flush: flush}, nil)
		if took := time.Since(began); took > 8*rehearsalTime {
			t.Errorf("it took %v", took)
		}
		if err != nil {
			if !errors.Is(err, ErrShell) {
				t.Errorf("the error %v is of no kind", err)
			}
			return
		}
		o := n.Inet4
		switch o.Kind {
		case KindNFTables:
			if o.Table == "" || o.Chain == "" || o.Set == "" || len(o.matches) == 0 || o.Set == o.RangeSet {
				t.Errorf("native without its objects: %+v", o)
			}
		case KindIPSet:
			if o.Set == "" || len(o.Set) > ipsetNameLen || len(o.RangeSet) > ipsetNameLen || len(o.jumps) == 0 {
				t.Errorf("native without its objects: %+v", o)
			}
		case KindIPTables:
			if o.Own == "" || len(o.rule) < 2 || len(o.jumps) == 0 {
				t.Errorf("native without its objects: %+v", o)
			}
		default:
			t.Errorf("native of no kind: %+v", o)
		}
		if o.Kind == KindNFTables {
			return
		}
		// What is written for iptables-restore has one line for each rule.
		obj := &object{Objects: o, want: map[netip.Prefix]time.Time{probe4: {}}}
		var b strings.Builder
		lines := len(o.jumps)
		if o.Kind == KindIPSet {
			obj.lookUpRules(&b, o.Set)
		} else {
			obj.rewrite(&b, parseSaved(""))
			lines += 2 + len(o.last)
		}
		if got := strings.Count(b.String(), "\n"); got != lines {
			t.Errorf("%d lines for %d rules:\n%s", got, lines, b.String())
		}
	})
}

// What iptables-save prints is read whatever it is, and what is dropped of it are
// whole lines.
func FuzzParseSaved(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT [0:0]\n:f2b-x - [0:0]\n-A INPUT -p tcp -m multiport --dports 22 -j f2b-x\n-A f2b-x -s 192.0.2.1/32 -j DROP\nCOMMIT\n", "f2b-x")
	f.Add("-A INPUT -m set --match-set f2b-x src -j DROP", "f2b-x")
	f.Add(":\n-A \n-A x\n", "")
	f.Fuzz(func(t *testing.T, out, name string) {
		s := parseSaved(out)
		for _, r := range append(s.jumpsTo(name), s.lookUps(name)...) {
			var b strings.Builder
			r.drop(&b)
			if strings.Count(b.String(), "\n") != 1 || !strings.Contains(out, r.line) {
				t.Errorf("%q is dropped as %q", r.line, b.String())
			}
		}
	})
}

func FuzzIPSetHeader(f *testing.F) {
	f.Add([]byte{5, 0, 1, 0, 6, 0, 0, 0, 8, 0, 3, 0, 'a', 'b', 'c', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if parseIPSetHeader(b) == nil {
			t.Error("no header")
		}
		parseRuleEntry(b)
	})
}
