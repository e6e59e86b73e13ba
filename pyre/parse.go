package pyre

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of patterns. What a person writes stays far below them.
const (
	maxPattern = 1 << 16 // bytes
	maxNesting = 200
	maxGroups  = 1000
)

// A parsed pattern.
type parsed struct {
	root  *node
	names []string // of the groups by index, 0 being the whole match
}

// A parser reads one pattern. It fails by panicking with an *Error, which parse
// catches: the grammar has a place for an error at nearly every step.
type parser struct {
	src   []rune
	pos   int    // index in src behind next
	next  []rune // the token at hand: a character, or a backslash and one; nil at the end
	flags Flags

	names    []string
	byName   map[string]int
	widths   []span // of the groups that are closed, by index
	closed   []bool
	behind   int         // groups there were when the outermost look-behind began, or -1
	uneven   bool        // a look-behind has no fixed width
	promised map[int]int // groups that conditions ask for, and where
}

// parse reads a pattern; the error is an *Error.
func parse(pattern string, flags Flags) (p *parsed, err error) {
	if len(pattern) > maxPattern {
		return nil, &Error{Pos: -1, Text: fmt.Sprintf("the pattern is longer than %d bytes", maxPattern)}
	}
	if !utf8.ValidString(pattern) {
		return nil, &Error{Pos: -1, Text: "the pattern is not valid UTF-8"}
	}
	src := []rune(pattern)
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *Error:
			if e.Pos >= 0 { // from characters to bytes
				e.Pos = len(string(src[:min(e.Pos, len(src))]))
			}
			p, err = nil, e
		default:
			panic(e)
		}
	}()
	for {
		ps := &parser{
			src: src, flags: flags, names: []string{""}, byName: map[string]int{},
			widths: make([]span, 1), closed: make([]bool, 1), behind: -1, promised: map[int]int{},
		}
		root, again := ps.run()
		if !again {
			return &parsed{root: root, names: ps.names}, nil
		}
		flags |= Verbose
	}
}

// errVerbose starts over, because (?x) was found in a pattern read without it.
type errVerbose struct{}

func (p *parser) run() (root *node, again bool) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(errVerbose); !ok {
				panic(e)
			}
			again = true
		}
	}()
	p.advance()
	root = p.alternatives(p.flags, 0)
	if p.next != nil {
		p.fail(0, "unbalanced parenthesis")
	}
	for group, pos := range p.promised {
		if group >= len(p.names) {
			panic(&Error{Pos: pos, Text: fmt.Sprintf("invalid group reference %d", group)})
		}
	}
	if p.uneven {
		panic(&Error{Pos: -1, Text: "look-behind requires fixed-width pattern"})
	}
	return root, false
}

// tell is where the token at hand starts.
func (p *parser) tell() int { return p.pos - len(p.next) }

// fail ends parsing with an error back characters before the token at hand.
func (p *parser) fail(back int, format string, args ...any) {
	panic(&Error{Pos: p.tell() - back, Text: fmt.Sprintf(format, args...)})
}

func (p *parser) advance() {
	if p.pos >= len(p.src) {
		p.next = nil
		return
	}
	n := 1
	if p.src[p.pos] == '\\' {
		if n = 2; p.pos+1 >= len(p.src) {
			panic(&Error{Pos: len(p.src) - 1, Text: "bad escape (end of pattern)"})
		}
	}
	p.next = p.src[p.pos : p.pos+n]
	p.pos += n
}

func (p *parser) seek(pos int) {
	p.pos = pos
	p.advance()
}

// at reports whether the token at hand is the character c.
func (p *parser) at(c rune) bool { return len(p.next) == 1 && p.next[0] == c }

func (p *parser) accept(c rune) bool {
	if p.at(c) {
		p.advance()
		return true
	}
	return false
}

// get takes the token at hand; "" at the end.
func (p *parser) get() string {
	s := string(p.next)
	p.advance()
	return s
}

// while takes up to n characters of those in chars.
func (p *parser) while(n int, chars string) string {
	var b strings.Builder
	for ; n > 0 && len(p.next) == 1 && strings.ContainsRune(chars, p.next[0]); n-- {
		b.WriteString(p.get())
	}
	return b.String()
}

// until takes the characters up to end, which must come; what names them in errors.
func (p *parser) until(end, what string) string {
	var b strings.Builder
	for {
		if p.next == nil {
			if b.Len() == 0 {
				p.fail(0, "missing %s", what)
			}
			p.fail(utf8.RuneCountInString(b.String()), "missing %s, unterminated name", end)
		}
		c := p.get()
		if c == end {
			if b.Len() == 0 {
				p.fail(1, "missing %s", what)
			}
			return b.String()
		}
		b.WriteString(c)
	}
}

const (
	digits    = "0123456789"
	octals    = "01234567"
	hexDigits = "0123456789abcdefABCDEF"
)

// alternatives reads up to the parenthesis that closes, or the end.
func (p *parser) alternatives(flags Flags, nesting int) *node {
	if nesting > maxNesting {
		p.fail(0, "the pattern is nested more than %d deep", maxNesting)
	}
	first := p.sequence(flags, nesting, nesting == 0)
	if !p.at('|') {
		return first
	}
	if nesting == 0 {
		flags = p.flags // with those that a (?i) at the start set for all
	}
	alt := &node{op: opAlternate, subs: []*node{first}}
	for p.accept('|') {
		alt.subs = append(alt.subs, p.sequence(flags, nesting, false))
	}
	return alt
}

// sequence reads one alternative. Flags for all may open it if first.
func (p *parser) sequence(flags Flags, nesting int, first bool) *node {
	seq := &node{op: opConcat}
	add := func(n *node) { seq.subs = append(seq.subs, n) }
	for p.next != nil && !p.at('|') && !p.at(')') {
		if len(p.next) == 2 {
			add(p.escape(flags))
			continue
		}
		c := p.next[0]
		if flags&Verbose != 0 {
			if strings.ContainsRune(" \t\n\r\v\f", c) {
				p.advance()
				continue
			}
			if c == '#' {
				for p.next != nil && !p.at('\n') {
					p.advance()
				}
				p.advance()
				continue
			}
		}
		start := p.tell()
		p.advance()
		switch c {
		case '[':
			add(p.set(start, flags))
		case '?', '*', '+', '{':
			p.repeat(c, seq, flags)
		case '.':
			s := &set{items: []setItem{{lo: '\n', hi: '\n'}}, negative: true}
			if flags&DotAll != 0 {
				s = &set{negative: true}
			}
			s.finish()
			add(&node{op: opSet, set: s, lit: -1})
		case '^':
			at := atStart
			if flags&Multiline != 0 {
				at = atLineStart
			}
			add(&node{op: opAt, at: at})
		case '$':
			at := atEnd
			if flags&Multiline != 0 {
				at = atLineEnd
			}
			add(&node{op: opAt, at: at})
		case '(':
			n, global := p.group(flags, nesting, start)
			if global {
				if !first || len(seq.subs) > 0 {
					p.fail(p.tell()-start, "global flags not at the start of the expression")
				}
				if p.flags&Verbose != 0 && flags&Verbose == 0 {
					panic(errVerbose{})
				}
				flags = p.flags
				continue
			}
			if n != nil {
				add(n)
			}
		default:
			add(literal(c, flags))
		}
	}
	return seq
}

// literal is the node of one character.
func literal(c rune, flags Flags) *node {
	if flags&IgnoreCase == 0 || !hasCase(c, flags&ASCII != 0) {
		return &node{op: opSet, set: single(c, flags&^IgnoreCase), lit: c}
	}
	return &node{op: opSet, set: single(c, flags), lit: -1}
}

// repeat reads what follows the repeat sign c and wraps the last of seq.
func (p *parser) repeat(c rune, seq *node, flags Flags) {
	here := p.tell()
	lo, hi := 0, unbounded
	switch c {
	case '?':
		hi = 1
	case '+':
		lo = 1
	case '{':
		if p.at('}') {
			seq.subs = append(seq.subs, literal('{', flags))
			return
		}
		los := p.while(len(p.src), digits)
		his := los
		if p.accept(',') {
			his = p.while(len(p.src), digits)
		}
		if !p.accept('}') {
			p.seek(here)
			seq.subs = append(seq.subs, literal('{', flags))
			return
		}
		lo, hi = p.count(los, 0), p.count(his, unbounded)
		if hi < lo {
			p.fail(p.tell()-here, "min repeat greater than max repeat")
		}
	}
	back := p.tell() - here + 1
	if len(seq.subs) == 0 || seq.subs[len(seq.subs)-1].op == opAt {
		p.fail(back, "nothing to repeat")
	}
	last := &seq.subs[len(seq.subs)-1]
	if (*last).op == opRepeat {
		p.fail(back, "multiple repeat")
	}
	mode := greedy
	switch {
	case p.accept('?'):
		mode = lazy
	case p.accept('+'):
		mode = possessive
	}
	*last = &node{op: opRepeat, subs: []*node{*last}, min: lo, max: hi, mode: mode}
}

// count reads a number of a repeat.
func (p *parser) count(s string, none int) int {
	if s == "" {
		return none
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n >= unbounded {
		panic(&Error{Pos: -1, Text: "the repetition number is too large"})
	}
	return int(n)
}
