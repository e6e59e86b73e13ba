package daemon

import (
	"context"
	"errors"
	"time"

	"bantam"
	"bantam/internal/jail"
)

// askNames is how long names of ignoreip are waited for before the bans are looked through.
const askNames = 5 * time.Second

// A banKey tells running bans apart.
type banKey struct {
	jail string
	id   bantam.ID
}

// forced are the running bans that an operator made of somebody who is ignored: they stay
// while nothing changes about that.
func (d *Daemon) forced(ctx context.Context) (map[banKey]bool, error) {
	bans, err := d.jails.Bans(ctx, "", bantam.ID{})
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
	return forced, nil
}

// liftIgnored ends the running bans of who is to be ignored by the rules of now, but for those
// in but. No command is asked.
func (d *Daemon) liftIgnored(ctx context.Context, but map[banKey]bool) error {
	bans, err := d.jails.Bans(ctx, "", bantam.ID{})
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askNames)
	defer cancel()
	var over []bantam.Decision
	for _, b := range bans {
		if but[banKey{b.Jail, b.ID}] {
			continue
		}
		by, is := d.lookup.Ignored(asking, b.Jail, b.ID)
		if !is {
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
	forced, err := d.forced(ctx)
	if err == nil {
		err = d.liftIgnored(ctx, forced)
	}
	if err != nil && ctx.Err() == nil {
		d.log.Error("bans of who is to be ignored cannot be lifted", "err", err)
	}
}
