package source

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bantam"
)

// patience bounds every wait for an event; it is never waited out unless a test fails.
const patience = 10 * time.Second

// fastTiming makes what is left to the clock short, so that tests of polling wait
// for milliseconds.
var fastTiming = timing{
	poll: time.Millisecond, pollMax: 4 * time.Millisecond, recheck: 50 * time.Millisecond,
	linger: time.Minute, rescan: 50 * time.Millisecond, restart: time.Millisecond,
}

// A seenLine is what a judge was handed.
type seenLine struct {
	text  string
	pos   bantam.Position
	time  time.Time
	live  bool
	judge int // which of the judges made for the source, from 1 on
}

// A bench runs Sources whose judges write down what they see. A line of the form
// "TIME fail …" or "fail …" is a failure in each of its jails.
type bench struct {
	t        *testing.T
	sources  *Sources
	cancel   context.CancelFunc
	ended    chan struct{}
	mu       sync.Mutex
	log      bytes.Buffer
	news     chan struct{} // closed and made anew at every change
	lines    map[string][]seenLine
	failures []bantam.Failure
	judges   map[string]int
}

// Write takes the log, which tells of every change of state.
func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell()
	return b.log.Write(p)
}

// tell wakes those who wait for something to come about; mu is held.
func (b *bench) tell() {
	close(b.news)
	b.news = make(chan struct{})
}

type benchJudge struct {
	b      *bench
	source string
	jails  []string
	number int
}

func stamp(text []byte) (time.Time, bool) {
	word, _, _ := bytes.Cut(text, []byte(" "))
	t, err := time.Parse(time.RFC3339, string(word))
	return t, err == nil
}

func (j *benchJudge) Time(text []byte, _ time.Time) (time.Time, bool) { return stamp(text) }

func (j *benchJudge) Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure {
	text := string(line.Text)
	j.b.mu.Lock()
	defer j.b.mu.Unlock()
	j.b.lines[j.source] = append(j.b.lines[j.source], seenLine{text, line.Position, line.Time, line.Live, j.number})
	j.b.tell()
	if !strings.Contains(text, "fail") {
		return out
	}
	at, ok := stamp(line.Text)
	if !ok {
		at = line.Read
	}
	for _, jail := range j.jails {
		out = append(out, bantam.Failure{Jail: jail, Time: at, Lines: []string{text}, Read: line.Read})
	}
	return out
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, news: make(chan struct{}), lines: make(map[string][]seenLine), judges: make(map[string]int)}
	log := slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.sources = New(log, func(source string, jails []string) Judge {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.judges[source]++
		if !slices.IsSorted(jails) {
			t.Errorf("judge is asked for with jails %q, want them sorted", jails)
		}
		return &benchJudge{b, source, slices.Clone(jails), b.judges[source]}
	})
	b.sources.timing = fastTiming
	return b
}

func noResume(string, string) (bantam.Position, bool) { return bantam.Position{}, false }

func (b *bench) configure(configs ...Config) {
	b.t.Helper()
	b.configureFrom(noResume, configs...)
}

func (b *bench) configureFrom(resume Resume, configs ...Config) {
	b.t.Helper()
	if err := b.sources.Configure(configs, resume); err != nil {
		b.t.Fatal(err)
	}
}

// run starts reading and stops it at the end of the test, which fails if Run leaves a
// goroutine behind or does not return nil.
func (b *bench) run() {
	b.t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.ended = cancel, make(chan struct{})
	failures := make(chan bantam.Failure)
	go func() {
		defer close(failures)
		if err := b.sources.Run(ctx, failures); err != nil {
			b.t.Errorf("Run returned %v", err)
		}
	}()
	go func() {
		defer close(b.ended)
		for f := range failures {
			b.mu.Lock()
			b.failures = append(b.failures, f)
			b.tell()
			b.mu.Unlock()
		}
	}()
	b.t.Cleanup(func() {
		b.stop()
		goleak.VerifyNone(b.t, before)
	})
}

func (b *bench) stop() {
	b.cancel()
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.t.Fatal("Run did not end")
	}
}

// until waits for cond, which is asked with mu held, at every line and failure.
func (b *bench) until(what string, cond func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		ok, news := cond(), b.news
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			status := b.sources.Status()
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Fatalf("%s did not come about\nlines: %.2000q\nfailures: %.2000v\nstatus: %+v\nlog:\n%.4000s",
				what, fmt.Sprint(b.lines), fmt.Sprint(b.failures), status, b.log.String())
		}
	}
}

// sees waits until the source has handed on as many lines as texts, and compares.
func (b *bench) sees(source string, texts ...string) []seenLine {
	b.t.Helper()
	b.until(fmt.Sprintf("line %d of %s", len(texts), source), func() bool { return len(b.lines[source]) >= len(texts) })
	b.mu.Lock()
	defer b.mu.Unlock()
	got := slices.Clone(b.lines[source])
	var have []string
	for _, l := range got {
		have = append(have, l.text)
	}
	if !slices.Equal(have, texts) {
		b.t.Fatalf("%s gave lines\n%q, want\n%q", source, have, texts)
	}
	return got
}

// fails waits for as many failures of the jail as texts and compares; texts of known
// ones begin with "known ".
func (b *bench) fails(jail string, texts ...string) []bantam.Failure {
	b.t.Helper()
	of := func() (fs []bantam.Failure, have []string) {
		for _, f := range b.failures {
			if f.Jail == jail {
				text := f.Lines[0]
				if f.Known {
					text = "known " + text
				}
				fs, have = append(fs, f), append(have, text)
			}
		}
		return fs, have
	}
	b.until(fmt.Sprintf("failure %d of %s", len(texts), jail), func() bool { _, have := of(); return len(have) >= len(texts) })
	b.mu.Lock()
	defer b.mu.Unlock()
	fs, have := of()
	if !slices.Equal(have, texts) {
		b.t.Fatalf("jail %s was given\n%q, want\n%q", jail, have, texts)
	}
	return fs
}

// untilStatus waits until one source's status is as wanted. It asks at every line,
// failure and entry of the log; a change of state comes with one.
func (b *bench) untilStatus(what string, cond func(Status) bool) Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		news := b.news
		b.mu.Unlock()
		all := b.sources.Status()
		if i := slices.IndexFunc(all, cond); i >= 0 {
			return all[i]
		}
		select {
		case <-news:
		case <-ctx.Done():
			b.t.Fatalf("%s did not come about: %+v", what, all)
		}
	}
}

func (b *bench) untilState(name, state string) Status {
	b.t.Helper()
	return b.untilStatus("state "+state, func(st Status) bool { return st.Name == name && strings.Contains(st.State, state) })
}

func (b *bench) untilLive(name string) {
	b.t.Helper()
	b.untilStatus("the end", func(st Status) bool { return st.Name == name && st.Live })
}

func write(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// overwrite truncates the file in place and writes text in one go.
func overwrite(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// logged is all that was logged so far.
func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}

// both runs a test with each way to hear of news.
func both(t *testing.T, test func(t *testing.T, backend string)) {
	for _, backend := range []string{Inotify, Polling} {
		t.Run(backend, func(t *testing.T) { test(t, backend) })
	}
}

// one is the configuration of a jail with one path.
func one(jail, path, backend string) Config {
	return Config{Jail: jail, Paths: []Path{{Pattern: path}}, Backend: backend, FindTime: 10 * time.Minute}
}

func TestFollow(t *testing.T) {
	cases := []struct {
		name string
		// do writes the file; want are the lines that must be seen, in order.
		do   func(t *testing.T, b *bench, path string)
		want []string
	}{
		{"lines that were there come first, then new ones", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\nb\n")
			b.sees(path, "a", "b")
			write(t, path, "c\n")
		}, []string{"a", "b", "c"}},
		{"both line ends are taken off", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\r\n\nb\n\r\n")
		}, []string{"a", "", "b", ""}},
		{"a line is complete when its line end is written", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\npart")
			b.sees(path, "a")
			write(t, path, " two")
			write(t, path, " end\nb\n")
		}, []string{"a", "part two end", "b"}},
		{"NUL bytes and invalid UTF-8 pass as they are", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\x00b\n\xff\xfe\n\x00\n")
		}, []string{"a\x00b", "\xff\xfe", "\x00"}},
		{"the renamed file is read to its end before the new one", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer f.Close()
			_, err = f.WriteString("b\n")
			must(t, err)
			must(t, os.Rename(path, path+".1"))
			_, err = f.WriteString("c\n")
			must(t, err)
			write(t, path, "d\n")
		}, []string{"a", "b", "c", "d"}},
		{"what is written to the renamed file after the new one was begun is read", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer f.Close()
			must(t, os.Rename(path, path+".1"))
			write(t, path, "b\n")
			b.sees(path, "a", "b")
			_, err = f.WriteString("late\n")
			must(t, err)
		}, []string{"a", "b", "late"}},
		{"two rotations at once lose no file", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			must(t, os.Rename(path, path+".1"))
			write(t, path, "b\n")
			must(t, os.Rename(path+".1", path+".2"))
			must(t, os.Rename(path, path+".1"))
			write(t, path, "c\n")
		}, []string{"a", "b", "c"}},
		{"deleted and made anew", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			must(t, os.Remove(path))
			write(t, path, "b\n")
		}, []string{"a", "b"}},
		{"truncated and shorter than before", func(t *testing.T, b *bench, path string) {
			write(t, path, "aaaa\nbbbb\n")
			b.sees(path, "aaaa", "bbbb")
			overwrite(t, path, "c\n")
		}, []string{"aaaa", "bbbb", "c"}},
		{"truncated and as long as before", func(t *testing.T, b *bench, path string) {
			write(t, path, "aaaa\n")
			b.sees(path, "aaaa")
			overwrite(t, path, "bbbb\n")
		}, []string{"aaaa", "bbbb"}},
		{"truncated and longer than before", func(t *testing.T, b *bench, path string) {
			write(t, path, "aaaa\n")
			b.sees(path, "aaaa")
			overwrite(t, path, "bbbb\ncccc\ndddd\n")
		}, []string{"aaaa", "bbbb", "cccc", "dddd"}},
		{"truncated and longer than before behind the same first line", func(t *testing.T, b *bench, path string) {
			write(t, path, "#head\naaaa\n")
			b.sees(path, "#head", "aaaa")
			overwrite(t, path, "#head\nbbbb\ncccc\n")
		}, []string{"#head", "aaaa", "#head", "bbbb", "cccc"}},
		{"the copy gives what was not read before the truncation", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			copyFile(t, path, path+".new")
			write(t, path+".new", "unread\n")
			must(t, os.Rename(path+".new", path+".1"))
			overwrite(t, path, "b\nc\n")
		}, []string{"a", "unread", "b", "c"}},
		{"truncated in the middle of a line", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\nhalf")
			b.sees(path, "a")
			overwrite(t, path, "b\n")
		}, []string{"a", "b"}},
		{"a directory takes the place for a while", func(t *testing.T, b *bench, path string) {
			write(t, path, "a\n")
			b.sees(path, "a")
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
			b.untilState(path, "is a directory")
			must(t, os.Remove(path))
			write(t, path, "b\n")
		}, []string{"a", "b"}},
	}
	both(t, func(t *testing.T, backend string) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "auth.log")
				b := newBench(t)
				b.configure(one("sshd", path, backend))
				b.run()
				c.do(t, b, path)
				got := b.sees(path, c.want...)
				for i, l := range got {
					if l.pos.Source != path {
						t.Errorf("line %d has source %q, want %q", i, l.pos.Source, path)
					}
				}
			})
		}
	})
}
