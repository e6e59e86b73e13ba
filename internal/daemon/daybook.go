package daemon

import (
	"cmp"
	"context"
	"strings"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/jail"
)

// tellStart begins the log of a run.
func (d *Daemon) tellStart(p *plan) {
	if !p.config.Daemon.Fail2Ban {
		d.log.Info("starting", "version", bantam.Version)
		return
	}
	d.log.Info(strings.Repeat("-", 50)) // as where a run begins in the original's log
	d.log.Info("starting", "version", fail2banVersion)
}

// tellJails names the jails that start.
func (d *Daemon) tellJails(p *plan) {
	for _, j := range p.jails {
		if j.Name == jail.Manual {
			continue
		}
		if p.config.Daemon.Fail2Ban {
			d.log.Info("jail made", "jail", j.Name)
		}
		d.log.Info("jail started", "jail", j.Name)
	}
}

// tellReloaded says what became of the jails in a reload.
func (d *Daemon) tellReloaded(before, now *plan) {
	for _, j := range now.jails {
		switch {
		case j.Name == jail.Manual:
		case before.runs(j.Name):
			d.log.Info("jail reloaded", "jail", j.Name)
		default:
			d.log.Info("jail started", "jail", j.Name)
		}
	}
	for _, j := range before.jails {
		if !now.runs(j.Name) {
			d.log.Info("jail stopped", "jail", j.Name)
		}
	}
}

// tellStopped is the end of the jails.
func (d *Daemon) tellStopped() {
	d.log.Info("stopping jails")
	for _, j := range d.plan.Load().jails {
		if j.Name != jail.Manual {
			d.log.Info("jail stopped", "jail", j.Name)
		}
	}
}

// tell is what the day book says about a decision.
func (d *Daemon) tell(decision bantam.Decision) {
	b := decision.Ban
	text := map[bantam.Kind]string{
		bantam.Start: "banned", bantam.Prolong: "ban prolonged", bantam.Restore: "ban restored", bantam.End: "unbanned",
	}[decision.Kind]
	attrs := []any{"jail", b.Jail, "addr", b.ID, "until", until(&b, time.RFC3339)}
	switch {
	case b.Held() && decision.Kind == bantam.Start:
		text, attrs = "ban held back", append(attrs, "why", b.Reason)
	case b.Observed:
		text = "would be " + text
	}
	if decision.Cause == jail.Repeated {
		d.log.Debug("ban told to new actions", attrs...)
		return
	}
	switch decision.Kind {
	case bantam.End:
		attrs = []any{"jail", b.Jail, "addr", b.ID, "why", decision.Cause}
	case bantam.Start:
		attrs = append(attrs, "failures", b.Failures, "count", b.Count, "by", b.By)
	}
	d.log.Log(context.Background(), levelNotice, text, attrs...)
	if decision.Kind == bantam.Start {
		d.tellLonger(&b)
	}
}

// until is when a ban ends.
func until(b *bantam.Ban, layout string) string {
	if b.Permanent() {
		return "for ever"
	}
	return b.End.Local().Format(layout)
}

// tellLonger says that a ban lasts longer because it is not the first, as Fail2Ban does in a
// line of its own; elsewhere "until" and "count" say it.
func (d *Daemon) tellLonger(b *bantam.Ban) {
	p := d.plan.Load()
	if !p.config.Daemon.Fail2Ban || b.By != bantam.ByFailures {
		return
	}
	var c *config.Jail
	for i := range p.config.Jails {
		if p.config.Jails[i].Name == b.Jail {
			c = &p.config.Jails[i]
		}
	}
	if c == nil || !c.Jail.Increment.Enabled || c.Jail.BanTime < 0 || !b.Permanent() && b.End.Sub(b.Time) <= c.Jail.BanTime {
		return
	}
	length, end := "permanent", "infinite"
	if !b.Permanent() {
		length, end = duration(b.End.Sub(b.Time)), until(b, fail2banTime)
	}
	d.log.Log(context.Background(), levelNotice, "ban is longer", "jail", b.Jail, "addr", b.ID, "count", b.Count, "length", length, "until", end)
}

// tellRepealed says of every running ban that the stop lifts it.
func (d *Daemon) tellRepealed(bans []bantam.Ban) {
	for i := range bans {
		d.log.Log(context.Background(), levelNotice, "ban lifted to stop", "jail", bans[i].Jail, "addr", bans[i].ID)
	}
}

// relog makes the log as a configuration says, after a reload.
func (d *Daemon) relog(c *config.Daemon) {
	w := d.live.writes
	if err := w.setLevel(cmp.Or(c.LogLevel, "INFO")); err != nil {
		d.log.Error("cannot change how much is logged", "loglevel", c.LogLevel, "err", err)
	}
	w.setSyslog(cmp.Or(c.SyslogSocket, "auto"))
	_ = w.setTarget(cmp.Or(c.LogTarget, "STDERR")) // it says what is wrong, and goes on where it was
}
