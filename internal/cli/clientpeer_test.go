package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bantam/internal/peertest"
	"bantam/library"
)

// A said is what a command line printed and how it ended.
type said struct {
	Out, Err string
	Code     int
}

func (s said) String() string {
	return fmt.Sprintf("%q, on standard error %q, code %d", s.Out, s.Err, s.Code)
}

// A runner runs a command line of fail2ban-client.
type runner func(words ...string) said

// originalClient runs the package's own client.
func originalClient(t *testing.T, tree string) runner {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peertest.Python(), "testdata/client.py", filepath.Join(tree, "usr/bin/fail2ban-client"))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		peertest.Without(t, err.Error())
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // the context may have ended it
	})
	answers := json.NewDecoder(out)
	return func(words ...string) (s said) {
		t.Helper()
		b, err := json.Marshal(words)
		if err == nil {
			_, err = in.Write(append(b, '\n'))
		}
		if err == nil {
			err = answers.Decode(&s)
		}
		if err != nil {
			t.Error(err, trouble.String())
		}
		return s
	}
}

// ourClient runs the program as fail2ban-client.
func ourClient(t *testing.T) runner {
	return func(words ...string) said {
		var out, errs bytes.Buffer
		code := Main(t.Context(), append([]string{"fail2ban-client"}, words...), library.FS, &out, &errs)
		return said{out.String(), errs.String(), code}
	}
}

// A place is a configuration with its logs and sockets.
type place struct{ dir, conf string }

const peerJails = `[DEFAULT]
action =
backend = polling
observe = true
[j1]
enabled = true
filter =
failregex = ^\s*bad <HOST>$
logpath = $DIR/a.log
maxretry = 3
findtime = 600
bantime = 600
[j2]
enabled = true
filter =
failregex = ^worse <HOST>$
            ^worst <ADDR> <F-USER>\S+</F-USER>$
ignoreregex = ^worse 1\.2
logpath = $DIR/a.log
          $DIR/b.log
ignoreip = 10.0.0.0/8
datepattern = %%Y-%%m-%%d %%H:%%M:%%S
bantime.increment = true
bantime.maxtime = 1h
`

const peerDaemon = `[Definition]
socket = $DIR/f2b.sock
pidfile = $DIR/f2b.pid
dbfile = $DIR/f2b.db
logtarget = $DIR/f2b.log
`

// newPlace makes a folder with the package's stock configuration and two jails of ours.
func newPlace(t *testing.T, tree string) place {
	t.Helper()
	dir := t.TempDir()
	p := place{dir, filepath.Join(dir, "conf")}
	if err := os.CopyFS(p.conf, os.DirFS(filepath.Join(tree, "etc/fail2ban"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(p.conf, "jail.d")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"conf/jail.local": peerJails, "conf/fail2ban.local": peerDaemon, "a.log": "", "b.log": "", "c.log": "",
	} {
		text = strings.ReplaceAll(text, "$DIR", dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// untilReady waits until a server says that it is, on what it prints.
func untilReady(t *testing.T, r io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), serverReady) {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return
		}
	}
	t.Fatal("the server ended before it was ready")
}

// originalServer runs the package's own server.
func originalServer(t *testing.T, tree string, p place) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peertest.Python(), filepath.Join(tree, "usr/bin/fail2ban-server"), "-c", p.conf, "-f", "start")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		peertest.Without(t, err.Error())
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()
	})
	untilReady(t, out)
}

// ourServer runs the program as fail2ban-server.
func ourServer(t *testing.T, p place) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var log bytes.Buffer
	code := make(chan int, 1)
	go func() {
		defer in.Close()
		code <- Main(ctx, []string{"fail2ban-server", "-c", p.conf, "-f", "start"}, library.FS, in, &log)
	}()
	t.Cleanup(func() {
		cancel()
		if got := <-code; got != 0 {
			t.Errorf("the server ended with %d: %s", got, log.String())
		}
	})
	untilReady(t, out)
}

var (
	logStamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} `)
	pidStamp = regexp.MustCompile(`(fail2ban[.a-z]* +)\[\d+\]: `)
	dateText = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
)

// normal is what was said without what differs from run to run.
func normal(s said, p place) said {
	for _, text := range []*string{&s.Out, &s.Err} {
		*text = strings.ReplaceAll(*text, p.dir, "$DIR")
		*text = logStamp.ReplaceAllString(*text, "")
		*text = pidStamp.ReplaceAllString(*text, "${1}[PID]: ")
		*text = strings.ReplaceAll(dateText.ReplaceAllString(*text, "DATE"), "DATE = 9999-12-31 23:59:59", "FOREVER")
	}
	return s
}

// each runs every line of the script, words cut at blanks but for quoted ones. A line
// "until TEXT: COMMAND" repeats the command until it prints the text, "append FILE LINE" writes
// to a log.
func each(t *testing.T, run runner, p place, script []string) []said {
	t.Helper()
	var out []said
	for _, line := range script {
		if rest, ok := strings.CutPrefix(line, "append "); ok {
			name, text, _ := strings.Cut(rest, " ")
			logLine(t, filepath.Join(p.dir, name), time.Now().Format(time.DateTime)+" "+text)
			out = append(out, said{})
			continue
		}
		until, command, waits := "", line, false
		if rest, ok := strings.CutPrefix(line, "until "); ok {
			until, command, waits = cutColon(rest)
		}
		words, err := shellish(strings.ReplaceAll(command, "$DIR", p.dir))
		if err != nil {
			t.Error(err)
			return nil
		}
		words = append([]string{"-c", p.conf}, words...)
		s := run(words...)
		deadline := time.After(20 * time.Second)
		for tick := time.Tick(20 * time.Millisecond); waits && !strings.Contains(s.Out, until); s = run(words...) {
			select {
			case <-tick:
			case <-deadline:
				t.Errorf("%s: still %q", line, s.Out)
				return nil
			}
		}
		out = append(out, normal(s, p))
	}
	return out
}

func logLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = io.WriteString(f, line+"\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Error(err)
	}
}

func cutColon(s string) (before, after string, ok bool) { return strings.Cut(s, ": ") }

// show is what a command said, for a message.
func show(s said) string { return fmt.Sprintf("%s%s=> %d", s.Out, s.Err, s.Code) }
