package pyre

import (
	"math"
	"slices"
	"unicode/utf8"
)

// A code says what an instruction does. Unless it says otherwise, the next
// instruction is the one behind it.
type code uint8

const (
	codeSet     code = iota // one character of set
	codeText                // the bytes of text
	codeAt                  // the place at
	codeFail                // not this way
	codeJump                // go on at x
	codeSplit               // go on at x, or else at y
	codeSave                // remember the position in slot x
	codeRun                 // characters of set, lo to hi, as many as lead on
	codeRunLazy             // the same, as few as lead on
	codeRunAll              // the same, as many as there are
	codeCount               // a loop begins: its count, x, is 0, its last start, y, is nowhere
	codeLoop                // the end of a loop's body: see there
	codeNowhere             // register x is nowhere
	codeNotHere             // register x is not this position, else go on at y
	codeHere                // register x is this position
	codeLook                // the look-around look begins
	codeLookEnd             // it is at its end
	codeBackref             // the text of group x again
	codeCond                // go on if group x took part, else at y
	codeMatch               // the end
)

// An inst is an instruction. Which fields count depends on the code.
type inst struct {
	code   code
	at     place
	mode   mode
	fold   bool  // codeBackref
	ascii  bool  // codeBackref
	turn   int32 // codeSplit: where its row of the table begins
	x, y   int32
	lo, hi int32 // codeRun, codeLoop; hi -1 has no limit
	set    *set
	table  *[256]bool // of a run: bytes to take without a look at the characters
	until  int16      // of a run: the only byte it does not take, or -1
	follow *[256]bool // of a run: the bytes that may stand behind it; nil for anything
	atEnd  bool       // of a run: the end of the text may, too
	lit    string     // of a run: the text that must stand behind it
	text   string
	look   *look
	// memo is where the bits of the split, or run, begin, in units of positions; -1
	// for none.
	memo int32
	// loops are the registers with the last starts of the loops around the memo
	// whose bodies can match nothing, innermost first.
	loops []int32
}

// A look is a look-around or an atomic group in a program.
type look struct {
	end      int32 // of its codeLookEnd
	width    int32 // how many characters it looks back
	atomic   bool
	negative bool
	// shared is set if one success at a position is as good as another: nothing
	// that the rest could see comes of it but that it succeeded.
	shared bool
}

// A program is a pattern made ready to run.
type program struct {
	insts     []inst
	registers int
	slots     int  // two for each group
	memo      int  // rows of the memo table
	shared    bool // there is a look that is shared
	begin     firsts
	// turns says where splits lead to, by the class of what stands at the position.
	turns   []int32
	class   [257]uint16 // by byte; the last is of the end of the text
	classes int
	// budgeted is set if the time of a search has no bound but a budget.
	budgeted bool
	// stateful is set if what matches depends on groups, so that nothing can be
	// remembered about a place in program and text.
	stateful bool
}

// maxProgram bounds what the repeats of a linear program are written out to.
const maxProgram = 20_000

// maxUnrolled bounds what a short repeat is written out to elsewhere, to save its counter.
const maxUnrolled = 32

// A compiler makes one program of a parsed pattern.
type compiler struct {
	program
	linear bool // loops are written out and splits remembered
	over   bool // the program is too large
	loops  []int32
	inside *look
}

// compile makes a program. A linear one has no counters: every repeat is written
// out, so that a place in the program and a place in the text are all there is to
// remember. It is nil if that takes too many instructions.
func compile(p *parsed, linear bool) *program {
	c := &compiler{linear: linear}
	c.slots = 2 * len(p.names)
	c.node(p.root)
	c.emit(inst{code: codeMatch})
	if c.over {
		return nil
	}
	c.foresee()
	return &c.program
}

func (c *compiler) emit(in inst) int32 {
	if c.linear && len(c.insts) >= maxProgram {
		c.over = true
		return 0
	}
	c.insts = append(c.insts, in)
	return int32(len(c.insts) - 1)
}

func (c *compiler) here() int32 { return int32(len(c.insts)) }

func (c *compiler) register() int32 {
	c.registers++
	return int32(c.registers - 1)
}

// remembered gives in a row in the memo for each number of loops around it that may
// have matched nothing since their turn began.
func (c *compiler) remembered(in inst) inst {
	in.memo = int32(c.memo)
	in.loops = slices.Clone(c.loops)
	slices.Reverse(in.loops)
	in.look = c.inside
	c.memo += len(in.loops) + 1
	return in
}

// split emits a split to be filled in.
func (c *compiler) split() int32 {
	in := inst{code: codeSplit, memo: -1}
	if c.linear {
		in = c.remembered(in)
	}
	return c.emit(in)
}

// aim sets where a split goes: to body first, or to after first.
func (c *compiler) aim(at, body, after int32, m mode) {
	if c.over {
		return
	}
	if m == lazy {
		body, after = after, body
	}
	c.insts[at].x, c.insts[at].y = body, after
}

func (c *compiler) node(n *node) {
	if c.over {
		return
	}
	switch n.op {
	case opEmpty:
	case opFail:
		c.emit(inst{code: codeFail})
	case opSet:
		c.one(n)
	case opAt:
		c.emit(inst{code: codeAt, at: n.at})
	case opConcat:
		c.concat(n.subs)
	case opAlternate:
		c.alternate(n.subs)
	case opRepeat:
		c.repeat(n)
	case opGroup:
		c.emit(inst{code: codeSave, x: int32(2 * n.group)})
		c.node(n.subs[0])
		c.emit(inst{code: codeSave, x: int32(2*n.group + 1)})
	case opTransparent:
		c.node(n.subs[0])
	case opAtomic:
		c.budgeted = true
		c.look(&look{atomic: true}, func() { c.node(n.subs[0]) })
	case opLook:
		shared := n.negative || !n.has(opGroup)
		c.budgeted = c.budgeted || !shared
		c.look(&look{negative: n.negative, width: int32(n.width), shared: shared}, func() { c.node(n.subs[0]) })
	case opBackref:
		c.stateful = true
		c.emit(inst{code: codeBackref, x: int32(n.group), fold: n.fold, ascii: n.ascii})
	case opCond:
		c.stateful = true
		cond := c.emit(inst{code: codeCond, x: int32(n.group)})
		c.node(n.subs[0])
		jump := c.emit(inst{code: codeJump})
		if !c.over {
			c.insts[cond].y = c.here()
		}
		c.node(n.subs[1])
		c.land([]int32{jump})
	}
}

func (c *compiler) alternate(subs []*node) {
	var jumps []int32
	for i, sub := range subs {
		if i == len(subs)-1 {
			c.node(sub)
			break
		}
		s := c.split()
		c.node(sub)
		jumps = append(jumps, c.emit(inst{code: codeJump}))
		c.aim(s, s+1, c.here(), greedy)
	}
	c.land(jumps)
}

// land makes jumps go here.
func (c *compiler) land(jumps []int32) {
	if c.over {
		return
	}
	for _, j := range jumps {
		c.insts[j].x = c.here()
	}
}

// isPlain reports whether a character stands in the text as its bytes and nothing
// else does: a U+FFFD may be bytes that are no UTF-8.
func isPlain(r rune) bool { return r >= 0 && r != utf8.RuneError && utf8.ValidRune(r) }

// one emits a single character.
func (c *compiler) one(n *node) {
	if isPlain(n.lit) {
		c.emit(inst{code: codeText, text: string(n.lit)})
		return
	}
	c.emit(inst{code: codeSet, set: n.set})
}

// concat emits one node after the other, runs of plain characters as one text.
func (c *compiler) concat(subs []*node) {
	for i := 0; i < len(subs); {
		var text []rune
		for j := i; j < len(subs) && subs[j].op == opSet && isPlain(subs[j].lit); j++ {
			text = append(text, subs[j].lit)
		}
		if len(text) > 1 {
			c.emit(inst{code: codeText, text: string(text)})
			i += len(text)
			continue
		}
		c.node(subs[i])
		i++
	}
}

// look emits what is between codeLook and codeLookEnd.
func (c *compiler) look(l *look, body func()) {
	c.emit(inst{code: codeLook, look: l})
	inside, loops := c.inside, c.loops
	c.inside, c.loops = nil, nil
	if l.shared {
		c.inside = l
		c.shared = true
	}
	body()
	c.inside, c.loops = inside, loops
	l.end = c.emit(inst{code: codeLookEnd, look: l})
}

func (c *compiler) repeat(n *node) {
	body := n.subs[0]
	if n.max == 0 {
		return
	}
	if s := body.simple(); s != nil && (!c.linear || n.mode == possessive || n.max == unbounded) {
		code := [...]code{greedy: codeRun, lazy: codeRunLazy, possessive: codeRunAll}[n.mode]
		c.budgeted = c.budgeted || n.mode == possessive
		run := inst{code: code, set: s, lo: int32(min(n.min, math.MaxInt32)), hi: limit(n.max), memo: -1}
		if c.linear && n.mode != possessive {
			// What must be there comes first, so that the run itself can be entered anywhere.
			for i := 0; i < n.min && !c.over; i++ {
				c.node(body)
			}
			run.lo = 0
			run = c.remembered(run)
		}
		c.emit(run)
		return
	}
	if n.mode == possessive {
		// Each turn is final by itself, and so is the number of turns.
		once := &node{op: opAtomic, subs: []*node{body}}
		c.budgeted = true
		c.look(&look{atomic: true}, func() {
			c.repeat(&node{op: opRepeat, subs: []*node{once}, min: n.min, max: n.max})
		})
		return
	}
	if n.min == 1 && n.max == 1 {
		c.node(body)
		return
	}
	nullable := body.widths(nil).lo == 0
	switch {
	case n.min <= 1 && n.max == unbounded && (!nullable || n.min == 0), n.min == 0 && n.max == 1 && !nullable, c.linear,
		n.max <= 4 && body.size()*n.max <= maxUnrolled:
		c.unroll(n, body, nullable)
	default:
		c.counted(n, body)
	}
}

// limit is the greatest count of a repeat, -1 for none.
func limit(n int) int32 {
	if n >= math.MaxInt32 {
		return -1
	}
	return int32(n)
}

// unroll writes a repeat out: min times the body, then what is optional. A turn that
// would begin where the one before it began is not taken, as in Python: what can
// match nothing matches nothing once.
func (c *compiler) unroll(n *node, body *node, nullable bool) {
	var last int32
	if nullable {
		last = c.register()
		c.emit(inst{code: codeNowhere, x: last})
	}
	c.over = c.over || n.min > maxProgram
	for i := 0; i < n.min && !c.over; i++ {
		if i == n.min-1 && n.max == unbounded && !nullable {
			// x+ is its last turn and the way back to it.
			start := c.here()
			c.node(body)
			s := c.split()
			c.aim(s, start, s+1, n.mode)
			return
		}
		c.node(body)
	}
	var splits, checks []int32
	turn := func() {
		if nullable {
			checks = append(checks, c.emit(inst{code: codeNotHere, x: last}))
		}
		s := c.split()
		splits = append(splits, s)
		if nullable {
			c.emit(inst{code: codeHere, x: last})
			c.loops = append(c.loops, last)
			c.node(body)
			c.loops = c.loops[:len(c.loops)-1]
		} else {
			c.node(body)
		}
	}
	if n.max == unbounded {
		start := c.here()
		turn()
		c.emit(inst{code: codeJump, x: start})
	} else {
		for i := n.min; i < n.max && !c.over; i++ {
			turn()
		}
	}
	if c.over {
		return
	}
	for _, s := range splits {
		c.aim(s, s+1, c.here(), n.mode)
	}
	for _, check := range checks {
		c.insts[check].y = c.here()
	}
}

// counted emits a repeat with a counter.
func (c *compiler) counted(n *node, body *node) {
	count, last := c.register(), c.register()
	c.emit(inst{code: codeCount, x: count, y: last})
	jump := c.emit(inst{code: codeJump})
	start := c.here()
	c.node(body)
	c.land([]int32{jump})
	// codeLoop: x is the body, y the count register; the last start is the next register.
	c.emit(inst{code: codeLoop, x: start, y: count, lo: int32(min(n.min, math.MaxInt32)), hi: limit(n.max), mode: n.mode})
}
