package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/report"
	"bantam/internal/store"
)

// countryOf is where an ID is, "" if that is not known.
func (d *Daemon) countryOf(id bantam.ID) string { return countryOf(d.places)(id) }

// knowsCountries refuses what needs to know where addresses are if there is no database of it.
func (d *Daemon) knowsCountries() error {
	if len(d.plan.Load().config.Daemon.GeoDB) == 0 {
		return control.Refuse("name a database in bantam.conf: geodb = /path/to/country.mmdb", "it is not known where addresses are: geodb names no database")
	}
	return nil
}

// history tells of bans of the past.
func (d *Daemon) history(ctx context.Context, r control.HistoryRequest) (reply control.HistoryReply, err error) {
	q := store.PastQuery{Jail: r.Jail, ID: r.ID, Since: r.Since, Until: r.Until, After: r.After, Limit: cmp.Or(r.Limit, 50)}
	if r.Country != "" {
		if err := d.knowsCountries(); err != nil {
			return reply, err
		}
		q.Keep = func(id bantam.ID) bool { return strings.EqualFold(d.countryOf(id), r.Country) }
	}
	past, err := d.store.Past(ctx, q)
	if err != nil {
		return reply, err
	}
	for i := range past.Bans {
		past.Bans[i].Country = d.countryOf(past.Bans[i].ID)
	}
	return control.HistoryReply{
		Bans: append([]store.PastBan{}, past.Bans...), Fitting: past.Fitting, Least: past.Least, Since: time.Now().Add(-d.store.PurgeAge()),
	}, nil
}

// failing tells who is nearest to a ban.
func (d *Daemon) failing(ctx context.Context, r control.FailingRequest) (control.FailingReply, error) {
	reply := control.FailingReply{Failing: []control.Failing{}}
	standing, err := d.jails.Nearest(ctx, min(cmp.Or(r.Limit, 20), 1000))
	for _, s := range standing {
		reply.Failing = append(reply.Failing, control.Failing{Standing: s, Country: d.countryOf(s.ID)})
	}
	return reply, err
}

// told are those who are told of bans of an ID, and what is known to have become of it.
func (d *Daemon) told(ctx context.Context, id bantam.ID, running []bantam.Ban) (out []control.Told) {
	for _, t := range d.plan.Load().config.Told() {
		var jails []string
		for _, b := range running {
			if slices.Contains(t.Jails, b.Jail) && !slices.Contains(jails, b.Jail) {
				jails = append(jails, b.Jail)
			}
		}
		if len(jails) == 0 || t.On == nil {
			continue // reports are told below
		}
		one := control.Told{Channel: t.Channel, Jails: jails, What: "is told of its bans"}
		for _, l := range d.telling.box.Queue() {
			if l.Channel == t.Channel {
				one.What = "has letters waiting"
				if l.Err != "" {
					one.What += ": " + l.Err
				}
				break
			}
		}
		out = append(out, one)
	}
	sent, err := d.telling.reports.List(ctx)
	if err != nil {
		d.log.Warn("cannot read what was reported", "err", err)
	}
	for _, r := range sent {
		if r.ID == id || slices.ContainsFunc(running, func(b bantam.Ban) bool { return b.ID == r.ID }) {
			out = append(out, control.Told{Channel: r.Channel, Jails: []string{r.Jail}, What: reportSays(&r), At: r.At})
		}
	}
	return out
}

func reportSays(r *report.Sent) string {
	what := "report " + r.State
	if len(r.To) > 0 {
		what += " to " + strings.Join(r.To, ", ")
	}
	if r.Err != "" {
		what += ": " + r.Err
	}
	return what
}

// importBans takes over bans. It answers when they are written down and the kernel has them.
func (d *Daemon) importBans(ctx context.Context, r control.ImportRequest) (reply control.ImportReply, err error) {
	var decisions []bantam.Decision
	refuse := func(place int, unknown bool, format string, args ...any) {
		reply.Refused = append(reply.Refused, control.ImportRefused{Place: place, Why: fmt.Sprintf(format, args...), Unknown: unknown})
	}
	for i, b := range r.Bans {
		name, reason := cmp.Or(b.Jail, jail.Manual), cmp.Or(b.Reason, r.Reason)
		if !b.End.IsZero() && !b.End.After(time.Now()) {
			reply.Over++
			continue
		}
		if _, ok := b.ID.Prefix(); !ok && name == jail.Manual {
			refuse(i, false, "%q is %s", b.ID, bantam.ErrNotAddress)
			continue
		}
		if b.ID.IsZero() {
			refuse(i, false, "it says nobody")
			continue
		}
		if by, ignored := d.lookup.Ignored(ctx, name, b.ID); ignored {
			refuse(i, false, "%s is never to be banned in %s (by %s)", b.ID, name, by)
			continue
		}
		// Lists are other people's: whoever takes one over has not read it.
		if nearlyAll(b.ID) {
			refuse(i, false, "%s is nearly everybody: bantam ban bans it all the same", b.ID)
			continue
		}
		if why, is := d.administrates(name, b.ID); is {
			refuse(i, false, "%s has %s", b.ID, why)
			continue
		}
		var decision bantam.Decision
		var ok bool
		if b.End.IsZero() {
			decision, ok, err = d.jails.Ban(ctx, name, b.ID, seconds(b.Seconds), bantam.ByOperator, reason)
		} else {
			decision, ok, err = d.jails.BanUntil(ctx, name, b.ID, b.End, bantam.ByOperator, reason)
		}
		var unknown *jail.UnknownJailError
		switch {
		case errors.As(err, &unknown):
			refuse(i, true, "there is no jail %q", name)
		case err != nil:
			return reply, err
		case !ok:
			reply.Already++
		case decision.Ban.Observed:
			reply.Observed++
			decisions = append(decisions, decision)
		default:
			reply.Banned++
			decisions = append(decisions, decision)
		}
	}
	return reply, d.carriedOut(ctx, decisions...)
}

// nearlyAll reports whether an ID covers so much that hardly anybody is left: of IPv6 2000::/3 is all that is
// routed (RFC 4291, 2.4).
func nearlyAll(id bantam.ID) bool {
	p, ok := id.Prefix()
	return ok && (p.Addr().Is4() && p.Bits() <= 2 || p.Addr().Is6() && p.Bits() <= 3)
}

// ReadBans calls f with each ban that runs at the wall time now in a database of Fail2Ban's or of Bantam's, which it only
// reads. How long bans last that do not say is what the configuration in dir, "" for the library alone, says of their jails.
func ReadBans(ctx context.Context, dir string, library fs.FS, path string, now time.Time, f func(bantam.Ban) error) error {
	banTime := func(string) time.Duration { return 10 * time.Minute }
	if p, err := makePlan(dir, library); err == nil {
		banTime = p.storeConfig("").BanTime
	}
	return store.ReadBans(ctx, path, now, banTime, f)
}
