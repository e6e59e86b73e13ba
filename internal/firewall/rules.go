package firewall

import (
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// messageElements is how many elements one message holds. The kernel takes lists
// of at most 64 KiB; an IPv6 address with its timeout is 40 bytes.
const messageElements = 1000

// The kernel's numbers of nft's data types, by which nft prints a set's elements
// (enum datatypes in nftables' include/datatype.h).
const (
	typeIPv4     = 7
	typeIPv6     = 8
	typeProtocol = 12
	typePort     = 13
)

// minTimeout is the shortest timeout handed over: older kernels round less than
// one of their ticks, which are up to 10 ms long, down to none at all, and that
// means for ever.
const minTimeout = 20 * time.Millisecond

// A setSpec is what tells a set that we can use from another one of its name.
type setSpec struct {
	flags, keyType, keyLen uint32
	// mark is what is said of the set in its user data besides nft's own.
	mark string
}

// spec is what the set of a key has to look like.
func (k setKey) spec() setSpec {
	s := setSpec{keyType: typeIPv4, keyLen: 4}
	if k.v6 {
		s = setSpec{keyType: typeIPv6, keyLen: 16}
	}
	if k.jail != "" {
		s.flags = unix.NFT_SET_TIMEOUT
	}
	return s
}

// newSet makes a set. id tells it from others made in the same transaction.
func (b *batch) newSet(table, name string, s setSpec) (id uint32) {
	b.setID++
	b.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.str(unix.NFTA_SET_TABLE, table)
	b.str(unix.NFTA_SET_NAME, name)
	b.u32(unix.NFTA_SET_FLAGS, s.flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, s.keyType)
	b.u32(unix.NFTA_SET_KEY_LEN, s.keyLen)
	b.u32(unix.NFTA_SET_ID, b.setID)
	// For nft, which prints keys by it: NFTNL_UDATA_SET_KEYBYTEORDER, four
	// bytes, big endian.
	data := binary.NativeEndian.AppendUint32([]byte{0, 4}, 2)
	b.attr(unix.NFTA_SET_USERDATA, append(data, s.mark...))
	return b.setID
}

// newJailSet makes the set of a key and the rule that uses it, in the chain of
// its jail or in that of the allow list.
func (b *batch) newJailSet(table string, k setKey) {
	b.newSet(table, k.name(), k.spec())
	b.lookupRule(table, k)
}

// lookupRule drops, or for the allow list accepts, what comes from an address of
// the key's set.
func (b *batch) lookupRule(table string, k setKey) {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(net.IPv4len)
	if k.v6 {
		family, offset, size = unix.NFPROTO_IPV6, 8, net.IPv6len
	}
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{family}},
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if !k.single() {
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: size,
			Mask: net.CIDRMask(int(k.bits), int(k.length())), Xor: make([]byte, size),
		})
	}
	exprs = append(exprs, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: k.name()})
	if k.jail == "" {
		b.rule(table, allowChain, append(exprs, &expr.Verdict{Kind: expr.VerdictAccept})...)
		return
	}
	name := jailPrefix + objectName(k.jail)
	b.rule(table, name, append(exprs,
		&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name},
		&expr.Verdict{Kind: expr.VerdictDrop})...)
}

// jumpRules send a jail's traffic to its chain.
func (b *batch) jumpRules(table string, r Rule) {
	jump := jumpTo(jailPrefix + objectName(r.Jail))
	seen := make(map[byte]bool)
	for _, name := range r.Protocols {
		numbers, err := protocolNumbers(name)
		if err != nil && b.err == nil {
			b.err = err
		}
		if len(numbers) == 0 { // all of them
			b.rule(table, baseChain, jump)
			return
		}
		for _, protocol := range numbers {
			if seen[protocol] {
				continue
			}
			seen[protocol] = true
			exprs := []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{protocol}},
			}
			if ports := mergePorts(r.Ports); len(ports) > 0 && hasPorts(protocol) {
				id := b.portSet(table, ports)
				exprs = append(exprs,
					&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
					&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: anonymousSet, SetID: id})
			}
			b.rule(table, baseChain, append(exprs, jump)...)
		}
	}
	if len(r.Protocols) == 0 {
		b.rule(table, baseChain, jump)
	}
}

// anonymousSet makes the kernel choose a name. Such a set goes with its rule.
const anonymousSet = "__set%d"

// portSet makes a constant set of the ports, for the rule that follows.
func (b *batch) portSet(table string, ports []PortRange) (id uint32) {
	return b.constantSet(table, typePort, 2, ports)
}

// constantSet makes a constant set of numbers of one or two bytes, for the rule
// that follows.
func (b *batch) constantSet(table string, keyType, keyLen uint32, ranges []PortRange) (id uint32) {
	s := setSpec{flags: unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT, keyType: keyType, keyLen: keyLen}
	for _, p := range ranges {
		if p.First != p.Last {
			s.flags |= unix.NFT_SET_INTERVAL
		}
	}
	id = b.newSet(table, anonymousSet, s)
	b.begin(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
	b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, anonymousSet)
	b.u32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
	list := b.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	number := func(n uint16, flags uint32) {
		elem := b.nested(unix.NFTA_LIST_ELEM)
		if flags != 0 {
			b.u32(unix.NFTA_SET_ELEM_FLAGS, flags)
		}
		b.elementKey(binary.BigEndian.AppendUint16(nil, n)[2-keyLen:])
		b.close(elem)
	}
	for _, p := range ranges {
		number(p.First, 0)
		// An interval ends at the key after its last; without one it goes on.
		if s.flags&unix.NFT_SET_INTERVAL != 0 && p.Last != math.MaxUint16 {
			number(p.Last+1, unix.NFT_SET_ELEM_INTERVAL_END)
		}
	}
	b.close(list)
	return id
}

func (b *batch) elementKey(key []byte) {
	k := b.nested(unix.NFTA_SET_ELEM_KEY)
	b.attr(unix.NFTA_DATA_VALUE, key)
	b.close(k)
}

// elements adds or removes, as kind says, the elements of one set, in messages of a
// size that the kernel takes. Timeouts are given if withTimeout, as of now.
func (b *batch) elements(kind int, table, set string, es []element, withTimeout bool, now time.Time) {
	for len(es) > 0 {
		part := es[:min(len(es), messageElements)]
		es = es[len(part):]
		list := b.elementList(kind, table, set)
		for _, e := range part {
			elem := b.nested(unix.NFTA_LIST_ELEM)
			b.addrKey(e.addr)
			if withTimeout {
				b.timeLeft(e.end, now)
			}
			b.close(elem)
		}
		b.close(list)
	}
}

// elementList begins a message about elements of a set, and their list.
func (b *batch) elementList(kind int, table, set string) (list int) {
	var flags uint16
	if kind == unix.NFT_MSG_NEWSETELEM {
		flags = unix.NLM_F_CREATE
	}
	b.begin(kind, flags)
	b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	return b.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
}

// addrKey is an address as the key of an element.
func (b *batch) addrKey(addr netip.Addr) {
	if addr.Is4() {
		a := addr.As4()
		b.elementKey(a[:])
		return
	}
	a := addr.As16()
	b.elementKey(a[:])
}

// timeLeft gives an element the time that is left until end; none if that is zero.
func (b *batch) timeLeft(end, now time.Time) {
	if end.IsZero() {
		return
	}
	left := max(end.Sub(now), minTimeout)
	b.u64(unix.NFTA_SET_ELEM_TIMEOUT, uint64((left+time.Millisecond-1)/time.Millisecond))
}
