package source

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of what senders may cost. A frame's length is at most seven digits; what a
// message holds beyond MaxLine is read and dropped.
const (
	maxSenders  = 128 // connections at once; a further one is closed at once
	maxFrameLen = 7
	// senderIdle is how long a connection may say nothing: a sender that has gone
	// without a word gives its place up.
	senderIdle = 15 * time.Minute
	// udpBuffer is what may wait in the kernel while a jail is slow; the rest is lost.
	udpBuffer = 1 << 20
	// refusedTold is how often refused senders are told of in the log.
	refusedTold = time.Hour
)

// A listenAddr is where a syslog is received.
type listenAddr struct {
	network string // udp, tcp, unix
	address string
}

// parseListen reads "udp:HOST:PORT", "tcp:HOST:PORT" or "unix:/PATH". A host is an
// address; none is every address of the machine.
func parseListen(text string) (a listenAddr, err error) {
	network, address, _ := strings.Cut(text, ":")
	switch network {
	case "udp", "tcp":
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return a, fmt.Errorf("listen at %q: want %s:ADDRESS:PORT", text, network)
		}
		if _, err := netip.ParseAddr(host); host != "" && err != nil {
			return a, fmt.Errorf("listen at %q: %q is no address", text, host)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return a, fmt.Errorf("listen at %q: %q is no port", text, port)
		}
	case "unix":
		if !filepath.IsAbs(address) || strings.IndexByte(address, 0) >= 0 {
			return a, fmt.Errorf("listen at %q: want unix:/PATH", text)
		}
		address = filepath.Clean(address)
	default:
		return a, fmt.Errorf("listen at %q: want udp:ADDRESS:PORT, tcp:ADDRESS:PORT or unix:/PATH", text)
	}
	return listenAddr{network, address}, nil
}

func (a listenAddr) String() string { return a.network + ":" + a.address }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// A syslog receives messages at one address. What a message says of its sender is the
// sender's word; by UDP even the address it comes from is.
type syslog struct {
	at   listenAddr
	mode fs.FileMode // of a unix socket; zero is 0600
	host string      // this machine's name, for messages from within it

	mu      sync.Mutex // guards what follows
	refused int        // senders since they were told of last
	toldAt  time.Time  // wall time
}

// takes reports whether a sender's messages are taken.
func (l *syslog) takes(s *stream, a net.Addr) (host string, ok bool) {
	if l.at.network == "unix" {
		return l.host, true // the socket's permissions say who may
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "", false
	}
	addr := at.Addr().Unmap().WithZone("")
	return addr.String(), slices.ContainsFunc(*s.from.Load(), func(p netip.Prefix) bool { return p.Contains(addr) })
}

// refuse counts a sender that was turned away and tells of it now and then.
func (l *syslog) refuse(s *stream, a net.Addr, why string) {
	now := time.Now()
	l.mu.Lock()
	l.refused++
	n, tell := l.refused, now.Sub(l.toldAt) > refusedTold
	if tell {
		l.refused, l.toldAt = 0, now
	}
	l.mu.Unlock()
	if tell {
		s.log.Warn("a sender of syslog messages is refused", "listen", l.at.String(), "sender", a.String(), "why", why, "count", n)
	}
}

// serve receives until ctx ends.
func (l *syslog) serve(ctx context.Context, s *stream) error {
	if l.host, _ = os.Hostname(); l.host == "" {
		l.host = "localhost"
	}
	l.host, _, _ = strings.Cut(l.host, ".")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	var failed error
	switch l.at.network {
	case "udp":
		conn, err := net.ListenPacket("udp", l.at.address)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if udp, ok := conn.(*net.UDPConn); ok {
			_ = udp.SetReadBuffer(udpBuffer) // as much as the kernel allows
		}
		failed = l.receive(ctx, s, conn)
	case "tcp":
		ln, err := net.Listen("tcp", l.at.address)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		failed = l.accept(ctx, s, ln, &wg)
	case "unix":
		// Both kinds are in use: syslog(3) sends datagrams, others connect. A path
		// holds one of them; datagrams are what programs try first.
		conn, err := l.listenUnix()
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		failed = l.receive(ctx, s, conn)
		_ = os.Remove(l.at.address)
	}
	cancel()
	return failed
}

// listenUnix makes the socket. One that nobody listens at is left of a program that
// ended and removed; what is no socket, or in use, stays.
func (l *syslog) listenUnix() (net.PacketConn, error) {
	if fi, err := os.Lstat(l.at.address); err == nil {
		if fi.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and no socket", l.at.address)
		}
		if c, err := net.Dial("unixgram", l.at.address); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use by another program", l.at.address)
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(l.at.address); err != nil {
			return nil, err
		}
	}
	conn, err := net.ListenPacket("unixgram", l.at.address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(l.at.address, cmp.Or(l.mode, 0o600)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// receive takes datagrams, of which each is one message (RFC 5426, 3.1).
func (l *syslog) receive(ctx context.Context, s *stream, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	l.open(s, conn.LocalAddr())
	buf := make([]byte, MaxLine)
	var text []byte
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		host, ok := l.takes(s, from)
		if !ok {
			l.refuse(s, from, "its address is not among those to take messages from")
			continue
		}
		if text = syslogLine(text[:0], buf[:n], host, l.at.network == "unix"); len(text) > 0 && !s.hand(ctx, text) {
			return ctx.Err()
		}
	}
}

func (l *syslog) open(s *stream, at net.Addr) {
	s.handing.Lock()
	s.live = true // who sends sends what is new
	s.handing.Unlock()
	s.mu.Lock()
	s.status.Live = true
	s.status.Name = l.at.network + ":" + at.String()
	s.mu.Unlock()
	s.reading()
}

// accept takes connections.
func (l *syslog) accept(ctx context.Context, s *stream, ln net.Listener, wg *sync.WaitGroup) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	l.open(s, ln.Addr())
	places := make(chan struct{}, maxSenders)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil && (errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) {
				select { // a connection may end meanwhile
				case <-time.After(s.timing.restart):
				case <-ctx.Done():
				}
				continue
			}
			return err
		}
		host, ok := l.takes(s, conn.RemoteAddr())
		if !ok {
			l.refuse(s, conn.RemoteAddr(), "its address is not among those to take messages from")
			conn.Close()
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			l.refuse(s, conn.RemoteAddr(), "there are too many connections")
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-places }()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			frames := newFrameReader(idleReader{conn, senderIdle})
			var text []byte
			for {
				message, err := frames.next()
				if err != nil {
					return // what one sender sends wrong is his own loss
				}
				if text = syslogLine(text[:0], message, host, false); len(text) > 0 && !s.hand(ctx, text) {
					return
				}
			}
		})
	}
}

// An idleReader gives up when a connection says nothing for long.
type idleReader struct {
	net.Conn
	idle time.Duration
}

func (r idleReader) Read(b []byte) (int, error) {
	if err := r.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
		return 0, err
	}
	return r.Conn.Read(b)
}

// A frameReader cuts a connection into messages, in both ways of RFC 6587: counted
// ("83 <34>1 …") where a message begins with a digit, else ended by a newline or NUL.
// Its memory is bounded whatever it reads.
type frameReader struct {
	r    *bufio.Reader
	text []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 8<<10)}
}

// next is the next message, valid until the call after it.
func (f *frameReader) next() ([]byte, error) {
	c, err := f.r.ReadByte()
	for err == nil && (c == '\n' || c == '\r' || c == 0) {
		c, err = f.r.ReadByte()
	}
	if err != nil {
		return nil, err
	}
	f.text = f.text[:0]
	if c >= '1' && c <= '9' {
		return f.counted(int(c - '0'))
	}
	for err == nil && c != '\n' && c != 0 {
		if len(f.text) < MaxLine {
			f.text = append(f.text, c)
		}
		c, err = f.r.ReadByte()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return f.text, nil // the end of the connection ends it, too
}

func (f *frameReader) counted(size int) ([]byte, error) {
	for digits := 1; ; digits++ {
		c, err := f.r.ReadByte()
		switch {
		case err != nil:
			return nil, unexpected(err)
		case c == ' ':
			keep := min(size, MaxLine)
			f.text = slices.Grow(f.text, keep)[:keep]
			if _, err := io.ReadFull(f.r, f.text); err != nil {
				return nil, unexpected(err)
			}
			if _, err := f.r.Discard(size - keep); err != nil {
				return nil, unexpected(err)
			}
			return f.text, nil
		case c < '0' || c > '9' || digits == maxFrameLen:
			return nil, errors.New("syslog: neither a message nor the length of one")
		}
		size = size*10 + int(c-'0')
	}
}

// syslogLine appends a message as it would stand in a log file, in one line: "TIME
// HOST TAG[PID]: TEXT". Of RFC 5424 the fields are put in that order and the structured
// data is left out; of RFC 3164 the priority goes. Where a message names no time, the
// sender's address stands for its host, as 4.3 there tells a relay; within is whether
// it comes from this machine's own programs, which name no host. What has no priority
// is taken as it is.
func syslogLine(out, message []byte, host string, within bool) []byte {
	message = bytes.TrimRight(message, "\x00\r\n ")
	rest, ok := cutPriority(message)
	if ok && bytes.HasPrefix(rest, []byte("1 ")) {
		if line, ok := rfc5424(out, rest[2:], host); ok {
			return oneLine(line, len(out))
		}
	}
	if !ok {
		return oneLine(append(out, message...), len(out))
	}
	start := len(out)
	at := stampLen(rest)
	switch {
	case at == 0:
		out = append(append(out, host...), ' ')
		out = append(out, rest...)
	case within:
		out = append(append(out, rest[:at]...), ' ')
		out = append(append(out, host...), rest[at:]...)
	default:
		out = append(out, rest...)
	}
	return oneLine(out, start)
}

// cutPriority takes "<34>" off, at most three digits.
func cutPriority(message []byte) (rest []byte, ok bool) {
	if len(message) < 3 || message[0] != '<' {
		return message, false
	}
	end := bytes.IndexByte(message[:min(len(message), 5)], '>')
	if end < 2 || bytes.Trim(message[1:end], "0123456789") != nil && len(bytes.Trim(message[1:end], "0123456789")) > 0 {
		return message, false
	}
	return message[end+1:], true
}

// stampLen is the length of the time a message begins with: "Oct 11 22:14:15" or one of
// RFC 3339 as many write it instead; 0 if there is none. A blank follows it.
func stampLen(text []byte) int {
	if len(text) > 15 && text[15] == ' ' {
		if _, err := time.Parse(time.Stamp, string(text[:15])); err == nil {
			return 15
		}
	}
	word, _, ok := bytes.Cut(text[:min(len(text), 40)], []byte(" "))
	if ok && len(word) >= 19 && word[4] == '-' {
		if _, err := time.Parse(time.RFC3339Nano, string(word)); err == nil {
			return len(word)
		}
	}
	return 0
}

// rfc5424 appends what follows "<PRI>1 ": time, host, application, process, kind,
// structured data and text, of which "-" is none.
func rfc5424(out, rest []byte, sender string) (line []byte, ok bool) {
	var fields [5][]byte
	for i := range fields {
		if fields[i], rest, ok = bytes.Cut(rest, []byte(" ")); !ok || len(fields[i]) == 0 {
			return out, false
		}
		if string(fields[i]) == "-" {
			fields[i] = nil
		}
	}
	if rest, ok = cutData(rest); !ok {
		return out, false
	}
	rest = bytes.TrimPrefix(bytes.TrimPrefix(rest, []byte(" ")), []byte("\ufeff"))
	if len(fields[0]) > 0 {
		out = append(append(out, fields[0]...), ' ')
	}
	if host := fields[1]; len(host) > 0 {
		out = append(out, host...)
	} else {
		out = append(out, sender...)
	}
	if app, pid := fields[2], fields[3]; len(app) > 0 {
		out = append(append(out, ' '), app...)
		if len(pid) > 0 {
			out = append(append(append(out, '['), pid...), ']')
		}
		out = append(out, ':')
	}
	return append(append(out, ' '), rest...), true
}

// cutData takes structured data off: "-" or elements in brackets, whose values are
// quoted with backslashes before quotes, brackets and backslashes.
func cutData(text []byte) (rest []byte, ok bool) {
	if bytes.HasPrefix(text, []byte("-")) {
		return text[1:], len(text) == 1 || text[1] == ' '
	}
	for len(text) > 0 && text[0] == '[' {
		quoted, end := false, -1
		for i := 1; i < len(text) && end < 0; i++ {
			switch c := text[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == ']' && !quoted:
				end = i
			}
		}
		if end < 0 {
			return text, false
		}
		text, ok = text[end+1:], true
	}
	return text, ok && (len(text) == 0 || text[0] == ' ')
}

// oneLine makes what was appended to b from start on one line of at most MaxLine: line
// ends become the two characters \n, so that nobody can send two lines as one.
func oneLine(b []byte, start int) []byte {
	if len(b)-start > MaxLine {
		b = b[:start+MaxLine]
	}
	if bytes.IndexByte(b[start:], '\n') >= 0 {
		line := bytes.ReplaceAll(b[start:], []byte("\n"), []byte(`\n`))
		b = append(b[:start], line[:min(len(line), MaxLine)]...)
	}
	return b[:start+len(trimLine(b[start:]))]
}
