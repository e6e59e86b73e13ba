package jail

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"bantam"
)

// An Increment makes each further ban of an ID longer than the first, which always
// lasts BanTime and nothing else. It is Fail2Ban's bantime.increment and the options
// that go with it (spec/detection.md 3.1, spec/server.md 2.6).
//
// With n bans before, a ban lasts BanTime × Factor × the multiplier of index n, or the
// last one; without Multipliers, what Formula gives, but never less than BanTime. That
// is then cut to MaxTime, and a random part of RndTime is added. Ends that lie further
// off than a time.Duration reaches, and what is too large to be computed, are cut to
// MaxTime, or are bans for ever.
type Increment struct {
	Enabled bool
	// Factor is what Formula calls banFactor; nil is 1. It may not ask for a ban.
	Factor *Formula
	// Formula gives seconds; nil doubles the time with each ban, twenty times at most.
	Formula *Formula
	// Multipliers are used in place of Formula if there are any. The first is never
	// used if there is a second: the first ban is no repetition.
	Multipliers []int
	// MaxTime cuts what was computed; 0 is no limit.
	MaxTime time.Duration
	// RndTime is the most that chance adds, after the cut.
	RndTime time.Duration
	// OverallJails adds up the bans of the ID in all jails.
	OverallJails bool
}

// An OptionError says which option, by its name in the files, is wrong.
type OptionError struct {
	Option string
	Err    error
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// tried is up to which number of earlier bans Validate tries the formula: the
// default stops growing at twenty.
const tried = 25

// Validate reports the first option that bans of that length cannot grow by: an
// *OptionError. It computes the first repetitions, so that a formula that has no
// value for one of them is found before it is needed.
func (i *Increment) Validate(banTime time.Duration) error {
	switch {
	case i.MaxTime < 0:
		return &OptionError{"bantime.maxtime", fmt.Errorf("it must be more than zero, not %s", i.MaxTime)}
	case i.RndTime < 0:
		return &OptionError{"bantime.rndtime", fmt.Errorf("it must not be negative, not %s", i.RndTime)}
	case i.Factor != nil:
		_, err := i.Factor.compute(&variables{chance: rand.New(rand.NewPCG(0, 0))})
		if err != nil && !errors.Is(err, errTooLarge) {
			return &OptionError{"bantime.factor", err}
		}
	}
	if banTime <= 0 {
		return nil
	}
	c := Config{BanTime: banTime, Increment: *i}
	for n := 1; n <= max(tried, len(i.Multipliers)); n++ {
		seconds, err := c.grown(n, rand.New(rand.NewPCG(0, 0)))
		switch {
		case err != nil:
			return &OptionError{"bantime.formula", fmt.Errorf("with ban.Count = %d: %w", n, err)}
		case seconds <= 0:
			return &OptionError{"bantime.multipliers", fmt.Errorf("ban number %d would last %g seconds", n+1, seconds)}
		}
	}
	return nil
}

// grown is how many seconds a ban after n others lasts, before the limit and the
// random part; it may be infinite.
func (c *Config) grown(n int, chance *rand.Rand) (seconds float64, err error) {
	base := c.BanTime.Seconds()
	v := variables{named: true, time: decimal(base), count: n, factor: whole(1), chance: chance}
	if c.BanTime%time.Second == 0 {
		v.time = whole(int64(c.BanTime / time.Second))
	}
	if c.Increment.Factor != nil {
		if v.factor, err = c.Increment.Factor.compute(&variables{chance: chance}); err != nil {
			return c.tooLarge(base, err)
		}
	}
	if m := c.Increment.Multipliers; len(m) > 0 {
		seconds, err = product(v.time, v.factor, whole(int64(m[min(n, len(m)-1)])))
		return c.tooLarge(seconds, err)
	}
	formula := defaultFormula
	if c.Increment.Formula != nil {
		formula = c.Increment.Formula
	}
	x, err := formula.compute(&v)
	if err != nil {
		return c.tooLarge(base, err)
	}
	if x.compare(v.time) != 1 { // also what is not a number
		return base, nil
	}
	return c.tooLarge(x.float())
}

// tooLarge makes infinity of what is too large to be computed.
func (c *Config) tooLarge(seconds float64, err error) (float64, error) {
	if errors.Is(err, errTooLarge) {
		return math.Inf(1), nil
	}
	return seconds, err
}

func product(factors ...number) (float64, error) {
	x := whole(1)
	for _, f := range factors {
		var err error
		if x, err = arithmetic["*"](x, f); err != nil {
			return 0, err
		}
	}
	return x.float()
}

// length is how long a ban after n others lasts; negative means for ever. A formula
// that has no value for this n leaves it at BanTime.
func (c *Config) length(n int, chance func() *rand.Rand) time.Duration {
	if !c.Increment.Enabled || n < 1 || c.BanTime < 0 {
		return c.BanTime
	}
	rng := chance()
	seconds, err := c.grown(n, rng)
	if err != nil || !(seconds > 0) {
		seconds = c.BanTime.Seconds()
	}
	if most := c.Increment.MaxTime; most > 0 {
		seconds = min(seconds, most.Seconds())
	}
	if most := c.Increment.RndTime; most > 0 {
		seconds += rng.Float64() * most.Seconds()
	}
	const room = float64(math.MaxInt64 / int64(time.Second))
	if seconds >= room {
		return -1
	}
	full, rest := math.Modf(seconds)
	return max(1, time.Duration(full)*time.Second+time.Duration(math.Round(rest*float64(time.Second))))
}

// weight is how many failures one failure of an ID counts for that was banned n
// times: 1, 2, 3, 5, 9 and so on, never more than a ban takes.
func (c *Config) weight(n int) int {
	if !c.Increment.Enabled || n < 1 {
		return 1
	}
	return max(1, min(1<<(min(n, 20)-1)+1, c.MaxRetry))
}

// chance is the source of what is random in a ban: for the same seed it is the same
// for the same ban, so that what is decided again after a crash is decided the same.
func chance(seed []byte, jail string, id bantam.ID, at int64) *rand.Rand {
	h := sha256.New()
	fmt.Fprintf(h, "%x %q %q %d", seed, jail, id.String(), at)
	sum := h.Sum(nil)
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])))
}
