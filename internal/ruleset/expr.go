package ruleset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// This file is what the expressions of nftables do; net/netfilter/nft_*.c is the kernel's side.

// registerBytes is the size of the sixteen registers of four bytes, NFT_REG32_00 to NFT_REG32_15.
const registerBytes = 64

// registers are the bytes that expressions hand to each other, and which of their bits are known.
type registers struct {
	data, known [registerBytes]byte
	// elsewhere is where the name or number of an interface stands of which only is known that it is not lo; one more
	// than the place, so that zero is none.
	elsewhere int
}

// place is where a register begins. 1 to 4 are those of sixteen bytes, 8 to 23 those of four.
func place(reg uint64) (int, bool) {
	switch {
	case reg >= unix.NFT_REG_1 && reg <= unix.NFT_REG_4:
		return int(reg-unix.NFT_REG_1) * 16, true
	case reg >= unix.NFT_REG32_00 && reg < unix.NFT_REG32_00+registerBytes/4:
		return int(reg-unix.NFT_REG32_00) * 4, true
	}
	return 0, false
}

// put stores bytes; the kernel fills up to four with zeros. A nil known is all of them.
func (r *registers) put(at int, data, known []byte) {
	if r.elsewhere == at+1 {
		r.elsewhere = 0
	}
	for i := range (len(data) + 3) &^ 3 {
		if at+i >= registerBytes {
			return
		}
		r.data[at+i], r.known[at+i] = 0, 0xff
		if i < len(data) {
			if known != nil {
				r.known[at+i] = known[i]
			}
			r.data[at+i] = data[i] & r.known[at+i]
		}
	}
}

func (r *registers) forget(at, size int) { r.put(at, make([]byte, size), make([]byte, size)) }

func (r *registers) get(at, size int) (data, known []byte) {
	end := min(at+size, registerBytes)
	return r.data[at:end], r.known[at:end]
}

func allKnown(known []byte) bool {
	return !slices.ContainsFunc(known, func(b byte) bool { return b != 0xff })
}

// native is a number as the kernel holds it.
func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func (f field) store(r *registers, at int) { r.put(at, native(f.value), native(f.known)) }

func load(r *registers, at int) field {
	data, known := r.get(at, 4)
	if len(data) < 4 {
		return field{}
	}
	return field{binary.NativeEndian.Uint32(data), binary.NativeEndian.Uint32(known)}
}

// interfaceName is a name as meta loads it: sixteen bytes, filled up with zeros.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// state is the connection's state as a bit, as nftables and xt_conntrack count them alike.
func (w *walk) connState() uint32 {
	const invalid, established, isNew, untracked = 1, 2, 8, 64
	switch {
	case w.skipped:
		return untracked
	case !w.tracked:
		// Nobody has looked for its connection yet (nft_ct_get_eval).
		return invalid
	case w.p.Established && !w.shadow:
		return established
	}
	return isNew
}

// loadMeta is what is known of a packet besides its bytes.
func (w *walk) loadMeta(r *registers, at int, key uint64) (reason string) {
	switch key {
	case unix.NFT_META_NFPROTO:
		r.put(at, []byte{w.family()}, nil)
	case unix.NFT_META_L4PROTO:
		r.put(at, []byte{w.proto}, nil)
	case unix.NFT_META_PROTOCOL:
		ether := uint16(unix.ETH_P_IP)
		if w.p.Src.Is6() {
			ether = unix.ETH_P_IPV6
		}
		r.put(at, binary.BigEndian.AppendUint16(nil, ether), nil)
	case unix.NFT_META_MARK:
		w.mark.store(r, at)
	case unix.NFT_META_PKTTYPE:
		r.put(at, []byte{unix.PACKET_HOST}, nil)
	case unix.NFT_META_IIFNAME:
		w.loadName(r, at, w.p.In)
	case unix.NFT_META_OIFNAME:
		switch {
		case w.hook == "forward" || w.hook == "postrouting":
			w.loadName(r, at, w.out)
		default:
			// No way out is known yet: no name at all (nft_meta_get_eval_ifname writes zeros).
			r.put(at, interfaceName(""), nil)
		}
	case unix.NFT_META_IIF, unix.NFT_META_OIF:
		name := w.p.In
		if key == unix.NFT_META_OIF {
			name = w.out
			if w.hook != "forward" && w.hook != "postrouting" {
				r.put(at, native(0), nil)
				return ""
			}
		}
		index, err := 0, error(nil)
		if name != "" {
			index, err = w.r.kernel.linkIndex(name)
		}
		if index == 0 || err != nil {
			r.forget(at, 4)
			if name == "" {
				r.elsewhere = at + 1
			}
			return "the interface is not known"
		}
		r.put(at, native(uint32(index)), nil)
	default:
		r.forget(at, 16)
		return "what it asks about the packet cannot be known beforehand"
	}
	return ""
}

func (w *walk) loadName(r *registers, at int, name string) {
	if name != "" {
		r.put(at, interfaceName(name), nil)
		return
	}
	r.forget(at, unix.IFNAMSIZ)
	r.elsewhere = at + 1
}

// Keys of ct that golang.org/x/sys/unix does not have: NFT_CT_SRC_IP and so on.
const ctSrcIP, ctDstIP, ctSrcIP6, ctDstIP6 = 19, 20, 21, 22

// loadCT is what is known of a connection. ok is false where there is none, and the rule does not match.
func (w *walk) loadCT(r *registers, at int, key, direction uint64) (ok bool) {
	const original = 0 // IP_CT_DIR_ORIGINAL
	if key == unix.NFT_CT_STATE {
		r.put(at, native(w.connState()), nil)
		return true
	}
	if !w.tracked || w.skipped {
		return false
	}
	switch key {
	case unix.NFT_CT_DIRECTION:
		r.put(at, []byte{original}, nil)
	case unix.NFT_CT_STATUS:
		const dstNAT = 1 << 5 // IPS_DST_NAT
		f := field{known: dstNAT}
		if w.destined {
			f.value = dstNAT
		}
		f.store(r, at)
	case unix.NFT_CT_MARK:
		w.ctMark.store(r, at)
	case unix.NFT_CT_L3PROTOCOL:
		r.put(at, []byte{w.family()}, nil)
	case unix.NFT_CT_PROTOCOL:
		r.put(at, []byte{w.proto}, nil)
	case unix.NFT_CT_SRC, ctSrcIP, ctSrcIP6, unix.NFT_CT_DST, ctDstIP, ctDstIP6, unix.NFT_CT_PROTO_DST:
		if direction != original {
			r.forget(at, 16)
			break
		}
		switch {
		case key == unix.NFT_CT_SRC || key == ctSrcIP || key == ctSrcIP6:
			r.put(at, w.p.Src.AsSlice(), nil)
		case key != unix.NFT_CT_PROTO_DST:
			r.put(at, w.p.Dst.AsSlice(), nil)
		case hasPorts(w.proto):
			r.put(at, binary.BigEndian.AppendUint16(nil, w.p.Port), nil)
		default:
			r.forget(at, 2)
		}
	default:
		r.forget(at, 16)
	}
	return true
}

// header is a packet's header as far as it is known.
func (w *walk) header(base uint64) (data, known []byte) {
	data, known = make([]byte, 64), make([]byte, 64)
	fill := func(at int, b []byte) {
		copy(data[at:], b)
		copy(known[at:], bytes.Repeat([]byte{0xff}, len(b)))
	}
	address := func(at int, a netip.Addr, unknown bool) {
		if !unknown {
			fill(at, a.AsSlice())
		}
	}
	switch {
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER && w.p.Src.Is4():
		fill(0, []byte{0x45})
		fill(9, []byte{w.proto})
		address(12, w.p.Src, false)
		address(16, w.dst.Addr, w.dst.unknown)
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER:
		data[0], known[0] = 0x60, 0xf0
		fill(6, []byte{w.proto})
		address(8, w.p.Src, false)
		address(24, w.dst.Addr, w.dst.unknown)
	case base == unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		if hasPorts(w.proto) && !w.port.unknown {
			fill(2, binary.BigEndian.AppendUint16(nil, w.port.number))
		}
		if w.proto == unix.IPPROTO_TCP {
			data[13], known[13] = w.tcpFlags()
		}
	}
	return data, known
}

// The flags of a TCP header.
const (
	tcpFIN, tcpSYN, tcpRST, tcpACK = 0x01, 0x02, 0x04, 0x10
)

// tcpFlags are those of the packet that opens a connection, or of one that carries data.
func (w *walk) tcpFlags() (flags, known byte) {
	if w.p.Established && !w.shadow {
		return tcpACK, tcpFIN | tcpSYN | tcpRST | tcpACK
	}
	return tcpSYN, 0x3f
}

// compare holds known and unknown bits against a value, the first byte weighing most.
func compare(data, known, with []byte, op uint64) tri {
	n := min(len(data), len(with))
	data, known, with = data[:n], known[:n], with[:n]
	equal := yes
	for i := range n {
		if (data[i]^with[i])&known[i] != 0 {
			equal = no
			break
		}
		if known[i] != 0xff {
			equal = maybe
		}
	}
	switch op {
	case unix.NFT_CMP_EQ:
		return equal
	case unix.NFT_CMP_NEQ:
		return equal.invert(true)
	}
	// The smallest and the largest value that the unknown bits allow.
	low, high := make([]byte, n), make([]byte, n)
	for i := range n {
		low[i], high[i] = data[i]&known[i], data[i]|^known[i]
	}
	l, h := bytes.Compare(low, with), bytes.Compare(high, with)
	var always, never bool
	switch op {
	case unix.NFT_CMP_LT:
		always, never = h < 0, l >= 0
	case unix.NFT_CMP_LTE:
		always, never = h <= 0, l > 0
	case unix.NFT_CMP_GT:
		always, never = l > 0, h <= 0
	case unix.NFT_CMP_GTE:
		always, never = l >= 0, h < 0
	}
	switch {
	case always:
		return yes
	case never:
		return no
	}
	return maybe
}

// loopback is the number of lo, which is the first interface of every namespace.
const loopback = 1

const unknownValue = "what it looks at is not known beforehand"

// cmpOp compares a register with a constant.
func cmpOp(at int, op uint64, with []byte) op {
	return func(w *walk, f *frame) (tri, string) {
		data, known := f.get(at, len(with))
		answer := compare(data, known, with, op)
		if answer == maybe && f.elsewhere == at+1 && (text(with) == "lo" || bytes.Equal(with, native(loopback))) {
			// It comes from outside.
			answer = truth(op == unix.NFT_CMP_NEQ)
		}
		return answer, unknownValue
	}
}

// rangeOp compares a register with two constants, both included.
func rangeOp(at int, op uint64, from, to []byte) op {
	return func(w *walk, f *frame) (tri, string) {
		data, known := f.get(at, len(from))
		low, high := compare(data, known, from, unix.NFT_CMP_GTE), compare(data, known, to, unix.NFT_CMP_LTE)
		answer := maybe
		switch {
		case low == no || high == no:
			answer = no
		case low == yes && high == yes:
			answer = yes
		}
		return answer.invert(op == unix.NFT_RANGE_NEQ), unknownValue
	}
}

// bitwiseOp is (source & mask) ^ xor.
func bitwiseOp(from, to int, mask, xor []byte) op {
	return func(w *walk, f *frame) (tri, string) {
		n := min(len(mask), len(xor))
		data, known := f.get(from, n)
		d, k := make([]byte, len(data)), make([]byte, len(data))
		for i := range d {
			d[i], k[i] = data[i]&mask[i]^xor[i], known[i]|^mask[i]
		}
		f.put(to, d, k)
		return yes, ""
	}
}

// shiftOp moves the bits of a number that is read from the first byte on.
func shiftOp(from, to, size int, by uint, left bool) op {
	return func(w *walk, f *frame) (tri, string) {
		data, known := f.get(from, size)
		if size != 4 || len(data) != 4 || !allKnown(known) || by > 31 {
			f.forget(to, size)
			return yes, ""
		}
		v := binary.NativeEndian.Uint32(data)
		if left {
			v <<= by
		} else {
			v >>= by
		}
		f.put(to, native(v), nil)
		return yes, ""
	}
}

// byteorderOp turns numbers round, where the machine's order is not the network's.
func byteorderOp(from, to, size, unit int) op {
	return func(w *walk, f *frame) (tri, string) {
		data, known := f.get(from, size)
		d, k := slices.Clone(data), slices.Clone(known)
		if binary.NativeEndian.Uint16([]byte{0, 1}) != 1 && unit > 0 {
			for i := 0; i+unit <= len(d); i += unit {
				slices.Reverse(d[i : i+unit])
				slices.Reverse(k[i : i+unit])
			}
		}
		f.put(to, d, k)
		return yes, ""
	}
}

// lookupOp looks for a register's value in a set; in a map it finds a value or a verdict.
func lookupOp(s *set, from, to int, toVerdict, invert bool) op {
	return func(w *walk, f *frame) (tri, string) {
		key, known := f.get(from, s.keyLen)
		if len(key) < s.keyLen || !allKnown(known) {
			if toVerdict {
				return w.lookupAny(f, s, key, known)
			}
			if to >= 0 {
				f.forget(to, max(s.dataLen, 1))
			}
			return maybe, unknownValue
		}
		e, err := w.find(s, bytes.Clone(key))
		if err != nil {
			if toVerdict {
				// Which verdict it would be cannot be said; the one that lets it pass is the safe one.
				f.verdict = &verdict{kind: accept}
			}
			return maybe, fmt.Sprintf("the kernel did not tell what is in the set %s (%v)", s.name, err)
		}
		switch {
		case e == nil:
			return truth(invert), ""
		case toVerdict && e.verdict != nil:
			if e.verdict.kind != proceed {
				f.verdict = e.verdict
			}
		case to >= 0:
			f.put(to, e.value, nil)
		}
		return truth(!invert), ""
	}
}

// lookupAny finds a verdict for a key that is not wholly known: each that it may be is tried in turn.
func (w *walk) lookupAny(f *frame, s *set, key, known []byte) (tri, string) {
	id := s.table + "\x00" + s.name + "\x00verdicts" + string([]byte{s.family})
	verdicts, listed := w.lists[id]
	if !listed {
		es, err := w.r.kernel.elements(s)
		if err != nil {
			f.verdict = &verdict{kind: accept}
			return maybe, fmt.Sprintf("the kernel did not tell what is in the map %s (%v)", s.name, err)
		}
		verdicts = es
		w.lists[id] = es
	}
	interval := s.flags&unix.NFT_SET_INTERVAL != 0
	var tried []verdict
	for _, e := range verdicts {
		if e.verdict == nil || slices.Contains(tried, *e.verdict) || !interval && len(e.key) > 0 && compare(key, known, e.key, unix.NFT_CMP_EQ) == no {
			continue
		}
		if f.elsewhere != 0 && text(e.key) == "lo" {
			continue
		}
		tried = append(tried, *e.verdict)
		const most = 16
		if len(tried) > most {
			break
		}
		guess := e.verdict.kind == accept
		if w.decide(guess, fmt.Sprintf("%s, map @%s: which entry fits is not known", f.chain.where(), s.name),
			"taken to be one with "+e.verdict.String(), "taken not to be one with "+e.verdict.String()) {
			if e.verdict.kind != proceed {
				f.verdict = e.verdict
			}
			return yes, ""
		}
	}
	return no, ""
}

// fibOp asks the routing table about an address of the packet.
func fibOp(to int, result, flags uint64) op {
	return func(w *walk, f *frame) (tri, string) {
		const addrType = 3 // NFT_FIB_RESULT_ADDRTYPE
		if result == addrType {
			a := w.dst
			if flags&unix.NFTA_FIB_F_SADDR != 0 {
				a = addr{Addr: w.p.Src}
			}
			if kind, ok := w.addrType(a); ok {
				f.put(to, native(uint32(kind)), nil)
				return yes, ""
			}
		}
		f.forget(to, 16)
		return yes, ""
	}
}

// addrType is what an address is to this host, as RTN_LOCAL and so on.
func (w *walk) addrType(a addr) (kind uint8, ok bool) {
	if a.unknown {
		return 0, false
	}
	found, err := w.way(a.Addr)
	return found.kind, err == nil
}

// toward changes the packet's destination, as the first packet of a connection is told.
func toward(to addr, p *port) func(*walk) {
	return func(w *walk) {
		if w.hook != "prerouting" {
			return
		}
		w.dst, w.destined = to, true
		if p != nil {
			w.port = *p
		}
	}
}

// redirected sends the packet to this host.
func redirected(p *port) func(*walk) {
	return func(w *walk) {
		if w.hook != "prerouting" {
			return
		}
		// To an address of the interface that it came by; which, no rule after asks that we know of.
		w.dst, w.destined, w.local = addr{unknown: true}, true, true
		if p != nil {
			w.port = *p
		}
	}
}

// natOp is dnat of nftables: registers hold the new address and port, or -1 where they are not given. To packets of
// another family it does nothing (nft_nat_inet_eval).
func natOp(family uint8, destination bool, addrAt, addrMaxAt, portAt, portMaxAt int) op {
	return func(w *walk, f *frame) (tri, string) {
		if family != unix.NFPROTO_INET && family != w.family() {
			return yes, ""
		}
		f.verdict = &verdict{kind: accept}
		if !destination {
			return yes, ""
		}
		to := w.dst
		if addrAt >= 0 {
			size := w.p.Src.BitLen() / 8
			data, known := f.get(addrAt, size)
			to = addr{unknown: true}
			if a, ok := netip.AddrFromSlice(data); ok && allKnown(known) && f.same(addrAt, addrMaxAt, size) {
				to = addr{Addr: a}
			}
		}
		f.deeds = append(f.deeds, toward(to, f.port(portAt, portMaxAt)))
		return yes, ""
	}
}

// same reports whether the two ends of a range are one; max may be missing.
func (r *registers) same(at, max, size int) bool {
	if max < 0 || max == at {
		return true
	}
	a, _ := r.get(at, size)
	b, known := r.get(max, size)
	return bytes.Equal(a, b) && allKnown(known)
}

func (r *registers) port(at, max int) *port {
	if at < 0 {
		return nil
	}
	data, known := r.get(at, 2)
	if len(data) < 2 || !allKnown(known) || !r.same(at, max, 2) {
		return &port{unknown: true}
	}
	return &port{number: binary.BigEndian.Uint16(data)}
}

// always is an op that does nothing to a packet's fate.
func always(*walk, *frame) (tri, string) { return yes, "" }

// perhaps is an op that cannot be judged.
func perhaps(reason string) op {
	return func(*walk, *frame) (tri, string) { return maybe, reason }
}

// clip keeps a number from the kernel within an int.
func clip(n uint64) int { return int(min(n, math.MaxInt32)) }
