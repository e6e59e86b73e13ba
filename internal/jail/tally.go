package jail

import (
	"math"
	"time"
)

// A tally counts one offender's failures and says when they add up to a ban.
//
// It is a rate estimate, as in Fail2Ban: failures older than findtime are not
// dropped one by one but scale the count down; after a pause of findtime or more
// it starts anew. spec/detection.md 6.2 has the rule and its telling cases. The
// original forgets paused offenders in a sweep that runs now and then; here the
// pause alone decides, so that the same history always gives the same answer.
//
// All times are event times, so that replaying an old log gives the decisions that
// log deserved. Failures may arrive out of order.
type tally struct {
	first, last int64 // nanoseconds of Unix time
	count       int32 // the estimate that maxretry is compared with
	failures    int32 // how many there were, unscaled
	told        spot  // what is told of them
}

// add records a failure at the time at that counts for weight failures, 1 or more, and
// reports the count that results.
func (t *tally) add(at time.Time, findtime time.Duration, weight int) int {
	now, window := at.UnixNano(), int64(findtime)
	if t.over(at, findtime) {
		t.first, t.last, t.count, t.failures = now, now, int32(min(weight, math.MaxInt32)), 1
		return int(t.count)
	}
	if now > t.last {
		if t.first < now-window {
			// In seconds and in this order, so that halves fall as in the original.
			scaled := float64(t.count) / time.Duration(now-t.first).Seconds() * findtime.Seconds()
			t.count = int32(math.RoundToEven(scaled))
			t.first = now - window
		}
		t.last = now
	}
	t.count = int32(min(int64(t.count)+int64(weight), math.MaxInt32))
	t.failures++
	return int(t.count)
}

// over reports whether a failure at the time at does not continue the tally but starts it anew.
func (t *tally) over(at time.Time, findtime time.Duration) bool {
	return t.count == 0 || at.UnixNano()-t.last >= int64(findtime)
}

// expired reports whether no failure can continue the tally any more. A failure
// counts only if it is younger than findtime when it is read, and it continues the
// tally only if it is younger than findtime after the last one.
func (t *tally) expired(now time.Time, findtime time.Duration) bool {
	return t.last <= now.UnixNano()-2*int64(findtime)
}
