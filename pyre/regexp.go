package pyre

import (
	"slices"
	"sync"
	"unsafe"
)

// A Regexp is a compiled pattern. Any number of goroutines may use it at once.
type Regexp struct {
	pattern   string
	names     []string
	root      *node
	fast      *program        // tried first: short, with counters
	linear    func() *program // with a memory of where it has been; nil if there cannot be one
	start     starts
	allowance int // steps, beside those for each byte, where there is only a budget
}

// Compile reads a pattern as Python's re.compile does. The error is an *Error.
func Compile(pattern string, flags Flags) (*Regexp, error) {
	p, err := parse(pattern, flags)
	if err != nil {
		return nil, err
	}
	re := &Regexp{pattern: pattern, names: p.names, root: p.root, fast: compile(p, false), allowance: 50_000}
	re.start = startsOf(p.root, re.fast)
	re.linear = sync.OnceValue(func() *program {
		if re.fast.stateful {
			return nil
		}
		return compile(p, true)
	})
	return re, nil
}

// String is the pattern.
func (re *Regexp) String() string { return re.pattern }

// Groups are the names of the groups by index: "" for those without one, of which
// the whole match, at 0, is the first.
func (re *Regexp) Groups() []string { return slices.Clone(re.names) }

// Search looks for the leftmost match anywhere in text, as Python's re.search does.
// It appends the start and end of each group in bytes, -1 for groups that took no
// part, to spans; if there is no match it returns nil. The only error is ErrBudget.
func (re *Regexp) Search(text []byte, spans []int) ([]int, error) {
	spans, _, err := re.find(text, spans, false)
	return spans, err
}

// Match is Search for a match at the start of text, as Python's re.match.
func (re *Regexp) Match(text []byte, spans []int) ([]int, error) {
	spans, _, err := re.find(text, spans, true)
	return spans, err
}

// SearchString is Search in a string.
func (re *Regexp) SearchString(text string, spans []int) ([]int, error) {
	return re.Search(unsafe.Slice(unsafe.StringData(text), len(text)), spans)
}

// MatchString is Match in a string.
func (re *Regexp) MatchString(text string, spans []int) ([]int, error) {
	return re.Match(unsafe.Slice(unsafe.StringData(text), len(text)), spans)
}

// Steps is how many steps Search takes in text. A step is an instruction carried out
// or taken back, or 4 bytes looked through, and takes a few nanoseconds.
func (re *Regexp) Steps(text []byte) int {
	_, steps, _ := re.find(text, nil, false)
	return steps
}

func (re *Regexp) find(text []byte, spans []int, here bool) (found []int, steps int, err error) {
	if len(text) > 1<<31-2 {
		return nil, 0, ErrBudget
	}
	first := 0
	if !here {
		if first = re.start.next(text, 0); first < 0 {
			return nil, len(text) / 16, nil
		}
	}
	m := machines.Get().(*machine)
	budget := re.allowance + 16*len(text)
	limit := budget
	if !re.fast.stateful {
		// Most searches are over long before this.
		limit = 1024 + 4*len(text)
	}
	m.prepare(re.fast, text, limit, false)
	got := re.try(m, re.fast, first, here)
	steps = m.steps
	if got == overLimit && !re.fast.stateful {
		got = re.again(m, first, here, budget)
		steps += m.steps
	}
	switch got {
	case overLimit:
		spans, err = nil, ErrBudget
	case noMatch:
		spans = nil
	case matched:
		for i := 0; i < len(m.slots); i += 2 {
			start, end := int(m.slots[i]), int(m.slots[i+1])
			if start < 0 || end < 0 {
				start, end = -1, -1
			}
			spans = append(spans, start, end)
		}
	}
	m.release()
	machines.Put(m)
	return spans, steps, err
}

// again searches with a memory, because the fast program has taken long.
func (re *Regexp) again(m *machine, first int, here bool, budget int) outcome {
	text := m.text
	if p := re.linear(); p != nil {
		limit := 1 << 62
		if p.budgeted {
			limit = budget
		}
		if m.prepare(p, text, limit, true) {
			return re.try(m, p, first, here)
		}
	}
	m.prepare(re.fast, text, budget, false)
	return re.try(m, re.fast, first, here)
}

// try runs p at the places where a match can begin, from first on.
func (re *Regexp) try(m *machine, p *program, first int, here bool) outcome {
	for at := first; at >= 0; {
		if got := m.run(p, at); got != noMatch || here {
			return got
		}
		if at == len(m.text) {
			break
		}
		_, size := decode(m.text, at)
		at = re.start.next(m.text, at+size)
	}
	return noMatch
}
