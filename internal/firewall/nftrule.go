package firewall

import (
	"encoding/binary"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// An nftMatch is what a stock rule asks of a packet besides its source.
type nftMatch struct {
	protocols []byte      // none for all
	ports     []PortRange // none for all; in order
}

// An nftBlock is what a stock rule does.
type nftBlock struct {
	counter bool
	drop    bool
	reject  expr.Reject
}

// numbers of the ways to reject, by nft's words (icmp.h, icmpv6.h, and
// NFT_REJECT_ICMPX_… of linux/netfilter/nf_tables.h).
var (
	icmpCodes = map[string]uint8{
		"net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3,
		"net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
	}
	icmpv6Codes = map[string]uint8{"no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5, "reject-route": 6}
	icmpxCodes  = map[string]uint8{"no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3}
)

// parseNFTRule reads the words of a rule of the stock shape: protocols, ports,
// the look-up in the set, and what happens then.
func parseNFTRule(words []string, o *Objects) (m nftMatch, b nftBlock, err error) {
	odd := refuse("its rule is %.200s", strings.Join(words, " "))
	family := "ip"
	if o.V6 {
		family = "ip6"
	}
	at := slices.Index(words, "@"+o.Set)
	if at < 2 || words[at-1] != "saddr" || words[at-2] != family {
		return m, b, odd
	}
	head, tail := words[:at-2], words[at+1:]
	switch {
	case len(head) == 0:
	case len(head) > 2 && head[0] == "meta" && head[1] == "l4proto":
		names, ok := nftList(head[2:])
		if !ok {
			return m, b, odd
		}
		for _, name := range names {
			n, known := protocols[name]
			if !known || len(n) != 1 || slices.Contains(m.protocols, n[0]) {
				return m, b, refuse("its rule names the protocol %.20q", name)
			}
			m.protocols = append(m.protocols, n[0])
		}
	case len(head) > 2 && head[1] == "dport":
		lookup := "tcp"
		if head[0] != "th" {
			n, known := protocols[head[0]]
			if !known || len(n) != 1 || !hasPorts(n[0]) {
				return m, b, refuse("its rule names the protocol %.20q", head[0])
			}
			m.protocols, lookup = n, head[0]
		}
		list, ok := nftList(head[2:])
		if !ok {
			return m, b, odd
		}
		for _, text := range list {
			p, err := parsePorts(lookup, text)
			if err != nil || text == "" {
				return m, b, refuse("its rule names the port %.40q", text)
			}
			m.ports = append(m.ports, p)
		}
		slices.SortFunc(m.ports, func(a, b PortRange) int { return int(a.First) - int(b.First) })
		for i := 1; i < len(m.ports); i++ {
			if m.ports[i].First <= m.ports[i-1].Last {
				return m, b, refuse("its rule names the port %d twice", m.ports[i].First)
			}
		}
	default:
		return m, b, odd
	}
	if b, err = parseNFTBlock(tail, o.V6); err != nil {
		return m, b, err
	}
	if b.reject.Type == unix.NFT_REJECT_TCP_RST && !b.drop && !slices.Equal(m.protocols, []byte{unix.IPPROTO_TCP}) {
		return m, b, refuse("its rule answers with a TCP reset what may not be TCP")
	}
	return m, b, nil
}

// nftList reads one word, or several in braces.
func nftList(words []string) (list []string, ok bool) {
	if len(words) == 1 {
		return words, words[0] != "{" && words[0] != "}"
	}
	if len(words) < 3 || words[0] != "{" || words[len(words)-1] != "}" {
		return nil, false
	}
	for i, w := range words[1 : len(words)-1] {
		switch {
		case i%2 == 1 && w != ",", i%2 == 0 && strings.ContainsAny(w, "{},;"):
			return nil, false
		case i%2 == 0:
			list = append(list, w)
		}
	}
	return list, true
}

func parseNFTBlock(words []string, v6 bool) (b nftBlock, err error) {
	odd := refuse("its blocktype is %.120s", strings.Join(words, " "))
	if len(words) > 0 && words[0] == "counter" {
		b.counter, words = true, words[1:]
	}
	switch text := strings.Replace(strings.Join(words, " "), " type ", " ", 1); {
	case text == "drop":
		b.drop = true
	case text == "reject":
		b.reject = expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}
		if v6 {
			b.reject.Code = 4
		}
	case text == "reject with tcp reset":
		b.reject = expr.Reject{Type: unix.NFT_REJECT_TCP_RST}
	default:
		rest, ok := strings.CutPrefix(text, "reject with ")
		kind, name, _ := strings.Cut(rest, " ")
		var code uint8
		known := false
		switch {
		case kind == "icmp" && !v6:
			code, known = icmpCodes[name]
		case kind == "icmpv6" && v6:
			code, known = icmpv6Codes[name]
		case kind == "icmpx":
			code, known = icmpxCodes[name]
			b.reject.Type = unix.NFT_REJECT_ICMPX_UNREACH
		}
		if !ok || !known {
			return b, odd
		}
		b.reject.Code = code
	}
	return b, nil
}

// stockRule appends the rule of one match for a set. The expressions are those
// that nft makes of the stock actions' words.
func (b *batch) stockRule(o *Objects, m nftMatch, set string) {
	var exprs []expr.Any
	reg := uint32(unix.NFT_REG_1)
	equal := func(data []byte) { exprs = append(exprs, &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}) }
	if len(m.protocols) > 0 {
		exprs = append(exprs, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		if len(m.protocols) == 1 {
			equal(m.protocols)
		} else {
			id := b.constantSet(o.Table, typeProtocol, 1, m.protocolRanges())
			exprs = append(exprs, &expr.Lookup{SourceRegister: reg, SetName: anonymousSet, SetID: id})
		}
	}
	if len(m.ports) > 0 {
		exprs = append(exprs, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
		port := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
		switch first := m.ports[0]; {
		case len(m.ports) > 1:
			id := b.constantSet(o.Table, typePort, 2, m.ports)
			exprs = append(exprs, &expr.Lookup{SourceRegister: reg, SetName: anonymousSet, SetID: id})
		case first.First == first.Last:
			equal(port(first.First))
		default:
			exprs = append(exprs,
				&expr.Cmp{Op: expr.CmpOpGte, Register: reg, Data: port(first.First)},
				&expr.Cmp{Op: expr.CmpOpLte, Register: reg, Data: port(first.Last)})
		}
	}
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(net.IPv4len)
	if o.V6 {
		family, offset, size = unix.NFPROTO_IPV6, 8, net.IPv6len
	}
	exprs = append(exprs, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg})
	equal([]byte{family})
	exprs = append(exprs,
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: reg, SetName: set})
	if o.block.counter {
		exprs = append(exprs, &expr.Counter{})
	}
	if o.block.drop {
		exprs = append(exprs, &expr.Verdict{Kind: expr.VerdictDrop})
	} else {
		reject := o.block.reject
		exprs = append(exprs, &reject)
	}
	b.rule(o.Table, o.Chain, exprs...)
}

func (m nftMatch) protocolRanges() []PortRange {
	sorted := slices.Sorted(slices.Values(m.protocols))
	out := make([]PortRange, len(sorted))
	for i, p := range sorted {
		out[i] = PortRange{uint16(p), uint16(p)}
	}
	return out
}
