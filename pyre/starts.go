package pyre

import (
	"bytes"
	"unicode/utf8"
)

// starts is what is known about where a match can begin.
type starts struct {
	anchored bool      // only at the start of the text
	any      bool      // anywhere: nothing is known about the first byte
	only     int       // the only byte a match begins with, or -1
	bytes    [256]bool // the bytes a match can begin with, unless any
}

// startsOf finds out about n.
func startsOf(n *node) starts {
	s := starts{anchored: n.anchored(), only: -1}
	// What a back-reference begins with is anybody's guess.
	if s.any = n.has(opBackref) || s.first(n); s.any {
		return s
	}
	count := 0
	for c, in := range s.bytes {
		if in {
			count++
			s.only = c
		}
	}
	if count != 1 {
		s.only = -1
	}
	return s
}

// next is the first place from at on where a match can begin, or -1.
func (s *starts) next(text []byte, at int) int {
	if s.anchored {
		if at > 0 {
			return -1
		}
		return at
	}
	if s.any {
		return at
	}
	if s.only >= 0 {
		i := bytes.IndexByte(text[at:], byte(s.only))
		if i < 0 {
			return -1
		}
		return at + i
	}
	for at < len(text) {
		c := text[at]
		if s.bytes[c] {
			return at
		}
		if c < utf8.RuneSelf {
			at++
			continue
		}
		_, size := decode(text, at)
		at += size
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

// first adds the bytes that n can begin with, and reports whether n can match nothing.
func (s *starts) first(n *node) bool {
	switch n.op {
	case opFail:
		return false
	case opSet:
		s.add(n.set)
		return false
	case opConcat:
		for _, sub := range n.subs {
			if !s.first(sub) {
				return false
			}
		}
		return true
	case opAlternate:
		empty := false
		for _, sub := range n.subs {
			empty = s.first(sub) || empty
		}
		return empty
	case opRepeat:
		if n.max == 0 {
			return true
		}
		return s.first(n.subs[0]) || n.min == 0
	case opGroup, opAtomic, opTransparent:
		return s.first(n.subs[0])
	case opCond:
		empty := s.first(n.subs[0])
		return s.first(n.subs[1]) || empty
	}
	return true
}

func (s *starts) add(set *set) {
	for c := range utf8.RuneSelf {
		if set.hasByte(byte(c)) {
			s.bytes[c] = true
		}
	}
	if set.above != aboveNone {
		for c := utf8.RuneSelf; c < 256; c++ {
			s.bytes[c] = true
		}
	}
}
