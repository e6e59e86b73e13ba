package nstest

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAClientReachesTheServerFromEachOfItsAddresses(t *testing.T) {
	n := New(t)
	client, err := n.AddClient("mallory",
		netip.MustParsePrefix("192.0.2.10/32"),
		netip.MustParsePrefix("198.51.100.1/24"),
		netip.MustParsePrefix("2001:db8::10/128"),
		netip.MustParsePrefix("2001:db8:1::1/64"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := n.Listen("tcp", ":22")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan string)
	go func() {
		defer close(seen)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
			c.Close()
		}
	}()
	for _, from := range []string{"", "192.0.2.10", "198.51.100.1", "198.51.100.77", "2001:db8::10", "2001:db8:1::1", "2001:db8:1::beef"} {
		local, want, server := netip.Addr{}, from, Server4
		if from == "" {
			want = "192.0.2.10"
		} else if local = netip.MustParseAddr(from); local.Is6() {
			server = Server6
		}
		c, err := client.Dial(deadline(t), "tcp", local, netip.AddrPortFrom(server, 22))
		if err != nil {
			t.Errorf("dial from %q: %v", from, err)
			continue
		}
		if got := <-seen; got != want {
			t.Errorf("dialled from %q, the server saw %s", from, got)
		}
		c.Close()
	}
	l.Close()
	<-seen
}

func TestTheServerReachesItsClients(t *testing.T) {
	n := New(t)
	for _, name := range []string{"alice", "bob"} {
		addr := map[string]string{"alice": "192.0.2.1/32", "bob": "2001:db8::2/128"}[name]
		c, err := n.AddClient(name, netip.MustParsePrefix(addr))
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.Listen("tcp", net.JoinHostPort(c.Addrs[0].String(), "80"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := n.Dial(deadline(t), "tcp", netip.Addr{}, netip.AddrPortFrom(c.Addrs[0], 80))
		if err != nil {
			t.Fatalf("dial %s: %v", name, err)
		}
		conn.Close()
	}
}

func TestAProgramRunsOnItsHost(t *testing.T) {
	n := New(t)
	out, err := n.Output(deadline(t), "cat", "/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	if s := string(out); !strings.Contains(s, "lo:") || strings.Count(s, ":") != 1 {
		t.Errorf("the server's links before any client are\n%s", s)
	}
	client, err := n.AddClient("c", netip.MustParsePrefix("192.0.2.1/32"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	cmd := exec.CommandContext(deadline(t), "cat", "/proc/self/net/dev")
	cmd.Stdout = &b
	if err := client.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "eth0:") {
		t.Errorf("the client's links are\n%s", b.String())
	}
}

func TestTwoNetsDoNotSeeEachOther(t *testing.T) {
	a, b := New(t), New(t)
	for _, n := range []*Net{a, b} {
		l, err := n.Listen("tcp", net.JoinHostPort(Server4.String(), "22"))
		if err != nil {
			t.Fatalf("the same address and port in another net: %v", err)
		}
		defer l.Close()
	}
}

func TestTheCallersThreadStaysWhereItWas(t *testing.T) {
	n := New(t)
	if err := n.Do(func() {}); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", net.JoinHostPort(Server4.String(), "0"))
	if err == nil {
		c.Close()
		t.Error("the server's address can be bound outside its namespace")
	}
}

func TestDoEndsWithAGoroutineThatEnds(t *testing.T) {
	n := New(t)
	ended := make(chan struct{})
	ran := false
	go func() {
		defer close(ended)
		_ = n.Do(func() { ran = true; runtime.Goexit() })
		t.Error("Do returned though its function never did")
	}()
	<-ended
	if !ran {
		t.Error("the function did not run")
	}
}
