package config

import (
	"strconv"
	"strings"
	"unicode"
)

// A Problem is something wrong with the configuration, where it is and what to
// do about it. A *Problem is also the error of Load and of a Jail that was set aside.
type Problem struct {
	File string `json:"file,omitempty"` // relative to the folder; empty when no file is to blame
	Line int    `json:"line,omitempty"` // from 1 on; 0 when the whole file is meant
	Jail string `json:"jail,omitempty"`
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"` // empty when there is nothing to add
	// Warning is true when the configuration works all the same, perhaps not as meant.
	Warning bool `json:"warning,omitempty"`
}

// String is place, option and text in one line, without the hint.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(printable(p.File))
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	} else if p.Jail != "" {
		b.WriteString("[" + printable(p.Jail) + "]: ")
	}
	if p.Key != "" {
		b.WriteString(printable(p.Key) + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error makes a *Problem an error.
func (p *Problem) Error() string { return p.String() }

// problemAt is a problem with the value v.
func problemAt(v *Value, text, hint string) *Problem {
	if v == nil {
		return &Problem{Text: text, Hint: hint}
	}
	return &Problem{File: v.File, Line: v.Line, Key: v.key, Text: text, Hint: hint}
}

// quote shows text of a file in a message: quoted, and cut to what fits a line.
func quote(s string) string {
	const most = 80
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most || len(s) > 4*most {
		return strconv.Quote(string(r[:min(len(r), most)])) + "…"
	}
	return strconv.Quote(s)
}

// printable is s for a message that does not quote it.
func printable(s string) string {
	if len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return quote(s)
	}
	return s
}
