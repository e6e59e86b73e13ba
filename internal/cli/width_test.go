package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/store"
	"bantam/library"
)

// widestBans are bans with everything as long as it gets: addresses, names and reasons, and what a terminal would obey.
func widestBans() []bantam.Ban {
	ban := func(jail, id string) bantam.Ban {
		return bantam.Ban{
			Jail: jail, ID: address(id), Country: "CN", Time: noon.Add(-49 * time.Hour), End: noon.Add(100 * time.Hour),
			Failures: 500, Count: 12, By: bantam.ByFailures, User: "\x1b[31mroot\x07 漢字",
		}
	}
	hand := ban("manual", "2001:db8:1111:2222:3333:4444:5555:6666/127")
	hand.By, hand.Reason = bantam.ByOperator, "\x1b[31mhe\x07 漢字 scans us, and has done so since the day we came here"
	text := ban("customer-00-shop", "192.0.2.1")
	text.ID = bantam.TextID("\x1b[31mroot\x07 漢字 " + strings.Repeat("漢字", 40))
	return []bantam.Ban{
		ban("a-very-long-jail-name-that-an-agency-gave-to-one-customer", "2001:db8:1111:2222:3333:4444:5555:6666"), hand, text, ban("sshd", "192.0.2.7"),
	}
}

// Lists fit the terminal, however long what they hold; an address is whole there, so that it can be copied. A pipe gets
// everything.
func TestListsFitTheTerminal(t *testing.T) {
	var past []store.PastBan
	for _, b := range widestBans() {
		past = append(past, store.PastBan{Ban: b}, store.PastBan{Ban: b, Ended: noon.Add(-time.Hour), Cause: bantam.CauseExpired})
	}
	for _, c := range []struct {
		name string
		draw func(a *app)
	}{
		{"banned", func(a *app) { a.printBans(widestBans(), bantam.ID{}) }},
		{"history", func(a *app) { a.printHistory(control.HistoryReply{Bans: past, Since: noon.Add(-time.Hour)}, noon) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, wide := range []int{0, 80, 132} {
				var b bytes.Buffer
				c.draw(&app{stdout: &b, wide: wide})
				for line := range strings.Lines(b.String()) {
					if line = strings.TrimSuffix(line, "\n"); wide > 0 && width(line) > wide {
						t.Errorf("on %d columns a line has %d: %s", wide, width(line), line)
					}
					if line != safe(line) {
						t.Errorf("a line holds what a terminal would obey: %q", line)
					}
				}
				for _, want := range []string{"2001:db8:1111:2222:3333:4444:5555:6666/127", "192.0.2.7 CN"} {
					if !strings.Contains(b.String(), want) {
						t.Errorf("on %d columns %s is not whole:\n%s", wide, want, b.String())
					}
				}
				if name := "a-very-long-jail-name-that-an-agency-gave-to-one-customer"; wide == 0 && !strings.Contains(b.String(), name) {
					t.Errorf("a pipe does not get all of %s:\n%s", name, b.String())
				}
			}
		})
	}
}

// The first screen keeps its bounds with the widest of everything.
func TestTheFirstScreenKeepsItsBounds(t *testing.T) {
	st := crowded()
	for i := range st.Jails {
		st.Jails[i].LastBan = address("2001:db8:1111:2222:3333:4444:5555:6666/127")
		st.Jails[i].Banned = 50_000
	}
	var b bytes.Buffer
	(&app{stdout: &b}).screen(st, []string{"2001:db8:1111:2222:3333:4444:5555:6666"}, noon)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) > screenLines {
		t.Errorf("%d lines are more than fit:\n%s", len(lines), b.String())
	}
	for _, line := range lines {
		if width(line) > screenWidth {
			t.Errorf("%d columns: %s", width(line), line)
		}
	}
}

// A jail with more bans than anybody reads shows the newest, and where the rest is.
func TestTheScreenOfAJailIsShort(t *testing.T) {
	var b bytes.Buffer
	j := aJail("sshd", 10, 10, 50_000, "192.0.2.7", "", "/var/log/auth.log")
	(&app{stdout: &b}).jailScreen(j, control.BansReply{Bans: widestBans()})
	if want := "and 49996 more, older ones: bantam banned --jail sshd\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("it ends otherwise than %q:\n%s", want, b.String())
	}
}

// Each help fits 80 columns but for examples, which are copied whole; that of the program fits a screen and names every command.
func TestHelpFits(t *testing.T) {
	var b bytes.Buffer
	a := &app{library: library.FS, stdout: &b, stderr: &b}
	root := a.root()
	var mapped []string
	for _, group := range commandMap {
		for _, r := range group.rows {
			mapped = append(mapped, r[0], r[2])
		}
	}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		b.Reset()
		cmd.InitDefaultHelpFlag()
		a.help(cmd, nil)
		for line := range strings.Lines(b.String()) {
			if line = strings.TrimSuffix(line, "\n"); width(line) > screenWidth && !strings.Contains(cmd.Example, line) {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), width(line), line)
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				visit(sub)
			}
		}
	}
	visit(root)
	b.Reset()
	a.help(root, nil)
	if n := strings.Count(b.String(), "\n"); n > screenLines+3 {
		t.Errorf("the help of the program has %d lines:\n%s", n, b.String())
	}
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && !slices.Contains(mapped, cmd.Name()) {
			t.Errorf("bantam help does not name %s", cmd.Name())
		}
	}
	for _, name := range mapped {
		if cmd, _, err := root.Find([]string{name}); name != "help" && (err != nil || cmd == root) {
			t.Errorf("bantam help names %s, which there is not", name)
		}
	}
}
