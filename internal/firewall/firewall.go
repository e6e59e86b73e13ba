// Package firewall keeps the kernel's banned set equal to ours.
package firewall

import (
	"net/netip"
	"time"
)

// A Rule says which traffic of its banned addresses a jail drops.
type Rule struct {
	Jail string
	// Protocols are "tcp", "udp", "sctp", "dccp", "icmp"…; none means all traffic
	// whatever the port.
	Protocols []string
	// Ports are the destination ports the client dialled; none means all ports.
	Ports []PortRange
}

// A PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// An Element is one banned prefix of one jail.
type Element struct {
	Jail   string
	Prefix netip.Prefix
	End    time.Time // wall time; zero means for ever
}

// A Change puts an element into the kernel, or takes it out.
type Change struct {
	Element
	Remove bool
}
