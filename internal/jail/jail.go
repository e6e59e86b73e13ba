// Package jail decides: it counts the failures of each offender and says who is
// banned, from when, and until when.
//
// Everything that can ban enters here, a log line, an operator or a peer: one
// writer, one truth. Failures are counted by event time, the time their lines bear,
// so that a log read late deserves what it would have deserved in time; bans end by
// wall time. State is the pure part, which a replay runs too. Jails gives it a
// goroutine, the wall clock and a way to be asked.
//
// Whom an address belongs to and whether it may be banned at all is settled
// before (lookup); that a decision is kept and carried out comes after (store,
// action).
package jail

import (
	"context"
	"errors"
	"time"

	"bantam"
)

// ErrStopped is the answer to orders that come when the jails no longer run.
var ErrStopped = errors.New("the daemon is stopping")

// sweepEvery is how often counts that nothing can continue are forgotten.
const sweepEvery = time.Minute

// Jails is all jails at work. Run owns the state; every other method is safe for
// concurrent use, hands Run an order and waits for its answer.
type Jails struct {
	state  *State
	orders chan order
	done   chan struct{}
}

// An order is done on Run's goroutine; what it decides goes the way of all
// decisions before the one who asked is answered.
type order struct {
	do   func(s *State, now time.Time) []bantam.Decision
	done chan struct{}
}

// New makes jails of a state. Nothing happens before Run.
func New(state *State) *Jails {
	return &Jails{state: state, orders: make(chan order), done: make(chan struct{})}
}

// Run decides until failures is closed, then closes decisions and returns. It
// waits for whoever reads decisions: failures then wait in their channel, and the
// lines in their files.
func (j *Jails) Run(failures <-chan bantam.Failure, decisions chan<- bantam.Decision) {
	defer close(decisions)
	defer close(j.done)
	expiry := time.NewTimer(time.Hour)
	defer expiry.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		j.arm(expiry)
		select {
		case f, ok := <-failures:
			if !ok {
				return
			}
			if d, ok := j.state.Fail(f); ok {
				decisions <- d
			}
		case o := <-j.orders:
			for _, d := range o.do(j.state, time.Now()) {
				decisions <- d
			}
			close(o.done)
		case now := <-expiry.C:
			for _, d := range j.state.Expire(now) {
				decisions <- d
			}
		case now := <-sweep.C:
			j.state.Sweep(now)
		}
	}
}

// arm sets the timer to the next end of a ban. An end is passed only when the
// clock is beyond it, hence the extra millisecond. A wait is at most a minute, so
// that a clock that was set is noticed.
func (j *Jails) arm(t *time.Timer) {
	wait := time.Minute
	if at, ok := j.state.NextEnd(); ok {
		wait = min(wait, max(0, time.Until(at)+time.Millisecond))
	}
	t.Reset(wait)
}

// do has an order carried out. The order is carried out whole or not at all:
// ctx ends the waiting for its turn.
func (j *Jails) do(ctx context.Context, f func(s *State, now time.Time) []bantam.Decision) error {
	o := order{do: f, done: make(chan struct{})}
	select {
	case j.orders <- o:
		<-o.done
		return nil
	case <-j.done:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ban starts or prolongs a ban; see State.Ban. ok is false if the ID is banned
// at least that long already.
func (j *Jails) Ban(ctx context.Context, jail string, id bantam.ID, length time.Duration, by, reason string) (d bantam.Decision, ok bool, err error) {
	doErr := j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		if d, ok, err = s.Ban(jail, id, length, by, reason, now); !ok {
			return nil
		}
		return []bantam.Decision{d}
	})
	return d, ok, errors.Join(err, doErr)
}

// Unban ends bans and returns the decisions; see State.Unban.
func (j *Jails) Unban(ctx context.Context, jail string, within bantam.ID, cause string) (ds []bantam.Decision, err error) {
	doErr := j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		ds, err = s.Unban(jail, within, cause, now)
		return ds
	})
	return ds, errors.Join(err, doErr)
}

// Allow ends every ban inside one of the IDs and returns the decisions.
func (j *Jails) Allow(ctx context.Context, ids []bantam.ID) (ds []bantam.Decision, err error) {
	err = j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		ds = s.Allow(ids, now)
		return ds
	})
	return ds, err
}

// Configure sets the jails that exist and takes over stored bans of those that
// are new; see State.Configure and State.Restore.
func (j *Jails) Configure(ctx context.Context, configs []Config, stored []bantam.Ban) error {
	return j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		out := s.Configure(configs, now)
		for _, b := range stored {
			if d, ok := s.Restore(b, now); ok {
				out = append(out, d)
			}
		}
		return out
	})
}

// Bans is the running bans; see State.Bans.
func (j *Jails) Bans(ctx context.Context, jail string, within bantam.ID) ([]bantam.Ban, error) {
	return j.Newest(ctx, jail, within, "", 0)
}

// Newest is State.Newest.
func (j *Jails) Newest(ctx context.Context, jail string, within bantam.ID, begin string, most int) (bans []bantam.Ban, err error) {
	doErr := j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		bans, err = s.Newest(jail, within, begin, most)
		return nil
	})
	return bans, errors.Join(err, doErr)
}

// Outlines are all running bans without their Lines, User and Data, in no order: there may be a million.
func (j *Jails) Outlines(ctx context.Context) (bans []bantam.Ban, err error) {
	err = j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		n := 0
		for _, one := range s.jails {
			n += len(one.bans)
		}
		bans = make([]bantam.Ban, 0, n)
		for _, one := range s.jails {
			for _, r := range one.bans {
				bans = append(bans, r.Ban)
			}
		}
		return nil
	})
	return bans, err
}

// Status is the jails in figures.
func (j *Jails) Status(ctx context.Context) (status []Status, err error) {
	err = j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		status = s.Status(now)
		return nil
	})
	return status, err
}

// Positions is how far each jail has read since its last decision. It may be
// called only after Run has returned.
func (j *Jails) Positions() map[string][]bantam.Position { return j.state.Positions() }
