package pyre

import (
	"bytes"
	"unicode/utf8"
)

// What a machine does with runs: instructions that take as many characters of one set as they
// can, or as few as will do.

// runEnds finds the least and the greatest end of a run that starts at pos.
func (m *machine) runEnds(in *inst, pos int) (least, end int, enough bool) {
	least, n, enough := m.runLeast(in, pos)
	if !enough {
		return 0, pos, false
	}
	end = least
	text, s := m.text, in.set
	if in.hi < 0 {
		if in.until >= 0 {
			if i := bytes.IndexByte(text[end:], byte(in.until)); i >= 0 {
				return least, end + i, true
			}
			return least, len(text), true
		}
		table := in.table
		for end < len(text) {
			c := text[end]
			if table[c] {
				end++
				continue
			}
			if c < utf8.RuneSelf {
				break
			}
			size := s.match(text, end)
			if size == 0 {
				break
			}
			end += size
			m.steps++
		}
		return least, end, true
	}
	for ; n < in.hi; n++ {
		if end < len(text) && text[end] < utf8.RuneSelf {
			if !in.table[text[end]] {
				break
			}
			end++
			continue
		}
		size := s.match(text, end)
		if size == 0 {
			break
		}
		end += size
	}
	return least, end, true
}

// runLeast takes the least number of characters a run must have.
func (m *machine) runLeast(in *inst, pos int) (least int, n int32, enough bool) {
	for n < in.lo {
		if pos < len(m.text) && m.text[pos] < utf8.RuneSelf && in.table[m.text[pos]] {
			pos++
			n++
			continue
		}
		size := in.set.match(m.text, pos)
		if size == 0 {
			return pos, n, false
		}
		pos += size
		n++
	}
	return pos, n, true
}

// runRemembered takes as much as leads on of a run. A run that comes to where one
// has been before knows the rest.
func (m *machine) runRemembered(in *inst, pc int32, pos int) (int32, int, bool) {
	start, text := pos, m.text
	bit := m.row(in, pos)*m.width + pos
	if m.hasFailed(bit) {
		return 0, 0, false
	}
	if m.holds(in, bit) {
		return in.look.end, pos, true
	}
	base := int(in.memo) * m.width
	stop := -1 // the greatest end that may lead on, if it is not pos
	for pos < len(text) {
		// Marks are on all bytes of a run: it must be read character by character.
		size := 1
		if c := text[pos]; c >= utf8.RuneSelf {
			if size = in.set.match(text, pos); size == 0 {
				break
			}
			m.steps++
		} else if !in.table[c] {
			break
		}
		if m.hasFailed(base + pos + size) {
			stop = pos
			break
		}
		pos += size
		if m.holds(in, base+pos) {
			m.markRun(m.held, in, start, pos)
			return in.look.end, pos, true
		}
	}
	m.steps += (pos - start) / runBytes
	if stop < 0 {
		stop = pos
	}
	end := m.ending(in, start, stop)
	if end < 0 {
		m.markRun(m.failed, in, start, stop)
		return 0, 0, false
	}
	base += end + 1
	mark(m.failed, base, base+stop-end-1)
	m.push(frameRun, pc, end, start)
	return pc + 1, end, true
}

// runLazily takes as little as leads on of a run.
func (m *machine) runLazily(in *inst, pc int32, pos int) (int32, int, bool) {
	bit := m.row(in, pos)*m.width + pos
	if m.hasFailed(bit) {
		return 0, 0, false
	}
	if m.holds(in, bit) {
		return in.look.end, pos, true
	}
	m.push(frameRunOn, pc, pos, pos)
	if m.follows(in, pos) {
		return pc + 1, pos, true
	}
	return m.runOn(in, len(m.stack)-1)
}

// runOn ends the remembered lazy run of the frame on top later than last time.
func (m *machine) runOn(in *inst, top int) (int32, int, bool) {
	f := &m.stack[top]
	start, pos := int(f.aux), int(f.pos)
	base := int(in.memo) * m.width
	for {
		size := in.set.match(m.text, pos)
		if size == 0 || m.hasFailed(base+pos+size) {
			m.markRun(m.failed, in, start, pos)
			m.stack = m.stack[:top]
			return 0, 0, false
		}
		pos += size
		m.steps++
		if m.holds(in, base+pos) {
			m.markRun(m.held, in, start, pos)
			m.stack = m.stack[:top]
			return in.look.end, pos, true
		}
		if m.follows(in, pos) {
			f.pos = int32(pos)
			return f.pc + 1, pos, true
		}
	}
}

// ending is the greatest place up to end, but no less than least, where a run can
// end because what must follow it stands there, or -1.
func (m *machine) ending(in *inst, least, end int) int {
	if m.follows(in, end) {
		return end
	}
	text, began := m.text, end
	for end > least {
		c := text[end-1]
		if c < utf8.RuneSelf {
			end--
		} else {
			end = before(text, end)
			c = text[end]
		}
		if in.follow[c] && (in.lit == "" || m.follows(in, end)) {
			m.steps += (began - end) / runBytes
			return end
		}
	}
	m.steps += (began - end) / runBytes
	return -1
}

// follows reports whether what must follow a run stands at pos.
func (m *machine) follows(in *inst, pos int) bool {
	switch {
	case in.follow == nil:
		return true
	case in.lit != "":
		return len(m.text)-pos >= len(in.lit) && string(m.text[pos:pos+len(in.lit)]) == in.lit
	case pos < len(m.text):
		return in.follow[m.text[pos]]
	}
	return in.atEnd
}

// giveBack ends the run of the frame on top earlier than last time.
func (m *machine) giveBack(p *program, top int) (pc int32, pos int, ok bool) {
	f := &m.stack[top]
	in := &p.insts[f.pc]
	least, last := int(f.aux), int(f.pos)
	end := -1
	if last > least {
		end = m.ending(in, least, before(m.text, last))
	}
	if in.memo >= 0 {
		if end < 0 {
			m.stack = m.stack[:top]
			m.markRun(m.failed, in, least, last)
			return 0, 0, false
		}
		base := int(in.memo) * m.width
		mark(m.failed, base+end+1, base+last)
	} else if end <= least {
		m.stack = m.stack[:top]
		return f.pc + 1, end, end >= 0
	}
	f.pos = int32(end)
	return f.pc + 1, end, true
}

// takeMore ends the lazy run of the frame on top later than last time.
func (m *machine) takeMore(p *program, top int) (pc int32, pos int, ok bool) {
	f := &m.stack[top]
	in := &p.insts[f.pc]
	pos = int(f.pos)
	for count := f.aux; in.hi < 0 || count < in.hi; {
		size := in.set.match(m.text, pos)
		if size == 0 {
			break
		}
		pos += size
		count++
		m.steps++
		if m.follows(in, pos) {
			f.pos, f.aux = int32(pos), count
			return f.pc + 1, pos, true
		}
	}
	m.stack = m.stack[:top]
	return 0, 0, false
}

// markRun marks the places from start to end of a run begun at start, for which
// there may be a row of its own.
func (m *machine) markRun(bits []uint64, in *inst, start, end int) {
	bit := m.row(in, start)*m.width + start
	bits[bit>>6] |= 1 << (bit & 63)
	base := int(in.memo) * m.width
	mark(bits, base+start+1, base+end)
}
