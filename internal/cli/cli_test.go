package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bantam"
	"bantam/internal/control"
	"bantam/library"
)

func TestMain(m *testing.M) {
	run := func() {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(Main(ctx, os.Args, library.FS, os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"bantam": run, "fail2ban-regex": run, "fail2ban-client": run, "fail2ban-server": run})
}

// Every file of testdata is a session at the command line. Its daemons observe
// only, so that no test needs privilege or touches this machine's firewall.
//
//	await ready       waits until the daemon answers on $SOCKET
//	await banned ID   waits until it has decided on ID
//	await text TEXT   the same of an ID that is a text
//	await gone        waits until nobody answers
//	log FILE ID N     appends N failed logins of ID
//	fill FILE…        puts the test's folder in the place of $WORK in files
//	code N COMMAND…   runs a program that must end with the exit code N
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOCKET", filepath.Join(env.WorkDir, "s"))
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "log": appendLog, "fill": fill, "code": code},
	})
}

const patience = 20 * time.Second

func await(ts *testscript.TestScript, _ bool, args []string) {
	client := control.NewClient(ts.Getenv("SOCKET"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	happened := func() bool {
		_, err := control.Call(ctx, client, control.Ping, control.None{})
		return err == nil
	}
	switch args[0] {
	case "gone":
		happened = func() bool {
			_, err := control.Call(ctx, client, control.Ping, control.None{})
			return errors.Is(err, control.ErrNotRunning)
		}
	case "banned", "text":
		id := bantam.TextID(args[1])
		if args[0] == "banned" {
			var err error
			id, err = bantam.ParsePrefix(args[1])
			ts.Check(err)
		}
		happened = func() bool {
			reply, err := control.Call(ctx, client, control.GetBans, control.BansRequest{ID: id})
			return err == nil && len(reply.Bans) > 0
		}
	}
	for tick := time.Tick(5 * time.Millisecond); !happened(); {
		select {
		case <-tick:
		case <-ctx.Done():
			ts.Fatalf("%s: not within %s", strings.Join(args, " "), patience)
		}
	}
}

func appendLog(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	var n int
	_, err = fmt.Sscan(args[2], &n)
	ts.Check(err)
	for i := range n {
		_, err = fmt.Fprintf(f, "%s gate sshd[%d]: Failed password for root from %s port %d ssh2\n",
			time.Now().Format(time.Stamp), 800+i, args[1], 4000+i)
		ts.Check(err)
	}
	ts.Check(f.Close())
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("%s ended with %d, want %s", args[1], got, args[0])
	}
}

func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := strings.ReplaceAll(ts.ReadFile(name), "$WORK", ts.Getenv("WORK"))
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func TestSafe(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text stays", "Grüße, 世界", "Grüße, 世界"},
		{"escape sequences", "\x1b[31mred\x07", `\x1b[31mred\x07`},
		{"new lines", "a\r\nb", `a\x0d\x0ab`},
		{"one-byte controls of C1", "\u009b2J", `\x9b2J`},
		{"reversed writing", "a\u202eb", `a\u202eb`},
		{"no UTF-8", "a\xffb", `a\ufffdb`},
	} {
		if got := safe(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLength(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m 1s", time.Hour: "1h", 26*time.Hour + time.Minute: "1d 2h",
		8 * 24 * time.Hour: "1w 1d", -1: "for ever", time.Hour + 5*time.Second: "1h",
	} {
		if got := length(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
