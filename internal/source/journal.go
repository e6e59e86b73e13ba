package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bantam"
)

// A journalSystem is where the host keeps its journal and what reads it.
type journalSystem struct {
	program string
	dirs    []string
}

var hostJournal = journalSystem{program: "journalctl", dirs: []string{"/var/log/journal", "/run/log/journal"}}

// present reports whether there is a journal for c to read, and a journalctl.
func (s journalSystem) present(c *Config) bool {
	if _, err := exec.LookPath(s.program); err != nil {
		return false
	}
	for _, p := range c.JournalFiles {
		if m, _ := filepath.Glob(p); len(m) > 0 {
			return true
		}
	}
	if c.JournalDir != "" {
		return holdsJournal(c.JournalDir)
	}
	return s.folder() != ""
}

// folder is the first of the system's folders that holds a journal, "" if none does.
func (s journalSystem) folder() string {
	for _, d := range s.dirs {
		if holdsJournal(d) {
			return d
		}
	}
	return ""
}

// holdsJournal reports whether there are journal files in dir, or in its folders
// for single machines.
func holdsJournal(dir string) bool {
	for _, p := range []string{"*.journal", "*/*.journal"} {
		if m, _ := filepath.Glob(filepath.Join(dir, p)); len(m) > 0 {
			return true
		}
	}
	return false
}

// A journalQuery is which entries of which journal to read. Jails of the same journal
// share a reader, and those with the same query a judge.
type journalQuery struct {
	options []string
	matches []string
}

func queryOf(c *Config) *journalQuery {
	q := &journalQuery{}
	if c.JournalDir != "" {
		q.options = append(q.options, "--directory="+c.JournalDir)
	}
	for _, p := range c.JournalFiles {
		q.options = append(q.options, "--file="+p)
	}
	if c.JournalNamespace != "" {
		q.options = append(q.options, "--namespace="+c.JournalNamespace)
	}
	for _, words := range c.JournalMatch {
		words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
		if len(words) == 0 {
			continue
		}
		if len(q.matches) > 0 {
			q.matches = append(q.matches, "+")
		}
		q.matches = append(q.matches, words...)
	}
	return q
}

func (q *journalQuery) key() string {
	return strings.Join(q.options, "\x00") + "\x00\x00" + q.match()
}

func (q *journalQuery) match() string { return strings.Join(q.matches, " ") }

// reader is the key of the process that reads for the query: one for each journal, but
// another for each query with the path of a program in it, which only journalctl can
// make matches of.
func (q *journalQuery) reader() string {
	if slices.ContainsFunc(q.matches, func(w string) bool { return w[0] == '/' }) {
		return q.key()
	}
	return strings.Join(q.options, "\x00")
}

// fits reports whether an entry is one of the query's: of the words between two "+"
// those of one field are alternatives, and different fields have to fit all
// (journalctl(1)).
func (q *journalQuery) fits(e *entry) bool {
	if len(q.matches) == 0 {
		return true
	}
	for rest := q.matches; len(rest) > 0; {
		end := slices.Index(rest, "+")
		group := rest
		if end >= 0 {
			group, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		if len(group) > 0 && fitsGroup(group, e) {
			return true
		}
	}
	return false
}

func fitsGroup(group []string, e *entry) bool {
	for _, word := range group {
		field, _, _ := strings.Cut(word, "=")
		if !slices.ContainsFunc(group, func(w string) bool {
			name, value, _ := strings.Cut(w, "=")
			return name == field && slices.ContainsFunc(e.fields, func(f entryField) bool {
				return f.name == name && string(f.value) == value
			})
		}) {
			return false
		}
	}
	return true
}

// A lane is the jails of a journal with one query. What it was handed is told apart from
// what the others were.
type lane struct {
	query  *journalQuery
	judge  Judge
	status Status // guarded by the journal's mu
}

// A gate is a position in a journal that is still to be passed.
type gate struct {
	cursor string
	at     int64 // __REALTIME_TIMESTAMP
	passed bool
}

// behind reports whether the entry lies behind the position. Entries are in order but
// their times are not always, as a clock may be set back: once the entry itself or a
// later time has come by, everything lies behind.
func (g *gate) behind(e *entry) bool {
	return g.passed || e.realtime > g.at && string(e.cursor) != g.cursor
}

// note takes down that the entry has come by.
func (g *gate) note(e *entry) {
	g.passed = g.passed || e.realtime > g.at || g.cursor != "" && string(e.cursor) == g.cursor
}

// A journalPlace is where one jail stands in a journal.
type journalPlace struct {
	plan
	since int64 // entries received earlier are not wanted; microseconds of wall time
	known gate  // up to here entries were read before the restart
	had   gate  // up to here failures have been passed on
}

// A journal reads the entries of all its lanes through one journalctl -f.
type journal struct {
	options []string // that choose the journal
	whole   bool     // matches are left to journalctl: there is one lane
	system  journalSystem
	timing  timing
	log     *slog.Logger

	wake     chan struct{} // holds one token
	assigned atomic.Pointer[assignment]

	mu     sync.Mutex // guards status, lanes and began
	status Status     // of all lanes together
	lanes  []*lane    // changed by assign only
	began  time.Time  // wall time at which journalctl was started

	// What follows belongs to the goroutine of run.
	out    chan<- bantam.Failure
	now    []*lane // that entries are handed to
	places map[string]*journalPlace
	since  int64 // where to begin; microseconds of wall time, 0: at cursor
	cursor string
	skip   gate  // up to here entries were handed on
	last   int64 // the last entry's __REALTIME_TIMESTAMP
	start  int64 // wall time from which on entries are live
	live   bool
	line   bantam.Line
	text   []byte
	found  []bantam.Failure
}

// journalQuiet is how long a journal that has nothing to say counts as read.
const journalQuiet = time.Second

func newJournal(q *journalQuery, sys journalSystem, t timing, log *slog.Logger) *journal {
	return &journal{
		options: q.options, whole: q.reader() == q.key() && len(q.matches) > 0,
		system: sys, timing: t, log: log, wake: make(chan struct{}, 1),
		status: Status{Name: Journal, Backend: Systemd, State: Starting},
	}
}

func (j *journal) assign(a *assignment) {
	j.mu.Lock()
	var lanes []*lane
	for _, asked := range a.lanes {
		l := &lane{query: asked.query}
		for _, was := range j.lanes {
			if was.query.key() == asked.query.key() {
				l.status = was.status
			}
		}
		l.judge, l.status.Jails, l.status.Match = asked.judge, asked.status.Jails, asked.query.match()
		lanes = append(lanes, l)
	}
	j.lanes = lanes
	j.mu.Unlock()
	a.lanes = lanes
	j.assigned.Store(a)
	wakeUp([]chan struct{}{j.wake})
}

// report is the status of each lane.
func (j *journal) report() []Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	// journalctl does not say when it has shown what there was; but then it is quiet.
	last := j.status.Last
	if j.began.After(last) {
		last = j.began
	}
	live := j.status.Live || j.status.State == Reading && time.Since(last) > journalQuiet
	var all []Status
	for _, l := range j.lanes {
		st := l.status
		st.Name, st.Backend, st.State, st.Live = j.status.Name, j.status.Backend, j.status.State, live
		st.Jails = slices.Clone(st.Jails)
		all = append(all, st)
	}
	return all
}

// matches are those of all lanes together, none if one of them has none.
func (j *journal) matches() (words []string) {
	for i, l := range j.now {
		if len(l.query.matches) == 0 {
			return nil
		}
		if i > 0 {
			words = append(words, "+")
		}
		words = append(words, l.query.matches...)
	}
	return words
}

// wanted are the fields that the lanes' matches ask for.
func (j *journal) wanted() map[string]bool {
	fields := make(map[string]bool)
	for _, l := range j.now {
		for _, word := range l.query.matches {
			if name, _, ok := strings.Cut(word, "="); ok && !j.whole {
				fields[name] = true
			}
		}
	}
	return fields
}

// run reads until ctx ends, and starts journalctl again when it ends: at once for a
// new assignment, else after a while.
func (j *journal) run(ctx context.Context, _ *watcher, out chan<- bantam.Failure) {
	j.out = out
	wait := j.timing.restart
	for ctx.Err() == nil {
		j.adopt()
		before := j.last
		j.skip.passed = j.skip.cursor == ""
		err := j.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if j.assigned.Load() != nil {
			continue
		}
		j.state(err)
		if j.last != before {
			wait = j.timing.restart
		} else if j.cursor != "" && j.since == 0 {
			// The entry of the cursor may be gone; its time is still good.
			j.since = j.last
			j.skip = gate{cursor: j.cursor, at: j.last}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-j.wake:
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, 60*j.timing.restart)
	}
}

// adopt takes up what was assigned last.
func (j *journal) adopt() {
	a := j.assigned.Swap(nil)
	if a == nil {
		return
	}
	now := time.Now()
	places := make(map[string]*journalPlace, len(a.plans))
	var from int64
	for _, pl := range a.plans {
		if p := j.places[pl.jail]; p != nil {
			places[pl.jail] = p
			continue
		}
		p := &journalPlace{plan: pl, known: gate{passed: true}, had: gate{passed: true}}
		since := now
		if pl.resumed {
			p.known = gate{cursor: pl.resume.Mark, at: pl.resume.Offset}
			since = time.UnixMicro(pl.resume.Offset)
			if t := pl.resume.Time; !t.IsZero() && t.Before(since) {
				since = t
			}
		}
		p.since = max(since.Add(-pl.findTime).UnixMicro(), 1)
		if from == 0 || p.since < from {
			from = p.since
		}
		places[pl.jail] = p
	}
	if from > 0 {
		for jail, p := range j.places {
			// Those that were there have had what is read again.
			if places[jail] != nil && j.cursor != "" {
				p.had = gate{cursor: j.cursor, at: j.last}
			}
		}
		if j.since == 0 || from < j.since {
			j.since = from
		}
		j.skip = gate{}
		j.start, j.live = now.UnixMicro(), false
	}
	j.now, j.places = a.lanes, places
}

// args is journalctl's command line. Without --no-tail it would begin ten entries
// before the end. The system's journal is named by its folder because journalctl
// otherwise follows the current boot alone, and what was logged between our position
// and a reboot counts.
func (j *journal) args() []string {
	fields := journalFields
	for _, name := range slices.Sorted(maps.Keys(j.wanted())) {
		if !slices.Contains(strings.Split(journalFields, ","), name) {
			fields += "," + name
		}
	}
	args := []string{"--output=export", "--output-fields=" + fields, "--follow", "--no-tail", "--no-pager", "--quiet"}
	if j.since > 0 || j.cursor == "" {
		args = append(args, "--since=@"+strconv.FormatInt(j.since/1e6, 10))
	} else {
		args = append(args, "--after-cursor="+j.cursor)
	}
	if folder := j.system.folder(); len(j.options) == 0 && folder != "" {
		args = append(args, "--directory="+folder)
	}
	args = append(args, j.options...)
	return append(append(args, "--"), j.matches()...)
}

// errEnded says that journalctl ended by itself without a complaint.
var errEnded = errors.New("journalctl ended")

// follow runs journalctl once and reads what it writes, until it ends, there is a new
// assignment, or ctx ends.
func (j *journal) follow(whole context.Context) error {
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	child, err := startChild(ctx, []string{"LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER="}, j.system.program, j.args()...)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s is not installed, and nothing else can read the journal", j.system.program)
	case err != nil:
		return fmt.Errorf("start %s: %w", j.system.program, err)
	}
	j.state(nil)
	quit := make(chan struct{})
	go func() {
		defer close(quit)
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-j.wake:
				if j.assigned.Load() != nil {
					cancel()
				}
			}
		}
	}()
	readErr := j.read(ctx, whole, child.stdout)
	cancelled := ctx.Err() != nil
	if readErr != nil {
		cancel() // the stream is of no use any more
	}
	waitErr := child.cmd.Wait()
	cancel()
	<-quit
	switch text := child.complaint.String(); {
	case cancelled:
		return nil
	case readErr != nil && !errors.Is(readErr, io.ErrUnexpectedEOF):
		return readErr
	case text != "":
		return fmt.Errorf("%s: %s", j.system.program, text)
	case waitErr != nil:
		return fmt.Errorf("%s: %w", j.system.program, waitErr)
	}
	return errEnded
}

// read hands on every entry that comes, until ctx ends; what was begun is handed on
// until whole ends. Nil means that the stream ended.
func (j *journal) read(ctx, whole context.Context, stdout io.Reader) error {
	x := newExportReader(stdout)
	e := entry{wanted: j.wanted()}
	for {
		if err := x.next(&e); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if e.realtime == 0 || len(e.cursor) == 0 {
			continue // not an entry that can be told from others
		}
		if !j.skip.behind(&e) {
			j.skip.note(&e)
			continue
		}
		if ctx.Err() != nil || !j.hand(whole, &e) {
			return nil
		}
		j.cursor, j.last, j.since = j.line.Position.Mark, e.realtime, 0
		j.skip = gate{passed: true}
	}
}

// hand gives one entry to the judge and passes on what it finds. It is false if ctx
// ended before all was taken.
func (j *journal) hand(ctx context.Context, e *entry) bool {
	now := time.Now()
	if !j.live && (e.realtime >= j.start || e.realtime >= now.Add(-time.Second).UnixMicro()) {
		j.live = true
	}
	j.text = e.line(j.text[:0])
	j.line = bantam.Line{
		Text:     j.text,
		Position: bantam.Position{Source: Journal, Mark: string(e.cursor), Offset: e.realtime},
		Time:     e.time(),
		Read:     now,
		Live:     j.live,
	}
	j.mu.Lock()
	j.status.Last = now
	j.status.Live = j.live
	j.mu.Unlock()
	for _, l := range j.now {
		if !j.whole && !l.query.fits(e) {
			continue
		}
		j.mu.Lock()
		l.status.Lines++
		l.status.Bytes += int64(len(j.text))
		l.status.Last = now
		j.mu.Unlock()
		if !j.judgeIn(ctx, l, e) {
			return false
		}
	}
	for _, p := range j.places {
		p.had.note(e)
		p.known.note(e)
	}
	return true
}

// judgeIn is hand for one lane.
func (j *journal) judgeIn(ctx context.Context, l *lane, e *entry) bool {
	j.found = l.judge.Judge(&j.line, j.found[:0])
	for i := range j.found {
		f := &j.found[i]
		p := j.places[f.Jail]
		if p == nil || e.realtime < p.since || !p.had.behind(e) {
			continue
		}
		f.Known = !p.known.behind(e)
		if !pass(ctx, j.out, f, &j.line) {
			return false
		}
	}
	return true
}

// state publishes what keeps the journal from being read, or that nothing does.
func (j *journal) state(err error) {
	state := Reading
	if err != nil {
		state = err.Error()
	}
	changed := j.status.become(state, &j.mu)
	if state == Reading {
		j.mu.Lock()
		j.began = time.Now()
		j.mu.Unlock()
	}
	switch {
	case !changed:
	case err != nil:
		j.log.Warn("journal cannot be read", "match", strings.Join(j.matches(), " "), "err", err)
	default:
		j.log.Info("journal is read", "match", strings.Join(j.matches(), " "))
	}
}
