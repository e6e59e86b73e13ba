package ruleset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bantam/internal/nstest"
)

const (
	// soon is how long a packet that is not dropped may take.
	soon = 10 * time.Second
	// never is how long to wait for one that is. Too short cannot fail a test, only weaken it.
	never = 40 * time.Millisecond
)

// Who is in the world: the banned one, somebody else, and a container behind the server.
var (
	banned4    = netip.MustParseAddr("192.0.2.1")
	other4     = netip.MustParseAddr("192.0.2.2")
	banned6    = netip.MustParseAddr("2001:db8::1")
	container4 = netip.MustParseAddr("172.17.0.2")
)

// A world is a server with open ports and clients that send to it.
type world struct {
	*testing.T
	net       *nstest.Net
	client    *nstest.Host
	container *nstest.Host
	arrived   chan string
	number    atomic.Int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, net: nstest.New(t), arrived: make(chan string, 256)}
	var err error
	if w.client, err = w.net.AddClient("client", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")); err != nil {
		t.Fatal(err)
	}
	if w.container, err = w.net.AddClient("container", netip.MustParsePrefix("172.17.0.2/32")); err != nil {
		t.Fatal(err)
	}
	w.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	for _, port := range []string{":22", ":80", ":443"} {
		// By name, so that answers come from there.
		w.serve(w.net.Host, nstest.Server4.String()+port)
		w.serve(w.net.Host, "["+nstest.Server6.String()+"]"+port)
		// Where a redirect sends packets of the first cable.
		w.serve(w.net.Host, "169.254.0.5"+port)
		w.serve(w.net.Host, "[fe80::1%client1]"+port)
	}
	w.serve(w.container, container4.String()+":80")
	return w
}

// serve tells of each datagram and connection that comes to a port, and answers.
func (w *world) serve(h *nstest.Host, port string) {
	w.Helper()
	p, err := h.ListenPacket("udp", port)
	if err != nil {
		w.Fatal(err)
	}
	l, err := h.Listen("tcp", port)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = p.Close(); _ = l.Close() })
	go func() {
		for b := make([]byte, 64); ; {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			w.arrived <- string(b[:n])
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// run runs a program on the server.
func (w *world) run(name string, args ...string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), soon)
	defer cancel()
	if out, err := w.net.Output(ctx, name, args...); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
}

// load runs lines on the server: a program and its words, or a ruleset of nft.
func (w *world) load(rules string) {
	w.Helper()
	if strings.HasPrefix(strings.TrimSpace(rules), "table") {
		w.nft(rules)
		return
	}
	w.run("sh", "-ec", rules)
}

func (w *world) nft(rules string) {
	w.Helper()
	loadNFT(w, w.net, rules)
}

// read reads the server's rules.
func (w *world) read() *Ruleset {
	w.Helper()
	var r *Ruleset
	var err error
	if enter := w.net.Do(func() { r, err = Read(w.Context()) }); enter != nil || err != nil {
		w.Fatal(errors.Join(enter, err))
	}
	w.Cleanup(func() { _ = r.Close() })
	return r
}

// A probe is one packet sent from outside.
type probe struct {
	packet Packet
	conn   net.Conn // of a running connection
}

func (w *world) packet(from netip.Addr, proto string, port uint16) Packet {
	to := nstest.Server4
	if from.Is6() {
		to = nstest.Server6
	}
	return Packet{Src: from, Dst: to, Protocol: proto, Port: port, In: "client1"}
}

// connect makes a connection over udp that connection tracking knows from both sides.
func (w *world) connect(p Packet) probe {
	w.Helper()
	w.nft("table inet warm { chain c { type filter hook prerouting priority 0; ct state new accept; }; }")
	c := w.dial(p)
	name := w.send(c)
	if !w.comes(name, soon) {
		w.Fatalf("no connection from %s", p.Src)
	}
	_ = c.SetReadDeadline(time.Now().Add(soon))
	if _, err := c.Read(make([]byte, 64)); err != nil {
		w.Fatal(err)
	}
	p.Established = true
	return probe{p, c}
}

func (w *world) dial(p Packet) net.Conn {
	w.Helper()
	c, err := w.client.Dial(w.Context(), "udp", p.Src, netip.AddrPortFrom(p.Dst, p.Port))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) send(c net.Conn) string {
	name := fmt.Sprint("probe ", w.number.Add(1))
	// A write may tell of an earlier reject.
	if _, err := c.Write([]byte(name)); err != nil {
		_, _ = c.Write([]byte(name))
	}
	return name
}

func (w *world) comes(name string, within time.Duration) bool {
	after := time.NewTimer(within)
	defer after.Stop()
	for {
		select {
		case got := <-w.arrived:
			if got == name {
				return true
			}
		case <-after.C:
			return false
		}
	}
}

// reaches sends a packet and reports whether it arrives; expected is how long that may be waited for.
func (w *world) reaches(p probe, expected bool) bool {
	w.Helper()
	within := never
	if expected {
		within = soon
	}
	if p.packet.Protocol == "udp" {
		if p.conn == nil {
			p.conn = w.dial(p.packet)
		}
		return w.comes(w.send(p.conn), within)
	}
	ctx, cancel := context.WithTimeout(w.Context(), within)
	defer cancel()
	c, err := w.client.Dial(ctx, "tcp", p.packet.Src, netip.AddrPortFrom(p.packet.Dst, p.packet.Port))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

var addrOf = netip.MustParseAddr

// loadNFT loads a ruleset on the server.
func loadNFT(tb testing.TB, n *nstest.Net, rules string) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		tb.Fatalf("nft: %v\n%.2000s\n%.2000s", err, out.String(), rules)
	}
}
