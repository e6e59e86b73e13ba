package source

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkBytes is how much of what precedes the offset is remembered, to see at the
// next read that the file still goes on from there.
const checkBytes = 256

// errRewritten says that a file no longer holds what was read from it.
var errRewritten = errors.New("truncated or written anew")

// A fileID tells files apart as long as one of them is open.
type fileID struct{ dev, ino uint64 }

// A logFile is one open file: what PATH names, or what it named before a rotation.
type logFile struct {
	f      *os.File
	id     fileID
	born   time.Time // when it was made, as birth says
	opened time.Time // wall time just before it was opened
	seq    int       // counts the files read under one path; places refer to it
	// first is the first line with its line end, cut to MaxLine, and mark its
	// hash. Both are empty until the line is complete.
	first []byte
	mark  string
	// offset is where the next line begins. Up to scanned, if that is more, there
	// is no line end.
	offset, scanned int64
	wrap            unwrapper
	// before is what the file held just before offset.
	before []byte
	// quiet is the wall time since which a rotated file gave nothing.
	quiet time.Time
}

// openLog opens a regular file. Anything else is refused without being opened, as
// opening a device can have effects and opening a fifo can block for ever; symbolic
// links are followed. O_NONBLOCK is for a fifo that takes the place between.
func openLog(path string) (*logFile, error) {
	now := time.Now()
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := regular(fi); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if fi, err = f.Stat(); err == nil {
		err = regular(fi)
	}
	l := &logFile{f: f, opened: now}
	if err == nil {
		l.id, l.born, _, err = birth(int(f.Fd()), "", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// errKind says what a path is instead of a regular file.
type errKind string

func (e errKind) Error() string { return "is " + string(e) + ", not a regular file" }

func regular(fi fs.FileInfo) error {
	switch m := fi.Mode(); {
	case m.IsRegular():
		return nil
	case m.IsDir():
		return errKind("a directory")
	case m&fs.ModeNamedPipe != 0:
		return errKind("a fifo")
	case m&fs.ModeSocket != 0:
		return errKind("a socket")
	default:
		return errKind("a device")
	}
}

func idOf(fi fs.FileInfo) fileID {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fileID{uint64(st.Dev), st.Ino}
	}
	return fileID{}
}

// setFirst makes line, complete or MaxLine long, the file's first line.
func (l *logFile) setFirst(line []byte) {
	l.first = bytes.Clone(line[:min(len(line), MaxLine)])
	sum := sha1.Sum(l.first)
	l.mark = hex.EncodeToString(sum[:])
}

// readMark finds the first line, if it is complete.
func (l *logFile) readMark() error {
	buf := make([]byte, 512)
	for {
		n, err := l.f.ReadAt(buf, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the first line: %w", err)
		}
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			l.setFirst(buf[:i+1])
			return nil
		}
		if n == MaxLine {
			l.setFirst(buf)
			return nil
		}
		if n < len(buf) {
			return nil
		}
		buf = make([]byte, min(len(buf)*16, MaxLine))
	}
}

// readAt fills as much of b as one read gives from off on; 0 is the end of the file.
// One read sees the file as it is at one time. With two, as os.File.ReadAt makes them
// to be sure of the end, the file can be truncated and grow again in between, and the
// second gives the middle of what is new as the continuation of what was old.
func (l *logFile) readAt(b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(int(l.f.Fd()), b, off)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, &os.PathError{Op: "read", Path: l.f.Name(), Err: err}
		}
	}
}

// check reports errRewritten unless the file still begins with its first line and
// is at least as long as what was read of it; size is its length. With what chunk
// compares it is how a copytruncate shows that has grown past the offset already.
func (l *logFile) check(buf []byte) (size int64, err error) {
	fi, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	if size = fi.Size(); size < max(l.offset, l.scanned) {
		return size, errRewritten
	}
	if len(l.first) > 0 {
		n, err := l.readAt(buf[:len(l.first)], 0)
		if err != nil {
			return size, err
		}
		if !bytes.Equal(buf[:n], l.first) {
			return size, errRewritten
		}
	}
	return size, nil
}

// seek moves to off, the start of a line.
func (l *logFile) seek(off int64) error {
	k := min(off, checkBytes)
	before := make([]byte, k)
	if n, err := l.f.ReadAt(before, off-k); int64(n) < k {
		return fmt.Errorf("read before offset %d: %w", off, err)
	}
	l.offset, l.scanned, l.before = off, 0, before
	return nil
}

// restart makes a rewritten file be read from its start.
func (l *logFile) restart() {
	l.offset, l.scanned = 0, 0
	l.first, l.mark, l.before = nil, "", nil
	l.wrap = unwrapper{}
}

// lastLine is where the last complete line of the first size bytes ends.
func (l *logFile) lastLine(size int64) (int64, error) {
	buf := make([]byte, MaxLine)
	for end := size; end > 0; {
		from := max(0, end-int64(len(buf)))
		n, err := l.f.ReadAt(buf[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("find the last line: %w", err)
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// holds reports whether a position of mark and offset lies in this file: same
// first line, long enough, and a line ends there.
func (l *logFile) holds(mark string, offset int64) bool {
	if mark == "" || l.mark != mark || offset <= 0 {
		return false
	}
	var b [1]byte
	n, _ := l.f.ReadAt(b[:], offset-1)
	return n == 1 && b[0] == '\n'
}

// continues reports whether l, opened after cur, holds what was read of cur, and
// moves it there if so. Both marks must have been read.
func (l *logFile) continues(cur *logFile) bool {
	if l.mark != cur.mark || l.seek(cur.offset) != nil {
		return false
	}
	return bytes.Equal(l.before[len(l.before)-min(len(l.before), len(cur.before)):], cur.before)
}
