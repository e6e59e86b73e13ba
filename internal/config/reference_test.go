package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const referencePage = "../../docs/reference/config.md"

// rows are the lines of a table as docs/reference/config.md has it.
func rows(keys []key) []string {
	var out []string
	for _, k := range keys {
		def := "none"
		if k.def != "" {
			def = "`" + k.def + "`"
			if strings.Contains(k.def, "the filter") {
				def = k.def
			}
		}
		out = append(out, fmt.Sprintf("| `%s` | %s | %s | %s |", k.name, k.kind, def, k.meaning))
	}
	return out
}

func TestReference(t *testing.T) {
	text, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct {
		title string
		want  []string
	}{
		{"## Options of a jail", rows(jailKeys)},
		{"## Options of the program", rows(daemonKeys)},
	} {
		_, part, ok := strings.Cut(string(text), "\n"+table.title+"\n")
		if !ok {
			t.Fatalf("%s has no chapter %q", referencePage, table.title)
		}
		part, _, _ = strings.Cut(part, "\n##")
		var got []string
		for line := range strings.Lines(part) {
			if strings.HasPrefix(line, "| `") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if !slices.Equal(got, table.want) {
			t.Errorf("the table under %q of %s should be\n%s", table.title, referencePage, strings.Join(table.want, "\n"))
		}
	}
}
