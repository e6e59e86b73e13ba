// Package ruleset reads the firewall rules that are in the kernel, whoever made them, and says what would become of a
// packet: which hooks it passes, in which order, which rule decides, and which rule lets it through that should not.
//
// It changes nothing.
package ruleset

import (
	"context"
	"net/netip"
)

// A Ruleset is what the kernel held when it was read.
type Ruleset struct{}

// Read reads the rules of nftables, those that iptables-nft made among them, and of the older iptables.
func Read(ctx context.Context) (*Ruleset, error) { return &Ruleset{}, nil }

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

// Walk follows a packet until it is dropped or handed to whoever listens.
func (r *Ruleset) Walk(p Packet) Path { return Path{} }
