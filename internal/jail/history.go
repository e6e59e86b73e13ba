package jail

import (
	"slices"
	"time"

	"bantam"
)

// A history is the bans that one jail's IDs have had: of each the last one, which
// knows how many there were. A ban is remembered as long as Fail2Ban would: until
// three times its length and the purge age have passed since it began. Where the
// original looks hourly what to forget, here the time alone decides.
//
// All times are microseconds of Unix time, which is what the store keeps, so that a
// restart changes nothing.
type history struct {
	last map[bantam.ID]record
	// told are the bans from before a restart of those who were banned so lately that
	// lines which are read again may be older: they meet each ban where they met it the
	// first time.
	told map[bantam.ID]*retelling
}

// A record is the last ban of an ID.
type record struct {
	time   int64 // its start
	length int64 // negative for one without end
	count  int   // bans so far; 0 if they were forgiven
}

// A retelling is the bans of an ID, oldest first, and how many of them have
// happened where the lines are read again.
type retelling struct {
	bans []record
	done int
}

func newHistory() *history {
	return &history{last: map[bantam.ID]record{}, told: map[bantam.ID]*retelling{}}
}

func recordOf(b *bantam.Ban) record {
	r := record{time: b.Time.UnixMicro(), length: -1, count: b.Count}
	if !b.Permanent() {
		r.length = max(0, b.End.UnixMicro()-r.time)
	}
	return r
}

// forgotten reports whether nothing is known of the ban any more at the time at.
func (r record) forgotten(at int64, age time.Duration) bool {
	return r.count == 0 || r.length >= 0 && r.time+3*r.length < at-age.Microseconds()
}

// remember adds a ban, or a pardon, from before the restart. They come oldest first;
// those before the time lately are older than any line that still counts.
func (h *history) remember(id bantam.ID, r record, lately int64) {
	t := h.told[id]
	if t == nil && r.time >= lately {
		t = &retelling{}
		if older, ok := h.last[id]; ok {
			t.bans = append(t.bans, older)
		}
		h.told[id] = t
	}
	if t != nil {
		t.bans = append(t.bans, r)
	}
	if r.count == 0 {
		delete(h.last, id)
		return
	}
	h.last[id] = r
}

// begin is a ban that begins now.
func (h *history) begin(id bantam.ID, r record) {
	delete(h.told, id)
	h.last[id] = r
}

// pardon forgets the bans of an ID.
func (h *history) pardon(id bantam.ID) {
	delete(h.told, id)
	delete(h.last, id)
}

// count is how many bans of an ID are remembered at the time at.
func (h *history) count(id bantam.ID, at int64, age time.Duration) int {
	if r := h.last[id]; !r.forgotten(at, age) {
		return r.count
	}
	return 0
}

// against is how many bans a failure at the time at has against it: none unless it
// is later than the last one. A failure that is read again has those that it had when
// it was read first.
func (h *history) against(id bantam.ID, at int64, age time.Duration, known bool) int {
	r := h.last[id]
	if t := h.told[id]; t != nil {
		for t.done < len(t.bans) && t.bans[t.done].time < at {
			t.done++
		}
		r = record{}
		if t.done > 0 {
			r = t.bans[t.done-1]
		}
		if !known && t.done == len(t.bans) {
			delete(h.told, id)
		}
	}
	if at <= r.time || r.forgotten(at, age) {
		return 0
	}
	return r.count
}

// repeated is a ban at the time at that lines read again come to once more.
func (h *history) repeated(id bantam.ID, at int64) {
	t := h.told[id]
	if t == nil {
		return
	}
	if i := slices.IndexFunc(t.bans[t.done:], func(r record) bool { return r.time == at }); i >= 0 {
		t.done += i + 1
	}
}

// purge forgets what counts no more at the time at, and ends the retelling of those
// whose last ban is older than lately.
func (h *history) purge(at int64, age time.Duration, lately int64) {
	for id, t := range h.told {
		if t.bans[len(t.bans)-1].time < lately {
			delete(h.told, id)
		}
	}
	for id, r := range h.last {
		if r.forgotten(at, age) {
			delete(h.last, id)
		}
	}
}
