package source

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
)

// Stdin is the path that stands for standard input.
const Stdin = "-"

// Bounds of what a compressed log may come to: a small file that unpacks without end
// is an attack on whoever looks into it. Logs shrink to a tenth or a twentieth; one of
// a single line over and over to a thousandth.
const (
	unpackedAlways = 256 << 20
	unpackedFactor = 2000
)

// ErrUnpacked is wrapped by the error of reading on where a compressed log has given
// more than such a file can hold.
var ErrUnpacked = errors.New("unpacks to more than a log can")

// A LogReader reads a log from its start, unpacked if it is compressed.
type LogReader struct {
	io.Reader
	file   *os.File
	packed *countingReader
	left   int64 // may still be unpacked; below 0: not compressed
	unpack *unpacker
}

// OpenLog opens a log to be read once; see Unpack. Stdin is standard input. Anything
// else that is no regular file is refused.
func OpenLog(path string) (*LogReader, error) {
	if path == Stdin {
		return Unpack(os.Stdin)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := regular(fi); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	l, err := Unpack(f)
	if err != nil {
		f.Close()
	}
	return l, err
}

// Unpack reads an open file, unpacked if it is compressed, which its first bytes tell:
// gzip and bzip2 are unpacked by the program itself, xz and zstd by the programs of
// these names, which whoever has such files has. The file is then the reader's to
// close; after an error it is still the caller's.
func Unpack(file *os.File) (*LogReader, error) {
	l := &LogReader{file: file, left: -1}
	size := int64(0)
	if fi, err := file.Stat(); err == nil {
		size = fi.Size()
	}
	l.packed = &countingReader{r: l.file}
	in := bufio.NewReaderSize(l.packed, 64<<10)
	head, _ := in.Peek(6)
	var err error
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		l.Reader, err = gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("BZh")):
		l.Reader = bzip2.NewReader(in)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		l.unpack, err = startUnpacker(in, "xz", "--decompress", "--stdout", "--quiet", "--memlimit-decompress=256MiB")
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		l.unpack, err = startUnpacker(in, "zstd", "--decompress", "--stdout", "--quiet", "--memory=256MB")
	default:
		l.Reader = in
		return l, nil
	}
	if l.unpack != nil {
		l.Reader = l.unpack
	}
	if err != nil {
		return nil, err
	}
	l.left = max(unpackedAlways, unpackedFactor*size)
	return l, nil
}

// Read reads the log's text. It fails with ErrUnpacked rather than unpack a file that
// was made to have no end.
func (l *LogReader) Read(b []byte) (int, error) {
	n, err := l.Reader.Read(b)
	if l.left >= 0 {
		if l.left -= int64(n); l.left < 0 {
			l.left = 0
			return 0, fmt.Errorf("%w: more than %d times its size", ErrUnpacked, unpackedFactor)
		}
	}
	return n, err
}

// Compressed reports whether the file is.
func (l *LogReader) Compressed() bool { return l.left >= 0 }

// Packed is how many bytes of the file itself have been read.
func (l *LogReader) Packed() int64 { return l.packed.n.Load() }

// Close ends what unpacks and closes the file, but for standard input.
func (l *LogReader) Close() error {
	if l.unpack != nil {
		l.unpack.end()
	}
	if l.file == os.Stdin {
		return nil
	}
	return l.file.Close()
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// An unpacker is a program that unpacks what it is given.
type unpacker struct {
	program   string
	cmd       *exec.Cmd
	cancel    context.CancelFunc
	out       io.ReadCloser
	complaint lastLine
	ended     bool
}

func startUnpacker(in io.Reader, program string, args ...string) (*unpacker, error) {
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%s is needed to unpack it and not installed", program)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &unpacker{program: program, cmd: exec.CommandContext(ctx, program, args...), cancel: cancel}
	u.cmd.Stdin, u.cmd.Stderr = in, &u.complaint
	var err error
	if u.out, err = u.cmd.StdoutPipe(); err == nil {
		err = u.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return u, nil
}

// Read reads what the program writes. Its end is the file's end only if the program
// is content with it.
func (u *unpacker) Read(b []byte) (int, error) {
	n, err := u.out.Read(b)
	if !errors.Is(err, io.EOF) || u.ended {
		return n, err
	}
	u.ended = true
	if err := u.cmd.Wait(); err != nil {
		if text := u.complaint.String(); text != "" {
			return n, errors.New(text)
		}
		return n, fmt.Errorf("%s: %w", u.program, err)
	}
	return n, io.EOF
}

func (u *unpacker) end() {
	u.cancel()
	if !u.ended {
		u.ended = true
		_ = u.cmd.Wait() // it was killed, which is what it says
	}
}
