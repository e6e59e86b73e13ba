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
	"bantam/internal/machine"
	"bantam/internal/source"
)

// Who administrates this machine is known from three things: lines of sshd, which are looked at when sshd's jails read
// them, before any failure behind them can decide; what the machine keeps of sessions, once a minute; and, at the start,
// what sshd wrote in the last day.

// sessionsEvery is how often the machine's sessions are looked at.
const sessionsEvery = time.Minute

// Bounds of what is read at the start.
const (
	pastLogins  = 24 * time.Hour
	pastBytes   = 16 << 20 // of each file, from its end
	pastEntries = 200_000  // of the journal
	pastFiles   = 8        // of all jails together
	pastWait    = 5 * time.Second
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
			return &noticing{judge, &d.logins}
		}
	}
	return judge
}

type noticing struct {
	judge  source.Judge
	logins *jail.Logins
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
		n.logins.Add(who)
	}
}

// findLogins looks who administrates this machine before anything is decided.
func (d *Daemon) findLogins(ctx context.Context, p *plan) {
	if p.spares() {
		d.seeSessions(time.Now())
	}
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	if err := pastSSH(ctx, p, &d.logins, time.Now()); err != nil {
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
	all, err := machine.Machine{}.Sessions(now)
	if err != nil {
		d.log.Debug("not all sessions of administrators can be seen", "err", err)
	}
	var live []jail.Login
	for _, s := range all {
		n := jail.Login{Addr: s.Addr, User: s.User[:min(len(s.User), maxUser)], At: s.At, Live: s.Live}
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

// pastSSH reads sshd's logins of the last day from the ends of the logs that its jails read, and from the journal.
func pastSSH(ctx context.Context, p *plan, logins *jail.Logins, now time.Time) error {
	var errs []error
	read := 0
	byJournal := false
	for _, c := range p.guarded() {
		pasts, err := source.Pasts([]source.Config{c.Source}, slog.New(slog.DiscardHandler))
		errs = append(errs, err)
		judge := &noticing{filter.New(p.filters[c.Name]), logins}
		for _, past := range pasts {
			if past.Name == source.Journal {
				byJournal = true
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
	if byJournal {
		errs = append(errs, journalLogins(ctx, logins, now))
	}
	return errors.Join(errs...)
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
func journalLogins(ctx context.Context, logins *jail.Logins, now time.Time) error {
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
			logins.Add(who)
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
