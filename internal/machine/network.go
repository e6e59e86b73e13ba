package machine

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// addresses asks the kernel; a tree has none to ask.
func (m Machine) addresses() ([]netip.Prefix, error) {
	if m.Root != "" {
		return nil, nil
	}
	all, err := net.InterfaceAddrs()
	var out []netip.Prefix
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		bits, _ := n.Mask.Size()
		if p := netip.PrefixFrom(addr.Unmap(), bits); p.IsValid() && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, err
}

// Flags of a route: include/uapi/linux/route.h.
const (
	routeUp      = 0x1
	routeGateway = 0x2
	routeReject  = 0x200
)

// gateways reads the tables of routes: fib_route_seq_show in net/ipv4/fib_trie.c and rt6_info_route in
// net/ipv6/route.c of the kernel. A route over several next hops shows its first one.
func (m Machine) gateways() ([]netip.Addr, error) {
	var out []netip.Addr
	add := func(a netip.Addr, ok bool) {
		if ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	err4 := m.lines(m.network("route"), maxTable, func(line []byte) { add(gateway4(line)) })
	err6 := m.lines(m.network("ipv6_route"), maxTable, func(line []byte) { add(gateway6(line)) })
	return out, errors.Join(unless(err4), unless(err6))
}

// gateway4 is the next hop of a line of /proc/net/route if it is a default route.
func gateway4(line []byte) (netip.Addr, bool) {
	f := bytes.Fields(line)
	if len(f) < 8 || string(f[1]) != "00000000" || string(f[7]) != "00000000" || !hasRoute(f[3]) {
		return netip.Addr{}, false
	}
	addr, ok := hexAddr(f[2], 4)
	return addr, ok && !addr.IsUnspecified()
}

// gateway6 is the same of a line of /proc/net/ipv6_route, whose addresses are in the order of the network.
func gateway6(line []byte) (netip.Addr, bool) {
	f := bytes.Fields(line)
	if len(f) < 10 || string(f[1]) != "00" || !hasRoute(f[8]) {
		return netip.Addr{}, false
	}
	var b [16]byte
	if n, err := hex.Decode(b[:], cut(f[4], 32)); err != nil || n != 16 {
		return netip.Addr{}, false
	}
	addr := netip.AddrFrom16(b)
	return addr, !addr.IsUnspecified()
}

func hasRoute(flags []byte) bool {
	n, err := strconv.ParseUint(string(flags), 16, 32)
	return err == nil && n&(routeUp|routeGateway|routeReject) == routeUp|routeGateway
}

// cut is b, or nothing if it is longer than it may be.
func cut(b []byte, limit int) []byte {
	if len(b) > limit {
		return nil
	}
	return b
}

// hexAddr reads an address as the tables of the kernel print it: words of 32 bits, each as a number of the machine's
// own order (%08X of a __be32).
func hexAddr(text []byte, size int) (netip.Addr, bool) {
	var b [16]byte
	if n, err := hex.Decode(b[:], cut(text, 2*size)); err != nil || n != size {
		return netip.Addr{}, false
	}
	for i := 0; i < size; i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b[:size])
	return addr.Unmap(), ok
}

// resolvers reads resolv.conf, and behind systemd-resolved's own address those that it asks.
func (m Machine) resolvers() ([]netip.Addr, error) {
	out, err := m.nameservers("/etc/resolv.conf")
	stub := netip.AddrFrom4([4]byte{127, 0, 0, 53})
	if !slices.Contains(out, stub) {
		return out, err
	}
	asked, err := m.nameservers("/run/systemd/resolve/resolv.conf")
	if len(asked) == 0 {
		return out, err
	}
	return asked, err
}

// nameservers are the lines "nameserver ADDRESS" of a file: resolv.conf(5).
func (m Machine) nameservers(name string) ([]netip.Addr, error) {
	var out []netip.Addr
	err := m.lines(name, maxSmall, func(line []byte) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0] != "nameserver" {
			return
		}
		addr, err := netip.ParseAddr(f[1])
		if addr = addr.Unmap(); err == nil && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	})
	return out, unless(err)
}
