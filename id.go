package bantam

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An ID is what is counted and banned: a network prefix (a single address is a
// prefix of full length) or, for filters that capture <F-ID>, a text.
//
// IDs are comparable and compared by value: 2001:0db8::1 and 2001:db8::1 are one
// ID, and so are ::ffff:192.0.2.1 and 192.0.2.1. The zero ID is no ID.
type ID struct {
	prefix netip.Prefix
	text   string
}

// PrefixID is the ID of a prefix. Host bits are cleared; an IPv4-mapped IPv6
// prefix of /96 or longer becomes the IPv4 prefix it stands for.
func PrefixID(p netip.Prefix) ID {
	if !p.IsValid() {
		return ID{}
	}
	addr, bits := p.Addr().WithZone(""), p.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return ID{prefix: netip.PrefixFrom(addr, bits).Masked()}
}

// AddrID is the ID of a single address.
func AddrID(a netip.Addr) ID {
	if !a.IsValid() {
		return ID{}
	}
	return PrefixID(netip.PrefixFrom(a, a.BitLen()))
}

// TextID is the ID of a text that is no address.
func TextID(text string) ID { return ID{text: text} }

// ErrNotAddress is wrapped by ParsePrefix's errors.
var ErrNotAddress = errors.New("neither an address nor a prefix")

// ParsePrefix reads an address or a prefix as people and logs write them:
// "192.0.2.1", "[2001:db8::1]", "10.0.0.0/8", "10.0.0.0/255.0.0.0",
// "::ffff:192.0.2.1". Zones are refused, as are masks with holes.
func ParsePrefix(s string) (ID, error) {
	addrText, mask, hasMask := strings.Cut(s, "/")
	addrText = strings.TrimSuffix(strings.TrimPrefix(addrText, "["), "]")
	addr, err := netip.ParseAddr(addrText)
	if err != nil || addr.Zone() != "" {
		return ID{}, fmt.Errorf("%q is %w", s, ErrNotAddress)
	}
	if !hasMask {
		return AddrID(addr), nil
	}
	bits, err := maskBits(mask, addr.BitLen())
	if err != nil {
		return ID{}, fmt.Errorf("%q is %w: %s", s, ErrNotAddress, err)
	}
	return PrefixID(netip.PrefixFrom(addr, bits)), nil
}

// maskBits reads the part behind the slash: a length or a netmask.
func maskBits(mask string, max int) (int, error) {
	if n, err := strconv.Atoi(mask); err == nil {
		if n < 0 || n > max || mask[0] == '+' {
			return 0, fmt.Errorf("the length must be 0 to %d", max)
		}
		return n, nil
	}
	addr, err := netip.ParseAddr(mask)
	if err != nil || addr.BitLen() != max {
		return 0, fmt.Errorf("the mask is not understood")
	}
	bits, hole := 0, false
	for _, b := range addr.AsSlice() {
		for i := 7; i >= 0; i-- {
			switch one := b>>i&1 == 1; {
			case !one:
				hole = true
			case hole:
				return 0, fmt.Errorf("the mask has a hole")
			default:
				bits++
			}
		}
	}
	return bits, nil
}

// Prefix is the prefix the ID stands for; ok is false for texts and the zero ID.
func (id ID) Prefix() (p netip.Prefix, ok bool) { return id.prefix, id.prefix.IsValid() }

// IsZero reports whether id is no ID at all.
func (id ID) IsZero() bool { return id == ID{} }

// Contains reports whether other lies within id: an address in a banned prefix,
// a prefix in a wider one, or the same text.
func (id ID) Contains(other ID) bool {
	p, ok := id.Prefix()
	if !ok {
		return id == other && !id.IsZero()
	}
	o, ok := other.Prefix()
	return ok && p.Bits() <= o.Bits() && p.Contains(o.Addr())
}

// Widen is id as a prefix of at most that many bits for its family; texts, wider
// prefixes and a zero length stay as they are. It is how prefix4 and prefix6 count.
func (id ID) Widen(bits4, bits6 int) ID {
	p, ok := id.Prefix()
	if !ok {
		return id
	}
	bits := bits6
	if p.Addr().Is4() {
		bits = bits4
	}
	if bits <= 0 || p.Bits() <= bits {
		return id
	}
	return ID{prefix: netip.PrefixFrom(p.Addr(), bits).Masked()}
}

// String is the canonical form: "192.0.2.1", "2001:db8::/64", or the text.
func (id ID) String() string {
	p, ok := id.Prefix()
	switch {
	case !ok:
		return id.text
	case p.IsSingleIP():
		return p.Addr().String()
	default:
		return p.String()
	}
}

// MarshalText writes String's form, which UnmarshalText reads back.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads an address or prefix; anything else becomes a text ID.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParsePrefix(string(b))
	if err != nil {
		parsed = TextID(string(b))
	}
	*id = parsed
	return nil
}

// Compare orders addresses and prefixes by their value, IPv4 first, and texts behind them. It is negative if id comes
// first. Nothing is written down for it, so that many can be sorted.
func (id ID) Compare(other ID) int {
	p, isP := id.Prefix()
	q, isQ := other.Prefix()
	switch {
	case isP && isQ:
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	case isP:
		return -1
	case isQ:
		return 1
	}
	return strings.Compare(id.text, other.text)
}
