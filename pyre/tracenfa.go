package pyre

// A traceProgram is what a Tracer runs: the outer pattern up to the rule's group, and the
// inner one behind it, or the inner one alone.
type traceProgram struct {
	nodes  []traceNode
	sets   [][2]uint64 // those of the nodes, each once
	entry  int32
	words  bool // it asks where words begin and end
	placed bool // a look-ahead asks for a place

	// Slots are first the outer pattern's, then the inner one's, then begin, which is where
	// the inner one's text begins.
	outer, inner int
	begin        int32
	group        int // of the outer pattern, whose text the inner one is searched in
}

type traceKind uint8

const (
	traceRead  traceKind = iota // a character of set, then x
	traceSplit                  // x, or else y
	traceSave                   // the slot arg is here, then x
	traceTook                   // the group with the number arg took part, then x
	traceCond                   // x if the group with the number arg took part, else y
	tracePlace                  // the place arg, then x
	traceLook                   // what begins at y holds here, or does not if arg is 1, then x
	traceHolds                  // the end of a look-ahead
	traceBegin                  // the outer pattern has matched: the inner one's text begins, then x
	traceMatch                  // the end
	traceFail                   // nothing comes of this
)

type traceNode struct {
	kind traceKind
	arg  int32
	x, y int32
	set  [2]uint64
}

// maxTraceNodes bounds a program; places of look-aheads are two bytes.
const maxTraceNodes = 6000

// A traceBuilder writes patterns from their end to their beginning, as a relaxer does.
type traceBuilder struct {
	*traceProgram
	slot    int32         // the first of the pattern's
	conds   map[int]int32 // numbers of the groups that conditions ask for
	asked   int32         // how many groups that are, of both patterns
	looking bool          // inside a look-ahead
	failed  bool
}

// compile writes the program of a rule; it is false if a tracer cannot run it.
func (t *traceProgram) compile(r Rule) bool {
	b := &traceBuilder{traceProgram: t}
	t.inner = 2 * len(r.Regexp.names)
	var head *node
	if r.Within != nil {
		var ok bool
		if head, ok = headOf(r.Within.root, r.Group); !ok || !r.Within.root.anchored() {
			return false
		}
		t.outer, t.group = 2*len(r.Within.names), r.Group
	}
	t.begin = int32(t.outer + t.inner)
	b.slot = int32(t.outer)
	next := b.pattern(r.Regexp.root, b.add(traceNode{kind: traceMatch}), true)
	if head != nil {
		b.slot = 0
		next = b.pattern(head, b.add(traceNode{kind: traceBegin, x: next, arg: t.begin}), false)
	}
	t.entry = next
	return !b.failed
}

// headOf is what an expression has before a group that is .+ and that only $ follows.
func headOf(root *node, group int) (head *node, ok bool) {
	for root.op == opTransparent {
		root = root.subs[0]
	}
	if root.op != opConcat {
		return nil, false
	}
	for i, sub := range root.subs {
		if sub.op != opGroup || sub.group != group {
			continue
		}
		body := sub.subs[0]
		for body.op == opTransparent || body.op == opConcat && len(body.subs) == 1 {
			body = body.subs[0]
		}
		if body.op != opRepeat || body.min != 1 || body.mode != greedy || !body.isRest() || body.subs[0].simple().hasByte('\n') {
			return nil, false
		}
		if behind := root.subs[i+1:]; len(behind) != 1 || !behind[0].isEnd() {
			return nil, false
		}
		return &node{op: opConcat, subs: root.subs[:i]}, true
	}
	return nil, false
}

// pattern writes a whole pattern, whose match begins anywhere unless it is anchored.
func (b *traceBuilder) pattern(root *node, next int32, ends bool) int32 {
	b.conds = make(map[int]int32)
	b.conditions(root)
	if ends {
		next = b.add(traceNode{kind: traceSave, arg: b.slot + 1, x: next})
	}
	next = b.add(traceNode{kind: traceSave, arg: b.slot, x: b.node(root, next)})
	if !ends || root.anchored() {
		return next
	}
	l := b.add(traceNode{kind: traceSplit, x: next})
	any := b.read([2]uint64{^uint64(0), ^uint64(0)}, l)
	b.nodes[l].y = any
	return l
}

// conditions gives numbers to the groups that conditions ask for.
func (b *traceBuilder) conditions(n *node) {
	if n.op == opCond {
		if _, ok := b.conds[n.group]; !ok {
			b.conds[n.group] = b.asked
			b.asked++
		}
		b.failed = b.failed || b.asked > 32
	}
	for _, sub := range n.subs {
		b.conditions(sub)
	}
}

func (b *traceBuilder) add(n traceNode) int32 {
	if len(b.nodes) >= maxTraceNodes {
		b.failed = true
		return 0
	}
	b.nodes = append(b.nodes, n)
	return int32(len(b.nodes) - 1)
}

func (b *traceBuilder) read(set [2]uint64, next int32) int32 {
	known := false
	for _, s := range b.sets {
		known = known || s == set
	}
	if !known {
		b.sets = append(b.sets, set)
	}
	return b.add(traceNode{kind: traceRead, set: set, x: next})
}

func (b *traceBuilder) node(n *node, next int32) int32 {
	if b.failed {
		return 0
	}
	switch n.op {
	case opEmpty:
		return next
	case opFail:
		return b.add(traceNode{kind: traceFail})
	case opSet:
		return b.read(n.set.bits, next)
	case opAt:
		switch n.at {
		case atLineStart, atLineEnd:
			b.failed = true
		case atWord, atNotWord, atASCIIWord, atNotASCIIWord:
			b.words = true
		}
		b.placed = b.placed || b.looking
		return b.add(traceNode{kind: tracePlace, arg: int32(n.at), x: next})
	case opConcat:
		for i := len(n.subs) - 1; i >= 0; i-- {
			next = b.node(n.subs[i], next)
		}
		return next
	case opAlternate:
		first := b.node(n.subs[len(n.subs)-1], next)
		for i := len(n.subs) - 2; i >= 0; i-- {
			first = b.add(traceNode{kind: traceSplit, x: b.node(n.subs[i], next), y: first})
		}
		return first
	case opRepeat:
		return b.repeat(n, next)
	case opGroup:
		b.failed = b.failed || b.looking
		if number, asked := b.conds[n.group]; asked {
			next = b.add(traceNode{kind: traceTook, arg: number, x: next})
		}
		next = b.add(traceNode{kind: traceSave, arg: b.slot + int32(2*n.group+1), x: next})
		next = b.node(n.subs[0], next)
		return b.add(traceNode{kind: traceSave, arg: b.slot + int32(2*n.group), x: next})
	case opTransparent:
		return b.node(n.subs[0], next)
	case opLook:
		if n.behind || b.looking {
			break
		}
		b.looking = true
		body := b.node(n.subs[0], b.add(traceNode{kind: traceHolds}))
		b.looking = false
		look := traceNode{kind: traceLook, x: next, y: body}
		if n.negative {
			look.arg = 1
		}
		return b.add(look)
	case opCond:
		if b.looking {
			break
		}
		return b.add(traceNode{kind: traceCond, arg: b.conds[n.group], x: b.node(n.subs[0], next), y: b.node(n.subs[1], next)})
	}
	b.failed = true
	return 0
}

// repeat writes a repeat out.
func (b *traceBuilder) repeat(n *node, next int32) int32 {
	body := n.subs[0]
	if n.max == 0 {
		return next
	}
	if n.mode == possessive || body.widths(nil).lo == 0 || n.min > maxTraceNodes || n.max != unbounded && n.max > maxTraceNodes {
		b.failed = true
		return 0
	}
	for group := range b.conds {
		b.failed = b.failed || n.max > 1 && body.holdsGroup(group) // it would be open again
	}
	split := func(body, after int32) int32 {
		if n.mode == lazy {
			body, after = after, body
		}
		return b.add(traceNode{kind: traceSplit, x: body, y: after})
	}
	rest := next
	if n.max == unbounded {
		l := b.add(traceNode{kind: traceSplit})
		turn := b.node(body, l)
		if b.failed {
			return 0
		}
		loop := &b.nodes[l]
		if loop.x, loop.y = turn, next; n.mode == lazy {
			loop.x, loop.y = next, turn
		}
		rest = l
	} else {
		for range n.max - n.min {
			rest = split(b.node(body, rest), next)
		}
	}
	for range n.min {
		rest = b.node(body, rest)
	}
	return rest
}

// holdsGroup reports whether the group is in n.
func (n *node) holdsGroup(group int) bool {
	if n.op == opGroup && n.group == group {
		return true
	}
	for _, sub := range n.subs {
		if sub.holdsGroup(group) {
			return true
		}
	}
	return false
}
