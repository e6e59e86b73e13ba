package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// This file is the matches and targets of iptables, which nftables carries as blobs of C structures (nft_compat) and
// iptables-save writes as words. Each becomes a condition here, whichever way it came; the structures are those of
// linux/netfilter/xt_*.h.

// A condition is one match, and how iptables-save writes it.
type condition struct {
	text  string
	judge op
}

func (d *decoder) add(c condition) bool {
	if c.text != "" {
		d.say(c.text)
	}
	d.do(c.judge)
	return true
}

func (d *decoder) match(a map[uint16][]byte) bool {
	name := text(a[unix.NFTA_MATCH_NAME])
	rev := number(a[unix.NFTA_MATCH_REV])
	if slices.Contains(trackers, name) {
		d.chain.track(d.chain.protocol)
	}
	c, ok := decodeMatch(name, rev, a[unix.NFTA_MATCH_INFO], d.ipset)
	if !ok {
		c = condition{"-m " + name, perhaps("the match " + strconv.Quote(name) + " is not known")}
	}
	return d.add(c)
}

func (d *decoder) target(a map[uint16][]byte) bool {
	name := text(a[unix.NFTA_TARGET_NAME])
	if slices.Contains(trackers, name) {
		d.chain.track(d.chain.protocol)
	}
	c := decodeTarget(name, number(a[unix.NFTA_TARGET_REV]), a[unix.NFTA_TARGET_INFO])
	return d.add(c)
}

// A blob reads a C structure; what lies behind its end is zero.
type blob []byte

func (b blob) u8(at int) uint8 {
	if at >= len(b) {
		return 0
	}
	return b[at]
}

func (b blob) u16(at int) uint16 {
	if at+2 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint16(b[at:])
}

func (b blob) u32(at int) uint32 {
	if at+4 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint32(b[at:])
}

// port is a number in network order.
func (b blob) port(at int) uint16 { return b.u16be(at) }

func (b blob) u16be(at int) uint16 {
	if at+2 > len(b) {
		return 0
	}
	return binary.BigEndian.Uint16(b[at:])
}

// addr is a union nf_inet_addr.
func (b blob) addr(at int, v6 bool) netip.Addr {
	if at+16 > len(b) {
		return netip.Addr{}
	}
	if v6 {
		return netip.AddrFrom16([16]byte(b[at:]))
	}
	return netip.AddrFrom4([4]byte(b[at:]))
}

// decodeMatch makes a condition of a match; ok is false for one that is not known in that revision.
func decodeMatch(name string, rev uint64, info []byte, ipset func(uint16) string) (c condition, ok bool) {
	b := blob(info)
	switch {
	case name == "comment":
		return condition{`-m comment --comment "` + text(info) + `"`, always}, true
	case name == "tcp" && len(b) >= 12:
		const invSource, invDest, invFlags = 1, 2, 4
		inv := b.u8(11)
		cs := []condition{
			portsMatch(0, "--sport", true, false, []portRange{{b.u16(0), b.u16(2)}}, inv&invSource != 0),
			portsMatch(0, "--dport", false, true, []portRange{{b.u16(4), b.u16(6)}}, inv&invDest != 0),
		}
		if b.u8(8) != 0 {
			cs = append(cs, condition{fmt.Sprintf("--tcp-option %d", b.u8(8)), perhaps("a TCP option")})
		}
		if b.u8(9) != 0 {
			cs = append(cs, flagsMatch(b.u8(9), b.u8(10), inv&invFlags != 0))
		}
		return all(cs), true
	case name == "udp" && len(b) >= 9:
		inv := b.u8(8)
		return all([]condition{
			portsMatch(0, "--sport", true, false, []portRange{{b.u16(0), b.u16(2)}}, inv&1 != 0),
			portsMatch(0, "--dport", false, true, []portRange{{b.u16(4), b.u16(6)}}, inv&2 != 0),
		}), true
	case name == "multiport" && rev == 1 && len(b) >= 48:
		var ranges []portRange
		for i := 0; i < min(int(b.u8(1)), 15); i++ {
			r := portRange{b.u16(2 + 2*i), b.u16(2 + 2*i)}
			if b.u8(32+i) != 0 && i+1 < 15 {
				i++
				r.last = b.u16(2 + 2*i)
			}
			ranges = append(ranges, r)
		}
		kind := min(b.u8(0), 2)
		return portsMatch(0, "-m multiport "+[...]string{"--sports", "--dports", "--ports"}[kind], kind != 1, kind != 0, ranges, b.u8(47) != 0), true
	case name == "state" && len(b) >= 4:
		return stateMatch("-m state --state", b.u32(0)&^(1<<6), b.u32(0)&(1<<6) != 0, 0, false), true
	case name == "conntrack" && rev >= 1 && rev <= 3:
		return decodeConntrack(b, rev)
	case name == "set" && rev >= 1 && rev <= 4 && len(b) >= 4:
		return setMatch(ipset(b.u16(0)), directions(b.u8(2), b.u8(3)), b.u8(3)&1 != 0), true
	case name == "addrtype" && rev == 1 && len(b) >= 8:
		const invSource, invDest, limitIn, limitOut = 1, 2, 4, 8
		flags := b.u32(4)
		return addrTypeMatch(b.u16(0), b.u16(2), flags&invSource != 0, flags&invDest != 0, flags&(limitIn|limitOut) != 0), true
	case name == "mark" && rev == 1 && len(b) >= 9:
		return markMatch("-m mark --mark", b.u32(0), b.u32(4), b.u8(8) != 0, false), true
	case name == "connmark" && rev == 1 && len(b) >= 9:
		return markMatch("-m connmark --mark", b.u32(0), b.u32(4), b.u8(8) != 0, true), true
	case name == "iprange" && rev == 1 && len(b) >= 65:
		return rangeMatch(b), true
	case name == "limit":
		return condition{"-m limit", perhaps("a limit, which may hold or not")}, true
	}
	return condition{}, false
}

// decodeConntrack reads struct xt_conntrack_mtinfo1 to 3.
func decodeConntrack(b blob, rev uint64) (condition, bool) {
	const (
		state, source, dest, status, destPort = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9

		flagsAt = 146
	)
	if len(b) < flagsAt+6 {
		return condition{}, false
	}
	flags, inverted := b.u16(flagsAt), b.u16(flagsAt+2)
	stateMask, statusMask := uint32(b.u16(flagsAt+4)), uint32(b.u16(flagsAt+6))
	if rev == 1 {
		stateMask, statusMask = uint32(b.u8(flagsAt+4)), uint32(b.u8(flagsAt+5))
	}
	var cs []condition
	if flags&state != 0 {
		const snat, dnat, untracked = 1 << 6, 1 << 7, 1 << 8
		cs = append(cs, stateMatch("-m conntrack --ctstate", stateMask&^(snat|dnat|untracked), stateMask&untracked != 0, stateMask&(snat|dnat), inverted&state != 0))
	}
	if flags&status != 0 {
		cs = append(cs, statusMatch(statusMask, inverted&status != 0))
	}
	other := flags &^ (state | source | dest | status)
	for _, a := range []struct {
		flag   uint16
		option string
		at     int
		of     func(*walk) netip.Addr
	}{
		{source, "--ctorigsrc", 0, func(w *walk) netip.Addr { return w.p.Src }},
		{dest, "--ctorigdst", 32, func(w *walk) netip.Addr { return w.p.Dst }},
	} {
		if flags&a.flag != 0 {
			cs = append(cs, originalMatch(a.option, b[a.at:a.at+16], b[a.at+16:a.at+32], inverted&a.flag != 0, a.of))
		}
	}
	if flags&destPort != 0 && rev == 3 && len(b) >= 158 {
		other &^= destPort
		cs = append(cs, dialledMatch(portRange{b.u16(140), b.u16(156)}, inverted&destPort != 0))
	}
	if other != 0 {
		cs = append(cs, condition{"-m conntrack …", perhaps("what it asks about the connection is not followed")})
	}
	return all(cs), true
}

// originalMatch compares an address that the connection began with.
func originalMatch(option string, want, mask []byte, invert bool, of func(*walk) netip.Addr) condition {
	size := 4
	if slices.ContainsFunc(mask[4:], func(b byte) bool { return b != 0 }) {
		size = 16
	}
	bits, _ := prefixLen(mask[:size])
	text := fmt.Sprintf("-m conntrack %s%s %s/%d", denied(invert), option, showPrefix(size)(want[:size]), bits)
	return condition{text, func(w *walk, _ *frame) (tri, string) {
		if !w.tracked || w.skipped {
			return no, ""
		}
		for i, b := range of(w).AsSlice() {
			if (b^want[i])&mask[i] != 0 {
				return no.invert(invert), ""
			}
		}
		return yes.invert(invert), ""
	}}
}

// dialledMatch compares the port that the client dialled.
func dialledMatch(r portRange, invert bool) condition {
	return condition{fmt.Sprintf("-m conntrack %s--ctorigdstport %s", denied(invert), r), func(w *walk, _ *frame) (tri, string) {
		switch {
		case !w.tracked || w.skipped:
			return no, ""
		case !hasPorts(w.proto):
			return maybe, unknownValue
		}
		return truth(r.first <= w.p.Port && w.p.Port <= r.last).invert(invert), ""
	}}
}

// all holds if each of some conditions does.
func all(cs []condition) condition {
	if len(cs) == 1 {
		return cs[0]
	}
	var texts []string
	for _, c := range cs {
		if c.text != "" {
			texts = append(texts, c.text)
		}
	}
	return condition{strings.Join(texts, " "), func(w *walk, f *frame) (tri, string) {
		answer, reason := yes, ""
		for _, c := range cs {
			switch a, why := c.judge(w, f); a {
			case no:
				return no, ""
			case maybe:
				answer, reason = maybe, why
			}
		}
		return answer, reason
	}}
}

type portRange struct{ first, last uint16 }

func (r portRange) String() string {
	if r.first == r.last {
		return strconv.Itoa(int(r.first))
	}
	return fmt.Sprintf("%d:%d", r.first, r.last)
}

// portsMatch holds if one of the ports is in one of the ranges. Of protocol 0 it is for the rule to say that the packet
// has ports at all.
func portsMatch(protocol uint8, option string, source, dest bool, ranges []portRange, invert bool) condition {
	if len(ranges) == 1 && ranges[0] == (portRange{0, 65535}) && !invert {
		return condition{"", always}
	}
	var texts []string
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return condition{denied(invert) + option + " " + strings.Join(texts, ","), func(w *walk, _ *frame) (tri, string) {
		if protocol != 0 && protocol != w.proto || !hasPorts(w.proto) {
			return no, ""
		}
		answer := no
		if source {
			// The client's port is not known.
			answer = maybe
		}
		if dest {
			switch {
			case w.port.unknown:
				answer = maybe
			case slices.ContainsFunc(ranges, func(r portRange) bool { return r.first <= w.port.number && w.port.number <= r.last }):
				answer = yes
			}
		}
		return answer.invert(invert), "the client's port is not known"
	}}
}

// denied is how iptables writes that a condition must not hold.
func denied(really bool) string {
	if really {
		return "! "
	}
	return ""
}

func flagsMatch(mask, want byte, invert bool) condition {
	return condition{fmt.Sprintf("%s--tcp-flags %#x %#x", denied(invert), mask, want), func(w *walk, _ *frame) (tri, string) {
		flags, known := w.tcpFlags()
		return compare([]byte{flags & mask}, []byte{known | ^mask}, []byte{want}, unix.NFT_CMP_EQ).invert(invert), "the packet's TCP flags"
	}}
}

// stateMatch holds if the connection's state is one of the mask's, or, as iptables sees it, its addresses were changed.
func stateMatch(option string, mask uint32, untracked bool, nat uint32, invert bool) condition {
	const snat, dnat = 1 << 6, 1 << 7
	var texts []string
	for _, s := range []struct {
		set  bool
		name string
	}{
		{mask&1 != 0, "INVALID"},
		{mask&8 != 0, "NEW"},
		{mask&4 != 0, "RELATED"},
		{mask&2 != 0, "ESTABLISHED"},
		{untracked, "UNTRACKED"},
		{nat&snat != 0, "SNAT"},
		{nat&dnat != 0, "DNAT"},
	} {
		if s.set {
			texts = append(texts, s.name)
		}
	}
	return condition{denied(invert) + option + " " + strings.Join(texts, ","), func(w *walk, _ *frame) (tri, string) {
		state := w.connState()
		holds := truth(mask&state != 0 || untracked && w.skipped || nat&dnat != 0 && w.destined && w.tracked)
		if holds == no && nat&snat != 0 {
			holds = maybe
		}
		return holds.invert(invert), "whether the packet's source was changed is not known"
	}}
}

func statusMatch(mask uint32, invert bool) condition {
	return condition{fmt.Sprintf("%s-m conntrack --ctstatus %#x", denied(invert), mask), func(w *walk, _ *frame) (tri, string) {
		const dstNAT = 1 << 5
		switch {
		case !w.tracked || w.skipped:
			return no, ""
		case mask&dstNAT != 0 && w.destined:
			return yes.invert(invert), ""
		case mask == dstNAT:
			return no.invert(invert), ""
		}
		return maybe, "the connection's status is not known"
	}}
}

// directions are the flags of xt_set: which parts of an element are of the source.
func directions(dim, flags uint8) []bool {
	var out []bool
	for i := range min(dim, 6) {
		out = append(out, flags&(1<<(i+1)) != 0)
	}
	return out
}

// setMatch asks the kernel whether an ipset holds the packet's parts.
func setMatch(name string, source []bool, invert bool) condition {
	var parts []string
	for _, s := range source {
		parts = append(parts, map[bool]string{true: "src", false: "dst"}[s])
	}
	return condition{fmt.Sprintf("%s-m set --match-set %s %s", denied(invert), name, strings.Join(parts, ",")), func(w *walk, _ *frame) (tri, string) {
		holds, reason := w.inIPSet(name, source)
		return holds.invert(invert), reason
	}}
}

func (w *walk) inIPSet(name string, source []bool) (tri, string) {
	id := fmt.Sprint(name, source, w.dst, w.port)
	if held, ok := w.ipsets[id]; ok {
		return truth(held), ""
	}
	answer, reason := w.askIPSet(name, source)
	if answer != maybe {
		w.ipsets[id] = answer == yes
	}
	return answer, reason
}

func (w *walk) askIPSet(name string, source []bool) (tri, string) {
	typ, family, err := w.r.kernel.ipsetType(name)
	if err != nil {
		return maybe, fmt.Sprintf("the kernel does not tell of the ipset %s (%v)", name, err)
	}
	_, dims, _ := strings.Cut(typ, ":")
	parts := strings.Split(dims, ",")
	if strings.HasPrefix(typ, "list:") || len(parts) > len(source) {
		return maybe, fmt.Sprintf("ipsets of type %s are not followed", typ)
	}
	var data []netlink.Attribute
	ips := []uint16{ipsetAttrIP, ipsetAttrIP2}
	for i, part := range parts {
		a := w.dst
		if source[i] {
			a = addr{Addr: w.p.Src}
		}
		switch part {
		case "ip", "net":
			if family != w.family() {
				return no, ""
			}
			if a.unknown || len(ips) == 0 {
				return maybe, unknownValue
			}
			data, ips = append(data, ipsetAddr(ips[0], a.Addr)), ips[1:]
		case "port":
			if source[i] || w.port.unknown {
				return maybe, unknownValue
			}
			data = append(data,
				netlink.Attribute{Type: ipsetAttrPort | unix.NLA_F_NET_BYTEORDER, Data: binary.BigEndian.AppendUint16(nil, w.port.number)},
				netlink.Attribute{Type: ipsetAttrProto, Data: []byte{w.proto}})
		default:
			return maybe, fmt.Sprintf("ipsets of type %s are not followed", typ)
		}
	}
	holds, err := w.r.kernel.ipsetHolds(name, data)
	switch {
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.Errno(4352)): // outside of a bitmap
		return no, ""
	case err != nil:
		return maybe, fmt.Sprintf("the kernel does not tell what is in the ipset %s (%v)", name, err)
	}
	return truth(holds), ""
}

func addrTypeMatch(source, dest uint16, invSource, invDest, bound bool) condition {
	var texts []string
	add := func(option string, mask uint16, invert bool) {
		if mask == 0 {
			return
		}
		var names []string
		for i := range uint32(16) {
			if mask&(1<<i) != 0 {
				names = append(names, strings.ToUpper(routeType(i)))
			}
		}
		texts = append(texts, denied(invert)+option+" "+strings.Join(names, ","))
	}
	add("--src-type", source, invSource)
	add("--dst-type", dest, invDest)
	return condition{"-m addrtype " + strings.Join(texts, " "), func(w *walk, _ *frame) (tri, string) {
		answer := yes
		for _, side := range []struct {
			mask   uint16
			invert bool
			a      addr
		}{{source, invSource, addr{Addr: w.p.Src}}, {dest, invDest, w.dst}} {
			if side.mask == 0 {
				continue
			}
			holds := maybe
			if kind, ok := w.addrType(side.a); ok && !bound {
				holds = truth(kind < 16 && side.mask&(1<<kind) != 0)
			}
			switch holds.invert(side.invert) {
			case no:
				return no, ""
			case maybe:
				answer = maybe
			}
		}
		return answer, "what kind of address it is to the host is not known"
	}}
}

func markMatch(option string, mark, mask uint32, invert, connection bool) condition {
	return condition{fmt.Sprintf("%s%s %#x/%#x", denied(invert), option, mark, mask), func(w *walk, _ *frame) (tri, string) {
		m := w.mark
		if connection {
			m = w.ctMark
			if !w.tracked || w.skipped {
				return no, ""
			}
		}
		switch {
		case (m.value^mark)&mask&m.known != 0 || mark&^mask != 0:
			return no.invert(invert), ""
		case mask&^m.known != 0:
			return maybe, "the mark is not known"
		}
		return yes.invert(invert), ""
	}}
}

func rangeMatch(b blob) condition {
	const source, dest, invSource, invDest = 1, 2, 1 << 4, 1 << 5
	flags := b.u8(64)
	return condition{"-m iprange", func(w *walk, _ *frame) (tri, string) {
		v6 := w.p.Src.Is6()
		within := func(a addr, at int) tri {
			if a.unknown {
				return maybe
			}
			return truth(!a.Less(b.addr(at, v6)) && !b.addr(at+16, v6).Less(a.Addr))
		}
		answer := yes
		if flags&source != 0 {
			answer = within(addr{Addr: w.p.Src}, 0).invert(flags&invSource != 0)
		}
		if flags&dest != 0 && answer != no {
			answer = min(answer, within(w.dst, 32).invert(flags&invDest != 0))
			if within(w.dst, 32) == maybe {
				answer = maybe
			}
		}
		return answer, unknownValue
	}}
}

// aside are targets that leave the packet to the next rule.
var aside = []string{
	"LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TEE", "CONNMARK", "CONNSECMARK", "SECMARK", "CLASSIFY", "CHECKSUM", "TCPMSS",
	"TCPOPTSTRIP", "DSCP", "TOS", "TTL", "HL", "ECN", "IDLETIMER", "RATEEST", "LED", "SET",
}

// astray is what a target may do of which nothing is known: send the packet anywhere.
func astray(w *walk) {
	if w.hook == "prerouting" {
		w.dst.unknown = true
	}
}

func final(kind verdictKind) op {
	v := &verdict{kind: kind}
	return func(_ *walk, f *frame) (tri, string) { f.verdict = v; return yes, "" }
}

func decodeTarget(name string, rev uint64, info []byte) condition {
	b := blob(info)
	switch {
	case name == "REJECT":
		return condition{"-j REJECT", final(reject)}
	case name == "TARPIT" || name == "DELUDE":
		return condition{"-j " + name, final(drop)}
	case name == "MARK" && rev == 2 && len(b) >= 8:
		return markTarget(b.u32(0), b.u32(4))
	case name == "CONNMARK":
		return condition{"-j CONNMARK", func(_ *walk, f *frame) (tri, string) {
			// It may set either mark from the other.
			f.deeds = append(f.deeds, func(w *walk) {
				w.ctMark = field{}
				if w.mark.value != 0 || w.p.Established {
					w.mark = field{}
				}
			})
			return yes, ""
		}}
	case name == "NOTRACK":
		return condition{"-j NOTRACK", untrack}
	case name == "CT":
		const notrack = 1
		if b.u16(0)&notrack != 0 {
			return condition{"-j CT --notrack", untrack}
		}
		return condition{"-j CT", always}
	case name == "SNAT" || name == "MASQUERADE":
		return condition{"-j " + name, final(accept)}
	case name == "NFQUEUE":
		return condition{"-j NFQUEUE", final(queue)}
	case name == "DNAT" || name == "REDIRECT":
		return natTarget(name, rev, b)
	case slices.Contains(aside, name):
		return condition{"-j " + name, always}
	}
	return condition{"-j " + name, func(_ *walk, f *frame) (tri, string) {
		f.verdict = &verdict{kind: accept}
		f.deeds = append(f.deeds, astray)
		return maybe, "the target " + strconv.Quote(name) + " is not known"
	}}
}

// markTarget is mark = mark &^ mask ^ value.
func markTarget(value, mask uint32) condition {
	return condition{fmt.Sprintf("-j MARK --set-xmark %#x/%#x", value, mask), func(_ *walk, f *frame) (tri, string) {
		f.deeds = append(f.deeds, func(w *walk) {
			w.mark = field{w.mark.value&^mask ^ value, w.mark.known | mask}
		})
		return yes, ""
	}}
}

// natTarget reads struct nf_nat_ipv4_multi_range_compat (DNAT and REDIRECT of IPv4 in revision 0) or struct nf_nat_range.
func natTarget(name string, rev uint64, b blob) condition {
	const mapIPs, ports = 1, 2 // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
	flagsAt, firstAt, lastAt, width, portAt := 0, 4, 20, 16, 36
	if rev == 0 && name == "DNAT" || rev == 0 && len(b) <= 24 {
		// The count of ranges comes first; it is 1.
		flagsAt, firstAt, lastAt, width, portAt = 4, 8, 12, 4, 16
	}
	flags := b.u32(flagsAt)
	var first, last []byte
	if len(b) >= lastAt+width {
		first, last = b[firstAt:firstAt+width], b[lastAt:lastAt+width]
	}
	var p *port
	if flags&ports != 0 {
		p = &port{number: b.port(portAt), unknown: b.port(portAt) != b.port(portAt+2)}
	}
	return natCondition(name, flags&mapIPs != 0, first, last, p)
}

// natCondition changes the destination to an address, in network order and perhaps longer than it is, and a port.
func natCondition(name string, mapped bool, first, last []byte, p *port) condition {
	to := func(v6 bool) addr {
		n := 4
		if v6 {
			n = 16
		}
		if len(first) < n || !slices.Equal(first, last) {
			return addr{unknown: true}
		}
		a, _ := netip.AddrFromSlice(first[:n])
		return addr{Addr: a}
	}
	s := "-j " + name
	if name == "DNAT" {
		s += " --to-destination "
		if mapped && len(first) >= 4 {
			v6 := len(first) == 16 && slices.ContainsFunc(first[4:], func(b byte) bool { return b != 0 })
			s += to(v6).Addr.String()
		}
		if p != nil && !p.unknown {
			s += fmt.Sprintf(":%d", p.number)
		}
	} else if p != nil && !p.unknown {
		s += fmt.Sprintf(" --to-ports %d", p.number)
	}
	return condition{s, func(w *walk, f *frame) (tri, string) {
		f.verdict = &verdict{kind: accept}
		switch {
		case name == "REDIRECT":
			f.deeds = append(f.deeds, redirected(p))
		case mapped:
			f.deeds = append(f.deeds, toward(to(w.p.Src.Is6()), p))
		default:
			f.deeds = append(f.deeds, toward(w.dst, p))
		}
		return yes, ""
	}}
}
