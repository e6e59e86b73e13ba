package source

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// typing is a bench that reads standard input, and what is typed there.
func typing(t *testing.T) (*bench, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	b := newBench(t)
	b.sources.stdin = r
	b.configure(Config{Jail: "t", Paths: []Path{{Pattern: Stdin}}})
	b.run()
	t.Cleanup(func() { b.stop(); r.Close(); w.Close() })
	return b, w
}

func TestStandardInput(t *testing.T) {
	b, w := typing(t)
	_, err := w.WriteString("fail one\nhalf")
	must(t, err)
	b.sees(Stdin, "fail one")
	must(t, w.Close())
	b.sees(Stdin, "fail one", "half")
	b.untilState(Stdin, Ended)
}

// What is asked for by name goes before a journal that happens to be there.
func TestStandardInputGoesBeforeTheJournal(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.journal"), "x")
	b := newBench(t)
	b.sources.system.program = "/bin/sh"
	fd := b.sources.choose(&Config{
		Jail: "t", Paths: []Path{{Pattern: Stdin}}, JournalMatch: [][]string{{"_COMM=sshd"}}, JournalDir: dir,
	})
	if fd.journal != nil || len(fd.paths) != 1 {
		t.Errorf("the journal is read instead: %+v", fd)
	}
}

// Whoever stops does not wait for somebody to type.
func TestStandardInputThatSaysNothing(t *testing.T) {
	b, _ := typing(t)
	b.untilState(Stdin, Reading)
	b.stop()
}

func TestCommand(t *testing.T) {
	t.Run("its lines are read, and it is run again when it ends", func(t *testing.T) {
		count := filepath.Join(t.TempDir(), "n")
		run := fmt.Sprintf("echo x >> %s; echo fail $(wc -l < %s); exit 3", count, count)
		b := newBench(t)
		b.configure(Config{Jail: "t", Backend: Command, Command: run})
		b.run()
		b.until("three runs", func() bool { return len(b.lines[streamName(run)]) >= 3 })
		b.until("its failures", func() bool { return len(b.failures) >= 3 })
		b.untilStatus("told", func(st Status) bool { return strings.Contains(st.State, "exit status 3") })
	})
	t.Run("what it complains of is told", func(t *testing.T) {
		b := newBench(t)
		b.configure(Config{Jail: "t", Backend: Command, Command: "echo no such container >&2; exit 1"})
		b.run()
		b.untilStatus("told", func(st Status) bool {
			return st.State == "the command ended with exit status 1: no such container"
		})
	})
	t.Run("what it prints once more does not count once more", func(t *testing.T) {
		dir := t.TempDir()
		now := time.Now().UTC().Truncate(time.Second)
		old, last := now.Add(-2*time.Minute).Format(time.RFC3339)+" fail old", now.Add(-time.Minute).Format(time.RFC3339)+" fail new"
		write(t, filepath.Join(dir, "log"), old+"\n")
		run := fmt.Sprintf("cd %s; cat log; echo x >> runs; test $(wc -l < runs) = 1 && exit 1; echo '%s'; exec sleep 60", dir, last)
		b := newBench(t)
		b.configure(Config{Jail: "t", Backend: Command, Command: run})
		b.run()
		b.sees(streamName(run), old, old, last)
		b.fails("t", old, last)
	})
	t.Run("it is ended with all that it has started", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fifo")
		b := newBench(t)
		b.configure(Config{Jail: "t", Backend: Command, Command: "echo up; mkfifo " + path + "; cat " + path + " & wait"})
		b.run()
		b.untilStatus("up", func(st Status) bool { return st.Lines == 1 })
		b.stop() // fails if it has to wait for the cat
	})
}

// How long a command is left alone grows as long as it gives nothing.
func TestCommandThatCannotRunIsTriedEverLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		tm := defaultTiming
		s := newStream("x", Command, tm, slog.New(slog.DiscardHandler), nil)
		s.again = true
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		s.serve = func(context.Context, *stream) error {
			if at = append(at, time.Since(start)); len(at) == 9 {
				cancel()
			}
			return os.ErrNotExist
		}
		go func() { defer close(done); s.run(ctx, nil, nil) }()
		<-done
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}
		for i := range want {
			if want[i] *= time.Second; at[i] != want[i] {
				t.Fatalf("tried after %v, want %v", at, want)
			}
		}
	})
}
