package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
)

func TestWaitsFor(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, b *bench, dir, path string)
	}{
		{"a missing file", func(t *testing.T, b *bench, dir, path string) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			b.untilState(path, Waiting)
		}},
		{"a missing folder", func(t *testing.T, b *bench, dir, path string) {
			b.untilState(path, Waiting)
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		}},
		{"a folder that is deleted and made anew", func(t *testing.T, b *bench, dir, path string) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			b.untilState(path, Waiting)
			must(t, os.RemoveAll(filepath.Join(dir, "var")))
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		}},
		{"a folder that becomes a link to another", func(t *testing.T, b *bench, dir, path string) {
			b.untilState(path, Waiting)
			must(t, os.MkdirAll(filepath.Join(dir, "elsewhere", "log"), 0o700))
			must(t, os.Symlink("elsewhere", filepath.Join(dir, "var")))
		}},
		{"a link whose target comes later", func(t *testing.T, b *bench, dir, path string) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
			must(t, os.Symlink("../../data/real.log", path))
			b.untilState(path, Waiting)
		}},
		{"a fifo that makes way for a file", func(t *testing.T, b *bench, dir, path string) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, syscall.Mkfifo(path, 0o600))
			b.untilState(path, "is a fifo, not a regular file")
			must(t, os.Remove(path))
		}},
		{"a link to a device that makes way for a file", func(t *testing.T, b *bench, dir, path string) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.Symlink("/dev/zero", path))
			b.untilState(path, "is a device, not a regular file")
			must(t, os.Remove(path))
		}},
	}
	both(t, func(t *testing.T, backend string) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "var", "log", "auth.log")
				b := newBench(t)
				b.configure(one("sshd", path, backend))
				b.run()
				c.do(t, b, dir, path)
				write(t, path, "fail 1\n")
				b.fails("sshd", "fail 1")
				write(t, path, "fail 2\n")
				b.fails("sshd", "fail 1", "fail 2")
				b.stop()
				if st := b.untilState(path, Reading); st.Lines != 2 || st.Bytes != 14 || st.Backend != backend || st.Last.IsZero() {
					t.Errorf("status %+v, want 2 lines of 14 bytes by %s", st, backend)
				}
			})
		}
	})
}

func TestFileTurnsIntoFifo(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "auth.log")
		write(t, path, "fail 1\n")
		b := newBench(t)
		b.configure(one("sshd", path, backend))
		b.run()
		b.fails("sshd", "fail 1")
		must(t, os.Remove(path))
		must(t, syscall.Mkfifo(path, 0o600))
		b.untilState(path, "is a fifo")
		must(t, os.Remove(path))
		write(t, path, "fail 2\n")
		b.fails("sshd", "fail 1", "fail 2")
		if n := strings.Count(b.logged(), "is a fifo"); n != 1 {
			t.Errorf("the fifo is logged %d times, want once\n%s", n, b.logged())
		}
	})
}

func TestFileTurnsIntoFolder(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "f.log")
		write(t, path, "one\n")
		b := newBench(t)
		b.configure(one("t", path, backend))
		b.run()
		b.sees(path, "one")
		b.untilLive(path)
		must(t, os.Rename(path, path+".1"))
		must(t, os.Mkdir(path, 0o700))
		b.untilState(path, "is a directory")
		write(t, path+".1", "two\n") // whoever writes it goes on
		b.sees(path, "one", "two")
		must(t, os.Remove(path))
		write(t, path, "three\n")
		b.sees(path, "one", "two", "three")
		b.untilState(path, Reading)
	})
}

func TestLinkIsTurned(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		dir := t.TempDir()
		path := filepath.Join(dir, "current")
		must(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
		write(t, filepath.Join(dir, "data", "1"), "fail 1\n")
		must(t, os.Symlink("data/1", path))
		b := newBench(t)
		b.configure(one("sshd", path, backend))
		b.run()
		b.fails("sshd", "fail 1")
		write(t, filepath.Join(dir, "data", "2"), "fail 2\n")
		must(t, os.Symlink("data/2", path+".new"))
		must(t, os.Rename(path+".new", path))
		b.fails("sshd", "fail 1", "fail 2")
		write(t, filepath.Join(dir, "data", "2"), "fail 3\n")
		b.fails("sshd", "fail 1", "fail 2", "fail 3")
	})
}

func TestLongLines(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "auth.log")
		b := newBench(t)
		b.configure(one("sshd", path, backend))
		b.run()
		exact := strings.Repeat("e", MaxLine)
		write(t, path, "first\n"+exact+"\n"+exact+"e\n")
		b.sees(path, "first", exact, exact)
		// Ten megabytes in pieces, with line ends of every other kind in them.
		piece := strings.Repeat("x\x00\r\xff", 256<<10)
		for range 10 {
			write(t, path, piece)
		}
		write(t, path, "\nafter\n")
		front := piece[:MaxLine]
		got := b.sees(path, "first", exact, exact, front, "after")
		if want := int64(6 + 2*MaxLine + 3 + 10<<20 + 1 + 6); got[4].pos.Offset != want {
			t.Errorf("the last line ends at %d, want %d", got[4].pos.Offset, want)
		}
	})
}

// A long first line has a mark, too, and a truncation behind it is seen.
func TestLongFirstLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	b := newBench(t)
	b.configure(one("sshd", path, Inotify))
	b.run()
	long := strings.Repeat("x", 3*MaxLine)
	write(t, path, long)
	write(t, path, "\nb\n")
	got := b.sees(path, long[:MaxLine], "b")
	if want := markOf(long[:MaxLine]); got[0].pos.Mark != want || got[1].pos.Mark != want {
		t.Errorf("marks %q and %q, want %q", got[0].pos.Mark, got[1].pos.Mark, want)
	}
	overwrite(t, path, "c"+long[1:]+"\nd\n")
	b.sees(path, long[:MaxLine], "b", "c"+long[1:MaxLine], "d")
}

func TestMemoryOfLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	write(t, path, strings.Repeat("x", 64<<20)+"\n")
	b := newBench(t)
	b.sources.judges = func(string, []string) Judge { return noJudge{} }
	b.configure(one("sshd", path, Inotify))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.run()
	b.untilLive(path)
	b.stop()
	runtime.ReadMemStats(&after)
	// Buffers; the line itself would be 64 MiB.
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("a line of 64 MiB took %d bytes", grown)
	}
}

func TestPatterns(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		dir := t.TempDir()
		pattern := filepath.Join(dir, "www", "*", "access*.log")
		b := newBench(t)
		b.configure(one("web", pattern, backend))
		if st := b.sources.Status(); len(st) != 1 || st[0].Name != pattern || st[0].State != Waiting {
			t.Errorf("status %+v, want the pattern waiting", st)
		}
		b.run()
		one, two := filepath.Join(dir, "www", "one"), filepath.Join(dir, "www", "two")
		must(t, os.MkdirAll(one, 0o700))
		write(t, filepath.Join(one, "access.log"), "fail 1\n")
		b.fails("web", "fail 1")
		must(t, os.Mkdir(two, 0o700))
		write(t, filepath.Join(two, "access2.log"), "fail 2\n")
		b.fails("web", "fail 1", "fail 2")
		write(t, filepath.Join(one, "access.log"), "fail 3\n")
		b.fails("web", "fail 1", "fail 2", "fail 3")
		must(t, os.Mkdir(filepath.Join(two, "access3.log"), 0o700))
		if st := b.sources.Status(); len(st) != 2 {
			t.Errorf("status %+v, want the two files", st)
		}
	})
}

// A rotated file that the pattern fits too is not read a second time.
func TestPatternFitsRotatedFile(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		dir := t.TempDir()
		path := filepath.Join(dir, "auth.log")
		write(t, path, "fail 1\n")
		b := newBench(t)
		b.configure(one("sshd", path+"*", backend))
		b.run()
		b.fails("sshd", "fail 1")
		must(t, os.Rename(path, path+".1"))
		write(t, path, "fail 2\n")
		b.fails("sshd", "fail 1", "fail 2")
		// A file beside it is found after the rotated one was looked at.
		write(t, path+".other", "fail 3\n")
		b.fails("sshd", "fail 1", "fail 2", "fail 3")
	})
}

func TestNoInotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	write(t, path, "fail 1\n")
	w := newWatcher(slog.New(slog.DiscardHandler))
	if w.in != nil {
		w.in.Close()
	}
	w.in = nil
	b := newBench(t)
	r := newFollower(path, fastTiming, b.sources.log)
	b.judges[path] = 1
	r.assign(&assignment{judge: &benchJudge{b: b, source: path, jails: []string{"sshd"}}, plans: []plan{{jail: "sshd", findTime: time.Minute}}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	out := make(chan bantam.Failure, 8)
	go func() { defer close(ended); r.run(ctx, w, out) }()
	defer func() { cancel(); <-ended }()
	b.sees(path, "fail 1")
	write(t, path, "fail 2\n")
	b.sees(path, "fail 1", "fail 2")
	if st := r.report()[0]; st.Backend != Polling {
		t.Errorf("back end %s, want %s", st.Backend, Polling)
	}
}

// Lost events are made up for: everything is looked at again.
func TestOverflow(t *testing.T) {
	w := newWatcher(slog.New(slog.DiscardHandler))
	if w.in == nil {
		t.Skip("no inotify here")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	defer func() { cancel(); <-ended }()
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	must(t, w.change(a, nil, []string{filepath.Join(t.TempDir(), "x")}))
	must(t, w.change(b, nil, []string{filepath.Join(t.TempDir(), "y")}))
	lost := binary.NativeEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, unix.IN_Q_OVERFLOW) // of watch -1
	w.take(append(lost, make([]byte, 8)...))
	for _, c := range []chan struct{}{a, b} {
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatal("not everybody was woken")
		}
	}
}

func TestRunOnce(t *testing.T) {
	b := newBench(t)
	b.configure()
	b.run()
	write(t, filepath.Join(t.TempDir(), "x"), "")
	b.stop()
	if err := b.sources.Run(context.Background(), nil); err == nil {
		t.Error("Run runs a second time")
	}
}

// slowJudge tells when it is called, and takes its time until it is let go.
type slowJudge struct {
	called chan struct{}
	lines  int
}

func (j *slowJudge) Time([]byte, time.Time) (time.Time, bool) { return time.Time{}, false }

func (j *slowJudge) Judge(_ *bantam.Line, out []bantam.Failure) []bantam.Failure {
	j.lines++
	if j.lines == 1 {
		close(j.called)
	}
	return append(out, bantam.Failure{Jail: "sshd"})
}

// A reader whose failures nobody takes ends with ctx all the same, and has read no
// further than the one it holds.
func TestFullChannelAndCancel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	write(t, path, strings.Repeat("line\n", 100000))
	j := &slowJudge{called: make(chan struct{})}
	s := New(slog.New(slog.DiscardHandler), func(string, []string) Judge { return j })
	must(t, s.Configure([]Config{one("sshd", path, Inotify)}, noResume))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, make(chan bantam.Failure)) }()
	<-j.called
	cancel()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("Run did not end")
	}
	if j.lines != 1 {
		t.Errorf("%d lines were judged, want 1", j.lines)
	}
}

// A catch-up that finds nothing ends with ctx as well.
func TestCancelInCatchUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("line\n"), 1<<20), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	j := &stoppingJudge{cancel: cancel}
	s := New(slog.New(slog.DiscardHandler), func(string, []string) Judge { return j })
	must(t, s.Configure([]Config{one("sshd", path, Inotify)}, noResume))
	if err := s.Run(ctx, nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if j.lines > 2000 {
		t.Errorf("%d lines were read after the end of ctx", j.lines)
	}
}

type stoppingJudge struct {
	noJudge
	cancel context.CancelFunc
	lines  int
}

func (j *stoppingJudge) Judge(_ *bantam.Line, out []bantam.Failure) []bantam.Failure {
	if j.lines++; j.lines == 1000 {
		j.cancel()
	}
	return out
}

type noJudge struct{}

func (noJudge) Time([]byte, time.Time) (time.Time, bool)                    { return time.Time{}, false }
func (noJudge) Judge(_ *bantam.Line, out []bantam.Failure) []bantam.Failure { return out }
