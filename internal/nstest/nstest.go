// Package nstest makes fresh networks for tests and for the demonstration: a
// server and any number of clients, each a network namespace of its own, joined
// by virtual cables. Packets in them pass the real kernel, and the machine's own
// network sees none of it.
//
// The namespaces have no names and no files: the kernel takes them away with the
// last process, socket or handle that uses them, so nothing is left behind by a
// crash. Making them needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
//
// A Net and its Hosts may be used by several goroutines at once, except that
// AddClient and Close want to be alone.
package nstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrPrivilege is wrapped by Open's error when the process may not make network
// namespaces.
var ErrPrivilege = errors.New("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")

// Addresses every server has, whatever its clients are called.
var (
	Server4 = netip.MustParseAddr("10.99.0.1")
	Server6 = netip.MustParseAddr("fd99::1")
)

// The two ends of a cable; no frame goes from one cable to another.
var (
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1} // locally administered
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// maxClients keeps the cables' addresses, 169.254.0.0/16 in steps of four, apart.
const maxClients = 1 << 14

// firstIndex is the interface number of the first cable at the server.
const firstIndex = 100

// linkTimeout is how long a new cable may take to come up: the kernel does it in
// milliseconds, in the background.
const linkTimeout = 10 * time.Second

// A Net is a server and its clients. Its methods Do, Go and so on, taken from
// Host, are those of the server.
type Net struct {
	*Host
	clients []*Host
}

// A Host is one machine of a Net: a network namespace.
type Host struct {
	Name string
	// Addrs are the host's addresses: Server4 and Server6 of the server, the
	// first address given for each prefix of a client.
	Addrs []netip.Addr

	ns netns.NsHandle
}

// New is Open for tests: the Net is closed when the test ends. Without privilege
// the test is skipped and says why, or fails if BANTAM_NEED_NETNS is 1.
func New(t testing.TB) *Net {
	t.Helper()
	n, err := Open()
	switch {
	case errors.Is(err, ErrPrivilege) && os.Getenv("BANTAM_NEED_NETNS") != "1":
		t.Skipf("no network namespace: %v", err)
	case err != nil:
		t.Fatalf("no network namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// Open makes a Net that has a server and no client yet. The server has its
// loopback up, with Server4 and Server6 on it.
func Open() (*Net, error) {
	server, err := newHost("server")
	if err != nil {
		return nil, err
	}
	err = server.configure(func(h *netlink.Handle) error {
		lo, err := loopback(h)
		if err != nil {
			return err
		}
		for _, a := range []netip.Addr{Server4, Server6} {
			if err := addAddr(h, lo, a, a.BitLen()); err != nil {
				return err
			}
			server.Addrs = append(server.Addrs, a)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, server.close())
	}
	return &Net{Host: server}, nil
}

// Close lets go of all namespaces. Sockets and processes that still run in one
// keep it alive until they end.
func (n *Net) Close() error {
	err := n.close()
	for _, c := range n.clients {
		err = errors.Join(err, c.close())
	}
	n.clients = nil
	return err
}

// AddClient joins a new host to the server. It owns every address of the given
// prefixes: it can connect from and be reached at any of them, and the server
// knows the way back. The prefixes' addresses (host bits included) are the ones
// it uses where a socket names none. It returns when packets can pass.
func (n *Net) AddClient(name string, addrs ...netip.Prefix) (*Host, error) {
	index := len(n.clients) + 1
	if index >= maxClients {
		return nil, fmt.Errorf("add client %s: a net holds %d clients", name, maxClients-1)
	}
	client, err := newHost(name)
	if err != nil {
		return nil, err
	}
	if err := n.join(client, index, addrs); err != nil {
		return nil, fmt.Errorf("add client %s: %w", name, errors.Join(err, client.close()))
	}
	n.clients = append(n.clients, client)
	return client, nil
}

// join lays a cable between the server and client and tells both sides the way.
// The cable's own ends are link-local: every address that a test sees is routed.
func (n *Net) join(client *Host, index int, addrs []netip.Prefix) error {
	port := fmt.Sprintf("client%d", index)
	cable := [4]byte{169, 254, byte(index >> 6), byte(index<<2) & 0xfc}
	end := func(i byte) netip.Addr {
		c := cable
		c[3] |= i
		return netip.AddrFrom4(c)
	}
	server4, client4 := end(1), end(2)
	server6, client6 := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")

	err := n.configure(func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = port
		// The kernel hurries a new link up only if the numbers of its two ends
		// differ, else it may take a second (linkwatch_urgent_event in
		// net/core/link_watch.c).
		attrs.Index = firstIndex + index
		attrs.HardwareAddr = serverMAC
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: clientMAC, PeerNamespace: netlink.NsFd(client.ns)}
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("lay the cable: %w", err)
		}
		link, err := up(h, port, server4, server6)
		if err == nil {
			err = addNeighbours(h, link, clientMAC, client4, client6)
		}
		if err != nil {
			return err
		}
		for _, p := range addrs {
			via := client4
			if p.Addr().Is6() {
				via = client6
			}
			if err := addRoute(h, link, p.Masked(), via); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = client.configure(func(h *netlink.Handle) error {
		lo, err := loopback(h)
		if err != nil {
			return err
		}
		link, err := up(h, "eth0", client4, client6)
		if err == nil {
			err = addNeighbours(h, link, serverMAC, server4, server6)
		}
		if err != nil {
			return err
		}
		for _, p := range addrs {
			if err := addAddr(h, link, p.Addr(), p.Addr().BitLen()); err != nil {
				return err
			}
			client.Addrs = append(client.Addrs, p.Addr())
			if p.IsSingleIP() {
				continue
			}
			// The rest of the prefix is the host's own, too, without ten
			// thousand addresses on the interface.
			local := &netlink.Route{
				LinkIndex: lo.Attrs().Index, Dst: ipNet(p.Masked()),
				Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
			}
			if err := h.RouteAdd(local); err != nil {
				return fmt.Errorf("own the prefix %s: %w", p.Masked(), err)
			}
		}
		if err := addRoute(h, link, netip.PrefixFrom(netip.IPv4Unspecified(), 0), server4, source(addrs, true)...); err != nil {
			return err
		}
		if err := addRoute(h, link, netip.PrefixFrom(netip.IPv6Unspecified(), 0), server6, source(addrs, false)...); err != nil {
			return err
		}
		// IPv6 binds only to addresses of an interface unless told otherwise.
		return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0o644)
	})
	if err != nil {
		return err
	}
	if err := n.awaitUp(port); err != nil {
		return err
	}
	return client.awaitUp("eth0")
}

// source is the first address of a family, if there is one.
func source(addrs []netip.Prefix, v4 bool) []netip.Addr {
	for _, p := range addrs {
		if p.Addr().Is4() == v4 {
			return []netip.Addr{p.Addr()}
		}
	}
	return nil
}

// newHost makes a namespace, which is empty but for a loopback that is down.
func newHost(name string) (*Host, error) {
	h := &Host{Name: name, ns: netns.None()}
	err := onThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		h.ns = ns
		return nil
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("make the network namespace of %s: %w", name, ErrPrivilege)
	case err != nil:
		return nil, fmt.Errorf("make the network namespace of %s: %w", name, err)
	}
	return h, nil
}

func (h *Host) close() error {
	if !h.ns.IsOpen() {
		return nil
	}
	return h.ns.Close()
}

// FD is the namespace as an open file, valid until Close: what firewall.Options
// and setns(2) want.
func (h *Host) FD() int { return int(h.ns) }

// Do runs fn in the host's namespace and returns when fn does: sockets that fn
// opens belong to the host for good. fn runs in a goroutine with a thread of
// its own; goroutines it starts are outside. The error is about entering the
// namespace; then fn has not run.
func (h *Host) Do(fn func()) error {
	return onThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter the network namespace of %s: %w", h.Name, err)
		}
		fn()
		return nil
	})
}

// Go is Do without waiting. The channel yields Do's error, or nil, when fn has
// returned.
func (h *Host) Go(fn func()) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.Do(fn) }()
	return done
}

// Listen is net.Listen on the host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	if enter := h.Do(func() { l, err = net.Listen(network, address) }); enter != nil {
		return nil, enter
	}
	return l, err
}

// ListenPacket is net.ListenPacket on the host.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	if enter := h.Do(func() { c, err = net.ListenPacket(network, address) }); enter != nil {
		return nil, enter
	}
	return c, err
}

// Dial connects from the host, over tcp or udp, to an address and port in
// digits. The connection comes from the address local; the zero Addr leaves the
// choice to the kernel. ctx bounds the attempt.
func (h *Host) Dial(ctx context.Context, network string, local netip.Addr, to netip.AddrPort) (c net.Conn, err error) {
	var d net.Dialer
	if local.IsValid() {
		switch network {
		case "tcp":
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		case "udp":
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		default:
			return nil, fmt.Errorf("dial %s %s from %s: only tcp and udp are known", network, to, local)
		}
	}
	if enter := h.Do(func() { c, err = d.DialContext(ctx, network, to.String()) }); enter != nil {
		return nil, enter
	}
	return c, err
}

// Start is cmd.Start on the host. cmd must not ask to be killed with the thread
// that starts it (Pdeathsig).
func (h *Host) Start(cmd *exec.Cmd) (err error) {
	if enter := h.Do(func() { err = cmd.Start() }); enter != nil {
		return enter
	}
	return err
}

// Output runs a program on the host and returns what it prints, standard error
// included.
func (h *Host) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out []byte
	var err error
	if enter := h.Do(func() { out, err = exec.CommandContext(ctx, name, args...).CombinedOutput() }); enter != nil {
		return nil, enter
	}
	if err != nil {
		return out, fmt.Errorf("run %s on %s: %w: %.200q", name, h.Name, err, out)
	}
	return out, nil
}

// configure runs fn in the namespace with a handle on its links and routes.
func (h *Host) configure(fn func(*netlink.Handle) error) (err error) {
	enter := h.Do(func() {
		var handle *netlink.Handle
		if handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return
		}
		defer handle.Close()
		err = fn(handle)
	})
	return errors.Join(enter, err)
}

// awaitUp waits until the kernel has seen the carrier of a link. It is a
// background work of the kernel's, and packets sent before are lost.
func (h *Host) awaitUp(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	updates := make(chan netlink.LinkUpdate)
	// The library's goroutine ends by done, and reads on until then.
	done := make(chan struct{})
	defer func() {
		close(done)
		for range updates {
		}
	}()
	failed := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		Namespace: &h.ns, ListExisting: true,
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		close(updates)
		return fmt.Errorf("watch the links of %s: %w", h.Name, err)
	}
	for {
		select {
		case u := <-updates:
			if u.Link != nil && u.Attrs().Name == name && u.Attrs().OperState == netlink.OperUp {
				return nil
			}
		case err := <-failed:
			return fmt.Errorf("watch the links of %s: %w", h.Name, err)
		case <-ctx.Done():
			return fmt.Errorf("link %s of %s did not come up: %w", name, h.Name, ctx.Err())
		}
	}
}

// onThread runs fn on a thread that may change its namespace. The thread goes
// back to the others only in the namespace it came from; otherwise it ends with
// its goroutine.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("find the thread's network namespace: %w", err)
			return
		}
		defer func() {
			// In a defer, so that a fn that ends its goroutine, as t.Fatal
			// does, leaves the thread in order and its caller not waiting.
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			_ = home.Close()
			close(done)
		}()
		done <- fn()
	}()
	err, returned := <-done
	if !returned {
		runtime.Goexit()
	}
	return err
}

func loopback(h *netlink.Handle) (netlink.Link, error) {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("set the loopback up: %w", err)
	}
	return lo, nil
}

// up gives one end of a cable its two addresses and sets it up.
func up(h *netlink.Handle, name string, addr4, addr6 netip.Addr) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find the link %s: %w", name, err)
	}
	// No waiting for somebody else to claim our addresses.
	dad := "/proc/sys/net/ipv6/conf/" + name + "/accept_dad"
	if err := os.WriteFile(dad, []byte("0"), 0o644); err != nil {
		return nil, fmt.Errorf("turn off duplicate address detection: %w", err)
	}
	if err := addAddr(h, link, addr4, 30); err != nil {
		return nil, err
	}
	if err := addAddr(h, link, addr6, 64); err != nil {
		return nil, err
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set the link %s up: %w", name, err)
	}
	return link, nil
}

func addAddr(h *netlink.Handle, link netlink.Link, a netip.Addr, bits int) error {
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits))}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, a, err)
	}
	return nil
}

// addNeighbours tells a link who is at its other end, so that nobody has to
// ask. As through a router in the world, no packet but those of the test then
// has a client's address: a neighbour solicitation would, and be dropped where
// that address is banned.
func addNeighbours(h *netlink.Handle, link netlink.Link, mac net.HardwareAddr, addrs ...netip.Addr) error {
	for _, a := range addrs {
		n := &netlink.Neigh{LinkIndex: link.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
		if err := h.NeighSet(n); err != nil {
			return fmt.Errorf("make %s a neighbour of %s: %w", a, link.Attrs().Name, err)
		}
	}
	return nil
}

// addRoute sends a prefix through a neighbour on the link, whether or not that
// neighbour's subnet is known there.
func addRoute(h *netlink.Handle, link netlink.Link, p netip.Prefix, via netip.Addr, src ...netip.Addr) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if len(src) > 0 {
		r.Src = src[0].AsSlice()
	}
	if err := h.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s through %s: %w", p, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
