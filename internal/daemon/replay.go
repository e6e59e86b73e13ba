package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/machine"
	"bantam/internal/source"
)

// ReplayOptions say what to replay.
type ReplayOptions struct {
	// Config is the folder of the configuration, "" for the library alone.
	Config  string
	Library fs.FS
	// Jails are the jails to replay; none means all that are enabled.
	Jails []string
	// Logs are the files of one log, read in place of the jails' own; "-" is standard
	// input. None means what the jails' logpath and journalmatch name, with all that
	// rotation has left of it.
	Logs []string
	// DNS has host names asked for, of today's DNS. Without it failures that bear only
	// a name count for nobody, and names in ignoreip protect nobody.
	DNS bool
	// From, if not zero, leaves out logs that nobody has written to since, and failures, bans and logins before it.
	From time.Time
	// Most, if not 0, is how many bytes of each file are read, those at its end.
	Most int64
	// Until, if not zero, is the wall time at which logs are left where they are.
	Until time.Time
	// Progress, if not nil, is told now and then how many bytes of how many were read,
	// as the files lie there, and how many lines. It may be called by several goroutines
	// at once.
	Progress func(read, size, lines int64)
}

// A Replay is what a configuration would have done.
type Replay struct {
	Config string      `json:"config"`
	Logs   []ReplayLog `json:"logs"`
	// Bans are in the order in which they would have been decided.
	Bans []ReplayBan `json:"bans"`
	// Jails are in the order of the configuration, Totals in figures.
	Jails []ReplayJail `json:"jails"`
	Lines int64        `json:"lines"`
	// From and To are the event times of the first and last failure.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Logins are how many successful logins were seen, Hits those of an address that
	// would have been banned then.
	Logins int          `json:"logins"`
	Hits   []ReplayHit  `json:"hits"`
	Aside  []ReplayGone `json:"aside,omitempty"`
	// Unresolved are failures that bore only a host name.
	Unresolved int `json:"unresolved,omitempty"`
	// Problems are what kept logs from being read to their ends.
	Problems []string `json:"problems,omitempty"`
}

// A ReplayLog is one log that was read.
type ReplayLog struct {
	Name  string   `json:"name"`
	Jails []string `json:"jails"`
	Files []string `json:"files,omitempty"` // oldest first
	Lines int64    `json:"lines"`
}

// A ReplayBan is a ban that would have been. Its End is that of its last prolongation,
// zero for never.
type ReplayBan struct {
	Jail      string    `json:"jail"`
	ID        bantam.ID `json:"id"`
	Time      time.Time `json:"time"`
	End       time.Time `json:"end,omitzero"`
	Failures  int       `json:"failures"`
	Count     int       `json:"count"`
	Prolonged int       `json:"prolonged,omitempty"`
	// Held is why it would have been held back, empty if it would not.
	Held string `json:"held,omitempty"`
}

// A ReplayJail is one jail in figures.
type ReplayJail struct {
	Jail      string `json:"jail"`
	Failures  uint64 `json:"failures"`
	Ignored   uint64 `json:"ignored"`
	Bans      int    `json:"bans"`           // those that are held back left out
	Held      int    `json:"held,omitempty"` // bans that would have been held back
	Offenders int    `json:"offenders"`      // different ones that were banned
	Logs      int    `json:"logs"`           // that it has read
	Observe   bool   `json:"observe,omitempty"`
}

// A ReplayHit is a successful login from an address while it would have been banned.
type ReplayHit struct {
	Jail string    `json:"jail"` // that would have banned it
	ID   bantam.ID `json:"id"`   // that would have been banned
	Addr bantam.ID `json:"addr"`
	Time time.Time `json:"time"`
	User string    `json:"user"` // as logged; attacker's text
}

// A ReplayGone is a jail that could not be replayed.
type ReplayGone struct {
	Jail string `json:"jail"`
	Err  string `json:"error"`
}

// RunReplay runs a configuration over old logs: the filters, ignore rules and jails of
// the daemon, each line read at the time it bears. Nothing is written, banned or sent,
// and no running daemon is asked: its allow list, and bans made by hand, are not known.
// The same logs give the same answer, but for what DNS says, and but for the random
// part of bantime.rndtime, which is drawn otherwise than the daemon's.
//
// Logs are read side by side, each in the order of its dates; their failures meet in
// the order of their times. A line of a banned address counts, as it does in the
// daemon: the logs do not know that it would not have been written.
func RunReplay(ctx context.Context, o ReplayOptions) (*Replay, error) {
	r, err := newReplay(o)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range r.tapes {
		g.Go(func() error { return t.run(ctx, r) })
	}
	g.Go(func() error { return r.merge(ctx) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r.result(), nil
}

// replay is one run of RunReplay.
type replay struct {
	ReplayOptions
	out    Replay
	state  *jail.State
	logins jail.Logins // by sshd, so far
	may    machine.Administrators
	jails  []jail.Config
	lookup *lookup.Lookup
	names  map[string][]bantam.ID // host names that were asked for
	tapes  []*tape
	size   int64

	figures map[string]*ReplayJail
	banned  map[banKey]int // running bans, as indexes into out.Bans
	known   map[banKey]bool
}

// maxNames bounds how many host names are asked for and remembered.
const maxNames = 10_000

func newReplay(o ReplayOptions) (*replay, error) {
	cfg, err := config.Load(o.Config, o.Library)
	if err != nil {
		return nil, err
	}
	r := &replay{
		ReplayOptions: o, state: jail.NewState(), names: map[string][]bantam.ID{},
		figures: map[string]*ReplayJail{}, banned: map[banKey]int{}, known: map[banKey]bool{},
	}
	r.out = Replay{Config: cfg.Dir, Bans: []ReplayBan{}, Hits: []ReplayHit{}, Logs: []ReplayLog{}}
	known := map[string]bool{}
	plan := plan{compiled: map[string]*compiled{}}
	filters := map[string]*filter.Rules{}
	configs := map[string]filter.Config{}
	var ignore []*lookup.Rules
	var sources []source.Config
	for _, c := range cfg.Jails {
		known[c.Name] = true
		if len(o.Jails) > 0 && !slices.Contains(o.Jails, c.Name) {
			continue
		}
		rules, more, err := replayable(&plan, &c)
		if err != nil {
			r.out.Aside = append(r.out.Aside, ReplayGone{c.Name, err.Error()})
			continue
		}
		filters[c.Name], configs[c.Name] = rules, c.Filter
		ignore = append(ignore, more)
		sources = append(sources, c.Source)
		r.jails = append(r.jails, c.Jail)
		r.figures[c.Name] = &ReplayJail{Jail: c.Name, Observe: c.Jail.Observe}
	}
	for _, name := range o.Jails {
		if !known[name] {
			return nil, fmt.Errorf("there is no jail %q that is enabled; there is %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	if len(r.jails) == 0 {
		var errs []error
		for _, a := range r.out.Aside {
			errs = append(errs, fmt.Errorf("[%s] %s", a.Jail, a.Err))
		}
		if len(errs) == 0 {
			errs = []error{errors.New("none is enabled")}
		}
		return nil, fmt.Errorf("no jail can be replayed:\n%w", errors.Join(errs...))
	}
	r.state.Configure(r.jails, time.Time{})
	r.state.Seed([]byte("replay"))
	r.state.UseLogins(&r.logins)
	r.may, _ = machine.Machine{}.Administrators() // everybody if that cannot be known
	var resolver lookup.Resolver = noResolver{}
	if o.DNS {
		resolver = net.DefaultResolver
	}
	r.lookup = lookup.New(slog.New(slog.DiscardHandler), resolver)
	r.lookup.UsePlaces(geo.Open(slog.New(slog.DiscardHandler), cfg.Daemon.GeoDB))
	r.lookup.Configure(ignore...)
	if err := r.open(sources, filters, configs); err != nil {
		return nil, err
	}
	return r, nil
}

// replayable makes a jail's filter and ignore rules ready. What is wrong with its actions
// does not matter here.
func replayable(p *plan, c *config.Jail) (*filter.Rules, *lookup.Rules, error) {
	if c.Err != nil {
		return nil, nil, c.Err
	}
	if err := c.Jail.Validate(); err != nil {
		return nil, nil, err
	}
	made := p.compile(c.Filter)
	if made.err != nil {
		return nil, nil, made.err
	}
	ignore, err := lookup.Compile(c.Lookup)
	if err != nil {
		return nil, nil, err
	}
	return made.rules.For(c.Name), ignore, nil
}

// noResolver knows no name.
type noResolver struct{}

func (noResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "names are not asked for", Name: host, IsNotFound: true}
}

// open finds the logs and makes a tape of each.
func (r *replay) open(sources []source.Config, filters map[string]*filter.Rules, configs map[string]filter.Config) error {
	var pasts []*source.Past
	var err error
	if len(r.Logs) > 0 {
		var names []string
		envelope := ""
		for _, c := range sources {
			names = append(names, c.Jail)
			envelope = cmp.Or(envelope, c.Envelope)
		}
		var p *source.Past
		p, err = source.PastOf(r.Logs, names, envelope)
		pasts = append(pasts, p)
	} else {
		pasts, err = source.Pasts(sources, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return err
	}
	if len(pasts) == 0 {
		return errors.New("there is no log to replay: none of the files that the jails read is there")
	}
	for _, p := range pasts {
		if !r.From.IsZero() || r.Most > 0 {
			p.Recent(r.From, cmp.Or(r.Most, math.MaxInt64))
		}
		t := &tape{past: p, from: r.From, batches: make(chan []event, 4)}
		// Jails that agree about how a date is read share a judge: each line is read
		// at the one time that it bears to them.
		byDates := map[string][]*filter.Rules{}
		for _, name := range p.Jails {
			c := configs[name]
			key := fmt.Sprintf("%q %q %q", c.DatePattern, c.LogTimezone, c.LogEncoding)
			byDates[key] = append(byDates[key], filters[name])
		}
		for _, key := range slices.Sorted(maps.Keys(byDates)) {
			t.judges = append(t.judges, &clocked{judge: filter.New(byDates[key]...)})
		}
		r.tapes = append(r.tapes, t)
		r.size += p.Size()
	}
	return nil
}

// A tape is one log on its way through the filters of its jails.
type tape struct {
	past    *source.Past
	from    time.Time // events before it are left out
	judges  []*clocked
	batches chan []event // closed at the end; in the order of clock
	batch   []event
	lines   int64
	problem error // why it was not read to its end

	head []event // what merge has taken and not used
}

// clocked is a judge with the clock of its log.
type clocked struct {
	judge source.Judge
	now   time.Time // event time of the last dated line
	found []bantam.Failure
}

// An event is a failure or a successful login, and when it comes about: the latest event
// time in its log so far.
type event struct {
	clock   time.Time
	failure bantam.Failure
	login   *login
}

// batchSize is how many events travel together.
const batchSize = 256

// run reads the log and sends its events. Every failure is judged as if it was read at
// the time its line bears.
func (t *tape) run(ctx context.Context, r *replay) error {
	defer close(t.batches)
	t.past.Order(func(text []byte, now time.Time) (time.Time, bool) {
		for _, j := range t.judges {
			if at, ok := j.judge.Time(text, now); ok {
				return at, true
			}
		}
		return time.Time{}, false
	})
	var clock time.Time
	var count func(int64)
	if r.Progress != nil {
		told := int64(0)
		count = func(bytes int64) {
			r.Progress(bytes, r.size, t.lines-told)
			told = t.lines
		}
	}
	err := t.past.Read(ctx, func(line *bantam.Line) error {
		if t.lines++; t.lines%1024 == 0 && !r.Until.IsZero() && time.Now().After(r.Until) {
			return fmt.Errorf("%s: %w", t.past.Name, errLate)
		}
		latest, outer := line.Read, line.Time
		for i, j := range t.judges {
			line.Time = outer
			line.Read = j.read(line, latest)
			if i == 0 {
				if line.Read.After(clock) {
					clock = line.Read
				}
				if l := loginOf(line.Text); l != nil {
					l.at = line.Read
					if err := t.send(ctx, event{clock: clock, login: l}); err != nil {
						return err
					}
				}
			}
			j.found = j.judge.Judge(line, j.found[:0])
			for k := range j.found {
				f := j.found[k]
				f.Position, f.Lines, f.Data = bantam.Position{}, nil, nil
				if !slices.ContainsFunc(r.jails, func(c jail.Config) bool { return c.Distinct && c.Name == f.Jail }) {
					f.User = "" // nobody asks
				}
				if f.Time.After(clock) {
					clock = f.Time
				}
				if err := t.send(ctx, event{clock: clock, failure: f}); err != nil {
					return err
				}
			}
		}
		line.Read, line.Time = latest, outer
		return nil
	}, count)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.problem = err
	return t.flush(ctx)
}

// errLate is why a log was not read to its end.
var errLate = errors.New("there is more in it than could be read in time")

// read is the time at which a line counts as read: the one it bears, else that of the
// line before. A time later than the file was written is nobody's.
func (j *clocked) read(line *bantam.Line, latest time.Time) time.Time {
	at := line.Time
	if at.IsZero() || line.Position.Source != source.Journal {
		// The text's own goes before its envelope's.
		if own, ok := j.judge.Time(line.Text, latest); ok {
			line.Time, at = time.Time{}, own
		}
	}
	if !at.IsZero() && !at.After(latest) {
		j.now = at
	}
	if j.now.IsZero() {
		return latest
	}
	return j.now
}

func (t *tape) send(ctx context.Context, e event) error {
	if !t.from.IsZero() && e.clock.Before(t.from) {
		return nil
	}
	t.batch = append(t.batch, e)
	if len(t.batch) < batchSize {
		return nil
	}
	return t.flush(ctx)
}

func (t *tape) flush(ctx context.Context) error {
	if len(t.batch) == 0 {
		return nil
	}
	select {
	case t.batches <- t.batch:
		t.batch = make([]event, 0, batchSize)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// more reports whether the tape has an event left, and waits for it.
func (t *tape) more(ctx context.Context) (bool, error) {
	for len(t.head) == 0 {
		select {
		case batch, ok := <-t.batches:
			if !ok {
				return false, nil
			}
			t.head = batch
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// merge takes the events of all tapes in the order of their clocks. Of equal ones the
// tape of the first name is first, as it is every time.
func (r *replay) merge(ctx context.Context) error {
	running := slices.Clone(r.tapes)
	var clock, swept time.Time
	for {
		var next *tape
		for i := 0; i < len(running); {
			ok, err := running[i].more(ctx)
			if err != nil {
				return err
			}
			if !ok {
				running = slices.Delete(running, i, i+1)
				continue
			}
			if next == nil || running[i].head[0].clock.Before(next.head[0].clock) {
				next = running[i]
			}
			i++
		}
		if next == nil {
			return nil
		}
		e := &next.head[0]
		if clock.Before(e.clock) {
			clock = e.clock
		}
		for _, d := range r.state.Expire(clock) {
			delete(r.banned, banKey{d.Ban.Jail, d.Ban.ID})
		}
		if clock.Sub(swept) > time.Hour {
			swept = clock
			r.state.Sweep(clock)
		}
		if e.login != nil {
			r.login(e.login)
		} else if err := r.fail(ctx, e.failure); err != nil {
			return err
		}
		next.head = next.head[1:]
	}
}

// fail has a failure counted, unless it is ignored.
func (r *replay) fail(ctx context.Context, f bantam.Failure) error {
	ids := [1]bantam.ID{f.ID}
	who := ids[:]
	if f.ID.IsZero() {
		who = r.resolve(ctx, f.Host)
	}
	figures := r.figures[f.Jail]
	if r.out.From.IsZero() || f.Time.Before(r.out.From) {
		r.out.From = f.Time
	}
	if f.Time.After(r.out.To) {
		r.out.To = f.Time
	}
	for _, id := range who {
		if _, ignored := r.lookup.Ignored(ctx, f.Jail, id); ignored {
			figures.Ignored++
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		figures.Failures++
		f.ID, f.Country = id, r.lookup.Country(id)
		if d, ok := r.state.Fail(f); ok {
			r.decided(d)
		}
	}
	return nil
}

// resolve is the addresses of a host name, none if names are not asked for.
func (r *replay) resolve(ctx context.Context, host string) []bantam.ID {
	if !r.DNS {
		r.out.Unresolved++
		return nil
	}
	ids, ok := r.names[host]
	if !ok && len(r.names) < maxNames {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err == nil {
			for _, a := range addrs {
				ids = append(ids, bantam.AddrID(a))
			}
		}
		r.names[host] = ids
	}
	if len(ids) == 0 {
		r.out.Unresolved++
	}
	return ids
}

// decided books a decision.
func (r *replay) decided(d bantam.Decision) {
	b := &d.Ban
	key := banKey{b.Jail, b.ID}
	if d.Kind == bantam.Prolong {
		ban := &r.out.Bans[r.banned[key]]
		ban.End = b.End
		ban.Prolonged++
		return
	}
	r.banned[key] = len(r.out.Bans)
	r.out.Bans = append(r.out.Bans, ReplayBan{
		Jail: b.Jail, ID: b.ID, Time: b.Time, End: b.End, Failures: b.Failures, Count: b.Count,
	})
	figures := r.figures[b.Jail]
	if b.Held() {
		r.out.Bans[r.banned[key]].Held = b.Reason
		figures.Held++
		return
	}
	figures.Bans++
	if !r.known[key] {
		r.known[key] = true
		figures.Offenders++
	}
}

// login looks whether somebody who logs in would have been shut out.
func (r *replay) login(l *login) {
	r.out.Logins++
	if n, is := l.administrator(); is {
		n.Guest = !r.may.Has(n.User)
		r.logins.Add(n)
	}
	for i := range r.jails {
		j := &r.jails[i]
		id := l.addr.Widen(j.Prefix4, j.Prefix6)
		at, ok := r.banned[banKey{j.Name, id}]
		if !ok || j.Observe {
			continue
		}
		if b := &r.out.Bans[at]; b.Held != "" || l.at.Before(b.Time) || !b.End.IsZero() && l.at.After(b.End) {
			continue
		}
		r.out.Hits = append(r.out.Hits, ReplayHit{Jail: j.Name, ID: id, Addr: l.addr, Time: l.at, User: l.user})
	}
}

// result puts the figures in order.
func (r *replay) result() *Replay {
	for i := range r.jails {
		r.out.Jails = append(r.out.Jails, *r.figures[r.jails[i].Name])
	}
	for _, t := range r.tapes {
		for i := range r.out.Jails {
			if slices.Contains(t.past.Jails, r.out.Jails[i].Jail) {
				r.out.Jails[i].Logs++
			}
		}
		r.out.Lines += t.lines
		r.out.Logs = append(r.out.Logs, ReplayLog{Name: t.past.Name, Jails: t.past.Jails, Files: t.past.Files(), Lines: t.lines})
		if t.problem != nil {
			r.out.Problems = append(r.out.Problems, t.problem.Error())
		}
	}
	return &r.out
}

// A ReplayChange is a ban of one configuration that the other does not make, or makes
// with another end.
type ReplayChange struct {
	// Before is nil for a ban that only the second configuration makes, After for one
	// that only the first makes.
	Before *ReplayBan `json:"before,omitempty"`
	After  *ReplayBan `json:"after,omitempty"`
}

// A ReplayDifference is what changes from one configuration to another.
type ReplayDifference struct {
	Bans []ReplayChange `json:"bans"` // in the order of their times
	// Spared are logins that only the first would have hit, Hit those that only the
	// second would.
	Spared []ReplayHit `json:"spared"`
	Hit    []ReplayHit `json:"hit"`
}

// Difference compares two replays of the same logs. Bans are the same if jail, ID and
// time are, and the end as well.
func Difference(before, after *Replay) ReplayDifference {
	type key struct {
		banKey
		at int64
	}
	keyOf := func(b *ReplayBan) key { return key{banKey{b.Jail, b.ID}, b.Time.UnixNano()} }
	d := ReplayDifference{Bans: []ReplayChange{}, Spared: []ReplayHit{}, Hit: []ReplayHit{}}
	old := make(map[key]*ReplayBan, len(before.Bans))
	for i := range before.Bans {
		old[keyOf(&before.Bans[i])] = &before.Bans[i]
	}
	for i := range after.Bans {
		b := &after.Bans[i]
		was := old[keyOf(b)]
		delete(old, keyOf(b))
		if was == nil || !was.End.Equal(b.End) {
			d.Bans = append(d.Bans, ReplayChange{was, b})
		}
	}
	for i := range before.Bans {
		if b := &before.Bans[i]; old[keyOf(b)] != nil {
			d.Bans = append(d.Bans, ReplayChange{Before: b})
		}
	}
	slices.SortStableFunc(d.Bans, func(a, b ReplayChange) int {
		x, y := cmp.Or(a.After, a.Before), cmp.Or(b.After, b.Before)
		return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Jail, y.Jail), cmp.Compare(x.ID.String(), y.ID.String()))
	})
	d.Spared, d.Hit = onlyIn(before.Hits, after.Hits), onlyIn(after.Hits, before.Hits)
	return d
}

// onlyIn are the logins of a that b did not hit, whatever jail of b would have.
func onlyIn(a, b []ReplayHit) []ReplayHit {
	type key struct {
		addr bantam.ID
		at   int64
	}
	hit := make(map[key]bool, len(b))
	for _, h := range b {
		hit[key{h.Addr, h.Time.UnixNano()}] = true
	}
	out := []ReplayHit{}
	for _, h := range a {
		if !hit[key{h.Addr, h.Time.UnixNano()}] {
			out = append(out, h)
		}
	}
	return out
}
