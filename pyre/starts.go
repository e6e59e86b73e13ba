package pyre

import (
	"bytes"
	"unicode/utf8"
)

// starts is what is known about where a match can begin.
type starts struct {
	anchored bool   // only at the start of the text
	any      bool   // anywhere: nothing is known about the first byte
	text     []byte // what every match begins with
	firsts
}

// startsOf finds out about a pattern and its program.
func startsOf(n *node, p *program) starts {
	return starts{
		anchored: n.anchored(), firsts: p.begin, any: p.begin == anything,
		text: []byte(p.literal(0)),
	}
}

// next is the first place from at on where a match can begin, or -1.
func (s *starts) next(text []byte, at int) int {
	if s.anchored {
		if at > 0 || !s.at(text, 0) {
			return -1
		}
		return at
	}
	if s.any {
		return at
	}
	if len(s.text) > 0 {
		i := bytes.Index(text[at:], s.text)
		if i < 0 {
			return -1
		}
		return at + i
	}
	for at < len(text) {
		c := text[at]
		if s.has(c) {
			return at
		}
		if c < utf8.RuneSelf {
			at++
			continue
		}
		_, size := decode(text, at)
		at += size
	}
	if s.end {
		return at
	}
	return -1
}

// anchored reports whether n matches at the start of the text only.
func (n *node) anchored() bool {
	switch n.op {
	case opAt:
		return n.at == atStart
	case opConcat:
		for _, sub := range n.subs {
			if sub.anchored() {
				return true
			}
			if sub.op != opAt && sub.op != opLook {
				break
			}
		}
		return false
	case opAlternate:
		for _, sub := range n.subs {
			if !sub.anchored() {
				return false
			}
		}
		return true
	case opGroup, opAtomic, opTransparent:
		return n.subs[0].anchored()
	}
	return false
}
