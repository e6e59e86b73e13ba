package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"bantam"
	"bantam/internal/control"
)

// press sends keys to a screen and returns what the last one starts.
func press(s *topScreen, keys ...string) (cmd tea.Cmd) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		switch k {
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "down":
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		case "ctrl+c":
			msg = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
		}
		_, cmd = s.Update(msg)
	}
	return cmd
}

func shows(s *topScreen, text string) bool {
	return strings.Contains(strings.Join(s.lines(), "\n"), text)
}

func TestTheLiveScreenFitsAnyTerminal(t *testing.T) {
	for _, colour := range []bool{false, true} {
		s := aTop(&app{colour: colour}, 0, 0)
		for h := 0; h < 40; h += 1 + h/6 {
			for w := 0; w < 120; w += 1 + w/6 {
				if _, cmd := s.Update(tea.WindowSizeMsg{Width: w, Height: h}); cmd != nil {
					t.Fatal("a change of size starts something")
				}
				lines := s.lines()
				if len(lines) > h {
					t.Fatalf("%d×%d: %d lines", w, h, len(lines))
				}
				for _, line := range lines {
					if width(line) > w {
						t.Fatalf("%d×%d: %d columns: %q", w, h, width(line), line)
					}
				}
			}
		}
	}
}

func TestTheLiveScreensKeys(t *testing.T) {
	s := aTop(&app{}, 80, 24)
	selected := func() string {
		for _, line := range s.lines() {
			if rest, ok := strings.CutPrefix(line, "> "); ok {
				return strings.Fields(rest)[0]
			}
		}
		return ""
	}
	for _, c := range []struct {
		keys []string
		want string
	}{
		{nil, "sshd"}, {[]string{"j", "down"}, "postfix"}, {[]string{"k", "k", "k", "k"}, "sshd"}, {[]string{"G"}, "2001:db8:77::/64"}, {[]string{"g"}, "sshd"},
	} {
		if press(s, c.keys...); selected() != c.want {
			t.Errorf("%q selects %q, want %q", c.keys, selected(), c.want)
		}
	}
	press(s, "G", "enter")
	if !shows(s, "only sshd") || shows(s, "postfix") {
		t.Errorf("enter does not show the jail of the line alone:\n%s", strings.Join(s.lines(), "\n"))
	}
	press(s, "esc", "u")
	if !shows(s, "only a ban that runs can be lifted") {
		t.Error("a jail can be unbanned")
	}
	press(s, "j", "j", "j", "j", "j", "j", "j", "j", "u")
	if !shows(s, "unban 203.0.113.7 in all jails? y") {
		t.Errorf("unban does not ask:\n%s", strings.Join(s.lines(), "\n"))
	}
	if cmd := press(s, "n"); cmd != nil || !shows(s, "203.0.113.7 stays banned") {
		t.Error("any other key unbans")
	}
	s.socket = t.TempDir() + "/nobody"
	s.ctx = t.Context()
	cmd := press(s, "u", "y")
	if cmd == nil {
		t.Fatal("y does not unban")
	}
	s.Update(cmd())
	if !shows(s, "no Bantam is running here") {
		t.Errorf("a failed unban is not told:\n%s", strings.Join(s.lines(), "\n"))
	}
	press(s, "?")
	if !shows(s, "unban who is banned in the line") {
		t.Error("there is no help")
	}
	press(s, "?")
	press(s, "p")
	if s.take(topFigures{At: noon.Add(time.Hour), Status: control.Status{Version: "9"}}); !shows(s, "paused") || shows(s, "bantam 9") {
		t.Error("it does not pause")
	}
	for _, key := range []string{"q", "ctrl+c"} {
		if cmd := press(s, key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not end it", key)
		}
	}
}

// A daemon that goes away is waited for: its last figures stay, and those of the next one count anew.
func TestTheLiveScreenWaitsForTheDaemon(t *testing.T) {
	s := aTop(&app{}, 80, 24)
	s.Update(topFigures{err: fmt.Errorf("%w: nobody answers", control.ErrNotRunning)})
	if !shows(s, "no daemon runs since") || !shows(s, "203.0.113.7") {
		t.Errorf("it is not told:\n%s", strings.Join(s.lines(), "\n"))
	}
	since := s.gone
	if s.Update(topFigures{err: errors.New("broken")}); !s.gone.Equal(since) || !shows(s, "the daemon does not answer") {
		t.Error("each try begins it anew")
	}
	back := topFigures{At: noon.Add(time.Minute), Status: aDay()}
	back.Status.Since = noon.Add(50 * time.Second)
	s.Update(back)
	if shows(s, "waiting") || shows(s, " 1.5 ") {
		t.Errorf("the new one's figures are compared with the old one's:\n%s", strings.Join(s.lines(), "\n"))
	}
}

// The program itself, on a terminal that is none: it draws, obeys a key and ends.
func TestTheLiveScreenRuns(t *testing.T) {
	var out bytes.Buffer
	s := aTop(&app{socket: t.TempDir() + "/nobody"}, 80, 24)
	s.ctx = t.Context()
	p := tea.NewProgram(s, tea.WithContext(t.Context()), tea.WithInput(strings.NewReader("jq")), tea.WithOutput(&out), tea.WithWindowSize(80, 24), tea.WithoutSignals())
	if _, err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if s.row != 1 || !strings.Contains(out.String(), "nginx-http-auth") {
		t.Errorf("row %d of %q", s.row, out.String())
	}
}

func TestColoursAreSentToTerminalsOnly(t *testing.T) {
	none := func(string) string { return "" }
	if colourful(&bytes.Buffer{}, func(string) string { return "xterm" }) || colourful(nil, none) {
		t.Error("a file gets colours")
	}
	plain, coloured := &app{}, &app{colour: true}
	if plain.tinted(wrong, "x") != "x" || coloured.tinted(wrong, "x") != "\x1b[31mx\x1b[0m" || coloured.tinted(asEver, "x") != "x" {
		t.Error("tints are sent where they are not to be")
	}
	rows := [][]cell{{{"管理员", wrong}, {text: "e\u0301"}}, {{text: "a"}, {text: "b"}}}
	lines := coloured.table(0, []column{{title: "A"}, {title: "B"}}, rows)
	if len(lines) != 3 || width(lines[1]) != 9 || lines[2] != "a       b" {
		t.Errorf("%q", lines)
	}
	if got := plain.table(6, []column{{title: "A", least: 3}, {title: "B"}}, rows)[1]; got != "管…  e\u0301" {
		t.Errorf("cut to %q", got)
	}
}

func TestBansAreOfferedToTheShell(t *testing.T) {
	bans := []bantam.Ban{{ID: address("192.0.2.7")}, {ID: address("192.0.2.7")}, {ID: address("198.51.100.0/24")}, {ID: bantam.TextID("192 $(reboot)")}, {ID: bantam.TextID("192\x1b")}}
	if got := completions(bans, "19"); fmt.Sprint(got) != "[192.0.2.7 198.51.100.0/24]" {
		t.Errorf("%q", got)
	}
	if got := completions(bans, "198"); fmt.Sprint(got) != "[198.51.100.0/24]" {
		t.Errorf("%q", got)
	}
}
