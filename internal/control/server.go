package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Bounds on what a client can make the daemon hold.
const (
	maxRequest     = 1 << 20 // bytes of a request's body
	maxConnections = 256
	ioTimeout      = 30 * time.Second // of a client that is slow to write or read
	askTimeout     = 2 * time.Second  // of whoever holds the socket already
)

// A Server answers requests on a socket.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
}

// Listen opens the socket, which only its owner can. A socket that a killed daemon
// left behind is replaced; one on which somebody answers is refused with an Error.
func Listen(path string) (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if pong, err := Call(ctx, NewClient(path), Ping, None{}); err == nil {
		return nil, &Error{
			Text: fmt.Sprintf("another Bantam (pid %d) answers on %s", pong.PID, path),
			Hint: "stop it with: bantam stop; or give this one another --socket",
		}
	}
	l, err := openSocket(path, 0o600, "choose another place with --socket")
	if err != nil {
		return nil, err
	}
	return &Server{listener: l, mux: http.NewServeMux()}, nil
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
		if conn, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(&Error{
				Text: fmt.Sprintf("the socket %s is in use by another program", path),
				Hint: hint,
			}, conn.Close())
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
		if r.ContentLength != 0 {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
			d.DisallowUnknownFields()
			if err := d.Decode(&req); err != nil {
				answer(w, http.StatusBadRequest, Refuse("docs/formats/control.md describes every request", "the request is not understood: %s", err))
				return
			}
		}
		reply, err := f(r.Context(), req)
		var known *Error
		switch {
		case err == nil:
			answer(w, http.StatusOK, reply)
		case errors.As(err, &known):
			status := known.Status
			if status == 0 {
				status = http.StatusInternalServerError
			}
			answer(w, status, known)
		default:
			answer(w, http.StatusInternalServerError, &Error{Text: err.Error()})
		}
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that went away needs no answer.
	_ = json.NewEncoder(w).Encode(body)
}

// Run answers until ctx ends, then finishes the requests it has begun, for at
// most a second, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.mux, ReadHeaderTimeout: ioTimeout, ReadTimeout: ioTimeout,
		IdleTimeout: ioTimeout, MaxHeaderBytes: 16 << 10,
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
}

func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.slots <- struct{}{}
	return &slotted{Conn: conn, free: func() { <-l.slots }}, nil
}

func (l *limited) Close() error {
	return errors.Join(l.Listener.Close(), os.Remove(l.path))
}
