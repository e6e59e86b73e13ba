package doctor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	ipset "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bantam/internal/firewall"
)

// A capacity is how much a set takes and holds; most is 0 if it has no bound.
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
	if len(all) > 0 && !full {
		most := slices.MaxFunc(all, func(a, b capacity) int { return cmp.Compare(a.held, b.held) })
		e.ok("%d sets have room; the fullest, %s, holds %d", len(all), most.name, most.held)
	}
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
	sets, err := ipset.IpsetListAll()
	if err != nil {
		return nil, err
	}
	for i := range sets {
		s := &sets[i]
		if slices.Contains(names, s.SetName) {
			all = append(all, capacity{"ipset " + s.SetName, max(int(s.NumEntries), len(s.Entries)), int(s.MaxElements)})
		}
	}
	return all, nil
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
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the sizes of sets: %w", err)
	}
	defer conn.Close()
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSET, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.NFPROTO_INET, 0, 0, 0}, // struct nfgenmsg
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the sizes of sets: %w", err)
	}
	out := map[string]int{}
	for _, r := range replies {
		if table, set, size := boundOf(r.Data); size > 0 {
			out[table+"\x00"+set] = size
		}
	}
	return out, nil
}

// boundOf reads one answer; size is 0 if the set has none, or the answer makes no sense.
func boundOf(message []byte) (table, set string, size int) {
	if len(message) < 4 {
		return "", "", 0
	}
	attributes, err := netlink.NewAttributeDecoder(message[4:])
	if err != nil {
		return "", "", 0
	}
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_SET_TABLE:
			table = attributes.String()
		case unix.NFTA_SET_NAME:
			set = attributes.String()
		case unix.NFTA_SET_DESC:
			attributes.Nested(func(desc *netlink.AttributeDecoder) error {
				for desc.Next() {
					if b := desc.Bytes(); desc.Type() == unix.NFTA_SET_DESC_SIZE && len(b) == 4 {
						size = int(binary.BigEndian.Uint32(b))
					}
				}
				return desc.Err()
			})
		}
	}
	if attributes.Err() != nil {
		return "", "", 0
	}
	return strings.TrimRight(table, "\x00"), strings.TrimRight(set, "\x00"), size
}
