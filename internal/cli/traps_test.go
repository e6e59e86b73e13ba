package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam/internal/control"
	"bantam/library"
)

// The tests below are traps of Fail2Ban by their numbers in detection.md 10, as far as they
// show at the command line; config and the stages hold the others.

// lockedBuffer is what a daemon prints into while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// daemonOn runs the daemon in this process until the test ends, with the configuration in dir;
// it is ready when daemonOn returns.
func daemonOn(t *testing.T, dir string) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	var out lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"bantam", "run", "-c", dir, "--socket", socket, "--pidfile", filepath.Join(dir, "pid")}, library.FS, &out, &out)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Log(out.String())
		}
	})
	eventually(t, func(ctx context.Context) bool {
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("the daemon ended with %d:\n%s", code, out.String())
		default:
		}
		_, err := control.Call(ctx, control.NewClient(socket), control.Ping, control.None{})
		return err == nil
	})
	return socket
}

// eventually waits for something another process or the daemon does.
func eventually(t *testing.T, happened func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); !happened(ctx); {
		select {
		case <-tick:
		case <-ctx.Done():
			t.Fatalf("not within %s", patience)
		}
	}
}

// awaitLive waits until the jail's log was read to its end for the first time.
func awaitLive(t *testing.T, socket, name string) {
	t.Helper()
	eventually(t, func(ctx context.Context) bool {
		st, err := control.Call(ctx, control.NewClient(socket), control.GetStatus, control.None{})
		return err == nil && slices.ContainsFunc(st.Jails, func(j control.JailStatus) bool {
			return j.Jail == name && len(j.Sources) == 1 && j.Sources[0].Live
		})
	})
}

// banned are the IDs that every jail has decided to ban, once last is among them: lines before
// that one's have been judged then.
func banned(t *testing.T, socket, last string) (ids []string) {
	t.Helper()
	eventually(t, func(ctx context.Context) bool {
		reply, err := control.Call(ctx, control.NewClient(socket), control.GetBans, control.BansRequest{})
		ids = nil
		for _, b := range reply.Bans {
			ids = append(ids, b.ID.String())
		}
		slices.Sort(ids)
		return err == nil && slices.Contains(ids, last)
	})
	return ids
}

// appendTo writes lines to the end of a file.
func appendTo(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

const memory = "[Definition]\ndbfile = None\n"

// watching is a jail.local with one observing jail n on the file log of dir.
func watching(dir, lines string) string {
	return "[sshd]\nenabled = false\n[n]\nenabled = true\nobserve = true\nignoreself = false\nmaxretry = 1\nfilter =\nbackend = polling\nlogpath = " +
		filepath.Join(dir, "log") + "\n" + lines
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTrap18_CheckFindsABrokenExpression(t *testing.T) {
	dir := folder(t, "jail.local", "[t]\nenabled = true\nlogpath = /t.log\nfailregex = ^f (<HOST>$\nfilter =\n")
	code, out, _ := program(t, "bantam", "check", "-c", dir)
	if code != ExitFailed || !strings.Contains(out, "jail.local:4: failregex 1: ") {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
}

func TestTrap19_ReloadWithOneBadExpressionChangesNothing(t *testing.T) {
	dir := folder(t, "bantam.conf", memory, "log", "")
	jails := watching(dir, "failregex = ^ f <HOST>$\n[o]\nenabled = true\nobserve = true\nignoreself = false\nmaxretry = 1\nfilter =\nfailregex = ^ o <HOST>$\nlogpath = "+filepath.Join(dir, "log")+"\n")
	write(t, filepath.Join(dir, "jail.local"), jails)
	socket := daemonOn(t, dir)
	awaitLive(t, socket, "n")
	write(t, filepath.Join(dir, "jail.local"), strings.Replace(jails, "^ o <HOST>$", "^ o (<HOST>$", 1))
	code, _, errs := program(t, "bantam", "reload", "--socket", socket)
	if code != ExitFailed || !strings.Contains(errs, "failregex 1") {
		t.Errorf("reload ends with %d and says\n%s", code, errs)
	}
	// Both go on as they were.
	appendTo(t, filepath.Join(dir, "log"), stamped("f 192.0.2.1")+stamped("o 192.0.2.2"))
	for _, id := range []string{"192.0.2.1", "192.0.2.2"} {
		banned(t, socket, id)
	}
}

// stamped is a line of now.
func stamped(text string) string {
	return time.Now().UTC().Format("2006-01-02T15:04:05Z") + " " + text + "\n"
}

// Where the original reads or skips an old log by whether midnight lies within findtime, Bantam
// reads it, and check says how to begin at its end.
func TestTrap46_OldLinesWithoutDates(t *testing.T) {
	for _, c := range []struct {
		name, findtime, tail string
		want                 []string
	}{
		{"a short findtime", "10m", "", []string{"192.0.2.1", "192.0.2.9"}},
		{"a findtime beyond midnight", "1d", "", []string{"192.0.2.1", "192.0.2.9"}},
		{"with tail", "1d", " tail", []string{"192.0.2.9"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, "bantam.conf", memory, "log", "f 192.0.2.1\n")
			jails := watching(dir, "findtime = "+c.findtime+"\ndatepattern = {NONE}\nfailregex = ^f <HOST>$\n")
			write(t, filepath.Join(dir, "jail.local"), strings.Replace(jails, "/log\n", "/log"+c.tail+"\n", 1))
			_, out, _ := program(t, "bantam", "check", "-c", dir)
			if warned := strings.Contains(out, "datepattern: "); warned != (c.tail == "") {
				t.Errorf("check says\n%s", out)
			}
			socket := daemonOn(t, dir)
			awaitLive(t, socket, "n")
			appendTo(t, filepath.Join(dir, "log"), "f 192.0.2.9\n")
			if got := banned(t, socket, "192.0.2.9"); !slices.Equal(got, c.want) {
				t.Errorf("banned are %q, want %q", got, c.want)
			}
		})
	}
}

func TestTrap47_UndatedLineWhileCatchingUp(t *testing.T) {
	dir := folder(t, "bantam.conf", memory, "log", "f 192.0.2.1\n")
	write(t, filepath.Join(dir, "jail.local"), watching(dir, "failregex = f <HOST>$\n"))
	socket := daemonOn(t, dir)
	awaitLive(t, socket, "n")
	appendTo(t, filepath.Join(dir, "log"), "f 192.0.2.9\n")
	if got := banned(t, socket, "192.0.2.9"); len(got) != 1 {
		t.Errorf("banned are %q, an undated line of before the start among them", got)
	}
}

func TestTrap56_WordsInIgnoreipAreNames(t *testing.T) {
	dir := folder(t, "bantam.conf", memory, "log", "")
	write(t, filepath.Join(dir, "jail.local"), watching(dir, "ignoreip = root\ndatepattern = {NONE}\nfailregex = ^f <F-ID>\\S+</F-ID>$\n"))
	socket := daemonOn(t, dir)
	awaitLive(t, socket, "n")
	appendTo(t, filepath.Join(dir, "log"), "f root\n")
	banned(t, socket, "root")
}

func TestTrap59_MistypedLogFileIsTestedAsALine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "none.log")
	code, out, _ := program(t, "fail2ban-regex", name, "^<HOST>x")
	if code != 0 || !strings.Contains(out, "Use       single line : ") || !strings.Contains(out, "\nLines: 1 lines, 0 ignored, 0 matched, 1 missed\n") {
		t.Errorf("it ends with %d and prints\n%s", code, out)
	}
}

func TestTrap60_UsednsOfTheFilterIsNotTakenOver(t *testing.T) {
	dir := folder(t, "filter.d/t.conf", "[Definition]\nfailregex = a <HOST>\nusedns = no\n")
	code, out, _ := program(t, "fail2ban-regex", "-c", dir, "-v", "a localhost b", "t")
	if code != 0 || !strings.Contains(out, "|      127.0.0.1  ") {
		t.Errorf("it ends with %d and prints\n%s", code, out)
	}
}

func TestTrap61_CountsDifferWithNoCheckAll(t *testing.T) {
	log := filepath.Join(folder(t, "log", `Jun 21 16:47:47 gate sshd[812]: Connection from 192.0.2.7 port 4022 on 198.51.100.1 port 22
Jun 21 16:47:48 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2
Jun 21 16:47:49 gate sshd[812]: Disconnected from authenticating user root 192.0.2.7 port 4022
Jun 21 16:47:50 gate sshd[815]: Connection from 192.0.2.8 port 4022 on 198.51.100.1 port 22
Jun 21 16:47:51 gate sshd[815]: Failed password for bob from 192.0.2.8 port 4022 ssh2
Jun 21 16:47:52 gate cron[9]: job
Jun 21 16:47:53 gate cron[9]: job
`), "log")
	dir := folder(t, "filter.d/t.conf", `[Definition]
prefregex = ^ gate sshd<F-MLFID>\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$
failregex = ^<F-NOFAIL>Connection</F-NOFAIL> from <HOST>
    ^Failed \S+ for <F-USER>\S+</F-USER> from <HOST>
    ^<F-NOFAIL>Disconnected</F-NOFAIL> from <F-MLFFORGET>authenticating</F-MLFFORGET> user \S+ <HOST>
`)
	for _, c := range []struct{ flag, want string }{
		{"--print-no-missed", "Lines: 7 lines, 3 ignored, 2 matched, 2 missed"},
		{"--no-check-all", "Lines: 7 lines, 0 ignored, 2 matched, 5 missed"},
	} {
		code, out, _ := program(t, "fail2ban-regex", "-c", dir, c.flag, log, "t")
		if code != 0 || !strings.Contains(out, "\n"+c.want+"\n") {
			t.Errorf("%s: it ends with %d and prints\n%swant %s", c.flag, code, out, c.want)
		}
	}
}
