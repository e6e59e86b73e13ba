package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
)

// A stream is a source that is read as it comes and kept by nobody: there is no place
// in it to go on from, and failures of it bear no position.
type stream struct {
	name   string
	timing timing
	log    *slog.Logger
	// serve reads until ctx ends or the stream does; then it returns why, nil where
	// that is the end of it all.
	serve func(ctx context.Context, s *stream) error
	// again is whether serve is called again when it returns an error.
	again bool

	assigned atomic.Pointer[assignment]
	from     atomic.Pointer[[]netip.Prefix] // whose messages are taken

	mu     sync.Mutex // guards status
	status Status

	handing sync.Mutex // guards what follows
	out     chan<- bantam.Failure
	judge   Judge
	jails   map[string]bool
	line    bantam.Line
	found   []bantam.Failure
	// live is false while the stream may be telling what is long past, as a program
	// that prints a log from its start does.
	live bool
	// newest is the latest event time of a failure, and told what it was when the
	// program was started again: what is not later was handed on the first time.
	newest, told time.Time
}

// streamQuiet is how long a stream that has nothing to say has told what is past.
const streamQuiet = time.Second

func newStream(name, backend string, t timing, log *slog.Logger, serve func(context.Context, *stream) error) *stream {
	return &stream{
		name: name, timing: t, log: log, serve: serve,
		status: Status{Name: name, Backend: backend, State: Starting},
	}
}

func (s *stream) assign(a *assignment) {
	s.assigned.Store(a)
	s.from.Store(&a.from)
	s.mu.Lock()
	s.status.Jails = jailsOf(a.plans)
	s.mu.Unlock()
}

func (s *stream) report() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Jails = slices.Clone(st.Jails)
	return []Status{st}
}

// lines is how many were handed on.
func (s *stream) lines() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Lines
}

// run serves until ctx ends, and again after a while if that is of use.
func (s *stream) run(ctx context.Context, _ *watcher, out chan<- bantam.Failure) {
	s.out = out
	wait := s.timing.restart
	for ctx.Err() == nil {
		before := s.lines()
		err := s.serve(ctx, s)
		if ctx.Err() != nil {
			return
		}
		s.state(err)
		if err == nil || !s.again {
			<-ctx.Done()
			return
		}
		if s.lines() != before {
			wait = s.timing.restart
		}
		s.handing.Lock()
		s.live, s.told = false, s.newest
		s.handing.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, 60*s.timing.restart)
	}
}

// reading says that the stream is open.
func (s *stream) reading() {
	if s.status.become(Reading, &s.mu) {
		s.log.Info("log is read", "path", s.name)
	}
}

// state publishes how serve ended.
func (s *stream) state(err error) {
	state := Ended
	if err != nil {
		state = err.Error()
	}
	changed := s.status.become(state, &s.mu)
	switch {
	case !changed:
	case err == nil:
		s.log.Info("log was read to its end", "path", s.name)
	default:
		s.log.Warn("log cannot be read", "path", s.name, "err", err)
	}
}

// hand gives one line to the judge and passes on what it finds. It may be called by
// several goroutines at once, of which one after the other is served. It is false if
// ctx ended before all was taken.
func (s *stream) hand(ctx context.Context, text []byte) bool {
	s.handing.Lock()
	defer s.handing.Unlock()
	if a := s.assigned.Swap(nil); a != nil {
		s.judge, s.jails = a.judge, make(map[string]bool, len(a.plans))
		for _, pl := range a.plans {
			s.jails[pl.jail] = true
		}
	}
	now := time.Now()
	s.mu.Lock()
	last := s.status.Last
	s.status.Lines++
	s.status.Bytes += int64(len(text)) + 1
	s.status.Last = now
	s.mu.Unlock()
	dated := false
	if !s.live {
		// What is past bears a date: a line without one is written now.
		_, dated = s.judge.Time(text, now)
		s.live = !last.IsZero() && now.Sub(last) > streamQuiet
	}
	s.line = bantam.Line{Text: text, Read: now, Live: s.live || !dated}
	s.mu.Lock()
	s.status.Live = s.live
	s.mu.Unlock()
	s.found = s.judge.Judge(&s.line, s.found[:0])
	for i := range s.found {
		f := &s.found[i]
		if !s.jails[f.Jail] || !s.live && dated && !f.Time.After(s.told) {
			continue
		}
		if f.Time.After(s.newest) {
			s.newest = f.Time
		}
		if f.Read.IsZero() {
			f.Read = now
		}
		select {
		case s.out <- *f:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// follow hands on the lines of r until it or ctx ends. A last line without line end
// counts: nobody will end it.
func (s *stream) follow(ctx context.Context, r io.Reader) error {
	lines := newLineReader(r)
	for {
		text, err := lines.next()
		if err != nil {
			return err
		}
		if !s.hand(ctx, text) {
			return ctx.Err()
		}
	}
}

// serveStdin reads standard input to its end, once.
func serveStdin(f *os.File) func(context.Context, *stream) error {
	return func(ctx context.Context, s *stream) error {
		r, err := newPollReader(ctx, f)
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		defer r.close()
		s.reading()
		if err := s.follow(ctx, r); !errors.Is(err, io.EOF) {
			return fmt.Errorf("read standard input: %w", err)
		}
		return nil
	}
}

// A pollReader reads a file that may have nothing to give for long, and gives up when
// its context ends. The file's flags are left alone: it may be somebody's terminal.
type pollReader struct {
	f          *os.File
	wake, wait *os.File // the ends of a pipe that is closed when the context ends
	stop       func() bool
}

func newPollReader(ctx context.Context, f *os.File) (*pollReader, error) {
	wait, wake, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r := &pollReader{f: f, wake: wake, wait: wait}
	r.stop = context.AfterFunc(ctx, func() { wake.Close() })
	return r, nil
}

func (r *pollReader) Read(b []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(r.f.Fd()), Events: unix.POLLIN}, {Fd: int32(r.wait.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case fds[1].Revents != 0:
			return 0, context.Canceled
		}
		n, err := unix.Read(int(fds[0].Fd), b)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (r *pollReader) close() {
	if r.stop() {
		r.wake.Close()
	}
	r.wait.Close()
}

// serveCommand runs a command in a shell and reads what it prints, until it ends. The
// command is the administrator's own text.
func serveCommand(command string) func(context.Context, *stream) error {
	return func(whole context.Context, s *stream) error {
		ctx, cancel := context.WithCancel(whole)
		defer cancel()
		child, err := startChild(ctx, nil, "/bin/sh", "-c", command)
		if err != nil {
			return fmt.Errorf("start the command: %w", err)
		}
		s.reading()
		readErr := s.follow(ctx, child.stdout)
		if !errors.Is(readErr, io.EOF) {
			cancel()
		}
		waitErr := child.cmd.Wait()
		switch text := child.complaint.String(); {
		case whole.Err() != nil:
			return whole.Err()
		case !errors.Is(readErr, io.EOF):
			return fmt.Errorf("read from the command: %w", readErr)
		case waitErr != nil && text != "":
			return fmt.Errorf("the command ended with %w: %s", waitErr, text)
		case waitErr != nil:
			return fmt.Errorf("the command ended with %w", waitErr)
		}
		return errors.New("the command ended; it is run again")
	}
}

// streamName is the command as a name: on one line, and cut.
func streamName(command string) string {
	name := strings.Join(strings.Fields(command), " ")
	if len(name) > 80 {
		name = string(bytes.ToValidUTF8([]byte(name[:80]), nil)) + "…"
	}
	return name
}
