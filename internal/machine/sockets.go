package machine

import (
	"bytes"
	"cmp"
	"errors"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A socket is a line of the kernel's tables: get_tcp4_sock in net/ipv4/tcp_ipv4.c and its like.
type socket struct {
	local, remote netip.AddrPort
	state         byte
	inode         uint64
}

// States: include/net/tcp_states.h. A datagram socket that is not connected is closed.
const (
	established = 0x01
	closed      = 0x07
	listens     = 0x0a
)

// sockets hands over each socket of a table: tcp, tcp6, udp, udp6.
func (m Machine) sockets(table string, each func(socket)) error {
	return unless(m.lines(m.network(table), maxTable, func(line []byte) {
		if s, ok := parseSocket(line); ok {
			each(s)
		}
	}))
}

// parseSocket reads a line; the head of a table is none.
func parseSocket(line []byte) (s socket, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 10 {
		return s, false
	}
	var okLocal, okRemote bool
	s.local, okLocal = hexAddrPort(f[1])
	s.remote, okRemote = hexAddrPort(f[2])
	state, err1 := strconv.ParseUint(string(f[3]), 16, 8)
	inode, err2 := strconv.ParseUint(string(f[9]), 10, 64)
	s.state, s.inode = byte(state), inode
	return s, okLocal && okRemote && err1 == nil && err2 == nil
}

func hexAddrPort(text []byte) (netip.AddrPort, bool) {
	addr, port, _ := bytes.Cut(text, []byte(":"))
	a, ok := hexAddr(addr, len(addr)/2)
	p, err := strconv.ParseUint(string(port), 16, 16)
	return netip.AddrPortFrom(a, uint16(p)), ok && err == nil
}

// held are the sockets that a process has open, by inode, with the lowest number it has them under. That of another
// user can be seen with CAP_SYS_PTRACE only.
func (m Machine) held(pid int) map[uint64]int {
	folder := procFile(pid, "fd")
	names, _ := m.names(folder)
	out := map[uint64]int{}
	for _, name := range names {
		target, err := os.Readlink(m.path(path.Join(folder, name)))
		text, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
		if err != nil {
			continue
		}
		fd := number([]byte(name))
		if before, ok := out[inode]; !ok || fd < before {
			out[inode] = fd
		}
	}
	return out
}

func (m Machine) listeners() ([]Listener, error) {
	var out []Listener
	var inodes []uint64
	var errs []error
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		protocol := strings.TrimSuffix(table, "6")
		errs = append(errs, m.sockets(table, func(s socket) {
			serves := s.state == listens && protocol == "tcp" || s.state == closed && protocol == "udp" && s.remote.Port() == 0
			if serves && !s.local.Addr().IsLoopback() && len(out) < maxEntries {
				out = append(out, Listener{Protocol: protocol, Addr: s.local})
				inodes = append(inodes, s.inode)
			}
		}))
	}
	owners, err := m.owners(inodes)
	errs = append(errs, err)
	for i := range out {
		p := owners[inodes[i]]
		out[i].PID, out[i].Program = p.pid, p.name
	}
	slices.SortFunc(out, func(a, b Listener) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Addr.Port(), b.Addr.Port()), a.Addr.Compare(b.Addr))
	})
	return slices.Compact(out), errors.Join(errs...)
}

// owners are the processes that hold some sockets. Of several, the one that was there first: it gave it to the others.
func (m Machine) owners(inodes []uint64) (map[uint64]process, error) {
	wanted := make(map[uint64]bool, len(inodes))
	for _, inode := range inodes {
		wanted[inode] = true
	}
	out := map[uint64]process{}
	if len(wanted) == 0 {
		return out, nil
	}
	pids, err := m.pids()
	for _, pid := range pids {
		for inode := range m.held(pid) {
			if _, known := out[inode]; known || !wanted[inode] {
				continue
			}
			if p, ok := m.process(pid); ok {
				out[inode] = p
			}
		}
	}
	return out, err
}
