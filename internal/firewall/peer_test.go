package firewall

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

// A peer is Fail2Ban's own action code, which runs the stock files of its package.
type peer struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Scanner
}

// peerTree is the unpacked package, once for all tests.
var (
	peerTree string
	peerOnce sync.Mutex
)

func TestMain(m *testing.M) {
	code := m.Run()
	if peerTree != "" {
		_ = os.RemoveAll(peerTree)
	}
	os.Exit(code)
}

// newPeer starts the peer, on a host if there is one.
func newPeer(t testing.TB, host *nstest.Net) *peer {
	t.Helper()
	peerOnce.Lock()
	defer peerOnce.Unlock()
	if peerTree == "" {
		dir, err := os.MkdirTemp("", "bantam-peer-")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(peertest.Tree(t), filepath.Join(dir, "tree")); err != nil {
			t.Fatal(err)
		}
		peerTree = dir
	}
	tree := filepath.Join(peerTree, "tree")
	cmd := exec.Command(peertest.Python(), "testdata/peer.py", tree)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := cmd.Start
	if host != nil {
		start = func() error { return host.Start(cmd) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	p := &peer{t: t, in: in, out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 1<<20)
	return p
}

type peerQuestion struct {
	Action  string            `json:"action"`
	Jail    string            `json:"jail"`
	Options map[string]string `json:"options"`
	Do      string            `json:"do"`
	IP      string            `json:"ip,omitempty"`
}

type peerAnswer struct {
	Commands map[string]map[string]string `json:"commands"`
	Error    string                       `json:"error"`
}

func (p *peer) ask(q peerQuestion) peerAnswer {
	p.t.Helper()
	b, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("the peer has ended: %v", p.out.Err())
	}
	var a peerAnswer
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		p.t.Fatalf("the peer said %q: %v", p.out.Bytes(), err)
	}
	return a
}

// do has the peer do something that must work.
func (p *peer) do(q peerQuestion) {
	p.t.Helper()
	if a := p.ask(q); a.Error != "" {
		p.t.Fatalf("the peer's %s %s of %q: %s", q.Action, q.Do, q.IP, a.Error)
	}
}

// commands are an action's, of both families.
func (p *peer) commands(action, jail string, options map[string]string) (inet4, inet6 *Commands) {
	p.t.Helper()
	a := p.ask(peerQuestion{Action: action, Jail: jail, Options: options, Do: "commands"})
	if a.Error != "" {
		p.t.Fatalf("the peer's %s: %s", action, a.Error)
	}
	of := func(family string) *Commands {
		c := a.Commands[family]
		return &Commands{
			Start: c["actionstart"], Stop: c["actionstop"], Check: c["actioncheck"],
			Ban: c["actionban"], Unban: c["actionunban"], Flush: c["actionflush"],
		}
	}
	return of("inet4"), of("inet6")
}
