package source

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bantam"
)

// collector keeps the lines it is handed and how many bytes lie before each end.
type collector struct {
	noJudge
	lines []string
	ends  []int64
}

func (c *collector) Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure {
	c.lines = append(c.lines, string(line.Text))
	c.ends = append(c.ends, line.Position.Offset)
	return out
}

// still is a follower without goroutine, driven by its steps.
func still(t testing.TB, path string, j Judge) *follower {
	r := newFollower(path, defaultTiming, slog.New(slog.DiscardHandler))
	r.buf = make([]byte, readSize)
	r.assign(&assignment{judge: j, plans: []plan{{jail: "sshd", findTime: time.Minute}}})
	r.adopt()
	t.Cleanup(func() {
		for _, l := range append(r.backlog, r.cur, r.next, r.old) {
			if l != nil {
				l.f.Close()
			}
		}
	})
	return r
}

// FuzzLines writes anything to a log in pieces and holds that what comes are its
// complete lines, whatever it is cut into.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\r\r\n\nlast"), uint16(3), uint8(0))
	f.Add([]byte("\x00\xff\n"), uint16(1), uint8(1))
	f.Add([]byte("long\n"), uint16(2), uint8(200))
	path := filepath.Join(f.TempDir(), "fuzz.log")
	f.Fuzz(func(t *testing.T, text []byte, piece uint16, stretch uint8) {
		if len(text) > 1<<16 || piece == 0 || len(text)/int(piece) > 100 {
			return
		}
		// A first byte repeated makes lines longer than MaxLine and the buffer.
		if len(text) > 0 {
			text = append(bytes.Repeat(text[:1], int(stretch)<<10), text...)
			piece = max(piece, uint16(min(len(text)/50, 1<<15)))
		}
		must(t, os.WriteFile(path, nil, 0o600))
		var c collector
		r := still(t, path, &c)
		for rest := text; ; {
			for steps := 0; r.step(context.Background()); steps++ {
				if steps > len(text)+100 {
					t.Fatal("reading comes to no end")
				}
			}
			if len(rest) == 0 {
				break
			}
			n := min(int(piece), len(rest))
			write(t, path, string(rest[:n]))
			rest = rest[n:]
		}
		var want []string
		var ends []int64
		for at := 0; ; {
			i := bytes.IndexByte(text[at:], '\n')
			if i < 0 {
				break
			}
			line := bytes.TrimRight(text[at:at+i], "\r")
			want = append(want, string(line[:min(len(line), MaxLine)]))
			at += i + 1
			ends = append(ends, int64(at))
		}
		if !slices.Equal(c.ends, ends) {
			t.Fatalf("lines end at %d, want %d", c.ends, ends)
		}
		for i := range want {
			// The line ends of a line longer than the buffer are not looked at.
			if c.lines[i] != want[i] && len(want[i]) < MaxLine-16 && len(c.lines[i]) < MaxLine {
				t.Fatalf("line %d is %.80q of %d bytes, want %.80q of %d", i, c.lines[i], len(c.lines[i]), want[i], len(want[i]))
			}
		}
	})
}

func logOf(size int) []byte {
	const line = "Mar  2 10:15:04 gate sshd[812]: Failed password for invalid user admin from 192.0.2.7 port 4022 ssh2\n"
	return bytes.Repeat([]byte(line), size/len(line))
}

// Reading allocates nothing for a line.
func TestNoAllocations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	must(t, os.WriteFile(path, logOf(8<<20), 0o600))
	r := still(t, path, noJudge{})
	ctx := context.Background()
	r.step(ctx)
	allocs := testing.AllocsPerRun(40, func() {
		if !r.step(ctx) {
			t.Fatal("the file is at its end")
		}
	})
	// Each step looks at the file and reads some 1,300 lines.
	if allocs > 4 {
		t.Errorf("%v allocations for each piece read, want a few for looking at the file", allocs)
	}
}

// BenchmarkCatchUp reads a log of 64 MiB with a judge that does nothing.
func BenchmarkCatchUp(b *testing.B) {
	path := filepath.Join(b.TempDir(), "auth.log")
	text := logOf(64 << 20)
	must(b, os.WriteFile(path, text, 0o600))
	lines := bytes.Count(text, []byte("\n"))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := still(b, path, noJudge{})
		for r.step(b.Context()) {
		}
		if r.status.Lines != int64(lines) {
			b.Fatalf("%d lines, want %d", r.status.Lines, lines)
		}
		n++
	}
	b.ReportMetric(float64(lines*n)/b.Elapsed().Seconds(), "lines/s")
}

// echo tells of each line it is handed.
type echo struct {
	noJudge
	c chan time.Time
}

func (e echo) Judge(_ *bantam.Line, out []bantam.Failure) []bantam.Failure {
	e.c <- time.Now()
	return out
}

// BenchmarkLatency writes single lines and waits until the judge is called.
func BenchmarkLatency(b *testing.B) {
	path := filepath.Join(b.TempDir(), "auth.log")
	must(b, os.WriteFile(path, nil, 0o600))
	j := echo{c: make(chan time.Time)}
	s := New(slog.New(slog.DiscardHandler), func(string, []string) Judge { return j })
	must(b, s.Configure([]Config{{Jail: "sshd", Paths: []Path{{Pattern: path}}, FindTime: time.Minute}}, noResume))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, nil) }()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(b, err)
	defer f.Close()
	line := logOf(101)
	_, err = f.Write(line)
	must(b, err)
	<-j.c
	b.ReportAllocs()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-j.c).Sub(began))
	}
	cancel()
	must(b, <-ended)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkExport parses journal entries as journalctl writes them.
func BenchmarkExport(b *testing.B) {
	one := export("__CURSOR", "s=0123456789abcdef0123456789abcdef;i=1;b=0123456789abcdef0123456789abcdef;m=3e8;t=62f0;x=1",
		"__REALTIME_TIMESTAMP", "1740910504000000", "__MONOTONIC_TIMESTAMP", "1000", "_BOOT_ID", "0123456789abcdef0123456789abcdef",
		"_HOSTNAME", "gate", "SYSLOG_IDENTIFIER", "sshd", "_PID", "812", "_COMM", "sshd",
		"MESSAGE", "Failed password for invalid user admin from 192.0.2.7 port 4022 ssh2", "_SOURCE_REALTIME_TIMESTAMP", "1740910504000000")
	in := bytes.Repeat([]byte(one), 10000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var e entry
	var line []byte
	n := 0
	for b.Loop() {
		x := newExportReader(bytes.NewReader(in))
		for x.next(&e) == nil {
			line = e.line(line[:0])
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkSearch looks for the start in a log of 64 MiB.
func BenchmarkSearch(b *testing.B) {
	base := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	for i := 0; log.Len() < 64<<20; i++ {
		log.WriteString(base.Add(time.Duration(i) * time.Second).Format(time.RFC3339))
		log.WriteString(" gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n")
	}
	f := bytes.NewReader(log.Bytes())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := search(f, int64(log.Len()), base.Add(100000*time.Second), stamp); err != nil {
			b.Fatal(err)
		}
	}
}
