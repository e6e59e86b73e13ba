package test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

// stockHost is a machine with the files of Debian's fail2ban package and this jail.local over them.
func stockHost(t *testing.T, jailLocal string) *host {
	t.Helper()
	h := newHost(t, jailLocal)
	h.check(os.CopyFS(filepath.Join(h.dir, "stock"), os.DirFS(filepath.Join(peertest.Tree(t), "etc/fail2ban"))))
	for _, name := range []string{"jail.conf", "jail.d", "paths-common.conf", "paths-debian.conf", "filter.d", "action.d", "fail2ban.conf"} {
		h.check(os.Rename(filepath.Join(h.dir, "stock", name), filepath.Join(h.dir, name)))
	}
	h.write("fail2ban.local", "[Definition]\nlogtarget = STDERR\nsocket =\npidfile = "+filepath.Join(h.dir, "pid")+"\n")
	return h
}

// echo has the host answer on port 22 what it is told.
func (h *host) echo() {
	h.Helper()
	h.answer(":22", func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
}

// answer has the host take connections at an address until the test ends.
func (h *host) answer(address string, talk func(net.Conn)) {
	h.Helper()
	l, err := h.net.Listen("tcp", address)
	h.check(err)
	h.talkTo(l, talk)
}

// talkTo talks to whoever connects, until the test ends.
func (h *host) talkTo(l net.Listener, talk func(net.Conn)) {
	h.Helper()
	h.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				talk(conn)
			}()
		}
	}()
}

// connects reports whether a client gets through to port 22 from one of its addresses.
func (h *host) connects(client *nstest.Host, from netip.Addr) bool {
	h.Helper()
	to := nstest.Server4
	if from.Is6() {
		to = nstest.Server6
	}
	ctx, cancel := context.WithTimeout(h.Context(), 300*time.Millisecond)
	defer cancel()
	conn, err := client.Dial(ctx, "tcp", from, netip.AddrPortFrom(to, 22))
	if err != nil {
		return false
	}
	h.check(conn.Close())
	return true
}

// Debian's own jail.conf with sshd enabled drops the packets of who fails too often, through the
// package's own commands, takes the ban back when it is told to, and leaves nothing behind.
func TestStockActionsBlockPackets(t *testing.T) {
	for _, tt := range []struct {
		name, banaction string
		stays           bool     // at a stop
		list            []string // what shows what the kernel holds
	}{
		{"iptables", "", false, []string{"iptables-save"}},
		{"shell", "banaction = iptables-multiport-log\n", false, []string{"iptables-save"}},
		{"nftables", "banaction = nftables\n", true, []string{"nft", "list", "ruleset"}},
		{"ipset", "banaction = iptables-ipset-proto6\n", true, []string{"ipset", "save"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.list[0]); err != nil {
				peertest.Without(t, tt.list[0]+" is not installed")
			}
			h := stockHost(t, "[DEFAULT]\nignoreself = false\n"+tt.banaction+"[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n")
			client, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8:7::7/64"))
			h.check(err)
			h.echo()
			connects := func(from string) bool { return h.connects(client, netip.MustParseAddr(from)) }
			holds := func() string {
				cmd := exec.Command(tt.list[0], tt.list[1:]...)
				var out strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &out
				h.check(h.net.Start(cmd))
				h.check(cmd.Wait())
				return out.String()
			}
			p := h.start().ready()
			if !connects("192.0.2.7") {
				t.Fatal("nobody is banned, and the client cannot connect")
			}
			h.log("auth.log", strings.Repeat(failed(netip.MustParseAddr("192.0.2.7")), 5)+strings.Repeat(failed(netip.MustParseAddr("2001:db8:7::7")), 5))
			h.until("the client is shut out", func() bool { return !connects("192.0.2.7") && !connects("2001:db8:7::7") })
			if !connects("192.0.2.8") || !connects("2001:db8:7::8") {
				t.Error("its neighbours are, too")
			}
			h.run("unban", "192.0.2.7")
			if !connects("192.0.2.7") || connects("2001:db8:7::7") {
				t.Error("after the unban it cannot connect, or the other one can")
			}
			h.run("ban", "192.0.2.8", "--jail", "sshd")
			if connects("192.0.2.8") {
				t.Error("who was banned by hand connects")
			}

			// A reload to another action takes the bans along and leaves nothing of the old one.
			h.write("jail.local", strings.ReplaceAll("[DEFAULT]\nignoreself = false\nbanaction = bantam\n[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n", "DIR", h.dir))
			h.run("reload")
			h.until("the old action is taken back", func() bool { return !strings.Contains(holds(), "f2b-sshd") && !strings.Contains(holds(), "set-sshd") })
			if connects("192.0.2.8") || connects("2001:db8:7::7") {
				t.Error("after the reload somebody connects who is banned")
			}
			h.write("jail.local", strings.ReplaceAll("[DEFAULT]\nignoreself = false\n"+tt.banaction+"[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n", "DIR", h.dir))
			h.run("reload")
			h.until("the action is back, with the bans", func() bool { return strings.Contains(holds(), "192.0.2.8") })
			if connects("192.0.2.8") || connects("2001:db8:7::7") {
				t.Error("after the second reload somebody connects who is banned")
			}

			// Sets stay, with their timeouts; rules that would not end are lifted at every stop. After it
			// all bans are back.
			nothing := func() {
				t.Helper()
				if !connects("192.0.2.8") {
					t.Error("after the stop who was banned cannot connect")
				}
				if out := holds(); strings.Contains(out, "f2b-") || strings.Contains(out, "set-sshd") {
					t.Errorf("after the stop there is\n%s", out)
				}
			}
			p.terminate()
			if !tt.stays {
				nothing()
			} else if connects("192.0.2.8") || connects("2001:db8:7::7") {
				t.Error("after the stop somebody connects who is banned")
			}
			p = h.start().ready()
			h.until("the bans are back", func() bool { return !connects("192.0.2.8") && !connects("2001:db8:7::7") })
			h.run("stop", "--unban")
			p.wait()
			nothing()
		})
	}
}

// A jail whose action is wrong is set aside, with the place, and the others run; check says who carries
// what out.
func TestWrongActionsSetTheirJailsAside(t *testing.T) {
	h := newHost(t, `[DEFAULT]
logpath = DIR/auth.log
filter = sshd
[good]
enabled = true
action = mine[what="x"]
[bad]
enabled = true
action = broken
`)
	h.check(os.Mkdir(filepath.Join(h.dir, "action.d"), 0o700))
	h.write("action.d/mine.conf", "[Definition]\nactionban = echo <what> <ip> <F-USER> >>"+h.dir+"/out\nactionunban = echo un<ip> >>"+h.dir+"/out\n")
	h.write("action.d/broken.conf", "[Definition]\nactionban = <a>\na = <b>\nb = <a>\n")
	p := h.start().ready()
	if out := h.run("status"); !strings.Contains(out, "bad is set aside: action.d/broken.conf:3: a: <a> refers to itself") {
		t.Errorf("status says\n%s", out)
	}
	h.log("auth.log", strings.Repeat(failed(netip.MustParseAddr("192.0.2.7")), 5))
	out := filepath.Join(h.dir, "out")
	h.until("the action is carried out", func() bool { _, err := os.Stat(out); return err == nil })
	p.terminate()
	text, err := os.ReadFile(out)
	h.check(err)
	if string(text) != "x 192.0.2.7 root\nun192.0.2.7\n" {
		t.Errorf("the action says %q", text)
	}
}
