package timestamp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"bantam/pyre"
)

// Marks of the datepattern dialect (detection.md 5.4).
const (
	markLineBegin = "{^LN-BEG}"
	markUnbound   = "{UNB}"
	markDate      = "{DATE}"
	markDefault   = "{DEFAULT}"
	markNone      = "{NONE}"
	markEpoch     = "{EPOCH}"
	markLEpoch    = "{LEPOCH}"
)

// compilePattern makes the templates one datepattern line stands for.
func compilePattern(line string) ([]*template, error) {
	body, a := line, anywhere
	switch {
	case hasMark(line, markLineBegin):
		body, a = line[len(markLineBegin):], lineBegin
	case strings.HasPrefix(line, "^"):
		body, a = line[1:], column0
	}
	switch {
	case line == "":
		return nil, errors.New("it is empty")
	case strings.EqualFold(line, markNone):
		t := newTemplate(template{nothing: true, shape: anyShape, anchored: true})
		t.base = 1
		return []*template{t}, nil
	case strings.EqualFold(line, markDefault):
		return defaults(), nil
	case strings.EqualFold(line, markLineBegin):
		return lineBegins(), nil
	}
	switch f := (&format{shape: shapeEpoch}); strings.ToLower(body) {
	case epochWord, lepochWord:
		f.pattern = strings.ToLower(body)
		return []*template{f.template(min(a, lineBegin))}, nil
	case taiWord:
		f.pattern, f.shape = taiWord, shapeTAI
		return []*template{f.template(min(a, lineBegin))}, nil
	}
	if i := indexFold(line, markDate); i >= 0 {
		return compileDates(line, i)
	}
	if f := spelledFormat(body); f != nil {
		return []*template{f.template(a)}, nil
	}
	p, err := newPattern(line)
	if err != nil {
		return nil, err
	}
	return []*template{newTemplate(template{regex: p, shape: anyShape, anchored: a != anywhere || p.anchored})}, nil
}

// spelledFormat is the format with a hand-written parser whose pattern body is, or nil.
func spelledFormat(body string) *format {
	body = strings.NewReplacer("(?P<_sep>", "(?P<sep>", "(?P=_sep)", "(?P=sep)").Replace(body)
	for _, list := range [][]format{formats, spelled} {
		for i := range list {
			if f := &list[i]; f.reader != nil && f.pattern == body {
				return f
			}
		}
	}
	return nil
}

// compileDates puts each built-in format in the place of {DATE}.
func compileDates(line string, at int) ([]*template, error) {
	before, after := line[:at], line[at+len(markDate):]
	fr := newFrame(before, after)
	var ts []*template
	for i := range formats {
		f := formats[i]
		if after == "" {
			switch {
			case before == "" && f.anchor == column0:
				ts = append(ts, f.template(column0))
				continue
			case before == "":
				ts = append(ts, f.template(anywhere))
				continue
			case before == "^" && (f.pattern == epochWord || f.pattern == taiWord):
				ts = append(ts, f.template(lineBegin))
				continue
			case before == "^":
				ts = append(ts, f.template(column0))
				continue
			case strings.EqualFold(before, markLineBegin):
				ts = append(ts, f.template(max(f.anchor, lineBegin)))
				continue
			}
		}
		// Numbers that are times only in certain places cannot follow something
		// else, and formats that begin the line only what may be nothing.
		if f.pattern == epochWord || f.pattern == taiWord {
			continue
		}
		if f.anchor == column0 {
			f.pattern = "^" + f.pattern
		}
		if fr != nil {
			p := &pattern{source: before + f.pattern + after, anchored: true}
			t := newTemplate(template{regex: p, frame: fr, reader: f.reader, shape: f.shape, anchored: true})
			if f.anchor == column0 {
				t.shape = 0 // something stands before the start of the line
			}
			ts = append(ts, t)
			continue
		}
		p, err := newPattern(before + f.pattern + after)
		if err != nil {
			return nil, err
		}
		ts = append(ts, newTemplate(template{regex: p, shape: anyShape, anchored: p.anchored}))
	}
	return ts, nil
}

func hasMark(s, mark string) bool {
	return len(s) >= len(mark) && strings.EqualFold(s[:len(mark)], mark)
}

// indexFold is where the mark, in any case, first stands in s, or -1.
func indexFold(s, mark string) int {
	for i := range s {
		if hasMark(s[i:], mark) {
			return i
		}
	}
	return -1
}

// codes are the %-codes and what each accepts (detection.md 5.3). The names that
// no expression can hold are worked out when it is built: see expand.
var codes = map[string]string{
	"Y": `\d{4}`, "G": `\d{4}`, "y": `\d\d`, "Exy": `\d\d`,
	"m": `0?[1-9]|1[0-2]`, "Exm": `1[0-2]|0[1-9]`,
	"d": `[12]\d|[ 0]?[1-9]|3[01]`, "Exd": `3[01]|[12]\d|0[1-9]`,
	"H": `[01]?\d|2[0-3]`, "ExH": `2[0-3]|[01]\d`,
	"k": ` ?[0-2]?\d`, "Exk": ` ?(?:[01]?\d|2[0-3])`,
	"I": `1[0-2]|0?[1-9]`, "l": ` ?1?\d`, "Exl": ` ?(?:1[0-2]|\d)`,
	"M": `[0-5]\d|\d`, "ExM": `[0-5]\d`,
	"S": `[0-5]?\d|6[01]`, "ExS": `6[01]|[0-5]\d`,
	"f": `\d{1,6}`, "p": `am|pm`,
	"j": `36[0-6]|3[0-5]\d|[12]\d\d|0?[1-9]\d|0{0,2}[1-9]`,
	"U": `5[0-3]|[0-4]\d|\d`, "W": `5[0-3]|[0-4]\d|\d`, "V": `5[0-3]|0[1-9]|[1-4]\d|\d`,
	"w": `[0-6]`, "u": `[1-7]`,
	"z":   `Z|UTC|GMT|[+-][01]\d(?::?\d\d)?`,
	"Z":   `[A-Z]{3,5}|Z`,
	"Exz": `(?:[A-Z]{3,5}|[A-Z])?[+-][01]\d(?::?\d\d)?|[A-Z]{3,5}|[A-Z]`,
	"ExZ": `[A-Z]{3,5}|[A-Z]`,
	"a":   `Sun|Mon|Tue|Wed|Thu|Fri|Sat`,
	"A":   `Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday`,
	"b":   `Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec`,
	"B":   `January|February|March|April|May|June|July|August|September|October|November|December`,
}

// composites are codes that stand for several others.
var composites = map[string]string{
	"c": `%a\s+%b\s+%d\s+%H:%M:%S\s+%Y`,
	"x": `%m/%d/%y`,
	"X": `%H:%M:%S`,
}

const (
	epochNumber  = `\d{10,11}\b(?:\.\d{3,6})?`
	lepochNumber = `\d{10,11}(?:\d{6}|\d{3}(?:\.\d{1,6})?)?`
)

// A pattern is a datepattern as a regular expression.
type pattern struct {
	source   string
	builtin  bool
	anchored bool
	decade   int // the expression's last plausible decade; 0 before it is compiled
	re       *pyre.Regexp
	codes    []string // by group: the %-code it stands for, or ""
}

func newPattern(source string) (*pattern, error) {
	p := &pattern{source: source}
	return p, p.compile(plausibleAtLeast)
}

// plausibleAtLeast is a decade to check patterns with before there is a now.
const plausibleAtLeast = 202

// builtinPattern is a built-in format as a pattern. It is compiled when it is
// first searched for, which for most formats is never; a test compiles them all.
func builtinPattern(source string, a anchor) *pattern {
	switch a {
	case lineBegin:
		source = markLineBegin + source
	case column0:
		source = "^" + source
	}
	return &pattern{source: source, builtin: true, anchored: a != anywhere}
}

// Where a date may begin and end: where a word does, or before what is no word.
const (
	startBoundary = `(?=^|\b|\W)`
	endBoundary   = `(?=\b|\W|$)`
)

// compile builds the expression for the plausible years up to decade.
func (p *pattern) compile(decade int) error {
	s := p.source
	var head, tail string
	bound := true // begins and ends where words do
	if hasMark(s, markUnbound) {
		s, bound = s[len(markUnbound):], false
	}
	flags := inlineFlags(s)
	s = s[len(flags):]
	switch {
	case hasMark(s, markLineBegin):
		s, head, p.anchored = s[len(markLineBegin):], `^\W{0,2}`, true
	case strings.HasPrefix(s, "^"):
		s, head, p.anchored = s[1:], "^", true
	case strings.HasPrefix(s, "(^"), strings.HasPrefix(s, "(?:^"):
		p.anchored = true
	case strings.HasPrefix(s, "**"):
		s = s[2:]
	case bound:
		head = startBoundary
	}
	switch {
	case strings.HasSuffix(s, "**"):
		s = s[:len(s)-2]
	case strings.HasSuffix(s, `\$`):
		tail = endBoundary
	case strings.HasSuffix(s, "$"):
		s, tail = s[:len(s)-1], "$"
	case strings.HasSuffix(s, `\b`), strings.HasSuffix(s, `\s`), !bound:
	default:
		tail = endBoundary
	}
	e := expander{decade: decade, used: make(map[byte]string)}
	if err := e.expand(s); err != nil {
		return err
	}
	body := e.out.String()
	if !e.plainGroup {
		body = "(" + body + ")"
	}
	var fold pyre.Flags
	if e.names {
		fold = pyre.IgnoreCase
	}
	expr := flags + head + body + tail
	var re *pyre.Regexp
	var shared any
	if p.builtin {
		shared, _ = builtinRegexps.Load(expr)
	}
	if re, _ = shared.(*pyre.Regexp); re == nil {
		var err error
		if re, err = pyre.Compile(expr, fold); err != nil {
			return err
		}
		if p.builtin {
			builtinRegexps.Store(expr, re)
		}
	}
	groups := re.Groups()
	if len(groups) < 2 {
		return errors.New("it has no group to cut out")
	}
	p.codes = make([]string, len(groups))
	for i, name := range groups {
		p.codes[i], _ = strings.CutPrefix(name, codePrefix)
		if p.codes[i] == name {
			p.codes[i] = ""
		}
	}
	p.re, p.decade = re, decade
	return nil
}

// builtinRegexps are the built-in patterns compiled so far, a *pyre.Regexp by its
// expression: all detectors of all jails share them.
var builtinRegexps sync.Map

// inlineFlags are the flags, such as (?i), that s begins with.
func inlineFlags(s string) string {
	if inner, ok := strings.CutPrefix(s, "(?"); ok {
		if n := strings.IndexByte(inner, ')'); n > 0 && strings.Trim(inner[:n], "aimsux") == "" {
			return s[:n+len("(?)")]
		}
	}
	return ""
}

// codePrefix begins the name of the group that a %-code becomes.
const codePrefix = "_"

// An expander turns a pattern's %-codes into groups.
type expander struct {
	decade     int
	out        strings.Builder
	plainGroup bool            // there is a group without name: what is to be cut
	names      bool            // letters are matched in any case
	used       map[byte]string // codes so far, by what they say
}

func (e *expander) expand(s string) error {
	for i := 0; i < len(s); {
		n := 1
		switch rest := s[i:]; {
		case rest[0] == '\\' && len(rest) > 1:
			n = 2
		case rest[0] == '[':
			// A bracket counts as a group even here to Fail2Ban.
			n = classLen(rest)
			for k := 1; k < n; k++ {
				if rest[k] == '(' && rest[k-1] != '\\' && !strings.HasPrefix(rest[k+1:], "?") {
					e.plainGroup = true
				}
			}
		case rest[0] == '(':
			if !strings.HasPrefix(rest, "(?") {
				e.plainGroup = true
			}
		case hasMark(rest, markEpoch):
			e.out.WriteString(codeGroup("epoch", epochNumber))
			i += len(markEpoch)
			continue
		case hasMark(rest, markLEpoch):
			e.out.WriteString(codeGroup("epoch", lepochNumber))
			i += len(markLEpoch)
			continue
		case rest[0] == '%':
			n, err := e.code(rest[1:])
			if err != nil {
				return err
			}
			i += 1 + n
			continue
		}
		e.out.WriteString(s[i : i+n])
		i += n
	}
	return nil
}

func codeGroup(code, expr string) string { return "(?P<" + codePrefix + code + ">" + expr + ")" }

// code writes the group of the code s begins with and returns the code's length.
func (e *expander) code(s string) (int, error) {
	if s == "" {
		return 0, errors.New("a single % at the end; write %% for a percent sign")
	}
	if s[0] == '%' {
		e.out.WriteByte('%')
		return 1, nil
	}
	_, n := utf8.DecodeRuneInString(s)
	if strings.HasPrefix(s, "Ex") && len(s) > 2 {
		n = 3
	}
	name := s[:n]
	if c, ok := composites[name]; ok {
		return n, e.expand(c)
	}
	expr, ok := codes[name]
	if name == "ExY" {
		var decades []string
		for y := firstDecade; y <= e.decade; y++ {
			decades = append(decades, strconv.Itoa(y))
		}
		expr, ok = "(?:"+strings.Join(decades, "|")+`)\d`, true
	}
	if !ok {
		return 0, fmt.Errorf("%%%s is not a code that is understood", name)
	}
	field := name[len(name)-1]
	switch field {
	case 'k':
		field = 'H'
	case 'l':
		field = 'I'
	}
	switch before := e.used[field]; before {
	case "":
		e.used[field] = name
	case name:
		return 0, fmt.Errorf("%%%s is there twice", name)
	default:
		return 0, fmt.Errorf("%%%s says again what %%%s says", name, before)
	}
	switch name {
	case "a", "A", "b", "B", "p":
		e.names = true
	}
	e.out.WriteString(codeGroup(name, expr))
	return n, nil
}

// classLen is the length of the bracket expression s begins with.
func classLen(s string) int {
	i := 1
	if i < len(s) && s[i] == '^' {
		i++
	}
	if i < len(s) && s[i] == ']' {
		i++
	}
	for ; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ']':
			return i + 1
		}
	}
	return len(s)
}

// find searches text. A search that would take too long finds nothing.
func (p *pattern) find(s *parser, text []byte, h *hit) bool {
	if s.decade != p.decade {
		// What compiled for some years compiles for others, and built-in ones do.
		if err := p.compile(s.decade); err != nil {
			return false
		}
	}
	var err error
	if s.spans, err = p.re.Search(text, s.spans[:0]); err != nil || len(s.spans) < 4 || s.spans[2] < 0 {
		return false
	}
	h.from, h.to = s.spans[0], s.spans[1]
	h.start, h.end = s.spans[2], s.spans[3]
	for i, code := range p.codes {
		if code != "" && s.spans[2*i] >= 0 {
			h.set(code, text[s.spans[2*i]:s.spans[2*i+1]])
		}
	}
	return true
}

// set takes over the text of one code.
func (h *hit) set(code string, text []byte) {
	n := func() int8 {
		if text[0] == ' ' {
			return int8(number(text[1:]))
		}
		return int8(number(text))
	}
	switch code {
	case "Y", "ExY":
		h.year = int16(number(text))
	case "y", "Exy":
		h.year = 2000 + int16(number(text))
	case "m", "Exm":
		h.month = n()
	case "b", "B":
		h.month = monthNumber(text)
	case "d", "Exd":
		h.day = n()
	case "H", "ExH", "k", "Exk":
		h.hour, h.twelve = n(), false // what is written last counts
	case "I", "l", "Exl":
		h.hour, h.twelve = n(), true
	case "p":
		h.afternoon = text[0]|0x20 == 'p'
	case "M", "ExM":
		h.minute = n()
	case "S", "ExS":
		h.second = n()
	case "j":
		h.yday = int16(number(text))
	case "U":
		h.sunWeek = n()
	case "W":
		h.monWeek = n()
	case "w":
		h.weekday = n()
	case "a", "A":
		h.weekday = weekdayNumber(text)
	case "z", "Z", "Exz", "ExZ":
		h.zone = text
	case "epoch":
		h.setEpoch(text)
	}
}

// setEpoch reads what {EPOCH} and {LEPOCH} match.
func (h *hit) setEpoch(text []byte) {
	p := parser{text: text, hit: &hit{}}
	at := p.lepoch
	if n := p.digits(0); n < len(text) && n <= 11 {
		at = p.epoch
	}
	if at(0) == len(text) {
		h.epochal, h.sec, h.nsec = true, p.sec, p.nsec
	}
}
