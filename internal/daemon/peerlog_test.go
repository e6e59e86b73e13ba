package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

const peerJails = `[DEFAULT]
backend = polling
filter = f
findtime = 10m
maxretry = 2
action = a
logpath = DIR/log
[j]
enabled = true
bantime = 1h
ignoreip = 192.0.2.99
[k]
enabled = true
bantime = 3
bantime.increment = true
`

// A server is Fail2Ban or Bantam at work in a folder of its own.
type server struct {
	*testing.T
	dir, tree string
	start     func(cmd *exec.Cmd) error
	program   []string // that serves in the foreground
	cmd       *exec.Cmd
}

func newServer(t *testing.T, tree string, program []string, start func(*exec.Cmd) error) *server {
	s := &server{T: t, dir: t.TempDir(), tree: tree, start: start, program: program}
	for name, text := range map[string]string{
		"fail2ban.conf": "[Definition]\nloglevel = INFO\nlogtarget = DIR/f2b.log\nsyslogsocket = auto\nsocket = DIR/s\npidfile = DIR/pid\n" +
			"dbfile = DIR/db\ndbpurgeage = 1d\ndbmaxmatches = 10\nallowipv6 = auto\n[Thread]\n",
		"jail.conf":       peerJails,
		"filter.d/f.conf": "[Definition]\nfailregex = ^ failed <HOST>$\ndatepattern = {^LN-BEG}EPOCH\n",
		"action.d/a.conf": "[Definition]\nactionban = true\nactionunban = true\n",
		"log":             "",
	} {
		file := filepath.Join(s.dir, name)
		text = strings.ReplaceAll(text, "DIR", s.dir)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *server) command(program []string, args ...string) *exec.Cmd {
	words := slices.Concat(program, []string{"-c", s.dir, "-s", filepath.Join(s.dir, "s"), "-p", filepath.Join(s.dir, "pid")}, args)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(s.tree))
	return cmd
}

// begin starts the server; its log tells when its jails have started for the n-th time.
func (s *server) begin(n int) {
	s.Helper()
	s.cmd = s.command(s.program, "-xf", "start")
	if err := s.start(s.cmd); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	s.await("Jail 'k' started", n)
}

// await waits until a text stands so often in the log.
func (s *server) await(text string, n int) string {
	s.Helper()
	deadline := time.After(20 * time.Second)
	for tick := time.Tick(5 * time.Millisecond); ; {
		b, _ := os.ReadFile(filepath.Join(s.dir, "f2b.log")) // it is made
		if strings.Count(string(b), text) >= n {
			return string(b)
		}
		select {
		case <-tick:
		case <-deadline:
			s.Fatalf("%q is not in the log:\n%s", text, b)
		}
	}
}

func (s *server) fail(addrs ...string) {
	s.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		for _, a := range addrs {
			_, e := fmt.Fprintf(f, "%d failed %s\n", time.Now().Unix(), a)
			err = errors.Join(err, e)
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.Fatal(err)
	}
}

// client asks the server with the original's client.
func (s *server) client(args ...string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	cmd := s.command([]string{peertest.Python(), "-B", filepath.Join(s.tree, "usr/bin/fail2ban-client")}, args...)
	out := make(chan error, 1)
	go func() { out <- cmd.Run() }()
	select {
	case err := <-out:
		if err != nil {
			s.Fatal(args, err)
		}
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		s.Fatal(args, "takes too long")
	}
}

// history is what both servers live through; it returns their log.
func (s *server) history() string {
	s.begin(1)
	s.fail("192.0.2.1", "192.0.2.99", "192.0.2.1", "192.0.2.2")
	s.await("[j] Ban 192.0.2.1", 1)
	s.await("[k] Ban 192.0.2.1", 1)
	s.await("[k] Unban 192.0.2.1", 1)
	s.client("set", "j", "unbanip", "192.0.2.1")
	s.fail("192.0.2.3", "192.0.2.3")
	s.await("[j] Ban 192.0.2.3", 1)
	s.await("[k] Unban 192.0.2.3", 1)
	s.client("stop")
	_ = s.cmd.Wait() // its log says how it ended
	s.begin(2)
	s.await("[j] Restore Ban 192.0.2.3", 1)
	s.client("stop")
	return s.await("Exiting Fail2ban", 2)
}

var (
	lineForm  = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (fail2ban\.\w+ *)\[\d+\]: (.*)$`)
	shownTime = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	compared  = regexp.MustCompile(`Found|Ban |Unban|Ignore|^fail2ban\.jail .*(Creating|started|stopped)|Starting|Shutdown|Stopping|Exiting|---|Connect`)
)

// comparable are the lines that both write, without numbers that differ; each jail's in their
// order, as jails of the original are written side by side.
func comparable(t *testing.T, log, dir string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	stopping := false
	for line := range strings.Lines(log) {
		m := lineForm.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Errorf("this is no line of Fail2Ban's: %q", line)
			continue
		}
		text := shownTime.ReplaceAllString(m[1]+m[2], "TIME")
		if !compared.MatchString(text) || strings.Contains(text, "[recidive]") {
			continue
		}
		text = strings.ReplaceAll(strings.ReplaceAll(text, dir, "DIR"), "v1.0.2", "v1.1.2") // the package is older
		stopping = !strings.Contains(text, "Starting") && (stopping || strings.Contains(text, "Shutdown"))
		if stopping { // as 1.1.2 has it; spec/server.md 9, trap 1
			text = strings.ReplaceAll(text, "] Unban ", "] Repeal Ban ")
		}
		key := ""
		for _, of := range []string{"[j]", "[k]", "Ignore"} { // who is ignored is told apart from who is not
			if strings.Contains(text, of) {
				key = of
			}
		}
		out[key] = append(out[key], text)
	}
	slices.Sort(out[""])
	return out
}

// TestTrapS01, S02: the same history makes the same lines, restored and repealed bans included.
// And recidive's own rule finds the bans in ours.
func TestTrapS01_TheLogIsThePeers(t *testing.T) {
	tree := peertest.Tree(t)
	net := nstest.New(t)
	link := filepath.Join(t.TempDir(), "fail2ban-server")
	if err := os.Symlink(program(t), link); err != nil {
		t.Fatal(err)
	}
	theirs := newServer(t, tree, []string{peertest.Python(), "-B", filepath.Join(tree, "usr/bin/fail2ban-server")}, (*exec.Cmd).Start)
	ours := newServer(t, tree, []string{link}, net.Start)
	var logs [2]string
	t.Run("side by side", func(t *testing.T) {
		for i, s := range []*server{theirs, ours} {
			t.Run(filepath.Base(s.program[0]), func(t *testing.T) {
				t.Parallel()
				s.T = t
				logs[i] = s.history()
			})
		}
	})
	log := logs[1]
	want, got := comparable(t, logs[0], theirs.dir), comparable(t, log, ours.dir)
	for _, of := range []string{"", "[j]", "[k]", "Ignore"} {
		if !slices.Equal(got[of], want[of]) {
			t.Errorf("lines of %q:\n%s\nthe peer's:\n%s", of, strings.Join(got[of], "\n"), strings.Join(want[of], "\n"))
		}
	}
	if len(want["[j]"]) < 8 {
		t.Errorf("the peer wrote %d lines only", len(want["[j]"]))
	}
	cmd := exec.CommandContext(t.Context(), peertest.Python(), "-B", filepath.Join(tree, "usr/bin/fail2ban-regex"),
		"-c", filepath.Join(tree, "etc/fail2ban"), filepath.Join(ours.dir, "f2b.log"), "recidive")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	bans := strings.Count(log, "] Ban ")
	if !strings.Contains(string(out), fmt.Sprintf("ignored, %d matched", bans)) || bans < 4 {
		t.Errorf("recidive finds not the %d bans: %s", bans, out)
	}
}
