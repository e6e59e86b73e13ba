package ruleset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A word is a piece of a rule's text: its own, or a set that goes with the rule and is listed when the rule is shown.
type word struct {
	text string
	set  *set
	show func([]byte) string // an element of the set
}

// A subject is what a register holds, as nft calls it, and how a value of it is written.
type subject struct {
	name string
	show func([]byte) string
	size int
	mask []byte // that was laid on it
	need string // what goes without saying: udp, ipv4 …
	is   []byte // a constant
}

// A decoder makes a rule of what the kernel tells of it.
type decoder struct {
	chain *chain
	rule  *rule
	sets  map[setKey]*set
	ipset func(index uint16) string
	link  func(index int) string // the name of an interface

	subjects map[int]subject // by where they stand in the registers
	implied  map[string]int  // words that a later one may make superfluous, by what they say
	proto    string          // the transport protocol, once a condition said so
	v6       bool            // the addresses are of IPv6
}

func (d *decoder) say(s string) { d.rule.words = append(d.rule.words, word{text: s}) }

// imply says a condition that nft leaves out where a later one cannot be without it, as udp dport without udp.
func (d *decoder) imply(what, s string) {
	if d.implied == nil {
		d.implied = make(map[string]int)
	}
	d.implied[what] = len(d.rule.words)
	d.say(s)
}

func (d *decoder) do(o op) { d.rule.ops = append(d.rule.ops, o) }

func (d *decoder) finish(userdata []byte) {
	for len(userdata) >= 2 && len(userdata) >= 2+int(userdata[1]) {
		const comment = 0 // NFTNL_UDATA_RULE_COMMENT
		if userdata[0] == comment {
			d.say(`comment "` + text(userdata[2:2+int(userdata[1])]) + `"`)
		}
		userdata = userdata[2+int(userdata[1]):]
	}
	if d.rule.handle != 0 {
		d.say("# handle " + strconv.FormatUint(d.rule.handle, 10))
	}
}

// expression adds one expression to the rule.
func (d *decoder) expression(b []byte) {
	e := attributes(b)
	name, a := text(e[unix.NFTA_EXPR_NAME]), attributes(e[unix.NFTA_EXPR_DATA])
	if d.subjects == nil {
		d.subjects = make(map[int]subject)
	}
	switch name {
	case "ct", "redir", "masq", "connlimit", "flow_offload", "synproxy":
		d.chain.track(d.chain.protocol)
	case "nat":
		d.chain.track(uint8(number(a[unix.NFTA_NAT_FAMILY])))
	}
	if known, ok := decoders[name]; ok && known(d, a) {
		return
	}
	d.say("[" + name + "]")
	d.unknown("the expression " + strconv.Quote(name) + " is not known")
	if !slices.Contains(readers, name) {
		d.do(func(_ *walk, f *frame) (tri, string) {
			f.deeds = append(f.deeds, astray)
			return yes, ""
		})
	}
}

// readers are expressions that are not followed and of which is known that they do nothing to the packet.
var readers = []string{"exthdr", "rt", "numgen", "hash", "socket", "osf", "xfrm", "tunnel", "inner"}

// unknown is a condition that cannot be judged. It may have changed any register.
func (d *decoder) unknown(reason string) {
	clear(d.subjects)
	d.do(func(_ *walk, f *frame) (tri, string) {
		f.registers = registers{}
		return maybe, reason
	})
}

// register is the place that an attribute names.
func register(a map[uint16][]byte, typ uint16) (int, bool) {
	b, ok := a[typ]
	if !ok {
		return -1, false
	}
	return place(number(b))
}

func value(b []byte) []byte { return attributes(b)[unix.NFTA_DATA_VALUE] }

// decoders make an op of each expression; they answer false if they cannot.
var decoders map[string]func(*decoder, map[uint16][]byte) bool

func init() {
	decoders = map[string]func(*decoder, map[uint16][]byte) bool{
		"meta": (*decoder).meta, "payload": (*decoder).payload, "cmp": (*decoder).cmp, "range": (*decoder).inRange,
		"bitwise": (*decoder).bitwise, "byteorder": (*decoder).byteorder, "lookup": (*decoder).lookup,
		"immediate": (*decoder).immediate, "ct": (*decoder).ct, "fib": (*decoder).fib, "nat": (*decoder).nat,
		"redir": (*decoder).redir, "masq": (*decoder).masquerade, "match": (*decoder).match, "target": (*decoder).target,
		"dynset": (*decoder).dynset, "limit": (*decoder).limit, "log": (*decoder).log, "reject": (*decoder).reject,
		"objref": (*decoder).object, "queue": (*decoder).queue, "flow_offload": (*decoder).offload,
		"counter": func(d *decoder, _ map[uint16][]byte) bool { d.say("counter"); d.do(always); return true },
		"last":    func(*decoder, map[uint16][]byte) bool { return true },
		"dup":     func(d *decoder, _ map[uint16][]byte) bool { d.say("dup"); return true },
		"quota":   func(d *decoder, _ map[uint16][]byte) bool { d.say("quota"); d.do(perhaps("a quota")); return true },
		"connlimit": func(d *decoder, _ map[uint16][]byte) bool {
			d.say("ct count")
			d.do(perhaps("how many connections there are is not known"))
			return true
		},
		"notrack": func(d *decoder, _ map[uint16][]byte) bool {
			d.say("notrack")
			d.do(untrack)
			return true
		},
	}
}

// untrack keeps connection tracking away from the packet, if it did not see it yet.
func untrack(_ *walk, f *frame) (tri, string) {
	f.deeds = append(f.deeds, func(w *walk) {
		if !w.tracked {
			w.skipped = true
		}
	})
	return yes, ""
}

func (d *decoder) meta(a map[uint16][]byte) bool {
	key := number(a[unix.NFTA_META_KEY])
	name, show := metaName(key)
	if d.link != nil && (key == unix.NFT_META_IIF || key == unix.NFT_META_OIF) {
		show = func(b []byte) string {
			if len(b) == 4 {
				if name := d.link(int(int32(binary.NativeEndian.Uint32(b)))); name != "" {
					return `"` + name + `"`
				}
			}
			return showNative(b)
		}
	}
	if from, ok := register(a, unix.NFTA_META_SREG); ok {
		d.say(name + " set " + d.named(from, 4))
		if key == unix.NFT_META_MARK {
			d.do(func(_ *walk, f *frame) (tri, string) {
				v := load(&f.registers, from)
				f.mark = &v
				f.deeds = append(f.deeds, func(w *walk) { w.mark = v })
				return yes, ""
			})
		}
		return true
	}
	to, ok := register(a, unix.NFTA_META_DREG)
	if !ok {
		return false
	}
	d.subjects[to] = subject{name: name, show: show, size: 4}
	d.do(func(w *walk, f *frame) (tri, string) {
		if key == unix.NFT_META_MARK && f.mark != nil {
			f.mark.store(&f.registers, to)
			return yes, ""
		}
		w.loadMeta(&f.registers, to, key)
		return yes, ""
	})
	return true
}

func metaName(key uint64) (string, func([]byte) string) {
	switch key {
	case unix.NFT_META_PROTOCOL:
		return "meta protocol", func(b []byte) string {
			switch number(b) {
			case unix.ETH_P_IP:
				return "ip"
			case unix.ETH_P_IPV6:
				return "ip6"
			}
			return showHex(b)
		}
	case unix.NFT_META_MARK:
		return "meta mark", showMark
	case unix.NFT_META_IIF:
		return "iif", showNative
	case unix.NFT_META_OIF:
		return "oif", showNative
	case unix.NFT_META_IIFNAME:
		return "iifname", showName
	case unix.NFT_META_OIFNAME:
		return "oifname", showName
	case unix.NFT_META_NFPROTO:
		return "meta nfproto", showFamily
	case unix.NFT_META_L4PROTO:
		return "meta l4proto", showProtocol
	case unix.NFT_META_PKTTYPE:
		return "meta pkttype", func(b []byte) string {
			if len(b) > 0 && int(b[0]) < 4 {
				return [...]string{"host", "broadcast", "multicast", "other"}[b[0]]
			}
			return showHex(b)
		}
	case unix.NFT_META_SKUID:
		return "meta skuid", showNative
	case unix.NFT_META_SKGID:
		return "meta skgid", showNative
	case unix.NFT_META_CGROUP:
		return "meta cgroup", showNative
	case unix.NFT_META_NFTRACE:
		return "meta nftrace", showNumber
	}
	return fmt.Sprintf("meta %d", key), showHex
}

func (d *decoder) payload(a map[uint16][]byte) bool {
	base, offset, size := number(a[unix.NFTA_PAYLOAD_BASE]), clip(number(a[unix.NFTA_PAYLOAD_OFFSET])), clip(number(a[unix.NFTA_PAYLOAD_LEN]))
	if _, ok := a[unix.NFTA_PAYLOAD_SREG]; ok {
		d.say("payload set")
		d.do(func(_ *walk, f *frame) (tri, string) {
			f.deeds = append(f.deeds, func(w *walk) {
				// Which header it changes is not followed.
				w.dst.unknown, w.port.unknown = true, true
			})
			return yes, ""
		})
		return true
	}
	to, ok := register(a, unix.NFTA_PAYLOAD_DREG)
	if !ok || size <= 0 || size > registerBytes {
		return false
	}
	d.subjects[to] = d.field(base, offset, size)
	d.do(func(w *walk, f *frame) (tri, string) {
		data, known := w.header(base)
		if base > unix.NFT_PAYLOAD_TRANSPORT_HEADER || base == unix.NFT_PAYLOAD_LL_HEADER || offset+size > len(data) {
			f.forget(to, size)
			return yes, ""
		}
		f.put(to, data[offset:offset+size], known[offset:offset+size])
		return yes, ""
	})
	return true
}

// field is what nft calls a part of a header.
func (d *decoder) field(base uint64, offset, size int) subject {
	v6 := d.v6 || d.chain.protocol == unix.NFPROTO_IPV6
	s := subject{name: fmt.Sprintf("@%d,%d,%d", base, offset*8, size*8), show: showHex, size: size}
	switch base {
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		s.name = fmt.Sprintf("@nh,%d,%d", offset*8, size*8)
		s.need = map[bool]string{false: "ipv4", true: "ipv6"}[v6]
		switch {
		case !v6 && offset == 9 && size == 1:
			s.name, s.show = "ip protocol", showProtocol
		case !v6 && (offset == 12 || offset == 16) && size <= 4:
			s.name, s.show = [...]string{"ip saddr", "ip daddr"}[(offset-12)/4], showPrefix(4)
		case v6 && offset == 6 && size == 1:
			s.name, s.show = "ip6 nexthdr", showProtocol
		case v6 && (offset == 8 || offset == 24) && size <= 16:
			s.name, s.show = [...]string{"ip6 saddr", "ip6 daddr"}[(offset-8)/16], showPrefix(16)
		}
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		s.name = fmt.Sprintf("@th,%d,%d", offset*8, size*8)
		proto := d.proto
		if proto == "" {
			proto = "th"
		}
		s.need = d.proto
		switch {
		case offset == 0 && size == 2:
			s.name, s.show = proto+" sport", showNumber
		case offset == 2 && size == 2:
			s.name, s.show = proto+" dport", showNumber
		case offset == 13 && size == 1 && proto == "tcp":
			s.name = "tcp flags"
		case offset == 0 && size == 1 && strings.HasPrefix(proto, "icmp"):
			s.name, s.show = proto+" type", showNumber
		}
	case unix.NFT_PAYLOAD_LL_HEADER:
		s.name = fmt.Sprintf("@ll,%d,%d", offset*8, size*8)
	}
	return s
}

// named is what the registers from a place on are called; several are joined.
func (d *decoder) named(at, size int) string {
	var parts []string
	for end := at + max(size, 1); at < end; {
		s, ok := d.subjects[at]
		if !ok {
			return "?"
		}
		parts = append(parts, s.name)
		at += (max(s.size, 1) + 3) &^ 3
	}
	return strings.Join(parts, " . ")
}

// shower is how the value of the registers from a place on is written.
func (d *decoder) shower(at, size int) func([]byte) string {
	type part struct {
		show func([]byte) string
		size int
	}
	var parts []part
	for end := at + max(size, 1); at < end; {
		s, ok := d.subjects[at]
		if !ok {
			return showHex
		}
		parts = append(parts, part{s.show, max(s.size, 1)})
		at += (max(s.size, 1) + 3) &^ 3
	}
	return func(b []byte) string {
		if len(parts) == 1 {
			return parts[0].show(b)
		}
		var out []string
		for _, p := range parts {
			n := min(p.size, len(b))
			out = append(out, p.show(b[:n]))
			b = b[min((p.size+3)&^3, len(b)):]
		}
		return strings.Join(out, " . ")
	}
}

// need takes back what the subject implies.
func (d *decoder) need(at int) { d.goesWithoutSaying(d.subjects[at].need) }

func (d *decoder) goesWithoutSaying(what string) {
	if i, ok := d.implied[what]; ok {
		d.rule.words[i].text = ""
	}
}

func (d *decoder) cmp(a map[uint16][]byte) bool {
	at, ok := register(a, unix.NFTA_CMP_SREG)
	with, op := value(a[unix.NFTA_CMP_DATA]), number(a[unix.NFTA_CMP_OP])
	if !ok || len(with) == 0 || op > unix.NFT_CMP_GTE {
		return false
	}
	s := d.subjects[at]
	d.need(at)
	d.do(cmpOp(at, op, with))
	sign := [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}[op]
	switch {
	case op == unix.NFT_CMP_EQ && s.name == "meta nfproto":
		d.v6 = with[0] == unix.NFPROTO_IPV6
		d.imply(s.show(with), "meta nfproto "+s.show(with))
		return true
	case op == unix.NFT_CMP_EQ && s.name == "meta protocol":
		d.v6 = number(with) == unix.ETH_P_IPV6
		d.imply(map[bool]string{false: "ipv4", true: "ipv6"}[d.v6], "meta protocol "+s.show(with))
		return true
	case op == unix.NFT_CMP_EQ && s.name == "meta l4proto" && len(with) == 1:
		d.proto = protocolName(with[0])
		d.imply(d.proto, "meta l4proto "+d.proto)
		return true
	case s.show == nil:
		d.say("? " + sign + showHex(with))
		return true
	case s.mask != nil && op == unix.NFT_CMP_NEQ && !slices.ContainsFunc(with, func(b byte) bool { return b != 0 }):
		// As in ct state established,related: one of these bits.
		d.say(s.name + " " + s.show(s.mask))
		return true
	case s.mask != nil:
		if n, ok := prefixLen(s.mask); ok && strings.HasSuffix(s.name, "addr") {
			d.say(s.name + " " + sign + showPrefix(len(s.mask))(with) + "/" + strconv.Itoa(n))
			return true
		}
		d.say(s.name + " & " + s.show(s.mask) + " " + strings.TrimPrefix("== "+sign, "== != ") + s.show(with))
		return true
	}
	d.say(s.name + " " + sign + s.show(with))
	return true
}

// prefixLen is the length of a mask that has no hole.
func prefixLen(mask []byte) (int, bool) {
	n := 0
	for i, b := range mask {
		ones := bits.LeadingZeros8(^b)
		n += ones
		if ones < 8 {
			if b<<ones != 0 || slices.ContainsFunc(mask[i+1:], func(b byte) bool { return b != 0 }) {
				return 0, false
			}
			break
		}
	}
	return n, true
}

func (d *decoder) inRange(a map[uint16][]byte) bool {
	at, ok := register(a, unix.NFTA_RANGE_SREG)
	from, to, op := value(a[unix.NFTA_RANGE_FROM_DATA]), value(a[unix.NFTA_RANGE_TO_DATA]), number(a[unix.NFTA_RANGE_OP])
	if !ok || len(from) == 0 || len(from) != len(to) || op > unix.NFT_RANGE_NEQ {
		return false
	}
	d.need(at)
	show := d.shower(at, len(from))
	d.say(d.named(at, len(from)) + " " + [...]string{"", "!= "}[op] + show(from) + "-" + show(to))
	d.do(rangeOp(at, op, from, to))
	return true
}

func (d *decoder) bitwise(a map[uint16][]byte) bool {
	const (
		opAttr, dataAttr        = 6, 7 // NFTA_BITWISE_OP, NFTA_BITWISE_DATA
		opMask, opLeft, opRight = 0, 1, 2
	)
	from, ok := register(a, unix.NFTA_BITWISE_SREG)
	to, ok2 := register(a, unix.NFTA_BITWISE_DREG)
	size := clip(number(a[unix.NFTA_BITWISE_LEN]))
	if !ok || !ok2 || size > registerBytes {
		return false
	}
	switch op := number(a[opAttr]); op {
	case opMask:
		mask, xor := value(a[unix.NFTA_BITWISE_MASK]), value(a[unix.NFTA_BITWISE_XOR])
		if len(mask) == 0 || len(mask) != len(xor) {
			return false
		}
		s := d.subjects[from]
		s.mask = mask
		d.subjects[to] = s
		if slices.ContainsFunc(xor, func(b byte) bool { return b != 0 }) {
			d.subjects[to] = subject{name: s.name + " & " + showHex(mask) + " ^ " + showHex(xor), show: showHex, size: size}
		}
		d.do(bitwiseOp(from, to, mask, xor))
	case opLeft, opRight:
		by := value(a[dataAttr])
		if len(by) != 4 {
			return false
		}
		n := binary.NativeEndian.Uint32(by)
		d.subjects[to] = subject{name: fmt.Sprintf("%s %s %d", d.named(from, size), [...]string{"", "<<", ">>"}[op], n), show: showHex, size: size}
		d.do(shiftOp(from, to, size, uint(n), op == opLeft))
	default:
		return false
	}
	return true
}

func (d *decoder) byteorder(a map[uint16][]byte) bool {
	from, ok := register(a, unix.NFTA_BYTEORDER_SREG)
	to, ok2 := register(a, unix.NFTA_BYTEORDER_DREG)
	size, unit := clip(number(a[unix.NFTA_BYTEORDER_LEN])), clip(number(a[unix.NFTA_BYTEORDER_SIZE]))
	if !ok || !ok2 || size > registerBytes {
		return false
	}
	s := d.subjects[from]
	if unit == 4 && size == 4 {
		show := s.show
		s.show = func(b []byte) string {
			b = bytes.Clone(b)
			slices.Reverse(b)
			if show == nil {
				return showHex(b)
			}
			return show(b)
		}
	}
	d.subjects[to] = s
	d.do(byteorderOp(from, to, size, unit))
	return true
}

func (d *decoder) lookup(a map[uint16][]byte) bool {
	const flagInvert = 1 // NFT_LOOKUP_F_INV
	s := d.sets[setKey{d.chain.protocol, d.chain.table, text(a[unix.NFTA_LOOKUP_SET])}]
	from, ok := register(a, unix.NFTA_LOOKUP_SREG)
	if s == nil || !ok {
		return false
	}
	invert := number(a[unix.NFTA_LOOKUP_FLAGS])&flagInvert != 0
	d.need(from)
	dreg, isMap := a[unix.NFTA_LOOKUP_DREG]
	name, show := d.named(from, s.keyLen), d.shower(from, s.keyLen)
	if !isMap {
		sign := ""
		if invert {
			sign = "!= "
		}
		d.rule.words = append(d.rule.words, word{text: name + " " + sign, set: s, show: show})
		d.do(lookupOp(s, from, -1, false, invert))
		return true
	}
	to, ok := place(number(dreg))
	if !ok {
		if number(dreg) != unix.NFT_REG_VERDICT || !s.verdicts {
			return false
		}
		d.rule.words = append(d.rule.words, word{text: name + " vmap ", set: s, show: show})
		d.do(lookupOp(s, from, -1, true, false))
		return true
	}
	d.subjects[to] = subject{name: name + " map @" + s.name, show: showHex, size: s.dataLen}
	d.do(lookupOp(s, from, to, false, false))
	return true
}

func (d *decoder) immediate(a map[uint16][]byte) bool {
	data := attributes(a[unix.NFTA_IMMEDIATE_DATA])
	if v, ok := data[unix.NFTA_DATA_VERDICT]; ok {
		v := parseVerdict(v)
		d.say(v.String())
		if v.kind != proceed {
			d.do(func(_ *walk, f *frame) (tri, string) { f.verdict = v; return yes, "" })
		}
		return true
	}
	to, ok := register(a, unix.NFTA_IMMEDIATE_DREG)
	b := data[unix.NFTA_DATA_VALUE]
	if !ok || len(b) == 0 || len(b) > registerBytes {
		return false
	}
	d.subjects[to] = subject{name: showHex(b), show: showHex, size: len(b), is: b}
	d.do(func(_ *walk, f *frame) (tri, string) { f.put(to, b, nil); return yes, "" })
	return true
}

func (d *decoder) ct(a map[uint16][]byte) bool {
	key, direction := number(a[unix.NFTA_CT_KEY]), number(a[unix.NFTA_CT_DIRECTION])
	names := map[uint64]string{
		unix.NFT_CT_STATE: "state", unix.NFT_CT_DIRECTION: "direction", unix.NFT_CT_STATUS: "status", unix.NFT_CT_MARK: "mark",
		unix.NFT_CT_HELPER: "helper", unix.NFT_CT_L3PROTOCOL: "l3proto", unix.NFT_CT_SRC: "saddr", unix.NFT_CT_DST: "daddr",
		unix.NFT_CT_PROTOCOL: "protocol", unix.NFT_CT_PROTO_SRC: "proto-src", unix.NFT_CT_PROTO_DST: "proto-dst", unix.NFT_CT_ZONE: "zone",
		ctSrcIP: "ip saddr", ctDstIP: "ip daddr", ctSrcIP6: "ip6 saddr", ctDstIP6: "ip6 daddr",
	}
	s := subject{name: fmt.Sprintf("ct %d", key), show: showHex, size: 4}
	if n := names[key]; n != "" {
		s.name = "ct " + n
	}
	if _, ok := a[unix.NFTA_CT_DIRECTION]; ok {
		s.name = strings.Replace(s.name, "ct ", "ct "+[...]string{"original ", "reply "}[min(direction, 1)], 1)
	}
	switch key {
	case unix.NFT_CT_STATE:
		s.show = showBits("invalid", "established", "related", "new", "", "", "untracked")
	case unix.NFT_CT_STATUS:
		s.show = showBits("expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "", "", "", "dying")
	case unix.NFT_CT_MARK:
		s.show = showMark
	case unix.NFT_CT_SRC, unix.NFT_CT_DST, ctSrcIP, ctDstIP, ctSrcIP6, ctDstIP6:
		s.show = func(b []byte) string { return showPrefix(len(b))(b) }
	case unix.NFT_CT_PROTOCOL:
		s.show = showProtocol
	case unix.NFT_CT_PROTO_SRC, unix.NFT_CT_PROTO_DST, unix.NFT_CT_DIRECTION:
		s.show = showNumber
	}
	if from, ok := register(a, unix.NFTA_CT_SREG); ok {
		d.say(s.name + " set " + d.named(from, 4))
		if key == unix.NFT_CT_MARK {
			d.do(func(_ *walk, f *frame) (tri, string) {
				v := load(&f.registers, from)
				f.ctMark = &v
				f.deeds = append(f.deeds, func(w *walk) { w.ctMark = v })
				return yes, ""
			})
		}
		return true
	}
	to, ok := register(a, unix.NFTA_CT_DREG)
	if !ok {
		return false
	}
	d.subjects[to] = s
	d.do(func(w *walk, f *frame) (tri, string) {
		ok := w.loadCT(&f.registers, to, key, direction)
		if ok && key == unix.NFT_CT_MARK && f.ctMark != nil {
			f.ctMark.store(&f.registers, to)
		}
		return truth(ok), ""
	})
	return true
}

func (d *decoder) fib(a map[uint16][]byte) bool {
	to, ok := register(a, unix.NFTA_FIB_DREG)
	if !ok {
		return false
	}
	result, flags := number(a[unix.NFTA_FIB_RESULT]), number(a[unix.NFTA_FIB_FLAGS])
	var parts []string
	for i, name := range []string{"saddr", "daddr", "mark", "iif", "oif"} {
		if flags&(1<<i) != 0 {
			parts = append(parts, name)
		}
	}
	s := subject{name: "fib " + strings.Join(parts, " . "), show: showHex, size: 4}
	if result < 4 {
		s.name += [...]string{"", " oif", " oifname", " type"}[result]
	}
	if result == 3 {
		s.show = func(b []byte) string {
			if len(b) == 4 {
				return routeType(binary.NativeEndian.Uint32(b))
			}
			return showHex(b)
		}
	}
	d.subjects[to] = s
	d.do(fibOp(to, result, flags))
	return true
}

func routeType(n uint32) string {
	names := []string{"unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"}
	if n < uint32(len(names)) {
		return names[n]
	}
	return strconv.FormatUint(uint64(n), 10)
}

func (d *decoder) nat(a map[uint16][]byte) bool {
	const destination = 1 // NFT_NAT_DNAT
	is := number(a[unix.NFTA_NAT_TYPE]) == destination
	addrAt, _ := register(a, unix.NFTA_NAT_REG_ADDR_MIN)
	addrMax, _ := register(a, unix.NFTA_NAT_REG_ADDR_MAX)
	portAt, _ := register(a, unix.NFTA_NAT_REG_PROTO_MIN)
	portMax, _ := register(a, unix.NFTA_NAT_REG_PROTO_MAX)
	name, to := "snat to", ""
	if is {
		name = "dnat to"
	}
	if addrAt >= 0 {
		to = d.named(addrAt, 1)
		if b := d.subjects[addrAt].is; b != nil {
			to = showPrefix(len(b))(b)
		}
	}
	if portAt >= 0 {
		to += ":" + d.portNamed(portAt)
	}
	d.say(name + " " + to)
	d.do(natOp(uint8(number(a[unix.NFTA_NAT_FAMILY])), is, addrAt, addrMax, portAt, portMax))
	return true
}

func (d *decoder) portNamed(at int) string {
	if b := d.subjects[at].is; b != nil {
		return showNumber(b)
	}
	return d.named(at, 1)
}

func (d *decoder) redir(a map[uint16][]byte) bool {
	at, _ := register(a, unix.NFTA_REDIR_REG_PROTO_MIN)
	last, _ := register(a, unix.NFTA_REDIR_REG_PROTO_MAX)
	s := "redirect"
	if at >= 0 {
		s += " to :" + d.portNamed(at)
	}
	d.say(s)
	d.do(func(_ *walk, f *frame) (tri, string) {
		f.verdict = &verdict{kind: accept}
		f.deeds = append(f.deeds, redirected(f.port(at, last)))
		return yes, ""
	})
	return true
}

func (d *decoder) masquerade(map[uint16][]byte) bool {
	d.say("masquerade")
	d.do(func(_ *walk, f *frame) (tri, string) { f.verdict = &verdict{kind: accept}; return yes, "" })
	return true
}

func (d *decoder) dynset(a map[uint16][]byte) bool {
	const expressions = 10 // NFTA_DYNSET_EXPRESSIONS
	name := text(a[unix.NFTA_DYNSET_SET_NAME])
	verb := "add"
	switch number(a[unix.NFTA_DYNSET_OP]) {
	case 1:
		verb = "update"
	case 2:
		verb = "delete"
	}
	key := "…"
	if at, ok := register(a, unix.NFTA_DYNSET_SREG_KEY); ok {
		d.need(at)
		key = d.named(at, 1)
	}
	_, one := a[unix.NFTA_DYNSET_EXPR]
	_, many := a[expressions]
	if one || many {
		d.say(verb + " @" + name + " { " + key + " … }")
		d.do(perhaps("it hangs on what the set counted so far"))
		return true
	}
	d.say(verb + " @" + name + " { " + key + " }")
	d.do(perhaps("it hangs on whether the set takes the element"))
	return true
}

func (d *decoder) limit(a map[uint16][]byte) bool {
	units := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
	over := ""
	if number(a[unix.NFTA_LIMIT_FLAGS])&1 != 0 {
		over = "over "
	}
	d.say(fmt.Sprintf("limit rate %s%d/%s", over, number(a[unix.NFTA_LIMIT_RATE]), units[number(a[unix.NFTA_LIMIT_UNIT])]))
	d.do(perhaps("a limit, which may hold or not"))
	return true
}

func (d *decoder) log(a map[uint16][]byte) bool {
	s := "log"
	if p, ok := a[unix.NFTA_LOG_PREFIX]; ok {
		s += ` prefix "` + text(p) + `"`
	}
	d.say(s)
	return true
}

func (d *decoder) reject(a map[uint16][]byte) bool {
	const reset = 1 // NFT_REJECT_TCP_RST
	s := "reject"
	if number(a[unix.NFTA_REJECT_TYPE]) == reset {
		d.goesWithoutSaying("tcp")
		s += " with tcp reset"
	}
	d.say(s)
	d.do(func(_ *walk, f *frame) (tri, string) { f.verdict = &verdict{kind: reject}; return yes, "" })
	return true
}

func (d *decoder) object(a map[uint16][]byte) bool {
	const counter, quota, helper, limit, connlimit = 1, 2, 3, 4, 5
	kind, name := number(a[unix.NFTA_OBJREF_IMM_TYPE]), text(a[unix.NFTA_OBJREF_IMM_NAME])
	switch kind {
	case counter:
		d.say("counter name " + name)
	case quota, limit, connlimit:
		d.say([...]string{quota: "quota", limit: "limit", connlimit: "ct count"}[kind] + " name " + name)
		d.do(perhaps("a limit, which may hold or not"))
	case helper:
		d.say("ct helper set " + name)
	default:
		return false
	}
	return true
}

func (d *decoder) queue(map[uint16][]byte) bool {
	d.say("queue")
	d.do(func(_ *walk, f *frame) (tri, string) { f.verdict = &verdict{kind: queue}; return yes, "" })
	return true
}

func (d *decoder) offload(map[uint16][]byte) bool {
	d.say("flow add")
	d.chain.offloads = true
	return true
}
