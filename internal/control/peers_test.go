package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// askAs asks as another user, who is in one group, and returns the status and the body.
func askAs(t *testing.T, socket string, uid, gid int, method, path string) (status int, body string, err error) {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result)
	go func() {
		// The thread is another user's from here on, and ends with the goroutine. The kernel tells
		// the server who connected.
		runtime.LockOSThread()
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS, 0, 0, 0},
			{unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)},
			{unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
		} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				dialed <- result{nil, errno}
				return
			}
		}
		conn, err := net.Dial("unix", socket)
		dialed <- result{conn, err}
	}()
	r := <-dialed
	if r.err != nil {
		return 0, "", r.err
	}
	defer r.conn.Close()
	fmt.Fprintf(r.conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, path)
	resp, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), errors.Join(err, resp.Body.Close())
}

func TestOnlyRootChangesAndAGroupReads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	const stranger, member, group = 64001, 64002, 64100
	var server *Server
	socket := serve(t, func(s *Server) {
		server = s
		Handle(s, Reload, func(context.Context, None) (ReloadReply, error) { return ReloadReply{}, nil })
	})
	for dir := filepath.Dir(socket); strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, uid, gid int, method, path string, want int, text string) {
		t.Helper()
		status, body, err := askAs(t, socket, uid, gid, method, path)
		if want == 0 {
			if !errors.Is(err, os.ErrPermission) {
				t.Errorf("%s: %d, %v", name, status, err)
			}
			return
		}
		if err != nil || status != want || !strings.Contains(body, text) {
			t.Errorf("%s: %d %s, %v; want %d and %s", name, status, body, err, want, text)
		}
	}
	check("root reads", 0, 0, "GET", "/v1/ping", 200, "1.2.3")
	check("root changes", 0, 0, "POST", "/v1/reload", 200, "jails")
	check("a member before the socket is shared", member, group, "GET", "/v1/ping", 0, "")

	if err := server.Share(group); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the shared socket has mode %v, %v", info.Mode(), err)
	}
	check("a member reads", member, group, "GET", "/v1/ping", 200, "1.2.3")
	check("a member reads the description", member, group, "GET", "/v1/openapi", 200, `"openapi":"3.1.0"`)
	check("a member changes", member, group, "POST", "/v1/reload", 403, "/v1/reload changes something, which only root may; you are uid 64002")
	check("a stranger reads", stranger, 64001, "GET", "/v1/ping", 0, "")
	check("root still changes", 0, 0, "POST", "/v1/reload", 200, "jails")

	if err := server.Share(-1); err != nil {
		t.Fatal(err)
	}
	check("a member after that", member, group, "GET", "/v1/ping", 0, "")
	// Who connected while it was open is refused by what is asked, not by the socket alone.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	check("a stranger on an open socket", stranger, 64001, "GET", "/v1/ping", 403, "only root may ask; you are uid 64001")
}

// raw sends bytes and returns all that comes back.
func raw(t *testing.T, socket, text string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // a pipe of this machine takes deadlines
	_, _ = io.WriteString(conn, text)                      // the server may have hung up already
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestBadInputIsRefusedAndEnds(t *testing.T) {
	socket := serve(t, nil)
	const end = "\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, c := range []struct{ name, send, want string }{
		{"garbage", "\x80\x04]q\x00.<F2B_END_COMMAND>\r\n\r\n", " 400 "},
		{"half a request", "GET /v1/pi", ""},
		{"half a head", "GET /v1/ping HTTP/1.1\r\nHost: x\r\n", ""},
		{"a head without end", "GET /v1/ping HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10), " 431 "},
		{"many heads", "GET /v1/ping HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 64<<10), " 431 "},
		{"a length that is no number", "POST /v1/ban HTTP/1.1\r\nContent-Length: 1e9" + end, " 400 "},
		{"a negative length", "POST /v1/ban HTTP/1.1\r\nContent-Length: -1" + end, " 400 "},
		{"a huge length", "POST /v1/ping HTTP/1.1\r\nContent-Length: 9223372036854775807" + end, " 405 "},
		{"a body that does not come", "GET /v1/ping HTTP/1.1\r\nContent-Length: 100" + end, "not understood"},
		{"a chunk of a huge length", "GET /v1/ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nHost: x\r\n\r\nffffffffffffffff\r\nx", " 400 "},
		{"another path", "GET /etc/passwd HTTP/1.1" + end, `there is no request \"GET\" \"/etc/passwd\"`},
		{"a path that climbs", "GET /v1/../ping HTTP/1.1" + end, " 307 "},
		{"another method", "BREW /v1/ping HTTP/1.1" + end, "ask it with GET"},
		{"another protocol", "GET /v1/ping HTTP/9.9" + end, " 505 "},
	} {
		begin := time.Now()
		if got := raw(t, socket, c.send); !strings.Contains(got, c.want) || c.want == "" && got != "" && !strings.Contains(got, " 408 ") && !strings.Contains(got, " 400 ") {
			t.Errorf("%s: %.300q", c.name, got)
		}
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("%s: the end came after %s", c.name, took)
		}
	}
	if _, err := Call(t.Context(), NewClient(socket), Ping, None{}); err != nil {
		t.Error(err)
	}
}

// A thousand connections that ask nothing, or half of something, keep nobody out for long.
func TestAThousandConnectionsKeepNobodyOut(t *testing.T) {
	socket := serve(t, nil)
	begin := make([]net.Conn, 0, 1000)
	for i := range 1000 {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("unix", socket)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		begin = append(begin, conn)
		if i%10 == 9 {
			_, _ = io.WriteString(conn, "GET /v1/pi") // it may be closed already
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	for range 20 {
		if pong, err := Call(ctx, NewClient(socket), Ping, None{}); err != nil || pong.PID != 42 {
			t.Fatal(err)
		}
	}
	for _, conn := range begin {
		_ = conn.Close() // some are
	}
}

// Who does not read a long answer is cut off, and keeps nobody out.
func TestASlowReaderIsCutOff(t *testing.T) {
	long := ReloadReply{Jails: []string{strings.Repeat("x", 8<<20)}}
	socket := serve(t, func(s *Server) {
		Handle(s, Reload, func(context.Context, None) (ReloadReply, error) { return long, nil })
	})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/reload HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := conn.Read(one); err != nil {
		t.Fatal(err)
	}
	if _, err := Call(t.Context(), NewClient(socket), Ping, None{}); err != nil {
		t.Error(err)
	}
	// The kernel says that the other end has hung up once the server has had enough.
	rawConn, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var polled int
	var pollErr error
	err = rawConn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		for {
			if polled, pollErr = unix.Poll(fds, 10_000); !errors.Is(pollErr, unix.EINTR) {
				return
			}
		}
	})
	if err != nil || pollErr != nil || polled == 0 {
		t.Errorf("the slow reader is still served: %v, %v", err, pollErr)
	}
}
