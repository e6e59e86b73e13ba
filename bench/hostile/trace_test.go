package hostile

import (
	"slices"
	"testing"

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
	timeEach(t, "a tracer for each pattern", stock(t), func(p *pattern) func([]byte) {
		re, err := p.compile()
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		tracer := pyre.NewTracer(pyre.Rule{Regexp: re})
		if tracer == nil {
			return nil
		}
		return func(line []byte) { _, _, _ = tracer.Search(append(line, '\n'), nil, nil) }
	})
}
