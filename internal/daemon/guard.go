package daemon

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/jail"
	"bantam/internal/source"
)

// Who administrates this machine is known from three things: lines of sshd, which are looked at when sshd's jails read
// them, before any failure behind them can decide; what the machine keeps of sessions, once a minute; and, at the start,
// what sshd wrote in the last day. The journal is asked while the daemon works already: it may take seconds.

// sessionsEvery is how often the machine's sessions are looked at.
const sessionsEvery = time.Minute

// Bounds of what is read at the start.
const (
	pastLogins  = 24 * time.Hour
	pastBytes   = 16 << 20         // of each file, from its end
	pastEntries = 200_000          // of the journal
	pastFiles   = 8                // of all jails together
	pastWait    = 5 * time.Second  // for the files
	pastJournal = 30 * time.Second // for the journal
)

// guarded are the configurations of the jails that read sshd's lines, none if no jail of the plan spares administrators.
func (p *plan) guarded() (out []*config.Jail) {
	if !p.spares() {
		return nil
	}
	for i := range p.config.Jails {
		if c := &p.config.Jails[i]; p.runs(c.Name) && readsSSH(c) {
			out = append(out, c)
		}
	}
	return out
}

// readsSSH reports whether a jail's log is sshd's. What other programs log is not asked: who can make one write a line
// of his own would be an administrator.
func readsSSH(c *config.Jail) bool {
	return strings.HasPrefix(c.Filter.Name, "sshd") || strings.HasPrefix(c.Name, "sshd")
}

// noticing is a judge that tells of logins, too, if one of the jails that it judges for reads sshd's log.
func (d *Daemon) noticing(judge source.Judge, rules []*filter.Rules) source.Judge {
	for _, c := range d.plan.Load().guarded() {
		if slices.ContainsFunc(rules, func(r *filter.Rules) bool { return r.Jail() == c.Name }) {
			return &noticing{judge, d.login}
		}
	}
	return judge
}

type noticing struct {
	judge source.Judge
	login func(jail.Login)
}

func (n *noticing) Time(text []byte, now time.Time) (time.Time, bool) { return n.judge.Time(text, now) }

// Judge notes a login before it hands the line on, so that it counts for whatever follows in this log.
func (n *noticing) Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure {
	if bytes.Contains(line.Text, sshLogin.word) {
		n.notice(line)
	}
	return n.judge.Judge(line, out)
}

func (n *noticing) notice(line *bantam.Line) {
	l := sshLogin.find(line.Text)
	if l == nil {
		return
	}
	l.ssh, l.at = true, line.Time
	if l.at.IsZero() {
		l.at, _ = n.Time(line.Text, line.Read)
	}
	if l.at.IsZero() || l.at.After(line.Read) {
		l.at = line.Read
	}
	if who, ok := l.administrator(); ok {
		n.login(who)
	}
}

// login notes a login, if it is of a user who may administrate the machine: an intruder's or a customer's of yesterday
// spares nobody.
func (d *Daemon) login(n jail.Login) {
	n.Guest = !d.mayAdministrate(n.User)
	d.logins.Add(n)
}

// mayAdministrate reports whether a user may administrate the machine, as of the last look at its sessions.
func (d *Daemon) mayAdministrate(user string) bool {
	a := d.administrators.Load()
	return a == nil || a.Has(user)
}

// findLogins looks who administrates this machine before anything is decided: by what takes moments. inJournal reports
// whether the journal is to be asked, too, which may take seconds.
func (d *Daemon) findLogins(ctx context.Context, p *plan) (inJournal bool) {
	if p.spares() {
		d.seeSessions(time.Now())
	}
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	inJournal, err := pastSSH(ctx, p, d.login, time.Now())
	d.missLogins(err)
	return inJournal
}

// findJournalLogins looks who administrates this machine by the journal.
func (d *Daemon) findJournalLogins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pastJournal)
	defer cancel()
	d.missLogins(journalLogins(ctx, d.login, time.Now()))
}

func (d *Daemon) missLogins(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		part(d.log, "filter").Warn("not all logins of the last day are known, whose bans would be held back", "err", err)
	}
}

// spares reports whether a jail of the plan holds back bans of administrators.
func (p *plan) spares() bool {
	return slices.ContainsFunc(p.jails, func(c jail.Config) bool { return c.IgnoreLogins > 0 })
}

// watchSessions keeps the sessions known that last, until ctx ends.
func (d *Daemon) watchSessions(ctx context.Context) {
	tick := time.NewTicker(sessionsEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if d.plan.Load().spares() {
				d.seeSessions(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// seeSessions tells the jails of the sessions that the machine knows of.
func (d *Daemon) seeSessions(now time.Time) {
	if who, err := d.machine.Administrators(); err != nil {
		d.log.Debug("who may administrate the machine cannot be seen", "err", err)
	} else {
		d.administrators.Store(&who)
	}
	all, err := d.machine.Sessions(now)
	if err != nil {
		d.log.Debug("not all sessions of administrators can be seen", "err", err)
	}
	var live []jail.Login
	for _, s := range all {
		n := jail.Login{Addr: s.Addr, User: s.User[:min(len(s.User), maxUser)], At: s.At, Live: s.Live, Guest: !d.mayAdministrate(s.User)}
		switch {
		case s.Live:
			live = append(live, n)
		case !s.At.IsZero():
			d.logins.Add(n)
		}
	}
	d.logins.Last(live)
}

// administrates is why an operator is not to ban an ID in a jail without saying so twice: somebody who administrates
// the machine would be shut out.
func (d *Daemon) administrates(name string, id bantam.ID) (why string, is bool) {
	for _, c := range d.plan.Load().jails {
		if c.Name != name || c.IgnoreLogins <= 0 {
			continue
		}
		n, is := d.logins.Within(id, time.Now().Add(-c.IgnoreLogins))
		n.At = n.At.Local()
		return n.Why(id), is
	}
	return "", false
}

// pastSSH reads sshd's logins of the last day from the ends of the logs that its jails read. inJournal is true if one
// reads the journal.
func pastSSH(ctx context.Context, p *plan, login func(jail.Login), now time.Time) (inJournal bool, err error) {
	var errs []error
	read := 0
	for _, c := range p.guarded() {
		pasts, err := source.Pasts([]source.Config{c.Source}, slog.New(slog.DiscardHandler))
		errs = append(errs, err)
		judge := &noticing{filter.New(p.filters[c.Name]), login}
		for _, past := range pasts {
			if past.Name == source.Journal {
				inJournal = true
				continue
			}
			for _, name := range past.Files() {
				info, err := os.Stat(name)
				if err != nil || info.ModTime().Before(now.Add(-pastLogins)) {
					continue
				}
				if read++; read <= pastFiles {
					errs = append(errs, lastLines(ctx, name, now, judge))
				}
			}
		}
	}
	return inJournal, errors.Join(errs...)
}

// lastLines shows a judge the lines at a log's end. Of a compressed one nothing is understood, nor is of one whose
// lines are wrapped.
func lastLines(ctx context.Context, name string, now time.Time, judge *noticing) error {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if _, err := f.Seek(max(0, info.Size()-pastBytes), io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReaderSize(io.LimitReader(f, pastBytes), source.MaxLine)
	line := bantam.Line{Read: now}
	for ctx.Err() == nil {
		text, err := in.ReadSlice('\n')
		if bytes.Contains(text, sshLogin.word) {
			line.Text = bytes.TrimRight(text, "\r\n")
			judge.notice(&line)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull): // none of sshd's is so long
			return fmt.Errorf("read log %s: %w", name, err)
		}
	}
	return fmt.Errorf("read log %s: %w", name, context.Cause(ctx))
}

// journalLogins reads sshd's logins of the last day from the journal, the newest first, so that those are known if
// there is no time for all. What other programs write under sshd's name is left out: root's sshd logs them.
func journalLogins(ctx context.Context, login func(jail.Login), now time.Time) error {
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--reverse", "--output=short-unix", "--since=-24h",
		"--lines="+strconv.Itoa(pastEntries), "_COMM=sshd", "_UID=0", "+", "_COMM=sshd-session", "_UID=0")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if who, ok := journalLogin(s.Bytes(), now); ok {
			login(who)
		}
	}
	if err := errors.Join(s.Err(), cmd.Wait()); err != nil {
		return fmt.Errorf("read the journal: %w", cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

// journalLogin is the login that a line of journalctl -o short-unix tells of: "SECONDS.MICROS HOST TAG[PID]: TEXT".
func journalLogin(line []byte, now time.Time) (who jail.Login, ok bool) {
	stamp, rest, _ := bytes.Cut(line, []byte(" "))
	l := sshLogin.find(rest)
	if l == nil {
		return who, false
	}
	seconds, micros, _ := strings.Cut(string(stamp), ".")
	s, err1 := strconv.ParseInt(seconds, 10, 64)
	us, err2 := strconv.ParseInt(micros, 10, 64)
	l.ssh, l.at = true, time.UnixMicro(s*1e6+us)
	if err1 != nil || err2 != nil || l.at.After(now) {
		return who, false
	}
	return l.administrator()
}
