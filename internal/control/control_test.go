package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"bantam"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a socket of the test's own until it ends.
func serve(t *testing.T, handle func(*Server)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "bantam.sock")
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Second
	Handle(s, Ping, func(context.Context, None) (Pong, error) { return Pong{"1.2.3", 42}, nil })
	if handle != nil {
		handle(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return socket
}

func TestRequestsAreAnswered(t *testing.T) {
	want := BanRequest{Jail: "sshd", ID: bantam.TextID("x\x00<y>"), Seconds: -1, Reason: "ö"}
	socket := serve(t, func(s *Server) {
		Handle(s, Ban, func(_ context.Context, r BanRequest) (BanReply, error) {
			if r != want {
				t.Errorf("asked for %+v", r)
			}
			return BanReply{Ban: bantam.Ban{ID: r.ID}}, nil
		})
		Handle(s, Unban, func(context.Context, UnbanRequest) (UnbanReply, error) {
			return UnbanReply{}, Refuse("the way on", "no %d", 7)
		})
		Handle(s, Stop, func(context.Context, StopRequest) (None, error) { return None{}, errors.New("broken") })
	})
	c := NewClient(socket)
	reply, err := Call(t.Context(), c, Ban, want)
	if err != nil || reply.Ban.ID != want.ID {
		t.Errorf("%+v, %v", reply, err)
	}
	var refused *Error
	if _, err := Call(t.Context(), c, Unban, UnbanRequest{}); !errors.As(err, &refused) || refused.Text != "no 7" || refused.Hint != "the way on" {
		t.Errorf("a refusal arrives as %v", err)
	}
	if _, err := Call(t.Context(), c, Stop, StopRequest{}); err == nil || err.Error() != "broken" {
		t.Errorf("a failure arrives as %v", err)
	}
	if _, err := Call(t.Context(), c, Reload, None{}); err == nil || err.Error() != `there is no request "POST" "/v1/reload"` && !strings.Contains(err.Error(), "ask it with") {
		t.Errorf("what nobody handles answers %v", err)
	}
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	socket := serve(t, func(s *Server) {
		Handle(s, Ban, func(context.Context, BanRequest) (BanReply, error) {
			t.Error("a wrong request was handled")
			return BanReply{}, nil
		})
	})
	for _, c := range []struct{ name, body, want string }{
		{"no JSON", "jail=sshd", "400"},
		{"an unknown field", `{"jial":"sshd"}`, "jial"},
		{"two requests in one", `{"jail":"sshd"}{"jail":"x"}`, "something follows"},
		{"garbage behind it", `{"jail":"sshd"} x`, "something follows"},
		{"a request that goes very deep", strings.Repeat(`{"jail":`, 20000), "400"},
		{"a list", `[1]`, "400"},
		{"a text for a number", `{"seconds":"1h"}`, "400"},
		{"a body that is too long", `{"reason":"` + strings.Repeat("x", maxRequest) + `"}`, "too large"},
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.WriteString("POST /v1/ban HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
		b.WriteString(strconv.FormatInt(int64(len(c.body)), 16) + "\r\n" + c.body + "\r\n0\r\n\r\n")
		if _, err := conn.Write(b.Bytes()); err != nil && len(c.body) < maxRequest {
			t.Fatal(err)
		}
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(bufio.NewReader(conn)); err != nil && answer.Len() == 0 {
			t.Fatal(err)
		}
		if !strings.Contains(answer.String(), c.want) || !strings.Contains(answer.String(), " 400 ") {
			t.Errorf("%s: %s", c.name, answer.String())
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no.sock")
	if _, err := Call(t.Context(), NewClient(missing), Ping, None{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a missing socket: %v", err)
	}
	stale := filepath.Join(t.TempDir(), "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Call(t.Context(), NewClient(stale), Ping, None{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a stale socket: %v", err)
	}
	s, err := Listen(stale)
	if err != nil {
		t.Fatalf("a stale socket is not replaced: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestASocketInUseIsRefused(t *testing.T) {
	ours := serve(t, nil)
	foreign := filepath.Join(t.TempDir(), "foreign.sock")
	l, err := net.Listen("unix", foreign)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // it is no HTTP that is spoken here
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello\n"))
			_ = conn.Close()
		}
	}()
	defer l.Close()
	busy := filepath.Join(t.TempDir(), "busy.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: busy}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 8 { // until the queue is full
		waiting, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(waiting) }()
		_ = unix.Connect(waiting, &unix.SockaddrUnix{Name: busy}) // the last ones are told to wait
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"by Bantam", ours, "another Bantam (pid 42)"},
		{"by another program", foreign, "in use by another program"},
		{"by another program that has no time", busy, "in use by another program"},
		{"by a file", file, "is in the way"},
	} {
		var refused *Error
		if _, err := Listen(c.path); !errors.As(err, &refused) || !strings.Contains(refused.Text, c.want) || refused.Hint == "" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "keep me" {
		t.Errorf("the file in the way is %q, %v", text, err)
	}
}

// A daemon of another version may not know a request; the answer has a way on.
func TestAnotherVersionIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan error, 1)
	go func() { done <- old.Serve(l) }()
	_, err = Call(t.Context(), NewClient(path), GetHistory, HistoryRequest{})
	var refused *Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "404 Not Found to /v1/") || !strings.Contains(refused.Hint, "another version") {
		t.Errorf("a request that it does not know ends with %v", err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// A client that says nothing does not keep others from being answered.
func TestSilentClientsDelayNobody(t *testing.T) {
	socket := serve(t, nil)
	var idle []net.Conn
	for range 50 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := Call(ctx, NewClient(socket), Ping, None{}); err != nil {
		t.Error(err)
	}
	for _, conn := range idle {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
