// Package timestamp finds the time written in a log line and reads it.
//
// A Detector knows a list of date patterns: the built-in ones, or those of a
// filter's datepattern option. It says which part of a line is the date, so that
// the filter can cut it out, and which instant it names. It learns from the lines
// it has seen which pattern to try first and is therefore not safe for concurrent
// use; it does no I/O and has no clock: what "this year" and "today" mean follows
// from the now it is given.
//
// Promised: at most time linear in the line for each pattern, and no panic,
// whatever the line holds; a datepattern that pyre gives up on has not matched. What
// a line without a date means is left to the caller. What a Detector keeps of the
// lines it has seen is a date's length, however many there are.
//
// Text is UTF-8 as pyre takes it, and columns are bytes. The built-in formats are
// written in ASCII digits and letters; where a word ends is decided by Unicode.
package timestamp

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Options say how to read what a line leaves out.
type Options struct {
	// Zone is the zone of stamps that name none: "Z", "UTC", an offset such as
	// "+0200", or an abbreviation such as "CET". Empty means Local. Day-light
	// saving applies to Local only; the others are fixed offsets.
	Zone string
	// Local is the machine's zone. Nil means time.Local.
	Local *time.Location
}

// A Match is where a line's date stands and what it says.
type Match struct {
	// Time is the instant in whole seconds, but for epoch numbers, which keep
	// their fraction. It is zero when the text has the shape of a date but
	// names no possible instant (30 February, second 60, an unknown zone), and
	// when the pattern matched nothing at all.
	Time time.Time
	// Start and End bound what is to be cut out of the line. They are equal for
	// a pattern that may match nothing, such as {NONE}.
	Start, End int
}

// A Detector finds dates by an ordered list of patterns.
type Detector struct {
	templates []*template
	zone      *time.Location // of stamps without one
	fixed     bool           // zone was named by Options.Zone

	// What the list holds; see search.
	starts  shape    // of the formats bound to the start of the line
	within  shape    // of those that are not
	frames  []*frame // of the patterns that have one
	foreign bool     // there are patterns of no known shape

	// What the previous hit was; see Find.
	winner     *template
	start, end int
	edges      edges

	now     span // of the line before
	minute  minuteCache
	stencil stencil

	best, other hit // of the line at hand; here so that no line allocates
	parser      parser
}

// New makes a detector of datepattern lines; none means the built-in patterns.
// The error names the pattern and what is wrong with it.
func New(patterns []string, o Options) (*Detector, error) {
	d := &Detector{zone: o.Local, start: 1} // a first date there counts as in its place
	if d.zone == nil {
		d.zone = time.Local
	}
	if o.Zone != "" {
		offset, ok := zoneOffset(o.Zone)
		if !ok {
			return nil, fmt.Errorf("time zone %q is not understood: use UTC, an offset such as +0200, or an abbreviation such as CET", o.Zone)
		}
		d.zone, d.fixed = time.FixedZone(o.Zone, offset), true
	}
	seen := make(map[string]bool)
	for i, p := range patterns {
		p = strings.TrimSpace(p)
		if p == "" {
			continue
		}
		if seen[p] {
			return nil, fmt.Errorf("datepattern %d: %q is given twice", i+1, p)
		}
		seen[p] = true
		ts, err := compilePattern(p)
		if err != nil {
			return nil, fmt.Errorf("datepattern %d: %q: %w", i+1, p, err)
		}
		d.templates = append(d.templates, ts...)
	}
	if len(d.templates) == 0 {
		d.templates = defaults()
	}
	d.sum()
	return d, nil
}

// sum says what the list of patterns holds.
func (d *Detector) sum() {
	for _, t := range d.templates {
		switch {
		case t.shape == anyShape:
			d.foreign = true
		case t.frame == nil && t.anchored:
			d.starts |= t.shape
		case t.frame == nil:
			d.within |= t.shape
		case len(d.frames) == 0 || d.frames[len(d.frames)-1] != t.frame:
			d.frames = append(d.frames, t.frame)
		}
	}
}

// Copy is a detector of the same patterns that has seen no line yet. Neither may d have.
func (d *Detector) Copy() *Detector {
	c := &Detector{zone: d.zone, fixed: d.fixed, start: d.start}
	frames := make(map[*frame]*frame)
	for _, t := range d.templates {
		t := *t
		if t.regex != nil { // it may be compiled anew when years go by
			p := *t.regex
			t.regex = &p
		}
		if f := t.frame; f != nil {
			if frames[f] == nil {
				own := *f
				frames[f] = &own
			}
			t.frame = frames[f]
		}
		c.templates = append(c.templates, &t)
	}
	c.sum()
	return c
}

// firstDecade is the earliest plausible decade, as the first three digits of a year.
const firstDecade = 200

// plausible is the year whose decade is the last that a year may lie in to be taken
// for one by the built-in patterns: that of the running year, or the next when it is
// less than three years away. It follows the clock, but never falls behind the year this was written in,
// so that old clocks and replayed logs do not make dates unreadable.
func plausible(year int) int {
	return max(year, 2026) + 3
}

// Find looks for the line's date; ok is false when no pattern matches. Now is the
// wall time at which the line was read: it stands in for what the date leaves out.
//
// The pattern that matched last is tried first, and where it matched last if what
// stands around that place looks the same. If this does not settle the matter, all
// are tried in an order that favours those bound to the start of the line and then
// those that have matched often and far to the left (detection.md 5.8).
func (d *Detector) Find(text []byte, now time.Time) (m Match, ok bool) {
	if at, start, end := d.Again(text, now); at != nil {
		return Match{*at, start, end}, true
	}
	sec := now.Unix()
	if sec < d.now.from || sec >= d.now.to {
		d.turn(now)
	}
	d.now.sec, d.now.nsec = sec, int64(now.Nanosecond())
	w := d.winner
	best := &d.best
	best.ok = false
	searched := false // all of the line for w
	if w != nil {
		switch {
		case w.anchored:
			w.find(&d.parser, text, best)
			searched = true
		case d.edges.agree(text, d.start, d.end):
			w.findWithin(&d.parser, text, d.start, d.end, best)
		default:
			searched = true
		}
		if !best.ok && !w.anchored {
			if d.bracketed(text) {
				return Match{d.take(w, best, text), best.start, best.end}, true
			}
			if searched {
				w.find(&d.parser, text, best)
			}
		}
		if best.ok && (w.anchored || len(d.templates) == 1 || best.from == d.start && best.to == d.end) {
			return Match{d.take(w, best, text), best.start, best.end}, true
		}
	}
	t := d.search(text, searched)
	if t == nil {
		return Match{}, false
	}
	return Match{d.take(t, best, text), best.start, best.end}, true
}

// bracketed looks for the last winner's date behind the line's first bracket, where
// access logs have it, and reports whether the search would choose that hit; then
// it is in d.best. The column differs from line to line with what is before it.
//
// No built-in date holds a bracket. So another choice would begin before this one
// and end before the bracket, or begin behind it and no further right than the
// last winner's column, or be of the last pattern. The first is ruled out by looking
// for what all of them hold, the second because nothing begins inside such a date
// up to its clock, the third by what TAI64N begins with.
func (d *Detector) bracketed(text []byte) bool {
	w := d.winner
	if d.foreign || len(d.frames) > 0 || w.frame != nil || w.reader == nil || !w.reader.bare || d.edges.before != '[' {
		return false
	}
	i := bytes.IndexByte(text, '[')
	if last := d.templates[len(d.templates)-1]; i < 2 || last != w && !last.anchored && last.shape != shapeTAI {
		return false
	}
	if d.start > i+len("[02/Jan/") || d.within&shapeTAI != 0 && bytes.IndexByte(text, '@') >= 0 {
		return false
	}
	if _, _, dated := mayHold(text[:i]); dated {
		return false
	}
	d.parser.text, d.parser.hit = text, &d.best
	return d.parser.try(w, i+1)
}

// search tries the patterns in their order. On entry d.best holds the last winner's
// hit, if it had one, and searched tells whether it was looked for in all of the
// line; on return it holds the hit of the pattern returned.
func (d *Detector) search(text []byte, searched bool) *template {
	var candidate *template
	best, last := &d.best, len(d.templates)-1
	limit := len(text)
	if best.ok {
		candidate = d.winner
		// What begins to the right of both the hit and the last winner's column
		// wins only if it is of the last pattern.
		if searched && d.templates[last].shape == shapeTAI && bytes.IndexByte(text, '@') < 0 {
			limit = max(best.from, d.start) + reach
		}
	}
	atStart := shapesAtStart(text) & d.starts
	within, framed := shape(0), shape(0)
	if d.within != 0 {
		within = shapesOf(text, limit) & d.within
	}
	for _, f := range d.frames {
		f.shapes = f.shapesIn(text)
		framed |= f.shapes
	}
	if atStart|within|framed == 0 && !d.foreign {
		return candidate
	}
	for i, t := range d.templates {
		has := within
		switch {
		case t.frame != nil:
			has = t.frame.shapes
		case t.shape == anyShape:
			has = anyShape
		case t.anchored:
			has = atStart
		}
		if t.shape&has == 0 || searched && t == d.winner {
			continue
		}
		h := &d.other
		if !t.find(&d.parser, text, h) {
			continue
		}
		switch {
		case i == last, t.anchored,
			h.from == 0 && t.hits > 0 && d.templates[i+1].hits == 0,
			h.from <= t.distance && h.from <= d.start:
			*best = *h
			return t
		}
		if candidate == nil || h.from < best.from {
			candidate, *best = t, *h
		}
	}
	return candidate
}

// take books a hit and reads its fields.
func (d *Detector) take(t *template, h *hit, text []byte) time.Time {
	if h.seconds > 0 && !h.again {
		d.parser.memo.keep(t.reader, h, text)
	}
	t.hits++
	t.distance = h.from
	t.used = d.now.sec*1e9 + d.now.nsec
	if t != d.winner {
		d.winner = t
		if t != d.templates[0] {
			d.promote(t)
		}
	}
	d.start, d.end = h.from, h.to
	if !t.anchored {
		d.edges = edgesOf(text, h.from, h.to)
	}
	if h.start == h.end && !h.epochal {
		return time.Time{}
	}
	at := d.convert(h)
	if t.anchored && h.again && d.parser.memo.minute.known && !at.IsZero() {
		d.stencil.cut(t, h, text, at)
	}
	return at
}

// keep makes h's head the one to be known again.
func (m *memo) keep(r *reader, h *hit, text []byte) {
	head := text[h.date:h.seconds]
	if len(head) > len(m.head) {
		return
	}
	h.again = true // what is learned about it below is to be kept
	m.reader, m.size, m.fields = r, copy(m.head[:], head), h.fields
	m.minute.known = false
}

// promote moves a pattern that has just matched up the list, if it deserves it.
func (d *Detector) promote(t *template) {
	at, unused := 0, -1
	for i, o := range d.templates {
		if o == t {
			at = i
			break
		}
		if o.hits == 0 && unused < 0 {
			unused = i
		}
	}
	target := at / 2
	if unused >= 0 {
		target = unused
	}
	yields := func(o *template) bool {
		return t.weight() > o.weight() || o.hits == 0 || t.used-o.used > int64(300*time.Second)
	}
	if !yields(d.templates[target]) {
		if target = at - 1; !yields(d.templates[target]) {
			return
		}
	}
	copy(d.templates[target+1:at+1], d.templates[target:at])
	d.templates[target] = t
}

// Edges are the characters on both sides of a date's start and end, -1 for none.
type edges struct{ before, first, last, after int16 }

func edgesOf(text []byte, start, end int) edges {
	return edges{charAt(text, start-1), charAt(text, start), charAt(text, end-1), charAt(text, end)}
}

// agree reports whether text looks the same at start and end: on either side the
// outer characters are equal, or the inner ones are and belong to no word. Behind
// the end of the line there is none, wherever it ends.
func (e *edges) agree(text []byte, start, end int) bool {
	is := edgesOf(text, start, end)
	return (is.before == e.before || is.first == e.first && !isWordChar(is.first)) &&
		(is.after == e.after || is.last == e.last && !isWordChar(is.last))
}

func charAt(text []byte, i int) int16 {
	if uint(i) >= uint(len(text)) {
		return -1
	}
	return int16(text[i])
}

func isWordChar(c int16) bool { return c >= 0 && isWord(byte(c)) }
