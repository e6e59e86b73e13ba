package source

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

// Recent leaves out what was written before the time from, as far as files and journal tell it without being read, and
// keeps at most so many bytes of each file: its end, where it is not compressed. It is called before Order and Read.
func (p *Past) Recent(from time.Time, most int64) {
	p.from = from
	p.files = slices.DeleteFunc(p.files, func(f pastFile) bool {
		return f.last.Before(from) || f.size > most && unpackedName(f.path) != f.path
	})
	for i := range p.files {
		if f := &p.files[i]; f.size > most {
			f.skip, f.size = f.size-most, most
		}
	}
}

// open opens the file at the first line that is to be read.
func (f *pastFile) open() (*LogReader, error) {
	if f.skip == 0 {
		return OpenLog(f.path)
	}
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(f.skip, io.SeekStart); err != nil {
		_ = file.Close() // nothing was written
		return nil, fmt.Errorf("seek: %w", err)
	}
	l := &LogReader{file: file, left: -1, packed: &countingReader{r: file}}
	in := bufio.NewReaderSize(l.packed, 64<<10)
	l.Reader = in
	for { // the rest of a line
		if _, err := in.ReadSlice('\n'); err != bufio.ErrBufferFull {
			return l, nil // an error comes again
		}
	}
}
