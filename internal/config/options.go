package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A param is one parameter in the brackets behind a name.
type param struct {
	key   string // as written; key?family=inet6 for one address family
	value string // without quotes and outer blanks
}

// open reports whether the value begins with a quote that is not closed and so is part of it.
func (p param) open() bool {
	return p.value != "" && (p.value[0] == '"' || p.value[0] == '\'') && strings.IndexByte(p.value[1:], p.value[0]) < 0
}

const paramHint = "write NAME[KEY=VALUE, KEY=\"VALUE\"] with no blank before [ or before =, and none between a closing quote and the comma"

// nameParams reads NAME[KEY=VALUE, …][…] (detection.md 2.1). The name is all that
// stands before the first bracket, a trailing blank included.
func nameParams(text string) (name string, params []param, err error) {
	text = strings.TrimRightFunc(text, isSpace)
	name, rest, has := strings.Cut(text, "[")
	if name == "" {
		return "", nil, fmt.Errorf("%s has no name", quote(text))
	}
	if !has {
		return name, nil, nil
	}
	if !strings.HasSuffix(rest, "]") {
		return "", nil, fmt.Errorf("the bracket of %s is not closed", quote(text))
	}
	rest = strings.TrimLeftFunc(strings.TrimSuffix(rest, "]"), isSpace)
	for rest != "" {
		var p param
		if p, rest, err = oneParam(rest); err != nil {
			return "", nil, fmt.Errorf("in %s: %w", quote(text), err)
		}
		params = append(params, p)
	}
	return name, params, nil
}

// oneParam reads KEY=VALUE and the separator behind it.
func oneParam(text string) (p param, rest string, err error) {
	key := keyLen(text)
	if key == 0 || !strings.HasPrefix(text[key:], "=") {
		return p, "", fmt.Errorf("KEY=VALUE expected at %s", quote(text))
	}
	p.key, text = text[:key], text[key+1:]
	if value, after, ok := quoted(text); ok {
		p.value, rest = trim(value), after
	} else {
		end := strings.IndexAny(text, ",]")
		if end < 0 {
			end = len(text)
		}
		p.value, rest = trim(text[:end]), text[end:]
	}
	switch {
	case rest == "":
		return p, "", nil
	case rest[0] == ',':
		return p, strings.TrimLeftFunc(rest[1:], isSpace), nil
	case rest[0] == ']':
		// The next group, or a bracket too many.
		if next := strings.TrimLeftFunc(rest[1:], isSpace); strings.HasPrefix(next, "[") && trim(next[1:]) != "" {
			return p, strings.TrimLeftFunc(next[1:], isSpace), nil
		}
	}
	return p, "", fmt.Errorf("a comma or the closing bracket expected at %s", quote(rest))
}

// keyLen is the length of the key that text begins with: a word, perhaps with
// ?word=word for one address family. 0 means there is none.
func keyLen(text string) int {
	n := wordLen(text, "-.")
	if n == 0 || !strings.HasPrefix(text[n:], "?") {
		return n
	}
	cond := wordLen(text[n+1:], "")
	if at := n + 1 + cond; cond > 0 && strings.HasPrefix(text[at:], "=") {
		if value := wordLen(text[at+1:], ""); value > 0 {
			return at + 1 + value
		}
	}
	return 0
}

func wordLen(text, extra string) int {
	for i, r := range text {
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune(extra, r) {
			return i
		}
	}
	return len(text)
}

// quoted reads a value in quotes that is closed and followed by nothing that
// would continue it: a quote that is not closed is part of a bare value.
func quoted(text string) (value, rest string, ok bool) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return "", "", false
	}
	end := strings.IndexByte(text[1:], text[0])
	if end < 0 {
		return "", "", false
	}
	return text[1 : 1+end], text[2+end:], true
}

// at is the value as if it was written where one of its entries begins; an entry that comes by a reference begins where the
// value does.
func (v *Value) at(entry string) *Value {
	first, _, _ := strings.Cut(entry, "\n")
	n := 0
	for line := range strings.SplitSeq(v.Text, "\n") {
		if line = trim(line); strings.HasPrefix(line, trim(first)) && n < len(v.rows) {
			w := *v
			w.Line = v.rows[n]
			return &w
		}
		if line != "" {
			n++
		}
	}
	return v
}

// openQuote is the problem of a quote that is not closed in a list of NAME[…] or in what it refers to, at the first line
// that has one; nil if there is none.
func (r *jailReader) openQuote(v *Value) *Problem {
	seen := map[*Value]bool{}
	for look := []*Value{v}; len(look) > 0 && len(seen) < maxShown; look = look[1:] {
		v := look[0]
		if v == nil || seen[v] || v.cut {
			continue // the end of one that was cut off is told as that
		}
		seen[v] = true
		n := 0
		for line := range strings.SplitSeq(v.Text, "\n") {
			if trim(line) == "" {
				continue
			}
			if at := openAt(line); at >= 0 {
				p := problemAt(v, "a quote is not closed: "+quote(line[at:]), "write KEY=\"VALUE\" with both quotes")
				if n < len(v.rows) {
					p.Line = v.rows[n]
				}
				return p
			}
			n++
		}
		references(v.Text, func(key string) { look = append(look, r.scope.set.raw(r.jail.Name, key)) })
	}
	return nil
}

// openAt is where a line's last parameter begins whose value's quote is not closed, or -1.
func openAt(line string) int {
	for i := 0; i < len(line); i++ {
		if line[i] != '"' && line[i] != '\'' {
			continue
		}
		end := strings.IndexByte(line[i+1:], line[i])
		if rest := line[i+1:]; end < 0 || end > 0 && rest[end-1] == '=' && end+1 < len(rest) && !strings.ContainsRune(",] ", rune(rest[end+1])) {
			if i == 0 || line[i-1] != '=' {
				return -1 // an apostrophe
			}
			for i--; i > 0 && keyLen(line[i-1:i]) > 0; {
				i--
			}
			return i
		}
		i += end + 1
	}
	return -1
}

// entries cuts a list of NAME[…] at newlines and blanks that stand outside
// brackets (detection.md 2.2). A blank before a bracket does not cut.
func entries(text string) []string {
	var out []string
	start := 0
	add := func(end int) {
		if s := trim(text[start:end]); s != "" {
			out = append(out, s)
		}
	}
	// Whether a later "]" may still exist, and whether quotes pair so that they
	// count: each is given up once, which keeps the search linear.
	open, pair := true, true
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == '[' && open {
			n := 0
			if pair {
				n = bracketLen(text[i:])
				pair = n > 0
			}
			if n == 0 {
				n = strings.IndexByte(text[i:], ']') + 1
			}
			if n > 0 {
				i += n
				continue
			}
			open = false
		}
		if !isSpace(r) {
			i += size
			continue
		}
		end := i
		for i < len(text) {
			r, size = utf8.DecodeRuneInString(text[i:])
			if !isSpace(r) {
				break
			}
			i += size
		}
		if i < len(text) && text[i] == '[' && trim(text[start:end]) != "" {
			continue
		}
		add(end)
		start = i
	}
	add(len(text))
	return out
}

// bracketLen is the length of the bracket group that text begins with, to the
// first "]" outside quotes; 0 if there is none.
func bracketLen(text string) int {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case ']':
			return i + 1
		case '"', '\'':
			if end := strings.IndexByte(text[i+1:], c); end >= 0 {
				i += end + 1
			}
		}
	}
	return 0
}
