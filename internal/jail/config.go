package jail

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Config says when a jail bans, whom, and for how long.
type Config struct {
	Name string
	// MaxRetry is the number of failures that make a ban; 0 and 1 ban at the first.
	MaxRetry int
	// FindTime is how long a failure counts.
	FindTime time.Duration
	// BanTime is how long a ban lasts; negative means for ever.
	BanTime time.Duration
	// CountryBanTime is BanTime for the bans of some countries, by code as in bantam.Failure.
	CountryBanTime map[string]time.Duration
	// Increment is how bans grow longer for who was banned before.
	Increment Increment
	// PurgeAge is how long bans that are over are remembered; Fail2Ban's dbpurgeage.
	// A ban counts as an earlier one until three times its length and this have passed
	// since it began, one for ever until it is lifted.
	PurgeAge time.Duration
	// MaxMatches is how many log lines are kept per offender; the newest win.
	MaxMatches int
	// Weights is for how many failures one counts that a failregex matched, by its number from 1 on; those that are
	// not there count for one.
	Weights map[int]int
	// Distinct has the failures of an offender count once for each user that they name, and once for those that
	// name none: see State.Fail.
	Distinct bool
	// Prefix4 and Prefix6 widen an address to a prefix of that length before it
	// is counted and banned; 0 leaves it as it is.
	Prefix4, Prefix6 int
	// Observe decides and writes down, and carries nothing out.
	Observe bool
	// IgnoreLogins is how long after a login to administrate this machine, and in any case while its session lasts,
	// a ban that would hit its address is held back; 0 holds none back. See State.UseLogins.
	IgnoreLogins time.Duration
}

// MaxWeight is the most that one failure may count for by Config.Weights.
const MaxWeight = 1 << 20

// DefaultConfig is what Fail2Ban's jail.conf says where it says nothing else.
func DefaultConfig(name string) Config {
	return Config{Name: name, MaxRetry: 5, FindTime: 10 * time.Minute, BanTime: 10 * time.Minute, MaxMatches: 5, PurgeAge: 24 * time.Hour}
}

// Validate reports the first setting that no jail can work with.
func (c Config) Validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("a jail needs a name")
	case c.FindTime <= 0:
		return fmt.Errorf("findtime: must be more than zero, not %s", c.FindTime)
	case c.BanTime == 0:
		return fmt.Errorf("bantime: must not be zero; -1 bans for ever")
	case c.MaxRetry < 0:
		return fmt.Errorf("maxretry: must not be negative, not %d", c.MaxRetry)
	case c.MaxMatches < 0:
		return fmt.Errorf("maxmatches: must not be negative, not %d", c.MaxMatches)
	case c.Prefix4 < 0 || c.Prefix4 > 32:
		return fmt.Errorf("prefix4: must be 0 to 32, not %d", c.Prefix4)
	case c.Prefix6 < 0 || c.Prefix6 > 128:
		return fmt.Errorf("prefix6: must be 0 to 128, not %d", c.Prefix6)
	case c.IgnoreLogins < 0:
		return fmt.Errorf("ignorelogins: must not be negative, not %s", c.IgnoreLogins)
	case c.PurgeAge < 0:
		return fmt.Errorf("dbpurgeage: must not be negative, not %s", c.PurgeAge)
	}
	for _, regex := range slices.Sorted(maps.Keys(c.Weights)) {
		if w := c.Weights[regex]; regex < 1 || w < 1 || w > MaxWeight {
			return fmt.Errorf("weight: %d:%d: the number must be at least 1, and the weight 1 to %d", regex, w, MaxWeight)
		}
	}
	for _, country := range slices.Sorted(maps.Keys(c.CountryBanTime)) {
		length := c.CountryBanTime[country]
		if length == 0 {
			return fmt.Errorf("bantime.country: %s: must not be zero; -1 bans for ever", country)
		}
		if !c.Increment.Enabled {
			continue
		}
		if err := c.Increment.Validate(length); err != nil {
			return err
		}
	}
	if c.Increment.Enabled {
		return c.Increment.Validate(c.BanTime)
	}
	return nil
}

// of is the Config as it is for who is in a country.
func (c Config) of(country string) Config {
	if length, ok := c.CountryBanTime[country]; ok {
		c.BanTime = length
	}
	return c
}
