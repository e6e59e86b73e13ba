package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// searchSpan is where halving ends and reading line by line is cheaper.
	searchSpan = 16 << 10
	// searchLook is how much one probe reads in search of a dated line. A stretch
	// of more undated text than this is not skipped but read.
	searchLook = 256 << 10
)

// search finds where to start in the first limit bytes of a log so as to read all
// lines of event time target or later: the end of the last line it knows to be
// older, or 0. In a file sorted by time no line that is new enough is skipped;
// lines without a time never move the start. The start is always a line's start.
func search(f io.ReaderAt, limit int64, target time.Time, timeOf func([]byte) (time.Time, bool)) (int64, error) {
	lines := lineScanner{f: f, buf: make([]byte, 2*MaxLine)}
	// All dated lines before lo are too old; hi is where new lines may begin.
	lo, hi := int64(0), limit
	for hi-lo > searchSpan {
		mid := lo + (hi-lo)/2
		stop := min(hi, mid+searchLook)
		at, err := lines.after(mid, stop)
		if err != nil {
			return 0, err
		}
		older := false
		for at < stop {
			text, next, err := lines.line(at, limit)
			if err != nil {
				return 0, err
			}
			if next == at {
				break
			}
			if t, ok := timeOf(text); ok {
				if older = t.Before(target); older {
					lo = next
				}
				break
			}
			at = next
		}
		if !older {
			hi = mid
		}
	}
	for at := lo; at < limit; {
		text, next, err := lines.line(at, limit)
		if err != nil {
			return 0, err
		}
		if next == at {
			break
		}
		if t, ok := timeOf(text); ok {
			if !t.Before(target) {
				break
			}
			lo = next
		} else if next-lo > searchLook {
			break
		}
		at = next
	}
	return lo, nil
}

// A lineScanner reads single lines at given places.
type lineScanner struct {
	f    io.ReaderAt
	buf  []byte
	from int64 // where buf[:n] lies in the file
	n    int
}

// at is what the file holds from off on, at least want bytes if it has so many.
func (s *lineScanner) at(off int64, want int) ([]byte, error) {
	if off < s.from || off+int64(want) > s.from+int64(s.n) {
		n, err := s.f.ReadAt(s.buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read at %d: %w", off, err)
		}
		s.from, s.n = off, n
	}
	return s.buf[min(off-s.from, int64(s.n)):s.n], nil
}

// after is the first start of a line behind off, or limit.
func (s *lineScanner) after(off, limit int64) (int64, error) {
	for off < limit {
		b, err := s.at(off, 1)
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			break
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return min(off+int64(i)+1, limit), nil
		}
		off += int64(len(b))
	}
	return limit, nil
}

// line is the line that starts at off, cut to MaxLine, and where the next one
// starts; next is off where no complete line is left before limit.
func (s *lineScanner) line(off, limit int64) (text []byte, next int64, err error) {
	b, err := s.at(off, 1)
	if err != nil {
		return nil, off, err
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		if b, err = s.at(off, MaxLine+1); err != nil {
			return nil, off, err
		}
		i = bytes.IndexByte(b, '\n')
	}
	if i >= 0 {
		if next = off + int64(i) + 1; next > limit {
			return nil, off, nil
		}
		return trimLine(b[:i]), next, nil
	}
	if len(b) <= MaxLine {
		return nil, off, nil
	}
	// A time stands at the front of a line; the long rest is only passed over.
	front := bytes.Clone(b[:MaxLine])
	limit = min(limit, off+searchLook)
	if next, err = s.after(off, limit); err != nil || next == limit {
		return nil, off, err
	}
	return front, next, nil
}

// trimLine takes the line end's carriage returns off and cuts to MaxLine.
func trimLine(text []byte) []byte {
	for len(text) > 0 && text[len(text)-1] == '\r' {
		text = text[:len(text)-1]
	}
	if len(text) > MaxLine {
		text = text[:MaxLine]
	}
	return text
}
