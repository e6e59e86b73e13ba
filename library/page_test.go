package library_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bantam/internal/config"
	"bantam/library"
)

var update = flag.Bool("update", false, "write docs/reference/library.md anew")

const libraryPage = "../docs/reference/library.md"

// What stands in parentheses in a filter's first sentence is for who reads the filter.
var (
	aside         = regexp.MustCompile(` ?\([^()]*\)`)
	firstSentence = regexp.MustCompile(`^(.*?)(?:\. |\.?$)`)
)

// about is the first sentence of a filter's own comment, which says of whom it reads, and what.
func about(t *testing.T, name string) string {
	t.Helper()
	text, err := library.FS.ReadFile("filter.d/" + name + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		comment, is := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !is || strings.TrimSpace(comment) == "" {
			break
		}
		words = append(words, strings.Fields(comment)...)
	}
	paragraph := aside.ReplaceAllString(strings.Join(words, " "), "")
	return strings.TrimSuffix(firstSentence.FindStringSubmatch(paragraph)[1], ":")
}

// page is docs/reference/library.md.
func page(t *testing.T) string {
	jails, _ := config.Names("", library.FS)
	var b strings.Builder
	b.WriteString(`# The library

Every jail that Bantam brings along, with what it counts, the ports that it shuts, and where it reads. It is made from the
jails and filters themselves. ` + "`bantam config cat NAME`" + ` prints a filter with the source of its format,
` + "`bantam config show JAIL`" + ` a jail with all its values; ` + "`enabled = true`" + ` in a section of its name, or ` + "`bantam setup`" + `, has it work.

| Jail | Counts | Ports | Reads |
| --- | --- | --- | --- |
`)
	for _, name := range jails {
		options, err := config.Show("", library.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		value := func(key string) string {
			i := slices.IndexFunc(options, func(o config.Option) bool { return o.Key == key })
			if i < 0 {
				return ""
			}
			return options[i].Value
		}
		filter, _, _ := strings.Cut(cmp.Or(value("filter"), name), "[")
		counts := about(t, filter)
		if filter != name {
			counts = fmt.Sprintf("%s (filter `%s`)", counts, filter)
		}
		if m := modes[filter]; len(m) > 0 {
			counts += "; modes " + strings.Join(m, ", ")
		}
		var reads []string
		for path := range strings.Lines(value("logpath")) {
			reads = append(reads, "`"+strings.TrimSpace(path)+"`")
		}
		if value("journalmatch") != "" {
			reads = append(reads, "the journal")
		}
		ports := value("port")
		if ports == "0:65535" {
			ports = "all"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ReplaceAll(counts, "|", `\|`), ports, strings.Join(reads, ", "))
	}
	return b.String()
}

func TestLibraryPage(t *testing.T) {
	want := page(t)
	if *update {
		if err := os.WriteFile(libraryPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(libraryPage)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d is not what the library says; write it anew with: go test ./library -run TestLibraryPage -update", libraryPage, i+1)
		}
	}
}
