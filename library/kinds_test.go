package library_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// forged is the address that stands where a client has written one in the hope that another is blamed: in a
// name, a page, a browser's words, the line of another program. It is nobody's own in any log of the library, so a
// line that holds it is an injection.
const forged = "198.51.100.9"

// holdsForged finds it as an address of its own.
var holdsForged = regexp.MustCompile(`(?:^|\D)198\.51\.100\.9(?:\D|$)`)

// origin is where a format is known from: a file of the service's source, a page of its documentation, an issue, a
// standard, or the version that wrote the lines.
var origin = regexp.MustCompile(`(?i)\w\.(?:c|cc|cpp|h|hs|java|go|php|pl|pm|py|js|ts|cs|rs|rb|kt|erl|lua|m|xml|conf|yml|json|sh|html?)\b|\bdocumentation|\bmanual|\bguide\b|\bwiki|\bissues?\b|\bRFC ?\d|\w\(\d\)|[a-z)] \d+(?:\.[\dx]+)*\b`)

// A log without an attack, without an innocent line, or without a lie says too little of its filter, and so does one
// of which nobody can tell where its lines are from.
func TestEveryLogSaysEnough(t *testing.T) {
	for _, name := range filterNames(t) {
		var failures, innocent, injections int
		for _, s := range annotated(t, name) {
			for _, l := range s.Lines {
				for _, f := range l.Failures {
					if f.Host == forged {
						t.Errorf("%s.log:%d: %s is for what clients make up, and nobody's own", name, l.Number, forged)
					}
				}
				switch {
				case holdsForged.MatchString(l.Text):
					injections++
				case len(l.Failures) > 0:
					failures++
				default:
					innocent++
				}
			}
		}
		if failures < 3 || innocent < 2 || injections < 2 {
			t.Errorf("%s.log has %d failures, %d innocent lines and %d injections (lines with %s): it wants 3, 2 and 2",
				name, failures, innocent, injections, forged)
		}
		for _, ext := range []string{".conf", ".log"} {
			if head := head(t, name+ext); head == "" {
				t.Errorf("%s%s does not begin with a comment that says what it is", name, ext)
			} else if ext == ".log" && !origin.MatchString(head) {
				t.Errorf("%s.log does not begin with where its lines are from: %q", name, head)
			}
		}
	}
}

// head is the comment that a file of filter.d begins with, without its marks.
func head(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("filter.d", name))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "# ") && strings.TrimSpace(line) != "#" {
			break
		}
		b.WriteString(strings.TrimPrefix(strings.TrimSpace(line), "#"))
	}
	return strings.TrimSpace(b.String())
}
