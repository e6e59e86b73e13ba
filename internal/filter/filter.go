// Package filter judges a line for all jails of its source: it finds the line's
// date, applies each jail's expressions to the rest, puts together what several
// lines of one session say, and names who failed.
//
// It promises that the same lines give the same failures: all it keeps is what its
// lines told it, its only clock is the time at which a line was read, and it does
// no I/O. Whatever a line holds, judging it costs time linear in its length for each
// expression and a bounded amount of memory, and never panics.
//
// It leaves to others: reading lines, resolving host names, who is to be ignored,
// whether a failure is too old to count, and counting.
//
// Expressions are Python's, with Fail2Ban's tags in them (detection.md 4). One that takes
// too many steps in a line, as some with back-references can be made to, is no match
// there; Rules.Faults counts how often.
package filter

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"bantam"
	"bantam/internal/jsonline"
	"bantam/internal/timestamp"
	"bantam/pyre"
)

// A Config is one jail's filter, with every option already substituted.
type Config struct {
	Jail string
	Name string // the filter's name, for messages
	// Prefregex is empty or an expression that must match before any other.
	Prefregex string
	// Failregex and Ignoreregex are Python expressions with Fail2Ban's tags
	// (<HOST>, <F-USER>…) still in them, in their order.
	Failregex, Ignoreregex []string
	// JSON are the fields of JSON lines that are judged, in this order; none judges lines as they stand.
	JSON []string
	// DatePattern are Fail2Ban's date patterns; none means the default templates.
	DatePattern []string
	// MaxLines is Fail2Ban's maxlines; 0 and 1 judge each line alone.
	MaxLines int
	// UseDNS is yes, warn, no or raw: whether host names count. Empty is warn.
	UseDNS string
	// LogTimezone is the zone of stamps without one, or empty for local time.
	LogTimezone string
	// LogEncoding is empty or "auto" for UTF-8, else a name of Python's codecs.
	LogEncoding string
	// Local is the zone that counts as local time; nil is time.Local.
	Local *time.Location
}

// Rules are a Config made ready. They do not change, but for the counts of Faults and
// Stamps, and may be shared.
type Rules struct {
	config Config
	dns    dnsMode
	decode decoder
	fields jsonline.Fields     // nil for lines as they stand
	dates  *timestamp.Detector // to be copied

	prefix       *rule
	fail, ignore []*rule
	names        []string // of the fields
	stamps       *stamps
	// early is whether ignoreregex is searched before anything else, too. The
	// odd condition is Fail2Ban's: it weighs one search against the many it saves.
	early bool
}

// A rule is one expression.
type rule struct {
	re       *pyre.Regexp
	option   string        // where it stands: "prefregex", "failregex 3"
	overruns atomic.Uint64 // searches that used up their budget
	misses   atomic.Uint64 // matches that the set had excluded or the tracer found otherwise

	names    []string  // of its groups by index, "" for one without a name
	captures []capture // its groups with names
	content  int       // the index of <F-CONTENT>, or -1
	alts     []pair    // the <F-ALT_…> and <F-TUPLE_…> of it and the prefregex
	tuples   []pair
}

// A capture is a group whose text is a field.
type capture struct{ group, field int }

// dnsMode is what becomes of a captured host name.
type dnsMode uint8

const (
	dnsResolve dnsMode = iota // it is handed on to be resolved
	dnsIgnore                 // it is nobody
	dnsRaw                    // the name itself is counted
)

// Compile checks a filter and makes it ready. The error joins everything that is
// wrong with it, each with the option and the number of the expression, from 1 on.
func Compile(c Config) (*Rules, error) {
	r := &Rules{config: c, stamps: &stamps{}}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	switch strings.ToLower(strings.TrimSpace(c.UseDNS)) {
	case "", "warn", "yes":
	case "no":
		r.dns = dnsIgnore
	case "raw":
		r.dns = dnsRaw
	default:
		fail("usedns: %q is none of yes, warn, no, raw", c.UseDNS)
	}
	var err error
	if r.decode, err = newDecoder(c.LogEncoding); err != nil {
		fail("logencoding: %w", err)
	}
	if len(c.JSON) > 0 {
		if r.fields, err = jsonline.ParseFields(c.JSON); err != nil {
			fail("json: %w", err)
		}
	}
	if r.dates, err = timestamp.New(c.DatePattern, timestamp.Options{Zone: c.LogTimezone, Local: c.Local}); err != nil {
		errs = append(errs, err)
	}

	compile := func(option, expr string, flags pyre.Flags) *rule {
		rule, err := r.compile(option, expr, flags)
		if err != nil {
			fail("%s: %w: in %q", option, err, expr)
			return nil
		}
		return rule
	}
	identified := false
	if c.Prefregex != "" {
		if r.prefix = compile("prefregex", c.Prefregex, 0); r.prefix != nil {
			identified = r.prefix.identifies()
		}
	}
	var flags pyre.Flags
	if c.MaxLines > 1 {
		flags = pyre.Multiline // for these only (detection.md 4.2)
	}
	for i, expr := range c.Failregex {
		option := fmt.Sprintf("failregex %d", i+1)
		rule := compile(option, expr, flags)
		if rule != nil && !identified && !rule.identifies() {
			fail("%s: nothing in it says who failed: it needs <HOST>, <ADDR>, <F-ID> or <F-MLFID>: in %q", option, expr)
		}
		r.fail = append(r.fail, rule)
	}
	for i, expr := range c.Ignoreregex {
		r.ignore = append(r.ignore, compile(fmt.Sprintf("ignoreregex %d", i+1), expr, 0))
	}
	for _, rule := range r.fail {
		if rule != nil {
			rule.alts = append(r.feeds("alt_", r.prefix), r.feeds("alt_", rule)...)
			slices.SortFunc(rule.alts, r.byName)
			rule.tuples = append(r.feeds("tuple_", r.prefix), r.feeds("tuple_", rule)...)
		}
	}
	if len(r.names) > maxFields {
		fail("the groups have more than %d different names", maxFields-knownFields)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.early = len(r.ignore) > 0 && len(r.ignore) < len(r.fail)-2
	return r, nil
}

// Jail is the name of the jail the rules are for.
func (r *Rules) Jail() string { return r.config.Jail }

// A Fault tells of an expression that could not be trusted in some lines since Compile.
type Fault struct {
	Option string // where the expression stands: "prefregex", "failregex 3"
	// Overruns are the searches that took too many steps and count as no match.
	Overruns uint64
	// Misses are the matches, among the lines judged as a sample, that a quicker way had
	// excluded: an error in Bantam, by which other matches are lost.
	Misses uint64
}

// Faults are the expressions with any. It may be called at any time by any goroutine.
func (r *Rules) Faults() []Fault {
	var out []Fault
	for rule := range r.all() {
		if f := (Fault{rule.option, rule.overruns.Load(), rule.misses.Load()}); f.Overruns+f.Misses > 0 {
			out = append(out, f)
		}
	}
	return out
}

// A Doubt tells of an expression that cannot match any line, and why.
type Doubt struct{ Option, Why string }

// Doubts are the expressions that are there in vain; for a filter of several lines
// together nobody can tell.
func (r *Rules) Doubts() []Doubt {
	if r.config.MaxLines > 1 {
		return nil
	}
	var out []Doubt
	for rule := range r.all() {
		if why := rule.re.Futile(); why != "" {
			out = append(out, Doubt{rule.option, why})
		}
	}
	return out
}

// Doubts are those of a filter that Compile refuses: its other expressions may be in vain.
func Doubts(c Config) []Doubt {
	r := &Rules{config: c}
	keep := func(to *[]*rule, option string, exprs ...string) {
		for i, expr := range exprs {
			if rule, err := r.compile(fmt.Sprintf("%s %d", option, i+1), expr, 0); err == nil {
				*to = append(*to, rule)
			}
		}
	}
	keep(&r.fail, "failregex", c.Failregex...)
	keep(&r.ignore, "ignoreregex", c.Ignoreregex...)
	return r.Doubts()
}

// all are the expressions in the order in which they are written.
func (r *Rules) all() iter.Seq[*rule] {
	return func(yield func(*rule) bool) {
		if r.prefix != nil && !yield(r.prefix) {
			return
		}
		for _, rules := range [...][]*rule{r.fail, r.ignore} {
			for _, rule := range rules {
				if !yield(rule) {
					return
				}
			}
		}
	}
}

func (r *Rules) compile(option, expr string, flags pyre.Flags) (*rule, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, errors.New("the expression is empty")
	}
	expanded := scopeFlags(expandTags(expr, r.dns == dnsIgnore))
	re, err := pyre.Compile(expanded, flags)
	if err != nil {
		return nil, wrong(expanded, err)
	}
	out := &rule{re: re, option: option, names: re.Groups()}
	out.content = slices.Index(out.names, "content")
	for i, name := range out.names {
		if name != "" {
			out.captures = append(out.captures, capture{i, r.field(name)})
		}
	}
	return out, nil
}

// wrong is pyre's error with the place as text, for its position is one in the expression
// without tags, which nobody wrote.
func wrong(expanded string, err error) error {
	var at *pyre.Error
	if !errors.As(err, &at) || at.Pos < 0 || at.Pos > len(expanded) {
		return err
	}
	if at.Pos == len(expanded) {
		return fmt.Errorf("%s at the end", at.Text)
	}
	const enough = 20
	rest := []rune(expanded[at.Pos:])
	if len(rest) > enough {
		return fmt.Errorf("%s at %q", at.Text, string(rest[:enough])+"…")
	}
	return fmt.Errorf("%s at %q", at.Text, string(rest))
}

// find searches text, which ends with a line end. It appends the start and end of each
// group to spans, -1 for one that took no part; nil means no match.
func (r *rule) find(text []byte, spans []int) []int {
	spans, err := r.re.Search(text, spans)
	if err != nil { // pyre.ErrBudget, its only one
		r.overruns.Add(1)
		return nil
	}
	return spans
}

// identifies reports whether a group says who failed.
func (r *rule) identifies() bool {
	return slices.ContainsFunc(r.names, func(name string) bool {
		switch name {
		case "fid", "ip4", "ip6", "dns", "mlfid":
			return true
		}
		return false
	})
}

// A Filter is the judge for all jails of one source. It is not safe for concurrent
// use; it belongs to the source that calls it.
type Filter struct {
	views []*view
	jails int
}

// A view is how a line looks to the jails that agree about its date and encoding:
// for them it is decoded, dated and cut only once.
type view struct {
	key      string
	detector *timestamp.Detector
	peek     *timestamp.Detector // Filter.Time's own: looking ahead teaches nothing
	decode   decoder
	fields   jsonline.Fields
	local    *time.Location
	jails    []*judge
	// written is whether a stamp counts as it is written, whatever the clock says.
	written  bool
	prefixes bool // prefregex is tried even if nothing behind it can match
	several  bool // a jail judges several lines together
	brief    bool // what was logged is not kept
	dated    bool // the line at hand bears a date
	raw      bool // it was not looked at whether it needs decoding

	last time.Time // event time of the last line that had one

	// What might match is found by one automaton over the expressions of all jails,
	// which is made when the first line comes.
	set   *pyre.Set
	refs  [][]ref // what the set's rules are
	may   []int   // rules of the set that might match the line at hand
	lines int     // to the next sample

	decoded     []byte    // scratch of decode
	halves      [2][]byte // scratch of it, too
	flat        []byte    // scratch of fields
	line        []byte    // the line at hand as UTF-8
	left, right []byte    // what is before and behind its date
	text        []byte    // scratch: both, and a line end
}

// A judge is one jail's rules with the sessions they are in the middle of.
type judge struct {
	*Rules
	place       int // among the rules of the source
	sessions    sessions
	recent      recent // if it judges several lines together
	content     []byte // scratch
	ignorable   []byte // scratch
	spans       []int  // scratch
	prefixSpans []int  // scratch
	base        fields // scratch

	tracers []tracer // by failregex

	called  bool  // to look at the line at hand
	sampled bool  // without tracers
	likely  []int // the failregexes, by index, that might match it
	may     []int // those to be tried: the likely ones, or all
	all     []int

	every     bool    // also the expressions behind the first that matches
	found     []match // in the line at hand
	ignoredBy int     // the ignoreregex that matched it, from 1 on; 0 for none
	prefixed  bool    // prefregex matched it
}

// A tracer is one of a failregex, made when that first may match; nil if it cannot be.
type tracer struct {
	*pyre.Tracer
	made bool
}

// New makes the judge of one source.
func New(rules ...*Rules) *Filter {
	f := &Filter{jails: len(rules)}
	for place, r := range rules {
		c := r.config
		local := c.Local
		if local == nil {
			local = time.Local
		}
		key := fmt.Sprintf("%q %q %q %p %q", c.DatePattern, c.LogTimezone, strings.ToLower(c.LogEncoding), local, c.JSON)
		i := slices.IndexFunc(f.views, func(v *view) bool { return v.key == key })
		if i < 0 {
			v := &view{key: key, decode: r.decode, fields: r.fields, local: local, detector: r.dates.Copy(), peek: r.dates.Copy()}
			i, f.views = len(f.views), append(f.views, v)
		}
		f.views[i].several = f.views[i].several || c.MaxLines > 1
		f.views[i].jails = append(f.views[i].jails, &judge{Rules: r, place: place, recent: recent{max: c.MaxLines}})
	}
	return f
}

// Time is the event time written in a line that is not to be judged, as a source
// needs it to find where to begin; now stands in for what the date leaves out.
// It is false for a line without a date.
func (f *Filter) Time(text []byte, now time.Time) (time.Time, bool) {
	for _, v := range f.views {
		text := v.read(text)
		if m, ok := v.peek.Find(text, now); ok && !m.Time.IsZero() {
			return m.Time, true
		}
	}
	return time.Time{}, false
}

// Judge appends to out what the line proves, in the order of the jails: nothing for
// most lines, a Failure per jail that it concerns. Position and Known are left to
// the source. Nothing of the result refers to line.Text.
//
// Whether a failure is older than the jail's findtime is not asked here.
func (f *Filter) Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure {
	for _, v := range f.views {
		at := v.look(line)
		if !v.call() {
			continue
		}
		for _, j := range v.jails {
			if j.called {
				out = j.judge(v, line, at, out)
			}
		}
	}
	return out
}

// A live line whose stamp differs from the clock by more than clockSkew is taken to
// be written now: its stamp is in another zone, or its writer's clock is wrong. An
// undated line that follows a dated one within clockSkew belongs to it.
const clockSkew = time.Minute

// read is the text of a line that is judged, valid until the next call.
func (v *view) read(line []byte) []byte {
	v.raw = false
	text := v.decode.decode(line, &v.decoded)
	if v.fields != nil {
		v.flat = v.fields.Flatten(text, v.flat[:0])
		return v.flat
	}
	return text
}

// look decodes and dates the line and cuts out the date. The time returned is zero
// if the line cannot be placed: then it feeds sessions but makes no failure.
func (v *view) look(line *bantam.Line) (at time.Time) {
	if !line.Time.IsZero() {
		return v.lookAtText(line)
	}
	if v.decode == nil && v.fields == nil {
		if at, start, end := v.detector.Again(line.Text, line.Read); at != nil {
			v.raw, v.line, v.left, v.right = true, line.Text, line.Text[:start], line.Text[end:]
			return v.place(line, *at)
		}
		if v.detector.Undated(line.Text) {
			v.raw, v.line, v.left, v.right = true, line.Text, nil, line.Text
			return v.undated(line, false)
		}
	}
	text := v.read(line.Text)
	m, ok := v.detector.Find(text, line.Read)
	v.line, v.left, v.right = text, text[:m.Start], text[m.End:]
	if m.Time.IsZero() {
		return v.undated(line, ok && m.Start == m.End)
	}
	return v.place(line, m.Time)
}

// lookAtText is look for a line whose time the source knows.
func (v *view) lookAtText(line *bantam.Line) (at time.Time) {
	text := v.read(line.Text)
	start, end := 0, 0
	if v.fields != nil {
		// What expressions see of an object is the same wherever it was logged: its date is cut out.
		if m, ok := v.detector.Find(text, line.Read); ok {
			start, end = m.Start, m.End
		}
	}
	v.line, v.left, v.right = text, text[:start], text[end:]
	return v.past(line, line.Time)
}

// place is the time of a line that bears the date at.
func (v *view) place(line *bantam.Line, at time.Time) time.Time {
	if line.Live && !v.written {
		if skew := at.Sub(line.Read); skew.Abs() > clockSkew {
			v.skewed(skew)
			at = line.Read
		}
	}
	v.last, v.dated = at, true
	return v.past(line, at)
}

// past is at, or when the line was read if that was before.
func (v *view) past(line *bantam.Line, at time.Time) time.Time {
	if !v.written && at.After(line.Read) {
		return line.Read
	}
	return at
}

// settle decodes a line that was judged raw. Behind the date and before it are characters of their own.
func (v *view) settle() (changed bool) {
	if v.raw = false; isPlain(v.line) {
		return false
	}
	v.left, v.right = v.decode.decode(v.left, &v.halves[0]), v.decode.decode(v.right, &v.halves[1])
	v.line = v.decode.decode(v.line, &v.decoded)
	return true
}

// undated is the time of a line without a date, or with one that cannot be; optional is whether it needs none.
func (v *view) undated(line *bantam.Line, optional bool) time.Time {
	if !optional && !v.written {
		for _, j := range v.jails {
			j.stamps.undated.Add(1)
		}
	}
	switch recent := !v.last.IsZero() && line.Read.Sub(v.last) < clockSkew; {
	// While catching up, a line without a date stands where its forerunner
	// stands, however long ago that was.
	case recent, !line.Live && !v.last.IsZero() && !v.written:
		return v.past(line, v.last)
	case optional, line.Live:
		return line.Read
	}
	return time.Time{}
}

// judge applies one jail's rules to the line as v sees it.
func (j *judge) judge(v *view, line *bantam.Line, at time.Time, out []bantam.Failure) []bantam.Failure {
	j.match(v, line)
	for i := range j.found {
		m := &j.found[i]
		if m.quiet || at.IsZero() {
			continue
		}
		out = j.failure(&m.data, bantam.Failure{
			Jail: j.config.Jail, Time: at, Read: line.Read, Lines: slices.Clone(m.lines), Regex: m.regex,
		}, out)
	}
	return out
}

// A match is what one failregex made of a line. It is valid until the next line.
type match struct {
	regex int      // from 1 on
	data  fields   // with what the line's session knows
	lines []string // as logged, oldest first
	quiet bool     // no failure, or not yet one
	waits bool     // not yet one
}

// match fills j.found with the first failregex that matches the line, or with every one if
// that is wanted. Only those in j.may are tried.
func (j *judge) match(v *view, line *bantam.Line) {
	text, several := v.text, j.config.MaxLines > 1
	j.found, j.ignoredBy, j.prefixed = j.found[:0], 0, false
	if len(j.sessions.done) > 0 {
		j.sessions.next()
	}
	if several {
		text = j.recent.add(text, v.logged(line))
	}
	if j.early && j.ignored(text) {
		return
	}
	whole, offset := text, 0 // where text begins in whole
	cut := j.prefix == nil   // text is what the prefregex leaves of whole
	search := func() bool {
		spans := j.prefix.find(whole, j.prefixSpans[:0])
		if spans == nil {
			return false
		}
		j.prefixSpans, j.prefixed, cut = spans, true, true
		text, offset = j.cutContent(whole, spans)
		return true
	}
	if !cut && (v.prefixes || several || j.sampled || j.prefix.content < 0) && !search() {
		return
	}
	j.base.has = 0 // what prefregex captured, once a failregex matched
	for _, i := range j.may {
		rule := j.fail[i]
		outer, spans, told := j.trace(i, whole)
		switch {
		case told && spans == nil:
			continue
		case told && !cut:
			j.prefixSpans, j.prefixed, cut = outer, true, true
			text, offset = j.cutContent(whole, outer)
		case !told && !cut && !search():
			return
		}
		if !told {
			if spans = rule.find(text, j.spans[:0]); spans == nil {
				continue
			}
		}
		j.spans = spans
		if !several && !slices.Contains(j.likely, i) || j.sampled && !j.sameTraced(i, whole, spans) {
			rule.misses.Add(1)
		}
		if j.prefix != nil && j.base.has == 0 {
			j.base.add(j.prefix, whole, j.prefixSpans)
			if several {
				j.base = kept(&j.base) // for the lines that are left will take their place
			}
		}
		m := j.next()
		m.regex = i + 1
		m.data.setAll(&j.base)
		m.data.add(rule, text, spans)
		if several {
			m.data = kept(&m.data)
		}
		if several {
			taken := j.recent.take(rule.names, spans, offset)
			j.ignorable = j.ignorable[:0]
			for _, l := range taken {
				j.ignorable = append(j.ignorable, l.text...)
				m.lines = append(m.lines, l.logged)
			}
			if j.ignored(j.ignorable) {
				return
			}
			text, offset = j.recent.join(), 0 // what is left, for those that come
			whole = text
		} else {
			if j.ignored(text) {
				return
			}
			if !v.brief {
				m.lines = append(m.lines, v.logged(line))
			}
		}
		m.data.alternatives(rule.alts)
		if len(rule.tuples) > 0 {
			m.data.tuples(rule.tuples)
		}
		session := m.data.has&(1<<fieldMLFID) != 0
		if !session && !m.data.identified() {
			continue // an optional group did not take part: the next may know who it was
		}
		if session {
			m.quiet = !j.sessions.merge(m, line.Read)
		}
		if j.found = j.found[:len(j.found)+1]; !j.every {
			return
		}
	}
}

// trace searches a line for failregex i and, before that, the prefregex by the tracer of
// both; told is false if there is none or it cannot tell.
func (j *judge) trace(i int, text []byte) (outer, spans []int, told bool) {
	t := j.tracer(i)
	if t == nil || j.sampled {
		return nil, nil, false
	}
	return t.Search(text, j.prefixSpans[:0], j.spans[:0])
}

// sameTraced reports whether the tracer of failregex i, if it can tell, finds the same.
func (j *judge) sameTraced(i int, text []byte, spans []int) bool {
	t := j.tracer(i)
	if t == nil {
		return true
	}
	_, traced, told := t.Search(text, nil, nil)
	return !told || slices.Equal(traced, spans)
}

// tracer is that of failregex i, nil if there is none.
func (j *judge) tracer(i int) *pyre.Tracer {
	if j.config.MaxLines > 1 {
		return nil
	}
	if j.tracers == nil {
		j.tracers = make([]tracer, len(j.fail))
	}
	t := &j.tracers[i]
	if !t.made {
		t.made = true
		t.Tracer = pyre.NewTracer(j.rule(i))
	}
	return t.Tracer
}

// rule is failregex i, searched for in what the prefregex leaves.
func (j *judge) rule(i int) pyre.Rule {
	rule := pyre.Rule{Regexp: j.fail[i].re}
	if j.prefix != nil && j.prefix.content >= 0 {
		rule.Within, rule.Group = j.prefix.re, j.prefix.content
	}
	return rule
}

// next is the match behind those found, not yet one of them.
func (j *judge) next() *match {
	n := len(j.found)
	if n == cap(j.found) {
		j.found = slices.Grow(j.found, 1)
		clear(j.found[n:cap(j.found)])
	}
	m := &j.found[:n+1][n]
	m.data.has, m.lines, m.quiet, m.waits = 0, m.lines[:0], false, false
	return m
}

// cutContent is what the prefregex leaves of text, with a line end, and where in text
// that begins: its <F-CONTENT>, or all of it if that is empty.
func (j *judge) cutContent(text []byte, spans []int) (content []byte, offset int) {
	i := j.prefix.content
	if i < 0 || spans[2*i] >= spans[2*i+1] {
		return text, 0
	}
	start, end := spans[2*i], spans[2*i+1]
	if end < len(text) && text[end] == '\n' {
		return text[start : end+1], start
	}
	j.content = append(append(j.content[:0], text[start:end]...), '\n')
	return j.content, start
}

func (j *judge) ignored(text []byte) bool {
	for i, rule := range j.ignore {
		if spans := rule.find(text, j.spans[:0]); spans != nil {
			j.spans, j.ignoredBy = spans, i+1
			return true
		}
	}
	return false
}

// maxLogged is how much of a line is kept with a failure. What a service writes
// about one attempt is far shorter; what is longer is somebody's attack on memory.
const maxLogged = 8 << 10

// logged is the line as it is kept with a failure. A line of the journal has its
// time written before it, as those of files have.
func (v *view) logged(line *bantam.Line) string {
	text := v.line
	if v.fields != nil {
		text = v.decode.decode(line.Text, &v.decoded) // people know it as it stands
	}
	if len(text) > maxLogged {
		text = bytes.ToValidUTF8(text[:maxLogged], nil)
	}
	if !line.Time.IsZero() {
		return line.Time.In(v.local).Format("2006-01-02T15:04:05.999999") + " " + string(text)
	}
	return string(text)
}
