package daemon

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/library"
)

func TestTheServiceManagerIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn := receiver(t, socket)
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "20000")
	next := func(want ...string) string {
		t.Helper()
		for {
			got := datagram(t, conn)
			if strings.HasPrefix(got, "WATCHDOG=1\n") && want[0] != "WATCHDOG=1" {
				continue // it comes in between
			}
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("%q says nothing of %s", got, w)
				}
			}
			return got
		}
	}
	t.Run("while a daemon runs", func(t *testing.T) {
		d := running(t)
		next("READY=1\n", "STATUS=2 jails, 0 banned")
		if _, err := d.do(t, "set j1 banip 203.0.113.9"); err != nil {
			t.Fatal(err)
		}
		next("WATCHDOG=1", "STATUS=2 jails, ")
		if _, err := d.Reload(t.Context(), control.None{}); err != nil {
			t.Fatal(err)
		}
		if got := next("RELOADING=1\nMONOTONIC_USEC="); strings.HasSuffix(got, "USEC=0") {
			t.Errorf("%q", got)
		}
		next("READY=1\n", "STATUS=2 jails, 1 banned")
	})
	next("STOPPING=1")
}

func TestAnAbstractSocketAndAWatchdogOfAnother(t *testing.T) {
	name := "@bantam-test-" + pid
	conn := receiver(t, name)
	env := map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
	s := newService(newLog(t, true, "STDERR").Logger, func(key string) string { return env[key] })
	s.tell("READY=1")
	if got := datagram(t, conn); got != "READY=1" || s.every != 0 {
		t.Errorf("%q, every %s", got, s.every)
	}
	env["NOTIFY_SOCKET"] = "vsock:2:1"
	l := newLog(t, true, "STDERR")
	if s = newService(l.Logger, func(key string) string { return env[key] }); s.socket != "" || !strings.Contains(l.stderr.String(), "not known") {
		t.Errorf("%q, %s", s.socket, l.stderr.String())
	}
}

func TestThePulseStopsWhenLinesBecomeNoDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, full := uint64(0), false
		hang := make(chan struct{})
		healthy := func() *pulse {
			return &pulse{
				jails:   func(context.Context) (uint64, error) { return done, nil },
				sources: func() {}, waiting: func() bool { return full },
			}
		}
		p := healthy()
		for _, look := range []struct {
			name string
			done uint64
			full bool
			want string
		}{
			{"nothing to do", 0, false, ""},
			{"a storm begins", 5, true, ""},
			{"it is worked on", 9, true, ""},
			{"nobody takes any", 9, true, "failures wait and none is counted"},
			{"they are taken", 9, false, ""},
		} {
			if done, full = look.done, look.full; p.feel(t.Context(), time.Second) != look.want {
				t.Errorf("%s: not %q", look.name, look.want)
			}
		}
		p = healthy()
		p.jails = func(ctx context.Context) (uint64, error) { <-ctx.Done(); return 0, errors.New("late") }
		if got := p.feel(t.Context(), time.Second); got != "the jails do not answer" {
			t.Errorf("%q", got)
		}
		p = healthy()
		p.sources = func() { <-hang }
		if got := p.feel(t.Context(), time.Second); got != "the sources do not answer" {
			t.Errorf("%q", got)
		}
		close(hang)
	})
}

// another is a process under a name of the test's, with a file open.
func another(t *testing.T, name string, open *os.File) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sleep", "60")
	cmd.Args[0] = name
	cmd.ExtraFiles = []*os.File{open}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func TestAStartBesideAnotherIsRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := os.Create(filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	pidFile := filepath.Join(dir, "pid")
	refused := func(pidFile string, want string) {
		t.Helper()
		err := alone(config.Daemon{DBFile: db.Name()}, pidFile)
		var e *control.Error
		switch {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (!errors.As(err, &e) || !strings.Contains(e.Text, want) || !strings.Contains(e.Hint, "stop it first")):
			t.Errorf("%v, want %s", err, want)
		}
	}
	another(t, "sqlite3", db) // somebody looks at it
	refused(pidFile, "")
	for text, want := range map[string]string{"": "", "x": "", "1": "", "4194305": ""} { // no number, init, nobody
		if err := os.WriteFile(pidFile, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(pidFile, want)
	}
	who := another(t, "/usr/bin/fail2ban-server", db)
	refused("", "Fail2Ban (pid "+control.Repr(who)+") has the database "+db.Name()+" open")
	if err := os.WriteFile(pidFile, []byte(control.Repr(who)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(pidFile, "runs for the same configuration: "+pidFile)
}

// packaging is where the service files are.
const packaging = "../../packaging/systemd"

func TestTheUnitIsRight(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join(packaging, "bantam.service"))
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "bantam.service") // of a program that is here
	text := strings.ReplaceAll(string(b), "/usr/bin/bantam", "/bin/true")
	if err := errors.Join(os.WriteFile(unit, []byte(text), 0o600), os.Mkdir(unit+".d", 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"", "shell-actions.conf", "credentials.conf"} {
		if more != "" {
			b, err := os.ReadFile(filepath.Join(packaging, more))
			if err == nil {
				err = os.WriteFile(filepath.Join(unit+".d", more), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("with %q: %v: %s", more, err, out)
		}
	}
	_ = os.RemoveAll(unit + ".d")
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=30", unit).CombinedOutput()
	if err != nil {
		t.Errorf("the unit is more exposed than docs/guide.md says: %v: %s", err, out[max(0, len(out)-200):])
	}
}

// program builds the program as it is shipped: without cgo, which alone can give up the
// privileges of all its threads.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bantam")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", file, "bantam/cmd/bantam")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

func TestPrivilegesAreGivenUpWhereNoJailRunsCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there are none to give up: not root")
	}
	cmd, socket := observer(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var st control.Status
	for tick := time.Tick(5 * time.Millisecond); st.Privileges == ""; {
		st, _ = control.Call(ctx, control.NewClient(socket), control.GetStatus, control.None{}) // until it answers
		select {
		case <-tick:
		case <-ctx.Done():
			t.Fatal("it says nothing of its privileges")
		}
	}
	if st.Privileges != privilegesFew {
		t.Errorf("the status says %q", st.Privileges)
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		if got, want := capabilities(t, st.PID, set), "0000000000003004"; got != want { // 2, 12 and 13
			t.Errorf("%s is %s, want %s", set, got, want)
		}
	}
}

// The original dies of SIGHUP in the foreground and leaves its socket.
func TestTrapS50_SIGHUPReloads(t *testing.T) {
	cmd, socket := observer(t)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	steps := []struct {
		said string
		then syscall.Signal
	}{{"msg=\"log is read\"", syscall.SIGHUP}, {"msg=reloaded ", syscall.SIGUSR1}, {"msg=\"log flushed\"", syscall.SIGTERM}, {"msg=stopped", 0}}
	var log strings.Builder
	for s := bufio.NewScanner(stderr); s.Scan(); {
		log.WriteString(s.Text() + "\n")
		if len(steps) > 0 && strings.Contains(s.Text(), steps[0].said) {
			if sig := steps[0].then; sig != 0 {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Error(err)
				}
			}
			steps = steps[1:]
		}
	}
	if err := cmd.Wait(); err != nil || len(steps) > 0 {
		t.Errorf("%v, still to come: %v, of\n%s", err, steps, &log)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// observer is the program, ready to run, with a jail that bans nobody, and its socket.
func observer(t *testing.T) (cmd *exec.Cmd, socket string) {
	t.Helper()
	bantam, dir := program(t), t.TempDir()
	socket = filepath.Join(dir, "s")
	for file, text := range map[string]string{
		"jail.local":  "[DEFAULT]\nobserve = true\n[j]\nenabled = true\nfilter =\nfailregex = ^bad <HOST>$\nlogpath = " + dir + "/log\n",
		"bantam.conf": "[Definition]\ndbfile = " + dir + "/db\npidfile =\n", "log": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return exec.CommandContext(t.Context(), bantam, "run", "-c", dir, "--socket", socket), socket
}

func TestCommandsKeepPrivileges(t *testing.T) {
	for actions, want := range map[string]string{"": "", "action = a\n": "j"} {
		dir := t.TempDir()
		for file, text := range map[string]string{
			"jail.conf":       "[j]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = " + dir + "/log\n" + actions,
			"action.d/a.conf": "[Definition]\nactionban = true\n",
		} {
			file = filepath.Join(dir, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		p, err := makePlan(dir, library.FS)
		if err != nil || !p.runs("j") || p.commands() != want {
			t.Errorf("with %q: %v, commands of %q, want %q", actions, err, p.commands(), want)
		}
	}
}

// capabilities is a set of every thread of a process.
func capabilities(t *testing.T, pid int, set string) (value string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", control.Repr(pid), "task/*/status"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(b), "\n"+set+":\t")
		got, _, _ := strings.Cut(rest, "\n")
		if value != "" && got != value {
			t.Errorf("%s differs from thread to thread: %s and %s", set, got, value)
		}
		value = got
	}
	return value
}
