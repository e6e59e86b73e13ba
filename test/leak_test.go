package test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/nstest"
)

// thorough is set by `make test-long`: the proofs then run in full size.
var thorough = os.Getenv("BANTAM_LONG") != ""

// leakJail is a jail of UDP, whose packets need no connection: each one stands for itself.
const leakJail = `[sshd]
enabled = true
backend = auto
logpath = DIR/auth.log
port = 9
protocol = udp
maxretry = 3
findtime = 1h
bantime = 1d
`

// offender is one of many; every tenth has IPv6, a network of its own.
func offender(n int) netip.Addr {
	if n%10 != 9 {
		return address(n)
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 8), byte(n), 14: byte(n >> 8), 15: byte(n)})
}

// With many bans and packets from all banned addresses, the daemon is restarted,
// reloaded and killed again and again, at moments of its own: not one of the packets
// arrives, and those of others all do, as often as they are asked for.
func TestNoPacketOfABannedAddressPasses(t *testing.T) {
	bans, turns := 1000, 5
	if thorough {
		bans, turns = 10000, 50
	}
	for _, banaction := range []string{"bantam", "nftables", "iptables-ipset"} {
		t.Run(banaction, func(t *testing.T) { noPacketPasses(t, banaction, bans, turns) })
	}
}

func noPacketPasses(t *testing.T, banaction string, bans, turns int) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 9))
	t.Logf("seed %d", seed)
	jails := []string{ // what one reload after the other finds
		"[DEFAULT]\nbanaction = " + banaction + "\n" + leakJail,
		"[DEFAULT]\nbanaction = " + banaction + "\nfindtime = 30m\nignoreip = 192.0.2.200\n" + strings.ReplaceAll(leakJail, "bantime = 1d", "bantime = 2d"),
		"[DEFAULT]\nbanaction = " + banaction + "\n" + leakJail + "[web]\nenabled = true\nfilter = sshd\nbackend = auto\nlogpath = DIR/web.log\nport = 80\n",
	}
	open := stockHost
	if banaction == "bantam" {
		open = newHost
	}
	h := open(t, jails[0])
	h.write("web.log", "")
	client, err := h.net.AddClient("client", netip.MustParsePrefix("203.0.0.0/16"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("198.51.100.1/24"))
	h.check(err)
	var log strings.Builder
	for i := range bans {
		log.WriteString(strings.Repeat(failed(offender(i)), 3))
	}
	p := h.start().ready()
	h.log("auth.log", log.String())
	allBanned := func() bool { return len(h.bans()) == bans }
	h.until("all are banned", allBanned)
	h.run("ban", offender(0).String(), "--jail", "sshd") // answered when the kernel has it, and all before it
	a := attack(h, client, bans)
	defer a.end()
	a.passes()

	for turn := range turns {
		what := [...]string{"reload", "restart", "kill", "kill while it starts", "kill while it reloads", "kill while it stops"}[rng.IntN(6)]
		// Some more fail meanwhile, so that there is something to store and to carry out.
		newcomers := ""
		for range 20 {
			newcomers += failed(netip.AddrFrom4([4]byte{198, 18, byte(100 + rng.IntN(4)), byte(rng.IntN(250))}))
		}
		h.log("auth.log", newcomers)
		switch what {
		case "reload":
			h.write("jail.local", strings.ReplaceAll(jails[rng.IntN(len(jails))], "DIR", h.dir))
			h.run("reload")
		case "restart":
			p.terminate()
			p = h.start().ready()
		case "kill":
			p.kill()
			p = h.start().ready()
		case "kill while it starts":
			p.kill()
			p = h.start()
			for range 1 + rng.IntN(bans) { // it prints one line for each ban at least
				<-p.lines
			}
			p.kill()
			p = h.start().ready()
		case "kill while it reloads":
			h.write("jail.local", strings.ReplaceAll(jails[rng.IntN(len(jails))], "DIR", h.dir))
			reload := h.command("reload")
			h.check(reload.Start())
			a.hears(rng.IntN(50))
			p.kill()
			_ = reload.Wait() // it may have been too late
			p = h.start().ready()
		case "kill while it stops":
			h.check(p.cmd.Process.Signal(unix.SIGTERM))
			a.hears(rng.IntN(5))
			p.kill()
			p = h.start().ready()
		}
		a.passes()
		if got := a.leaks.Load(); got > 0 {
			t.Fatalf("seed %d, turn %d, %s: %d packets of banned addresses arrived, the first from %s", seed, turn, what, got, *a.first.Load())
		}
	}
	sent, heard := a.end()
	if got := a.leaks.Load(); got > 0 {
		t.Errorf("seed %d: %d packets of banned addresses arrived, the first from %s", seed, got, *a.first.Load())
	}
	t.Logf("%d packets of %d banned addresses sent, none arrived; %d of others did", sent, bans, heard)
	if sent < uint64(bans) {
		t.Errorf("only %d packets were sent", sent)
	}
	// The proof can fail: without its ban a packet arrives.
	h.run("unban", offender(1).String())
	if !h.arrives(client, offender(1), patience) {
		t.Error("who is not banned any more is not heard")
	}
	p.terminate()
}

// attackers are a client that sends from all banned addresses in turn, and from one that
// is not banned, and who counts what arrives.
type attackers struct {
	*host
	leaks atomic.Uint64              // packets of the banned that arrived
	first atomic.Pointer[netip.Addr] // whose was the first
	bans  uint64                     // how many are banned
	heard chan struct{}              // a packet of the other one arrived
	good  atomic.Uint64              // how many did
	sent  atomic.Uint64

	stop context.CancelFunc
	over sync.WaitGroup
}

// neighbour is never banned.
var neighbour = netip.MustParseAddr("198.51.100.7")

// attack begins to send.
func attack(h *host, client *nstest.Host, bans int) *attackers {
	h.Helper()
	ctx, stop := context.WithCancel(h.Context())
	a := &attackers{host: h, bans: uint64(bans), heard: make(chan struct{}, 1), stop: stop}
	ear, err := h.net.ListenPacket("udp", ":9")
	h.check(err)
	mouth4, err := client.ListenPacket("udp4", "0.0.0.0:0")
	h.check(err)
	mouth6, err := client.ListenPacket("udp6", "[::]:0")
	h.check(err)
	a.over.Go(func() {
		buf := make([]byte, 64)
		for {
			_, from, err := ear.(*net.UDPConn).ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if addr := from.Addr().Unmap(); addr != neighbour {
				a.first.CompareAndSwap(nil, &addr)
				a.leaks.Add(1)
				continue
			}
			a.good.Add(1)
			select {
			case a.heard <- struct{}{}:
			default:
			}
		}
	})
	a.over.Go(func() {
		defer func() { _ = errors.Join(ear.Close(), mouth4.Close(), mouth6.Close()) }()
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for next := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			for range 25 {
				if send(mouth4, mouth6, offender(next%bans)) == nil {
					a.sent.Add(1)
				}
				next++
			}
			_ = send(mouth4, mouth6, neighbour)
		}
	})
	return a
}

// send sends one packet to port 9 of the server. Refusals of the server, which come back as
// errors, are none.
func send(mouth4, mouth6 net.PacketConn, from netip.Addr) error {
	mouth, to, oob := mouth6, nstest.Server6, []byte(nil)
	if from.Is4() {
		mouth, to, oob = mouth4, nstest.Server4, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	} else {
		oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
	_, _, err := mouth.(*net.UDPConn).WriteMsgUDPAddrPort([]byte("x"), oob, netip.AddrPortFrom(to, 9))
	return err
}

// hears waits for some packets of the one who is not banned: a time that passes.
func (a *attackers) hears(n int) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	for range n {
		select {
		case <-a.heard:
		case <-ctx.Done():
			a.Fatal("the packets of who is not banned do not arrive")
		}
	}
}

// passes waits until each banned address has sent once more, and somebody else was heard.
func (a *attackers) passes() {
	a.Helper()
	until := a.sent.Load() + a.bans
	a.until("packets are sent", func() bool { return a.sent.Load() >= until })
	a.hears(3)
}

// end stops sending and says how much was sent, and how much of the others was heard.
func (a *attackers) end() (sent, heard uint64) {
	a.stop()
	a.over.Wait()
	return a.sent.Load(), a.good.Load()
}

// arrives reports whether a packet from an address is heard on port 9 within a time.
func (h *host) arrives(client *nstest.Host, from netip.Addr, within time.Duration) bool {
	h.Helper()
	ear, err := h.net.ListenPacket("udp", ":9")
	h.check(err)
	defer ear.Close()
	to := nstest.Server4
	if from.Is6() {
		to = nstest.Server6
	}
	mouth, err := client.Dial(h.Context(), "udp", from, netip.AddrPortFrom(to, 9))
	h.check(err)
	defer mouth.Close()
	_, err = mouth.Write([]byte("x"))
	h.check(err)
	h.check(ear.SetReadDeadline(time.Now().Add(within)))
	_, who, err := ear.ReadFrom(make([]byte, 8))
	if err != nil {
		return false
	}
	sender, err := netip.ParseAddrPort(who.String())
	return err == nil && sender.Addr().Unmap() == from
}
