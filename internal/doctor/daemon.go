package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/store"
)

// lookAtSocket tells that nobody answers, and takes away the socket that somebody left.
func (e *examination) lookAtSocket() {
	start := "start it: sudo systemctl start bantam, or sudo bantam run; or name its --socket"
	c := e.fault(start, "no daemon runs: nobody answers on %s", e.Socket)
	info, err := os.Lstat(e.Socket)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	c.Text = fmt.Sprintf("no daemon runs: it left the socket %s behind", e.Socket)
	c.fixes("removes the socket", func(ctx context.Context) error {
		// Whoever came since then keeps his own.
		conn, err := new(net.Dialer).DialContext(ctx, "unix", e.Socket)
		switch {
		case err == nil:
			_ = conn.Close()
			return fmt.Errorf("somebody answers on %s by now", e.Socket)
		case !errors.Is(err, unix.ECONNREFUSED): // EAGAIN is one who has no time: unix(7)
			return err
		}
		return os.Remove(e.Socket)
	})
}

// hungry is from how many bytes on memory is told as doubtful: a daemon with a million bans has less.
const hungry = 2 << 30

// lookAtRunning looks at a daemon that answers, and asks it what the others need.
func (e *examination) lookAtRunning(ctx context.Context) {
	st := &e.status
	by := ""
	if st.Firewall != "" {
		by = ", bans by " + st.Firewall
	}
	e.ok("bantam %s runs (pid %d), up %s, %d MB%s", st.Version, st.PID, length(e.now.Sub(st.Since)), st.Memory/1_000_000, by)
	if st.Version != bantam.Version {
		e.doubt("sudo systemctl restart bantam", "the daemon is version %s, this program %s", st.Version, bantam.Version)
	}
	if st.Memory > hungry {
		e.doubt("bantam status --json shows what there is so much of", "the daemon takes %d MB", st.Memory/1_000_000)
	}
	switch {
	case st.Firewall != "":
	case st.Config == "":
		e.doubt("sudo bantam setup", "it only observes until it is set up: nobody is banned")
	default:
		e.doubt("sudo bantam enforce, or take observe out of the configuration", "it only observes: nobody is banned")
	}
	for _, j := range st.Jails {
		if j.Aside != "" {
			text, _, _ := strings.Cut(j.Aside, "\n")
			e.fault("bantam check shows where; then sudo bantam reload", "[%s] is set aside: %s", j.Jail, text)
		} else if j.Observe && st.Firewall != "" && j.Jail != jail.Manual {
			e.doubt("take observe = true out of the jail to ban", "[%s] only observes", j.Jail)
		}
	}
	e.lookAtActions()
	if st.Privileges != "" {
		e.ok("privileges: %s", st.Privileges)
	}
	// A ban of each jail and family is proved; some of the newest may be over by then.
	about := control.BansRequest{Limit: 10}
	if e.Address.IsValid() {
		about = control.BansRequest{ID: bantam.AddrID(e.Address.Unmap())}
	}
	if reply, err := control.Call(ctx, e.client, control.GetBans, about); err == nil {
		e.bans = reply.Bans
	} else {
		e.unseen("who is banned", err)
	}
	if reply, err := control.Call(ctx, e.client, control.GetAllow, control.None{}); err == nil {
		e.allowed = store.Prefixes(reply.Allowed)
	}
	e.channels, _ = control.Call(ctx, e.client, control.GetChannels, control.None{})
}

func (e *examination) lookAtActions() {
	trouble := false
	for _, a := range e.status.Actions {
		switch {
		case a.Failing > 0:
			e.fault("sudo bantam check names its commands; the log has what they say", "the action %s fails for %s and tries again: %s", a.Action, plural(a.Failing, "offender"), a.Err)
		case a.Err != "":
			e.fault("the log has what it says", "the action %s hangs, %s waiting: %s", a.Action, plural(a.Pending, "decision"), a.Err)
		case a.GaveUp > 0:
			e.doubt("the log says which and why", "the action %s gave up on %s", a.Action, plural(int(a.GaveUp), "decision"))
		default:
			continue
		}
		trouble = true
	}
	if n := len(e.status.Actions); n > 0 && !trouble {
		e.ok("%s, none fails or hangs", plural(n, "action"))
	}
}

// lookAtCommands tells of actions that are commands while the daemon's unit gives them little.
func (e *examination) lookAtCommands() {
	if !e.running || e.config == nil || !e.noNewPrivileges() {
		return
	}
	var jails []string
	for i := range e.config.Jails {
		j := &e.config.Jails[i]
		if slices.ContainsFunc(j.Actions, func(a action.Config) bool { return a.Kind != action.Native && !a.Made }) && j.Err == nil {
			jails = append(jails, j.Name)
		}
	}
	if len(jails) > 0 {
		e.doubt("packaging/systemd/shell-actions.conf as /etc/systemd/system/bantam.service.d/shell-actions.conf gives them what they need",
			"actions of %s are commands, and the daemon's unit gives them few privileges", jailsOf(jails))
	}
}

// others are programs that ban as well, by the name of their process.
var others = map[string]string{
	"fail2ban-server": "Fail2Ban", "crowdsec": "CrowdSec", "sshguard": "SSHGuard", "sshg-blocker": "SSHGuard", "denyhosts": "DenyHosts",
	"denyhosts.py": "DenyHosts", "lfd": "lfd of CSF", "reaction": "reaction",
}

// lookForOthers tells of other programs that read the same logs and ban.
func (e *examination) lookForOthers() {
	found := map[string]int{}
	processes, _ := filepath.Glob(filepath.Join(e.Machine.Root, "/proc/[0-9]*")) // the pattern is well formed
	for _, p := range processes {
		pid, _ := strconv.Atoi(filepath.Base(p)) // it is a number
		if e.running && pid == e.status.PID || pid == os.Getpid() && e.Machine.Root == "" {
			continue
		}
		for i, word := range bytes.SplitN(readSome(filepath.Join(p, "cmdline"), 4096), []byte{0}, 4) {
			// Behind an interpreter and its option.
			if name, is := others[filepath.Base(string(word))]; is && i < 3 {
				found[name] = pid
			}
		}
	}
	for name, pid := range found {
		fix := "one of the two is enough: each lifts and repeats bans that the other does not know of"
		if name == "Fail2Ban" {
			fix = "sudo systemctl disable --now fail2ban; its bans are taken over from its database"
		}
		e.doubt(fix, "%s runs beside (pid %d)", name, pid)
	}
}

// readSome is the beginning of a file, empty if it cannot be read.
func readSome(path string, most int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, most))
	return b
}

// length is a duration in its two largest units.
func length(d time.Duration) string {
	d = d.Abs()
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// of is a few names of many, in one text.
func of(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// proc is a file of the daemon's in /proc.
func (e *examination) proc(name string) string {
	return filepath.Join(e.Machine.Root, "/proc", strconv.Itoa(e.status.PID), name)
}

// elsewhere reports whether the daemon lives in another network than this process.
func (e *examination) elsewhere() bool {
	here, err := os.Readlink("/proc/self/ns/net")
	there, err2 := os.Readlink(e.proc("ns/net"))
	return err == nil && err2 == nil && here != there
}

// everything reports whether a prefix covers so much that nobody, or nearly nobody, is left.
func everything(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() <= 1
	}
	return p.Bits() <= 3 // 2000::/3 is all that is routed (RFC 4291 2.4)
}

// room is what is free on the disk of a path, for whoever is not root.
func room(path string) (bytes uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// jailsOf are the names of jails in one bracket.
func jailsOf(names []string) string {
	sorted := slices.Sorted(slices.Values(names))
	return "[" + of(sorted) + "]"
}

// plural is a number of things.
func plural(n int, noun string) string { return were(n, noun, noun+"s") }

// were is a number and what is said of one or of several.
func were(n int, one, several string) string {
	if n == 1 {
		several = one
	}
	return fmt.Sprintf("%d %s", n, several)
}
