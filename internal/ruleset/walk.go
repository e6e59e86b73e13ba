package ruleset

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a walk. A ruleset that asks for more is answered with a doubt.
const (
	maxRuns  = 512     // ways through a ruleset that were tried, one for each set of assumptions
	maxRules = 1 << 22 // rules judged, in all runs together
	maxDepth = 64      // chains within chains; nftables allows 16
)

// A tri is the answer to a condition.
type tri int8

const (
	no tri = iota
	yes
	maybe
)

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

func (t tri) invert(really bool) tri {
	if !really || t == maybe {
		return t
	}
	return truth(t == no)
}

// A verdictKind says what a rule does with the packet.
type verdictKind int8

const (
	proceed verdictKind = iota // to the next rule
	accept
	drop
	reject
	queue
	jump
	leap // goto
	back // return, or the end of the chain
)

func (k verdictKind) String() string {
	return [...]string{"continue", "accept", "drop", "reject", "queue", "jump", "goto", "return"}[k]
}

// drops reports whether the packet ends there.
func (k verdictKind) drops() bool { return k == drop || k == reject }

type verdict struct {
	kind  verdictKind
	chain string // of jump and leap
}

type chainKey struct{ family, table, name string }

// A chain of nftables or of the older iptables.
type chain struct {
	chainKey
	protocol uint8 // NFPROTO_…
	hook     string
	priority int32
	kind     string // filter, nat, route
	policy   verdictKind
	devices  []string // of ingress; a * at the end stands for any rest
	order    int      // in which it was listed
	rules    []*rule
	offloads bool // connections into a flow table
	tracks4  bool // a rule has connection tracking turned on for IPv4
	tracks6  bool
}

// A rule is a list of conditions and what is done when all hold.
type rule struct {
	chain  *chain
	handle uint64
	words  []word
	ops    []op
}

// An op is one condition or deed of a rule. It answers maybe with the reason.
type op func(w *walk, f *frame) (answer tri, reason string)

// A frame is what a rule works with while it is judged.
type frame struct {
	registers
	chain   *chain
	verdict *verdict
	// mark and ctMark are what the rule has set so far, if it matches; nil if it did not.
	mark, ctMark *field
	// deeds are what the rule changes, if it matches.
	deeds []func(*walk)
}

// A walk is a packet on its way.
type walk struct {
	r       *Ruleset
	p       Packet
	proto   uint8 // the transport protocol's number
	ignored map[*rule]bool
	asked   map[string]answer
	lists   map[string][]element // maps to verdicts
	ways    map[netip.Addr]way
	ipsets  map[string]bool // what was asked of them

	choices []choice
	runs    int
	judged  int
	state
}

// A choice is what was assumed at a rule that could not be judged, and whether the other was tried.
type choice struct{ value, last bool }

// A state is what changes within one run.
type state struct {
	next     int // choice
	dst      addr
	port     port
	mark     field
	ctMark   field
	tracked  bool // connection tracking has seen it
	skipped  bool // and was told not to
	shadow   bool // what the first packet of the connection met is being followed
	destined bool // its destination was changed
	local    bool // it was redirected to this host
	hook     string
	out      string // the interface it leaves by, if known
	path     Path
	accepted []*rule
}

// An addr is an address that may have become unknown on the way.
type addr struct {
	netip.Addr
	unknown bool
}

type port struct {
	number  uint16
	unknown bool
}

// A field is four bytes of which some bits may be unknown.
type field struct{ value, known uint32 }

// Walk follows a packet until it is dropped or handed to whoever listens, here or, if it is forwarded, elsewhere.
//
// The packet is taken to be the first of its connection, or one of a running connection if it says so. Where something
// cannot be judged, both is tried: Dropped is true only if the packet is dropped either way. A destination that a rule
// changes is followed, also that of a running connection, which is taken to have met the same rules at its start.
// Addresses of sets are asked of the kernel now, so that a set may have changed since Read.
func (r *Ruleset) Walk(p Packet) Path {
	p.Src, p.Dst = p.Src.Unmap().WithZone(""), p.Dst.Unmap().WithZone("")
	if !p.Src.IsValid() || !p.Dst.IsValid() || p.Src.Is4() != p.Dst.Is4() {
		return Path{Steps: []Step{}, Doubts: []string{fmt.Sprintf("no packet goes from %s to %s", p.Src, p.Dst)}}
	}
	w := &walk{r: r, p: p, asked: make(map[string]answer), lists: make(map[string][]element), ways: make(map[netip.Addr]way), ipsets: make(map[string]bool)}
	proto, ok := protocolNumber(p.Protocol, p.Src.Is6())
	if !ok {
		return Path{Steps: []Step{}, Doubts: []string{fmt.Sprintf("the protocol %q is not known", p.Protocol)}}
	}
	w.proto = proto
	path := w.explore()
	if !path.Dropped {
		w.blame(&path)
	}
	return path
}

// explore tries what may become of the packet until it passes once.
func (w *walk) explore() Path {
	w.choices, w.runs = nil, 0
	var first Path
	for {
		w.run()
		if !w.path.Dropped {
			return w.path
		}
		if w.runs+1 >= maxRuns || w.judged > maxRules {
			w.path.Dropped, w.path.By = false, nil
			w.doubt("there is too much that could not be judged to say that the packet is dropped whatever comes of it")
			return w.path
		}
		if w.runs++; w.runs == 1 {
			first = w.path
			// Whatever was assumed, the end is the same.
			first.Doubts = nil
		}
		for len(w.choices) > 0 && w.choices[len(w.choices)-1].last {
			w.choices = w.choices[:len(w.choices)-1]
		}
		if len(w.choices) == 0 {
			return first
		}
		c := &w.choices[len(w.choices)-1]
		c.value, c.last = !c.value, true
	}
}

// decide assumes something that could not be judged; guess is what is tried first.
func (w *walk) decide(guess bool, doubt, yes, no string) bool {
	if w.next == len(w.choices) {
		w.choices = append(w.choices, choice{value: guess})
	}
	value := w.choices[w.next].value
	w.next++
	if value {
		no = yes
	}
	w.doubt(doubt + "; " + no)
	return value
}

func (w *walk) doubt(s string) {
	if !slices.Contains(w.path.Doubts, s) {
		w.path.Doubts = append(w.path.Doubts, s)
	}
}

// run sends the packet through the hooks once.
func (w *walk) run() {
	w.state = state{
		dst: addr{Addr: w.p.Dst}, port: port{number: w.p.Port, unknown: !hasPorts(w.proto)},
		mark: field{known: ^uint32(0)}, ctMark: field{known: ^uint32(0)},
		path: Path{Steps: []Step{}},
	}
	if unread := w.r.unread[w.family()]; unread != "" {
		w.doubt(unread + "; taken to let the packet pass")
	}
	if w.r.changing {
		w.doubt("the rules changed all the time while they were read")
	}
	if w.p.Established {
		w.ctMark = field{}
	}
	if !w.pass("ingress") || w.offloaded() || !w.pass("prerouting") {
		return
	}
	if unread := w.r.unread[w.family()]; unread != "" && w.decide(false, unread, "taken to send it elsewhere", "taken to let it go its way") {
		return
	}
	if w.toThisHost() {
		w.pass("input")
		return
	}
	_ = w.pass("forward") && w.pass("postrouting")
}

// offloaded assumes, where that may be, that the connection is in a flow table: then no rule sees its packets.
func (w *walk) offloaded() bool {
	if !w.p.Established || !slices.ContainsFunc(w.r.chains, func(c *chain) bool { return c.offloads }) {
		return false
	}
	now := w.state
	w.translate("prerouting")
	local := w.toThisHost()
	now.next, now.path.Doubts = w.next, w.path.Doubts
	w.state = now
	return !local && w.decide(true, "a flow table takes running connections past the rules", "taken to hold this one", "taken not to hold this one")
}

// toThisHost is the routing decision.
func (w *walk) toThisHost() bool {
	if w.local {
		return true
	}
	if w.dst.unknown {
		return w.decide(false, "where the packet is sent on to is not known", "taken to be this host", "taken to be another host")
	}
	way, err := w.way(w.dst.Addr)
	if err != nil {
		return false
	}
	w.out = ""
	switch way.kind {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return true
	}
	if way.out != 0 {
		w.out, _ = w.r.kernel.linkName(way.out)
	}
	return false
}

func (w *walk) way(to netip.Addr) (way, error) {
	if known, ok := w.ways[to]; ok {
		return known, nil
	}
	found, err := w.r.kernel.routeTo(to)
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		found, err = way{kind: unix.RTN_UNREACHABLE}, nil
	}
	if err == nil {
		w.ways[to] = found
	}
	return found, err
}

// Where the kernel's own parts stand: linux/netfilter_ipv4.h.
const (
	conntrackPriority = -200
	dstNATPriority    = -100
	srcNATPriority    = 100
)

// at is where a base chain is called: those of nat stand together, among each other in the order of their own
// priorities (nf_nat_register_fn in net/netfilter/nf_nat_core.c).
func (c *chain) at() int32 {
	if c.kind != "nat" {
		return c.priority
	}
	if c.hook == "prerouting" {
		return dstNATPriority
	}
	return srcNATPriority
}

// base are the base chains of a hook in the order in which they see the packet.
func (w *walk) base(hook string) []*chain {
	var out []*chain
	for _, c := range w.r.chains {
		if c.hook == hook && w.concerns(c) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *chain) int {
		// Of equals the one made last comes first (nf_hook_entries_grow in net/netfilter/core.c).
		return cmp.Or(cmp.Compare(a.at(), b.at()), cmp.Compare(a.priority, b.priority), cmp.Compare(b.order, a.order))
	})
	return out
}

// concerns reports whether a base chain's family is that of the packet.
func (w *walk) concerns(c *chain) bool {
	switch c.protocol {
	case unix.NFPROTO_INET:
		return true
	case unix.NFPROTO_NETDEV:
		return c.hook == "ingress"
	}
	return c.protocol == w.family()
}

func (w *walk) family() uint8 {
	if w.p.Src.Is6() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// onDevice reports whether a chain that is bound to interfaces sees the packet.
func (w *walk) onDevice(c *chain) bool {
	if len(c.devices) == 0 {
		return true
	}
	for _, d := range c.devices {
		switch prefix, any := strings.CutSuffix(d, "*"); {
		case w.p.In == "":
		case d == w.p.In, any && strings.HasPrefix(w.p.In, prefix):
			return true
		}
	}
	if w.p.In != "" || slices.Equal(c.devices, []string{"lo"}) {
		return false
	}
	return w.decide(false, fmt.Sprintf("%s sees only packets of %s, and by which interface this one comes is not known", c.where(), strings.Join(c.devices, ", ")),
		"taken to come by it", "taken to come by another")
}

// pass sends the packet through a hook and reports whether it comes out.
func (w *walk) pass(hook string) bool {
	w.hook = hook
	for _, c := range w.base(hook) {
		if hook != "ingress" && (hook != "prerouting" || c.at() > conntrackPriority) && !w.skipped {
			w.tracked = true
		}
		if !w.onDevice(c) {
			continue
		}
		if c.kind == "nat" && (w.p.Established || w.skipped) {
			// Only the first packet of a connection comes here.
			if w.p.Established && !w.skipped && hook == "prerouting" {
				w.shadow = true
				w.through(c, 0)
				w.shadow = false
			}
			continue
		}
		if c.kind == "nat" && w.destined && hook == "prerouting" {
			continue // the first that gives a destination ends the others
		}
		if c.kind == "nat" && !w.tracking() {
			if len(c.rules) > 0 || c.policy != accept {
				w.doubt(c.where() + ": no rule turns on connection tracking, without which nat chains see no packet; taken not to see this one")
			}
			continue
		}
		if !w.step(c) {
			return false
		}
	}
	if hook == "prerouting" && !w.skipped {
		w.tracked = true
	}
	return true
}

// tracking reports whether a rule needs connection tracking, which the kernel turns on then for the rule's families
// (nf_ct_netns_get). A chain of type nat alone does not.
func (w *walk) tracking() bool {
	return slices.ContainsFunc(w.r.chains, func(c *chain) bool {
		return c.tracks4 && w.p.Src.Is4() || c.tracks6 && w.p.Src.Is6()
	})
}

// track notes that a rule of the chain needs connection tracking.
func (c *chain) track(family uint8) {
	c.tracks4 = c.tracks4 || family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_INET
	c.tracks6 = c.tracks6 || family == unix.NFPROTO_IPV6 || family == unix.NFPROTO_INET
}

// trackers are the matches and targets of iptables that need connection tracking.
var trackers = []string{
	"conntrack", "state", "connmark", "connlimit", "connbytes", "connlabel", "helper", "cluster",
	"DNAT", "SNAT", "REDIRECT", "MASQUERADE", "NETMAP", "CONNMARK", "CONNSECMARK", "CT", "SYNPROXY",
}

// translate follows what the nat chains of a hook do to a running connection.
func (w *walk) translate(hook string) {
	w.hook, w.tracked, w.shadow = hook, true, true
	for _, c := range w.base(hook) {
		if c.kind == "nat" && !w.destined {
			w.through(c, 0)
		}
	}
}

// step sends the packet through a base chain, writes down what came of it and reports whether it goes on.
func (w *walk) step(c *chain) bool {
	end := w.through(c, 0)
	s := Step{Hook: c.hook, Priority: int(c.priority), Family: c.family, Table: c.table, Chain: c.name, Verdict: end.kind.String()}
	switch {
	case end.rule != nil:
		s.Chain, s.Rule = end.rule.chain.name, w.text(end.rule)
	case end.kind == back && c.policy == accept:
		s.Verdict = proceed.String()
	case end.kind == back:
		s.Verdict, end.kind = c.policy.String(), c.policy
	}
	if end.kind == queue {
		// The program may let it go on at the next chain.
		s.Verdict = accept.String()
		w.doubt(fmt.Sprintf("%s: `%s`: a program decides; taken to accept", end.rule.chain.where(), s.Rule))
	}
	w.path.Steps = append(w.path.Steps, s)
	w.accepted = append(w.accepted, nil)
	if s.Verdict == accept.String() {
		w.accepted[len(w.accepted)-1] = end.rule
	}
	if end.kind.drops() {
		w.path.Dropped, w.path.By = true, &s
	}
	return !w.path.Dropped
}

// An end is how a chain was left.
type end struct {
	kind verdictKind
	rule *rule // that said so; nil for the end of the chain
}

// through sends the packet through a chain and those it calls.
func (w *walk) through(c *chain, depth int) end {
	if depth > maxDepth {
		w.doubt(fmt.Sprintf("%s: chains are nested too deeply; taken to accept", c.where()))
		return end{kind: accept}
	}
	for _, r := range c.rules {
		if w.judged++; w.judged > maxRules {
			return end{kind: back}
		}
		v := w.judge(c, r)
		switch v.kind {
		case proceed:
		case back:
			return end{kind: back}
		case jump, leap:
			to := w.r.names[chainKey{c.family, c.table, v.chain}]
			if to == nil {
				w.doubt(fmt.Sprintf("%s: `%s`: there is no chain or known target %q; taken to accept", c.where(), w.text(r), v.chain))
				return end{accept, r}
			}
			if e := w.through(to, depth+1); e.kind != back || v.kind == leap {
				return e
			}
		default:
			return end{v.kind, r}
		}
	}
	return end{kind: back}
}

// judge says what a rule does with the packet, and does it.
func (w *walk) judge(c *chain, r *rule) verdict {
	if w.ignored[r] {
		return verdict{}
	}
	f := frame{chain: c}
	var reasons []string
	for _, o := range r.ops {
		switch answer, reason := o(w, &f); answer {
		case no:
			return verdict{}
		case maybe:
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
		if f.verdict != nil {
			break
		}
	}
	if f.verdict == nil && len(f.deeds) == 0 {
		return verdict{}
	}
	if len(reasons) > 0 {
		guess := f.verdict != nil && (f.verdict.kind == accept || f.verdict.kind == queue)
		doubt := fmt.Sprintf("%s: `%s`: %s", r.chain.where(), w.text(r), strings.Join(reasons, ", "))
		if !w.decide(guess, doubt, "taken to match", "taken not to match") {
			return verdict{}
		}
	}
	for _, do := range f.deeds {
		do(w)
	}
	if f.verdict == nil {
		return verdict{}
	}
	return *f.verdict
}

// where names a chain as an administrator finds it.
func (c *chain) where() string {
	return fmt.Sprintf("table %s %s, chain %s", c.family, c.table, c.name)
}

// blame finds the rule that lets the packet pass: without it the packet would be dropped.
func (w *walk) blame(p *Path) {
	steps, rules := p.Steps, w.accepted
	defer func() { w.ignored = nil }()
	for i, r := range rules {
		if r == nil {
			continue
		}
		w.ignored = make(map[*rule]bool)
		for range 16 {
			// What the rule kept from the rest of its chain may be accepted there again.
			w.ignored[r] = true
			without := w.explore()
			if without.Dropped {
				if p.Missed == nil || p.Missed.Rule == "" && without.By.Rule != "" {
					p.Through, p.Missed = &steps[i], without.By
				}
				break
			}
			if i >= len(w.accepted) || w.accepted[i] == nil {
				break
			}
			r = w.accepted[i]
		}
	}
}

// hasPorts reports whether a protocol's header begins with the ports of source and destination.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE:
		return true
	}
	return false
}

var protocolNumbers = map[string]uint8{
	"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6,
	"ipv6-icmp": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP, "dccp": unix.IPPROTO_DCCP, "udplite": unix.IPPROTO_UDPLITE,
	"esp": unix.IPPROTO_ESP, "ah": unix.IPPROTO_AH, "gre": unix.IPPROTO_GRE, "igmp": unix.IPPROTO_IGMP,
	"ipip": unix.IPPROTO_IPIP, "ipv6": unix.IPPROTO_IPV6, "ospf": 89, "vrrp": 112,
}

// protocolNumber is the number of a transport protocol by its name, which for icmp hangs on the family.
func protocolNumber(name string, v6 bool) (uint8, bool) {
	if name == "icmp" && v6 {
		name = "icmpv6"
	}
	if n, ok := protocolNumbers[name]; ok {
		return n, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return uint8(n), err == nil
}

func protocolName(n uint8) string {
	for _, name := range []string{"tcp", "udp", "icmp", "icmpv6", "sctp", "dccp", "udplite", "esp", "ah", "gre", "igmp"} {
		if protocolNumbers[name] == n {
			return name
		}
	}
	return strconv.Itoa(int(n))
}
