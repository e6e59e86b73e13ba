package source

import "time"

// What it takes to call a source silent. A log that writes day and night is told of
// after an hour; one with long pauses after three times the longest it has had in a
// week.
const (
	habitLearns  = 6 * time.Hour // before anything is said
	habitLines   = 20            // a log of fewer has no habit
	habitLeast   = time.Hour
	habitPauses  = 3
	habitDays    = 8
	habitAverage = 24 * time.Hour // over which the rate is averaged
)

// A news is what a look at a source's habit has found.
type news int

const (
	asEver news = iota
	fellSilent
	spokeAgain
)

// A habit is how often a source used to have lines, learned by looking at it now and
// then. What it read while it caught up is not counted. All times are wall time.
type habit struct {
	looked time.Time // last
	since  time.Time // first, when it was live
	lines  int64     // Status.Lines, then
	first  int64     // and when it was live first
	last   time.Time // when there were new ones last, as the looks see it
	day    int64
	pauses [habitDays]time.Duration // the longest of each of the last days
	rate   float64                  // lines an hour, averaged
	told   bool
}

// look notes how the source stands at the time now, and says what is new about it. A
// source that cannot be read, or waits for its file, has told why, and is not silent.
func (h *habit) look(st *Status, now time.Time) news {
	if !st.Live || st.State != Reading {
		return asEver
	}
	if h.since.IsZero() {
		*h = habit{looked: now, since: now, last: now, lines: st.Lines, first: st.Lines}
		return asEver
	}
	passed := now.Sub(h.looked)
	if passed <= 0 {
		return asEver
	}
	if day := int64(now.Sub(h.since) / (24 * time.Hour)); day != h.day {
		h.day = day
		h.pauses[day%habitDays] = 0
	}
	new := st.Lines - h.lines
	h.looked, h.lines = now, st.Lines
	// An average over as long as it is known, at most over a day.
	weight := passed.Seconds() / min(habitAverage, now.Sub(h.since)).Seconds()
	h.rate += (float64(new)/passed.Hours() - h.rate) * min(1, weight)
	if new > 0 {
		h.pause(now.Sub(h.last))
		h.last = now
		if h.told {
			h.told = false
			return spokeAgain
		}
		return asEver
	}
	if h.told || now.Sub(h.since) < habitLearns || h.lines-h.first < habitLines {
		return asEver
	}
	if now.Sub(h.last) <= max(habitLeast, habitPauses*h.longest()) {
		return asEver
	}
	h.told = true
	return fellSilent
}

func (h *habit) pause(d time.Duration) {
	i := h.day % habitDays
	h.pauses[i] = max(h.pauses[i], d)
}

func (h *habit) longest() (d time.Duration) {
	for _, p := range h.pauses {
		d = max(d, p)
	}
	return d
}

// perHour is how many lines an hour the source used to have, 0 before that is known.
func (h *habit) perHour() float64 {
	if h.since.IsZero() || h.looked.Sub(h.since) < habitLeast {
		return 0
	}
	return h.rate
}
