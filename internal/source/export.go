package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// maxField is the longest journal field that is believed; journald itself takes
// 768 MiB (DATA_SIZE_MAX). What is longer is a stream out of step.
const maxField = 1 << 30

// maxMatched bounds how many fields of an entry matches are held against.
const maxMatched = 256

// journalFields are the fields that make up a line. Addresses of an entry (those
// that begin with two underscores) come unasked.
const journalFields = "_HOSTNAME,SYSLOG_IDENTIFIER,_COMM,SYSLOG_PID,_PID,MESSAGE," +
	"_SOURCE_REALTIME_TIMESTAMP,_SOURCE_MONOTONIC_TIMESTAMP"

// An entry is what a line needs of a journal entry. Its texts are cut to MaxLine, and
// reused for the next one.
type entry struct {
	cursor, host, ident, comm, syslogPID, pid []byte
	message                                   []byte // several are joined by blanks
	messages                                  int
	// Microseconds, in wall time or since boot; 0 where the field is missing.
	realtime, sourceRealtime, monotonic, sourceMonotonic int64
	// wanted are the names of the fields that matches ask for, fields what the entry
	// has of them.
	wanted map[string]bool
	fields []entryField
}

// An entryField is a field and its value, which is reused for the next entry.
type entryField struct {
	name  string
	value []byte
}

func (e *entry) reset() {
	*e = entry{
		cursor: e.cursor[:0], host: e.host[:0], ident: e.ident[:0], comm: e.comm[:0],
		syslogPID: e.syslogPID[:0], pid: e.pid[:0], message: e.message[:0],
		wanted: e.wanted, fields: e.fields[:0],
	}
}

// An exportReader reads the Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS):
// an entry is a row of fields and ends with an empty line; a field is NAME=text and a
// newline, or NAME, a newline, the length in 64 bits little-endian, the data and a
// newline. Its memory is bounded whatever it reads.
type exportReader struct {
	r     *bufio.Reader
	name  []byte
	value []byte
}

func newExportReader(r io.Reader) *exportReader {
	return &exportReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next reads one entry into e. At the end of input it returns io.EOF, within an entry
// io.ErrUnexpectedEOF.
func (x *exportReader) next(e *entry) error {
	e.reset()
	for fields := 0; ; fields++ {
		empty, err := x.field()
		switch {
		case errors.Is(err, io.EOF) && fields > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case empty && fields > 0:
			return nil
		case empty:
			fields-- // more empty lines than one between entries
		default:
			e.set(x.name, x.value)
		}
	}
}

// field reads one field into name and value; empty is true for an empty line.
func (x *exportReader) field() (empty bool, err error) {
	x.name, x.value = x.name[:0], x.value[:0]
	part, err := x.r.ReadSlice('\n')
	full := errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !full {
		if errors.Is(err, io.EOF) && len(part) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return false, err
	}
	if !full && len(part) == 1 {
		return true, nil
	}
	if name, text, ok := bytes.Cut(part, []byte("=")); ok {
		x.name = append(x.name, name...)
		x.value = append(x.value, text...)
		if !full {
			x.value = x.value[:len(x.value)-1]
		}
		for full {
			if part, err = x.r.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return false, unexpected(err)
			}
			full = err != nil
			if !full {
				part = part[:len(part)-1]
			}
			x.value = append(x.value, part[:min(len(part), max(0, MaxLine-len(x.value)))]...)
		}
		x.value = x.value[:min(len(x.value), MaxLine)]
		return false, nil
	}
	if full {
		return false, errors.New("journal export: a field name without end")
	}
	x.name = append(x.name, part[:len(part)-1]...)
	var length [8]byte
	if _, err := io.ReadFull(x.r, length[:]); err != nil {
		return false, unexpected(err)
	}
	size := binary.LittleEndian.Uint64(length[:])
	if size > maxField {
		return false, fmt.Errorf("journal export: field %.40q is %d bytes long", x.name, size)
	}
	keep := min(int(size), MaxLine)
	if cap(x.value) < keep {
		x.value = make([]byte, 0, MaxLine)
	}
	x.value = x.value[:keep]
	if _, err := io.ReadFull(x.r, x.value); err != nil {
		return false, unexpected(err)
	}
	if _, err := x.r.Discard(int(size) - keep); err != nil {
		return false, unexpected(err)
	}
	if c, err := x.r.ReadByte(); err != nil || c != '\n' {
		if err == nil {
			err = fmt.Errorf("journal export: field %.40q does not end where it should", x.name)
		}
		return false, unexpected(err)
	}
	return false, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// set takes a field up. Of a field given several times all are kept for MESSAGE, the
// first for the others.
func (e *entry) set(name, value []byte) {
	text := func(to *[]byte) {
		if len(*to) == 0 {
			*to = append(*to, value...)
		}
	}
	number := func(to *int64) {
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 && *to == 0 {
			*to = n
		}
	}
	if e.wanted[string(name)] && len(e.fields) < maxMatched {
		e.keep(string(name), value)
	}
	switch string(name) {
	case "__CURSOR":
		text(&e.cursor)
	case "__REALTIME_TIMESTAMP":
		number(&e.realtime)
	case "__MONOTONIC_TIMESTAMP":
		number(&e.monotonic)
	case "_SOURCE_REALTIME_TIMESTAMP":
		number(&e.sourceRealtime)
	case "_SOURCE_MONOTONIC_TIMESTAMP":
		number(&e.sourceMonotonic)
	case "_HOSTNAME":
		text(&e.host)
	case "SYSLOG_IDENTIFIER":
		text(&e.ident)
	case "_COMM":
		text(&e.comm)
	case "SYSLOG_PID":
		text(&e.syslogPID)
	case "_PID":
		text(&e.pid)
	case "MESSAGE":
		if e.messages > 0 {
			e.message = append(e.message, ' ')
		}
		e.messages++
		e.message = append(e.message, value[:min(len(value), max(0, MaxLine-len(e.message)))]...)
	}
}

// keep notes a field for matches.
func (e *entry) keep(name string, value []byte) {
	n := len(e.fields)
	if n < cap(e.fields) {
		e.fields = e.fields[:n+1]
	} else {
		e.fields = append(e.fields, entryField{})
	}
	e.fields[n].name = name
	e.fields[n].value = append(e.fields[n].value[:0], value...)
}

// line appends the entry as filters for journals know it, "HOST IDENT[PID]: MESSAGE",
// with what is missing left out, and cuts it to MaxLine. Messages of the kernel bear
// the seconds since boot, as in its own ring buffer. Newlines of a message become the
// two characters \n, so an entry stays one line.
func (e *entry) line(b []byte) []byte {
	b = append(b, e.host...)
	ident := e.ident
	if len(ident) == 0 {
		ident = e.comm
	}
	if len(ident) > 0 {
		b = blank(b)
		b = append(b, ident...)
		pid := e.syslogPID
		if len(pid) == 0 {
			pid = e.pid
		}
		if len(pid) > 0 {
			b = append(b, '[')
			b = appendPID(b, pid)
			b = append(b, ']')
		}
		b = append(b, ':')
		if string(ident) == "kernel" && len(pid) == 0 {
			us := e.sourceMonotonic
			if us == 0 {
				us = e.monotonic
			}
			b = fmt.Appendf(b, " [%5d.%06d]", us/1e6, us%1e6)
		}
	}
	b = blank(b)
	for rest := e.message; len(b) < MaxLine; {
		front, after, found := bytes.Cut(rest, []byte("\n"))
		b = append(b, front...)
		if !found {
			break
		}
		b = append(b, `\n`...)
		rest = after
	}
	return b[:min(len(b), MaxLine)]
}

func blank(b []byte) []byte {
	if len(b) > 0 {
		b = append(b, ' ')
	}
	return b
}

// appendPID writes a number in decimal, "0x1f" too, and anything else as it is.
func appendPID(b, pid []byte) []byte {
	digits, base := string(pid), 10
	if len(digits) > 2 && (digits[:2] == "0x" || digits[:2] == "0X") {
		digits, base = digits[2:], 16
	}
	if n, err := strconv.ParseUint(digits, base, 64); err == nil {
		return strconv.AppendUint(b, n, 10)
	}
	return append(b, pid...)
}

// time is when the entry's sender wrote it, or else when journald received it.
func (e *entry) time() time.Time {
	if e.sourceRealtime > 0 {
		return time.UnixMicro(e.sourceRealtime)
	}
	return time.UnixMicro(e.realtime)
}
