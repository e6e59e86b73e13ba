package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
)

// replayed are the texts of a log's lines, after Order.
func replayed(t *testing.T, p *Past) (texts []string, err error) {
	t.Helper()
	p.Order(func(text []byte, _ time.Time) (time.Time, bool) { return stamp(text) })
	var counted int64
	err = p.Read(t.Context(), func(line *bantam.Line) error {
		texts = append(texts, string(line.Text))
		return nil
	}, func(n int64) { counted += n })
	if err == nil && counted != p.Size() && p.journal == nil && p.files[0].path != Stdin {
		t.Errorf("%d bytes are counted of %d", counted, p.Size())
	}
	return texts, err
}

// pack compresses a file with the program that log rotation uses.
func pack(t *testing.T, program, path string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
	args := []string{path}
	if program == "zstd" {
		args = []string{"--quiet", "--rm", path}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

func TestPastIsReadInTheOrderOfItsDates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	write(t, path+".4", "2025-01-01T00:00:00Z one\n")
	write(t, path+".3", "2025-01-02T00:00:00Z two\n")
	write(t, path+".2", "2025-01-03T00:00:00Z three\nundated\n")
	write(t, path+"-20250104", "no date at first\n2025-01-04T00:00:00Z four\n")
	write(t, path, "2025-01-05T00:00:00Z five\nunended")
	write(t, path+".bak", "2025-01-01T00:00:00Z not a rotated one\n")
	write(t, filepath.Join(dir, "a.log2"), "2025-01-01T00:00:00Z another's\n")
	write(t, path+".1", "")
	pack(t, "gzip", path+".4")
	pack(t, "xz", path+".3")
	pack(t, "zstd", path+".2")
	// A copy has lost the time of its last change.
	must(t, os.Chtimes(path+".3.xz", time.Time{}, time.Now().Add(time.Hour)))
	for _, c := range []struct {
		name    string
		pattern string
	}{{"by name", path}, {"by a pattern that rotated files fit, too", filepath.Join(dir, "a.log*")}} {
		pasts, err := Pasts([]Config{one("t", c.pattern, Auto), one("u", c.pattern, Polling)}, slog.New(slog.DiscardHandler))
		must(t, err)
		if c.pattern == path && len(pasts) != 1 {
			t.Fatalf("%s: %d logs", c.name, len(pasts))
		}
		p := pasts[0]
		if p.Name != path || fmt.Sprint(p.Jails) != "[t u]" {
			t.Errorf("%s: log %s of %v", c.name, p.Name, p.Jails)
		}
		got, err := replayed(t, p)
		must(t, err)
		want := []string{
			"2025-01-01T00:00:00Z one", "2025-01-02T00:00:00Z two", "2025-01-03T00:00:00Z three", "undated",
			"no date at first", "2025-01-04T00:00:00Z four", "2025-01-05T00:00:00Z five", "unended",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: lines %q, want %q", c.name, got, want)
		}
	}
}

func TestPastOfContainers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.log")
	write(t, path, `{"log":"on","stream":"stdout","time":"2025-01-01T00:00:00Z"}`+"\n"+`{"log":"e\n","stream":"stdout","time":"2025-01-01T00:00:01Z"}`+"\n")
	p, err := PastOf([]string{path}, []string{"t"}, Auto)
	must(t, err)
	var at time.Time
	must(t, p.Read(t.Context(), func(line *bantam.Line) error {
		if string(line.Text) != "one" {
			t.Errorf("line %q", line.Text)
		}
		at = line.Time
		return nil
	}, nil))
	if !at.Equal(time.Date(2025, 1, 1, 0, 0, 1, 0, time.UTC)) {
		t.Errorf("time %v", at)
	}
}

func TestPastTroubles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	write(t, good, "2025-01-02T00:00:00Z good\n")
	cut := func(program, name string) string {
		path := filepath.Join(dir, name)
		write(t, path, strings.Repeat("2025-01-01T00:00:00Z line\n", 1000))
		pack(t, program, path)
		path += map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst"}[program]
		fi, err := os.Stat(path)
		must(t, err)
		must(t, os.Truncate(path, fi.Size()-6))
		return path
	}
	for _, program := range []string{"gzip", "xz", "zstd"} {
		t.Run("a damaged file is named, and the others are read: "+program, func(t *testing.T) {
			path := cut(program, program)
			p, err := PastOf([]string{good, path}, []string{"t"}, "")
			must(t, err)
			got, err := replayed(t, p)
			if err == nil || !strings.Contains(err.Error(), "read log "+path) {
				t.Errorf("error %v, want one that names %s", err, path)
			}
			if len(got) == 0 || got[len(got)-1] != "2025-01-02T00:00:00Z good" {
				t.Errorf("%d lines, the last %q", len(got), got[max(0, len(got)-1):])
			}
		})
	}
	t.Run("a file that unpacks without end", func(t *testing.T) {
		path := filepath.Join(dir, "bomb.gz")
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		zeros := make([]byte, 1<<20)
		for range 20 {
			_, err := w.Write(zeros)
			must(t, err)
		}
		must(t, w.Close())
		write(t, path, b.String())
		in, err := OpenLog(path)
		must(t, err)
		defer in.Close()
		in.left = 10 << 20 // a file of 5 KiB
		buf := make([]byte, 64<<10)
		n := 0
		for err == nil {
			var k int
			k, err = in.Read(buf)
			n += k
		}
		if !errors.Is(err, ErrUnpacked) || n > 10<<20 {
			t.Errorf("%v after %d bytes", err, n)
		}
	})
	t.Run("it stops when it is told to", func(t *testing.T) {
		path := filepath.Join(dir, "long")
		write(t, path, strings.Repeat("line\n", 100_000))
		p, err := PastOf([]string{path}, []string{"t"}, "")
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		lines := 0
		err = p.Read(ctx, func(*bantam.Line) error { lines++; cancel(); return nil }, nil)
		if !errors.Is(err, context.Canceled) || lines > 2000 {
			t.Errorf("%v after %d lines", err, lines)
		}
	})
	t.Run("what is no file is refused", func(t *testing.T) {
		if _, err := PastOf([]string{dir}, []string{"t"}, ""); err == nil || !strings.Contains(err.Error(), "is a directory") {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\r\n\nb"), uint16(3))
	f.Fuzz(func(t *testing.T, in []byte, times uint16) {
		in = bytes.Repeat(in, int(times%4096)+1)
		if len(in) > 1<<20 {
			in = in[:1<<20]
		}
		want := bytes.Split(in, []byte("\n"))
		if len(want[len(want)-1]) == 0 {
			want = want[:len(want)-1]
		}
		r := newLineReader(bytes.NewReader(in))
		for i := 0; ; i++ {
			text, err := r.next()
			if err != nil {
				if i != len(want) {
					t.Fatalf("%d lines, want %d", i, len(want))
				}
				return
			}
			front := want[i]
			if len(front) > MaxLine {
				front = front[:MaxLine]
			}
			if i >= len(want) || !bytes.Equal(bytes.TrimRight(front, "\r"), bytes.TrimRight(text, "\r")) {
				t.Fatalf("line %d is %.100q", i, text)
			}
		}
	})
}
