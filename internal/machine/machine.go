// Package machine tells what is on this machine: its addresses and how it reaches others, who is logged in and from
// where, which services run, listen and write logs, in containers, too.
//
// It reads what the kernel, systemd and the container engines keep in files, starts nothing, changes nothing and asks no
// other machine. What it reads may be an attacker's text (names, titles, hosts) and may change while it is read;
// every file is read up to a bound. What cannot be read is left out, and told in an error beside what could.
package machine

import (
	"net/netip"
	"time"
)

// A Machine is a file tree to look at, and, where it is the real one, the kernel.
type Machine struct {
	// Root is where the tree stands, "" for the real one: tests make their own.
	Root string
}

// A Session is somebody who logged in from another machine.
type Session struct {
	User string     `json:"user"` // as the system's records have it: it may be anything
	Addr netip.Addr `json:"addr"`
	At   time.Time  `json:"at"` // wall time of the login
	// Live is true while it lasts.
	Live bool `json:"live"`
	// Mine is true for the session that this process belongs to.
	Mine bool `json:"mine,omitempty"`
}

// A Listener is a port somebody serves.
type Listener struct {
	Protocol string         `json:"protocol"` // tcp or udp
	Addr     netip.AddrPort `json:"addr"`
	PID      int            `json:"pid,omitempty"`     // 0 if it cannot be known, as without root
	Program  string         `json:"program,omitempty"` // the process' name, 15 bytes at most
}

// A Container is one that runs.
type Container struct {
	Name   string            `json:"name"`
	Image  string            `json:"image"`
	Labels map[string]string `json:"labels,omitempty"`
	Log    string            `json:"log,omitempty"` // the file its output goes to, "" if it is none
	Ports  []Published       `json:"ports,omitempty"`
}

// Published is a container's port that is reached from outside.
type Published struct {
	Protocol string         `json:"protocol"`
	Outside  netip.AddrPort `json:"outside"` // what clients dial
	Inside   uint16         `json:"inside"`  // what the service listens on
}

// Addresses are this machine's own, with their networks, in the network that this process is in. A tree has none.
func (m Machine) Addresses() ([]netip.Prefix, error) { return m.addresses() }

// Gateways are the next hops of its default routes, IPv4's first.
func (m Machine) Gateways() ([]netip.Addr, error) { return m.gateways() }

// Resolvers are the name servers it asks; behind systemd-resolved, those that this one asks.
func (m Machine) Resolvers() ([]netip.Addr, error) { return m.resolvers() }

// Sessions are the logins from other machines that last, or began in the day before now, wall time; the newest first.
// A user's logins from one address are one session, At the newest of them. They come from utmp and wtmp, systemd-logind,
// sshd's processes and this process' environment; logs and the journal are not read. Without root, or without
// CAP_SYS_PTRACE, sshd's processes tell nothing.
func (m Machine) Sessions(now time.Time) ([]Session, error) { return m.sessions(now) }

// Administrators are the users who may administrate it, by passwd(5) and group(5); everybody if these cannot be read.
func (m Machine) Administrators() (Administrators, error) { return m.administrators() }

// Listeners are the ports that somebody serves on other addresses than loopback, in the network that this process is in.
func (m Machine) Listeners() ([]Listener, error) { return m.listeners() }

// Units are systemd's services that run, in order: sshd.service. There are none where systemd is not.
func (m Machine) Units() ([]string, error) { return m.units() }

// Containers are those of Docker that run, and root's of Podman, in order of their names. Podman's ports and labels are
// not told.
func (m Machine) Containers() ([]Container, error) { return m.containers() }
