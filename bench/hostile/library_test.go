package hostile

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/peertest"
	"bantam/library"
)

// own is what ours has read.
var own []*pattern

// modes are the names in a filter's keys mdre-NAME.
var modes = regexp.MustCompile(`(?m)^mdre-([\w-]+) *=`)

// ours is every expression of the library's filters, in each mode and for each way a log is kept, with samples
// like those of the stock patterns. What comes twice is there once.
func ours(t *testing.T) []*pattern {
	t.Helper()
	if own != nil {
		return own
	}
	if _, err := exec.LookPath(peertest.Python()); err != nil {
		peertest.Without(t, "there is no python3, which makes samples of patterns")
	}
	files, err := fs.Glob(library.FS, "filter.d/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var question bytes.Buffer
	to := json.NewEncoder(&question)
	add := func(name string, options map[string]string, kind string, number int, expr, flags string) {
		pattern, err := expanded(expr)
		if err != nil {
			t.Errorf("%s %v %s %d: %v", name, options, kind, number, err)
		}
		if err != nil || seen[pattern+" "+flags] {
			return
		}
		seen[pattern+" "+flags] = true
		if err := to.Encode(map[string]any{
			"filter": "library/" + name, "options": options, "kind": kind, "number": number, "pattern": pattern, "flags": flags,
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		text, err := fs.ReadFile(library.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(file, "filter.d/"), ".conf")
		for _, mode := range append([]string{""}, found(modes, string(text))...) {
			for _, logtype := range []string{"", "file", "short", "journal", "rfc5424"} {
				options := map[string]string{}
				if mode != "" {
					options["mode"] = mode
				}
				if logtype != "" {
					options["logtype"] = logtype
				}
				c, err := config.LoadFilter(library.FS, name, options)
				if err != nil || len(c.Failregex) == 0 {
					continue // a file for others to include
				}
				flags := ""
				if c.MaxLines > 1 {
					flags = "m"
				}
				if c.Prefregex != "" {
					add(name, options, "prefregex", 1, c.Prefregex, "")
				}
				for i, expr := range c.Failregex {
					add(name, options, "failregex", i+1, expr, flags)
				}
				for i, expr := range c.Ignoreregex {
					add(name, options, "ignoreregex", i+1, expr, "")
				}
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), peertest.Python(), "-B", "stock.py", "-")
	cmd.Stdin = &question
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make samples of the library's patterns: %v\n%s", err, stderr.Bytes())
	}
	own = read(t, out)
	if len(own) != len(seen) || len(own) < 400 {
		t.Fatalf("the library has %d patterns, and %d have samples", len(seen), len(own))
	}
	return own
}

// found are the first groups of all matches, each once.
func found(re *regexp.Regexp, text string) (names []string) {
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// expanded is an expression with its tags replaced, as a filter compiles it.
func expanded(expr string) (string, error) {
	rules, err := filter.Compile(filter.Config{Jail: "hostile", Prefregex: expr, Failregex: []string{"<ADDR>"}})
	if err != nil {
		return "", err
	}
	return rules.Expanded(), nil
}
