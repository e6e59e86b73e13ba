package source

import (
	"path/filepath"
	"testing"
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
