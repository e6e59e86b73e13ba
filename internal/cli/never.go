package cli

import (
	"regexp"
	"strconv"
	"strings"
)

// neverMatches says why an expression of a filter cannot match any line, or "" if it may.
// It knows the few mistakes that people make and is sure of what it says: whatever it does
// not follow is taken to match.
//
// A line is searched with a line end behind it and none in it (detection.md 4.1), so that
// "$" matches before that end and "\Z" only behind it. Filters with maxlines are not asked about:
// there "^" and "$" mean something else.
func neverMatches(expr string) string {
	if strings.Contains(expr, "<SKIPLINES>") {
		return "<SKIPLINES> needs maxlines of 2 or more"
	}
	expr = fTag.ReplaceAllStringFunc(expr, func(tag string) string {
		switch name := strings.Trim(tag, "</>"); {
		case strings.HasPrefix(tag, "</"):
			return ")"
		case !strings.HasPrefix(name, "F-"), strings.HasSuffix(tag, "/>"):
			return "0" // one character, no line end: enough to be right about what stands around it
		}
		return "("
	})
	if otherFlags.MatchString(expr) {
		return ""
	}
	p := neverParser{rest: expr}
	_, why := p.alternatives(reached{}, 0)
	if p.lost || p.rest != "" {
		return ""
	}
	return why
}

var (
	fTag = regexp.MustCompile(`</?(?:HOST|ADDR|IP4|IP6|DNS|CIDR|SUBNET|F-[A-Z0-9_-]+)/?>`)
	// otherFlags change what anchors, dots and blanks mean.
	otherFlags = regexp.MustCompile(`\(\?[a-zA-Z]*[msx][a-zA-Z]*[):-]`)
	counted    = regexp.MustCompile(`^\{(\d*)(?:,\d*)?\}`)
)

// reached is what holds at a place of an expression, however it was come to.
type reached struct {
	ate    bool // at least one character was matched
	mayEnd bool // something of what was matched may have been the line end
	ended  bool // behind "$": nothing but the line end can follow
	closed bool // behind "\Z": nothing can follow
}

// or is what holds if either a or b does.
func (a reached) or(b reached) reached {
	return reached{a.ate && b.ate, a.mayEnd || b.mayEnd, a.ended && b.ended, a.closed && b.closed}
}

// neverParser goes through an expression once.
type neverParser struct {
	rest string
	lost bool // something is not understood
}

// maxNeverDepth is how deep groups are followed.
const maxNeverDepth = 100

func (p *neverParser) alternatives(in reached, depth int) (out reached, why string) {
	some := false
	for {
		at, w := p.sequence(in, depth)
		switch {
		case w != "" && why == "":
			why = w
		case w == "" && !some:
			out, some = at, true
		case w == "":
			out = out.or(at)
		}
		if p.lost || !strings.HasPrefix(p.rest, "|") {
			break
		}
		p.rest = p.rest[1:]
	}
	if some {
		why = ""
	}
	return out, why
}

// sequence reads what stands between bars. An item that cannot match makes it one that cannot.
func (p *neverParser) sequence(at reached, depth int) (out reached, why string) {
	note := func(w string) {
		if why == "" {
			why = w
		}
	}
	for p.rest != "" && p.rest[0] != '|' && p.rest[0] != ')' && !p.lost {
		before := at
		w := p.item(&at, depth)
		least := p.quantifier()
		if least == 0 {
			// It may be left out.
			at, w = before.or(at), ""
		}
		if w != "" {
			note(w)
		}
	}
	return at, why
}

// quantifier is how often the item before it must match at least.
func (p *neverParser) quantifier() int {
	least := 1
	switch {
	case p.rest == "":
		return 1
	case p.rest[0] == '*', p.rest[0] == '?':
		least, p.rest = 0, p.rest[1:]
	case p.rest[0] == '+':
		p.rest = p.rest[1:]
	default:
		m := counted.FindStringSubmatch(p.rest)
		if m == nil || m[0] == "{}" {
			return 1
		}
		least, _ = strconv.Atoi(m[1]) // nothing is zero
		p.rest = p.rest[len(m[0]):]
	}
	if p.rest != "" && (p.rest[0] == '?' || p.rest[0] == '+') {
		p.rest = p.rest[1:]
	}
	return least
}

// eat is one character; lineEnd is whether it may be a line end.
func (at *reached) eat(lineEnd bool) string {
	switch {
	case at.closed:
		return `nothing can follow \Z, the end of the text`
	case at.ended && !lineEnd:
		return `nothing can follow $, the end of the line`
	}
	at.ate, at.mayEnd, at.ended = true, at.mayEnd || lineEnd, false
	return ""
}

func (p *neverParser) item(at *reached, depth int) string {
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case '^':
		return at.start("^")
	case '$':
		at.ended = true
		return ""
	case '.':
		return at.eat(false)
	case '[':
		return p.class(at)
	case '(':
		return p.group(at, depth)
	case '\\':
		return p.escape(at)
	case '*', '+', '?':
		p.lost = true
		return ""
	}
	return at.eat(c == '\n')
}

func (at *reached) start(what string) string {
	if at.ate {
		return what + " stands behind something, but means the start of the line; write \\" + what + " for the character"
	}
	return ""
}

func (p *neverParser) escape(at *reached) string {
	if p.rest == "" {
		p.lost = true
		return ""
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case 'A':
		if at.ate {
			return `\A stands behind something, but means the start of the line`
		}
		return ""
	case 'Z':
		if at.ate && !at.mayEnd {
			return `\Z means the end behind the line end, which nothing before it matches: write $`
		}
		at.closed = true
		return ""
	case 'b', 'B':
		return ""
	case 'd', 'w', 'S':
		return at.eat(false)
	case 's', 'D', 'W', 'n', 'r', 'v', 'f', 't', 'a', 'x', 'u', 'U', 'N', '0':
		at.ended = false // more is not asked of these
		if at.closed {
			return at.eat(true)
		}
		at.ate, at.mayEnd = true, true
		p.hex(c)
		return ""
	}
	if c >= '1' && c <= '9' {
		for p.rest != "" && p.rest[0] >= '0' && p.rest[0] <= '9' {
			p.rest = p.rest[1:]
		}
		at.mayEnd, at.ended = true, false // what a group matched, perhaps nothing
		return ""
	}
	return at.eat(false)
}

// hex passes over the digits of \xhh, \uhhhh and \Uhhhhhhhh.
func (p *neverParser) hex(c byte) {
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	p.lost = p.lost || c == 'N' || n > len(p.rest)
	if !p.lost {
		p.rest = p.rest[n:]
	}
}

// class is a set of characters in brackets.
func (p *neverParser) class(at *reached) string {
	body, negated := p.rest, false
	if strings.HasPrefix(body, "^") {
		body, negated = body[1:], true
	}
	end := -1
	for i := 0; i < len(body); i++ {
		if body[i] == '\\' {
			i++
		} else if body[i] == ']' && i > 0 {
			end = i
			break
		}
	}
	if end < 0 {
		p.lost = true
		return ""
	}
	p.rest, body = body[end+1:], body[:end]
	if negated {
		for _, all := range []string{`\s\S`, `\S\s`, `\w\W`, `\W\w`, `\d\D`, `\D\d`} {
			if strings.Contains(body, all) {
				return "the class [^" + body + "] leaves no character"
			}
		}
	}
	return at.eat(negated || strings.ContainsAny(body, "\\\n-"))
}

var (
	namedGroup = regexp.MustCompile(`^\?P<\w+>`)
	backRef    = regexp.MustCompile(`^\?P=\w+`)
	condition  = regexp.MustCompile(`^\?\(\w+\)`)
	flagGroup  = regexp.MustCompile(`^\?[a-zA-Z]*(?:-[a-zA-Z]+)?:`)
	flagsOnly  = regexp.MustCompile(`^\?[a-zA-Z]+\)`)
)

// group is what stands between parentheses; its opening one was read.
func (p *neverParser) group(at *reached, depth int) (why string) {
	if depth > maxNeverDepth {
		p.lost = true
		return ""
	}
	inner := *at
	take := func(n int) { p.rest = p.rest[n:] }
	closing := func() {
		if !strings.HasPrefix(p.rest, ")") {
			p.lost = true
			return
		}
		take(1)
	}
	switch {
	case strings.HasPrefix(p.rest, "?!"), strings.HasPrefix(p.rest, "?<!"):
		take(strings.IndexByte(p.rest, '!') + 1)
		empty := strings.HasPrefix(p.rest, ")")
		p.alternatives(reached{}, depth+1) // of what is looked for nothing is asked
		closing()
		if empty {
			return "the negative look-around matches nothing, so it always fails"
		}
		return ""
	case strings.HasPrefix(p.rest, "?="), strings.HasPrefix(p.rest, "?<="):
		take(strings.IndexByte(p.rest, '=') + 1)
		p.alternatives(reached{}, depth+1) // of what is looked for nothing is asked
		closing()
		return ""
	case strings.HasPrefix(p.rest, "?#"):
		if end := strings.IndexByte(p.rest, ')'); end >= 0 {
			take(end + 1)
			return ""
		}
		p.lost = true
		return ""
	case flagsOnly.MatchString(p.rest):
		take(strings.IndexByte(p.rest, ')') + 1)
		return ""
	case backRef.MatchString(p.rest):
		take(len(backRef.FindString(p.rest)))
		closing()
		at.mayEnd, at.ended = true, false
		return ""
	case condition.MatchString(p.rest):
		take(len(condition.FindString(p.rest)))
		out, _ := p.alternatives(inner, depth+1) // it may take either, or none
		closing()
		*at = at.or(out)
		return ""
	}
	switch {
	case strings.HasPrefix(p.rest, "?>"):
		take(2)
	case namedGroup.MatchString(p.rest):
		take(len(namedGroup.FindString(p.rest)))
	case flagGroup.MatchString(p.rest):
		take(len(flagGroup.FindString(p.rest)))
	case strings.HasPrefix(p.rest, "?"):
		p.lost = true
		return ""
	}
	out, why := p.alternatives(inner, depth+1)
	closing()
	if why == "" {
		*at = out
	}
	return why
}
