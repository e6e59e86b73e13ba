package source

import (
	"path/filepath"
	"testing"
	"time"
)

// The traps of detection.md 10 that are a file's.

func TestTrap53_APartialLastLineWaitsForItsEnd(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "f.log")
		write(t, path, "x\nfail 3.0.0.1")
		b := newBench(t)
		b.configure(one("t", path, backend))
		b.run()
		b.untilLive(path)
		b.sees(path, "x")
		write(t, path, "\n")
		b.sees(path, "x", "fail 3.0.0.1")
	})
}

// The position's mark is what Fail2Ban's database calls firstlinemd5.
func TestTrap54_TheMarkIsTheFirstLinesSHA1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.log")
	write(t, path, "fail 3.0.0.1\n")
	b := newBench(t)
	b.configure(one("t", path, Inotify))
	b.run()
	// printf 'fail 3.0.0.1\n' | sha1sum
	const want = "8845212e1195236e7591b381ea2ec0ff94ad93a5"
	if got := b.fails("t", "fail 3.0.0.1")[0].Position.Mark; got != want {
		t.Errorf("mark %s, want %s", got, want)
	}
}

// Ours: the new line is seen at once; Fail2Ban looks at the size.
func TestTrap55_CopytruncateWithEqualSize(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "f.log")
		write(t, path, "fail 3.0.0.1\n")
		b := newBench(t)
		b.configure(one("t", path, backend))
		b.run()
		b.sees(path, "fail 3.0.0.1")
		b.untilLive(path)
		overwrite(t, path, "fail 4.0.0.2\n")
		b.sees(path, "fail 3.0.0.1", "fail 4.0.0.2")
	})
}

// The traps of server.md 9 that are a source's.

func TestTrapS03_WhatTheDatabaseCallsMD5IsSHA1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.log")
	const first = "2005-08-14T11:59:59Z fail 192.0.2.1\n"
	write(t, path, first)
	l, err := openLog(path)
	must(t, err)
	defer l.f.Close()
	must(t, l.readMark())
	if len(l.mark) != 40 || l.mark != markOf(first) {
		t.Errorf("mark %s", l.mark)
	}
}

// head is where reading stopped, or findtime ago; tail is the end, whatever was read.
func TestTrapS40_HeadIsNotTheFirstByte(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		c := newClock()
		path := filepath.Join(t.TempDir(), "f.log")
		old, new := c.ago(time.Hour, "fail old"), c.ago(time.Minute, "fail new")
		write(t, path, old+"\n"+new+"\n")
		b := newBench(t)
		head, tail := one("head", path, backend), one("tail", path, backend)
		tail.Paths[0].Tail = true
		head.FindTime, tail.FindTime = 10*time.Minute, 10*time.Minute
		b.configure(head, tail)
		b.run()
		b.fails("head", new)
		b.untilLive(path)
		last := c.ago(0, "fail last")
		write(t, path, last+"\n")
		b.fails("head", new, last)
		b.fails("tail", last)
	})
}
