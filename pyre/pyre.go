// Package pyre matches the regular expressions of Python's re module: the same
// syntax, the same matches, the same groups as Python 3.11 gives for str patterns,
// in time linear in the text.
//
//	re, err := pyre.Compile(`^(?P<user>\S+) failed(?! silently)`, 0)
//	spans, err := re.Search(line, nil)
//
// It promises that a search takes time proportional to the text, whatever the text
// holds, so that nobody who writes the text can make the reader hang.
// Back-references, conditions, atomic groups, possessive repeats and look-ahead that
// captures cannot be promised that; they have a budget of steps, and a search that
// uses it up ends in ErrBudget.
//
// Text is UTF-8. What is no UTF-8 in it counts as U+FFFD, one for each sequence that
// cannot be decoded, as Python decodes with errors="replace". Letters, digits and
// spaces are Unicode's as in Python, and IGNORECASE folds as Python folds.
//
// It leaves out: patterns of bytes, LOCALE, characters by name (\N{...}), and
// replacing.
package pyre

import (
	"errors"
	"fmt"
)

// Flags change how a pattern is read, as Python's flags of the same names do.
type Flags uint8

// The flags. Python's UNICODE is the default and has no name here.
const (
	IgnoreCase Flags = 1 << iota
	Multiline
	DotAll
	Verbose
	ASCII

	unicodeFlag // (?u), which only ASCII has to know
)

// An Error says what is wrong with a pattern, in Python's words where Python has
// some.
type Error struct {
	Pos  int // where, in bytes from the start of the pattern, or -1
	Text string
}

func (e *Error) Error() string {
	if e.Pos < 0 {
		return e.Text
	}
	return fmt.Sprintf("%s at position %d", e.Text, e.Pos)
}

// ErrBudget is the error of a search that took more steps, or more memory, than a
// text of its length may. Nothing is known then about whether the pattern matches.
var ErrBudget = errors.New("the search took too many steps")
