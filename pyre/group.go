package pyre

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// group reads what begins with the parenthesis at start, which is taken. It returns
// no node for a comment, and global for flags that stand for the whole pattern.
func (p *parser) group(flags Flags, nesting, start int) (n *node, global bool) {
	closeIt := func() {
		if !p.accept(')') {
			p.fail(p.tell()-start, "missing ), unterminated subpattern")
		}
	}
	take := func() string {
		if p.next == nil {
			p.fail(0, "unexpected end of pattern")
		}
		return p.get()
	}
	if !p.accept('?') {
		return p.capture("", flags, nesting, closeIt), false
	}
	switch c := take(); c {
	case "P":
		switch {
		case p.accept('<'):
			name := p.until(">", "group name")
			p.checkName(name)
			return p.capture(name, flags, nesting, closeIt), false
		case p.accept('='):
			name := p.until(")", "group name")
			p.checkName(name)
			size := utf8.RuneCountInString(name) + 1
			group, ok := p.byName[name]
			if !ok {
				p.fail(size, "unknown group name %s", quote(name))
			}
			return p.backref(group, size, flags), false
		}
		c := take()
		p.fail(utf8.RuneCountInString(c)+2, "unknown extension ?P%s", c)
	case ":":
		return p.wrap(flags, nesting, closeIt, opTransparent), false
	case ">":
		return p.wrap(flags, nesting, closeIt, opAtomic), false
	case "#":
		for !p.at(')') {
			if p.next == nil {
				p.fail(p.tell()-start, "missing ), unterminated comment")
			}
			p.advance()
		}
		p.advance()
		return nil, false
	case "=", "!", "<":
		return p.look(c, take, flags, nesting, closeIt), false
	case "(":
		return p.condition(flags, nesting, closeIt), false
	default:
		if strings.Contains(flagLetters+"-", c) {
			return p.scoped(c, flags, nesting, closeIt)
		}
		p.fail(utf8.RuneCountInString(c)+1, "unknown extension ?%s", c)
	}
	return nil, false
}

// wrap reads a group that is not remembered.
func (p *parser) wrap(flags Flags, nesting int, closeIt func(), op op) *node {
	n := &node{op: op, subs: []*node{p.alternatives(flags, nesting+1)}}
	closeIt()
	return n
}

// capture reads a group that is.
func (p *parser) capture(name string, flags Flags, nesting int, closeIt func()) *node {
	group := len(p.names)
	if name != "" {
		if other, ok := p.byName[name]; ok {
			p.fail(utf8.RuneCountInString(name)+1, "redefinition of group name %s as group %d; was group %d", quote(name), group, other)
		}
		p.byName[name] = group
	}
	if group > maxGroups {
		p.fail(0, "the pattern has more than %d groups", maxGroups)
	}
	p.names = append(p.names, name)
	p.widths = append(p.widths, span{})
	p.closed = append(p.closed, false)
	n := p.wrap(flags, nesting, closeIt, opGroup)
	n.group = group
	p.widths[group], p.closed[group] = n.widths(p.widths), true
	return n
}

// look reads a look-around, of whose sign the first character is taken.
func (p *parser) look(sign string, take func() string, flags Flags, nesting int, closeIt func()) *node {
	n := &node{op: opLook}
	outermost := false
	if sign == "<" {
		if sign = take(); sign != "=" && sign != "!" {
			p.fail(utf8.RuneCountInString(sign)+2, "unknown extension ?<%s", sign)
		}
		n.behind = true
		if outermost = p.behind < 0; outermost {
			p.behind = len(p.names)
		}
	}
	n.negative = sign == "!"
	n.subs = []*node{p.alternatives(flags, nesting+1)}
	if outermost {
		p.behind = -1
	}
	closeIt()
	if n.behind {
		w := n.subs[0].widths(p.widths)
		// Python says so only when nothing else is wrong.
		p.uneven = p.uneven || w.lo != w.hi
		n.width = min(w.lo, math.MaxInt32)
	}
	return n
}

// condition reads (?(group)yes|no), up to the second parenthesis taken.
func (p *parser) condition(flags Flags, nesting int, closeIt func()) *node {
	name := p.until(")", "group name")
	size := utf8.RuneCountInString(name) + 1
	group, ok := 0, false
	if isIdentifier(name) {
		if group, ok = p.byName[name]; !ok {
			p.fail(size, "unknown group name %s", quote(name))
		}
	} else {
		n, err := strconv.ParseUint(name, 10, 31)
		switch {
		case err != nil:
			p.fail(size, "bad character in group name %s", quote(name))
		case n == 0:
			p.fail(size, "bad group number")
		}
		group = int(n)
		if _, seen := p.promised[group]; !seen {
			p.promised[group] = p.tell() - size
		}
	}
	p.checkBehind(group)
	if nesting >= maxNesting {
		p.fail(0, "the pattern is nested more than %d deep", maxNesting)
	}
	yes, no := p.sequence(flags, nesting+1, false), &node{op: opEmpty}
	if p.accept('|') {
		no = p.sequence(flags, nesting+1, false)
		if p.at('|') {
			p.fail(0, "conditional backref with more than two branches")
		}
	}
	closeIt()
	return &node{op: opCond, group: group, subs: []*node{yes, no}}
}

// backref refers to a group by the size characters just taken.
func (p *parser) backref(group, size int, flags Flags) *node {
	if !p.closed[group] {
		p.fail(size, "cannot refer to an open group")
	}
	p.checkBehind(group)
	return &node{op: opBackref, group: group, fold: flags&IgnoreCase != 0, ascii: flags&ASCII != 0}
}

// checkBehind refuses what a look-behind cannot refer to.
func (p *parser) checkBehind(group int) {
	if p.behind < 0 {
		return
	}
	if group >= len(p.closed) || !p.closed[group] {
		p.fail(0, "cannot refer to an open group")
	}
	if group >= p.behind {
		p.fail(0, "cannot refer to group defined in the same lookbehind subpattern")
	}
}

// checkName refuses a group name just taken if it is none.
func (p *parser) checkName(name string) {
	if !isIdentifier(name) {
		p.fail(utf8.RuneCountInString(name)+1, "bad character in group name %s", quote(name))
	}
}

// isIdentifier is Python's str.isidentifier, but for a few rare letters.
func isIdentifier(s string) bool {
	for i, r := range s {
		switch {
		case r == '_', unicode.IsLetter(r), unicode.Is(unicode.Nl, r):
		case i > 0 && unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc):
		default:
			return false
		}
	}
	return s != ""
}

// quote writes a name as Python's messages do.
func quote(s string) string {
	mark := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	var b strings.Builder
	b.WriteRune(mark)
	for _, r := range s {
		switch {
		case r == mark, r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n', r == '\r', r == '\t':
			b.WriteString(map[rune]string{'\n': `\n`, '\r': `\r`, '\t': `\t`}[r])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(mark)
	return b.String()
}

// flagLetters are the letters of flags in Python; t has no effect.
const flagLetters = "iLmsxaut"

func flagOf(c string) Flags {
	switch c {
	case "i":
		return IgnoreCase
	case "m":
		return Multiline
	case "s":
		return DotAll
	case "x":
		return Verbose
	case "a":
		return ASCII
	case "u":
		return unicodeFlag
	}
	return 0
}

const typeFlags = ASCII | unicodeFlag

// scoped reads flags, of which the first letter c is taken, and the group they are
// for, if there is one.
func (p *parser) scoped(c string, flags Flags, nesting int, closeIt func()) (n *node, global bool) {
	isFlag := func(c string) bool { return strings.Contains(flagLetters, c) }
	letter := func(otherwise string) string {
		if p.next == nil {
			p.fail(0, "%s", otherwise)
		}
		return p.get()
	}
	bad := func(c, otherwise string) {
		if r, _ := utf8.DecodeRuneInString(c); unicode.IsLetter(r) {
			otherwise = "unknown flag"
		}
		p.fail(utf8.RuneCountInString(c), "%s", otherwise)
	}
	var on, off Flags
	if c != "-" {
		for {
			if c == "L" {
				p.fail(0, "bad inline flags: cannot use 'L' flag with a str pattern")
			}
			f := flagOf(c)
			on |= f
			if f&typeFlags != 0 && on&typeFlags != f {
				p.fail(0, "bad inline flags: flags 'a', 'u' and 'L' are incompatible")
			}
			if c = letter("missing -, : or )"); c == ")" || c == "-" || c == ":" {
				break
			}
			if !isFlag(c) {
				bad(c, "missing -, : or )")
			}
		}
	}
	if c == ")" {
		p.flags |= on
		if p.flags&typeFlags == typeFlags {
			panic(&Error{Pos: -1, Text: "ASCII and UNICODE flags are incompatible"})
		}
		return nil, true
	}
	if c == "-" {
		if c = letter("missing flag"); !isFlag(c) {
			bad(c, "missing flag")
		}
		for {
			f := flagOf(c)
			if f&typeFlags != 0 || c == "L" {
				p.fail(0, "bad inline flags: cannot turn off flags 'a', 'u' and 'L'")
			}
			off |= f
			if c = letter("missing :"); c == ":" {
				break
			}
			if !isFlag(c) {
				bad(c, "missing :")
			}
		}
	}
	if on&off != 0 {
		p.fail(1, "bad inline flags: flag turned on and off")
	}
	if on&typeFlags != 0 {
		flags &^= typeFlags
	}
	return p.wrap((flags|on)&^off, nesting, closeIt, opTransparent), false
}
