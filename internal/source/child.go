package source

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A child is a program whose output is read.
type child struct {
	cmd       *exec.Cmd
	stdout    io.Reader
	complaint lastLine // what it said last on its standard error
}

// startChild starts a program, with more in its environment than we have. When ctx ends it is killed, with all that it has
// started: a group of its own can be ended whole, and is out of a terminal's reach.
func startChild(ctx context.Context, env []string, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Cancel = func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }
	c.cmd.WaitDelay = time.Second
	c.cmd.Stderr = &c.complaint
	var err error
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

// A lastLine keeps the last line written to it that is not empty, cut.
type lastLine struct {
	mu   sync.Mutex
	line []byte
}

const maxComplaint = 200

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = append(l.line, p...)
	if t := bytes.TrimRight(l.line, "\n"); bytes.IndexByte(t, '\n') >= 0 {
		l.line = append(l.line[:0], l.line[bytes.LastIndexByte(t, '\n')+1:]...)
	}
	if len(l.line) > maxComplaint {
		l.line = l.line[:maxComplaint]
	}
	return len(p), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(l.line)), "\uFFFD")
}
