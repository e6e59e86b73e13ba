package ruleset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// This file asks the kernel. The nftables library is not used for it, because it leaves out in silence the expressions
// of a rule that it does not know, and a rule without its condition matches everything. The kernel's side is
// net/netfilter/nf_tables_api.c, net/netfilter/ipset/ip_set_core.c and net/ipv4/route.c.

// errNotThere is what a question for something that does not exist is answered with.
var errNotThere = unix.ENOENT

// errNoKernel is what a Ruleset that was not read answers.
var errNoKernel = errors.New("no connection to the kernel")

// A kernel is the connections to one network namespace, the one of the thread that made them. It may be used by
// several goroutines at once.
type kernel struct {
	filter *netlink.Conn // nf_tables and ipset
	route  *netlink.Conn
}

func openKernel(ctx context.Context) (*kernel, error) {
	// The kernel fills up to 32 KiB of what it is offered. Each datagram of a list walks the list from its start, so few
	// are much faster.
	filter, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: 64 << 10})
	if err != nil {
		return nil, err
	}
	route, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		_ = filter.Close()
		return nil, err
	}
	k := &kernel{filter: filter, route: route}
	if at, ok := ctx.Deadline(); ok {
		// Only for the reading; see Read.
		err = errors.Join(filter.SetDeadline(at), route.SetDeadline(at))
	}
	return k, err
}

func (k *kernel) close() error { return errors.Join(k.filter.Close(), k.route.Close()) }

// An answered message is the family and the attributes of what the kernel said.
type answered struct {
	family uint8
	body   []byte
}

// ask sends a question about a family to a subsystem.
func (k *kernel) ask(kind uint16, family uint8, flags netlink.HeaderFlags, attrs []netlink.Attribute) ([]answered, error) {
	if k == nil {
		return nil, errNoKernel
	}
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	in, err := k.filter.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return nil, err
	}
	out := make([]answered, 0, len(in))
	for _, m := range in {
		if len(m.Data) >= 4 && m.Header.Type != netlink.Error && m.Header.Type != netlink.Done {
			out = append(out, answered{m.Data[0], m.Data[4:]})
		}
	}
	return out, nil
}

func (k *kernel) askTables(kind uint16, family uint8, flags netlink.HeaderFlags, attrs ...netlink.Attribute) ([]answered, error) {
	return k.ask(unix.NFNL_SUBSYS_NFTABLES<<8|kind, family, flags, attrs)
}

// generation is the kernel's count of changes of any ruleset in the namespace.
func (k *kernel) generation() (uint64, error) {
	in, err := k.askTables(unix.NFT_MSG_GETGEN, unix.AF_UNSPEC, 0)
	if err != nil || len(in) == 0 {
		return 0, err
	}
	return number(attributes(in[0].body)[unix.NFTA_GEN_ID]), nil
}

// An element is what the kernel says of a key of a set or map.
type element struct {
	key, end []byte // end is that of an interval, where a set keeps it with the key
	flags    uint32
	value    []byte   // of a map
	verdict  *verdict // of a verdict map
}

const elementCatchAll = 0x2 // NFT_SET_ELEM_CATCHALL of linux/netfilter/nf_tables.h

// find asks for the element of a set that a key falls on: itself, the interval it is in, or the one for all the rest.
// The cost does not depend on the size of the set.
func (k *kernel) find(s *set, key []byte) (*element, error) {
	value, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_DATA_VALUE, Data: key}})
	if err != nil {
		return nil, err
	}
	e, err := k.findBy(s, netlink.Attribute{Type: unix.NFTA_SET_ELEM_KEY | unix.NLA_F_NESTED, Data: value})
	if !errors.Is(err, errNotThere) {
		return e, err
	}
	e, err = k.findBy(s, netlink.Attribute{
		Type: unix.NFTA_SET_ELEM_FLAGS, Data: binary.BigEndian.AppendUint32(nil, elementCatchAll),
	})
	if err != nil {
		// ENOENT, or EINVAL of a kernel before 5.13, which knows no such element.
		return nil, errNotThere
	}
	return e, nil
}

func (k *kernel) findBy(s *set, by netlink.Attribute) (*element, error) {
	elem, err := netlink.MarshalAttributes([]netlink.Attribute{by})
	if err != nil {
		return nil, err
	}
	list, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED, Data: elem}})
	if err != nil {
		return nil, err
	}
	in, err := k.askTables(unix.NFT_MSG_GETSETELEM, s.family, 0,
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: cString(s.table)},
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: cString(s.name)},
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_ELEMENTS | unix.NLA_F_NESTED, Data: list})
	if err != nil {
		return nil, err
	}
	for _, m := range in {
		for _, e := range parseElements(m.body) {
			return &e, nil
		}
	}
	return nil, errNotThere
}

// elements lists a set. It is for the small ones that a rule carries with it.
func (k *kernel) elements(s *set) ([]element, error) {
	in, err := k.askTables(unix.NFT_MSG_GETSETELEM, s.family, netlink.Dump,
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: cString(s.table)},
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: cString(s.name)})
	var out []element
	for _, m := range in {
		out = append(out, parseElements(m.body)...)
	}
	return out, err
}

func parseElements(body []byte) []element {
	var out []element
	for _, b := range nested(attributes(body)[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
		const keyEnd = 10 // NFTA_SET_ELEM_KEY_END
		a := attributes(b)
		data := attributes(a[unix.NFTA_SET_ELEM_DATA])
		e := element{
			key:   attributes(a[unix.NFTA_SET_ELEM_KEY])[unix.NFTA_DATA_VALUE],
			end:   attributes(a[keyEnd])[unix.NFTA_DATA_VALUE],
			flags: uint32(number(a[unix.NFTA_SET_ELEM_FLAGS])),
			value: data[unix.NFTA_DATA_VALUE],
		}
		if v, ok := data[unix.NFTA_DATA_VERDICT]; ok {
			e.verdict = parseVerdict(v)
		}
		out = append(out, e)
	}
	return out
}

func (k *kernel) askRoute(kind netlink.HeaderType, question []byte) ([]netlink.Message, error) {
	if k == nil {
		return nil, errNoKernel
	}
	return k.route.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: question})
}

// A way is where the kernel would send a packet.
type way struct {
	kind uint8 // RTN_LOCAL, RTN_UNICAST …
	out  int   // the interface's number, 0 if there is none
}

// routeTo asks which way packets to an address go; unix.ENETUNREACH and the like if there is none.
func (k *kernel) routeTo(to netip.Addr) (way, error) {
	family, bits := uint8(unix.AF_INET), uint8(32)
	if to.Is6() {
		family, bits = unix.AF_INET6, 128
	}
	// struct rtmsg of linux/rtnetlink.h, then RTA_DST.
	data := append([]byte{family, bits}, make([]byte, unix.SizeofRtMsg-2)...)
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.RTA_DST, Data: to.AsSlice()}})
	if err != nil {
		return way{}, err
	}
	in, err := k.askRoute(unix.RTM_GETROUTE, append(data, attrs...))
	if err != nil {
		return way{}, err
	}
	for _, m := range in {
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		w := way{kind: m.Data[7]} // rtm_type
		if oif := attributes(m.Data[unix.SizeofRtMsg:])[unix.RTA_OIF]; len(oif) == 4 {
			w.out = int(binary.NativeEndian.Uint32(oif))
		}
		return w, nil
	}
	return way{}, fmt.Errorf("ask for the route to %s: no answer", to)
}

// linkName is the name of an interface.
func (k *kernel) linkName(index int) (string, error) {
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], uint32(index))
	_, name, err := k.link(info)
	return name, err
}

// linkIndex is the number of an interface.
func (k *kernel) linkIndex(name string) (int, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.IFLA_IFNAME, Data: cString(name)}})
	if err != nil {
		return 0, err
	}
	index, _, err := k.link(append(make([]byte, unix.SizeofIfInfomsg), attrs...))
	return index, err
}

func (k *kernel) link(question []byte) (int, string, error) {
	in, err := k.askRoute(unix.RTM_GETLINK, question)
	if err != nil {
		return 0, "", err
	}
	for _, m := range in {
		if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			name := attributes(m.Data[unix.SizeofIfInfomsg:])[unix.IFLA_IFNAME]
			return int(binary.NativeEndian.Uint32(m.Data[4:])), text(name), nil
		}
	}
	return 0, "", errNotThere
}

// The wire of ipset: linux/netfilter/ipset/ip_set.h.
const (
	ipsetTest    = 11
	ipsetHeader  = 12
	ipsetByIndex = 15

	ipsetAttrProtocol = 1
	ipsetAttrName     = 2
	ipsetAttrTypeName = 3
	ipsetAttrFamily   = 5
	ipsetAttrData     = 7
	ipsetAttrIndex    = 11

	ipsetAttrIP    = 1
	ipsetAttrPort  = 4
	ipsetAttrProto = 7
	ipsetAttrIP2   = 20

	ipsetErrExist = unix.Errno(4103) // to a test: it is not in the set
)

func (k *kernel) askIPSet(command uint16, flags netlink.HeaderFlags, protocol uint8, attrs ...netlink.Attribute) ([]answered, error) {
	attrs = append([]netlink.Attribute{{Type: ipsetAttrProtocol, Data: []byte{protocol}}}, attrs...)
	return k.ask(unix.NFNL_SUBSYS_IPSET<<8|command, unix.NFPROTO_IPV4, flags, attrs)
}

// ipsetName is the name of the set that a rule calls by its number. Linux 4.20 or later.
func (k *kernel) ipsetName(index uint16) (string, error) {
	in, err := k.askIPSet(ipsetByIndex, 0, 7, netlink.Attribute{
		Type: ipsetAttrIndex | unix.NLA_F_NET_BYTEORDER, Data: binary.BigEndian.AppendUint16(nil, index),
	})
	if err != nil {
		return "", err
	}
	for _, m := range in {
		if name := text(attributes(m.body)[ipsetAttrName]); name != "" {
			return name, nil
		}
	}
	return "", errNotThere
}

// ipsetType is the type of a set, as in hash:ip,port, and its family.
func (k *kernel) ipsetType(name string) (string, uint8, error) {
	in, err := k.askIPSet(ipsetHeader, 0, 6, netlink.Attribute{Type: ipsetAttrName, Data: cString(name)})
	if err != nil {
		return "", 0, err
	}
	for _, m := range in {
		a := attributes(m.body)
		return text(a[ipsetAttrTypeName]), uint8(number(a[ipsetAttrFamily])), nil
	}
	return "", 0, errNotThere
}

// ipsetHolds asks whether an element, given by its attributes, is in a set.
func (k *kernel) ipsetHolds(name string, data []netlink.Attribute) (bool, error) {
	b, err := netlink.MarshalAttributes(data)
	if err != nil {
		return false, err
	}
	_, err = k.askIPSet(ipsetTest, netlink.Acknowledge, 6,
		netlink.Attribute{Type: ipsetAttrName, Data: cString(name)},
		netlink.Attribute{Type: ipsetAttrData | unix.NLA_F_NESTED, Data: b})
	if errors.Is(err, ipsetErrExist) {
		return false, nil
	}
	return err == nil, err
}

// ipsetAddr is an address as ipset wants it.
func ipsetAddr(typ uint16, a netip.Addr) netlink.Attribute {
	family := uint16(1) // IPSET_ATTR_IPADDR_IPV4
	if a.Is6() {
		family = 2
	}
	b, _ := netlink.MarshalAttributes([]netlink.Attribute{{Type: family | unix.NLA_F_NET_BYTEORDER, Data: a.AsSlice()}})
	return netlink.Attribute{Type: typ | unix.NLA_F_NESTED, Data: b}
}

// attributes are those of a body by their types; it stops at a malformed one.
func attributes(b []byte) map[uint16][]byte {
	out := make(map[uint16][]byte)
	for typ, data := range cut(b) {
		out[typ] = data
	}
	return out
}

// nested are the values of a list of attributes.
func nested(b []byte) [][]byte {
	var out [][]byte
	for _, data := range cut(b) {
		out = append(out, data)
	}
	return out
}

func cut(b []byte) func(yield func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		ad, err := netlink.NewAttributeDecoder(b)
		if err != nil {
			return
		}
		for ad.Next() {
			if !yield(ad.Type(), ad.Bytes()) {
				return
			}
		}
	}
}

func cString(s string) []byte { return append([]byte(s), 0) }

// text is a string with or without a NUL at its end.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// number is an unsigned number in network order of up to eight bytes; 0 of more.
func number(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// noDeadline ends the deadline that openKernel set.
func (k *kernel) noDeadline() error {
	return errors.Join(k.filter.SetDeadline(time.Time{}), k.route.SetDeadline(time.Time{}))
}
