package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds on what a client can make the daemon hold.
const (
	maxRequest     = 1 << 20 // bytes of a request's body
	maxConnections = 256
	maxHeader      = 16 << 10         // bytes of a request's head
	headTimeout    = 5 * time.Second  // from a connection's first byte to the end of a request's head
	ioTimeout      = 30 * time.Second // of a client that is slow to write or read
	askTimeout     = 2 * time.Second  // of whoever holds the socket already
)

// A Server answers requests on a socket.
//
// Who asks is known by the uid that the kernel tells. Root, and whom the daemon runs as, may ask
// everything; members of the group that Share names may ask what changes nothing.
type Server struct {
	listener net.Listener
	path     string
	mux      *http.ServeMux
	shared   atomic.Bool // a group may read

	mu    sync.Mutex             // guards quiet
	quiet map[net.Conn]time.Time // connections that ask nothing, since when; their order is that of age

	patience time.Duration // ioTimeout, but for tests
}

// Listen opens the socket, which only its owner can. A socket that a killed daemon
// left behind is replaced; one on which somebody answers is refused with an Error.
func Listen(path string) (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if pong, err := Call(ctx, NewClient(path), Ping, None{}); err == nil {
		return nil, &Error{
			Text: fmt.Sprintf("another Bantam (pid %d) answers on %s", pong.PID, path),
			Hint: "stop it with: bantam stop; or give this one another --socket", Status: http.StatusConflict,
		}
	}
	l, err := openSocket(path, 0o600, "choose another place with --socket")
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, path: path, mux: http.NewServeMux(), quiet: map[net.Conn]time.Time{}, patience: ioTimeout}
	l.(*limited).full = s.evict
	s.mux.HandleFunc("/", s.unknown)
	Handle(s, GetOpenAPI, func(context.Context, None) (Document, error) { return Describe(), nil })
	return s, nil
}

// Share lets the members of a group, by its number, ask what changes nothing: they can open the
// socket then. A negative number takes that back. It may be called at any time.
func (s *Server) Share(gid int) error {
	s.shared.Store(gid >= 0)
	mode := fs.FileMode(0o600)
	err := os.Chmod(s.path, mode)
	if err == nil && gid >= 0 {
		if err = os.Chown(s.path, -1, gid); err == nil {
			mode = 0o660
			err = os.Chmod(s.path, mode)
		}
	}
	if err != nil {
		s.shared.Store(false)
		return fmt.Errorf("open the socket to group %d: %w", gid, err)
	}
	return nil
}

// peerKey is what a connection's context knows its Peer by.
type peerKey struct{}

// refuse says why who asks may not, or nil.
func (s *Server) refuse(r *http.Request, reads bool) *Error {
	peer, _ := r.Context().Value(peerKey{}).(Peer)
	switch {
	case peer.UID == 0 || peer.UID == os.Geteuid():
		return nil
	case peer.UID > 0 && reads && s.shared.Load():
		return nil
	case peer.UID > 0 && s.shared.Load():
		return &Error{
			Text: fmt.Sprintf("%s changes something, which only root may; you are uid %d", r.URL.Path, peer.UID),
			Hint: "use sudo", Status: http.StatusForbidden,
		}
	}
	return &Error{
		Text: fmt.Sprintf("only root may ask; you are uid %d", peer.UID),
		Hint: "use sudo, or let a group read with apigroup in bantam.conf", Status: http.StatusForbidden,
	}
}

// unknown answers what is no request.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, e := range described {
		if e.path == r.URL.Path {
			methods = append(methods, e.method)
		}
	}
	err := &Error{
		Text: fmt.Sprintf("there is no request %.10q %.100q", r.Method, r.URL.Path),
		Hint: "GET /v1/openapi describes every request", Status: http.StatusNotFound,
	}
	if len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		err.Status, err.Hint = http.StatusMethodNotAllowed, "ask it with "+strings.Join(methods, " or ")
	}
	s.answer(w, err.Status, err)
}

// watch keeps count of the connections that ask nothing.
func (s *Server) watch(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew || state == http.StateIdle {
		s.quiet[conn] = time.Now()
	} else {
		delete(s.quiet, conn)
	}
}

// evict closes the connection that has asked nothing for the longest time, if there is one, so that
// connections which nobody uses keep nobody out.
func (s *Server) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest net.Conn
	for conn, since := range s.quiet {
		if oldest == nil || since.Before(s.quiet[oldest]) {
			oldest = conn
		}
	}
	if oldest != nil {
		delete(s.quiet, oldest)
		_ = oldest.Close() // its end is what is wanted
	}
}

// openSocket listens on a socket of that mode in place of one that nobody answers on;
// hint is the way on if the place is taken.
func openSocket(path string, mode fs.FileMode, hint string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w", err)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, &Error{
			Text: fmt.Sprintf("%s is in the way: it is not a socket", path),
			Hint: "move it away, or " + hint,
		}
	default:
		conn, err := net.Dial("unix", path)
		if err == nil {
			err = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // EAGAIN is a program that has no time: unix(7)
			return nil, errors.Join(&Error{
				Text: fmt.Sprintf("the socket %s is in use by another program", path),
				Hint: hint,
			}, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the stale socket: %w", err)
		}
	}
	// The socket is made under another name and moved into place once its mode is
	// set, so that it is never open to others.
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	l, err := net.Listen("unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("open the socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, mode); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the socket %s: %w", path, err), l.Close(), os.Remove(fresh))
	}
	return &limited{Listener: l, path: path, slots: make(chan struct{}, maxConnections)}, nil
}

// Handle answers a request with f. What f gets is the client's and may hold
// anything. An *Error goes to the client as it is.
func Handle[Request, Reply any](s *Server, e Endpoint[Request, Reply], f func(context.Context, Request) (Reply, error)) {
	s.mux.HandleFunc(e.Method+" "+e.Path, func(w http.ResponseWriter, r *http.Request) {
		var req Request
		if !s.admit(w, r, e.Reads, &req) {
			return
		}
		reply, err := f(r.Context(), req)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.answer(w, http.StatusOK, reply)
	})
}

// admit reads a request into req, or says why it is not answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, reads bool, req any) bool {
	if err := s.refuse(r, reads); err != nil {
		s.answer(w, err.Status, err)
		return false
	}
	if err := read(http.MaxBytesReader(w, r.Body, maxRequest), req); err != nil {
		s.answer(w, http.StatusBadRequest, Refuse("docs/formats/control.md describes every request", "the request is not understood: %s", err))
		return false
	}
	return true
}

// fail answers that something could not be done.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var known *Error
	if !errors.As(err, &known) {
		s.answer(w, http.StatusInternalServerError, &Error{Text: err.Error()})
		return
	}
	status := known.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	s.answer(w, status, known)
}

// read reads a request's body: nothing, or one JSON value that says nothing unknown.
func read(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows behind it")
	}
	return nil
}

// answer sends a body as JSON. However long it took to make it, the client has the server's patience to read it.
func (s *Server) answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // a value of ours that has no JSON
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.patience)) // a connection that is gone says so at the write
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a client that went away needs no answer
}

// Run answers until ctx ends, then finishes the requests it has begun, for at
// most a second, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: min(headTimeout, s.patience), ReadTimeout: s.patience,
		IdleTimeout: s.patience, MaxHeaderBytes: maxHeader, ConnState: s.watch,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("answer on the socket: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // whoever is slower than that is cut off
	}
	<-ended
	return nil
}

// Close closes a server that never ran.
func (s *Server) Close() error { return s.listener.Close() }

// limited accepts a bounded number of connections at a time, and removes its
// socket when it is closed, unless somebody else has put theirs there.
type limited struct {
	net.Listener
	path  string
	slots chan struct{}
	full  func() // makes room; may be nil
}

func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case l.slots <- struct{}{}:
	default:
		if l.full != nil {
			l.full()
		}
		l.slots <- struct{}{}
	}
	return &slotted{Conn: conn, free: func() { <-l.slots }}, nil
}

func (l *limited) Close() error {
	return errors.Join(l.Listener.Close(), os.Remove(l.path))
}
