package firewall

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// present is what stands in our table.
type present struct {
	table    bool
	sets     map[string]setSpec
	chains   map[string]chainSpec
	counters map[string]bool
}

// A chainSpec is what tells a chain that we can use from another one of its
// name. Its zero value is a chain that packets are only sent to.
type chainSpec struct {
	base           bool
	hook, priority uint32
	kind           string
}

func chainSpecOf(name string) chainSpec {
	if name != baseChain {
		return chainSpec{}
	}
	priority := int32(rawPriority)
	return chainSpec{base: true, hook: unix.NF_INET_PRE_ROUTING, priority: uint32(priority), kind: "filter"}
}

// newChain makes a chain, if it is not there, and sets its policy to accept.
func (b *batch) newChain(table, name string) {
	s := chainSpecOf(name)
	if s.base {
		b.newBaseChain(table, name, s)
		return
	}
	b.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.str(unix.NFTA_CHAIN_TABLE, table)
	b.str(unix.NFTA_CHAIN_NAME, name)
}

// newBaseChain makes a chain that packets come to by themselves, with the policy
// to accept, if it is not there.
func (b *batch) newBaseChain(table, name string, s chainSpec) {
	b.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.str(unix.NFTA_CHAIN_TABLE, table)
	b.str(unix.NFTA_CHAIN_NAME, name)
	hook := b.nested(unix.NFTA_CHAIN_HOOK)
	b.u32(unix.NFTA_HOOK_HOOKNUM, s.hook)
	b.u32(unix.NFTA_HOOK_PRIORITY, s.priority)
	b.close(hook)
	b.u32(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
	b.str(unix.NFTA_CHAIN_TYPE, s.kind)
}

// flushSet takes all elements out of a set.
func (b *batch) flushSet(table, name string) {
	b.begin(unix.NFT_MSG_DELSETELEM, 0)
	b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, name)
}

func jumpTo(chain string) *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// read lists what stands in our table, but for rules and elements.
func (n *NFTables) read() (*present, error) {
	var have *present
	err := n.repeat(func() error {
		have = &present{sets: make(map[string]setSpec), chains: make(map[string]chainSpec), counters: make(map[string]bool)}
		return n.readInto(have)
	})
	return have, err
}

func (n *NFTables) readInto(have *present) error {
	err := n.sock.dump(unix.NFT_MSG_GETTABLE, func(attrs []byte) error {
		for typ, data := range attributes(attrs) {
			if typ == unix.NFTA_TABLE_NAME && text(data) == n.table {
				have.table = true
			}
		}
		return nil
	})
	if err != nil || !have.table {
		return err
	}
	err = n.sock.dump(unix.NFT_MSG_GETSET, func(attrs []byte) error {
		s := parseSet(attrs)
		if s.table == n.table && s.spec.flags&unix.NFT_SET_ANONYMOUS == 0 {
			have.sets[s.name] = s.spec
		}
		return nil
	}, n.inTable(unix.NFTA_SET_TABLE))
	if err == nil {
		err = n.sock.dump(unix.NFT_MSG_GETCHAIN, func(attrs []byte) error {
			c := parseChain(attrs)
			if c.table == n.table {
				have.chains[c.name] = c.spec
			}
			return nil
		}, n.inTable(unix.NFTA_CHAIN_TABLE))
	}
	if err == nil {
		err = n.sock.dump(unix.NFT_MSG_GETOBJ, func(attrs []byte) error {
			o := parseObject(attrs)
			if o.table == n.table && o.kind == unix.NFT_OBJECT_COUNTER {
				have.counters[o.name] = true
			}
			return nil
		}, n.inTable(unix.NFTA_OBJ_TABLE))
	}
	if errors.Is(err, unix.ENOENT) { // somebody removed the table meanwhile
		return errInterrupted
	}
	return err
}

// The parsers below read what the kernel says. They take whatever they are given:
// missing parts are zero.

type setEntry struct {
	table, name string
	spec        setSpec
}

// foreign marks a set with traits that ours never have.
const foreign = 1 << 31

func parseSet(attrs []byte) (s setEntry) {
	for typ, data := range attributes(attrs) {
		switch typ {
		case unix.NFTA_SET_TABLE:
			s.table = text(data)
		case unix.NFTA_SET_NAME:
			s.name = text(data)
		case unix.NFTA_SET_FLAGS:
			s.spec.flags |= uint32(number(data)) &^ foreign
		case unix.NFTA_SET_KEY_TYPE:
			s.spec.keyType = uint32(number(data))
		case unix.NFTA_SET_KEY_LEN:
			s.spec.keyLen = uint32(number(data))
		case unix.NFTA_SET_USERDATA:
			if strings.HasSuffix(string(data), setMark) {
				s.spec.mark = setMark
			}
		case unix.NFTA_SET_TIMEOUT:
			if number(data) != 0 { // a ban for ever would get it
				s.spec.flags |= foreign
			}
		case unix.NFTA_SET_DESC:
			for typ := range attributes(data) {
				if typ == unix.NFTA_SET_DESC_SIZE { // it would be full one day
					s.spec.flags |= foreign
				}
			}
		}
	}
	return s
}

type chainEntry struct {
	table, name string
	spec        chainSpec
}

func parseChain(attrs []byte) (c chainEntry) {
	for typ, data := range attributes(attrs) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			c.table = text(data)
		case unix.NFTA_CHAIN_NAME:
			c.name = text(data)
		case unix.NFTA_CHAIN_TYPE:
			c.spec.kind = text(data)
		case unix.NFTA_CHAIN_HOOK:
			c.spec.base = true
			for typ, data := range attributes(data) {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.spec.hook = uint32(number(data))
				case unix.NFTA_HOOK_PRIORITY:
					c.spec.priority = uint32(number(data))
				}
			}
		}
	}
	return c
}

type objectEntry struct {
	table, name string
	kind        uint32
	counter     Counter
}

func parseObject(attrs []byte) (o objectEntry) {
	for typ, data := range attributes(attrs) {
		switch typ {
		case unix.NFTA_OBJ_TABLE:
			o.table = text(data)
		case unix.NFTA_OBJ_NAME:
			o.name = text(data)
		case unix.NFTA_OBJ_TYPE:
			o.kind = uint32(number(data))
		case unix.NFTA_OBJ_DATA:
			for typ, data := range attributes(data) {
				switch typ {
				case unix.NFTA_COUNTER_PACKETS:
					o.counter.Packets = number(data)
				case unix.NFTA_COUNTER_BYTES:
					o.counter.Bytes = number(data)
				}
			}
		}
	}
	return o
}

// parseElements calls each with the elements of one message of a dump and the
// time they have left, zero for ever. There may be a hundred thousand of them,
// hence no iterators here, which would cost ten allocations each.
func parseElements(attrs []byte, each func(netip.Addr, time.Duration)) error {
	for typ, list := range attributes(attrs) {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for {
			_, elem, rest, ok := cutAttribute(list)
			if !ok {
				break
			}
			list = rest
			addr, left := parseElement(elem)
			if !addr.IsValid() {
				return errMalformed
			}
			each(addr, left)
		}
	}
	return nil
}

func parseElement(attrs []byte) (addr netip.Addr, left time.Duration) {
	for {
		typ, data, rest, ok := cutAttribute(attrs)
		if !ok {
			return addr, left
		}
		attrs = rest
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			if typ, value, _, ok := cutAttribute(data); ok && typ == unix.NFTA_DATA_VALUE {
				addr, _ = netip.AddrFromSlice(value)
			}
		case unix.NFTA_SET_ELEM_EXPIRATION:
			ms := min(number(data), uint64(1<<63-1)/uint64(time.Millisecond))
			left = max(time.Duration(ms)*time.Millisecond, 1) // not for ever
		}
	}
}
