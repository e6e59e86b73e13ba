package source

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestRecentKeepsTheEndsOfWhatWasWrittenLately(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path+".2", "2025-01-01T00:00:00Z too old\n")
	write(t, path+".1", "2025-01-02T00:00:00Z one\n2025-01-02T00:00:01Z two\n2025-01-02T00:00:02Z three\n")
	write(t, path, "2025-01-03T00:00:00Z four\n")
	pack(t, "gzip", path+".2")
	from := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path+".2.gz", from, from.Add(-time.Second)))
	for _, c := range []struct {
		name string
		most int64
		want []string
	}{
		{"all of them fit", 1 << 20, []string{"one", "two", "three", "four"}},
		{"a line that is cut is left out", 40, []string{"three", "four"}},
		{"not even a line fits", 3, nil},
	} {
		pasts, err := Pasts([]Config{one("t", path, Auto)}, slog.New(slog.DiscardHandler))
		must(t, err)
		p := pasts[0]
		p.Recent(from, c.most)
		got, err := replayed(t, p)
		must(t, err)
		for i := range got {
			_, got[i], _ = cutStamp(got[i])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: lines %q, want %q", c.name, got, c.want)
		}
	}
	// A compressed file can only be read from its start.
	write(t, path+".3", fmt.Sprintln("2025-01-01T00:00:00Z packed"))
	pack(t, "gzip", path+".3")
	p, err := PastOf([]string{path + ".3.gz"}, []string{"t"}, "")
	must(t, err)
	p.Recent(from, 3)
	if len(p.Files()) != 0 {
		t.Errorf("read are %v", p.Files())
	}
}

func cutStamp(line string) (stamp, text string, ok bool) {
	const width = len("2025-01-02T00:00:00Z")
	if len(line) <= width {
		return line, "", false
	}
	return line[:width], line[width+1:], true
}
