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

// spared reports which running bans stay though their IDs are ignored: those that an operator made
// in spite of it. It goes by the rules of the moment of the call, before they change.
func (d *Daemon) spared(ctx context.Context) (func(*bantam.Ban) bool, error) {
	begun := time.Now()
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
	return func(b *bantam.Ban) bool {
		return forced[banKey{b.Jail, b.ID}] || byOperator(b) && !b.Time.Before(begun)
	}, nil
}

func byOperator(b *bantam.Ban) bool { return b.By == bantam.ByOperator }

// liftIgnored ends the running bans of who is to be ignored by the rules of now, but for those
// that are spared. No command is asked.
func (d *Daemon) liftIgnored(ctx context.Context, spared func(*bantam.Ban) bool) error {
	bans, err := d.jails.Bans(ctx, "", bantam.ID{})
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
	err := d.liftIgnored(ctx, byOperator)
	if err != nil && ctx.Err() == nil {
		d.log.Error("bans of who is to be ignored cannot be lifted", "err", err)
	}
}
