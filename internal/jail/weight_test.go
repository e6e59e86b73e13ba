package jail

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

// as is a failure of somebody who tried a user, matched by a failregex.
func as(user string, regex int, seconds float64) bantam.Failure {
	f := fail(idOf([4]byte{192, 0, 2, 7}), seconds)
	f.User, f.Regex, f.Lines = user, regex, []string{fmt.Sprintf("%s at %g", user, seconds)}
	return f
}

func TestFailuresThatCountMoreOrLess(t *testing.T) {
	long := strings.Repeat("n", maxUserName)
	for _, c := range []struct {
		name     string
		change   func(*Config)
		failures []bantam.Failure
		want     []int // the count after each; 0 is a ban
		kept     int   // lines of the ban
	}{
		{"a failure by regex 2 counts three", func(c *Config) { c.Weights = map[int]int{2: 3} }, []bantam.Failure{as("a", 1, 0), as("a", 2, 1), as("a", 1, 2)}, []int{1, 4, 0}, 3},
		{"a weight of maxretry bans at once", func(c *Config) { c.Weights = map[int]int{2: 5} }, []bantam.Failure{as("a", 2, 0)}, []int{0}, 1},
		{"one user counts once", func(c *Config) { c.Distinct = true }, []bantam.Failure{as("a", 1, 0), as("a", 1, 1), as("a", 1, 2), as("b", 1, 3)}, []int{1, 1, 1, 2}, 0},
		{"so many users make a ban, whose lines are the newest", func(c *Config) { c.Distinct, c.MaxRetry, c.MaxMatches = true, 2, 3 }, []bantam.Failure{as("a", 1, 0), as("a", 1, 1), as("a", 1, 2), as("b", 1, 3)}, []int{1, 1, 1, 0}, 3},
		{"no name is one user", func(c *Config) { c.Distinct = true }, []bantam.Failure{as("", 1, 0), as("", 1, 1), as("a", 1, 2)}, []int{1, 1, 2}, 0},
		{"a user who goes on alone is forgotten after findtime", func(c *Config) { c.Distinct = true }, []bantam.Failure{as("a", 1, 0), as("b", 1, 1), as("a", 1, 500), as("a", 1, 601), as("b", 1, 602)}, []int{1, 2, 2, 1, 2}, 0},
		{"names that begin with the same 64 bytes are the same", func(c *Config) { c.Distinct = true }, []bantam.Failure{as(long+"a", 1, 0), as(long+"b", 1, 1)}, []int{1, 1}, 0},
		{"different users count by weight", func(c *Config) { c.Distinct, c.Weights = true, map[int]int{2: 2} }, []bantam.Failure{as("a", 2, 0), as("a", 2, 1), as("b", 2, 2), as("c", 1, 3)}, []int{2, 2, 4, 0}, 4},
		{"a ban forgets whom it counted", func(c *Config) { c.Distinct, c.MaxRetry = true, 2 }, []bantam.Failure{as("a", 1, 0), as("b", 1, 1), as("a", 1, 2)}, []int{1, 0, 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newState(func(j *Config) { j.MaxRetry = 5; c.change(j) })
			for i, f := range c.failures {
				before, known := s.Try(f)
				d, banned := s.Fail(f)
				got := 0
				if all := s.Standing(f.ID, f.Time); len(all) > 0 {
					got = all[0].Count
				}
				if got != c.want[i] || banned != (c.want[i] == 0) {
					t.Fatalf("failure %d: the count is %d, banned %v; want %d", i+1, got, banned, c.want[i])
				}
				if banned && len(d.Ban.Lines) != c.kept {
					t.Errorf("the ban keeps %q, want %d lines", d.Ban.Lines, c.kept)
				}
				if want := c.want[i]; !known || want > 0 && before.Count != want || want == 0 && before.Count < before.MaxRetry {
					t.Errorf("failure %d: it was said to make %d", i+1, before.Count)
				}
			}
		})
	}
}

func TestUsersThatWereCountedAreTold(t *testing.T) {
	s := newState(func(c *Config) { c.Distinct, c.MaxRetry = true, 4 })
	for i, user := range []string{"root", "admin", "root"} {
		s.Fail(as(user, 1, float64(i)))
	}
	id := as("", 1, 0).ID
	want := []string{"root", "admin"}
	if all := s.Standing(id, at(3)); len(all) != 1 || !slices.Equal(all[0].Users, want) || all[0].Failures != 2 || !all[0].Last.Equal(at(1)) {
		t.Errorf("it stands at %+v", all)
	}
	if all := s.Nearest(1, at(3)); len(all) != 1 || !slices.Equal(all[0].Users, want) {
		t.Errorf("the nearest is %+v", all)
	}
	if try, _ := s.Try(as("root", 1, 3)); !try.Again || try.Before != 2 || try.Count != 2 {
		t.Errorf("a user who is counted already would make it %+v", try)
	}
	if try, _ := s.Try(as("guest", 1, 3)); try.Again || try.Count != 3 {
		t.Errorf("another one would make it %+v", try)
	}
	// A reload that counts all of them again remembers none.
	c := s.jails["sshd"].Config
	c.Distinct = false
	s.Configure([]Config{c}, at(3))
	s.Fail(as("root", 1, 4))
	if all := s.Standing(id, at(4)); len(all) != 1 || all[0].Count != 3 || all[0].Users != nil {
		t.Errorf("after the reload it stands at %+v", all)
	}
}

// Lines that are read again after a restart make the same count, with the same users.
func TestUsersAreKnownAgainAfterARestart(t *testing.T) {
	change := func(c *Config) { c.Distinct, c.MaxRetry, c.Weights = true, 4, map[int]int{2: 2} }
	failures := []bantam.Failure{as("a", 1, 0), as("b", 1, 1), as("a", 1, 2), as("b", 2, 3)}
	before, after := newState(change), newState(change)
	for _, f := range failures {
		before.Fail(f)
		f.Known, f.Read = true, at(300)
		after.Fail(f)
	}
	for _, f := range []bantam.Failure{as("a", 2, 10), as("c", 1, 11), as("d", 1, 12)} {
		one, is := before.Fail(f)
		other, too := after.Fail(f)
		if is != too || is && (one.Ban.Failures != other.Ban.Failures || !one.Ban.Time.Equal(other.Ban.Time)) {
			t.Errorf("%s: %+v, %v; after a restart %+v, %v", f.User, one.Ban, is, other.Ban, too)
		}
	}
}

// The counts agree with rules that are written down slowly, on random histories.
func TestWeightsAndUsersAgreeWithTheSlowRule(t *testing.T) {
	type slow struct {
		first, last, count float64
		users              []string
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 300 {
		findtime, maxretry := float64(1+rng.IntN(300)), 1+rng.IntN(8)
		weights := map[int]int{2: 1 + rng.IntN(4), 3: 2}
		distinct := rng.IntN(4) > 0
		s := newState(func(c *Config) {
			c.FindTime, c.MaxRetry, c.Distinct, c.Weights = time.Duration(findtime)*time.Second, maxretry, distinct, weights
			c.BanTime = time.Second
		})
		all := map[byte]*slow{}
		now := 0.0
		for i := range 200 {
			now += math.Floor(rng.ExpFloat64() * findtime / 12)
			s.Expire(at(now))
			if rng.IntN(10) == 0 {
				s.Sweep(at(now))
			}
			when := now
			if rng.IntN(5) == 0 {
				when = math.Max(0, now-float64(rng.IntN(int(findtime))))
			}
			who, regex := byte(rng.IntN(3)), 1+rng.IntN(4)
			user := fmt.Sprint("user", rng.IntN(12))
			f := as(user, regex, when)
			f.ID, f.Read = idOf([4]byte{10, 0, 0, who}), at(now)

			o := all[who]
			if o == nil || when-o.last >= findtime {
				o = &slow{first: when, last: when}
				all[who] = o
			}
			banned := false
			if !distinct || !slices.Contains(o.users[max(0, len(o.users)-maxretry):], user) {
				if when > o.last && o.count > 0 {
					if o.first < when-findtime {
						o.count = math.RoundToEven(o.count / (when - o.first) * findtime)
						o.first = when - findtime
					}
					o.last = when
				}
				if o.count == 0 {
					o.first = when // it was scaled away
					if o.last < when {
						o.last = when
					}
				}
				weight := 1
				if w := weights[regex]; w > 0 {
					weight = w
				}
				o.count += float64(weight)
				o.users = append(o.users, user)
				banned = o.count >= float64(maxretry)
			}
			before := 0
			if t, ok := s.Try(f); ok {
				before = t.Count
			}
			_, got := s.Fail(f)
			if banned {
				delete(all, who)
			} else if float64(before) != o.count {
				t.Fatalf("seed %d: failure %d: the count is %d, want %g", seed, i, before, o.count)
			}
			// A ban that is running may make a new one none, so that the tally tells.
			if n, known := s.jails["sshd"].failing.find(f.ID); known == banned || got && !banned {
				t.Fatalf("seed %d: failure %d: decided %v, in row %d %v; want a ban: %v", seed, i, got, n, known, banned)
			}
		}
	}
}

// Users are remembered for those who are counted and for nobody else, and not beyond bounds.
func TestUsersAreBounded(t *testing.T) {
	s := newState(func(c *Config) { c.Distinct, c.MaxRetry = true, math.MaxInt32 })
	for i := range 3 * maxUsers {
		s.Fail(as(fmt.Sprint(i, strings.Repeat("x", 1000)), 1, 0))
	}
	o := &s.jails["sshd"].failing
	if n := len(o.users[0]); n != maxUsers {
		t.Errorf("%d users are remembered", n)
	}
	for _, user := range o.users[0] {
		if len(user) > maxUserName {
			t.Fatalf("a name of %d bytes is remembered", len(user))
		}
	}
	for i := range tidyFrom {
		f := as("a", 1, 1)
		f.ID = idOf([4]byte{10, 0, byte(i >> 8), byte(i)})
		s.Fail(f)
	}
	late := as("late", 1, 10_000)
	late.ID = idOf([4]byte{10, 1, 0, 1})
	s.Fail(late)
	s.Sweep(at(10_000)) // moves who is left to new rows
	o = &s.jails["sshd"].failing
	if want := map[uint32][]string{0: {"late"}}; !maps.EqualFunc(o.users, want, slices.Equal) || o.used != 1 {
		t.Errorf("after the sweep %v are remembered, in %d rows", o.users, o.used)
	}
	plain := newState()
	plain.Fail(as("a", 1, 0))
	if plain.jails["sshd"].failing.users != nil {
		t.Error("a jail that counts all failures remembers users")
	}
}
