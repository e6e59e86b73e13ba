package config

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bantam/internal/filter"
	"bantam/internal/peertest"
)

// literals turns lines of Python literals into JSON.
const literals = `
import ast, json, sys
print(json.dumps([ast.literal_eval(l) for l in sys.stdin if l.startswith('[')]))
`

// What the package's own reader hands its server is what we hand the filter, for
// every jail of the package.
func TestStockTree(t *testing.T) {
	root := peertest.Tree(t)
	dir := filepath.Join(root, "etc/fail2ban")
	c, err := Load(dir, testLib)
	if err != nil {
		t.Fatal(err)
	}
	var local strings.Builder
	var names []string
	for _, name := range c.jails.order {
		names = append(names, name)
		fmt.Fprintf(&local, "[%s]\nenabled = true\n", name)
	}
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if c, err = Load(dir, testLib); err != nil {
		t.Fatal(err)
	}
	if len(names) < 80 || len(c.Jails) != len(names) {
		t.Errorf("%d of %d jails are there", len(c.Jails), len(names))
	}
	for _, p := range c.Problems {
		t.Log(p)
		if strings.Contains(p.Text, "unknown option") {
			t.Errorf("an option of the package is not known: %s", p)
		}
	}
	want := stockFilters(t, root, dir)
	compared := 0
	for _, j := range c.Jails {
		w, ok := want[j.Name]
		if !ok {
			if j.Err == nil {
				t.Logf("%s loads here and not there", j.Name)
			}
			continue
		}
		if j.Err != nil {
			t.Errorf("%s is set aside: %v", j.Name, j.Err)
			continue
		}
		got := filter.Config{
			Prefregex: j.Filter.Prefregex, Failregex: j.Filter.Failregex, Ignoreregex: j.Filter.Ignoreregex,
			DatePattern: j.Filter.DatePattern, MaxLines: j.Filter.MaxLines,
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s: theirs - ours +\n%s", j.Name, diff)
		}
		compared++
	}
	if compared < 70 {
		t.Errorf("only %d jails could be compared", compared)
	}
}

// peerCommands is what the reader of a package's tree would tell its server of a folder.
func peerCommands(t *testing.T, tree, dir string) [][]any {
	t.Helper()
	read := exec.CommandContext(t.Context(), peertest.Python(), filepath.Join(tree, "usr/bin/fail2ban-client"), "-c", dir, "-d")
	read.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
	dump, err := read.Output()
	if err != nil {
		peertest.Without(t, fmt.Sprintf("the package's reader does not run here: %v", err))
	}
	convert := exec.CommandContext(t.Context(), peertest.Python(), "-c", literals)
	convert.Stdin = strings.NewReader(string(dump))
	text, err := convert.Output()
	if err != nil {
		t.Fatalf("convert the dump: %v", err)
	}
	var commands [][]any
	if err := json.Unmarshal(text, &commands); err != nil {
		t.Fatal(err)
	}
	return commands
}

// stockFilters is what the package's reader makes of the folder.
func stockFilters(t *testing.T, root, dir string) map[string]filter.Config {
	t.Helper()
	commands := peerCommands(t, root, dir)
	out := map[string]filter.Config{}
	for _, command := range commands {
		if len(command) == 3 && command[0] == "add" {
			out[command[1].(string)] = filter.Config{}
		}
		if len(command) < 4 || command[0] != "set" && command[0] != "multi-set" {
			continue
		}
		name, _ := command[1].(string)
		f, ok := out[name]
		if !ok {
			continue
		}
		var values []string
		for _, v := range command[3:] {
			switch v := v.(type) {
			case string:
				values = append(values, v)
			case []any:
				for _, s := range v {
					values = append(values, fmt.Sprint(s))
				}
			case float64:
				values = append(values, fmt.Sprint(v))
			}
		}
		switch command[2] {
		case "addfailregex":
			f.Failregex = append(f.Failregex, values...)
		case "addignoreregex":
			f.Ignoreregex = append(f.Ignoreregex, values...)
		case "prefregex":
			f.Prefregex = values[0]
		case "datepattern":
			for _, v := range values {
				f.DatePattern = append(f.DatePattern, lines(v)...)
			}
		case "maxlines":
			f.MaxLines, _ = integer(values[0])
		}
		out[name] = f
	}
	if len(out) == 0 || !slices.ContainsFunc(commands, func(c []any) bool { return len(c) > 0 && c[0] == "start" }) {
		t.Fatalf("the package's reader says nothing: %.500v", commands)
	}
	return out
}

// With the package's jail.conf mails go by its own actions, or natively if mta names a way of ours.
func TestMailsOfTheStockJailConf(t *testing.T) {
	dir := filepath.Join(peertest.Tree(t), "etc/fail2ban")
	for mta, want := range map[string]string{"": "shell, no channel", "mail": "shell, no channel", "mta": "native, mta-whois-lines to [root@localhost]", "gmail-api": "native, gmail-api-whois-lines to [root@localhost]"} {
		local := "[DEFAULT]\nsender = bantam@example.org\naction = %(action_mwl)s\n"
		if mta != "" {
			local += "mta = " + mta + "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local+"[sshd]\nenabled = true\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(dir, testLib)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Problems {
			t.Errorf("mta = %s: %s", mta, p)
		}
		actions := jailOf(t, c, "sshd").Actions
		got := actions[len(actions)-1].Kind + ", no channel"
		if tell, _ := c.Channels(); len(tell) > 0 {
			got = fmt.Sprintf("%s, %s to %v", actions[len(actions)-1].Kind, tell[0].Channel, tell[0].To)
		}
		if got != want {
			t.Errorf("mta = %s: %s, want %s", mta, got, want)
		}
	}
}
