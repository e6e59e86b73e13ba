package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What ends messages on Fail2Ban's socket. They stand in the stream as they are: a word
// that holds one cuts its message in two.
const (
	endCommand   = "<F2B_END_COMMAND>"
	closeCommand = "<F2B_CLOSE_COMMAND>"
)

// Bounds on what clients of Fail2Ban's socket can make the daemon hold. The original's
// client sends a whole configuration with its reload.
const (
	smallMessage = 64 << 10 // bytes that every connection may use
	largeMessage = 16 << 20 // bytes of the largest message
	largeAtOnce  = 4        // connections with more than smallMessage
)

// A Peer is who asks.
type Peer struct {
	UID int // -1 if the kernel does not say
	PID int
}

// A Fail2Ban answers on Fail2Ban's socket, in its protocol.
type Fail2Ban struct {
	listener net.Listener
	path     string
	large    chan struct{}

	// Timeout is how long a client may take to send the rest of a message that it has
	// begun, or to read an answer. Between messages it may be silent for ever.
	Timeout time.Duration
	// Log is told why a message was not understood or nobody could be connected; it may be nil.
	Log func(reason string)
}

// ListenFail2Ban opens the socket, mode 0700, which is what Fail2Ban's has. A socket that
// nobody answers on is replaced; one on which somebody does is refused with an Error.
func ListenFail2Ban(path string) (*Fail2Ban, error) {
	if who, answers := AskWho(path); answers {
		return nil, &Error{
			Text:   fmt.Sprintf("%s answers on %s", who, path),
			Status: http.StatusConflict,
			Hint:   "stop it first: systemctl disable --now fail2ban, or fail2ban-client stop; its bans are taken over from its database",
		}
	}
	l, err := openSocket(path, 0o700, "name another with socket in fail2ban.local")
	if err != nil {
		return nil, err
	}
	return &Fail2Ban{listener: l, path: path, large: make(chan struct{}, largeAtOnce), Timeout: ioTimeout}, nil
}

// AskWho says who answers on a socket with Fail2Ban's protocol, if anybody does.
func AskWho(path string) (who string, answers bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	c, err := DialFail2Ban(ctx, path)
	if err != nil {
		return "", false
	}
	defer c.Close()
	version, err := c.Ask(ctx, List{"version"})
	if err != nil {
		return "", false
	}
	who = "Fail2Ban " + Str(version)
	if pid := peerOf(c.conn).PID; pid > 0 {
		who += fmt.Sprintf(" (pid %d)", pid)
	}
	return who, true
}

// Answer is what a command, a list of words, comes to. A nil error is the payload of the
// reply; an *Exception goes to the client as it is, any other error as its text.
type Answer func(ctx context.Context, peer Peer, command List) (any, error)

// Run answers until ctx ends; then it removes the socket, and finishes what was begun, for
// at most a second. Connections are served side by side, the messages of one in their
// order. The context that answer gets ends when the socket is gone.
func (f *Fail2Ban) Run(ctx context.Context, answer Answer) error {
	serving, gone := context.WithCancel(context.WithoutCancel(ctx))
	defer gone()
	var open sync.WaitGroup
	var mu sync.Mutex // guards conns
	conns := map[*conversation]bool{}
	closed := make(chan struct{})
	pause := time.NewTimer(acceptPause)
	defer pause.Stop()
	go func() {
		for {
			conn, err := f.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				close(closed)
				return
			}
			if err != nil { // there are no descriptors left, say
				if f.Log != nil {
					f.Log(err.Error())
				}
				mu.Lock()
				evict(conns)
				mu.Unlock()
				pause.Reset(acceptPause)
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
				continue
			}
			c := &conversation{f: f, conn: conn, peer: peerOf(conn), idle: time.Now()}
			mu.Lock()
			if len(conns) >= maxConnections-1 {
				evict(conns)
			}
			conns[c] = true
			open.Add(1)
			mu.Unlock()
			go func() {
				defer open.Done()
				c.run(serving, answer)
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			}()
		}
	}()
	<-ctx.Done()
	failed := f.listener.Close()
	<-closed
	gone()
	ended := make(chan struct{})
	go func() { open.Wait(); close(ended) }()
	mu.Lock()
	for c := range conns {
		c.finish()
	}
	mu.Unlock()
	late := time.NewTimer(time.Second)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		mu.Lock()
		for c := range conns {
			_ = c.conn.Close() // whoever is slower than that is cut off
		}
		mu.Unlock()
		<-ended
	}
	if failed != nil {
		return fmt.Errorf("close the socket %s: %w", f.path, failed)
	}
	return nil
}

// acceptPause is how long connections wait when the system has no room for another.
const acceptPause = 50 * time.Millisecond

// Close closes a server that never ran.
func (f *Fail2Ban) Close() error { return f.listener.Close() }

// A conversation is one connection.
type conversation struct {
	f    *Fail2Ban
	conn net.Conn
	peer Peer

	ending atomic.Bool // no message is begun any more
	mu     sync.Mutex  // guards the rest, and the deadline of an idle connection
	busy   bool
	idle   time.Time // since when it is not busy
}

// evict ends the connection that has been idle longest, if any is, so that connections
// which nobody uses keep nobody out.
func evict(conns map[*conversation]bool) {
	var oldest *conversation
	var since time.Time
	for c := range conns {
		c.mu.Lock()
		if !c.busy && !c.ending.Load() && (oldest == nil || c.idle.Before(since)) {
			oldest, since = c, c.idle
		}
		c.mu.Unlock()
	}
	if oldest != nil {
		oldest.finish()
	}
}

// finish ends the conversation after the answer under way.
func (c *conversation) finish() {
	c.ending.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // the connection is closed for it
	}
}

// turn says whether a message is being answered; false if none shall be any more.
func (c *conversation) turn(busy bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy = busy; c.ending.Load() {
		return false
	}
	c.idle = time.Now()
	return c.conn.SetReadDeadline(time.Time{}) == nil
}

func (c *conversation) run(ctx context.Context, answer Answer) {
	defer c.conn.Close()
	r := messages{conn: c.conn, timeout: c.f.Timeout, large: c.f.large}
	defer r.release()
	for {
		message, err := r.next()
		if err != nil {
			if errors.Is(err, errHuge) {
				c.reply("ERROR: " + err.Error())
			}
			return
		}
		if string(message) == closeCommand || !c.turn(true) {
			return
		}
		ok := c.reply(c.f.answer(ctx, answer, c.peer, message))
		if !c.turn(false) || !ok {
			return
		}
	}
}

// answer is what is sent for a message.
func (f *Fail2Ban) answer(ctx context.Context, answer Answer, peer Peer, message []byte) any {
	v, err := Unpickle(message)
	if err != nil {
		if f.Log != nil {
			f.Log(err.Error())
		}
		return "ERROR: " + err.Error()
	}
	var command List
	switch v := v.(type) {
	case List:
		command = v
	case Tuple:
		command = List(v)
	}
	payload, err := answer(ctx, peer, command)
	if err == nil {
		return Tuple{0, payload}
	}
	var known *Exception
	var refused *Error
	switch {
	case errors.As(err, &known):
	case errors.As(err, &refused) && refused.Hint != "":
		known = Invalid(refused.Text + "\nhint: " + refused.Hint)
	default:
		known = Invalid(err.Error())
	}
	return Tuple{1, known}
}

// reply sends an answer with one write: some clients take every read for a whole message.
func (c *conversation) reply(v any) bool {
	b, err := Pickle(v)
	if err != nil {
		b, _ = Pickle("ERROR: " + err.Error()) // a string can be sent
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.f.Timeout)) // a connection that is closed says so at the write
	_, err = c.conn.Write(append(b, endCommand...))
	return err == nil
}

// errHuge is a message longer than largeMessage.
var errHuge = fmt.Errorf("the message is longer than %d MiB", largeMessage>>20)

// messages cuts a stream into its messages.
type messages struct {
	conn    net.Conn
	timeout time.Duration
	large   chan struct{}

	buf     []byte
	scanned int  // of buf, in which there is no end
	slot    bool // one of large is ours
}

// next is the next message without its end. It is valid until the next call.
func (m *messages) next() ([]byte, error) {
	for {
		from := max(0, m.scanned-len(endCommand)+1)
		if at := bytes.Index(m.buf[from:], []byte(endCommand)); at >= 0 {
			at += from
			message := m.buf[:at:at]
			m.buf, m.scanned = m.buf[at+len(endCommand):], 0
			if len(m.buf) == 0 && len(message) <= smallMessage {
				m.release()
			}
			return message, nil
		}
		m.scanned = len(m.buf)
		if err := m.read(); err != nil {
			return nil, err
		}
	}
}

func (m *messages) read() error {
	if len(m.buf) >= smallMessage && !m.slot {
		wait := time.NewTimer(m.timeout)
		defer wait.Stop()
		select {
		case m.large <- struct{}{}:
			m.slot = true
		case <-wait.C:
			return os.ErrDeadlineExceeded
		}
	}
	if len(m.buf) >= largeMessage {
		return errHuge
	}
	if len(m.buf) == 0 {
		m.release()
	} else if err := m.conn.SetReadDeadline(time.Now().Add(m.timeout)); err != nil {
		return err
	}
	if len(m.buf) == cap(m.buf) {
		m.buf = append(make([]byte, 0, max(1024, 2*len(m.buf))), m.buf...)
	}
	n, err := m.conn.Read(m.buf[len(m.buf):cap(m.buf)])
	m.buf = m.buf[:len(m.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// release gives the right to a large message back, and its memory.
func (m *messages) release() {
	if m.slot {
		<-m.large
		m.slot = false
	}
	if len(m.buf) == 0 && cap(m.buf) > smallMessage {
		m.buf = nil
	}
}

// peerOf is who is at the other end. For a client it is who called listen.
func peerOf(conn net.Conn) Peer {
	none := Peer{UID: -1}
	if s, ok := conn.(*slotted); ok {
		conn = s.Conn
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return none
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return none
	}
	_ = raw.Control(func(fd uintptr) { // what cannot be asked stays unknown
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			none = Peer{UID: int(c.Uid), PID: int(c.Pid)}
		}
	})
	return none
}

// A Fail2BanClient speaks to a server with Fail2Ban's protocol, the original's or ours.
// It is not safe for concurrent use.
type Fail2BanClient struct {
	conn net.Conn
	buf  []byte
}

// DialFail2Ban connects to a socket; the error is the system's.
func DialFail2Ban(ctx context.Context, path string) (*Fail2BanClient, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return &Fail2BanClient{conn: conn}, nil
}

// ErrProtocol is wrapped by Ask's error when the reply is none of Fail2Ban's.
var ErrProtocol = errors.New("the reply is not understood")

// Ask sends a command and waits for its answer until ctx ends. What the server refuses
// comes as an *Exception.
func (c *Fail2BanClient) Ask(ctx context.Context, command List) (any, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := Pickle(command)
	if err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(append(b, endCommand...)); err != nil {
		return nil, err
	}
	m := messages{conn: c.conn, timeout: time.Hour, large: make(chan struct{}, 1), buf: c.buf}
	message, err := m.next()
	c.buf = m.buf
	if errors.Is(err, io.EOF) {
		err = unix.ECONNRESET
	}
	if err != nil {
		return nil, err
	}
	v, err := UnpickleReply(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return payload(v)
}

// payload takes a reply apart.
func payload(v any) (any, error) {
	t, ok := v.(Tuple)
	if !ok || len(t) != 2 {
		if text, ok := v.(string); ok && strings.HasPrefix(text, "ERROR: ") {
			return nil, fmt.Errorf("%w: %s", ErrProtocol, text)
		}
		if l, ok := v.(List); ok && len(l) == 1 && l[0] == "SHUTDOWN" {
			return nil, Invalid("the server is shutting down")
		}
		return nil, fmt.Errorf("%w: %s", ErrProtocol, Repr(v))
	}
	if t[0] == int64(0) {
		return t[1], nil
	}
	if o, ok := t[1].(Object); ok {
		e := Exception(o)
		return nil, &e
	}
	return nil, Invalid(Str(t[1]))
}

// Close says goodbye and closes.
func (c *Fail2BanClient) Close() error {
	_, err := io.WriteString(c.conn, closeCommand+endCommand)
	if errors.Is(err, unix.EPIPE) {
		err = nil // it has gone already
	}
	return errors.Join(err, c.conn.Close())
}
