package cli

import (
	"bufio"
	"context"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/library"
)

// aDaemon runs one that only observes, and returns its socket.
func aDaemon(t *testing.T) (socket string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"jail.local":  "[DEFAULT]\nobserve = true\nignoreself = false\n[sshd]\nenabled = true\nlogpath = " + dir + "/a.log\n",
		"bantam.conf": "[Definition]\ndbfile = None\n", "a.log": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	socket = filepath.Join(dir, "s")
	d, err := daemon.New(ctx, daemon.Options{Config: dir, Library: library.FS, Socket: socket, PIDFile: dir + "/pid", Stderr: io.Discard})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// run runs a command line; what it prints comes line by line.
func run(t *testing.T, args ...string) (stdout, stderr *bufio.Scanner, code <-chan int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	out, outW := io.Pipe()
	errs, errsW := io.Pipe()
	done := make(chan int, 1)
	go func() {
		n := Main(ctx, append([]string{"bantam"}, args...), library.FS, outW, errsW)
		_, _ = outW.Close(), errsW.Close() // nobody has to read on
		done <- n
	}()
	return bufio.NewScanner(out), bufio.NewScanner(errs), done
}

func TestWatchPrintsWhatHappens(t *testing.T) {
	socket := aDaemon(t)
	stdout, stderr, code := run(t, "watch", "--socket", socket)
	if !stderr.Scan() || stderr.Text() != "watching; ctrl-c ends it" {
		t.Fatalf("%q", stderr.Text())
	}
	c := control.NewClient(socket)
	id := address("192.0.2.7")
	if _, err := control.Call(t.Context(), c, control.Import, control.ImportRequest{Bans: []control.ImportBan{{ID: id, Seconds: 600, Reason: "a\x1b[2J"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Call(t.Context(), c, control.Unban, control.UnbanRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Call(t.Context(), c, control.Stop, control.StopRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`ban      manual      192.0.2.7           for 10m, by hand, a\x1b[2J, observed only`,
		"unban    manual      192.0.2.7           by hand, observed only",
		"stop     the daemon stops",
	} {
		if !stdout.Scan() || !strings.HasSuffix(stdout.Text(), "  "+want) {
			t.Errorf("%q\nwant %q", stdout.Text(), want)
		}
	}
	if !stderr.Scan() || stderr.Text() != "bantam: no Bantam is running here any more" || !stderr.Scan() {
		t.Errorf("%q", stderr.Text())
	}
	if n := <-code; n != ExitNotRunning {
		t.Errorf("it ends with %d", n)
	}
}

// A stream that breaks off is told of; so is JSON printed as it comes, a line each.
func TestWatchTellsOfAStreamThatBreaksOff(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	server, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	control.HandleStream(server, control.Watch, func(context.Context, control.WatchRequest) (iter.Seq[[]control.Event], error) {
		return func(yield func([]control.Event) bool) { yield(someEvents()[2:3]) }, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stdout, stderr, code := run(t, "watch", "--json", "--socket", socket)
	if !stdout.Scan() || !strings.HasPrefix(stdout.Text(), `{"at":"`) || !strings.Contains(stdout.Text(), `"user":"eve\u001b[2J\n"`) {
		t.Errorf("%q", stdout.Text())
	}
	var rest []string
	for stdout.Scan() {
		rest = append(rest, stdout.Text())
	}
	if text := strings.Join(rest, "\n"); !strings.Contains(text, "the daemon has broken off") || stderr.Scan() {
		t.Errorf("%q", text)
	}
	if n := <-code; n != ExitFailed {
		t.Errorf("it ends with %d", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzWhatIsWatchedIsOneSafeLine(f *testing.F) {
	for _, e := range someEvents() {
		f.Add(e.Kind, e.Jail, e.User, e.Text, e.Country)
	}
	f.Fuzz(func(t *testing.T, kind, jail, user, text, country string) {
		e := control.Event{Kind: kind, Jail: jail, User: user, Text: text, Country: country, ID: address("192.0.2.7")}
		line, _ := eventText(&e)
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e }) || len(line) > 400+12*(len(kind)+len(jail)+len(user)+len(text)+len(country)) {
			t.Errorf("%q", line)
		}
	})
}
