package doctor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bantam/internal/firewall"
)

// A capacity is how much a set takes and holds; most is 0 if it has no bound, and what it holds is then not counted.
type capacity struct {
	name       string
	held, most int
}

// lookAtSets looks whether the sets that bans go into have room.
func (e *examination) lookAtSets() {
	var all []capacity
	ipsets, tables := e.ourSets()
	if len(ipsets) > 0 {
		sizes, err := ipsetSizes(ipsets)
		if err != nil {
			e.unseen("how full the ipsets are", err)
		}
		all = append(all, sizes...)
	}
	sizes, err := nftSizes(tables)
	if err != nil {
		e.unseen("how full the sets of nftables are", err)
	}
	e.tellSets(append(all, sizes...))
}

// tellSets says which sets are full, or nearly so.
func (e *examination) tellSets(all []capacity) {
	const nearly = 90 // percent
	full := false
	for _, c := range all {
		if c.most == 0 || c.held*100 < c.most*nearly {
			continue
		}
		full = true
		fix := "shorter bans, or banaction = bantam, whose sets have no bound"
		if c.held < c.most {
			e.doubt(fix, "%s holds %d of the %d that it takes", c.name, c.held, c.most)
			continue
		}
		e.fault(fix, "%s is full: it holds %d and takes no more", c.name, c.held)
	}
	if len(all) == 0 || full {
		return
	}
	most := slices.MaxFunc(all, func(a, b capacity) int { return cmp.Compare(a.held, b.held) })
	if most.most == 0 {
		e.ok("%s without a bound", plural(len(all), "set"))
		return
	}
	e.ok("%s with room; the fullest, %s, holds %d of %d", plural(len(all), "set"), most.name, most.held, most.most)
}

// ourSets are the names of the ipsets and of the tables, of family inet, that jails' bans go into.
func (e *examination) ourSets() (ipsets, tables []string) {
	tables = []string{"bantam"}
	if e.config == nil {
		return nil, tables
	}
	for i := range e.config.Jails {
		if e.config.Jails[i].Err != nil {
			continue
		}
		g, _ := guardOf(&e.config.Jails[i])
		for _, n := range g.natives {
			for _, o := range []*firewall.Objects{n.Inet4, n.Inet6} {
				switch {
				case o == nil:
				case o.Kind == firewall.KindIPSet:
					ipsets = append(ipsets, o.Set, o.RangeSet)
				case o.Kind == firewall.KindNFTables && !slices.Contains(tables, o.Table):
					tables = append(tables, o.Table)
				}
			}
		}
	}
	return ipsets, tables
}

// ipsetSizes are those of the sets of these names that there are.
func ipsetSizes(names []string) (all []capacity, err error) {
	err = ask(unix.NFNL_SUBSYS_IPSET, ipsetList, unix.NFPROTO_UNSPEC, []netlink.Attribute{
		{Type: ipsetProtocol, Data: []byte{ipsetProtocolIs}},
		{Type: netlink.NetByteOrder | ipsetFlags, Data: binary.BigEndian.AppendUint32(nil, ipsetOnlyHeader)},
	}, func(reply []byte) {
		if name, held, most := ipsetOf(reply); slices.Contains(names, name) {
			all = append(all, capacity{"ipset " + name, held, most})
		}
	})
	if errors.Is(err, unix.EINVAL) {
		return nil, nil // a kernel without ipset has none
	}
	return all, err
}

// The wire of ipset: linux/netfilter/ipset/ip_set.h.
const (
	ipsetList       = 7
	ipsetProtocol   = 1
	ipsetProtocolIs = 6
	ipsetName       = 2
	ipsetFlags      = 6
	ipsetOnlyHeader = 1 << 2
	ipsetData       = 7
	ipsetMaxElem    = 19
	ipsetElements   = 24
)

// ask sends a request for a list to a part of netfilter and hands on what answers, without its struct nfgenmsg.
func ask(subsystem, request int, family byte, attributes []netlink.Attribute, each func([]byte)) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("ask the kernel for its sets: %w", err)
	}
	defer conn.Close()
	body, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return fmt.Errorf("ask the kernel for its sets: %w", err)
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsystem<<8 | request), Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{family, 0, 0, 0}, body...),
	})
	if err != nil {
		return fmt.Errorf("ask the kernel for its sets: %w", err)
	}
	for _, r := range replies {
		if len(r.Data) >= 4 {
			each(r.Data[4:])
		}
	}
	return nil
}

// ipsetOf reads one answer of ipset; the name is empty if it makes no sense.
func ipsetOf(reply []byte) (name string, held, most int) {
	err := attributesOf(reply, func(a *netlink.AttributeDecoder) error {
		switch a.Type() {
		case ipsetName:
			name = a.String()
		case ipsetData:
			return attributesOf(a.Bytes(), func(a *netlink.AttributeDecoder) error {
				switch a.Type() {
				case ipsetMaxElem:
					most = number(a.Bytes())
				case ipsetElements:
					held = number(a.Bytes())
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return "", 0, 0
	}
	return name, held, most
}

// attributesOf hands each of some attributes to a function.
func attributesOf(b []byte, each func(*netlink.AttributeDecoder) error) error {
	a, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	for a.Next() {
		if err := each(a); err != nil {
			return err
		}
	}
	return a.Err()
}

// number is one of four bytes in the order of the network, 0 for any other.
func number(b []byte) int {
	if len(b) != 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(b))
}

// nftSizes are those of the sets of some tables of family inet.
func nftSizes(tables []string) (all []capacity, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	bounds, err := nftBounds()
	if err != nil {
		return nil, err
	}
	there, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	for _, table := range there {
		name := table.Name
		if !slices.Contains(tables, name) {
			continue
		}
		sets, err := conn.GetSets(table)
		if err != nil {
			return all, fmt.Errorf("list the sets of inet %s: %w", name, err)
		}
		for _, s := range sets {
			if s.Anonymous {
				continue
			}
			c := capacity{name: "set " + s.Name + " of table inet " + name, most: bounds[name+"\x00"+s.Name]}
			if c.most == 0 {
				all = append(all, c)
				continue // it may hold a million
			}
			elements, err := conn.GetSetElements(s)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return all, fmt.Errorf("count the elements of %s in inet %s: %w", s.Name, name, err)
			}
			c.held = len(elements)
			all = append(all, c)
		}
	}
	return all, nil
}

// nftBounds are how many elements sets of family inet take, by TABLE\0SET, of those that have a bound: NFTA_SET_DESC_SIZE
// of linux/netfilter/nf_tables.h.
func nftBounds() (map[string]int, error) {
	out := map[string]int{}
	err := ask(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETSET, unix.NFPROTO_INET, nil, func(reply []byte) {
		if table, set, size := boundOf(reply); size > 0 {
			out[table+"\x00"+set] = size
		}
	})
	return out, err
}

// boundOf reads one answer of nftables; size is 0 if the set has none, or the answer makes no sense.
func boundOf(reply []byte) (table, set string, size int) {
	err := attributesOf(reply, func(a *netlink.AttributeDecoder) error {
		switch a.Type() {
		case unix.NFTA_SET_TABLE:
			table = a.String()
		case unix.NFTA_SET_NAME:
			set = a.String()
		case unix.NFTA_SET_DESC:
			return attributesOf(a.Bytes(), func(a *netlink.AttributeDecoder) error {
				if a.Type() == unix.NFTA_SET_DESC_SIZE {
					size = number(a.Bytes())
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return "", "", 0
	}
	return table, set, size
}
