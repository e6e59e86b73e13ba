// Package ruleset reads the firewall rules that are in the kernel, whoever made them, and says what would become of a
// packet: which hooks it passes, in which order, which rule decides, and which rule lets it through that should not.
//
// It reads nftables by netlink, the rules that iptables-nft makes among them, and the older iptables through its own
// iptables-legacy-save. Sets may hold a million elements: they are not read; the kernel is asked for the one element
// that a rule looks up, at the time of the walk.
//
// What it promises is one-sided: it says that a packet is dropped only if that does not hang on anything it could not
// judge, such as a rate limit or an expression it does not know. What it could not judge it names.
//
// It changes nothing. Bridges, arp, routing policy, traffic control and programs in BPF are left out. It does not read
// what a container's own namespace holds: a packet that is forwarded has passed.
package ruleset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Ruleset is what the kernel held when it was read, but for the elements of sets, which are looked up when a packet
// is walked. It may be used by several goroutines at once.
type Ruleset struct {
	kernel *kernel
	chains []*chain
	names  map[chainKey]*chain
	// unread says, by the protocol of the packets they are for, which rules could not be read, in plain words.
	unread map[uint8]string
	// changing is true if the rules never stood still while they were read.
	changing bool
}

// Close lets go of the connections to the kernel. A Ruleset that is forgotten without Close is let go of by the
// garbage collector.
func (r *Ruleset) Close() error {
	if r.kernel == nil {
		return nil
	}
	return r.kernel.close()
}

// Read reads the rules of nftables, those that iptables-nft made among them, and of the older iptables, in the network
// namespace of the calling thread. It needs CAP_NET_ADMIN; without it the error wraps unix.EPERM. That the older
// iptables has rules which cannot be read is no error but a doubt of every walk.
func Read(ctx context.Context) (*Ruleset, error) {
	k, err := openKernel(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for its firewall rules: %w", err)
	}
	r := &Ruleset{kernel: k, names: make(map[chainKey]*chain), unread: make(map[uint8]string)}
	before, err := k.generation()
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		err = nil // a kernel without nf_tables
	case err == nil:
		err = r.readStill(ctx, before)
	}
	if err == nil {
		err = r.readLegacy(ctx)
	}
	if err == nil {
		err = k.noDeadline()
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's firewall rules: %w", errors.Join(err, k.close()))
	}
	return r, nil
}

// readStill reads nftables until it did not change meanwhile, or says that it always did: a change of any set's elements
// counts, too, and is not told from one of the rules.
func (r *Ruleset) readStill(ctx context.Context, before uint64) error {
	const attempts = 8
	for range attempts {
		r.chains, r.names = nil, make(map[chainKey]*chain)
		err := r.readTables()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		after, err := r.kernel.generation()
		if err != nil || before == after {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		before = after
	}
	r.changing = true
	return nil
}

// A Packet is one that comes in from outside.
type Packet struct {
	Src, Dst netip.Addr
	Protocol string // tcp, udp, icmp …
	Port     uint16 // the destination's, as the client dialled it; 0 where the protocol has none
	In       string // the name of the interface; "" if that is not known
	// Established is true for a packet of a connection that was there before the ban.
	Established bool
}

// A Path is what became of a packet.
type Path struct {
	// Dropped is true if a rule surely drops or rejects it.
	Dropped bool `json:"dropped"`
	// By is the step that decided; nil if nothing did and the packet passed.
	By    *Step  `json:"by,omitempty"`
	Steps []Step `json:"steps"` // base chains in the order of the hooks, and what each said
	// Through is the rule that lets a packet pass which would be dropped without it; nil if the packet is dropped, or
	// would pass anyway.
	Through *Step `json:"through,omitempty"`
	// Missed is what would drop the packet if it were not for Through.
	Missed *Step `json:"missed,omitempty"`
	// Doubts are rules whose conditions could not be judged, and what was assumed.
	Doubts []string `json:"doubts,omitempty"`
}

// A Step is a base chain on the way, or what decided in it.
type Step struct {
	Hook     string `json:"hook"` // ingress, prerouting, input, forward …
	Priority int    `json:"priority"`
	Family   string `json:"family"` // inet, ip, ip6, netdev; "iptables" and "ip6tables" for the older ones
	Table    string `json:"table"`
	Chain    string `json:"chain"`          // where the deciding rule stands
	Rule     string `json:"rule,omitempty"` // as nft or iptables-save print it, near enough to be found; "" for a policy
	Verdict  string `json:"verdict"`        // accept, drop, reject, continue
}
