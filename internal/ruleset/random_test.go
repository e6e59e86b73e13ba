package ruleset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A grammar writes small rulesets for nft.
type grammar struct {
	*rand.Rand
	out strings.Builder
	nat bool
}

func (g *grammar) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g *grammar) ruleset() string {
	for i := range 1 + g.IntN(3) {
		g.table(i)
	}
	return g.out.String()
}

func (g *grammar) table(i int) {
	family := g.pick("inet", "inet", "ip", "ip6", "netdev")
	fmt.Fprintf(&g.out, "table %s t%d {\n", family, i)
	if family != "ip6" {
		fmt.Fprintln(&g.out, `	set s4 { type ipv4_addr; flags interval; elements = { 192.0.2.1, 192.0.2.4-192.0.2.6 } }
	set h4 { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.3 } }
	set c4 { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 22, 192.0.2.2 . 80 } }
	set r4 { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/31 . 20-80 } }`)
	}
	if family != "ip" {
		fmt.Fprintln(&g.out, `	set s6 { type ipv6_addr; flags interval; elements = { 2001:db8::/127 } }
	set h6 { type ipv6_addr; elements = { 2001:db8::1 } }`)
	}
	n := 1 + g.IntN(3)
	for c := n - 1; c >= 0; c-- {
		fmt.Fprintf(&g.out, "	chain c%d {\n", c)
		for range 1 + g.IntN(3) {
			g.rule(family, "", c+1, n)
		}
		fmt.Fprintln(&g.out, "	}")
	}
	for b := range 1 + g.IntN(3) {
		hook, priority, kind := g.pick("prerouting", "prerouting", "input", "input", "forward"), g.pick("-350", "-300", "-150", "-10", "0", "5"), "filter"
		device := ""
		switch {
		case family == "netdev":
			hook, device = "ingress", ` device "client1"`
		case g.IntN(6) == 0:
			kind, hook, priority = "nat", "prerouting", g.pick("-100", "-110")
			g.nat = true
		}
		fmt.Fprintf(&g.out, "	chain b%d { type %s hook %s%s priority %s; policy %s;\n", b, kind, hook, device, priority, g.pick("accept", "accept", "drop"))
		where := hook
		if kind == "nat" {
			where = "nat"
		}
		for range 1 + g.IntN(5) {
			g.rule(family, where, 0, n)
		}
		fmt.Fprintln(&g.out, "	}")
	}
	fmt.Fprintln(&g.out, "}")
}

func (g *grammar) rule(family, hook string, from, to int) {
	// nft refuses rules that speak of two families or protocols.
	only := map[string]string{"ip": "ip", "ip6": "ip6"}[family]
	if only == "" {
		only = g.pick("ip", "ip", "ip6")
	}
	var words []string
	for range g.IntN(3) {
		words = append(words, g.condition(family, only))
	}
	verdicts := []string{"accept", "drop", "drop", "return", "meta mark set 1", "meta mark set meta mark or 2", "counter"}
	if from < to {
		for _, chain := range []string{fmt.Sprintf("c%d", from+g.IntN(to-from)), fmt.Sprintf("c%d", from+g.IntN(to-from))} {
			verdicts = append(verdicts, "jump "+chain, "jump "+chain, "goto "+chain, "udp dport vmap { 22 : drop, 80 : jump "+chain+", 81-500 : accept }")
		}
	}
	if only == "ip" {
		verdicts = append(verdicts, "ip saddr vmap { 192.0.2.1 : drop, 192.0.2.2 : accept, 192.0.2.3 : return }")
	}
	if hook == "input" {
		verdicts = append(verdicts, "reject")
	}
	if hook == "prerouting" {
		verdicts = append(verdicts, "notrack")
	}
	if hook == "nat" {
		if only == "ip" {
			to := "dnat to 172.17.0.2:80"
			if family == "inet" {
				to = "dnat ip to 172.17.0.2:80"
			}
			verdicts = append(verdicts, "udp dport { 80, 443 } "+to, "meta l4proto udp "+to)
		}
		if only == "ip" {
			// For IPv6 the interface has no address of that scope, and the kernel drops (nf_nat_redirect_ipv6).
			verdicts = append(verdicts, "ip protocol udp udp dport 443 redirect to :22", "ip protocol udp redirect")
		}
	}
	words = append(words, g.pick(verdicts...))
	fmt.Fprintf(&g.out, "		%s\n", strings.Join(words, " "))
}

func (g *grammar) condition(family, only string) string {
	all := []string{
		"udp dport 22", "udp dport { 22, 80 }", "udp dport != 80", "udp dport 22-100", "udp dport > 79", "th dport 22",
		"udp dport != { 20-79, 443 }", "meta l4proto udp", "meta l4proto != tcp", `iifname "client1"`, `iifname != "lo"`, `iifname "client*"`,
		`iifname "eth0"`, "meta mark 1", "meta mark & 2 == 2", "meta mark < 2", "udp sport > 1", "counter",
		"meta pkttype host", "limit rate 5/second", "meta cpu 0",
	}
	if family != "netdev" {
		all = append(all, "ct state new", "ct state established", "ct state != established", "ct state { established, untracked }", "ct state invalid",
			"fib daddr type local", "fib saddr type != local", "ct mark 0", "meta l4proto udp ct original proto-dst 80", "ct direction original", "ct status dnat",
			`iif "client1"`)
	}
	if only == "ip" {
		four := []string{"ip saddr 192.0.2.1", "ip saddr != 192.0.2.2", "ip saddr { 192.0.2.1, 192.0.2.2 }", "ip saddr 192.0.2.2/31", "ip saddr @s4", "ip saddr != @h4", "ip saddr @h4", "ip daddr 10.99.0.1", "ip saddr . udp dport @c4", "ip saddr . udp dport @r4", "ip protocol udp", "ip ttl > 1", "ip saddr & 0.0.0.3 == 2", "ip saddr 192.0.2.0/24", "ip daddr != 10.0.0.0/8", "ip saddr >= 192.0.2.3"}
		all = append(all, four...)
	}
	if only == "ip6" {
		all = append(all, "meta protocol ip6")
		all = append(all, "ip6 saddr 2001:db8::1", "ip6 saddr @s6", "ip6 saddr != @h6", "ip6 nexthdr udp", "ip6 daddr fd99::/64")
	}
	if family == "inet" && only == "ip" {
		all = append(all, "meta nfproto ipv4", "meta nfproto { ipv4 }")
	}
	return g.pick(all...)
}

// TestWalkAgreesWithTheKernel sends packets through rulesets made by chance.
func TestWalkAgreesWithTheKernel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	agree(t, seed, 50)
}

func agree(t *testing.T, seed uint64, rulesets int) {
	w := newWorld(t)
	w.clear()
	var probes []probe
	for _, from := range []string{bad, good, "192.0.2.3", bad6, good6} {
		for _, port := range []uint16{22, 80, 443} {
			probes = append(probes, udp(from, port)(w))
		}
	}
	for _, from := range []string{bad, good6} {
		probes = append(probes, running(from, 80)(w))
	}
	certain, dropped := 0, 0
	for i := range rulesets {
		g := &grammar{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		rules := g.ruleset()
		w.nft("flush ruleset\n" + rules)
		r := w.read()
		var paths []Path
		var sent []string
		for _, p := range probes {
			if p.packet.Established && g.nat {
				// It began before there was any rule that could change its destination.
				paths, sent = append(paths, Path{Doubts: []string{""}}), append(sent, "")
				continue
			}
			paths = append(paths, r.Walk(p.packet))
			c := p.conn
			if c == nil {
				c = w.dial(p.packet)
			}
			sent = append(sent, w.send(c))
			if p.conn == nil {
				defer c.Close()
			}
		}
		arrived := w.collect(sent, paths)
		for j, path := range paths {
			p, came := probes[j].packet, slices.Contains(arrived, sent[j])
			if path.Dropped && came || !path.Dropped && len(path.Doubts) == 0 && !came {
				t.Errorf("seed %d, ruleset %d: of %+v Walk says dropped %v, and it came is %v: %+v\n%s", seed, i, p, path.Dropped, came, path, rules)
			}
			if len(path.Doubts) == 0 {
				certain++
			}
			if path.Dropped {
				dropped++
			}
			// To know less must not make it surer.
			p.In = ""
			if blind := r.Walk(p); blind.Dropped && came {
				t.Errorf("seed %d, ruleset %d: of %+v Walk says it is dropped, but it came: %+v\n%s", seed, i, p, blind, rules)
			}
		}
		_ = r.Close()
	}
	t.Logf("%d of %d answers without a doubt, %d dropped", certain, rulesets*len(probes), dropped)
	if certain < rulesets*len(probes)/2 || dropped < rulesets {
		t.Errorf("only %d of %d answers are without a doubt, and %d of packets dropped", certain, rulesets*len(probes), dropped)
	}
}

// collect waits for the packets that must come, and a moment longer for those that must not.
func (w *world) collect(sent []string, paths []Path) []string {
	missing := make(map[string]bool)
	for i, p := range paths {
		if !p.Dropped && len(p.Doubts) == 0 {
			missing[sent[i]] = true
		}
	}
	var arrived []string
	late := time.NewTimer(soon)
	defer late.Stop()
	for len(missing) > 0 {
		select {
		case got := <-w.arrived:
			arrived = append(arrived, got)
			delete(missing, got)
		case <-late.C:
			return arrived
		}
	}
	end := time.NewTimer(never)
	defer end.Stop()
	for {
		select {
		case got := <-w.arrived:
			arrived = append(arrived, got)
		case <-end.C:
			return arrived
		}
	}
}
