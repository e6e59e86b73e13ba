package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
)

// askNames is how long names of ignoreip are waited for before the bans are looked through.
const askNames = 5 * time.Second

// A banKey tells running bans apart.
type banKey struct {
	jail string
	id   bantam.ID
}

// spared reports which running bans stay though their IDs are ignored: those that an operator made
// in spite of it. It goes by the rules of the moment of the call, before they change.
func (d *Daemon) spared(ctx context.Context) (func(*bantam.Ban) bool, error) {
	begun := time.Now()
	bans, err := d.jails.Outlines(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askNames)
	defer cancel()
	forced := map[banKey]bool{}
	for _, b := range bans {
		if b.By != bantam.ByOperator {
			continue
		}
		if _, is := d.lookup.Ignored(ctx, b.Jail, b.ID); is {
			forced[banKey{b.Jail, b.ID}] = true
		}
	}
	return func(b *bantam.Ban) bool {
		return forced[banKey{b.Jail, b.ID}] || byOperator(b) && !b.Time.Before(begun)
	}, nil
}

func byOperator(b *bantam.Ban) bool { return b.By == bantam.ByOperator }

// liftIgnored ends the running bans of who is to be ignored by the rules of now, but for those
// that are spared. No command is asked.
func (d *Daemon) liftIgnored(ctx context.Context, spared func(*bantam.Ban) bool) error {
	bans, err := d.jails.Outlines(ctx)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askNames)
	defer cancel()
	var over []bantam.Decision
	for _, b := range bans {
		if spared(&b) {
			continue
		}
		by, is := d.lookup.Ignored(asking, b.Jail, b.ID)
		if !is || by == lookup.ByUnknown { // a database that is missing for a while forgives nobody
			continue
		}
		d.log.Info("a ban ends because it is of somebody to be ignored", "jail", b.Jail, "addr", b.ID, "by", by)
		ended, err := d.jails.Unban(ctx, b.Jail, b.ID, bantam.CauseAllowed)
		var unknown *jail.UnknownJailError
		if err != nil && !errors.As(err, &unknown) {
			return err
		}
		over = append(over, ended...)
	}
	return d.carriedOut(ctx, over...)
}

// liftRestored ends the bans of the last run whose IDs are to be ignored by now, but for
// those that an operator made: who was banned in spite of the rules stays so.
func (d *Daemon) liftRestored(ctx context.Context) {
	err := d.liftIgnored(ctx, byOperator)
	if err != nil && ctx.Err() == nil {
		d.log.Error("bans of who is to be ignored cannot be lifted", "err", err)
	}
}

// usePlaces has the databases of a plan used, and says which jails have rules about places without any.
func (d *Daemon) usePlaces(p *plan) {
	d.places.Use(p.config.Daemon.GeoDB)
	if len(p.config.Daemon.GeoDB) > 0 {
		return
	}
	for _, j := range p.config.Jails {
		w := &j.Lookup.Where
		if len(w.IgnoreCountry)+len(w.BanCountry)+len(w.IgnoreASN)+len(w.BanASN)+len(j.Jail.CountryBanTime) > 0 {
			d.log.Warn("a jail decides by country or network, and geodb names no database: all addresses are unknown", "jail", j.Name)
		}
	}
}

// countryOf is where IDs are that no failure bears a country for.
func countryOf(places *geo.Databases) func(bantam.ID) string {
	return func(id bantam.ID) string {
		prefix, _ := id.Prefix()
		p, _ := places.Within(prefix)
		return p.Country
	}
}

// placeProblems are what is wrong with the databases of places: files that cannot be read, and
// rules that none of them can tell anything about.
func placeProblems(c *config.Config) (problems []config.Problem) {
	if len(c.Daemon.GeoDB) == 0 {
		return nil // which config has named
	}
	var countries, networks bool
	for _, f := range geo.Open(slog.New(slog.DiscardHandler), c.Daemon.GeoDB).Files() {
		countries, networks = countries || f.Countries, networks || f.Networks
		if f.Err != "" {
			problems = append(problems, config.Problem{
				Key: "geodb", Text: f.String(), Hint: "it is looked for every two seconds; until it can be read nothing is known from it", Warning: true,
			})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	for _, j := range c.Jails {
		w := &j.Lookup.Where
		for _, lack := range []struct {
			key, what string
			so        bool
		}{
			{"ignorecountry", "countries", len(w.IgnoreCountry) > 0 && !countries},
			{"bancountry", "countries", len(w.BanCountry) > 0 && !countries},
			{"bantime.country", "countries", len(j.Jail.CountryBanTime) > 0 && !countries},
			{"ignoreasn", "networks", len(w.IgnoreASN) > 0 && !networks},
			{"banasn", "networks", len(w.BanASN) > 0 && !networks},
		} {
			if !lack.so {
				continue
			}
			problem := config.Problem{
				Jail: j.Name, Key: lack.key, Warning: true, Text: "no file of geodb knows " + lack.what + ": all addresses are unknown",
				Hint: "databases of networks have ASN in their names; those of countries Country or City",
			}
			if v, ok := c.Value(j.Name, lack.key); ok {
				problem.File, problem.Line = v.File, v.Line
			}
			problems = append(problems, problem)
		}
	}
	return problems
}
