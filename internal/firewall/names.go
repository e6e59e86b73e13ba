package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names in our table besides those of the jails.
const (
	baseChain  = "prerouting"
	allowChain = "allow"
	allowSets  = "allow"
	jailPrefix = "jail-" // of a jail's chain and counter: no jail's name is then one of nft's words
)

// A setKey says what a set holds: a jail's prefixes of one family and length, by
// address. The jail "" is the allow list.
type setKey struct {
	jail string
	v6   bool
	bits uint8
}

// keyOf is the set a canonical prefix belongs to.
func keyOf(jail string, p netip.Prefix) setKey {
	return setKey{jail: jail, v6: p.Addr().Is6(), bits: uint8(p.Bits())}
}

func (k setKey) prefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, int(k.bits)) }

// length is the full length of the key's family, in bits.
func (k setKey) length() uint8 {
	if k.v6 {
		return 128
	}
	return 32
}

// single reports whether the set holds single addresses.
func (k setKey) single() bool { return k.bits == k.length() }

// name is the set's name in the kernel: sshd-4 for addresses, sshd-6-64 for
// prefixes. Different keys have different names.
func (k setKey) name() string {
	base := allowSets
	if k.jail != "" {
		base = objectName(k.jail)
	}
	base += "-4"
	if k.v6 {
		base = base[:len(base)-1] + "6"
	}
	if k.single() {
		return base
	}
	return base + "-" + strconv.Itoa(int(k.bits))
}

// plainName is what nft takes as a name without quotes, short enough for the
// kernel's 255 bytes with what is added to it.
var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)

// objectName is a jail's name as part of the kernel's names. Ordinary names stay
// as they are. Others, and those that could be mistaken for another jail's set
// ("web-4" beside "web" with its set web-4-4 of /4 prefixes), become their
// readable part and a hash, which begins as no ordinary name does.
func objectName(jail string) string {
	if plainName.MatchString(jail) && jail != allowSets && !strings.HasSuffix(jail, "-4") && !strings.HasSuffix(jail, "-6") {
		return jail
	}
	readable := []byte(jail[:min(len(jail), 24)])
	for i, c := range readable {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", rune(c)) {
			readable[i] = '_'
		}
	}
	sum := sha256.Sum256([]byte(jail))
	return fmt.Sprintf("_%s_%s", readable, hex.EncodeToString(sum[:16]))
}

// parseSetName is the key whose name is given, if it is one of the jails'
// (by object name) or of the allow list.
func parseSetName(name string, jails map[string]string) (setKey, bool) {
	parts := strings.Split(name, "-")
	for _, tail := range []int{1, 2} { // sshd-4, sshd-4-24
		if len(parts) <= tail {
			continue
		}
		at := len(parts) - tail
		base := strings.Join(parts[:at], "-")
		jail, ok := jails[base]
		if !ok && base != allowSets {
			continue
		}
		k := setKey{jail: jail, v6: parts[at] == "6"}
		k.bits = k.length()
		if tail == 2 {
			bits, err := strconv.ParseUint(parts[at+1], 10, 8)
			if err != nil || bits >= uint64(k.length()) {
				continue
			}
			k.bits = uint8(bits)
		}
		if k.name() == name {
			return k, true
		}
	}
	return setKey{}, false
}

// protocols are the numbers of IANA's registry by the names people write.
var protocols = map[string][]byte{
	"tcp": {6}, "udp": {17}, "dccp": {33}, "sctp": {132}, "udplite": {136},
	// Whoever names icmp means pings, of either family.
	"icmp": {1, 58}, "icmpv6": {58}, "ipv6-icmp": {58},
	"igmp": {2}, "ipencap": {4}, "ipv6": {41}, "gre": {47}, "esp": {50}, "ah": {51}, "ospf": {89}, "l2tp": {115},
}

// protocolNumbers reads a protocol's name or number; none means all.
func protocolNumbers(name string) ([]byte, error) {
	lower := strings.ToLower(strings.TrimSpace(name))
	if lower == "all" {
		return nil, nil
	}
	if numbers, ok := protocols[lower]; ok {
		return numbers, nil
	}
	if n, err := strconv.ParseUint(lower, 10, 8); err == nil {
		if n == 0 {
			return nil, nil // iptables' other word for all
		}
		return []byte{byte(n)}, nil
	}
	return nil, fmt.Errorf("unknown protocol %.40q", name)
}

// hasPorts reports whether a protocol's header begins with the two ports.
func hasPorts(protocol byte) bool {
	return slices.Contains([]byte{6, 17, 33, 132, 136}, protocol)
}

// mergePorts is the same ports in order and in as few ranges as possible.
func mergePorts(ports []PortRange) []PortRange {
	sorted := slices.SortedFunc(slices.Values(ports), func(a, b PortRange) int { return int(a.First) - int(b.First) })
	var out []PortRange
	for _, p := range sorted {
		if n := len(out); n > 0 && int(p.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}
