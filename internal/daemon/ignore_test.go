package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
)

// A new entry of ignoreip lifts the bans inside it, whatever way it comes; those that an
// operator made in spite of an older entry stay.
func TestANewIgnoreipLiftsBans(t *testing.T) {
	friends := filepath.Join(t.TempDir(), "friends")
	if err := os.WriteFile(friends, []byte("198.51.100.0/24 # home\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		apply func(t *testing.T, d *Daemon) error
		left  string // banned in j2 at the end
	}{
		{"a prefix through the socket", func(t *testing.T, d *Daemon) error {
			_, err := d.do(t, "set j2 addignoreip 198.51.100.0/24")
			return err
		}, "10.1.1.1 203.0.113.1"},
		{"a list through the socket", func(t *testing.T, d *Daemon) error {
			_, err := d.do(t, "set j2 addignoreip file:"+friends)
			return err
		}, "10.1.1.1 203.0.113.1"},
		{"a change of something else", func(t *testing.T, d *Daemon) error {
			_, err := d.do(t, "set j2 ignoreself no")
			return err
		}, "10.1.1.1 198.51.100.7 203.0.113.1"},
		{"a reload", func(t *testing.T, d *Daemon) error {
			rewrite(t, d, "ignoreip = 10.0.0.0/8", "ignoreip = 10.0.0.0/8 198.51.100.7")
			_, err := d.Reload(t.Context(), control.None{})
			return err
		}, "10.1.1.1 203.0.113.1"},
		{"a reload of the jail", func(t *testing.T, d *Daemon) error {
			rewrite(t, d, "ignoreip = 10.0.0.0/8", "ignoreip = 10.0.0.0/8, file:"+friends)
			_, err := d.do(t, "reload j2")
			return err
		}, "10.1.1.1 203.0.113.1"},
		{"the allow list", func(t *testing.T, d *Daemon) error {
			_, err := d.allow(t.Context(), control.AllowRequest{IDs: []bantam.ID{idOf("198.51.100.0/25")}})
			return err
		}, "10.1.1.1 203.0.113.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := running(t)
			for _, line := range []string{"set j2 maxretry 1", "set j2 banip --force 10.1.1.1", "set j2 attempt 203.0.113.1", "set j2 attempt 198.51.100.7"} {
				if _, err := d.do(t, line); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			awaitBans(t, d, "j2", 3)
			if err := c.apply(t, d); err != nil {
				t.Fatal(err)
			}
			bans, err := d.jails.Bans(t.Context(), "j2", bantam.ID{})
			var left []string
			for _, b := range bans {
				left = append(left, b.ID.String())
			}
			slices.Sort(left)
			if got := strings.Join(left, " "); err != nil || got != c.left {
				t.Errorf("banned are %s, %v, want %s", got, err, c.left)
			}
		})
	}
}

func rewrite(t *testing.T, d *Daemon, from, to string) {
	t.Helper()
	path := filepath.Join(d.options.Config, "jail.conf")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(text), from, to)), 0o600)
	}
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatal(err)
	}
}

// A command that comes through the socket is run only if root may set commands; the
// commands of the configuration are, also about failures told by hand.
func TestIgnoreCommandThroughTheSocket(t *testing.T) {
	d := running(t)
	steps := func(lines ...[2]string) {
		t.Helper()
		for _, step := range lines {
			got, err := d.answer(t.Context(), control.Peer{}, toList(step[0]))
			text := control.Repr(got)
			if err != nil {
				text = err.Error()
			}
			if !strings.Contains(text, step[1]) {
				t.Errorf("%s: %s, want %s", step[0], text, step[1])
			}
		}
	}
	steps(
		[2]string{"set|j1|ignorecommand|test <ip> = 203.0.113.21", "runtimecommands"},
		[2]string{"get|j1|ignorecommand", "''"},
		[2]string{"set|j1|ignorecache|key=<ip>, max-count=5", "['<ip>', 5, 300]"},
		[2]string{"set|j1|ignorecache|max-count=5", "the key is missing"},
		[2]string{"get|j1|ignorecache", "['<ip>', 5, 300]"},
	)
	d.changeDaemon(func(c *config.Daemon) { c.RuntimeCommands = true })
	steps(
		[2]string{"set|j1|ignorecommand|test <ip> = 203.0.113.21", "test <ip> = 203.0.113.21"},
		[2]string{"set|j1|attempt|203.0.113.21", "0"},
		[2]string{"set|j1|attempt|203.0.113.22", "1"},
		[2]string{"set|j1|ignorecache|", "None"},
		[2]string{"set|j1|ignorecommand|", "''"},
		[2]string{"set|j1|attempt|203.0.113.21", "1"},
	)
}

func toList(line string) (l control.List) {
	for w := range strings.SplitSeq(line, "|") {
		l = append(l, w)
	}
	return l
}
