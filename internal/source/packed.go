package source

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Stdin is the path that stands for standard input.
const Stdin = "-"

// Bounds of what a compressed log may come to: a small file that unpacks without end
// is an attack on whoever looks into it. Logs shrink to a tenth or a twentieth; one of
// a single line over and over to a thousandth.
const (
	unpackedAlways = 256 << 20
	unpackedFactor = 2000
	// unpackMemory is how far back a compressed log may refer.
	unpackMemory = 64 << 20
)

// ErrUnpacked is wrapped by the error of reading on where a compressed log has given
// more than such a file can hold.
var ErrUnpacked = errors.New("unpacks to more than a log can")

// A LogReader reads a log from its start, unpacked if it is compressed.
type LogReader struct {
	io.Reader
	file   *os.File
	packed *countingReader
	left   int64         // may still be unpacked; below 0: not compressed
	zstd   *zstd.Decoder // to be closed
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

// Unpack reads an open file, unpacked if it is compressed with gzip, bzip2, xz or zstd,
// which its first bytes tell. The file is then the reader's to close; after an error it
// is still the caller's.
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
		l.Reader, err = xz.ReaderConfig{DictCap: unpackMemory}.NewReader(in)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		l.zstd, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(unpackMemory), zstd.WithDecoderMaxWindow(unpackMemory))
		l.Reader = l.zstd
	default:
		l.Reader = in
		return l, nil
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

// Close lets go of what unpacks and closes the file, but for standard input.
func (l *LogReader) Close() error {
	if l.zstd != nil {
		l.zstd.Close()
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
