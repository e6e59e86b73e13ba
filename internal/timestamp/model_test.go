package timestamp

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// A model is a Detector that takes no short cut: every pattern is an expression,
// every line is searched by all of them, and nothing is remembered but what the
// choice is said to go by (detection.md 5.8).
type model struct{ *Detector }

func newModel(t testing.TB, patterns ...string) model {
	d := detector(t, time.UTC, patterns...)
	for i, t := range d.templates {
		d.templates[i] = t.byPattern()
	}
	return model{d}
}

func (m model) find(text []byte, now time.Time) (Match, bool) {
	d := m.Detector
	d.turn(now)
	d.now.sec, d.now.nsec = now.Unix(), int64(now.Nanosecond())
	var best, h hit
	var chosen *template
	searched := false
	if w := d.winner; w != nil {
		start, end := min(d.start, len(text)), min(d.end, len(text))
		if w.anchored || !d.edges.agree(text, d.start, d.end) {
			start, end, searched = 0, len(text), true
		}
		if w.find(&d.parser, text[start:end], &best) {
			best.from, best.to, best.start, best.end = best.from+start, best.to+start, best.start+start, best.end+start
			chosen = w
			if w.anchored || len(d.templates) == 1 || best.from == d.start && best.to == d.end {
				return Match{d.take(w, &best, text), best.start, best.end}, true
			}
		}
	}
	for i, t := range d.templates {
		if searched && t == d.winner || t.shape == 0 || !t.find(&d.parser, text, &h) {
			continue
		}
		if i == len(d.templates)-1 || t.anchored || h.from == 0 && t.hits > 0 && d.templates[i+1].hits == 0 ||
			h.from <= t.distance && h.from <= d.start {
			return Match{d.take(t, &h, text), h.start, h.end}, true
		}
		if chosen == nil || h.from < best.from {
			chosen, best = t, h
		}
	}
	if chosen == nil {
		return Match{}, false
	}
	return Match{d.take(chosen, &best, text), best.start, best.end}, true
}

// The short cuts change no answer, whatever lines come after each other.
func TestShortCutsChangeNothing(t *testing.T) {
	seed := testSeed(t)
	rounds := 40
	if s := os.Getenv("BANTAM_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	r := dice{rand.New(rand.NewPCG(seed, 1))}
	lists := [][]string{
		nil, nil, nil,
		{"{^LN-BEG}"},
		{`^[^\[]*\[({DATE})`, "{^LN-BEG}"},
		{`^[^\[]*(\[{DATE}\s*\])`, "{^LN-BEG}"},
		{`{^LN-BEG}%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\s*%z)?`, `^[^\[]*\[({DATE})`, "{^LN-BEG}"},
		{"{DATE}"},
		{"^{DATE}"},
		{`^[^-]* - ({DATE})`, "{DEFAULT}"},
		{"^%Y-%m-%d %H:%M", "{DEFAULT}"},
		{"{^LN-BEG}Epoch", "{^LN-BEG}"},
		{`%d(?P<sep>[-/])%b(?P=sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?`, `%ExY(?P<sep>[-/.])%m(?P=sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?`},
	}
	for round := range rounds {
		patterns := lists[r.IntN(len(lists))]
		d, m := detector(t, time.UTC, patterns...), newModel(t, patterns...)
		kinds := [][]int{
			{r.IntN(len(formats)), r.IntN(len(formats)), r.IntN(len(formats)), 1, 0, 4}, {0, 1, 4}, {4}, {4, 4, 4, 4, 13, 1}, {1}, {0},
		}[r.IntN(6)]
		dates := make([]string, 4)
		var before []string
		now := noon
		for range 60 {
			// Dates come again, as they are or a second later.
			k := r.IntN(len(dates))
			if dates[k] == "" || r.one(4) {
				dates[k] = r.date(kinds[r.IntN(len(kinds))], true)
			}
			line := r.of("", "", "", "[", "192.0.2.1 - - [", "192.0.2.1 - - [", "192.0.2.111 - bob [", "2001:db8::7 - - [", "x ", "x [", "web: ", "<14>", "11-", "é [", "-- [", "a:1:2:3 [", " ", "[ ", "1 - 2 - ") + dates[k] +
				r.of("", " x", "] x", "]", "]", "  ] \"GET", " - x", "_", "\u00a0]", " +0100", ".5]", ",123 x", "Z x")
			if r.one(4) {
				line += r.of(" ", "] ", " [", " - ") + dates[r.IntN(len(dates))] + r.of("]", " x", "")
			}
			if r.one(12) {
				line = r.spoil(line)
			}
			if r.one(15) {
				line = r.of("", "no date", "12:00", "a.b:1: x", "[] x", "host Jun 5 x", "x @40000000", "1234567890123 x", "type=X msg=audit(1781520000.123:45): x")
			}
			if len(before) > 0 && r.one(2) {
				line = r.kin(before[len(before)-1])
			}
			if r.one(20) {
				now = now.Add(r.duration())
			}
			undated := d.Undated([]byte(line))
			got, ok := d.Find([]byte(line), now)
			if undated && ok {
				t.Fatalf("patterns %q: %q was told to have no date", patterns, line)
			}
			want, wantOK := m.find([]byte(line), now)
			if got.Start != want.Start || got.End != want.End || !got.Time.Equal(want.Time) || ok != wantOK {
				t.Fatalf("round %d, patterns %q, after %q:\n%q\n got %v %v\nwant %v %v", round, patterns, before, line, got, ok, want, wantOK)
			}
			before = append(before, line)
		}
	}
}

// kin is a line that has the same characters as another but for one or two, which become digits
// most of the time.
func (r dice) kin(line string) string {
	b := []byte(line)
	for range min(len(b), 1+r.IntN(2)) {
		const chars = "0123456789012345678901234567890123456789:. ,Z+-]a[\xc3"
		b[r.IntN(min(len(b), 60))] = chars[r.IntN(len(chars))]
	}
	return string(b)
}

func (r dice) duration() time.Duration {
	return []time.Duration{time.Second, time.Minute, 400 * time.Second, 24 * time.Hour, 200 * 24 * time.Hour, -24 * time.Hour}[r.IntN(6)]
}

// testSeed is what random tests begin from: the same each time, unless BANTAM_SEED says
// otherwise.
func testSeed(t *testing.T) uint64 {
	seed := uint64(1)
	if s := os.Getenv("BANTAM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d", seed)
	return seed
}
