package jail

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"bantam"
)

// A Standing is how an offender stands who is not banned yet.
type Standing struct {
	Jail string    `json:"jail"`
	ID   bantam.ID `json:"id"`
	// Count is what is compared with maxretry; it shrinks with time, and some failures count more than once.
	Count    int       `json:"count"`
	MaxRetry int       `json:"maxretry"`
	Failures int       `json:"failures"` // how many there were
	First    time.Time `json:"first"`    // event time of the first that still counts
	Last     time.Time `json:"last"`     // event time of the last
	FindTime float64   `json:"findtime"` // seconds
	User     string    `json:"user,omitempty"`
	// Users are those that were counted, the oldest first, where the jail counts different users; attacker's text.
	Users []string `json:"users,omitempty"`
}

// next is what the count would be with one more failure, without counting it.
func (j *one) next(t tally, f bantam.Failure) int {
	weight := max(1, j.Weights[f.Regex])
	if j.past.told[f.ID] == nil { // else lines of before a restart are still being read, and asking would count
		weight = j.weigh(f.ID, f)
	}
	return t.add(f.Time, j.FindTime, weight)
}

func (j *one) standing(id bantam.ID, n uint32) Standing {
	t := j.failing.row(n)
	_, user, _ := j.failing.told.get(t.told).unpack()
	return Standing{
		Jail: j.Name, ID: id, Count: int(t.count), MaxRetry: max(1, j.MaxRetry), Failures: int(t.failures),
		First: time.Unix(0, t.first), Last: time.Unix(0, t.last), FindTime: j.FindTime.Seconds(), User: user,
		Users: slices.Clone(j.failing.users[n]),
	}
}

// id is the ID that a key stands for.
func (k netKey) id() bantam.ID {
	return bantam.PrefixID(netip.PrefixFrom(netip.AddrFrom16([16]byte(k[:16])), int(k[16])))
}

// counts reports whether failures of a tally still count at the wall time now.
func (j *one) counts(t *tally, now time.Time) bool {
	return t.count > 0 && t.last > now.Add(-j.FindTime).UnixNano()
}

// Standing is how an ID stands in each jail that counts failures of it, at the wall time now, in the order of the
// jails.
func (s *State) Standing(id bantam.ID, now time.Time) (out []Standing) {
	for _, name := range s.order {
		j := s.jails[name]
		wide := id.Widen(j.Prefix4, j.Prefix6)
		if n, known := j.failing.find(wide); known && j.counts(j.failing.row(n), now) {
			out = append(out, j.standing(wide, n))
		}
	}
	return out
}

// Nearest are the offenders of all jails who are nearest to a ban at the wall time now, at most most of them.
func (s *State) Nearest(most int, now time.Time) (out []Standing) {
	type near struct {
		j    *one
		key  netKey
		text string
		n    uint32
		t    *tally
	}
	// Who has the larger part of maxretry comes first, then who failed last.
	order := func(a, b near) int {
		return cmp.Or(cmp.Compare(int(b.t.count)*max(1, a.j.MaxRetry), int(a.t.count)*max(1, b.j.MaxRetry)), cmp.Compare(b.t.last, a.t.last))
	}
	var best []near
	consider := func(n near) {
		if !n.j.counts(n.t, now) || len(best) == most && order(n, best[most-1]) >= 0 {
			return
		}
		at, _ := slices.BinarySearchFunc(best, n, order)
		if len(best) == most {
			best = best[:most-1]
		}
		best = slices.Insert(best, at, n)
	}
	if most <= 0 {
		return nil
	}
	for _, name := range s.order {
		j := s.jails[name]
		for key, n := range j.failing.nets {
			consider(near{j: j, key: key, n: n, t: j.failing.row(n)})
		}
		for text, n := range j.failing.texts {
			consider(near{j: j, text: text, n: n, t: j.failing.row(n)})
		}
	}
	for _, n := range best {
		id := n.key.id()
		if n.text != "" {
			id = bantam.TextID(n.text)
		}
		out = append(out, n.j.standing(id, n.n))
	}
	return out
}

// A Trial is what a failure would do, if it were counted.
type Trial struct {
	// Before is the count it would be added to, 0 if none of before counts any more; Count is what it would make.
	Before, Count, MaxRetry int
	FindTime                time.Duration
	// Again is true if the jail counts different users and this one is counted already, so that the count stays.
	Again bool
	// BanTime is the jail's, negative for ever; earlier bans may make it longer.
	BanTime time.Duration
	// Banned is the ban that runs, nil if there is none.
	Banned *bantam.Ban
	// Old is true if the failure is older than findtime at the wall time at which it was read.
	Old     bool
	Observe bool
}

// Try says what a failure would do. It counts nothing. ok is false if there is no such jail.
func (s *State) Try(f bantam.Failure) (t Trial, ok bool) {
	j := s.jails[f.Jail]
	if j == nil {
		return t, false
	}
	f.ID = f.ID.Widen(j.Prefix4, j.Prefix6)
	of := j.of(f.Country)
	t = Trial{MaxRetry: max(1, j.MaxRetry), FindTime: j.FindTime, BanTime: of.BanTime, Observe: j.Observe}
	t.Old = !f.Read.IsZero() && f.Time.Before(f.Read.Add(-j.FindTime))
	var known tally
	n, is := j.failing.find(f.ID)
	if is {
		known = *j.failing.row(n)
	}
	if !known.over(f.Time, j.FindTime) {
		t.Before = int(known.count)
		t.Again = j.Distinct && j.failing.counted(n, f.User)
	}
	if t.Count = t.Before; !t.Again {
		t.Count = j.next(known, f)
	}
	if b := j.bans[f.ID]; b != nil {
		whole := j.whole(b)
		t.Banned = &whole
	}
	return t, true
}

// Standing is State.Standing.
func (j *Jails) Standing(ctx context.Context, id bantam.ID) (out []Standing, err error) {
	err = j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		out = s.Standing(id, now)
		return nil
	})
	return out, err
}

// Nearest is State.Nearest.
func (j *Jails) Nearest(ctx context.Context, most int) (out []Standing, err error) {
	err = j.do(ctx, func(s *State, now time.Time) []bantam.Decision {
		out = s.Nearest(most, now)
		return nil
	})
	return out, err
}

// Try is State.Try.
func (j *Jails) Try(ctx context.Context, f bantam.Failure) (t Trial, ok bool, err error) {
	err = j.do(ctx, func(s *State, _ time.Time) []bantam.Decision {
		t, ok = s.Try(f)
		return nil
	})
	return t, ok, err
}
