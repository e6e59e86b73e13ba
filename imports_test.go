package bantam_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is who may import whom inside the module, "." being the root package.
// Imports run against the data, towards the words: stages and effects know the root
// and the tools, not each other. A change here is a change of the design.
var mayImport = map[string][]string{
	".":                  {},
	"cmd/bantam":         {"internal/cli", "library"},
	"internal/cli":       {".", "internal/action", "internal/config", "internal/control", "internal/daemon", "internal/filter", "internal/jail", "internal/setup", "internal/source", "tools"},
	"internal/setup":     {"internal/config", "internal/machine", "internal/source"},
	"internal/daemon":    {".", "library", "internal/config", "internal/control", "stages", "tools"},
	"internal/control":   {".", "stages", "tools"},
	"internal/config":    {".", "library", "stages", "tools"},
	"library":            {},
	"internal/source":    {".", "tools"},
	"internal/filter":    {".", "tools"},
	"internal/lookup":    {".", "tools"},
	"internal/jail":      {".", "tools"},
	"internal/store":     {".", "tools"},
	"internal/action":    {".", "tools"},
	"internal/firewall":  {".", "tools"},
	"internal/notify":    {".", "tools"},
	"internal/report":    {".", "tools"},
	"internal/outbox":    {"."},
	"internal/secret":    {},
	"internal/smtp":      {"tools"},
	"internal/whois":     {"tools"},
	"internal/geo":       {"tools"},
	"internal/timestamp": {".", "tools"},
	"internal/tag":       {},
	"internal/jsonline":  {},
	"internal/machine":   {},
	"internal/ruleset":   {},
	"pyre":               {},
	"internal/logtest":   {".", "internal/filter"},
	"internal/nstest":    {},
	"internal/peertest":  {},
	"bench/receivers":    {},
	"test/demo":          {".", "internal/control", "internal/firewall", "internal/nstest", "internal/source"},

	"internal/smtp/smtptest": {},
}

// groups are names in mayImport for several packages.
var groups = map[string][]string{
	"stages": {
		"internal/source", "internal/filter", "internal/lookup", "internal/jail", "internal/store",
		"internal/action", "internal/firewall", "internal/notify", "internal/report",
	},
	"tools": {
		"internal/tag", "internal/timestamp", "internal/outbox", "internal/secret", "internal/smtp", "internal/whois",
		"internal/geo", "internal/jsonline", "internal/machine", "internal/ruleset", "pyre",
	},
}

// packages are the module's packages by folder, with their files, tests left out.
func packages(t *testing.T) map[string][]*ast.File {
	t.Helper()
	found := map[string][]*ast.File{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		found[dir] = append(found[dir], file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestImportsRunOneWay(t *testing.T) {
	for dir, files := range packages(t) {
		allowed, ok := mayImport[dir]
		if !ok {
			t.Errorf("%s: a new package needs a line in mayImport", dir)
			continue
		}
		for _, name := range slices.Clone(allowed) {
			allowed = append(allowed, groups[name]...)
		}
		for _, file := range files {
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				inside := strings.TrimPrefix(imported, "bantam/")
				switch {
				case imported == "bantam":
					inside = "."
				case inside == imported:
					if dir == "." && strings.Contains(imported, ".") {
						t.Errorf("the root package imports %s; it has the standard library only", imported)
					}
					continue
				}
				if !slices.Contains(allowed, inside) {
					t.Errorf("%s imports %s; mayImport says it must not", dir, inside)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for dir, files := range packages(t) {
		said := 0
		for _, file := range files {
			if file.Doc != nil {
				said++
			}
		}
		if said != 1 {
			t.Errorf("%s: %d package comments, want one", dir, said)
		}
	}
}

// The README's list of packages is the one on disk.
func TestReadmeListsThePackages(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(readme), "## The pipeline\n")
	if !found {
		t.Fatal(`README.md has no section "The pipeline"`)
	}
	list, _, _ = strings.Cut(list, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(list) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, name := range strings.Split(cells[1], "`") {
			if name = strings.TrimSpace(name); name != "" && name != "package" && strings.Trim(name, "-") != "" {
				listed[strings.TrimSuffix(name, "/")] = true
			}
		}
	}
	for dir := range packages(t) {
		name := dir
		if dir == "." {
			name = "bantam"
		}
		if !listed[name] {
			t.Errorf("README.md does not list %s", name)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("README.md lists %s, which is no package", path.Clean(name))
	}
}
