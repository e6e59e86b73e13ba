package pyre

// An op says what a node of a parsed pattern is.
type op uint8

const (
	opEmpty       op = iota // matches nothing, everywhere
	opFail                  // never matches
	opSet                   // one character of set
	opAt                    // a place: at says which
	opConcat                // subs, one after the other
	opAlternate             // the first of subs that leads to a match
	opRepeat                // subs[0], min to max times
	opGroup                 // subs[0], remembered as group
	opAtomic                // subs[0], as it first matches
	opLook                  // subs[0] holds here, or does not if negative
	opBackref               // the text of group once more
	opCond                  // subs[0] if group took part, else subs[1]
	opTransparent           // subs[0]: a group that only holds together
)

// A node is a part of a parsed pattern: plain data, flags already applied.
type node struct {
	op       op
	subs     []*node
	set      *set
	lit      rune // the only character of set, or -1
	at       place
	min, max int  // opRepeat; max is unbounded for no limit
	mode     mode // opRepeat
	group    int  // opGroup, opBackref, opCond
	negative bool // opLook
	behind   bool // opLook
	width    int  // opLook behind: how many characters it looks back
	fold     bool // opBackref: without regard to case
	ascii    bool // opBackref with fold: only ASCII letters have case
}

// unbounded is the max of a repeat without limit, and the width of one. It is
// Python's own limit of repeats, too (_sre.MAXREPEAT on 64-bit machines).
const unbounded = 1<<32 - 1

// A mode is how eager a repeat is.
type mode uint8

const (
	greedy mode = iota
	lazy
	possessive
)

// A place is a point between characters.
type place uint8

const (
	atStart     place = iota // \A, and ^ without MULTILINE
	atLineStart              // ^ with MULTILINE
	atEnd                    // $ without MULTILINE: the end, or before a line end there
	atLineEnd                // $ with MULTILINE
	atVeryEnd                // \Z
	atWord                   // \b
	atNotWord                // \B
	atASCIIWord
	atNotASCIIWord
)

// has reports whether a node of kind op is in n.
func (n *node) has(op op) bool {
	if n.op == op {
		return true
	}
	for _, sub := range n.subs {
		if sub.has(op) {
			return true
		}
	}
	return false
}

// simple is the set of characters of n if n is always one character.
func (n *node) simple() *set {
	for n.op == opTransparent || n.op == opConcat && len(n.subs) == 1 {
		n = n.subs[0]
	}
	if n.op == opSet {
		return n.set
	}
	return nil
}

// span is the least and the greatest number of characters a node matches.
type span struct{ lo, hi int }

func (a span) plus(b span) span {
	return span{min(a.lo+b.lo, unbounded), min(a.hi+b.hi, unbounded)}
}

func (a span) times(lo, hi int) span { return span{capMul(a.lo, lo), capMul(a.hi, hi)} }

func (a span) or(b span) span { return span{min(a.lo, b.lo), max(a.hi, b.hi)} }

// capMul multiplies two numbers of at most unbounded; the result is one, too.
func capMul(a, b int) int {
	if a != 0 && b > unbounded/a {
		return unbounded
	}
	return a * b
}

// widths is how many characters n matches; groups has the widths of groups that
// back-references need.
func (n *node) widths(groups []span) span {
	switch n.op {
	case opSet:
		return span{1, 1}
	case opConcat:
		var w span
		for _, sub := range n.subs {
			w = w.plus(sub.widths(groups))
		}
		return w
	case opAlternate:
		w := n.subs[0].widths(groups)
		for _, sub := range n.subs[1:] {
			w = w.or(sub.widths(groups))
		}
		return w
	case opRepeat:
		return n.subs[0].widths(groups).times(n.min, n.max)
	case opGroup, opAtomic, opTransparent:
		return n.subs[0].widths(groups)
	case opBackref:
		if n.group < len(groups) {
			return groups[n.group]
		}
		return span{0, unbounded}
	case opCond:
		return n.subs[0].widths(groups).or(n.subs[1].widths(groups))
	}
	return span{}
}
