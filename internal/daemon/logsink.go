package daemon

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// journalSocket is where journald takes entries in its native protocol,
// systemd.io/JOURNAL_NATIVE_PROTOCOL.
const journalSocket = "/run/systemd/journal/socket"

// sendWait is how long a datagram may wait for a receiver whose queue is full.
const sendWait = time.Second

// A sink takes lines. It is used by one goroutine at a time.
type sink interface {
	// write writes lines, each of which ends where ends says, and returns how many were
	// taken as a whole. err is why not all.
	write(text []byte, ends []int) (n int, err error)
	// waits reports whether lines that were not taken are worth another try.
	waits() bool
	close() error
}

// A stream is standard error or output, which others own.
type stream struct{ w io.Writer }

func (s stream) write(text []byte, ends []int) (int, error) {
	n, err := s.w.Write(text)
	return whole(ends, n), err
}
func (stream) waits() bool  { return false }
func (stream) close() error { return nil }

// whole is how many lines lie within the first n bytes.
func whole(ends []int, n int) int {
	lines := 0
	for lines < len(ends) && ends[lines] <= n {
		lines++
	}
	return lines
}

// A logFile is appended to. A line that a full disk has torn is ended before the next.
type logFile struct {
	path string
	f    *os.File
	torn bool
}

func openAppending(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

func (l *logFile) write(text []byte, ends []int) (int, error) {
	if l.torn {
		if _, err := l.f.WriteString("\n"); err != nil {
			return 0, err
		}
		l.torn = false
	}
	n, err := l.f.Write(text)
	lines := whole(ends, n)
	l.torn = n > 0 && (lines == 0 || ends[lines-1] != n)
	return lines, err
}

// waits is false: a disk may stay full for long, and the lines are in the way of newer ones.
func (l *logFile) waits() bool { return false }

// reopen opens the file of that name, which may be another by now.
func (l *logFile) reopen() error {
	f, err := openAppending(l.path)
	if err != nil {
		return err
	}
	old := l.f
	l.f, l.torn = f, false
	return old.Close()
}

func (l *logFile) close() error { return l.f.Close() }

// datagrams sends each line as a datagram to a unix socket, which it connects to again when
// its owner was started anew.
type datagrams struct {
	path   string
	syslog bool
	conn   net.Conn // nil if there is no connection
}

func (d *datagrams) write(text []byte, ends []int) (int, error) {
	from := 0
	for n, end := range ends {
		if err := d.send(text[from:end]); err != nil {
			return n, err
		}
		from = end
	}
	return len(ends), nil
}

// send sends one datagram, by a new connection if the old one does not work.
func (d *datagrams) send(b []byte) error {
	fresh := d.conn == nil
	if fresh {
		if err := d.dial(); err != nil {
			return err
		}
	}
	err := d.conn.SetWriteDeadline(time.Now().Add(sendWait))
	if err == nil {
		_, err = d.conn.Write(b)
	}
	if err == nil {
		return nil
	}
	_ = d.close() // it is of no use any more
	if fresh {
		return fmt.Errorf("send to %s: %w", d.path, err)
	}
	return d.send(b)
}

func (d *datagrams) dial() (err error) {
	d.conn, err = net.Dial("unixgram", d.path)
	return err
}

func (d *datagrams) waits() bool { return true }

func (d *datagrams) close() error {
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// syslogPath is where a socket of that name is: auto is the system's own.
func syslogPath(name string) string {
	if name == "" || name == "auto" {
		return "/dev/log"
	}
	return name
}

// open opens a target and makes the form of its lines. A socket has to be there, but its owner
// may come and go later.
func (l *logWriter) open(t target) (sink, *form, error) {
	f := &form{kind: lines, layout: t.layout(), facility: t.facility}
	if !l.fail2ban {
		f.kind = structured
	}
	switch strings.ToUpper(t.name) {
	case "STDERR":
		return stream{l.stderr}, f, nil
	case "STDOUT", "SYSOUT":
		return stream{l.stdout}, f, nil
	case "SYSLOG":
		l.mu.Lock()
		d := &datagrams{path: syslogPath(l.syslog), syslog: true}
		l.mu.Unlock()
		f.kind = syslog
		f.bare = !l.fail2ban
		return d, f, d.dial()
	case "SYSTEMD-JOURNAL":
		d := &datagrams{path: l.journalSocket}
		f.kind = journal
		f.bare = !l.fail2ban
		return d, f, d.dial()
	}
	file, err := openAppending(t.name)
	if err != nil {
		return nil, nil, err
	}
	return &logFile{path: t.name, f: file}, f, nil
}
