package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFile is the largest configuration file that is read, in bytes. Written by
// hand they are a few KiB; the bound is there for the wrong file under the right name.
const maxFile = 4 << 20

// A Value is the text of an option as it stands in a file, and where that is.
type Value struct {
	Text string // lines joined by newlines, comments and outer blanks gone
	File string // relative to the folder; the library's files begin with "library/"
	Line int    // of the option's name, from 1 on

	key  string
	cut  bool  // an inline comment was cut off one of its lines
	rows []int // where each of its lines stands that is not empty; nil for a value of one line
}

// A section is a section of one file, or of several after merging.
type section struct {
	name string
	line int
	keys []string // in the order of first appearance
	opts map[string]*Value
}

func newSection(name string, line int) *section {
	return &section{name: name, line: line, opts: map[string]*Value{}}
}

func (s *section) set(key string, v *Value) {
	if _, ok := s.opts[key]; !ok {
		s.keys = append(s.keys, key)
	}
	s.opts[key] = v
}

// A file is one parsed file; defaults is its [DEFAULT].
type file struct {
	name     string
	defaults *section
	sections []*section
}

func (f *file) section(name string) *section {
	for _, s := range f.sections {
		if s.name == name {
			return s
		}
	}
	return nil
}

const defaultName = "DEFAULT"

// parse reads one file by the rules of Python's configparser in strict mode with
// ";" as the only inline comment (detection.md 1.3). name is for messages. The
// error is a Problem.
func parse(name string, text []byte) (*file, error) {
	if len(text) > maxFile {
		return nil, &Problem{File: name, Text: fmt.Sprintf("the file is larger than %d MiB", maxFile>>20), Hint: "is it a configuration file at all?"}
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return nil, &Problem{File: name, Line: 1, Text: "the file begins with a byte-order mark", Hint: "save it as UTF-8 without one"}
	}
	if line := invalidUTF8(text); line > 0 {
		return nil, &Problem{File: name, Line: line, Text: "the file is not UTF-8", Hint: "save it as UTF-8"}
	}
	f := &file{name: name, defaults: newSection(defaultName, 0)}
	seen := map[string]int{}
	p := parser{file: f, seen: seen}
	for n, line := range pythonLines(string(text)) {
		if err := p.line(n+1, line); err != nil {
			return nil, err
		}
	}
	p.close()
	return f, nil
}

// parser is the state between two lines of one file.
type parser struct {
	file   *file
	seen   map[string]int // lines of section headers
	sect   *section       // nil before the first header
	open   *Value         // the option that a continuation would belong to
	lines  []string       // its value so far
	rows   []int          // where those of its lines stand that are not empty
	indent int            // of the line that opened it
}

func (p *parser) problem(n int, key, text, hint string) *Problem {
	return &Problem{File: p.file.name, Line: n, Key: key, Text: text, Hint: hint}
}

// close ends the open option: its lines become its value.
func (p *parser) close() {
	if p.open != nil {
		p.open.Text = strings.TrimRightFunc(strings.Join(p.lines, "\n"), isSpace)
		if len(p.lines) > 1 {
			p.open.rows = slices.Clone(p.rows)
		}
	}
	p.open, p.lines, p.rows = nil, nil, p.rows[:0]
}

func (p *parser) line(n int, line string) *Problem {
	text := trim(line)
	cut := false
	if at := inlineComment(line); at >= 0 {
		text, cut = trim(line[:at]), true
	}
	if t := trim(line); strings.HasPrefix(t, "#") || strings.HasPrefix(t, ";") {
		return nil
	}
	if text == "" {
		if !cut && p.open != nil {
			p.lines = append(p.lines, "")
		}
		return nil
	}
	indent := leading(line)
	if p.open != nil && indent > p.indent {
		p.lines, p.rows = append(p.lines, text), append(p.rows, n)
		p.open.cut = p.open.cut || cut
		return nil
	}
	p.indent = indent
	if end := strings.LastIndexByte(text, ']'); text[0] == '[' && end > 1 {
		return p.header(n, text[1:end])
	}
	if p.sect == nil {
		return p.problem(n, "", fmt.Sprintf("%s stands before the first [section]", quote(text)), "begin with [DEFAULT], [Definition] or the name of a jail, in brackets")
	}
	return p.option(n, text, cut)
}

func (p *parser) header(n int, name string) *Problem {
	p.close()
	if name == defaultName {
		p.sect = p.file.defaults
		return nil
	}
	if first, ok := p.seen[name]; ok {
		return p.problem(n, "", fmt.Sprintf("section [%s] stands here a second time, first in line %d", printable(name), first), "put its options under one header")
	}
	p.seen[name] = n
	p.sect = newSection(name, n)
	p.file.sections = append(p.file.sections, p.sect)
	return nil
}

func (p *parser) option(n int, text string, cut bool) *Problem {
	at := strings.IndexAny(text, "=:")
	if at < 0 {
		return p.problem(n, "", fmt.Sprintf("%s is neither an option nor a section", quote(text)), "write NAME = VALUE; a line that goes on a value must be indented")
	}
	key := strings.ToLower(trim(text[:at]))
	if key == "" {
		return p.problem(n, "", fmt.Sprintf("%s has no option name", quote(text)), "write NAME = VALUE")
	}
	if first, ok := p.sect.opts[key]; ok {
		return p.problem(n, key, fmt.Sprintf("the option stands in [%s] a second time, first in line %d", printable(p.sect.name), first.Line), "remove one of the two")
	}
	p.close()
	p.open = &Value{File: p.file.name, Line: n, key: key, cut: cut}
	p.lines = []string{trim(text[at+1:])}
	if p.lines[0] != "" {
		p.rows = append(p.rows, n)
	}
	p.sect.set(key, p.open)
	return nil
}

// inlineComment is where a ";" at the start or behind white space begins, or -1.
func inlineComment(line string) int {
	space := true
	for i, r := range line {
		if r == ';' && space {
			return i
		}
		space = isSpace(r)
	}
	return -1
}

// leading counts the characters of white space in front.
func leading(line string) int {
	n := 0
	for _, r := range line {
		if !isSpace(r) {
			break
		}
		n++
	}
	return n
}

// pythonLines cuts text where Python's text files do: at \n, \r\n and a lone \r.
func pythonLines(text string) []string {
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// isSpace is Python's str.isspace for one character: Unicode's white space and
// the four ASCII separators.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func trim(s string) string { return strings.TrimFunc(s, isSpace) }

// invalidUTF8 is the line of the first byte that is not UTF-8, or 0.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return 0
	}
	line := 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			return line
		}
		if r == '\n' {
			line++
		}
		text = text[size:]
	}
	return 0
}
