package pyre

import "math/bits"

// A firsts is what may stand at a place of the text: bytes, or its end.
type firsts struct {
	bytes [4]uint64
	end   bool
}

var (
	anything = firsts{[4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}, true}
	lineEnds = firsts{[4]uint64{1 << '\n'}, true}
	textEnd  = firsts{end: true}
)

func (f *firsts) has(c byte) bool { return f.bytes[c>>6]&(1<<(c&63)) != 0 }

// at reports whether f has what stands at pos.
func (f *firsts) at(text []byte, pos int) bool {
	if pos < len(text) {
		return f.has(text[pos])
	}
	return f.end
}

func (f firsts) or(g firsts) firsts {
	for i := range f.bytes {
		f.bytes[i] |= g.bytes[i]
	}
	f.end = f.end || g.end
	return f
}

func (f firsts) and(g firsts) firsts {
	for i := range f.bytes {
		f.bytes[i] &= g.bytes[i]
	}
	f.end = f.end && g.end
	return f
}

func firstsOf(s *set) firsts {
	f := firsts{bytes: [4]uint64{s.bits[0], s.bits[1]}}
	if s.above != aboveNone {
		f.bytes[2], f.bytes[3] = ^uint64(0), ^uint64(0)
	}
	return f
}

// firsts finds out, for each instruction, what must stand where it begins if it is to
// lead to the end of the program, or of the look-around it is in. It may name too
// much, never too little.
func (p *program) firsts() []firsts {
	all := make([]firsts, len(p.insts))
	for changed := true; changed; {
		changed = false
		for pc := len(p.insts) - 1; pc >= 0; pc-- {
			if f := p.first(int32(pc), all); f != all[pc] {
				all[pc] = f
				changed = true
			}
		}
	}
	return all
}

func (p *program) first(pc int32, all []firsts) firsts {
	in := &p.insts[pc]
	switch in.code {
	case codeSet:
		return firstsOf(in.set)
	case codeText:
		var f firsts
		f.bytes[in.text[0]>>6] = 1 << (in.text[0] & 63)
		return f
	case codeAt:
		switch in.at {
		case atEnd, atLineEnd:
			return all[pc+1].and(lineEnds)
		case atVeryEnd:
			return all[pc+1].and(textEnd)
		}
	case codeFail:
		return firsts{}
	case codeJump:
		return all[in.x]
	case codeSplit:
		return all[in.x].or(all[in.y])
	case codeRun, codeRunLazy, codeRunAll:
		if in.lo > 0 {
			return firstsOf(in.set)
		}
		return firstsOf(in.set).or(all[pc+1])
	case codeLoop:
		return all[in.x].or(all[pc+1])
	case codeNotHere, codeCond:
		return all[pc+1].or(all[in.y])
	case codeLook:
		switch l := in.look; {
		case l.atomic:
		case l.negative, l.width > 0:
			return all[l.end+1]
		default:
			return all[l.end+1].and(all[pc+1])
		}
	case codeLookEnd, codeBackref, codeMatch:
		// An atomic group must not know what comes behind it.
		return anything
	}
	return all[pc+1]
}

// Where a split leads to: an instruction, or one of these. A split that both ways
// are open from is written as goBoth minus the split.
const (
	goNowhere = -1
	goBoth    = -2
)

// maxTurns bounds the table of where splits lead to.
const maxTurns = 1 << 18

// foresee tells splits and runs what must stand where they lead to, so that what
// leads nowhere is not tried.
func (p *program) foresee() {
	all := p.firsts()
	p.begin = all[0]
	tables := make(map[[4]uint64]*[256]bool)
	var splits []int32
	for pc := range p.insts {
		switch in := &p.insts[pc]; in.code {
		case codeSplit:
			splits = append(splits, int32(pc))
		case codeRun, codeRunLazy, codeRunAll:
			if f := all[pc+1]; f != anything {
				in.follow, in.atEnd = table(f.bytes, tables), f.end
				in.lit = p.literal(pc + 1)
				// Where the run could be shorter, what follows cannot begin.
				if f.and(firstsOf(in.set)) == (firsts{}) && in.memo < 0 {
					in.code = codeRunAll
				}
			}
			in.table, in.until = table(in.set.whole(), tables), in.set.missing()
		}
	}
	p.classify(splits, all)
	width := int32(p.classes)
	p.turns = make([]int32, len(splits)*p.classes)
	var sample [257]int // of each class
	for c := 256; c >= 0; c-- {
		sample[p.class[c]] = c
	}
	for i, pc := range splits {
		in := &p.insts[pc]
		in.turn = int32(i) * width
		for k := range width {
			to := goBoth - pc
			if p.classes > 1 {
				to = p.turn(pc, sample[k], all)
			}
			p.turns[in.turn+k] = to
		}
	}
}

// turn follows splits and jumps from pc as long as c, a byte or 256 for the end of
// the text, leaves one way only.
func (p *program) turn(pc int32, c int, all []firsts) int32 {
	open := func(pc int32) bool {
		if c == 256 {
			return all[pc].end
		}
		return all[pc].has(byte(c))
	}
	for {
		in := &p.insts[pc]
		switch in.code {
		case codeJump:
			pc = in.x
		case codeSplit:
			x, y := open(in.x), open(in.y)
			switch {
			case x && y:
				return goBoth - pc
			case x:
				pc = in.x
			case y:
				pc = in.y
			default:
				return goNowhere
			}
		default:
			return pc
		}
	}
}

// classify puts bytes that no split tells apart into one class; 256 is the end of
// the text. If the table would become too large, there is one class.
func (p *program) classify(splits []int32, all []firsts) {
	p.classes = 1
	seen := make(map[firsts]bool)
	for _, pc := range splits {
		for _, to := range [...]int32{p.insts[pc].x, p.insts[pc].y} {
			f := all[to]
			if seen[f] {
				continue
			}
			seen[f] = true
			// A class that has bytes within f and others is divided.
			var within, without [257]bool
			in := func(c int) bool { return c == 256 && f.end || c < 256 && f.has(byte(c)) }
			for c, k := range p.class {
				if in(c) {
					within[k] = true
				} else {
					without[k] = true
				}
			}
			var divided [257]uint16
			for c, k := range p.class {
				if !within[k] || !without[k] || !in(c) {
					continue
				}
				if divided[k] == 0 {
					divided[k] = uint16(p.classes)
					p.classes++
				}
				p.class[c] = divided[k]
			}
		}
	}
	if len(splits)*p.classes > maxTurns {
		p.class, p.classes = [257]uint16{}, 1
	}
}

// literal is the text that must stand where pc begins, as far as that is plain to see.
func (p *program) literal(pc int) string {
	for range p.insts {
		switch in := &p.insts[pc]; in.code {
		case codeText:
			return in.text
		case codeSave:
			pc++
		case codeJump:
			pc = int(in.x)
		default:
			return ""
		}
	}
	return ""
}

// whole is the bytes that a run of the set can take without a look at what
// characters they make up.
func (s *set) whole() [4]uint64 {
	if s.above == aboveAll {
		return [4]uint64{s.bits[0], s.bits[1], ^uint64(0), ^uint64(0)}
	}
	return [4]uint64{s.bits[0], s.bits[1]}
}

// missing is the only character that the set does not hold, if it is ASCII, or -1.
func (s *set) missing() int16 {
	lo, hi := ^s.bits[0], ^s.bits[1]
	switch {
	case s.above != aboveAll || bits.OnesCount64(lo)+bits.OnesCount64(hi) != 1:
		return -1
	case lo != 0:
		return int16(bits.TrailingZeros64(lo))
	}
	return int16(64 + bits.TrailingZeros64(hi))
}

// table is a set of bytes in a form that is quicker to ask. Equal ones are shared.
func table(bytes [4]uint64, known map[[4]uint64]*[256]bool) *[256]bool {
	t := known[bytes]
	if t == nil {
		t = new([256]bool)
		for c := range t {
			t[c] = bytes[c>>6]&(1<<(c&63)) != 0
		}
		known[bytes] = t
	}
	return t
}
