package doctor

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/source"
)

// Where anybody may put a log, somebody puts a pipe, a link to a secret or to a device: nothing waits for it, and
// nothing of it is told.
func TestLogsThatSomebodyPlanted(t *testing.T) {
	b := newBench(t, "[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/*/access.log\n")
	const secret = "root:$6$swordfish:19000:0:99999:7:::\n"
	b.write(b.root, "shadow", strings.Repeat(secret, 200))
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := os.Mkdir(filepath.Join(b.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(b.dir, name, "access.log") }
	for _, err := range []error{
		unix.Mkfifo(at("a"), 0o600), os.Symlink(filepath.Join(b.root, "shadow"), at("b")), os.Symlink("/dev/zero", at("c")), os.Symlink(at("d"), at("d")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.lookAtSources(t.Context())
		for _, name := range []string{"a", "b", "c", "d"} {
			b.lookAtForm(log{Status: source.Status{Name: at(name), State: source.Reading}, jails: []string{"sshd"}})
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a pipe")
	}
	said := strings.Join(b.found(), "\n")
	for _, want := range []string{"a/access.log is not a regular file", "c/access.log is not a regular file", "too many levels of symbolic links"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q, but\n%s", want, said)
		}
	}
	if strings.Contains(said, "swordfish") {
		t.Errorf("it tells a secret:\n%s", said)
	}
}

// --fix takes away a socket that is dead, and not one whose owner is only busy, nor what a link leads to.
func TestFixRemovesOnlyDeadSockets(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(path string) // what stands there when it is repaired
		gone bool
	}{
		{"a dead one", func(path string) { listenOn(t, path, false) }, true},
		{"a busy one", func(path string) {
			listenOn(t, path, true)
			for range 8 { // until the queue is full
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = unix.Close(fd) })
				_ = unix.Connect(fd, &unix.SockaddrUnix{Name: path}) // the last ones are told to wait
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, oneJail)
			b.Socket = filepath.Join(t.TempDir(), "s")
			listenOn(t, b.Socket, false)
			b.lookAtSocket()
			if len(b.checks) != 1 || b.checks[0].repair == nil {
				t.Fatalf("it says %+v", b.checks)
			}
			if err := os.Remove(b.Socket); err != nil {
				t.Fatal(err)
			}
			c.put(b.Socket)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := b.checks[0].repair(ctx)
			if _, there := os.Lstat(b.Socket); (there != nil) != c.gone || (err == nil) != c.gone {
				t.Errorf("it says %v, and the socket is there: %v", err, there == nil)
			}
		})
	}
	b := newBench(t, oneJail)
	b.Socket = filepath.Join(t.TempDir(), "s")
	target := filepath.Join(t.TempDir(), "other")
	listenOn(t, target, false)
	if err := os.Symlink(target, b.Socket); err != nil {
		t.Fatal(err)
	}
	b.lookAtSocket()
	if slices.ContainsFunc(b.checks, func(c Check) bool { return c.repair != nil }) {
		t.Error("a link is to be repaired")
	}
}

// listenOn makes a socket that one at a time may wait at, alive or left behind.
func listenOn(t *testing.T, path string, alive bool) {
	t.Helper()
	if !alive {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(fd) })
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}
