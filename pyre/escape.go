package pyre

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape reads the escape at hand, outside of a set.
func (p *parser) escape(flags Flags) *node {
	start, c := p.tell(), p.next[1]
	p.advance()
	at := func(text, ascii place) *node {
		if flags&ASCII != 0 {
			text = ascii
		}
		return &node{op: opAt, at: text}
	}
	switch {
	case c == 'A':
		return at(atStart, atStart)
	case c == 'Z':
		return at(atVeryEnd, atVeryEnd)
	case c == 'b':
		return at(atWord, atASCIIWord)
	case c == 'B':
		return at(atNotWord, atNotASCIIWord)
	case isClass(c):
		s := &set{items: []setItem{{class: byte(c)}}, onlyASCII: flags&ASCII != 0}
		s.finish()
		return &node{op: opSet, set: s, lit: -1}
	case c == '0':
		return literal(octal(p.while(2, octals)), flags)
	case c >= '1' && c <= '9':
		return p.number(c, start, flags)
	}
	return literal(p.character(c, start), flags)
}

// number reads \1 and so on: a back-reference, or three octal digits.
func (p *parser) number(c rune, start int, flags Flags) *node {
	text := string(c) + p.while(1, digits)
	if len(text) == 2 && strings.Trim(text, octals) == "" {
		if third := p.while(1, octals); third != "" {
			r := octal(text + third)
			if r > 0o377 {
				p.fail(p.tell()-start, `octal escape value \%s outside of range 0-0o377`, text+third)
			}
			return literal(r, flags)
		}
	}
	group, _ := strconv.Atoi(text) // two digits at most
	if group >= len(p.names) {
		p.fail(p.tell()-start-1, "invalid group reference %d", group)
	}
	return p.backref(group, p.tell()-start, flags)
}

// character is what the escape of c stands for, in sets and outside.
func (p *parser) character(c rune, start int) rune {
	hex := func(n int) rune {
		text := p.while(n, hexDigits)
		if len(text) != n {
			p.fail(p.tell()-start, `incomplete escape \%c%s`, c, text)
		}
		v, _ := strconv.ParseUint(text, 16, 32) // n hex digits
		if v > utf8.MaxRune {
			p.fail(p.tell()-start, `bad escape \%c%s`, c, text)
		}
		return rune(v)
	}
	switch c {
	case 'a':
		return '\a'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	case 'x':
		return hex(2)
	case 'u':
		return hex(4)
	case 'U':
		return hex(8)
	case 'N':
		p.fail(p.tell()-start, `\N is not supported: write the character itself, or \u and its number`)
	}
	if c|0x20 >= 'a' && c|0x20 <= 'z' {
		p.fail(p.tell()-start, `bad escape \%c`, c)
	}
	return c
}

func isClass(c rune) bool { return strings.ContainsRune("dDsSwW", c) }

func octal(digits string) (r rune) {
	for _, d := range digits {
		r = r<<3 | d - '0'
	}
	return r
}

// set reads a set whose bracket, at start, is taken.
func (p *parser) set(start int, flags Flags) *node {
	s := &set{fold: flags&IgnoreCase != 0, onlyASCII: flags&ASCII != 0}
	s.negative = p.accept('^')
	token := func() (text string, item setItem) {
		if p.next == nil {
			p.fail(p.tell()-start, "unterminated character set")
		}
		text = string(p.next)
		return text, p.member()
	}
	for first := true; first || !p.at(']'); first = false {
		text, item := token()
		if !p.accept('-') {
			s.items = append(s.items, item)
			continue
		}
		if p.at(']') {
			s.items = append(s.items, item, setItem{lo: '-', hi: '-'})
			break
		}
		text2, item2 := token()
		if item.class != 0 || item2.class != 0 || item2.lo < item.lo {
			bad := fmt.Sprintf("%s-%s", text, text2)
			p.fail(utf8.RuneCountInString(bad), "bad character range %s", bad)
		}
		item.hi = item2.lo
		s.items = append(s.items, item)
	}
	p.advance()
	if len(s.items) == 1 && !s.negative && s.items[0].class == 0 && s.items[0].lo == s.items[0].hi {
		return literal(s.items[0].lo, flags)
	}
	s.finish()
	return &node{op: opSet, set: s, lit: -1}
}

// member reads one character or class of a set.
func (p *parser) member() setItem {
	if len(p.next) == 1 {
		c := p.next[0]
		p.advance()
		return setItem{lo: c, hi: c}
	}
	start, c := p.tell(), p.next[1]
	p.advance()
	one := func(r rune) setItem { return setItem{lo: r, hi: r} }
	switch {
	case isClass(c):
		return setItem{class: byte(c)}
	case c == 'b':
		return one('\b')
	case strings.ContainsRune(octals, c):
		text := string(c) + p.while(2, octals)
		r := octal(text)
		if r > 0o377 {
			p.fail(p.tell()-start, `octal escape value \%s outside of range 0-0o377`, text)
		}
		return one(r)
	case c == '8' || c == '9':
		p.fail(p.tell()-start, `bad escape \%c`, c)
	}
	return one(p.character(c, start))
}
