// Package firewall keeps the kernel's banned set equal to ours.
//
// A backend is told the whole truth once, by Sync, and every change after that,
// by Apply. It promises that a wanted ban is never missing from the kernel while
// it works, that a failed call says so, and that what it holds ends by itself
// when the ban does, also if nobody is there any more to end it. NFTables is the
// backend that drops packets; Recorder only remembers, for observing and for tests.
//
// Beside that, Recognize tells whether the commands of an action are those of a stock
// action, and Stock makes and keeps the objects that they would make, by netlink and
// iptables-restore instead of a shell. It promises the same, but for plain iptables,
// whose rules do not end by themselves.
//
// Who is banned, and for how long, is not decided here, and nothing is remembered
// across restarts: the store does that. After an error that wraps ErrUnknownState
// the caller has to Sync.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bantam"
)

var (
	// ErrPrivilege is wrapped by errors of a process that may not change the
	// kernel's rules.
	ErrPrivilege = errors.New("changing firewall rules needs CAP_NET_ADMIN: run as root, or grant the capability")
	// ErrUnsupported is wrapped by OpenNFTables if the kernel has no nf_tables.
	ErrUnsupported = errors.New("this kernel has no nf_tables")
	// ErrUnknownState is wrapped by errors after which the kernel may hold more
	// or less than it was told. Sync repairs it.
	ErrUnknownState = errors.New("what the kernel holds is unknown")
	// ErrUnknownJail is wrapped by errors about a jail that the last Sync had no
	// rule for.
	ErrUnknownJail = errors.New("no rule for the jail")

	errClosed = errors.New("the firewall is closed")
)

// A Rule says which traffic of its banned addresses a jail drops.
type Rule struct {
	Jail string
	// Protocols are "tcp", "udp", "sctp", "dccp", "icmp"…; none means all traffic
	// whatever the port.
	Protocols []string
	// Ports are the destination ports the client dialled; none means all ports.
	Ports []PortRange
	// OnDemand is for a rule that alone is no reason to make anything before its first ban.
	OnDemand bool
}

// A PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// An Element is one banned prefix of one jail.
type Element struct {
	Jail   string
	Prefix netip.Prefix
	End    time.Time // wall time; zero means for ever
}

// ended reports whether the element's end has come at the wall time now.
func (e Element) ended(now time.Time) bool { return !e.End.IsZero() && !now.Before(e.End) }

// A Change puts an element into the kernel, or takes it out.
type Change struct {
	Element
	Remove bool
}

// A Counter is what a jail's rules have dropped. It counts on through Sync and
// through restarts of the daemon, until Remove, or until the jail has no rule
// any more.
type Counter struct{ Packets, Bytes uint64 }

// canonical is a prefix as the kernel compares it: host bits cleared, and
// IPv4-mapped IPv6 as the IPv4 it stands for.
func canonical(p netip.Prefix) (netip.Prefix, error) {
	c, ok := bantam.PrefixID(p).Prefix()
	if !ok {
		return c, fmt.Errorf("%q is no prefix", p)
	}
	return c, nil
}

// checkRules finds what no backend could carry out.
func checkRules(rules []Rule) error {
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		if r.Jail == "" {
			return errors.New("a rule names no jail")
		}
		if seen[r.Jail] {
			return fmt.Errorf("jail %q has two rules", r.Jail)
		}
		seen[r.Jail] = true
		for _, p := range r.Protocols {
			if _, err := protocolNumbers(p); err != nil {
				return fmt.Errorf("jail %q: %w", r.Jail, err)
			}
		}
		for _, p := range r.Ports {
			if p.First > p.Last {
				return fmt.Errorf("jail %q: the ports %d-%d run backwards", r.Jail, p.First, p.Last)
			}
		}
	}
	return nil
}

// checkChanges finds a change that cannot be carried out, before any is.
func checkChanges(changes []Change, jails map[string]bool) error {
	for _, c := range changes {
		if !jails[c.Jail] {
			return fmt.Errorf("change %s in jail %q: %w", c.Prefix, c.Jail, ErrUnknownJail)
		}
		if !c.Prefix.IsValid() {
			return fmt.Errorf("change in jail %q: %q is no prefix", c.Jail, c.Prefix)
		}
	}
	return nil
}
