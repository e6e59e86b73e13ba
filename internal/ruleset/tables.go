package ruleset

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A set of nftables; its elements are in the kernel.
type set struct {
	family      uint8
	table, name string
	flags       uint32
	keyLen      int
	verdicts    bool // it is a map to verdicts
	dataLen     int  // of a map to values
}

func (s *set) anonymous() bool { return s.flags&unix.NFT_SET_ANONYMOUS != 0 }

type setKey struct {
	family      uint8
	table, name string
}

// familyNames are the families whose rules a packet to this host can meet.
var familyNames = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_NETDEV: "netdev",
}

// hookNames are those of linux/netfilter.h; those of a netdev family count anew.
func hookName(family uint8, n uint64) string {
	names := []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}
	if family == unix.NFPROTO_NETDEV {
		names = []string{"ingress", "egress"}
	}
	if n >= uint64(len(names)) {
		return ""
	}
	return names[n]
}

// readTables reads all of nftables but the elements of its sets.
func (r *Ruleset) readTables() error {
	dormant := make(map[setKey]bool)
	tables, err := r.kernel.askTables(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, netlink.Dump)
	if err != nil {
		return err
	}
	families := make(map[uint8]bool)
	for _, f := range tables {
		families[f.family] = true
		a := attributes(f.body)
		const flagDormant = 1 // NFT_TABLE_F_DORMANT: it stands and does nothing
		dormant[setKey{family: f.family, table: text(a[unix.NFTA_TABLE_NAME])}] = number(a[unix.NFTA_TABLE_FLAGS])&flagDormant != 0
	}
	sets := make(map[setKey]*set)
	// Sets are listed family by family: a list of all of them, of AF_UNSPEC, tables with very many chains slow down.
	for family := range families {
		if familyNames[family] == "" {
			continue
		}
		found, err := r.kernel.askTables(unix.NFT_MSG_GETSET, family, netlink.Dump)
		if err != nil {
			return err
		}
		for _, f := range found {
			s := parseSet(f)
			sets[setKey{s.family, s.table, s.name}] = s
		}
	}
	chains, err := r.kernel.askTables(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, netlink.Dump)
	if err != nil {
		return err
	}
	for i, f := range chains {
		c := parseChain(f)
		if c.family == "" {
			continue
		}
		if dormant[setKey{family: c.protocol, table: c.table}] {
			c.hook = ""
		}
		c.order = i
		r.chains = append(r.chains, c)
		r.names[c.chainKey] = c
	}
	rules, err := r.kernel.askTables(unix.NFT_MSG_GETRULE, unix.AF_UNSPEC, netlink.Dump)
	if err != nil {
		return err
	}
	for _, f := range rules {
		a := attributes(f.body)
		c := r.names[chainKey{familyNames[f.family], text(a[unix.NFTA_RULE_TABLE]), text(a[unix.NFTA_RULE_CHAIN])}]
		if c == nil {
			continue
		}
		d := decoder{chain: c, rule: &rule{chain: c, handle: number(a[unix.NFTA_RULE_HANDLE])}, sets: sets, ipset: r.ipsetName, link: r.linkName}
		for _, e := range nested(a[unix.NFTA_RULE_EXPRESSIONS]) {
			d.expression(e)
		}
		d.finish(a[unix.NFTA_RULE_USERDATA])
		c.rules = append(c.rules, d.rule)
	}
	return nil
}

// ipsetName is the name of a set that a rule calls by its number, or the number if the kernel does not tell.
func (r *Ruleset) ipsetName(index uint16) string {
	name, err := r.kernel.ipsetName(index)
	if err != nil {
		return fmt.Sprintf("#%d", index)
	}
	return name
}

// linkName is the name of an interface that a rule calls by its number, or "".
func (r *Ruleset) linkName(index int) string {
	name, _ := r.kernel.linkName(index)
	return name
}

func parseSet(f answered) *set {
	a := attributes(f.body)
	s := &set{
		family: f.family, table: text(a[unix.NFTA_SET_TABLE]), name: text(a[unix.NFTA_SET_NAME]),
		flags:   uint32(number(a[unix.NFTA_SET_FLAGS])),
		keyLen:  int(min(number(a[unix.NFTA_SET_KEY_LEN]), registerBytes)),
		dataLen: int(min(number(a[unix.NFTA_SET_DATA_LEN]), registerBytes)),
	}
	const dataVerdict = 0xffffff00 // NFT_DATA_VERDICT
	s.verdicts = s.flags&unix.NFT_SET_MAP != 0 && number(a[unix.NFTA_SET_DATA_TYPE]) == dataVerdict
	return s
}

func parseChain(f answered) *chain {
	a := attributes(f.body)
	c := &chain{
		chainKey: chainKey{familyNames[f.family], text(a[unix.NFTA_CHAIN_TABLE]), text(a[unix.NFTA_CHAIN_NAME])},
		protocol: f.family, kind: text(a[unix.NFTA_CHAIN_TYPE]), policy: accept,
	}
	hook, ok := a[unix.NFTA_CHAIN_HOOK]
	if !ok {
		return c
	}
	h := attributes(hook)
	c.hook = hookName(f.family, number(h[unix.NFTA_HOOK_HOOKNUM]))
	c.priority = int32(uint32(number(h[unix.NFTA_HOOK_PRIORITY])))
	if p, ok := a[unix.NFTA_CHAIN_POLICY]; ok && number(p) == 0 {
		c.policy = drop
	}
	if dev, ok := h[unix.NFTA_HOOK_DEV]; ok {
		c.devices = append(c.devices, text(dev))
	}
	for typ, name := range cut(h[unix.NFTA_HOOK_DEV+1]) { // NFTA_HOOK_DEVS
		const prefix = 2 // NFTA_DEVICE_PREFIX
		dev := text(name)
		if typ == prefix {
			dev += "*"
		}
		if !slices.Contains(c.devices, dev) {
			c.devices = append(c.devices, dev)
		}
	}
	return c
}

func parseVerdict(b []byte) *verdict {
	a := attributes(b)
	v := &verdict{chain: text(a[unix.NFTA_VERDICT_CHAIN])}
	switch code := int32(uint32(number(a[unix.NFTA_VERDICT_CODE]))); code & 0xff {
	case 0:
		v.kind = drop
	case 1:
		v.kind = accept
	case 3:
		v.kind = queue
	default:
		switch code {
		case unix.NFT_JUMP:
			v.kind = jump
		case unix.NFT_GOTO:
			v.kind = leap
		case unix.NFT_RETURN:
			v.kind = back
		}
	}
	return v
}

func (v *verdict) String() string { return strings.TrimSuffix(v.kind.String()+" "+v.chain, " ") }

// answer is what the kernel said of an element, kept for the length of a walk.
type answer struct {
	element *element
	err     error
}

// find asks for the element of a set that a key falls on; nil if there is none.
func (w *walk) find(s *set, key []byte) (*element, error) {
	id := s.table + "\x00" + s.name + "\x00" + string([]byte{s.family}) + string(key)
	a, ok := w.asked[id]
	if !ok {
		a.element, a.err = w.r.kernel.find(s, key)
		if errors.Is(a.err, errNotThere) {
			a = answer{}
		}
		w.asked[id] = a
	}
	return a.element, a.err
}
