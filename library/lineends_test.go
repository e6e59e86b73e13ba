package library_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// verdict is a line "FILTER: WHAT, why" or "FILTER: WHAT (source)" of lineends.txt.
var verdict = regexp.MustCompile(`^([\w-]+): (escaped|refused|raw)\b.{5,}$`)

// Where a client can write a whole line of the log, no expression helps, and the filter says what can be done.
func TestLineEndsInNames(t *testing.T) {
	text, err := os.ReadFile("lineends.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := filterNames(t)
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		m := verdict.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("lineends.txt: %q is not FILTER: escaped|refused|raw, WHY", line)
			continue
		}
		name, what := m[1], m[2]
		switch {
		case !slices.Contains(names, name):
			t.Errorf("lineends.txt: there is no filter %s", name)
		case seen[name]:
			t.Errorf("lineends.txt: %s stands there twice", name)
		case what == "raw" && !strings.Contains(head(t, name+".conf"), "line end"):
			t.Errorf("%s.conf does not say what a client can do with a line end in its name, which %s writes as it is", name, name)
		}
		seen[name] = true
	}
	if len(seen) < 40 {
		t.Errorf("lineends.txt knows of %d filters only", len(seen))
	}
}
