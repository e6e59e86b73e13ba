package jail

import (
	"context"
	"errors"
	"time"

	"bantam"
)

// BanUntil is Ban for a ban whose end is known, wall time, as of one that is taken over; the zero time is never.
func (s *State) BanUntil(jail string, id bantam.ID, end time.Time, by, reason string, now time.Time) (d bantam.Decision, ok bool, err error) {
	j := s.jails[jail]
	if j == nil {
		return d, false, s.unknown(jail)
	}
	country := ""
	if s.countryOf != nil {
		country = s.countryOf(id)
	}
	d, ok = s.start(j, bantam.Ban{Jail: jail, ID: id, Time: now, End: end, By: by, Reason: reason, Country: country}, now, false)
	return d, ok, nil
}

// BanUntil is State.BanUntil.
func (j *Jails) BanUntil(ctx context.Context, jail string, id bantam.ID, end time.Time, by, reason string) (d bantam.Decision, ok bool, err error) {
	doErr := j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		if d, ok, err = s.BanUntil(jail, id, end, by, reason, now); !ok {
			return nil
		}
		return []bantam.Decision{d}
	})
	return d, ok, errors.Join(err, doErr)
}
