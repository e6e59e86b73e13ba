// Package test tries the whole daemon: the program itself, on real logs, in a
// network of its own, against the real kernel.
package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bantam"
	_ "bantam/internal/cli" // so that a change of the program is a change of these tests
	"bantam/internal/control"
	"bantam/internal/firewall"
	"bantam/internal/nstest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// program is the executable that TestMain has built.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bantam-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "bantam")
	build := exec.Command("go", "build", "-o", program, "bantam/cmd/bantam")
	build.Stderr = os.Stderr
	if err := errors.Join(build.Run(), os.Chmod(dir, 0o755)); err != nil {
		fmt.Fprintln(os.Stderr, "build the program:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A host is a machine of a test: a network, a folder, and the program on it.
type host struct {
	*testing.T
	net    *nstest.Net
	kernel *firewall.NFTables
	dir    string
	client *control.Client
}

// newHost makes a machine whose jail.local is the given text; DIR stands for its
// folder there.
func newHost(t *testing.T, jailLocal string) *host {
	t.Helper()
	network := nstest.New(t)
	kernel, err := firewall.OpenNFTables(firewall.Options{NetNS: network.FD()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &host{T: t, net: network, kernel: kernel, dir: dir, client: control.NewClient(filepath.Join(dir, "s"))}
	t.Cleanup(func() { h.check(kernel.Close()) })
	h.write("jail.local", strings.ReplaceAll(jailLocal, "DIR", dir))
	h.write("bantam.conf", "[Definition]\ndbfile = "+filepath.Join(dir, "bantam.db")+"\npidfile = "+filepath.Join(dir, "pid")+"\n")
	h.write("auth.log", "")
	return h
}

func (h *host) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) write(name, text string) {
	h.Helper()
	h.check(os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600))
}

// log appends to a file of the host.
func (h *host) log(name, text string) {
	h.Helper()
	f, err := os.OpenFile(filepath.Join(h.dir, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	h.check(err)
	_, err = f.WriteString(text)
	h.check(errors.Join(err, f.Close()))
}

// failed is a line of sshd, now.
func failed(from netip.Addr) string {
	b := from.As16()
	return fmt.Sprintf("%s gate sshd[%d]: Failed password for root from %s port 4000 ssh2\n",
		time.Now().Format(time.Stamp), 1000+int(b[14])<<8+int(b[15]), from)
}

// A process is the daemon while it runs.
type process struct {
	*host
	cmd   *exec.Cmd
	lines chan string // what it prints; closed at its end
}

// command is the program with the host's folder and socket.
func (h *host) command(args ...string) *exec.Cmd {
	return exec.Command(program, append(args, "-c", h.dir, "--socket", filepath.Join(h.dir, "s"))...)
}

// start runs the daemon and returns at once.
func (h *host) start() *process {
	h.Helper()
	return h.startAs(h.command("run"))
}

// startAs is start with a command of the test's own.
func (h *host) startAs(cmd *exec.Cmd) *process {
	h.Helper()
	lines := make(chan string, 1<<16)
	p := &process{host: h, cmd: cmd, lines: lines}
	pipe, err := p.cmd.StdoutPipe()
	h.check(err)
	p.cmd.Stderr = p.cmd.Stdout
	h.check(h.net.Start(p.cmd))
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(pipe); s.Scan(); {
			lines <- s.Text()
		}
		_, _ = io.Copy(io.Discard, pipe)
	}()
	h.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
		}
	})
	return p
}

// kill ends the daemon without a word.
func (p *process) kill() {
	p.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.Fatal(err)
	}
	for range p.lines { // its output ends with it
	}
	_ = p.cmd.Wait()
}

// wait waits until the daemon has ended, and wants exit code 0.
func (p *process) wait() {
	p.Helper()
	var last []string
	for line := range p.lines {
		last = append(last, line)
	}
	if err := p.cmd.Wait(); err != nil {
		p.Fatalf("the daemon ended with %v:\n%s", err, strings.Join(last, "\n"))
	}
}

// terminate stops the daemon as systemd does.
func (p *process) terminate() {
	p.Helper()
	p.check(p.cmd.Process.Signal(syscall.SIGTERM))
	p.wait()
}

// until asks again and again until something is so.
func (h *host) until(what string, so func() bool) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	for tick := time.Tick(2 * time.Millisecond); !so(); {
		select {
		case <-tick:
		case <-ctx.Done():
			h.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// ready waits until the daemon answers.
func (p *process) ready() *process {
	p.Helper()
	p.until("the daemon answers", func() bool {
		_, err := control.Call(p.Context(), p.client, control.Ping, control.None{})
		return err == nil
	})
	return p
}

// run runs a command and returns what it prints.
func (h *host) run(args ...string) string {
	h.Helper()
	cmd := h.command(args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.Fatalf("bantam %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// banned is what the kernel holds for a jail, prefix to end.
func (h *host) banned(jail string) map[netip.Prefix]time.Time {
	h.Helper()
	elements, err := h.kernel.Elements(jail)
	h.check(err)
	out := map[netip.Prefix]time.Time{}
	for _, e := range elements {
		out[e.Prefix] = e.End
	}
	return out
}

// bans is what the daemon says.
func (h *host) bans() []bantam.Ban {
	h.Helper()
	reply, err := control.Call(h.Context(), h.client, control.GetBans, control.BansRequest{})
	h.check(err)
	return reply.Bans
}

// address is the n-th of many attackers.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)})
}
