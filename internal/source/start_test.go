package source

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

// ago is a line stamped so long before now; all stamps of one test share a second.
type clock struct{ now time.Time }

func newClock() clock { return clock{time.Now().Truncate(time.Second)} }

func (c clock) ago(d time.Duration, text string) string {
	return c.now.Add(-d).Format(time.RFC3339) + " " + text
}

func markOf(first string) string {
	sum := sha1.Sum([]byte(first))
	return hex.EncodeToString(sum[:])
}

// resumeAt resumes one jail behind the lines read of a file.
func resumeAt(first, read string, at time.Time) Resume {
	return func(string, string) (bantam.Position, bool) {
		return bantam.Position{Mark: markOf(first), Offset: int64(len(read)), Time: at}, true
	}
}

func TestStart(t *testing.T) {
	const minute = time.Minute
	c := newClock()
	lines := func(ls ...string) string { return strings.Join(ls, "\n") + "\n" }
	old, a, b1, new1 := c.ago(60*minute, "fail old"), c.ago(30*minute, "fail a"), c.ago(25*minute, "fail b"), c.ago(2*minute, "fail new")
	cases := []struct {
		name string
		// files are what there is, oldest first; "" is the log itself.
		files  [][2]string
		resume Resume
		tail   bool
		sees   []string
		fails  []string
	}{
		{
			"without a position reading starts findtime ago",
			[][2]string{{"", lines(old, a, new1)}},
			noResume, false,
			[]string{new1},
			[]string{new1},
		},
		{
			"undated lines behind the last old one are read",
			[][2]string{{"", lines("x", old, "fail undated", new1)}},
			noResume, false,
			[]string{"fail undated", new1},
			[]string{"fail undated", new1},
		},
		{
			"a log without dates is read whole",
			[][2]string{{"", lines("fail 1", "fail 2")}},
			noResume, false,
			[]string{"fail 1", "fail 2"},
			[]string{"fail 1", "fail 2"},
		},
		{
			"a log of old lines only is not read",
			[][2]string{{"", lines(old, a, "x") + "part"}},
			noResume, false,
			[]string{"x"},
			nil,
		},
		{
			"a position is reached back from by findtime, and lines before it are known",
			[][2]string{{"", lines(old, a, b1, new1)}},
			resumeAt(old+"\n", lines(old, a, b1), c.now.Add(-25*minute)), false,
			[]string{a, b1, new1},
			[]string{"known " + a, "known " + b1, new1},
		},
		{
			"lines after the position are read however old they are",
			[][2]string{{"", lines(old, a, b1, new1)}},
			resumeAt(old+"\n", lines(old), c.now.Add(-60*minute)), false,
			[]string{old, a, b1, new1},
			[]string{"known " + old, a, b1, new1},
		},
		{
			"a position of another file is not believed",
			[][2]string{{"", lines(old, a, new1)}},
			resumeAt("something else\n", lines(old, a), c.now.Add(-30*minute)), false,
			[]string{new1},
			[]string{new1},
		},
		{
			"a position within a line is not believed",
			[][2]string{{"", lines(old, a, new1)}},
			resumeAt(old+"\n", lines(old)+"2", c.now.Add(-30*minute)), false,
			[]string{new1},
			[]string{new1},
		},
		{
			"the log was rotated: the rest of the rotated file, then the new one from its start",
			[][2]string{{".1", lines(old, a, b1)}, {"", lines(new1)}},
			resumeAt(old+"\n", lines(old, a), c.now.Add(-30*minute)), false,
			[]string{a, b1, new1},
			[]string{"known " + a, b1, new1},
		},
		{
			"the log was rotated twice",
			[][2]string{{".2", lines(old)}, {".1", lines(a, b1)}, {"", lines(new1)}},
			resumeAt(old+"\n", lines(old), c.now.Add(-60*minute)), false,
			[]string{old, a, b1, new1},
			[]string{"known " + old, a, b1, new1},
		},
		{
			"rotated files bear a date",
			[][2]string{{"-20250302", lines(old, a)}, {"", lines(new1)}},
			resumeAt(old+"\n", lines(old), c.now.Add(-60*minute)), false,
			[]string{old, a, new1},
			[]string{"known " + old, a, new1},
		},
		{
			"what fills the count stands in the rotated file, all known",
			[][2]string{{".1", lines(old, a)}, {"", lines(b1, new1)}},
			resumeAt(b1+"\n", lines(b1), c.now.Add(-25*minute)), false,
			[]string{a, b1, new1},
			[]string{"known " + a, "known " + b1, new1},
		},
		{
			"a compressed or put aside file is no rotated one",
			[][2]string{{".1.gz", lines(old, a)}, {".bak", lines(old, a)}, {"", lines(new1)}},
			resumeAt(old+"\n", lines(old), c.now.Add(-60*minute)), false,
			[]string{new1},
			[]string{new1},
		},
		{
			"tail starts at the end, whatever the position",
			[][2]string{{"", lines(old, a, new1) + "fail pa"}},
			resumeAt(old+"\n", lines(old), c.now.Add(-60*minute)), true,
			nil, nil,
		},
	}
	both(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "auth.log")
				for _, f := range tc.files {
					write(t, path+f[0], f[1])
				}
				b := newBench(t)
				conf := one("sshd", path, backend)
				conf.Paths[0].Tail = tc.tail
				b.configureFrom(tc.resume, conf)
				b.run()
				b.untilState(path, Reading)
				b.sees(path, tc.sees...)
				b.fails("sshd", tc.fails...)
				// One more line shows that nothing came between, and that the end was seen.
				b.untilLive(path)
				write(t, path, "fail end\n")
				b.until("the last line", func() bool { return len(b.lines[path]) > len(tc.sees) })
				b.mu.Lock()
				got := slices.Clone(b.lines[path])
				b.mu.Unlock()
				if last := got[len(got)-1]; !strings.HasSuffix(last.text, "fail end") || !last.live {
					t.Errorf("last line %+v, want a live one", last)
				}
				for _, l := range got[:len(got)-1] {
					if l.live {
						t.Errorf("line %q from before the start is live", l.text)
					}
				}
				if n := len(got) - 1; n != len(tc.sees) {
					t.Errorf("%d lines, want %d: %+v", n, len(tc.sees), got)
				}
			})
		}
	})
}

func TestPositions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	c := newClock()
	first, second := c.ago(2*time.Minute, "fail a"), c.ago(time.Minute, "fail b")
	write(t, path, first+"\r\n"+second+"\n")
	b := newBench(t)
	b.configure(one("sshd", path, Inotify))
	b.run()
	fs := b.fails("sshd", first, second)
	want := bantam.Position{Source: path, Mark: markOf(first + "\r\n"), Offset: int64(len(first) + 2), Time: fs[0].Time}
	if fs[0].Position != want {
		t.Errorf("position %+v, want %+v", fs[0].Position, want)
	}
	if got, want := fs[1].Position.Offset, int64(len(first)+2+len(second)+1); got != want {
		t.Errorf("second offset %d, want %d", got, want)
	}
	// The renamed file's lines keep its mark, the new ones bear their own.
	must(t, os.Rename(path, path+".1"))
	write(t, path, "fail c\n")
	write(t, path+".1", "fail late\n")
	b.until("both lines", func() bool { return len(b.failures) == 4 })
	for _, f := range b.failures[2:] {
		want := markOf(first + "\r\n")
		if f.Lines[0] == "fail c" {
			want = markOf("fail c\n")
		}
		if f.Position.Mark != want || f.Position.Source != path {
			t.Errorf("%q has position %+v, want mark %s", f.Lines, f.Position, want)
		}
	}
}

func TestTwoJailsOfOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	c := newClock()
	long, short, now := c.ago(30*time.Minute, "fail long"), c.ago(5*time.Minute, "fail short"), c.ago(0, "fail now")
	write(t, path, long+"\n"+short+"\n")
	b := newBench(t)
	far, tail := one("far", path, Inotify), one("tail", path, Inotify)
	far.FindTime = time.Hour
	tail.Paths[0].Tail = true
	b.configure(far, one("near", path, Polling), tail)
	b.run()
	b.fails("far", long, short)
	b.fails("near", short)
	write(t, path, now+"\n")
	b.fails("far", long, short, now)
	b.fails("near", short, now)
	b.fails("tail", now)
	b.sees(path, long, short, now)
	st := b.sources.Status()
	if len(st) != 1 || !slices.Equal(st[0].Jails, []string{"far", "near", "tail"}) || st[0].Backend != Inotify {
		t.Errorf("status %+v, want one source with three jails", st)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	path, other, third := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log"), filepath.Join(dir, "c.log")
	c := newClock()
	first := c.ago(5*time.Minute, "fail 1")
	write(t, path, first+"\n")
	write(t, other, first+"\n")
	b := newBench(t)
	b.configure(one("sshd", path, Inotify), one("ftp", other, Inotify))
	b.run()
	b.fails("sshd", first)
	b.fails("ftp", first)
	b.untilLive(path)

	t.Run("a wrong configuration changes nothing", func(t *testing.T) {
		for _, bad := range []Config{
			{Jail: "x", Backend: "gamin"},
			{Jail: "x", Paths: []Path{{Pattern: "relative.log"}}},
			{Jail: "x", Paths: []Path{{Pattern: "/a/[b"}}},
			{Jail: "x", JournalMatch: [][]string{{"_COMM=a", "+"}, {"--file=/x"}}},
			{Paths: []Path{{Pattern: path}}},
			{Jail: "x", FindTime: -1},
		} {
			if err := b.sources.Configure([]Config{bad}, noResume); err == nil {
				t.Errorf("%+v is accepted", bad)
			}
		}
		if st := b.sources.Status(); len(st) != 2 {
			t.Errorf("status %+v, want both logs", st)
		}
	})

	t.Run("what stays keeps its place, what is new starts, what is dropped stops", func(t *testing.T) {
		write(t, third, c.ago(time.Minute, "fail 3")+"\n")
		b.configure(one("sshd", path, Inotify), one("web", third, Inotify))
		b.fails("web", c.ago(time.Minute, "fail 3"))
		write(t, path, "fail 2\n")
		b.fails("sshd", first, "fail 2")
		if got := b.sees(path, first, "fail 2"); got[1].judge != 2 || !got[1].live {
			t.Errorf("line %+v, want the second judge and live", got[1])
		}
		var names []string
		for _, st := range b.sources.Status() {
			names = append(names, st.Name)
		}
		if !slices.Equal(names, []string{path, third}) {
			t.Errorf("sources %q", names)
		}
	})

	t.Run("a jail new to a file gets what is past, the others get nothing twice", func(t *testing.T) {
		b.configure(one("sshd", path, Inotify), one("also", path, Inotify), one("web", third, Inotify))
		b.fails("also", first, "fail 2")
		write(t, path, "fail 4\n")
		b.fails("also", first, "fail 2", "fail 4")
		b.fails("sshd", first, "fail 2", "fail 4")
	})

	t.Run("a jail that was dropped and comes back resumes where the store says", func(t *testing.T) {
		b.configureFrom(func(jail, source string) (bantam.Position, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, f := range slices.Backward(b.failures) {
				if f.Jail == jail && f.Position.Source == source {
					return f.Position, true
				}
			}
			return bantam.Position{}, false
		}, one("ftp", other, Inotify), one("sshd", path, Inotify))
		b.fails("ftp", first, "known "+first)
		write(t, other, "fail 5\n")
		b.fails("ftp", first, "known "+first, "fail 5")
	})
}

func TestSearch(t *testing.T) {
	// A line in ten bears no time; the file is several times as long as what a probe reads.
	base := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	rng := rand.New(rand.NewPCG(1, 2))
	var log bytes.Buffer
	type dated struct {
		at  time.Time
		pos int64
	}
	var all []dated
	starts := map[int64]bool{0: true}
	for i := range 60000 {
		if rng.IntN(10) == 0 {
			log.WriteString("  undated\n")
		} else {
			at := base.Add(time.Duration(i/3) * time.Second)
			all = append(all, dated{at, int64(log.Len())})
			fmt.Fprintf(&log, "%s line %d %s\n", at.Format(time.RFC3339), i, strings.Repeat("x", rng.IntN(60)))
		}
		starts[int64(log.Len())] = true
	}
	f := bytes.NewReader(log.Bytes())
	for range 300 {
		target := base.Add(time.Duration(rng.IntN(21000)-500) * time.Second)
		limit := int64(log.Len())
		if rng.IntN(3) == 0 {
			limit = all[rng.IntN(len(all))].pos
		}
		got, err := search(f, limit, target, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if !starts[got] || got > limit {
			t.Fatalf("start %d of limit %d is within a line", got, limit)
		}
		want := int64(0)
		for i, d := range all {
			if d.pos >= limit || !d.at.Before(target) {
				break
			}
			want = limit
			if i+1 < len(all) {
				want = min(limit, all[i+1].pos)
			}
		}
		// Undated lines before the first wanted one may be read as well.
		if skipped := log.Bytes()[min(got, want):want]; got > want || bytes.Contains(skipped, []byte("line")) {
			t.Fatalf("search for %v below %d starts at %d, want %d", target, limit, got, want)
		}
	}
}

// FuzzSearch holds that a sorted log is never cut short, whatever stands between
// its dated lines, and that the start is the start of a line.
func FuzzSearch(f *testing.F) {
	base := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	f.Add([]byte("a\nb\n\n"), uint16(3), uint32(100))
	f.Add([]byte("\xff\x00\r\n"), uint16(1), uint32(1<<20))
	f.Fuzz(func(t *testing.T, filler []byte, target uint16, limit uint32) {
		if len(filler) > 1<<16 || bytes.Contains(filler, []byte("2025-")) {
			return
		}
		var log bytes.Buffer
		at := make(map[int64]time.Time)
		starts := []int64{0}
		for i := range 40 {
			when := base.Add(time.Duration(i) * time.Second)
			at[int64(log.Len())] = when
			fmt.Fprintf(&log, "%s x\n", when.Format(time.RFC3339))
			log.Write(filler)
			log.WriteByte('\n')
		}
		for i, c := range log.Bytes() {
			if c == '\n' {
				starts = append(starts, int64(i)+1)
			}
		}
		end := min(int64(limit), int64(log.Len()))
		goal := base.Add(time.Duration(target) * time.Second)
		got, err := search(bytes.NewReader(log.Bytes()), end, goal, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(starts, got) || got > end {
			t.Fatalf("start %d is within a line or behind the end %d", got, end)
		}
		for pos, when := range at {
			if !when.Before(goal) && pos < got {
				t.Fatalf("start %d is behind the line of %v at %d", got, when, pos)
			}
		}
	})
}
