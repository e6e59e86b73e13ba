package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/control"
)

// lockDatabase makes the file at path this daemon's until the lock is closed, which must not
// be before SQLite has closed the file: closing any descriptor of a file gives up the locks that
// the process has on it by fcntl(2), which are SQLite's. Ours is flock(2)'s, which SQLite does not see,
// nor does Fail2Ban. The lock is nil if there is no file, or none that can be a database.
//
// held is the lock on the file that was there before, or nil. It is kept if that is the file still.
func lockDatabase(path string, held *os.File) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return held, nil // the store knows better what is wrong with it
	}
	if held != nil {
		if locked, err := held.Stat(); err == nil && os.SameFile(info, locked) {
			return held, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return held, nil // as above
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = f.Close()
		return held, &control.Error{
			Text: fmt.Sprintf("another Bantam uses the database %s", path),
			Hint: "stop it first, or give this one another dbfile",
		}
	case err != nil: // a file system without such locks
		_ = f.Close()
		return held, nil
	}
	if held != nil {
		_ = held.Close() // the file has been set aside
	}
	return f, nil
}

// How repairs are kept apart: the first is made at once, those that follow it soon wait longer and longer,
// but still less than the second in which bans are to be back.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 800 * time.Millisecond
	calmAfter  = 10 * time.Second
)

// A pace keeps repairs apart, so that two programs which both want the last word do not spend all time on
// it. Its methods are called by one goroutine.
type pace struct {
	last  time.Time // of the last repair
	pause time.Duration
}

// wait waits until the next repair may be made, or ctx ends.
func (p *pace) wait(ctx context.Context) {
	if time.Since(p.last) > calmAfter {
		p.pause = 0
	}
	select {
	case <-time.After(p.pause):
	case <-ctx.Done():
	}
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.last = time.Now()
}
