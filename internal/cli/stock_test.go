package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bantam/internal/peertest"
)

// stockFolder is the configuration of the package with every jail enabled and reading a log
// that is empty, and how many jails that is.
func stockFolder(t testing.TB, tree, defaults string) (dir string, jails int) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "fail2ban")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(tree, "etc", "fail2ban"))); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(dir, "jail.conf"))
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "empty.log")
	local := "[DEFAULT]\n" + defaults
	for _, m := range regexp.MustCompile(`(?m)^\[(.+)\]`).FindAllStringSubmatch(string(conf), -1) {
		if m[1] != "DEFAULT" && m[1] != "INCLUDES" {
			jails++
			local += fmt.Sprintf("[%s]\nenabled = true\nbackend = polling\nlogpath = %s\n", m[1], log)
		}
	}
	for name, text := range map[string]string{"empty.log": "", "jail.local": local} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, jails
}

// What check says of the package with every jail on is true: nothing keeps a jail from
// running.
func TestCheckOfAllStockJails(t *testing.T) {
	tree := peertest.Tree(t)
	dir, jails := stockFolder(t, tree, "")
	if jails < 80 {
		t.Fatalf("the package has %d jails", jails)
	}
	for _, c := range []struct {
		name, defaults string
		want           []string // patterns of what is said, in any order
	}{
		{"as it is", "", []string{
			`^warning: ignorecommand: the command cannot work: .*/apache-fakegooglebot is to be run by fail2ban-python, which is not there$`,
			`^warning: ignoreregex 1: this never matches: `,
		}},
		{"with Bantam's own action", "banaction = bantam\nbanaction_allports = bantam\n", []string{
			`^warning: action: its actions bantam become one, `,
			`^warning: action: its action bantam shuts out, and does not let in as its blocktype or returntype wants$`,
			`^warning: ignorecommand: the command cannot work: .*/apache-fakegooglebot is to be run by fail2ban-python, which is not there$`,
			`^warning: ignoreregex 1: this never matches: `,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.defaults != "" {
				dir, _ = stockFolder(t, tree, c.defaults)
			}
			code, out, errs := program(t, "bantam", "check", "-c", dir, "--json")
			var reply checkReply
			if err := json.Unmarshal([]byte(out), &reply); err != nil || code != ExitOK || len(reply.Jails) != jails {
				t.Fatalf("it ends with %d, %d jails, error %v: %s", code, len(reply.Jails), err, errs)
			}
			said := map[string]bool{}
			for _, p := range reply.Problems {
				text := p.Key + ": " + p.Text
				if p.Warning {
					text = "warning: " + text
				}
				known := false
				for _, want := range c.want {
					if regexp.MustCompile(want).MatchString(text) {
						said[want], known = true, true
					}
				}
				if !known || p.File == "" {
					t.Errorf("it says %s:%d: %s", p.File, p.Line, text)
				}
			}
			for _, want := range c.want {
				if !said[want] {
					t.Errorf("it does not say %s", want)
				}
			}
			if _, out, _ := program(t, "bantam", "check", "-c", dir); strings.Contains(out, "is not built yet") {
				t.Errorf("it says that something is not built:\n%s", out)
			}
		})
	}
}

func BenchmarkCheckOfAllStockJails(b *testing.B) {
	dir, _ := stockFolder(b, peertest.Tree(b), "")
	b.ReportAllocs()
	for b.Loop() {
		if code, _, errs := program(b, "bantam", "check", "-c", dir); code != ExitOK {
			b.Fatalf("check ends with %d: %s", code, errs)
		}
	}
}
