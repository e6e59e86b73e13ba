package filter

import (
	"slices"
	"strings"
	"time"

	"bantam"
)

// A Trial shows somebody what rules make of lines. It judges as a Filter does, sessions
// included, but takes every stamp as it is written, however far from the clock, names who
// failed by the text in the log, and tells of matches that are no failures, too.
//
// It is not safe for concurrent use. What it remembers is bounded as a Filter's.
type Trial struct {
	views []*view
	out   []Outcome // by the place of the rules
}

// An Outcome is what became of one line.
type Outcome struct {
	// Hits are the expressions that matched: the first, or all.
	Hits []Hit
	// Ignored is the number of the ignoreregex that matched, from 1 on; 0 for none.
	Ignored int
	// Prefixed is true if there is a prefregex and it matched; without
	// TrialOptions.Prefixes it may be false all the same.
	Prefixed bool
	// Dated is true if the line bears a date that could be read.
	Dated bool
}

// Clone is an outcome that stays valid.
func (o Outcome) Clone() Outcome {
	o.Hits = append([]Hit(nil), o.Hits...)
	for i := range o.Hits {
		h := &o.Hits[i]
		h.data, h.Host, h.Lines = kept(&h.data), strings.Clone(h.Host), append([]string(nil), h.Lines...)
	}
	return o
}

// A Hit is one failregex that matched a line.
type Hit struct {
	Regex int // from 1 on
	// Host is who failed, as logged: the <F-ID>, else the address, else the name.
	// It is empty while a session's address is not known.
	Host string
	// Name is true if Host is a host name.
	Name bool
	// Time is event time; zero if the line has no date and nothing stands in for it.
	Time  time.Time
	data  fields
	names []string // of the fields
	// Lines are what makes up the failure, oldest first, if TrialOptions.Lines; attacker's
	// text.
	Lines []string
	// Quiet is true if the line is no failure, or none yet: it says so itself, or its
	// session waits for an address.
	Quiet bool
	// Waits is true if the line is a failure and its session waits for an address.
	Waits bool
}

// TrialOptions are what to find out beyond what a Filter needs to know.
type TrialOptions struct {
	Every    bool // try the expressions behind the first that matches, too
	Lines    bool // tell which lines make up a failure
	Prefixes bool // try the prefregex even on lines that nothing behind it can match
}

// Lookup is what a named group captured, in this line or another of its session, and
// whether it took part; attacker's text.
func (h *Hit) Lookup(group string) (value string, ok bool) {
	i := slices.Index(h.names, group)
	if i < 0 {
		return "", false
	}
	return h.data.lookup(i)
}

// Get is Lookup where no part and an empty one are the same.
func (h *Hit) Get(group string) string {
	value, _ := h.Lookup(group)
	return value
}

// Data are all named groups; attacker's text.
func (h *Hit) Data() map[string]string {
	data := make(map[string]string)
	for i := range h.data.all() {
		data[h.names[i]] = h.data.values[i]
	}
	return data
}

// NewTrial tries rules on lines, all in one pass.
func NewTrial(o TrialOptions, rules ...*Rules) *Trial {
	t := &Trial{views: New(rules...).views, out: make([]Outcome, len(rules))}
	for _, v := range t.views {
		v.written, v.prefixes, v.brief = true, o.Prefixes, !o.Lines
		for _, j := range v.jails {
			j.every = o.Every
		}
	}
	return t
}

// Try judges the next line. There is one outcome for each of the rules, in their order,
// valid until the next call; they refer to nothing of the line.
func (t *Trial) Try(line *bantam.Line) []Outcome {
	for _, v := range t.views {
		v.dated = false
		t.judge(v, line, v.look(line))
	}
	return t.out
}

// A Stamp is what the date of a line is to some of a trial's rules.
type Stamp struct {
	at          time.Time
	left, right int // bytes of the line before and behind the date
	dated       bool
	raw         bool // it is to be seen whether the line needs decoding
}

// Date dates the next line and appends its stamps to out, always as many. Where a
// line's date is looked for depends on the lines before it, so that this has to be done
// in their order. If each of the rules is Alone, the rest has not: TryDated of other
// trials of the same rules goes on.
func (t *Trial) Date(line *bantam.Line, out []Stamp) []Stamp {
	for _, v := range t.views {
		v.dated = false
		at := v.look(line)
		out = append(out, Stamp{at, len(v.left), len(v.right), v.dated, v.raw})
	}
	return out
}

// TryDated is Try for a line that has its stamps already.
func (t *Trial) TryDated(line *bantam.Line, stamps []Stamp) []Outcome {
	for i, v := range t.views {
		s := &stamps[i]
		text := line.Text
		if !s.raw {
			text = v.read(text)
		}
		v.line, v.left, v.right, v.dated, v.raw = text, text[:s.left], text[len(text)-s.right:], s.dated, s.raw
		t.judge(v, line, s.at)
	}
	return t.out
}

// Alone reports whether each line is judged by itself: no session and no other line has
// a part.
func (r *Rules) Alone() bool {
	if r.config.MaxLines > 1 {
		return false
	}
	for rule := range r.all() {
		if slices.Contains(rule.names, "mlfid") {
			return false
		}
	}
	return true
}

// judge puts what becomes of a line, dated and cut as v has it, into the outcomes.
func (t *Trial) judge(v *view, line *bantam.Line, at time.Time) {
	called := v.call()
	for _, j := range v.jails {
		out := &t.out[j.place]
		out.Hits, out.Ignored, out.Prefixed, out.Dated = out.Hits[:0], 0, false, v.dated
		if called && j.called {
			j.try(v, line, at, out)
		}
	}
}

// try judges a line with one jail's rules.
func (j *judge) try(v *view, line *bantam.Line, at time.Time, out *Outcome) {
	j.match(v, line)
	out.Ignored, out.Prefixed = j.ignoredBy, j.prefixed
	for i := range j.found {
		m := &j.found[i]
		n := len(out.Hits)
		if n == cap(out.Hits) {
			out.Hits = slices.Grow(out.Hits, 1)
		}
		out.Hits = out.Hits[:n+1]
		h := &out.Hits[n]
		h.Regex, h.Time, h.data, h.names, h.Lines = m.regex, at, m.data, j.names, m.lines
		h.Quiet, h.Waits = m.quiet, m.waits
		h.Host, h.Name = m.data.asLogged()
	}
}

// asLogged is who failed in the log's own words, and whether that is a host name.
func (d *fields) asLogged() (host string, name bool) {
	if fid := d.get(fieldFID); fid != "" {
		return fid, false
	}
	for _, field := range [...]int{fieldIP4, fieldIP6} {
		if addr := d.get(field); addr != "" {
			if length := d.get(fieldCIDR); length != "" {
				addr += "/" + length
			}
			return addr, false
		}
	}
	host = d.get(fieldDNS)
	if host == "" {
		return "", false
	}
	_, isAddr := parseAddr(host, "")
	return host, !isAddr
}

// Expanded is the expression of prefregex with the tags replaced, for people to look at;
// empty if there is none.
func (r *Rules) Expanded() string {
	if r.prefix == nil {
		return ""
	}
	return expandTags(r.config.Prefregex, r.dns == dnsIgnore)
}
