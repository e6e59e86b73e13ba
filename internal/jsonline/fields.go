// Package jsonline reads lines of JSON (RFC 8259) without a tree of them: the text of a string, and a few fields
// of an object as one text that cannot be mistaken. Lines are attackers' text; both take linear time.
package jsonline

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fields are the fields of lines that somebody looks at. A line that is a JSON object becomes the text
//
//	FIELD=VALUE FIELD=VALUE …
//
// in the order in which they are named; a field inside others is named with dots between, an element of
// an array by its number from 0 on. What a VALUE is nobody can mistake: a string is in quotes, and quotes,
// backslashes and control characters in it are escaped, so that "[^"]*" never leaves it; numbers, true
// and false are as they stand, an object or array without blanks, and null is also what is not there.
// A line that is no JSON object has no text. Before the object may stand what syslog and the journal write
// before each line, "Mar  2 10:15:04 HOST PROGRAM[PID]: ", with an RFC 3339 time or without any; what a program
// writes itself may not, as it may be somebody's text.
type Fields []string

// Bounds of Fields.
const (
	maxFields = 32
	maxDepth  = 64
)

// ParseFields checks names of fields.
func ParseFields(names []string) (Fields, error) {
	if len(names) > maxFields {
		return nil, fmt.Errorf("%d fields are more than %d", len(names), maxFields)
	}
	for i, name := range names {
		if name == "" || strings.ContainsAny(name, `="\`) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
			return nil, fmt.Errorf("%q is no field: write NAME, or NAME.NAME for one inside another", name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("%q is there twice", name)
		}
	}
	return names, nil
}

// A want is a field that may be in the value at hand: what is left of its name, and which it is.
type want struct {
	rest  string
	field int
}

// A reader walks through one line.
type reader struct {
	text   []byte
	at     int
	values [maxFields][]byte // of the fields, as they stand in text
	key    []byte            // scratch
}

// Flatten appends the text of a line to out.
func (f Fields) Flatten(text, out []byte) []byte {
	r := reader{text: text}
	wants := make([]want, len(f), maxFields)
	for i, name := range f {
		wants[i] = want{name, i}
	}
	r.at = head(text)
	r.space()
	if r.at == len(text) || text[r.at] != '{' || !r.value(wants, 0) {
		return out
	}
	if r.space(); r.at != len(text) {
		return out
	}
	for i, name := range f {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(append(out, name...), '=')
		out = appendValue(out, r.values[i])
	}
	return out
}

// maxHead bounds a head in bytes: a time, a host's name, which has 64 at most (HOST_NAME_MAX in Linux'
// include/uapi/linux/limits.h), and a program's.
const maxHead = 256

// head is how long the head is that syslog or the journal has written before an object.
func head(text []byte) int {
	text = text[:min(len(text), maxHead)]
	n := bytes.IndexByte(text, '{')
	if n < 0 || !bytes.HasSuffix(text[:n], []byte(": ")) {
		return 0
	}
	words := bytes.Fields(text[:n-2])
	switch len(words) {
	case 2: // the journal knows the number of each process
		if i := bytes.IndexByte(words[1], '['); i > 0 && bytes.HasSuffix(words[1], []byte("]")) {
			return n
		}
	case 3:
		if _, err := time.Parse(time.RFC3339, string(words[0])); err == nil {
			return n
		}
	case 5:
		if _, err := time.Parse(time.Stamp, string(bytes.Join(words[:3], []byte(" ")))); err == nil {
			return n
		}
	}
	return 0
}

func (r *reader) space() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\t' || r.text[r.at] == '\n' || r.text[r.at] == '\r') {
		r.at++
	}
}

// value reads a value in which some fields may be; it is false if there is none.
func (r *reader) value(wants []want, depth int) bool {
	if r.at >= len(r.text) || depth > maxDepth {
		return false
	}
	switch c := r.text[r.at]; {
	case c == '{':
		return r.members('}', wants, depth)
	case c == '[':
		return r.members(']', wants, depth)
	case c == '"':
		return r.quoted()
	case c == 't':
		return r.word("true")
	case c == 'f':
		return r.word("false")
	case c == 'n':
		return r.word("null")
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	return false
}

// number reads a number.
func (r *reader) number() bool {
	next := func(c byte) bool {
		if r.at < len(r.text) && r.text[r.at] == c {
			r.at++
			return true
		}
		return false
	}
	digits := func() bool {
		begin := r.at
		for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
			r.at++
		}
		return r.at > begin
	}
	next('-')
	if !next('0') && !digits() {
		return false
	}
	if next('.') && !digits() {
		return false
	}
	if next('e') || next('E') {
		if !next('+') {
			next('-')
		}
		return digits()
	}
	return true
}

func (r *reader) word(w string) bool {
	if !strings.HasPrefix(string(r.text[r.at:min(len(r.text), r.at+len(w))]), w) {
		return false
	}
	r.at += len(w)
	return true
}

// members reads an object or an array.
func (r *reader) members(end byte, wants []want, depth int) bool {
	r.at++
	r.space()
	if r.at < len(r.text) && r.text[r.at] == end {
		r.at++
		return true
	}
	var inside [maxFields]want
	for n := 0; ; n++ {
		var key []byte
		if end == '}' {
			begin := r.at
			if r.at >= len(r.text) || r.text[r.at] != '"' || !r.quoted() {
				return false
			}
			if key = r.text[begin+1 : r.at-1]; len(wants) > 0 && slices.Contains(key, '\\') {
				r.key, _, _ = Unquote(r.key[:0], r.text[begin+1:r.at]) // it is well formed
				key = r.key
			}
			if r.space(); r.at >= len(r.text) || r.text[r.at] != ':' {
				return false
			}
			r.at++
			r.space()
		} else if len(wants) > 0 {
			r.key = strconv.AppendInt(r.key[:0], int64(n), 10)
			key = r.key
		}
		// Those that are meant are picked before what is inside has keys of its own.
		deeper, picked := inside[:0], [maxFields]int{}
		here := picked[:0]
		for _, w := range wants {
			rest, ok := strings.CutPrefix(w.rest, string(key))
			switch {
			case !ok:
			case rest == "":
				here = append(here, w.field)
			case rest[0] == '.':
				deeper = append(deeper, want{rest[1:], w.field})
			}
		}
		begin := r.at
		if !r.value(deeper, depth+1) {
			return false
		}
		for _, field := range here {
			r.values[field] = r.text[begin:r.at] // the last one of a name counts
		}
		if r.space(); r.at >= len(r.text) {
			return false
		}
		switch r.text[r.at] {
		case ',':
			r.at++
			r.space()
		case end:
			r.at++
			return true
		default:
			return false
		}
	}
}

// quoted reads a string.
func (r *reader) quoted() bool {
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return true
		case c < 0x20:
			return false
		case c == '\\':
			if r.at++; r.at == len(r.text) {
				return false
			}
			switch r.text[r.at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if r.at+4 >= len(r.text) {
					return false
				}
				if _, ok := hex4(r.text[r.at+1:]); !ok {
					return false
				}
				r.at += 4
			default:
				return false
			}
		}
	}
	return false
}

// appendValue appends a value as it stands in a line, nil for none, in the one way in which it is written here.
func appendValue(out, value []byte) []byte {
	if value == nil {
		return append(out, "null"...)
	}
	if value[0] == '{' || value[0] == '[' {
		quoted := false
		for i := 0; i < len(value); i++ {
			c := value[i]
			switch {
			case quoted && c == '\\':
				out = append(out, c)
				i++
				c = value[i]
			case c == '"':
				quoted = !quoted
			case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
				continue
			}
			out = append(out, c)
		}
		return out
	}
	if value[0] != '"' {
		return append(out, value...)
	}
	inner := value[1 : len(value)-1]
	if !slices.Contains(inner, '\\') && !slices.ContainsFunc(inner, func(c byte) bool { return c == 0x7f }) {
		return append(out, value...)
	}
	out = append(out, '"')
	plain, _, _ := Unquote(nil, value[1:]) // it is well formed
	for _, c := range plain {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20 || c == 0x7f:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
