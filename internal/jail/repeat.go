package jail

import (
	"context"
	"time"

	"bantam"
)

// Repeated is the cause of decisions that Repeat makes.
const Repeated = "repeated"

// Repeat decides once more, with kind Restore and cause Repeated, on every running ban of some
// jails, for effects that have come to know these jails only now: in the same stream as all
// decisions, so that none of them is older than what an effect has seen. Jails that do not
// exist have no bans.
func (j *Jails) Repeat(ctx context.Context, jails []string) error {
	return j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		return s.repeat(jails, now)
	})
}

func (s *State) repeat(jails []string, now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for _, name := range jails {
		j := s.jails[name]
		if j == nil {
			continue
		}
		for _, b := range j.find(bantam.ID{}) {
			d := s.decide(j, bantam.Restore, j.whole(b), now)
			d.Cause = Repeated
			out = append(out, d)
		}
	}
	return out
}
