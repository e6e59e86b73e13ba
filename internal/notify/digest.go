package notify

import (
	"cmp"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"bantam"
)

// A window bounds how many messages go out one by one. It begins with a message, lasts for a
// period and lets so many through; what comes after that is gathered until it is over. All times are
// wall time.
type window struct {
	Began time.Time `json:"began,omitzero"`
	Sent  int       `json:"sent,omitempty"`
}

// A pace is how long a window is and how many messages it lets through one by one.
type pace struct {
	period time.Duration
	most   int
}

// Paces of what is not told by the digest's interval.
var (
	unhurried = pace{DefaultDigest, 100} // of a channel that wants a message for each event
	calls     = pace{time.Hour, 10}      // of starts and stops, which are told at once
)

// paceOf is how a channel is told of bans.
func paceOf(c *Config) pace {
	if c.Digest <= 0 {
		return unhurried
	}
	return pace{c.Digest, 1}
}

// open is when the next message may go out: at once, that is not after now, or at the window's end.
func (w *window) open(p pace, now time.Time) time.Time {
	if w.Sent < p.most || w.over(p, now) {
		return now
	}
	return w.Began.Add(p.period)
}

// over reports whether the window has passed. A beginning that lies ahead is of a clock that has been set
// back, and none at all.
func (w *window) over(p pace, now time.Time) bool {
	return w.Began.IsZero() || w.Began.After(now) || !now.Before(w.Began.Add(p.period))
}

// sent is the window after a message at now. A digest fills it: as long as more comes than may be
// told one by one, there is one message in a period.
func (w window) sent(p pace, now time.Time, digest bool) window {
	if w.over(p, now) {
		w = window{Began: now}
	}
	w.Sent++
	if digest {
		w = window{Began: now, Sent: p.most}
	}
	return w
}

// A digest is what has been gathered and not yet told. Its size is bounded by the number of jails.
type digest struct {
	Since    time.Time      `json:"since,omitzero"` // wall time at which it began
	Bans     map[string]int `json:"bans,omitempty"`
	Unbans   map[string]int `json:"unbans,omitempty"`
	Observed map[string]int `json:"observed,omitempty"`
	Held     map[string]int `json:"held,omitempty"`
	// Events are the first maxEvents, More how many came after them. They are without what a list does not
	// say, unless there is only one.
	Events []bantam.Decision `json:"events,omitempty"`
	More   int               `json:"more,omitempty"`
	// Number is that of the last news in it.
	Number int64 `json:"number,omitempty"`
}

func (g *digest) empty() bool { return len(g.Events) == 0 }

// single reports whether it is one event, which is told in full.
func (g *digest) single() bool { return len(g.Events) == 1 && g.More == 0 }

// with is the digest and one more decision.
func (g digest) with(n *bantam.News) digest {
	d := n.Decision
	g.Number = n.Number
	if g.empty() {
		g = digest{Since: d.At, Number: n.Number}
	}
	over := d.Kind == bantam.End
	g.Bans = counted(g.Bans, d, !over)
	g.Unbans = counted(g.Unbans, d, over)
	g.Observed = counted(g.Observed, d, !over && d.Ban.Observed && !d.Ban.Held())
	g.Held = counted(g.Held, d, !over && d.Ban.Held())
	switch {
	case g.empty():
		g.Events = []bantam.Decision{bounded(d)}
	case len(g.Events) >= maxEvents:
		g.More++
	default:
		if len(g.Events) == 1 {
			g.Events = []bantam.Decision{short(g.Events[0])}
		}
		g.Events = append(slices.Clip(g.Events), short(bounded(d)))
	}
	return g
}

// counted adds one to a jail's figure if that is what happened. The map it is given stays as it is.
func counted(counts map[string]int, d bantam.Decision, yes bool) map[string]int {
	if !yes {
		return counts
	}
	counts = maps.Clone(counts)
	if counts == nil {
		counts = map[string]int{}
	}
	counts[d.Ban.Jail]++
	return counts
}

// Bounds of what is kept of a decision that waits to be told, in bytes: the store takes no note of more than
// a megabyte.
const (
	maxKeptText = 1 << 10 // of a name, a reason, a value
	maxKeptLine = 2 << 10
	maxKeptData = 32 // values
)

// bounded is a decision with what a message could say of it at most. A name that is cut is no longer
// somebody's, but none that belongs to anybody is that long.
func bounded(d bantam.Decision) bantam.Decision {
	b := &d.Ban
	if _, is := b.ID.Prefix(); !is {
		b.ID = bantam.TextID(cut(b.ID.String(), maxKeptText))
	}
	b.User, b.Reason = cut(b.User, maxKeptText), cut(b.Reason, maxKeptText)
	d.Positions = nil
	var lines []string
	for _, line := range b.Lines[max(0, len(b.Lines)-maxLogLines):] {
		lines = append(lines, cut(line, maxKeptLine))
	}
	b.Lines = lines
	var data map[string]string
	for i, key := range slices.Sorted(maps.Keys(b.Data)) {
		if data == nil {
			data = map[string]string{}
		}
		if i < maxKeptData || key == "ip" {
			data[key] = cut(b.Data[key], maxKeptText)
		}
	}
	b.Data = data
	return d
}

// cut is s in at most n bytes, whole characters of it.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// short is a bounded decision without what a list does not say.
func short(d bantam.Decision) bantam.Decision {
	b := &d.Ban
	ip := b.Data["ip"]
	b.Lines, b.Data, b.Reason = nil, nil, ""
	if ip != "" {
		b.Data = map[string]string{"ip": ip}
	}
	if _, is := b.ID.Prefix(); !is {
		b.ID = bantam.TextID(cut(b.ID.String(), 4*maxName))
	}
	return d
}

// jailNews are the jails that started or stopped and were not told of yet: each the last thing it did.
type jailNews struct {
	Window  window   `json:"window,omitzero"`
	Started []string `json:"started,omitempty"`
	Stopped []string `json:"stopped,omitempty"`
}

func (j *jailNews) empty() bool { return len(j.Started) == 0 && len(j.Stopped) == 0 }

// with is j and what happened since.
func (j jailNews) with(started, stopped []string) jailNews {
	j.Stopped = union(without(j.Stopped, started), stopped)
	j.Started = union(without(j.Started, stopped), started)
	return j
}

// told is j without what a message said.
func (j jailNews) told(e *Edition) jailNews {
	j.Started, j.Stopped = without(j.Started, e.Started), without(j.Stopped, e.Stopped)
	return j
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.SortFunc(out, cmp.Compare[string])
	return slices.Compact(out)
}

func without(all, some []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(some, s) {
			out = append(out, s)
		}
	}
	return out
}
