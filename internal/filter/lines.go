package filter

import (
	"slices"
	"strings"
)

// maxHeld is how much of a jail's last lines is kept, in bytes. Every line that
// arrives is judged with all of them, so that this bounds time, too.
const maxHeld = 256 << 10

// recent are the last lines of a jail that judges several together (detection.md 4.8).
type recent struct {
	max   int // lines
	lines []held
	text  []byte // scratch: the lines, one behind the other
}

// A held line waits for the rest of a failure.
type held struct {
	text   string // as matched: without its date, with a line end
	logged string // as kept with a failure
}

// add appends a line, drops what is too old, and returns the text of all.
func (r *recent) add(text []byte, logged string) []byte {
	r.lines = append(r.lines, held{string(text), logged})
	size, keep := 0, 0
	for keep < len(r.lines) && keep < r.max {
		if size += len(r.lines[len(r.lines)-1-keep].text); size > maxHeld && keep > 0 {
			break
		}
		keep++
	}
	r.lines = slices.Delete(r.lines, 0, len(r.lines)-keep)
	return r.join()
}

// join is the text of the lines, valid until the next call.
func (r *recent) join() []byte {
	r.text = r.text[:0]
	for _, l := range r.lines {
		r.text = append(r.text, l.text...)
	}
	return r.text
}

// take removes the lines that a match covers and returns them. spans are the match's
// groups, offset where the text they are in begins in the text of all. Lines that
// <SKIPLINES> took stay where they are.
//
// A match that begins with a line end begins with the line behind it.
func (r *recent) take(names []string, spans []int, offset int) []held {
	start, end := spans[0]+offset, max(spans[1], spans[0]+1)+offset
	if end > start+1 && r.text[start] == '\n' {
		start++
	}
	skipped := func(from, to int) bool {
		for i, name := range names {
			if strings.HasPrefix(name, skipGroup) && spans[2*i] >= 0 && spans[2*i]+offset <= from && to <= spans[2*i+1]+offset {
				return true
			}
		}
		return false
	}
	var taken, left []held
	at := 0
	for _, l := range r.lines {
		next := at + len(l.text)
		if at < end && start < next && !skipped(at, next) {
			taken = append(taken, l)
		} else {
			left = append(left, l)
		}
		at = next
	}
	r.lines = left
	return taken
}
