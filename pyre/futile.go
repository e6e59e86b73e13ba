package pyre

import "strings"

// Futile says why the pattern cannot match any line, or "" if it may. A line is a text
// with a line feed at its end and none before. Futile knows the mistakes that people
// make, and is sure of what it says; with MULTILINE it says nothing of lines.
func (re *Regexp) Futile() string {
	_, why := re.root.follow(reached{})
	return why
}

// reached is what holds at a place of a pattern, however it was come to.
type reached struct {
	ate    bool // at least one character was matched
	mayEnd bool // something of what was matched may have been the line feed
	ended  bool // behind $: nothing but the line feed can follow
	closed bool // behind \Z or the line feed: nothing can follow
}

// or is what holds if either a or b does.
func (a reached) or(b reached) reached {
	return reached{a.ate && b.ate, a.mayEnd || b.mayEnd, a.ended && b.ended, a.closed && b.closed}
}

// follow goes through n from a place where at holds; why is not "" if that is in vain.
func (n *node) follow(at reached) (out reached, why string) {
	switch n.op {
	case opSet:
		return n.set.follow(at)
	case opAt:
		return n.at.follow(at)
	case opConcat:
		for _, sub := range n.subs {
			if at, why = sub.follow(at); why != "" {
				return at, why
			}
		}
		return at, ""
	case opAlternate, opCond:
		return n.followAny(at)
	case opRepeat:
		if n.max == 0 {
			return at, ""
		}
		out, why = n.subs[0].follow(at)
		switch {
		case n.min > 0:
			return out, why
		case why != "":
			return at, "" // it may be left out
		}
		return out.or(at), ""
	case opGroup, opAtomic, opTransparent:
		return n.subs[0].follow(at)
	case opLook:
		if n.negative && n.subs[0].widths(nil).hi == 0 && !n.subs[0].has(opAt) && !n.subs[0].has(opLook) {
			return at, "the negative look-around matches nothing, so it always fails"
		}
	case opBackref: // what a group matched, perhaps nothing
		at.mayEnd, at.ended = true, false
	}
	return at, ""
}

// followAny is in vain if all ways are.
func (n *node) followAny(at reached) (out reached, why string) {
	some := false
	for _, sub := range n.subs {
		one, w := sub.follow(at)
		switch {
		case w != "":
			why = w
		case some:
			out = out.or(one)
		default:
			out, some = one, true
		}
	}
	if some {
		why = ""
	}
	return out, why
}

func (s *set) follow(at reached) (reached, string) {
	feed := s.hasByte('\n')
	switch {
	case s.isEmpty():
		return at, "a set leaves no character"
	case at.closed:
		return at, `nothing can follow \Z or the line feed, the end of the text`
	case at.ended && !feed:
		return at, `nothing can follow $, the end of the line`
	}
	at.ate, at.mayEnd, at.ended = true, at.mayEnd || feed, false
	at.closed = s.bits == [2]uint64{1 << '\n'} && s.above == aboveNone
	return at, ""
}

// isEmpty reports whether a set holds nothing because two of its classes make up
// everything, and it leaves that out.
func (s *set) isEmpty() bool {
	var classes string
	for _, item := range s.items {
		if item.class != 0 {
			classes += string(rune(item.class))
		}
	}
	if !s.negative {
		return false
	}
	for _, all := range [...]string{"sS", "wW", "dD"} {
		if strings.Contains(classes, all[:1]) && strings.Contains(classes, all[1:]) {
			return true
		}
	}
	return false
}

func (p place) follow(at reached) (reached, string) {
	switch p {
	case atStart:
		if at.ate {
			return at, `^ or \A stands behind something, but means the start of the line; write \^ for the character`
		}
	case atEnd:
		at.ended = true
	case atVeryEnd:
		if at.ate && !at.mayEnd {
			return at, `\Z means the end behind the line feed, which nothing before it matches: write $`
		}
		at.closed = true
	}
	return at, ""
}
