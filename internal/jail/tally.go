package jail

import (
	"encoding/binary"
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
// log deserved. Failures may arrive out of order. Its size is fixed however fast
// failures come, but for the lines kept.
type tally struct {
	first, last int64 // nanoseconds of Unix time
	count       int32 // the estimate that maxretry is compared with
	failures    int32 // how many there were, unscaled
	offence     offence
}

// An offence is what is told about an offender beside the count: the lines, the user and the
// data, as one text, for there may be a million of them and most never come to anything. Empty
// is none yet.
type offence string

// pack makes an offence: first how many lines and data there are, then all texts, the user first,
// each behind its length.
func pack(lines []string, user string, data map[string]string) offence {
	size := len(user) + 4*binary.MaxVarintLen32
	for _, l := range lines {
		size += len(l) + 2
	}
	for k, v := range data {
		size += len(k) + len(v) + 4
	}
	b := make([]byte, 0, size)
	b = binary.AppendUvarint(b, uint64(len(lines)))
	b = binary.AppendUvarint(b, uint64(len(data)))
	put := func(text string) { b = append(binary.AppendUvarint(b, uint64(len(text))), text...) }
	put(user)
	for _, l := range lines {
		put(l)
	}
	for k, v := range data {
		put(k)
		put(v)
	}
	return offence(b)
}

// unpack is what pack was given; lists and maps of none are nil.
func (o offence) unpack() (lines []string, user string, data map[string]string) {
	if o == "" {
		return nil, "", nil
	}
	rest := string(o)
	number := func() int {
		n, width := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
		rest = rest[width:]
		return int(n)
	}
	text := func() (s string) {
		n := number()
		s, rest = rest[:n], rest[n:]
		return s
	}
	nLines, nData := number(), number()
	user = text()
	if nLines > 0 {
		lines = make([]string, nLines)
	}
	for i := range lines {
		lines[i] = text()
	}
	if nData > 0 {
		data = make(map[string]string, nData)
	}
	for range nData {
		key := text()
		data[key] = text()
	}
	return lines, user, data
}

// add records a failure at the time at that counts for weight failures, 1 or more, and
// reports the count that results.
func (t *tally) add(at time.Time, findtime time.Duration, weight int) int {
	now, window := at.UnixNano(), int64(findtime)
	if t.count == 0 || now-t.last >= window {
		t.first, t.last, t.count, t.failures = now, now, int32(min(weight, math.MaxInt32)), 1
		t.offence = ""
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

// keep remembers what a failure said: the newest lines up to maxmatches, and the
// first failure's user and data. The very first lines are kept even where
// maxmatches is 0, until the second failure arrives.
func (t *tally) keep(lines []string, user string, data map[string]string, maxmatches int) {
	if t.offence == "" {
		t.offence = pack(lines, user, data)
		return
	}
	old, user, data := t.offence.unpack()
	if maxmatches == 0 {
		t.offence = pack(nil, user, data)
		return
	}
	all := append(old, lines...)
	if extra := len(all) - maxmatches; extra > 0 {
		all = all[extra:]
	}
	t.offence = pack(all, user, data)
}

// expired reports whether no failure can continue the tally any more. A failure
// counts only if it is younger than findtime when it is read, and it continues the
// tally only if it is younger than findtime after the last one.
func (t *tally) expired(now time.Time, findtime time.Duration) bool {
	return t.last <= now.UnixNano()-2*int64(findtime)
}
