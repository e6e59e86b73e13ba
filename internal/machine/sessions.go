package machine

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// recent is how long a login that is over is told of.
const recent = 24 * time.Hour

// who logs in, and from where.
type who struct {
	user string
	addr netip.Addr
}

// book gathers what the records tell of logins.
type book struct {
	sessions map[who]*Session
	mine     map[int]bool // the processes that this one descends from
}

// note adds what one record tells. A user's logins from one address become one session.
func (b *book) note(s Session) {
	if s.Addr = s.Addr.WithZone("").Unmap(); !s.Addr.IsValid() || s.Addr.IsUnspecified() || s.Addr.IsLoopback() {
		return
	}
	w := who{s.User, s.Addr}
	old := b.sessions[w]
	if old == nil {
		if len(b.sessions) < maxEntries {
			b.sessions[w] = &s
		}
		return
	}
	if s.At.After(old.At) {
		old.At = s.At
	}
	old.Live, old.Mine = old.Live || s.Live, old.Mine || s.Mine
}

func (m Machine) sessions(now time.Time) ([]Session, error) {
	b := book{sessions: map[who]*Session{}, mine: map[int]bool{}}
	chain := m.chain()
	for _, p := range chain {
		b.mine[p.pid] = true
	}
	errs := []error{
		m.recorded(&b, now),
		m.logind(&b),
		m.served(&b),
		m.own(&b, chain),
	}
	out := make([]Session, 0, len(b.sessions))
	for _, w := range slices.SortedFunc(maps.Keys(b.sessions), func(x, y who) int {
		return cmp.Or(b.sessions[y].At.Compare(b.sessions[x].At), x.addr.Compare(y.addr), strings.Compare(x.user, y.user))
	}) {
		out = append(out, *b.sessions[w])
	}
	return out, errors.Join(errs...)
}

// recorded reads utmp, which has the sessions that last, and wtmp, which has all. Only records with an address in
// binary form count: sshd and login write one, while the text beside it may be anybody's, for utempter(8) lets every
// user on the machine write that.
func (m Machine) recorded(b *book, now time.Time) error {
	live, err := m.entries("/run/utmp")
	if missing(err) {
		live, err = m.entries("/var/run/utmp")
	}
	for _, e := range live {
		if e.addr.IsValid() && m.lives(e.pid) {
			b.note(Session{User: e.user, Addr: e.addr, At: e.at, Live: true, Mine: b.mine[e.pid]})
		}
	}
	all, errAll := m.entries("/var/log/wtmp")
	for _, e := range all {
		if e.addr.IsValid() && e.at.After(now.Add(-recent)) && !e.at.After(now) {
			b.note(Session{User: e.user, Addr: e.addr, At: e.at})
		}
	}
	return errors.Join(unless(err), unless(errAll))
}

// logindFolder is where systemd-logind keeps its sessions: session_save in src/login/logind-session.c.
const logindFolder = "/run/systemd/sessions"

// logind reads the sessions that sshd has opened through PAM. Other services open some for people who
// administrate nothing.
func (m Machine) logind(b *book) error {
	names, err := m.names(logindFolder)
	if err != nil {
		return unless(err)
	}
	for _, name := range names {
		if strings.Contains(name, ".") { // 12.ref is a pipe
			continue
		}
		record := map[string]string{}
		_ = m.lines(path.Join(logindFolder, name), maxSmall, func(line []byte) { // it may have ended meanwhile
			key, value, _ := strings.Cut(string(line), "=")
			record[key] = unquote(value)
		})
		leader := number([]byte(record["LEADER"]))
		addr, err := netip.ParseAddr(record["REMOTE_HOST"])
		if err != nil || record["SERVICE"] != "sshd" || record["STATE"] == "closing" || !m.lives(leader) {
			continue
		}
		micros, _ := strconv.ParseInt(record["REALTIME"], 10, 64)
		b.note(Session{User: record["USER"], Addr: addr, At: time.UnixMicro(micros), Live: true, Mine: b.mine[leader]})
	}
	return nil
}

// unquote takes away what systemd's files put around values with special characters.
func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		value = value[1 : len(value)-1]
	}
	return value
}

// served looks for sshd's processes that serve somebody who has logged in, and where their connections come from.
// A connection alone makes nobody an administrator: it is there before any password is asked for.
func (m Machine) served(b *book) error {
	pids, err := m.pids()
	var servers []process
	for _, pid := range pids {
		if name, _ := m.read(procFile(pid, "comm"), 64); !bytes.HasPrefix(name, []byte("sshd")) {
			continue // what else there is of a process costs more
		}
		if p, ok := m.process(pid); ok && isSSHD(p) && m.trusted(p) && m.loggedIn(pid) != "" {
			servers = append(servers, p)
		}
	}
	if err != nil || len(servers) == 0 {
		return err
	}
	remote := map[uint64]socket{}
	ports := map[uint16][]uint64{} // that somebody serves, with the sockets that do
	for _, table := range []string{"tcp", "tcp6"} {
		err = errors.Join(err, m.sockets(table, func(s socket) {
			switch {
			case s.state == listens:
				ports[s.local.Port()] = append(ports[s.local.Port()], s.inode)
			case s.state == established && len(remote) < maxEntries:
				remote[s.inode] = s
			}
		}))
	}
	for _, p := range servers {
		if s, ok := connection(m.held(p.pid), remote, ports); ok {
			b.note(Session{
				User: m.loggedIn(p.pid), Addr: s.remote.Addr(), At: m.started(p.pid), Live: true,
				Mine: b.mine[p.pid],
			})
		}
	}
	return err
}

// connection is the one that a process of sshd serves. What it forwards for its user are connections, too: those it
// made come from a port that nobody serves, those it accepted to one that it serves itself.
func connection(held map[uint64]int, remote map[uint64]socket, ports map[uint16][]uint64) (found socket, ok bool) {
	lowest := 0
	for inode, fd := range held {
		s, is := remote[inode]
		if !is || ok && fd > lowest {
			continue
		}
		servers := ports[s.local.Port()]
		own := slices.ContainsFunc(servers, func(i uint64) bool { _, is := held[i]; return is })
		if len(servers) > 0 && !own {
			found, lowest, ok = s, fd, true
		}
	}
	return found, ok
}

func isSSHD(p process) bool { return p.name == "sshd" || p.name == "sshd-session" }

// trusted reports whether a process with sshd's name is sshd's: anybody can give his own that name, but root's and
// what descends from root's. Nor is root's name enough: through a link called sshd anybody can start a program that
// becomes root, as sudo does, with a socket of his own as its input.
func (m Machine) trusted(p process) bool {
	if p.uid == 0 {
		return m.runsSSHD(p.pid)
	}
	parent, ok := m.process(p.parent)
	return ok && parent.uid == 0 && isSSHD(parent) && m.runsSSHD(parent.pid)
}

// runsSSHD reports whether the file that a process runs is sshd's, or was until an upgrade: d_path in fs/d_path.c of
// the kernel. It takes CAP_SYS_PTRACE, as its sockets do.
func (m Machine) runsSSHD(pid int) bool {
	target, err := os.Readlink(m.path(procFile(pid, "exe")))
	name := path.Base(strings.TrimSuffix(target, " (deleted)"))
	return err == nil && (name == "sshd" || name == "sshd-session")
}

// loggedIn is the user whom a process of sshd serves, "" before he is known. OpenSSH's session.c sets the title
// "sshd: USER@TTY" once he is; until then it is "sshd: USER [net]" or "[priv]".
func (m Machine) loggedIn(pid int) string {
	b, err := m.read(procFile(pid, "cmdline"), maxSmall)
	if err != nil {
		return ""
	}
	head, title, ok := strings.Cut(strings.TrimRight(string(b), " \x00"), ": ")
	at := strings.LastIndexByte(title, '@')
	if !ok || head != "sshd" && head != "sshd-session" || at < 1 || strings.ContainsAny(title, " []\x00") {
		return ""
	}
	tty := title[at+1:]
	if tty != "notty" && tty != "internal-sftp" && !strings.HasPrefix(tty, "pts/") && !strings.HasPrefix(tty, "tty") {
		return ""
	}
	return title[:at]
}

// own adds the session that this process belongs to, as sshd tells what it starts: SSH_CONNECTION, "CLIENT PORT SERVER
// PORT". sudo takes it out of the environment, so that it is looked for in those that this process descends from.
func (m Machine) own(b *book, chain []process) error {
	var errs []error
	given := ""
	var s Session
	for _, p := range chain {
		values := m.environment(p.pid, "SSH_CONNECTION", "USER")
		if values[0] == "" || given != "" && values[0] != given {
			continue
		}
		given = values[0]
		s.User, s.At = values[1], m.started(p.pid) // at last that of the first process that has it
	}
	client, server, ok := parseConnection(given)
	if !ok {
		return nil
	}
	s.Addr, s.Mine = client.Addr(), true
	for _, table := range []string{"tcp", "tcp6"} {
		errs = append(errs, m.sockets(table, func(k socket) {
			// A daemon keeps the variable when the session is long over.
			s.Live = s.Live || k.state == established && k.local == server && k.remote == client
		}))
	}
	for w, known := range b.sessions {
		if w.addr == s.Addr && known.Mine {
			return errors.Join(errs...) // with a name that is to be trusted more
		}
	}
	b.note(s)
	return errors.Join(errs...)
}

// parseConnection reads the value of SSH_CONNECTION.
func parseConnection(value string) (client, server netip.AddrPort, ok bool) {
	f := strings.Fields(value)
	if len(f) != 4 {
		return client, server, false
	}
	end := func(addr, port string) (netip.AddrPort, bool) {
		a, err := netip.ParseAddr(addr)
		p, err2 := strconv.ParseUint(port, 10, 16)
		return netip.AddrPortFrom(a.WithZone("").Unmap(), uint16(p)), err == nil && err2 == nil
	}
	client, okClient := end(f[0], f[1])
	server, okServer := end(f[2], f[3])
	return client, server, okClient && okServer
}
