package timestamp

import (
	"bytes"
	"strings"
)

// A frame is what a datepattern has around {DATE} where that can be followed by
// hand, such as ^[^\[]*\[({DATE}): from the start of the line there is only one way
// to match it, and so only one place for the date.
type frame struct {
	before, after []step

	shapes shape // what stands in the date's place in the line at hand
}

// A step matches a piece of a frame.
type step struct {
	op   op
	char byte
}

type op uint8

const (
	opChar  op = iota // char itself
	opUntil           // what is not char, perhaps nothing; char follows
	opSpace           // white space, perhaps none
	opOpen            // the start of what is to be cut
	opClose           // its end
)

// newFrame understands what stands before and after {DATE}, or gives nil.
func newFrame(before, after string) *frame {
	s, bound := strings.CutPrefix(before, "^")
	if !bound || s == "" {
		return nil
	}
	f := &frame{}
	opens := 0
	for s != "" {
		var c byte
		var ok bool
		switch {
		case s[0] == '(' && !strings.HasPrefix(s, "(?") && opens == 0:
			f.before = append(f.before, step{op: opOpen})
			opens++
			s = s[1:]
			continue
		case strings.HasPrefix(s, "[^"):
			if c, s, ok = literal(s[2:]); !ok || !strings.HasPrefix(s, "]*") {
				return nil
			}
			s = s[2:]
			// Only with that character behind it there is but one way.
			next := strings.TrimPrefix(s, "(")
			if follows, _, ok := literal(next); !ok || follows != c {
				return nil
			}
			f.before = append(f.before, step{opUntil, c})
			continue
		}
		if c, s, ok = literal(s); !ok {
			return nil
		}
		f.before = append(f.before, step{opChar, c})
	}
	if len(f.before) == opens {
		return nil // a format may then begin with ^ itself
	}
	for s = after; s != ""; {
		var c byte
		switch {
		case s[0] == ')' && opens == 1:
			f.after = append(f.after, step{op: opClose})
			opens++
			s = s[1:]
			continue
		case strings.HasPrefix(s, `\s*`):
			s = s[3:]
			f.after = append(f.after, step{op: opSpace})
			if next := strings.TrimPrefix(s, ")"); next == "" || !closing(next) {
				return nil
			}
			continue
		}
		// A date may end early to let what belongs to it follow: not a bracket.
		if !closing(s) {
			return nil
		}
		c, s, _ = literal(s)
		f.after = append(f.after, step{opChar, c})
	}
	if opens == 1 {
		return nil
	}
	return f
}

// literal is the character other than a letter or digit that an expression begins
// with, escaped or meaning itself.
func literal(s string) (c byte, rest string, ok bool) {
	if s == "" {
		return 0, s, false
	}
	if s[0] == '\\' {
		if s = s[1:]; s == "" {
			return 0, s, false
		}
	} else if strings.IndexByte(` -,;:!"'=<>/@&#~_`+"`", s[0]) < 0 {
		return 0, s, false
	}
	if s[0] >= 0x80 || isDigit(s[0]) || isLetter(s[0]) || s[0] < ' ' {
		return 0, s, false
	}
	if len(s) > 1 && strings.IndexByte("*+?{", s[1]) >= 0 {
		return 0, s, false
	}
	return s[0], s[1:], true
}

// closing reports whether s begins with a closing bracket or a quote.
func closing(s string) bool {
	c, _, ok := literal(s)
	return ok && strings.IndexByte(`])}>"'`, c) >= 0
}

// place is where the date is to begin and the cut starts; ok is false if the line
// does not match up to there.
func (f *frame) place(text []byte) (date, cut int, ok bool) {
	i := 0
	for _, s := range f.before {
		switch s.op {
		case opOpen:
			cut = i
		case opUntil:
			n := bytes.IndexByte(text[i:], s.char)
			if n < 0 {
				return 0, 0, false
			}
			i += n
		default:
			if i == len(text) || text[i] != s.char {
				return 0, 0, false
			}
			i++
		}
	}
	return i, cut, true
}

// shapesIn is the shape of what stands in the date's place.
func (f *frame) shapesIn(text []byte) shape {
	if i, _, ok := f.place(text); ok {
		return shapeAt(text, i)
	}
	return 0
}

// find searches a line for t, whose frame it is.
func (f *frame) find(p *parser, t *template) {
	h := p.hit
	date, cut, ok := f.place(p.text)
	if !ok || !p.try(t, date) {
		return
	}
	i, end := h.end, -1
	for _, s := range f.after {
		switch s.op {
		case opClose:
			end = i
		case opSpace:
			for i < len(p.text) && p.text[i] == ' ' {
				i++
			}
			if i < len(p.text) && (p.text[i] < ' ' || p.text[i] >= 0x80) {
				h.clear() // there is more white space than need be known here
				h.ok = t.regex.find(p, p.text, h)
				return
			}
		default:
			if h.ok = i < len(p.text) && p.text[i] == s.char; !h.ok {
				return
			}
			i++
		}
	}
	if end < 0 {
		end = i
	}
	h.from, h.to, h.start, h.end = 0, i, cut, end
}
