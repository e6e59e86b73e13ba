package pyre

import (
	"slices"
	"sync"
	"unicode/utf8"
)

// A machine runs programs: backtracking on a stack of its own, in the order in which
// Python tries. It is the scratch of one search at a time.
type machine struct {
	text  []byte
	slots []int32 // start and end of each group, -1 for none
	regs  []int32
	stack []frame
	// barrier is the frame of the innermost look-around that is not yet decided, or -1.
	barrier int32
	steps   int
	limit   int // of steps

	// failed and held have a bit for each memo row of the program and each
	// position: from here nothing leads on; from here the look-around holds.
	failed, held []uint64
	width        int // positions
}

// A frame is what to do when the way taken leads nowhere.
type frame struct {
	kind frameKind
	pc   int32
	pos  int32
	aux  int32
}

type frameKind uint8

const (
	frameGo      frameKind = iota // go on at pc and pos
	frameSlot                     // slot pc was pos
	frameReg                      // register pc was pos
	frameRun                      // the run pc, with at least aux for its end, does not end at pos
	frameRunLazy                  // the lazy run pc does not end at pos; aux is how many it has
	frameRunOn                    // the remembered lazy run pc, begun at aux, does not end at pos
	frameLook                     // look-around pc, begun at pos, did not hold; aux is the barrier before
	frameMemo                     // nothing leads on from memo bit pc
	frameLoop                     // lazy loop pc, body again at pos
)

// Bounds of a machine: frames on the stack and bits in the memo.
const (
	maxStack = 1 << 22
	maxMemo  = 1 << 28
)

// outcome is how a run ended.
type outcome uint8

const (
	noMatch outcome = iota
	matched
	overLimit
)

var machines = sync.Pool{New: func() any { return new(machine) }}

// prepare makes m ready for a search of p in text, and reports whether the memory
// suffices.
func (m *machine) prepare(p *program, text []byte, limit int, memo bool) bool {
	m.text, m.steps, m.limit = text, 0, limit
	m.slots = resize(m.slots, p.slots)
	m.regs = resize(m.regs, p.registers)
	m.failed, m.held = m.failed[:0], m.held[:0]
	if !memo {
		return true
	}
	m.width = len(text) + 1
	if p.memo*m.width > maxMemo {
		return false
	}
	m.failed = cleared(m.failed, (p.memo*m.width+63)/64)
	if p.shared {
		m.held = cleared(m.held, (p.memo*m.width+63)/64)
	}
	return true
}

func resize(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

func cleared(s []uint64, n int) []uint64 {
	if cap(s) < n {
		return make([]uint64, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// release gives back what a search left large.
func (m *machine) release() {
	m.text = nil
	if cap(m.stack) > 1<<17 {
		m.stack = nil
	}
	if cap(m.failed) > 1<<18 {
		m.failed, m.held = nil, nil
	}
}

// run tries p at start.
func (m *machine) run(p *program, start int) outcome {
	for i := range m.slots {
		m.slots[i] = -1
	}
	for i := range m.regs {
		m.regs[i] = -1
	}
	m.stack = m.stack[:0]
	m.barrier = -1
	text, insts := m.text, p.insts
	pc, pos := int32(0), start
	steps := 0
	for {
		steps++
		in := &insts[pc]
		ok := true
		switch in.code {
		case codeText:
			n := len(in.text)
			if ok = len(text)-pos >= n && text[pos] == in.text[0] && (n == 1 || string(text[pos:pos+n]) == in.text); ok {
				pos += n
				pc++
			}
		case codeSet:
			if size := in.set.match(text, pos); size > 0 {
				pos += size
				pc++
			} else {
				ok = false
			}
		case codeAt:
			ok = m.place(in.at, pos)
			pc++
		case codeFail:
			ok = false
		case codeJump:
			pc = in.x
		case codeSplit:
			class := p.class[256]
			if pos < len(text) {
				class = p.class[text[pos]]
			}
			to := p.turns[in.turn+int32(class)]
			if to >= 0 {
				pc = to
				break
			}
			if to == goNowhere {
				ok = false
				break
			}
			in = &insts[goBoth-to]
			if in.memo >= 0 {
				held, failed := m.remember(in, pos)
				if failed {
					ok = false
					break
				}
				if held {
					pc = in.look.end
					break
				}
			}
			m.push(frameGo, in.y, pos, 0)
			pc = in.x
		case codeSave:
			m.setSlot(in.x, pos)
			pc++
		case codeRun:
			if in.memo >= 0 {
				pc, pos, ok = m.runRemembered(in, pc, pos)
				break
			}
			least, end, enough := m.runEnds(in, pos)
			steps += (end - pos) / runBytes
			if ok = enough; !ok {
				break
			}
			if pos = m.ending(in, least, end); pos < 0 {
				ok = false
				break
			}
			if pos > least {
				m.push(frameRun, pc, pos, least)
			}
			pc++
		case codeRunAll:
			_, end, enough := m.runEnds(in, pos)
			steps += (end - pos) / runBytes
			ok = enough && m.follows(in, end)
			pos = end
			pc++
		case codeRunLazy:
			if in.memo >= 0 {
				pc, pos, ok = m.runLazily(in, pc, pos)
				break
			}
			if pos, _, ok = m.runLeast(in, pos); !ok {
				break
			}
			m.push(frameRunLazy, pc, pos, int(in.lo))
			ok = m.follows(in, pos)
			pc++
		case codeCount:
			m.setReg(in.x, 0)
			m.setReg(in.y, -1)
			pc++
			pc = insts[pc].x // the jump to codeLoop, which counts turns completed
		case codeLoop:
			pc = m.loop(in, pc, pos)
		case codeNowhere:
			m.setReg(in.x, -1)
			pc++
		case codeNotHere:
			pc++
			if m.regs[in.x] == int32(pos) {
				pc = in.y
			}
		case codeHere:
			m.setReg(in.x, pos)
			pc++
		case codeLook:
			m.push(frameLook, pc, pos, int(m.barrier))
			m.barrier = int32(len(m.stack) - 1)
			for range in.look.width {
				if pos == 0 {
					ok = false
					break
				}
				pos = before(text, pos)
			}
			pc++
		case codeLookEnd:
			pc, pos, ok = m.decide(p, in.look, pc, pos)
		case codeBackref:
			pos, ok = m.again(in, pos)
			pc++
		case codeCond:
			pc++
			if !m.took(in.x) {
				pc = in.y
			}
		case codeMatch:
			m.slots[0], m.slots[1] = int32(start), int32(pos)
			m.steps += steps
			return matched
		}
		for !ok {
			if len(m.stack) == 0 {
				if m.steps += steps; m.steps > m.limit {
					return overLimit
				}
				return noMatch
			}
			pc, pos, ok = m.back(p)
			steps++
		}
		if steps > batch {
			m.steps += steps
			steps = 0
			if m.steps > m.limit || len(m.stack) > maxStack {
				return overLimit
			}
		}
	}
}

// Characters of a run are looked through, so many for a step, more quickly than
// instructions are carried out. After batch steps it is seen whether there have been
// too many.
const (
	runBytes = 4
	batch    = 64
)

func (m *machine) push(kind frameKind, pc int32, pos, aux int) {
	if len(m.stack) == cap(m.stack) {
		m.grow()
	}
	m.stack = append(m.stack, frame{kind, pc, int32(pos), int32(aux)})
}

// grow makes room on the stack, by more at once than append would.
func (m *machine) grow() { m.stack = slices.Grow(m.stack, 3*cap(m.stack)+256) }

// setSlot and setReg change what a frame can restore.
func (m *machine) setSlot(i int32, v int) {
	if len(m.stack) > 0 {
		m.push(frameSlot, i, int(m.slots[i]), 0)
	}
	m.slots[i] = int32(v)
}

func (m *machine) setReg(i int32, v int) {
	if len(m.stack) > 0 {
		m.push(frameReg, i, int(m.regs[i]), 0)
	}
	m.regs[i] = int32(v)
}

// row is the memo row of in at a position. What a loop may do next depends on whether
// its turn has matched anything yet. Of nested loops the inner ones began no earlier
// than the outer.
func (m *machine) row(in *inst, pos int) int {
	row := int(in.memo)
	for _, last := range in.loops {
		if m.regs[last] != int32(pos) {
			break
		}
		row++
	}
	return row
}

// remember looks up what is known about the split in at pos: that nothing leads on
// from here, or that the look-around it is in holds. If nothing is known, a frame
// will tell when the ways from here are exhausted.
func (m *machine) remember(in *inst, pos int) (held, failed bool) {
	bit := m.row(in, pos)*m.width + pos
	if m.hasFailed(bit) {
		return false, true
	}
	if m.holds(in, bit) {
		return true, false
	}
	m.push(frameMemo, int32(bit), pos, 0)
	return false, false
}

func (m *machine) hasFailed(bit int) bool { return m.failed[bit>>6]&(1<<(bit&63)) != 0 }

func (m *machine) holds(in *inst, bit int) bool {
	return in.look != nil && len(m.held) > 0 && m.held[bit>>6]&(1<<(bit&63)) != 0
}

// mark sets bits, from lo to hi.
func mark(bits []uint64, lo, hi int) {
	if hi < lo {
		return
	}
	first, last := lo>>6, hi>>6
	from, to := ^uint64(0)<<(lo&63), ^uint64(0)>>(63-hi&63)
	if first == last {
		bits[first] |= from & to
		return
	}
	bits[first] |= from
	for i := first + 1; i < last; i++ {
		bits[i] = ^uint64(0)
	}
	bits[last] |= to
}

// back undoes one frame; ok is false if the one below has to be undone, too.
func (m *machine) back(p *program) (pc int32, pos int, ok bool) {
	top := len(m.stack) - 1
	f := m.stack[top]
	switch f.kind {
	case frameGo:
		m.stack = m.stack[:top]
		return f.pc, int(f.pos), true
	case frameSlot:
		m.slots[f.pc] = f.pos
	case frameReg:
		m.regs[f.pc] = f.pos
	case frameMemo:
		m.failed[f.pc>>6] |= 1 << (f.pc & 63)
	case frameRun:
		return m.giveBack(p, top)
	case frameRunLazy:
		return m.takeMore(p, top)
	case frameRunOn:
		return m.runOn(&p.insts[f.pc], top)
	case frameLoop:
		m.stack = m.stack[:top]
		return m.turn(&p.insts[f.pc], int(f.pos)), int(f.pos), true
	case frameLook:
		m.barrier = f.aux
		if l := p.insts[f.pc].look; l.negative {
			m.stack = m.stack[:top]
			return l.end + 1, int(f.pos), true
		}
	}
	m.stack = m.stack[:top]
	return 0, 0, false
}

// loop decides at the end of a counted loop's body whether there is one more turn. A
// turn that began where the one before it began is the last.
func (m *machine) loop(in *inst, pc int32, pos int) int32 {
	count := m.regs[in.y]
	if count < in.lo {
		m.setReg(in.y, int(count)+1)
		return in.x
	}
	more := (in.hi < 0 || count < in.hi) && m.regs[in.y+1] != int32(pos)
	switch {
	case !more:
		return pc + 1
	case in.mode == lazy:
		m.push(frameLoop, pc, pos, 0)
		return pc + 1
	}
	m.push(frameGo, pc+1, pos, 0)
	return m.turn(in, pos)
}

// turn begins one more turn of a counted loop.
func (m *machine) turn(in *inst, pos int) int32 {
	if in.hi >= 0 {
		m.setReg(in.y, int(m.regs[in.y])+1)
	}
	m.setReg(in.y+1, pos)
	return in.x
}

// decide ends the look-around l, whose body has matched up to pos.
func (m *machine) decide(p *program, l *look, pc int32, pos int) (int32, int, bool) {
	b := int(m.barrier)
	began := m.stack[b]
	m.barrier = began.aux
	if l.negative {
		for i := len(m.stack) - 1; i > b; i-- {
			switch f := m.stack[i]; f.kind {
			case frameSlot:
				m.slots[f.pc] = f.pos
			case frameReg:
				m.regs[f.pc] = f.pos
			default:
				m.hold(p, l, f)
			}
		}
		m.stack = m.stack[:b]
		return pc, pos, false
	}
	// What was set stays set, until the search goes back behind the look-around;
	// other ways through it are none of its business any more.
	kept := b
	for _, f := range m.stack[b+1:] {
		switch f.kind {
		case frameSlot, frameReg:
			m.stack[kept] = f
			kept++
		default:
			m.hold(p, l, f)
		}
	}
	m.stack = m.stack[:kept]
	if !l.atomic {
		pos = int(began.pos)
	}
	return pc + 1, pos, true
}

// hold remembers that from where the frame f is the look-around l has been seen to
// hold.
func (m *machine) hold(p *program, l *look, f frame) {
	if !l.shared || len(m.held) == 0 {
		return
	}
	switch f.kind {
	case frameMemo:
		m.held[f.pc>>6] |= 1 << (f.pc & 63)
	case frameRun, frameRunOn:
		// Registers may have changed since the run began: its first place is left out.
		if in := &p.insts[f.pc]; in.memo >= 0 {
			base := int(in.memo) * m.width
			mark(m.held, base+int(f.aux)+1, base+int(f.pos))
		}
	}
}

// took reports whether a group took part in the match.
func (m *machine) took(group int32) bool {
	start, end := m.slots[2*group], m.slots[2*group+1]
	return start >= 0 && end >= start
}

// again matches the text of a group once more.
func (m *machine) again(in *inst, pos int) (int, bool) {
	if !m.took(in.x) {
		return pos, false
	}
	start, end := int(m.slots[2*in.x]), int(m.slots[2*in.x+1])
	for start < end {
		if pos >= len(m.text) {
			return pos, false
		}
		if c := m.text[start]; c < utf8.RuneSelf && c == m.text[pos] {
			same := 1
			for limit := min(end-start, len(m.text)-pos); same < limit; same++ {
				if c := m.text[start+same]; c >= utf8.RuneSelf || c != m.text[pos+same] {
					break
				}
			}
			start += same
			pos += same
			m.steps += same / runBytes
			continue
		}
		a, n := decode(m.text, start)
		b, size := decode(m.text, pos)
		if a != b && (!in.fold || lower(a, in.ascii) != lower(b, in.ascii)) {
			return pos, false
		}
		start += n
		pos += size
		m.steps++
	}
	return pos, true
}

// place reports whether pos is such a place.
func (m *machine) place(at place, pos int) bool {
	text := m.text
	switch at {
	case atStart:
		return pos == 0
	case atLineStart:
		return pos == 0 || text[pos-1] == '\n'
	case atEnd:
		return pos == len(text) || pos == len(text)-1 && text[pos] == '\n'
	case atLineEnd:
		return pos == len(text) || text[pos] == '\n'
	case atVeryEnd:
		return pos == len(text)
	case atWord, atNotWord:
		// Python's \B does not hold in an empty text.
		return wordAt(text, pos, false) == (at == atWord) && len(text) > 0
	default:
		return wordAt(text, pos, true) == (at == atASCIIWord) && len(text) > 0
	}
}
