package library_test

import (
	"strings"
	"testing"
	"time"

	"bantam/internal/jsonline"
	"bantam/internal/timestamp"
)

// Each pattern of a date that a filter has for itself dates a line of its log: one that never fits is not seen
// otherwise, as another of the list may date the line.
func TestDatePatternsFitTheirLogs(t *testing.T) {
	filters := map[string]int{} // how many filters have a pattern
	for _, name := range filterNames(t) {
		for _, p := range load(t, name, nil).DatePattern {
			filters[p]++
		}
	}
	for _, name := range filterNames(t) {
		fits := map[string]bool{}
		for _, s := range annotated(t, name) {
			c := load(t, name, s.Options)
			for _, p := range c.DatePattern {
				if filters[p] > 3 || strings.HasPrefix(p, "{") { // those of a kind of log, and the built-in ones
					continue
				}
				d, err := timestamp.New([]string{p}, timestamp.Options{Local: time.UTC})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, l := range s.Lines {
					text := []byte(l.Text)
					if len(c.JSON) > 0 {
						text = jsonline.Fields(c.JSON).Flatten(text, nil)
					}
					m, ok := d.Find(text, time.Date(s.Year, 12, 31, 0, 0, 0, 0, time.UTC))
					fits[p] = fits[p] || ok && !m.Time.IsZero() && m.End > m.Start
				}
			}
		}
		for p, fitted := range fits {
			if !fitted {
				t.Errorf("%s.log has no line whose date is found by its datepattern %s", name, p)
			}
		}
	}
}
