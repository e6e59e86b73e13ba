package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/library"
)

// program runs the program called name in this process and returns what it did.
func program(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, library.FS, &out, &errs)
	return code, out.String(), errs.String()
}

// folder writes files, their names and texts in turn, and returns the folder.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A list of all lines takes no memory that grows with the log, and loses none.
func TestListsOfAllLinesAreWhole(t *testing.T) {
	var l list
	defer l.close()
	const lines = 40_000
	for i := range lines {
		if err := l.add(fmt.Appendf(nil, "line %d %s", i, strings.Repeat("x", 50)), 20, true); err != nil {
			t.Fatal(err)
		}
	}
	if l.spill == nil {
		t.Error("everything is kept in memory")
	}
	n := 0
	err := l.each(func(line string) {
		if want := fmt.Sprintf("line %d ", n); !strings.HasPrefix(line, want) || len(line) != len(want)+50 {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	})
	if err != nil || n != lines {
		t.Errorf("%d of %d lines came back, error %v", n, lines, err)
	}
}

// Lines longer than the reading buffer, empty ones, and the last one without a line end.
func TestLogReader(t *testing.T) {
	long := strings.Repeat("y", 700<<10)
	endless := strings.Repeat("z", maxRegexLine+1000)
	r := newLogReader(strings.NewReader("a\r\n\n"+long+"\n"+endless+"\nb\nend"), progress{})
	for i, want := range []string{"a", "", long, endless[:maxRegexLine], "b", "end"} {
		text, ended, err := r.next()
		if err != nil || string(text) != want {
			t.Fatalf("line %d: %d bytes, want %d, error %v", i+1, len(text), len(want), err)
		}
		if ended != (want != "end") {
			t.Errorf("line %d: a line end is %t", i+1, ended)
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("behind the last line: %v", err)
	}
}

// What a line costs that nobody wants, reading and judging it by the simplest expression; no
// line may cost an allocation.
func BenchmarkRegexLines(b *testing.B) {
	var log bytes.Buffer
	const lines = 100_000
	for i := range lines {
		fmt.Fprintf(&log, "Jun 21 16:47:48 gate cron[%d]: (root) CMD (run-parts /etc/cron.hourly) and some more of it\n", i)
	}
	name := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(name, log.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		code := Main(context.Background(), []string{"fail2ban-regex", "-d", "{NONE}", name, "^never <HOST>$"}, library.FS, io.Discard, io.Discard)
		if code != 0 {
			b.Fatal("exit code ", code)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}
