package whois

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// global is IPv6's space of global unicast addresses (RFC 4291, IANA's registry): what lies outside is somebody's own.
var global = netip.MustParsePrefix("2000::/3")

// special are the addresses that nobody in particular answers for: IANA's registries of special-purpose
// addresses (RFC 6890 and its updates), for IPv6 those inside global.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("10.0.0.0/8"),      // private, RFC 1918
	netip.MustParsePrefix("100.64.0.0/10"),   // carriers' NAT, RFC 6598
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local, RFC 3927
	netip.MustParsePrefix("172.16.0.0/12"),   // private
	netip.MustParsePrefix("192.0.0.0/24"),    // protocols, RFC 6890
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation, RFC 5737
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays, RFC 7526
	netip.MustParsePrefix("192.168.0.0/16"),  // private
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks, RFC 2544
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("224.0.0.0/4"),     // multicast, RFC 5771
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("2001::/23"),       // protocols, Teredo among them
	netip.MustParsePrefix("2001:db8::/32"),   // documentation, RFC 3849
	netip.MustParsePrefix("2002::/16"),       // 6to4, RFC 3056
	netip.MustParsePrefix("3fff::/20"),       // documentation, RFC 9637
}

// isPublic reports whether somebody on the internet can be asked about addr, which is not IPv4-mapped.
func isPublic(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Is6() && !global.Contains(addr) {
		return false
	}
	for _, p := range special {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// dialPublic connects to public addresses only: which server is asked is a stranger's word, and behind a
// name may stand an address of this machine or its neighbours. The check is made on the address that is
// connected to, after all resolving.
func dialPublic(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: maxQuestion,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !isPublic(at.Addr().Unmap()) {
				return fmt.Errorf("connect to %s: %w", address, ErrNotPublic)
			}
			return nil
		},
		KeepAlive: -1 * time.Second,
	}
	return d.DialContext(ctx, network, address)
}

// widest is the shortest prefix that is somebody's own: registries have wider ones for all that they know nothing of.
func widest(addr netip.Addr) int {
	if addr.Is4() {
		return 8
	}
	return 12
}

// within is the largest prefix around addr that lies in the range from start to end, and false if
// addr does not.
func within(start, end, addr netip.Addr) (netip.Prefix, bool) {
	if start.BitLen() != addr.BitLen() || end.BitLen() != addr.BitLen() || addr.Less(start) || end.Less(addr) {
		return netip.Prefix{}, false
	}
	for bits := 0; bits < addr.BitLen(); bits++ {
		p := netip.PrefixFrom(addr, bits).Masked()
		if !p.Addr().Less(start) && !end.Less(last(p)) {
			return p, true
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		switch host := (i+1)*8 - p.Bits(); {
		case host >= 8:
			b[i] = 0xff
		case host > 0:
			b[i] |= 1<<host - 1
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
