package hostile

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"bantam/pyre"
)

// A jail is a filter's patterns that judge lines, in all of its modes, as one automaton.
type jail struct {
	patterns []*pattern
	rules    []pyre.Rule
	set      *pyre.Set
}

// jails are the stock filters' patterns, dates left out, in the order of their names.
func jails(t *testing.T) []*jail {
	t.Helper()
	var list []*jail
	by := map[string]*jail{}
	for _, p := range stock(t) {
		if p.Kind == "date" {
			continue
		}
		re, err := p.compile()
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		j := by[p.Filter]
		if j == nil {
			j = new(jail)
			by[p.Filter] = j
			list = append(list, j)
		}
		j.patterns = append(j.patterns, p)
		j.rules = append(j.rules, pyre.Rule{Regexp: re})
	}
	for _, j := range list {
		j.set = pyre.NewSet(j.rules)
	}
	return list
}

// An automaton of a filter's patterns may say too much of a line, but leaves out none that
// matches, however the line is made.
func TestTheAutomatonLeavesOutNone(t *testing.T) {
	const size = 400
	lines, matches, rejected := 0, 0, 0
	var found []int
	for _, j := range jails(t) {
		for n, p := range j.patterns {
			chance := seeded(p)
			for range setLines {
				line := p.line(chance, size)
				cut := 0
				if len(line) > 0 && line[0] < 0x80 {
					cut = 1 // where a date was cut out
				}
				found = j.set.Candidates(found[:0], line[:cut], line[cut:])
				lines++
				spans, err := j.rules[n].Regexp.Search(append(slices.Clone(line), '\n'), nil)
				if err != nil || spans == nil {
					if !slices.Contains(found, n) {
						rejected++
					}
					continue
				}
				matches++
				if !slices.Contains(found, n) {
					t.Errorf("%s matches, and the automaton names %v only: %.300q", p, found, line)
				}
			}
		}
	}
	t.Logf("of %d lines %d match their pattern, and of the others the automaton rejects %d", lines, matches, rejected)
	if matches < lines/10 || rejected < (lines-matches)/4 {
		t.Errorf("of %d lines %d match and %d are rejected: that tries little", lines, matches, rejected)
	}
}

// A filter's automaton keeps within the time of a line even where new states are
// made all the while.
func TestTimeOfTheAutomaton(t *testing.T) {
	var found []int
	var patterns []*pattern
	of := map[*pattern]*pyre.Set{}
	for _, j := range jails(t) {
		for _, p := range j.patterns {
			patterns, of[p] = append(patterns, p), j.set
		}
	}
	timeEach(t, "an automaton for each filter", patterns, func(p *pattern) func([]byte) {
		return func(line []byte) { found = of[p].Candidates(found[:0], nil, line) }
	})
}

// timeEach times what try gives for each pattern on a tenth of the hostile lines; nil leaves a
// pattern out. One line that takes longer than any may is an error.
func timeEach(t *testing.T, what string, patterns []*pattern, try func(*pattern) func(line []byte)) {
	t.Helper()
	if *perPattern == 0 {
		t.Skip("make bench-hostile times the lines")
	}
	runtime.LockOSThread() // its clock is read
	defer runtime.UnlockOSThread()
	var (
		sum   time.Duration
		slow  []worst
		lines int
	)
	for _, p := range patterns {
		f := try(p)
		if f == nil {
			continue
		}
		chance, w := seeded(p), worst{pattern: p}
		for range max(1, *perPattern/10) {
			line := p.line(chance, lineSize)
			begin := threadTime()
			f(line)
			took := threadTime() - begin
			lines++
			sum += took
			if us := took.Seconds() * 1e6; us > w.cost {
				w.cost, w.line = us, line
			}
		}
		slow = append(slow, w)
		if w.cost > maxTime.Seconds()*1e6 {
			t.Errorf("%s: %.1f ms for a line, %s, %.300q", p, w.cost/1000, what, w.line)
		}
	}
	t.Logf("%s, %d lines of %d bytes, %v a line; the slowest:%s",
		what, lines, lineSize, (sum / time.Duration(max(1, lines))).Round(time.Microsecond), table(slow, "µs"))
}
