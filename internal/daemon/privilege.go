package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/report"
	"bantam/internal/smtp"
)

// Capabilities that a daemon keeps whose jails run no commands: for netlink and the programs
// that load rules, and to read logs that are not its own.
var keptCapabilities = []int{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_DAC_READ_SEARCH}

// Privileges is what a process may do, for the status.
const (
	privilegesAll  = "all it was started with: jails run commands"
	privilegesFew  = "only what netlink and logs need"
	privilegesHeld = "all it was started with"
)

// commands names a jail whose actions or rules run programs that may want anything, "" if there
// is none.
func (p *plan) commands() string {
	for _, a := range p.actions {
		if a.Kind != action.Native {
			return a.Jail
		}
	}
	tell, reports := p.config.Channels()
	for i := range tell {
		if tell[i].Mail.Kind == smtp.MTA { // it may be set-group-ID, and drops its own
			return tell[i].Jails[0]
		}
	}
	for i := range reports {
		if reports[i].Kind == report.Abuse && reports[i].Via.Kind == smtp.MTA {
			return reports[i].Jails[0]
		}
	}
	for i := range p.config.Jails {
		if c := &p.config.Jails[i]; c.Lookup.IgnoreCommand != "" && p.runs(c.Name) {
			return c.Name
		}
	}
	return ""
}

// dropPrivileges gives up what the daemon does not need from now on, for good, if it may and no
// jail runs commands. What was opened before stays open.
func (d *Daemon) dropPrivileges() {
	set := func(text string) { d.privileges.Store(&text) }
	p := d.plan.Load()
	if !d.options.DropPrivileges {
		set(privilegesHeld)
		return
	}
	if p.commands() != "" {
		set(privilegesAll)
		return
	}
	keep := keptCapabilities
	if !d.owns(&p.config.Daemon) {
		keep = append(keep[:len(keep):len(keep)], unix.CAP_DAC_OVERRIDE)
	}
	switch err := limitCapabilities(keep); {
	case errors.Is(err, syscall.ENOTSUP):
		set(privilegesHeld)
		d.log.Debug("this build cannot give up privileges", "err", err)
	case err != nil:
		set(privilegesHeld)
		d.log.Warn("cannot give up privileges that are not needed", "err", err)
	default:
		set(privilegesFew)
		d.log.Info("privileges given up that are not needed")
	}
}

// tellPrivileges says, of a plan that is put to work, if its commands have fewer privileges than
// they may need.
func (d *Daemon) tellPrivileges(p *plan) {
	if has := d.privileges.Load(); has != nil && *has == privilegesFew {
		if name := p.commands(); name != "" {
			d.log.Warn("commands of this jail run with few privileges; start the daemon anew to give them all", "jail", name)
		}
	}
}

// owns reports whether the files that the daemon writes and their folders are its own, so that
// it can without overriding their modes.
func (d *Daemon) owns(c *config.Daemon) bool {
	for _, file := range []string{d.database, d.pidFile, d.options.Socket, c.Socket, c.LogTarget} {
		if filepath.IsAbs(file) && (!own(file) || !own(filepath.Dir(file))) {
			return false
		}
	}
	return true
}

// own reports whether a file is the process' user's, or not there.
func own(file string) bool {
	info, err := os.Stat(file)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// limitCapabilities takes all capabilities but some from every thread of the process, and from
// what it starts.
func limitCapabilities(keep []int) error {
	var kept [2]uint32
	for _, c := range keep {
		kept[c/32] |= 1 << (c % 32)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	// The bounding set first: it takes CAP_SETPCAP.
	if data[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		for c := 0; c <= unix.CAP_LAST_CAP; c++ {
			if kept[c/32]&(1<<(c%32)) != 0 {
				continue
			}
			if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); e != 0 && e != unix.EINVAL {
				return fmt.Errorf("drop capability %d from the bounding set: %w", c, e)
			}
		}
	}
	for i := range data {
		data[i].Permitted &= kept[i]
		data[i].Effective &= kept[i]
		data[i].Inheritable &= kept[i]
	}
	header.Pid = 0
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return fmt.Errorf("set the capabilities: %w", e)
	}
	return nil
}
