package hostile

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"bantam/pyre"
)

// A tracer of a pattern finds what the pattern's search finds, groups included, however the
// line is made, or says that it cannot tell.
func TestTracersFindWhatSearchesFind(t *testing.T) {
	const size = 400
	lines, told, matches := 0, 0, 0
	for _, p := range stock(t) {
		re, err := p.compile()
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		tracer := pyre.NewTracer(pyre.Rule{Regexp: re})
		if tracer == nil {
			continue
		}
		chance := seeded(p)
		for range setLines {
			text := append(p.line(chance, size), '\n')
			lines++
			_, traced, ok := tracer.Search(text, nil, nil)
			if !ok {
				continue
			}
			told++
			searched, err := re.Search(text, nil)
			if searched != nil {
				matches++
			}
			if err == nil && !slices.Equal(traced, searched) {
				t.Errorf("%s: traced %v, searched %v in %.300q", p, traced, searched, text)
			}
		}
	}
	t.Logf("of %d lines %d were told, of which %d match", lines, told, matches)
	if told < lines/4 || matches < told/20 {
		t.Errorf("of %d lines %d were told and %d match: that tries little", lines, told, matches)
	}
}

// A tracer keeps within the time of a line, too.
func TestTimeOfTracers(t *testing.T) {
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
	for _, p := range stock(t) {
		re, err := p.compile()
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		tracer := pyre.NewTracer(pyre.Rule{Regexp: re})
		if tracer == nil {
			continue
		}
		chance, w := seeded(p), worst{pattern: p}
		for range max(1, *perPattern/10) {
			text := append(p.line(chance, lineSize), '\n')
			if len(text) > lineSize {
				text = append(text[:lineSize-1], '\n') // longer ones it leaves alone
			}
			begin := threadTime()
			_, _, _ = tracer.Search(text, nil, nil)
			took := threadTime() - begin
			lines++
			sum += took
			if us := took.Seconds() * 1e6; us > w.cost {
				w.cost, w.line = us, text
			}
		}
		slow = append(slow, w)
		if w.cost > maxTime.Seconds()*1e6 {
			t.Errorf("%s: %.1f ms for a line of the tracer, %.300q", p, w.cost/1000, w.line)
		}
	}
	t.Logf("a tracer for each pattern, %d lines of up to %d bytes, %v a line; the slowest:%s",
		lines, lineSize, (sum / time.Duration(max(1, lines))).Round(time.Microsecond), table(slow, "µs"))
}
