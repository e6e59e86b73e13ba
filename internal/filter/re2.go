package filter

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// re2 is the engine made of Go's regexp. It lacks look-around, back-references and
// conditions, which it refuses; \b and \B know ASCII words only.
type re2 struct{}

func (re2) compile(expr string, multiline bool) (expression, error) {
	translated, err := translate(expr)
	if err != nil {
		return nil, err
	}
	if multiline {
		translated = "(?m:" + translated + ")"
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	seen := make(map[string]bool)
	for _, name := range re.SubexpNames() {
		if name != "" && seen[name] {
			return nil, fmt.Errorf("the group %s is there twice", name)
		}
		seen[name] = true
	}
	e := &re2Expression{re: re}
	if tree, err := syntax.Parse(translated, syntax.Perl); err == nil {
		e.needles = needles(tree.Simplify())
	}
	return e, nil
}

type re2Expression struct {
	re *regexp.Regexp
	// needles are texts of which every match holds one; none means unknown.
	// Looking for them costs far less than matching does.
	needles [][]byte
}

func (e *re2Expression) groups() []string { return e.re.SubexpNames() }

func (e *re2Expression) find(text []byte, spans []int) []int {
	if len(e.needles) > 0 && !containsAny(text, e.needles) {
		return nil
	}
	loc := e.re.FindSubmatchIndex(text)
	if loc == nil {
		return nil
	}
	return append(spans, loc...)
}

func containsAny(text []byte, needles [][]byte) bool {
	for _, n := range needles {
		if bytes.Contains(text, n) {
			return true
		}
	}
	return false
}

// Bounds of needles: shorter ones reject too little, more cost too much to look for.
const (
	minNeedle  = 3
	maxNeedles = 8
)

// needles are the best set of texts of which every match of re holds at least one.
func needles(re *syntax.Regexp) [][]byte {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 || len(re.Rune) < minNeedle {
			return nil
		}
		return [][]byte{[]byte(string(re.Rune))}
	case syntax.OpCapture, syntax.OpPlus:
		return needles(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needles(re.Sub[0])
		}
	case syntax.OpConcat:
		var best [][]byte
		for _, sub := range re.Sub {
			if n := needles(sub); score(n) > score(best) {
				best = n
			}
		}
		return best
	case syntax.OpAlternate:
		var all [][]byte
		for _, sub := range re.Sub {
			n := needles(sub)
			if n == nil || len(all)+len(n) > maxNeedles {
				return nil
			}
			all = append(all, n...)
		}
		return all
	}
	return nil
}

// score ranks sets of needles: a few long ones reject most lines at least cost.
func score(needles [][]byte) int {
	if len(needles) == 0 {
		return 0
	}
	shortest := len(needles[0])
	for _, n := range needles {
		shortest = min(shortest, len(n))
	}
	return 100*shortest/len(needles) + 1
}

// Python's classes are Unicode's in text patterns (re, "Regular Expression Syntax").
// The names stand for themselves inside a set; the complements are written out
// because a set cannot hold a complement.
const (
	setDigit    = `\p{Nd}`
	setWord     = `\p{L}\p{N}_`
	setSpace    = `\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
	setNotDigit = `\P{Nd}`
	setNotSpace = `\x00-\x08\x0e-\x1b\x21-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}` +
		`\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff}`
)

var setNotWord = complement(`[` + setWord + `]`)

// complement writes out the characters that a set leaves.
func complement(set string) string {
	re, err := syntax.Parse(set, syntax.Perl)
	if err != nil {
		panic(fmt.Sprintf("set %s: %v", set, err))
	}
	var b strings.Builder
	next := rune(0)
	for i := 0; i < len(re.Rune); i += 2 {
		if lo := re.Rune[i]; lo > next {
			fmt.Fprintf(&b, `\x{%x}-\x{%x}`, next, lo-1)
		}
		next = re.Rune[i+1] + 1
	}
	fmt.Fprintf(&b, `\x{%x}-\x{10ffff}`, next)
	return b.String()
}

func classSet(c byte) (set string, ok bool) {
	switch c {
	case 'd':
		return setDigit, true
	case 'D':
		return setNotDigit, true
	case 'w':
		return setWord, true
	case 'W':
		return setNotWord, true
	case 's':
		return setSpace, true
	case 'S':
		return setNotSpace, true
	}
	return "", false
}

// translate rewrites an expression of Python's re into one of Go's regexp that
// matches the same, or says which construct there is none for.
func translate(expr string) (string, error) {
	t := translator{src: expr}
	if err := t.run(); err != nil {
		return "", err
	}
	return t.out.String(), nil
}

type translator struct {
	src string
	i   int
	out strings.Builder
}

func (t *translator) run() error {
	for t.i < len(t.src) {
		rest := t.src[t.i:]
		var err error
		switch c := rest[0]; {
		case c == '\\':
			err = t.escape(false)
		case c == '[':
			err = t.set()
		case c == '$':
			// Before the line end that closes the text, or at its end.
			t.emit(`(?m:$)`, 1)
		case c == '(':
			err = t.group(rest)
		case strings.HasPrefix(rest, "{,") && len(rest) > 2 && isDigit(rest[2]):
			t.emit("{0,", 2)
		case strings.ContainsRune("*+?}", rune(c)) && len(rest) > 1 && rest[1] == '+':
			if c != '}' || t.closesRepeat() {
				return fmt.Errorf("the possessive repeat %s is beyond this engine", rest[:2])
			}
			t.emit(rest[:1], 1)
		default:
			t.emit(rest[:1], 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *translator) emit(s string, consumed int) {
	t.out.WriteString(s)
	t.i += consumed
}

// closesRepeat reports whether the } at hand ends a {n,m}.
func (t *translator) closesRepeat() bool {
	open := strings.LastIndexByte(t.src[:t.i], '{')
	return open >= 0 && open+1 < t.i && strings.Trim(t.src[open+1:t.i], "0123456789,") == ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// group handles what begins with a parenthesis.
func (t *translator) group(rest string) error {
	for _, g := range []struct{ begin, name string }{
		{"(?=", "look-ahead"},
		{"(?!", "negative look-ahead"},
		{"(?<=", "look-behind"},
		{"(?<!", "negative look-behind"},
		{"(?P=", "back-reference"},
		{"(?(", "condition"},
		{"(?>", "atomic group"},
	} {
		if strings.HasPrefix(rest, g.begin) {
			return fmt.Errorf("the %s %s…) is beyond this engine", g.name, g.begin)
		}
	}
	if strings.HasPrefix(rest, "(?#") {
		_, after, ok := strings.Cut(rest, ")")
		if !ok {
			return errors.New("missing ) behind a comment")
		}
		t.i = len(t.src) - len(after)
		return nil
	}
	// ((?i)x) and (?:(?i)x) are written (?i:x) nowadays.
	for _, begin := range []string{"(", "(?:"} {
		if flags, n, ok := globalFlags(strings.TrimPrefix(rest, begin)); ok && strings.HasPrefix(rest, begin+"(?") {
			if err := checkFlags(flags); err != nil {
				return err
			}
			t.emit("(?"+strings.ReplaceAll(flags, "u", "")+":", len(begin)+n)
			return nil
		}
	}
	if flags, n, ok := globalFlags(rest); ok {
		if err := checkFlags(flags); err != nil {
			return err
		}
		if t.i != 0 {
			return fmt.Errorf("the flags (?%s) must stand at the start of the expression", flags)
		}
		if flags = strings.ReplaceAll(flags, "u", ""); flags != "" {
			t.out.WriteString("(?" + flags + ")")
		}
		t.i += n
		return nil
	}
	t.emit("(", 1)
	return nil
}

// globalFlags reads (?flags) at the start of s.
func globalFlags(s string) (flags string, n int, ok bool) {
	if !strings.HasPrefix(s, "(?") {
		return "", 0, false
	}
	end := strings.IndexByte(s, ')')
	if end < 3 || strings.Trim(s[2:end], "aiLmsux") != "" {
		return "", 0, false
	}
	return s[2:end], end + 1, true
}

func checkFlags(flags string) error {
	if i := strings.IndexAny(flags, "aLx"); i >= 0 {
		return fmt.Errorf("the flag %q is beyond this engine", flags[i])
	}
	return nil
}

// escape handles a backslash and what follows it.
func (t *translator) escape(inSet bool) error {
	rest := t.src[t.i:]
	if len(rest) == 1 {
		return errors.New("a single backslash at the end")
	}
	c := rest[1]
	if set, ok := classSet(c); ok {
		if !inSet {
			set = "[" + set + "]"
		}
		t.emit(set, 2)
		return nil
	}
	switch {
	case inSet && c == 'b':
		t.emit(`\x08`, 2)
	case !inSet && (c == 'b' || c == 'B' || c == 'A'):
		t.emit(rest[:2], 2)
	case !inSet && c == 'Z':
		t.emit(`\z`, 2)
	case strings.IndexByte("afnrtv", c) >= 0:
		t.emit(rest[:2], 2)
	case c == 'x' || c == 'u' || c == 'U':
		n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		if len(rest) < 2+n || strings.Trim(rest[2:2+n], "0123456789abcdefABCDEF") != "" {
			return fmt.Errorf(`\%c needs %d hex digits`, c, n)
		}
		t.emit(`\x{`+rest[2:2+n]+`}`, 2+n)
	case c == '0':
		t.emit(`\x00`, 2)
	case isDigit(c):
		return fmt.Errorf(`the back-reference \%c is beyond this engine`, c)
	case c|0x20 >= 'a' && c|0x20 <= 'z':
		return fmt.Errorf(`\%c is no escape`, c)
	case c < utf8.RuneSelf:
		t.emit(rest[:2], 2)
	default:
		_, size := utf8.DecodeRuneInString(rest[1:])
		t.emit(rest[1:1+size], 1+size)
	}
	return nil
}

// set handles a set in brackets.
func (t *translator) set() error {
	t.emit("[", 1)
	if t.i < len(t.src) && t.src[t.i] == '^' {
		t.emit("^", 1)
	}
	for first := true; t.i < len(t.src); first = false {
		switch c := t.src[t.i]; {
		case c == ']' && !first:
			t.emit("]", 1)
			return nil
		case c == ']' || c == '[':
			t.emit(`\`+string(c), 1)
		case c == '\\':
			if err := t.escape(true); err != nil {
				return err
			}
		default:
			t.emit(t.src[t.i:t.i+1], 1)
		}
	}
	return errors.New("missing ] behind [")
}
