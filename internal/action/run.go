package action

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times around the end of a command.
const (
	afterTerm = 200 * time.Millisecond // from SIGTERM to SIGKILL
	afterExit = 500 * time.Millisecond // for output of what it left running
)

// maxOutput is how much of what a command prints is kept, of each stream. The
// rest is read and forgotten, so that it never waits for us.
const maxOutput = 8 << 10

// A CommandError is a command that did not work.
type CommandError struct {
	Text     string // the script
	Code     int    // exit status; -1 if a signal ended it
	Signal   syscall.Signal
	TimedOut time.Duration // how long it ran, if that was too long
	Stdout   string        // their beginnings; perhaps attacker's text
	Stderr   string
	Err      error // if it could not be run at all
}

func (e *CommandError) Error() string {
	switch {
	case e.Err != nil:
		return "the command cannot be run: " + e.Err.Error()
	case e.TimedOut > 0:
		return fmt.Sprintf("timed out after %d seconds", int64(e.TimedOut.Round(time.Second)/time.Second))
	case e.Signal != 0:
		return fmt.Sprintf("killed with %s (return code: %d)", signalName(e.Signal), -int(e.Signal))
	case e.Code == 127:
		return "returned 127: command not found"
	}
	return fmt.Sprintf("returned %d", e.Code)
}

func (e *CommandError) Unwrap() error { return e.Err }

func signalName(s syscall.Signal) string {
	for n, name := range map[syscall.Signal]string{
		syscall.SIGTERM: "SIGTERM", syscall.SIGKILL: "SIGKILL", syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP",
		syscall.SIGSEGV: "SIGSEGV", syscall.SIGPIPE: "SIGPIPE", syscall.SIGABRT: "SIGABRT",
	} {
		if n == s {
			return name
		}
	}
	return fmt.Sprintf("signal %d", int(s))
}

// run runs "sh -c" with these arguments until it ends, the time is up or ctx ends; then
// its whole session is terminated, and killed a moment later. It runs in a session of its own, reads
// nothing, writes files that only we can read, and has none of our descriptors.
func run(ctx context.Context, args []string, timeout time.Duration) error {
	cmdCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// On one line with what follows, so that the shell counts lines as they were written.
	script := "umask 077; " + args[0]
	cmd := exec.CommandContext(cmdCtx, "/bin/sh", append([]string{"-c", script}, args[1:]...)...)
	var stdout, stderr head
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runGroup(cmd)
	failed := &CommandError{Text: args[0], Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case cmdCtx.Err() != nil && ctx.Err() == nil:
		failed.TimedOut = timeout
	case ctx.Err() != nil:
		failed.Err = context.Cause(ctx)
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit):
		failed.Code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			failed.Signal = status.Signal()
		}
	default:
		failed.Err = err
	}
	return failed
}

// runGroup runs a command in a session of its own and, when its context ends, ends all
// that it started.
func runGroup(cmd *exec.Cmd) error {
	kill := own(cmd)
	defer kill()
	return cmd.Run()
}

// own gives a command its own session and a clean environment. What is returned is called when
// the command has been waited for.
func own(cmd *exec.Cmd) (kill func()) {
	// Who started us may have left us descriptors that are no business of an action. Old kernels
	// (before 5.11) cannot do this, and then they are handed on.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = environment()
	cmd.WaitDelay = afterExit
	var late *time.Timer
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		late = time.AfterFunc(afterTerm, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	return func() {
		if late != nil && late.Stop() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // those that the first one left behind
		}
	}
}

// ours are the variables that are about this process and no other, and those that make a
// shell or an interpreter run what nobody asked for.
var ours = []string{
	"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "INVOCATION_ID=", "JOURNAL_STREAM=", "MAINPID=", "MANAGERPID=", "SYSTEMD_", "CREDENTIALS_DIRECTORY=",
	"MEMORY_PRESSURE_", "RUNTIME_DIRECTORY=", "STATE_DIRECTORY=", "GODEBUG=", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=", "GOTRACEBACK=",
	"BANTAM_", "ENV=", "BASH_ENV=", "BASH_FUNC_", "IFS=", "f2bV_",
}

// environment is ours without what is only for us.
var environment = sync.OnceValue(clean)

func clean() []string {
	var out []string
	path := false
next:
	for _, v := range os.Environ() {
		for _, prefix := range ours {
			if strings.HasPrefix(v, prefix) {
				continue next
			}
		}
		path = path || strings.HasPrefix(v, "PATH=")
		out = append(out, v)
	}
	if !path {
		out = append(out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return out
}

// head keeps the beginning of what is written to it.
type head struct {
	kept []byte
	more int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), maxOutput-len(h.kept))
	h.kept = append(h.kept, p[:n]...)
	h.more += len(p) - n
	return len(p), nil
}

func (h *head) String() string {
	text := strings.TrimRight(strings.ToValidUTF8(string(h.kept), "\uFFFD"), "\n")
	if h.more > 0 {
		text += fmt.Sprintf("… and %d bytes more", h.more)
	}
	return text
}
