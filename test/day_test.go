package test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bantam/internal/control"
	"bantam/internal/source"
)

const dayJail = `[DEFAULT]
maxretry = 3
findtime = 5s
bantime = 2s
action = bantam
[sshd]
enabled = true
logpath = DIR/auth.log
[moody]
enabled = true
filter = sshd
logpath = DIR/moody.log
action = moody
[app]
enabled = true
filter = sshd
port = 80
logpath = DIR/app-*.log
action = bantam
         stuck
`

// A day of life in little time: 1440 minutes, each with attackers, a rotation or none, and
// clients on both sockets; actions fail and recover or hang, somebody flushes the ruleset,
// half messages come, the configuration changes. Bans last two seconds. No attacker is missed, and
// memory, descriptors, goroutines, threads and children are at the end what they were
// in the tenth minute.
func TestADayOfLife(t *testing.T) {
	minutes := 60
	if thorough {
		minutes = 24 * 60
	}
	const tenth = 10
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 24))
	t.Logf("seed %d", seed)
	h := newHost(t, dayJail)
	socket := filepath.Join(h.dir, "f2b")
	h.write("bantam.conf", "[Definition]\ndbfile = "+filepath.Join(h.dir, "bantam.db")+"\nsocket = "+socket+"\npidfile =\n")
	h.check(os.Mkdir(filepath.Join(h.dir, "action.d"), 0o700))
	h.write("action.d/moody.conf", strings.ReplaceAll("[Definition]\nactionban = test ! -e DIR/broken && echo <ip> >>DIR/told\nactionunban = test ! -e DIR/broken\n", "DIR", h.dir))
	h.write("action.d/stuck.conf", "[Definition]\nactionban = sleep 100\ntimeout = 1\n")
	h.write("app-1.log", "")
	h.write("moody.log", "")
	h.write("auth.log", "the day begins\n")
	p := h.start().ready()
	bans := p.follow()
	h.until("the logs are read", func() bool { // what is rotated away before nobody knows of
		st, err := control.Call(h.Context(), p.client, control.GetStatus, control.None{})
		h.check(err)
		return !slices.ContainsFunc(st.Jails, func(j control.JailStatus) bool {
			return slices.ContainsFunc(j.Sources, func(s source.Status) bool { return !s.Live })
		})
	})

	var tenthMinute figures
	for minute := 1; minute <= minutes; minute++ {
		// One that must be banned is first and last, whatever happens to the log between.
		first, last := watched(2*minute), watched(2*minute+1)
		before, after := bans.of(first), bans.of(last)
		h.log("auth.log", strings.Repeat(failed(first), 3)+crowd(rng))
		rotation := rng.IntN(4)
		if rotation < 2 { // as logrotate does it
			_ = os.Rename(filepath.Join(h.dir, "auth.log.1"), filepath.Join(h.dir, "auth.log.2")) // there is none at first
		}
		switch rotation {
		case 0:
			h.check(os.Rename(filepath.Join(h.dir, "auth.log"), filepath.Join(h.dir, "auth.log.1")))
		case 1:
			text, err := os.ReadFile(filepath.Join(h.dir, "auth.log"))
			h.check(err)
			h.write("auth.log.1", string(text))
			h.check(os.Truncate(filepath.Join(h.dir, "auth.log"), 0))
		}
		h.log("auth.log", crowd(rng)+strings.Repeat(failed(last), 3))
		h.log("moody.log", strings.Repeat(failed(first), 3))
		switch {
		case minute%20 == 12:
			h.write("broken", "")
		case minute%20 == 18:
			h.check(os.Remove(filepath.Join(h.dir, "broken")))
		case minute%120 == 8:
			h.log("app-1.log", strings.Repeat(failed(first), 3)) // whose action hangs
		case minute%15 == 4:
			_, err := h.net.Output(t.Context(), "nft", "flush", "ruleset")
			h.check(err)
		case minute%25 == 9:
			h.write("jail.local", strings.ReplaceAll(dayJail+"[more]\nenabled = true\nfilter = sshd\nlogpath = DIR/auth.log\nport = 81\n", "DIR", h.dir))
			h.run("reload")
		case minute%25 == 19:
			h.write("jail.local", strings.ReplaceAll(dayJail, "DIR", h.dir))
			h.run("reload")
		}
		half(h, filepath.Join(h.dir, "s"), "POST /v1/bans HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{")
		half(h, socket, "\x80\x04\x95\xff\xff\xff\x7f")
		if minute%10 == 5 {
			ask := exec.CommandContext(t.Context(), program, "-c", h.dir, "-s", socket, "status", "sshd")
			ask.Args[0] = "fail2ban-client"
			if out, err := ask.CombinedOutput(); err != nil || !strings.Contains(string(out), "Currently banned") {
				t.Errorf("fail2ban-client says %q: %v", out, err)
			}
		}
		h.until(fmt.Sprintf("seed %d: minute %d, rotation %d: %s and %s are banned", seed, minute, rotation, first, last), func() bool {
			return bans.of(first) > before && bans.of(last) > after
		})
		if minute == tenth {
			tenthMinute = p.figures()
			t.Logf("in the tenth minute: %+v", tenthMinute)
		}
	}
	_ = os.Remove(filepath.Join(h.dir, "broken"))
	end := p.figures()
	t.Logf("in the last minute:  %+v", end)
	const held = 2 // logs that were just rotated, and who reads them
	if end.files > tenthMinute.files+held || end.goroutines > tenthMinute.goroutines+held || end.children > 0 {
		t.Errorf("seed %d: it began with %+v and ends with %+v", seed, tenthMinute, end)
	}
	// The runtime keeps threads that once were needed, and up to a collection as much again as is used.
	if end.threads > tenthMinute.threads+4 || end.memory > tenthMinute.memory*5/4+8<<20 {
		t.Errorf("seed %d: it began with %+v and ends with %+v", seed, tenthMinute, end)
	}
	told, err := os.ReadFile(filepath.Join(h.dir, "told"))
	h.check(err)
	if n := strings.Count(string(told), "\n"); n < minutes/2 {
		t.Errorf("the action that sometimes fails has told only of %d bans", n)
	}
	p.terminate()
}

// watched is an attacker of a minute, who will be another's only when his ban is long over.
func watched(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, byte(n % 1000 >> 8), byte(n % 1000)})
}

// crowd is what many write, of whom some are banned.
func crowd(rng *rand.Rand) string {
	var text strings.Builder
	for range 30 {
		text.WriteString(strings.Repeat(failed(address(rng.IntN(300))), 1+rng.IntN(3)))
	}
	return text.String()
}

// half sends the beginning of a message to a socket and goes away.
func half(h *host, socket, begin string) {
	h.Helper()
	conn, err := net.Dial("unix", socket)
	h.check(err)
	_, err = io.WriteString(conn, begin)
	h.check(errors.Join(err, conn.Close()))
}

// A daybook is what the daemon has told of its bans.
type daybook struct {
	mu     sync.Mutex // guards banned
	banned map[string]int
}

// follow reads what the daemon prints.
func (p *process) follow() *daybook {
	d := &daybook{banned: map[string]int{}}
	lines := p.lines
	p.lines = make(chan string)
	go func() {
		defer close(p.lines)
		for line := range lines {
			if _, attrs, ok := strings.Cut(line, "banned jail=sshd addr="); ok && !strings.Contains(line, "unbanned") {
				who, _, _ := strings.Cut(attrs, " ")
				d.mu.Lock()
				d.banned[who]++
				d.mu.Unlock()
			}
		}
	}()
	return d
}

// of is how often an address was banned.
func (d *daybook) of(who netip.Addr) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.banned[who.String()]
}

// figures are what a daemon uses.
type figures struct {
	memory                               uint64
	goroutines, files, threads, children int
}

// figures waits until the bans are over and their actions done, and says what is used then.
func (p *process) figures() figures {
	p.Helper()
	var st control.Status
	defer func() {
		if p.Failed() {
			p.Logf("%d bans, %d children, actions: %+v", len(p.bans()), len(p.children()), st.Actions)
		}
	}()
	p.until("all bans are over", func() bool {
		var err error
		st, err = control.Call(p.Context(), p.client, control.GetStatus, control.None{})
		p.check(err)
		for _, a := range st.Actions {
			if a.Pending > 0 || a.Failing > 0 {
				return false
			}
		}
		return len(p.bans()) == 0 && len(p.children()) == 0
	})
	return p.usage()
}

// children are the processes that the daemon has started and that have not ended.
func (p *process) children() (out []string) {
	p.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	p.check(err)
	for _, list := range lists {
		text, _ := os.ReadFile(list) // its thread may have ended
		out = append(out, strings.Fields(string(text))...)
	}
	return out
}
