package pyre

import "slices"

// A setBuilder puts the patterns of a Set into one automaton.
type setBuilder struct {
	*nfa
	rules []setRule
	needs int

	bound, free []int32 // where patterns begin: at the start of the line, anywhere
}

// A head is what must come before the text that rules are searched in.
type head struct {
	within *Regexp
	group  int
}

// maxLooks bounds how many look-aheads of a pattern are asked for.
const maxLooks = 3

// build returns the node where everything begins.
func (b *setBuilder) build(rules []Rule) int32 {
	var heads []head
	inside := make(map[head][]int)
	for i, r := range rules {
		if r.Within == nil {
			b.guarded([]int{i}, func() { b.pattern(i, r.Regexp, false) })
			continue
		}
		h := head{r.Within, r.Group}
		if inside[h] == nil {
			heads = append(heads, h)
		}
		inside[h] = append(inside[h], i)
	}
	for _, h := range heads {
		b.guarded(inside[h], func() { b.behind(h, inside[h], rules) })
	}
	for i := range b.rules {
		if b.rules[i].always {
			// One need that is met at once.
			b.limit = len(b.nodes) + 1
			b.rules[i].needs = nil
			b.bound = append(b.bound, b.need(i))
		}
	}
	b.limit = len(b.nodes) + 2*len(b.bound) + 2*len(b.free) + 8
	if len(b.free) > 0 {
		b.bound = append(b.bound, b.loop(maskAny, b.any(b.free)))
	}
	return b.any(b.bound)
}

// guarded runs write, which adds what some rules need. If that is too much, the rules
// are candidates always.
func (b *setBuilder) guarded(rules []int, write func()) {
	nodes, bound, free, needs := len(b.nodes), len(b.bound), len(b.free), b.needs
	b.limit = min(nodes+len(rules)*maxPatternNodes, maxNodes)
	write()
	if !b.over {
		return
	}
	b.nodes, b.bound, b.free, b.needs, b.over = b.nodes[:nodes], b.bound[:bound], b.free[:free], needs, false
	for _, i := range rules {
		b.rules[i] = setRule{always: true}
	}
}

// need adds a need of rule i and returns the node that meets it.
func (b *setBuilder) need(i int) int32 {
	b.rules[i].needs = append(b.rules[i].needs, int32(b.needs))
	b.needs++
	return b.add(nfaNode{kind: nfaAccept, x: int32(b.needs - 1)})
}

func (b *setBuilder) relaxer(re *Regexp, accept int32, open bool) *relaxer {
	r := &relaxer{nfa: b.nfa, groups: make([]*node, len(re.names)), accept: accept, open: open}
	groupsOf(re.root, r.groups)
	return r
}

// pattern adds rule i as searched for in the whole line, or floating: in some part of
// it that begins and ends anywhere.
func (b *setBuilder) pattern(i int, re *Regexp, floating bool) {
	entries := b.entries(i, re, floating)
	if re.root.anchored() && !floating {
		b.bound = append(b.bound, entries...)
	} else {
		b.free = append(b.free, entries...)
	}
}

// entries writes the pattern of rule i: where it must match, and where it must match
// up to each of its look-aheads and these.
func (b *setBuilder) entries(i int, re *Regexp, open bool) (entries []int32) {
	parts := flatten(re.root, nil)
	accept := b.need(i)
	entries = append(entries, b.relaxer(re, accept, open).list(parts, accept))
	for _, at := range looks(parts) {
		accept := b.need(i)
		entries = append(entries, b.relaxer(re, accept, open).list(upTo(parts, at), accept))
	}
	return entries
}

// behind adds the rules that are searched for in the text of one group.
func (b *setBuilder) behind(h head, inside []int, rules []Rule) {
	var before []*node
	group, found := findGroup(h.within.root, h.group, &before)
	// If the group has no text, the whole line is searched.
	empty := !found || group.widths(nil).lo == 0
	open := !found || !lastOf(h.within.root, group)
	if !found {
		for _, i := range inside {
			b.pattern(i, rules[i].Regexp, true)
		}
		return
	}
	var bound, free []int32
	for _, i := range inside {
		re := rules[i].Regexp
		entries := b.entries(i, re, open)
		if re.root.anchored() {
			bound = append(bound, entries...)
		} else {
			free = append(free, entries...)
		}
		if empty {
			if re.root.anchored() {
				b.bound = append(b.bound, entries...)
			} else {
				b.free = append(b.free, entries...)
			}
		}
	}
	if len(free) > 0 {
		bound = append(bound, b.loop(maskAny, b.any(free)))
	}
	entries := []int32{b.relaxer(h.within, -1, open).list(before, b.any(bound))}
	for _, at := range looks(before) {
		if empty {
			break
		}
		accept := b.add(nfaNode{kind: nfaAccept, x: int32(b.needs)})
		for _, i := range inside {
			b.rules[i].needs = append(b.rules[i].needs, int32(b.needs))
		}
		b.needs++
		entries = append(entries, b.relaxer(h.within, accept, open).list(upTo(before, at), accept))
	}
	if h.within.root.anchored() {
		b.bound = append(b.bound, entries...)
	} else {
		b.free = append(b.free, entries...)
	}
}

// flatten appends the parts that n matches one after the other.
func flatten(n *node, parts []*node) []*node {
	switch n.op {
	case opConcat, opGroup, opTransparent, opAtomic:
		for _, sub := range n.subs {
			parts = flatten(sub, parts)
		}
		return parts
	}
	return append(parts, n)
}

// looks are the places of the first few parts with a look-ahead that must hold.
func looks(parts []*node) (at []int) {
	for i, n := range parts {
		if n.looksAhead() && len(at) < maxLooks {
			at = append(at, i)
		}
	}
	return at
}

// looksAhead reports whether a look-ahead must hold on some way through n.
func (n *node) looksAhead() bool {
	switch n.op {
	case opLook:
		return !n.negative && !n.behind
	case opConcat, opAlternate, opGroup, opTransparent, opAtomic:
		return slices.ContainsFunc(n.subs, (*node).looksAhead)
	}
	return false
}

// upTo is what must match up to and with the first look-ahead in the part at.
func upTo(parts []*node, at int) []*node {
	return append(append([]*node{}, parts[:at]...), parts[at].upToLook())
}

// upToLook is n as far as its first look-ahead, and that; on ways that have none, all.
func (n *node) upToLook() *node {
	switch {
	case !n.looksAhead():
		return n
	case n.op == opLook:
		return n.subs[0]
	}
	out := *n
	out.subs = nil
	for _, sub := range n.subs {
		out.subs = append(out.subs, sub.upToLook())
		if n.op != opAlternate && sub.looksAhead() {
			break
		}
	}
	return &out
}

// findGroup looks for a group that takes part in every match of n, and appends to
// before what comes before it.
func findGroup(n *node, group int, before *[]*node) (found *node, ok bool) {
	switch n.op {
	case opGroup:
		if n.group == group {
			return n.subs[0], true
		}
		fallthrough
	case opConcat, opTransparent, opAtomic:
		for _, sub := range n.subs {
			if found, ok := findGroup(sub, group, before); ok {
				return found, true
			}
		}
		return nil, false
	}
	*before = append(*before, n)
	return nil, false
}

// lastOf reports whether body, which stands in n, always ends where the line ends.
func lastOf(n, body *node) bool {
	parts := flatten(n, nil)
	own := flatten(body, nil)
	if len(own) == 0 {
		return false
	}
	for i, part := range parts {
		if part != own[len(own)-1] {
			continue
		}
		behind := parts[i+1:]
		if len(behind) == 0 {
			return part.isRest() && part.mode == greedy
		}
		return behind[0].isEnd()
	}
	return false
}
