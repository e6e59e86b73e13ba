package pyre

// What a Set runs is an automaton of relaxed patterns: it accepts every line that
// the pattern matches, and some others. Look-around, boundaries of words and
// whatever needs a memory is left out; characters beyond ASCII are all one. What is
// left has no priorities and no captures, so that all patterns run as one.

// A symbol is what the automaton reads: an ASCII character, or one of these.
const (
	symOther = 128 + iota // any character beyond ASCII
	symEnd                // the end of the text
	symbols
)

// A mask is a set of symbols.
type mask [3]uint64

func (m *mask) add(symbol int)      { m[symbol>>6] |= 1 << (symbol & 63) }
func (m *mask) has(symbol int) bool { return m[symbol>>6]&(1<<(symbol&63)) != 0 }

var (
	maskAny  = mask{^uint64(0), ^uint64(0), 1 << (symOther - 128)}
	maskEnds = func() (m mask) { m.add('\n'); m.add(symEnd); return m }()
)

func maskOf(s *set) mask {
	m := mask{s.bits[0], s.bits[1]}
	if s.above != aboveNone {
		m.add(symOther)
	}
	return m
}

// An nfa is the automaton before its states are put together.
type nfa struct {
	nodes []nfaNode
	masks []mask
	index map[mask]int32
	over  bool // the automaton has become too large
	limit int  // of nodes, beyond which it has
}

type nfaKind uint8

const (
	nfaRead   nfaKind = iota // one symbol of mask, then x
	nfaSplit                 // x and y
	nfaAccept                // the pattern with the number x may match
	nfaDead                  // nothing comes of this
)

type nfaNode struct {
	kind nfaKind
	mask int32
	x, y int32
}

// Bounds of the automaton: its nodes, those of one pattern, and those that the
// copies of a counted repeat make.
const (
	maxNodes        = 200_000
	maxPatternNodes = 10_000
	maxCopies       = 64
)

func (a *nfa) add(n nfaNode) int32 {
	if len(a.nodes) >= a.limit {
		a.over = true
		return 0
	}
	a.nodes = append(a.nodes, n)
	return int32(len(a.nodes) - 1)
}

func (a *nfa) read(m mask, next int32) int32 {
	i, ok := a.index[m]
	if !ok {
		i = int32(len(a.masks))
		a.masks = append(a.masks, m)
		a.index[m] = i
	}
	return a.add(nfaNode{kind: nfaRead, mask: i, x: next})
}

// any is a split over entries.
func (a *nfa) any(entries []int32) int32 {
	if len(entries) == 0 {
		return a.add(nfaNode{kind: nfaDead})
	}
	first := entries[len(entries)-1]
	for i := len(entries) - 2; i >= 0; i-- {
		first = a.add(nfaNode{kind: nfaSplit, x: entries[i], y: first})
	}
	return first
}

// loop reads any number of symbols of m before next.
func (a *nfa) loop(m mask, next int32) int32 {
	l := a.add(nfaNode{kind: nfaSplit, y: next})
	x := a.read(m, l)
	if !a.over {
		a.nodes[l].x = x
	}
	return l
}

// A relaxer writes one pattern into an automaton, from its end to its beginning:
// each part is told the node that follows it.
type relaxer struct {
	*nfa
	groups []*node // of the pattern by index, for back-references
	accept int32   // the node that ends the pattern; -1 if more comes behind it
	// open is set if the end of the text that the pattern sees is not the line's.
	open bool
}

// groupsOf finds the groups of n.
func groupsOf(n *node, groups []*node) {
	if n.op == opGroup {
		groups[n.group] = n
	}
	for _, sub := range n.subs {
		groupsOf(sub, groups)
	}
}

func (r *relaxer) node(n *node, next int32) int32 {
	if r.over {
		return 0
	}
	switch n.op {
	case opFail:
		return r.add(nfaNode{kind: nfaDead})
	case opSet:
		at := r.read(maskOf(n.set), next)
		if r.open && r.accept >= 0 && n.set.hasByte('\n') && !r.over && r.reaches(next) {
			// It may take the line feed that ends the pattern's text, not the line.
			return r.any([]int32{at, r.add(nfaNode{kind: nfaAccept, x: r.nodes[r.accept].x})})
		}
		return at
	case opAt:
		switch n.at {
		case atEnd, atLineEnd, atVeryEnd:
			// What may follow the end is at most a line feed: that is let pass.
			switch {
			case r.accept < 0:
				return next
			case r.open:
				return r.accept
			}
			return r.read(maskEnds, r.accept)
		}
	case opConcat:
		return r.list(n.subs, next)
	case opAlternate:
		entries := make([]int32, len(n.subs))
		for i, sub := range n.subs {
			entries[i] = r.node(sub, next)
		}
		return r.any(entries)
	case opRepeat:
		return r.repeat(n, next)
	case opGroup, opAtomic, opTransparent:
		return r.node(n.subs[0], next)
	case opBackref:
		// With IGNORECASE the text may come again in other letters.
		if n.fold || r.groups[n.group] == nil {
			return r.loop(maskAny, next)
		}
		return r.node(r.groups[n.group], next)
	case opCond:
		return r.any([]int32{r.node(n.subs[0], next), r.node(n.subs[1], next)})
	}
	return next
}

// reaches reports whether nothing more need be read at n.
func (r *relaxer) reaches(n int32) bool {
	seen := map[int32]bool{}
	todo := []int32{n}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == r.accept {
			return true
		}
		if node := r.nodes[n]; node.kind == nfaSplit && !seen[n] {
			seen[n] = true
			todo = append(todo, node.x, node.y)
		}
	}
	return false
}

// list writes one part after the other. Parts at the end of the pattern that may
// match nothing are left out, so that the automaton can stop there.
func (r *relaxer) list(subs []*node, next int32) int32 {
	if n := len(subs); n >= 2 && next == r.accept && subs[n-1].isEnd() && subs[n-2].isRest() {
		// .*$ matches whatever a line goes on with.
		subs = subs[:n-1]
	}
	for i := len(subs) - 1; i >= 0; i-- {
		next = r.node(subs[i], next)
	}
	return next
}

// isEnd reports whether n is $.
func (n *node) isEnd() bool { return n.op == opAt && n.at == atEnd }

// isRest reports whether n is .* or .+ in some form, to the end of the line.
func (n *node) isRest() bool {
	switch n.op {
	case opGroup, opTransparent:
		return n.subs[0].isRest()
	case opConcat:
		return len(n.subs) > 0 && n.subs[len(n.subs)-1].isRest()
	case opRepeat:
		s := n.subs[0].simple()
		return n.max == unbounded && s != nil && s.above == aboveAll && s.bits[0]|1<<'\n' == ^uint64(0) && s.bits[1] == ^uint64(0)
	}
	return false
}

// size is about how many nodes n takes.
func (n *node) size() int {
	sum := 1
	for _, sub := range n.subs {
		sum += sub.size()
	}
	switch n.op {
	case opLook:
		return 0
	case opConcat, opGroup, opTransparent, opAtomic:
		sum--
	case opRepeat:
		times := n.max
		if times == unbounded {
			times = n.min
		}
		sum *= max(1, min(times, maxCopies))
	}
	return min(sum, maxPatternNodes)
}

// repeat writes out a counted repeat as long as it is short. A longer one is taken
// for one without end: counting is what makes automata explode.
func (r *relaxer) repeat(n *node, next int32) int32 {
	body, least, most := n.subs[0], n.min, n.max
	if next == r.accept {
		most = least
	}
	copies := max(1, maxCopies/max(1, body.size()))
	rest := next
	switch {
	case next == r.accept:
	case most > copies:
		l := r.add(nfaNode{kind: nfaSplit, x: next, y: next})
		x := r.node(body, l)
		if r.over {
			return 0
		}
		r.nodes[l].x = x
		rest = l
	default:
		for range most - least {
			rest = r.any([]int32{r.node(body, rest), next})
		}
	}
	for range min(least, copies) {
		rest = r.node(body, rest)
	}
	return rest
}
