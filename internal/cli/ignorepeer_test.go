package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam/internal/peertest"
)

// commandPlace is a place whose jail t has a command that writes down what it is asked with.
func commandPlace(t *testing.T, tree string) place {
	t.Helper()
	p := newPlace(t, tree)
	const values = `"<ip>" "<fid>" "<family>" "<F-USER>" "<F-NONE>" "<matches>" "<failures>" "<bantime>" "<bancount>" "<restored>" "<time>" "<ipfailures>" "<ipmatches>" "<ip-rev>" "<sp>" "<unknown>"`
	local := ""
	for name, command := range map[string]string{
		"t": `l=$(for v in ` + values + `; do printf '%%s|' "$v"; done); printf '%%s\n' "$l" >> DIR/asked; case "<F-USER>" in friend*) exit 0;; odd) exit 2;; esac; exit 1`,
		"c": "echo \"<ip>\" >> DIR/kept; exit 3\nignorecache = key=\"<ip>\", max-count=10, max-time=5m",
	} {
		local += "\n[" + name + "]\nenabled = true\nfilter =\naction =\nbackend = polling\nlogpath = DIR/t.log\nusedns = no\nignoreself = no\nmaxretry = 20\n" +
			`failregex = ^\s*bad <HOST> user <F-USER>.*</F-USER>$` + "\nignorecommand = " + command + "\n"
	}
	write(t, filepath.Join(p.dir, "t.log"), "")
	name := filepath.Join(p.conf, "jail.local")
	before, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, name, string(before)+strings.ReplaceAll(local, "DIR", p.dir))
	return p
}

// The original's command is asked with the same values, as often, and what it says counts the same.
func TestIgnoreCommandsAreAskedAsTheOriginalAsks(t *testing.T) {
	tree := peertest.Tree(t)
	now := time.Now().Format(time.DateTime)
	var lines string
	for _, user := range []string{"friend", "root", "a;b", "$(x)", "odd", "friend `x`", `"q" 'r'`, "x <ip> y"} {
		lines += now + " bad 192.0.2.7 user " + user + "\n"
	}
	lines += now + " bad 2001:0db8::7 user six\n"
	type record struct{ asked, kept, status string }
	run := func(server func(*testing.T, place)) (r record) {
		p := commandPlace(t, tree)
		server(t, p)
		client := ourClient(t)
		write(t, filepath.Join(p.dir, "t.log"), lines)
		read := func(name string) string {
			text, _ := os.ReadFile(filepath.Join(p.dir, name)) // it may not be there yet
			return string(text)
		}
		deadline := time.After(20 * time.Second)
		for tick := time.Tick(20 * time.Millisecond); ; {
			r = record{read("asked"), read("kept"), client("-c", p.conf, "status", "t").Out}
			if strings.Count(r.asked, "|\n") == 9 && strings.Contains(r.status, "Total failed:\t7") && strings.Count(r.kept, "\n") >= 2 {
				return r
			}
			select {
			case <-tick:
			case <-deadline:
				t.Fatalf("not all was asked: %+v", r)
			}
		}
	}
	theirs := run(func(t *testing.T, p place) { originalServer(t, tree, p) })
	ours := run(ourServer)
	// Side by side, two offenders are asked about in either order.
	if got, want := sortedLines(ours.asked), sortedLines(theirs.asked); got != want {
		t.Errorf("asked with\n%s\nnot\n%s", got, want)
	}
	if got, want := sortedLines(ours.kept), sortedLines(theirs.kept); got != want {
		t.Errorf("with a cache asked about\n%s\nnot\n%s", got, want)
	}
}

func sortedLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// The stock jail apache-fakegooglebot runs, and its program, which is the package's, answers.
func TestTheStockJailWithACommandRuns(t *testing.T) {
	tree := peertest.Tree(t)
	p := newPlace(t, tree)
	bin := filepath.Join(p.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(peertest.Python(), filepath.Join(bin, "fail2ban-python")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(p.conf, "jail.local")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(text)+strings.NewReplacer("BIN", bin, "MODULES", peertest.Modules(tree), "DIR", p.dir).Replace(`
[apache-fakegooglebot]
enabled = true
logpath = DIR/a.log
ignorecommand = PATH="BIN:$PATH" PYTHONPATH=MODULES %(known/ignorecommand)s
`))
	if code, out, _ := program(t, "bantam", "check", "-c", p.conf); code != ExitOK || strings.Contains(out, "ignorecommand") {
		t.Errorf("check ends with %d:\n%s", code, out)
	}
	ourServer(t, p)
	client := ourClient(t)
	if got := client("-c", p.conf, "set", "apache-fakegooglebot", "attempt", "192.0.2.7"); got.Out != "1\n" {
		t.Errorf("who is no robot of Google's: %s", got)
	}
	log, err := os.ReadFile(filepath.Join(p.dir, "f2b.log"))
	if err != nil || strings.Contains(string(log), "no answer") {
		t.Errorf("the log says %s, %v", log, err)
	}
}
