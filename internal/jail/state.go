package jail

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bantam"
)

// Manual is the jail of what operators ban by hand. It always exists.
const Manual = "manual"

// A State is all jails: who has failed how often, and who is banned until when.
//
// It is pure: no I/O and no clock. The same calls give the same decisions, in the
// daemon and in a replay. It is not safe for concurrent use; Jails holds one and
// gives it a goroutine.
type State struct {
	jails map[string]*one
	order []string // names as configured
	ends  endHeap
	seq   uint64

	histories map[string]*history // by jail, also of jails that are not configured
	purged    time.Time           // when the histories last were; wall time
	lately    int64               // no line before it can matter that is read again; in microseconds
	seed      []byte
	countryOf func(bantam.ID) string // nil if it is not known of any
	logins    *Logins
}

// purgeEvery is how often what can count no more is dropped from memory.
const purgeEvery = time.Hour

// one is a jail.
type one struct {
	Config
	failing offenders
	bans    map[bantam.ID]*running
	held    int      // of bans, those that are held back
	told    shelf    // what is told of them
	packing offence  // of the last one; its memory is used again
	past    *history // the running bans included

	positions map[string]bantam.Position // newest of each source
	moved     map[string]bool            // positions not yet told with a decision

	failures, banned uint64 // totals since the start
	lastBan          bantam.ID
}

// NewState is the state of no jails but Manual.
func NewState() *State {
	s := &State{jails: map[string]*one{}, histories: map[string]*history{}, logins: &Logins{}}
	s.Configure(nil, time.Time{})
	return s
}

// Configure sets the jails that exist. Jails that stay keep counts and bans, with
// the ends they had; running bans of jails that go are ended for CauseRemoved. A
// jail that stops observing starts the bans it had only written down, but for those that are held back.
func (s *State) Configure(configs []Config, now time.Time) []bantam.Decision {
	manual := DefaultConfig(Manual)
	manual.BanTime = -time.Second
	if !slices.ContainsFunc(configs, func(c Config) bool { return c.Name == Manual }) {
		configs = append(slices.Clip(configs), manual)
	}
	var out []bantam.Decision
	s.order = nil
	keep := map[string]bool{}
	for _, c := range configs {
		keep[c.Name] = true
		s.order = append(s.order, c.Name)
		if j := s.jails[c.Name]; j != nil {
			enforce := j.Observe && !c.Observe
			j.Config = c
			if !c.Distinct {
				j.failing.users = nil
			}
			if enforce {
				out = append(out, s.enforce(j, now)...)
			}
			continue
		}
		s.jails[c.Name] = &one{
			Config:    c,
			bans:      map[bantam.ID]*running{},
			past:      s.history(c.Name),
			positions: map[string]bantam.Position{},
			moved:     map[string]bool{},
		}
	}
	for name, j := range s.jails {
		if keep[name] {
			continue
		}
		for _, b := range j.find(bantam.ID{}) {
			out = append(out, s.end(j, b, bantam.CauseRemoved, now))
		}
		delete(s.jails, name)
	}
	s.lately = s.since(now)
	return out
}

// longest is the longest findtime and purge age of the jails that count failures.
func (s *State) longest() (findtime, age time.Duration) {
	for _, j := range s.jails {
		if j.Name != Manual {
			findtime, age = max(findtime, j.FindTime), max(age, j.PurgeAge)
		}
	}
	return findtime, age
}

// since is the time before which no line can matter any more: a failure counts if it is
// no older than findtime when it is read, after one that is no older than findtime then,
// and the lines of findtime before that are read again, too.
func (s *State) since(now time.Time) int64 {
	findtime, _ := s.longest()
	return now.Add(-3 * findtime).UnixMicro()
}

// enforce starts the bans that a jail had only observed.
func (s *State) enforce(j *one, now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for _, b := range j.find(bantam.ID{}) {
		if !b.Observed || b.Held() || b.Expired(now) {
			continue
		}
		b.Observed = false
		b.Count = s.before(j, b.ID, b.Time) + 1
		j.past.begin(b.ID, recordOf(&b.Ban))
		out = append(out, s.decide(j, bantam.Start, j.whole(b), now))
	}
	return out
}

// Restore takes over a ban that ran before a restart and returns a decision of kind
// Restore, by which it is to be carried out again. A ban of a jail that is not configured
// is left out, as is one that a jail only observed when it now bans; then ok is false. A ban that was held back stays
// so; any other runs on, whoever has logged in meanwhile.
func (s *State) Restore(b bantam.Ban, now time.Time) (d bantam.Decision, ok bool) {
	j := s.jails[b.Jail]
	if j == nil || b.Expired(now) || b.Observed && !b.Held() && !j.Observe {
		return d, false
	}
	switch running := j.bans[b.ID]; {
	case running == nil:
	case running.Held() && !b.Held():
		j.over(running) // it was followed by one that was not
	default:
		return d, false
	}
	if s.countryOf != nil {
		b.Country = s.countryOf(b.ID)
	}
	s.put(j, b)
	if !b.Observed && j.past.last[b.ID].count < b.Count {
		j.past.last[b.ID] = recordOf(&b)
	}
	return s.decide(j, bantam.Restore, b, now), true
}

// Remember tells of a ban from before a restart, running or over, of a jail that may
// not be configured: its Jail, ID, Time, End and Count count. A Count of 0 is a pardon: the
// earlier bans of the ID do not count any more. All of one ID come oldest first,
// before Restore and before the first failure.
func (s *State) Remember(b bantam.Ban) {
	s.history(b.Jail).remember(b.ID, recordOf(&b), s.lately)
}

// Seed sets what the random part of bans is made of. With the same seed the same
// bans last as long, so a restart or a replay decides the same; who does not know it
// cannot tell how long a ban will last.
func (s *State) Seed(seed []byte) { s.seed = slices.Clone(seed) }

// UseCountries hands in what knows the countries of IDs, for those that nobody failed from: the
// bans that operators and peers make, and those from before a restart. Failures bring theirs along. It is
// called before Restore; countryOf answers at once.
func (s *State) UseCountries(countryOf func(bantam.ID) string) { s.countryOf = countryOf }

// UseLogins hands in who administrates this machine. A ban for failures whose ID one of them is inside of is held
// back, as Config.IgnoreLogins says: its decision is Observed, with the reason. It is called before the first failure;
// logins may grow while the state is used.
func (s *State) UseLogins(logins *Logins) { s.logins = logins }

func (s *State) history(jail string) *history {
	h := s.histories[jail]
	if h == nil {
		h = newHistory()
		s.histories[jail] = h
	}
	return h
}

// before is how many bans of an ID count as earlier ones for a ban at the time at.
// Over all jails they are added up as Fail2Ban does, where a ban that counted those of
// other jails counts them on.
func (s *State) before(j *one, id bantam.ID, at time.Time) int {
	if !j.Increment.Enabled || !j.Increment.OverallJails {
		return j.past.count(id, at.UnixMicro(), j.PurgeAge)
	}
	n := 0
	for _, h := range s.histories {
		n += h.count(id, at.UnixMicro(), j.PurgeAge)
	}
	return min(n, maxCount)
}

// maxCount bounds the count of bans, which over all jails may double each time.
const maxCount = 1 << 30

// Fail counts a failure and returns the decision it makes, if any. Failures of
// jails that do not exist, those without an ID (ignored ones), and those that were
// too old when they were read, count for nothing.
//
// Where Config.Distinct is set, one that names a user whom the count holds already changes nothing but the lines that are
// kept: neither the count nor the time of the last failure. Which users those are is forgotten with the count; it
// remembers the last maxretry of them, at most 1000, and the first 64 bytes of each.
func (s *State) Fail(f bantam.Failure) (d bantam.Decision, ok bool) {
	j := s.jails[f.Jail]
	if j == nil {
		return d, false
	}
	if f.Position.Source != "" {
		j.positions[f.Position.Source] = f.Position
		j.moved[f.Position.Source] = true
	}
	if f.ID.IsZero() {
		return d, false
	}
	if !f.Known && !f.Read.IsZero() && f.Time.Before(f.Read.Add(-j.FindTime)) {
		return d, false
	}
	id := f.ID.Widen(j.Prefix4, j.Prefix6)
	if !f.Known {
		j.failures++
	}
	n := j.failing.number(id)
	t := j.failing.row(n)
	if t.over(f.Time, j.FindTime) {
		j.failing.forget(n)
	}
	weight := j.weigh(id, f)
	again := j.Distinct && j.failing.counted(n, f.User)
	count := 0
	if !again {
		count = t.add(f.Time, j.FindTime, weight)
		if j.Distinct {
			j.failing.countUser(n, f.User, j.MaxRetry)
		}
	}
	j.failing.keep(t, f.Lines, f.User, f.Data, j.MaxMatches)
	if again || count < j.MaxRetry {
		return d, false
	}
	all := *t
	lines, user, data := j.failing.told.get(t.told).unpack()
	j.failing.drop(id)
	if f.Known {
		j.past.repeated(id, time.Unix(0, all.last).UnixMicro())
		return d, false
	}
	start := time.Unix(0, all.last).In(f.Time.Location())
	return s.start(j, bantam.Ban{
		Jail: j.Name, ID: id, Time: start, End: j.of(f.Country).end(start),
		Failures: int(all.failures), By: bantam.ByFailures,
		Lines: lines, User: user, Data: data, Country: f.Country,
	}, f.Read, true)
}

// weigh is how many failures a failure counts for.
func (j *one) weigh(id bantam.ID, f bantam.Failure) int {
	weight := 1
	if w, ok := j.Weights[f.Regex]; ok {
		weight = w
	}
	if !j.Increment.Enabled {
		return weight
	}
	return weight * j.weight(j.past.against(id, f.Time.UnixMicro(), j.PurgeAge, f.Known))
}

// end is when a ban that starts now ends: zero for never.
func (c Config) end(start time.Time) time.Time {
	if c.BanTime < 0 {
		return time.Time{}
	}
	return start.Add(c.BanTime)
}

// Ban starts or prolongs a ban on somebody's order. A zero length takes the
// jail's bantime, which grows with earlier bans, a negative one means for ever. ok is false if the ID is banned at
// least that long already.
func (s *State) Ban(jail string, id bantam.ID, length time.Duration, by, reason string, now time.Time) (d bantam.Decision, ok bool, err error) {
	j := s.jails[jail]
	if j == nil {
		return d, false, s.unknown(jail)
	}
	country := ""
	if s.countryOf != nil {
		country = s.countryOf(id)
	}
	c := j.of(country)
	if length != 0 {
		c.BanTime = length
	}
	d, ok = s.start(j, bantam.Ban{Jail: jail, ID: id, Time: now, End: c.end(now), By: by, Reason: reason, Country: country}, now, length == 0)
	return d, ok, nil
}

// start begins a ban, or prolongs the one that runs if the new end is later. One that
// begins lasts longer for earlier bans, if it may grow; one whose first length is over
// already does not begin, whatever it would grow to. One that is held back counts as no ban: another one that is not
// begins in its place.
func (s *State) start(j *one, b bantam.Ban, now time.Time, grow bool) (d bantam.Decision, ok bool) {
	if b.Expired(now) {
		return d, false
	}
	b.Observed = j.Observe
	if n, is := s.protects(j, &b); is {
		b.Observed, b.Reason = true, n.Why(b.ID)
	}
	running := j.bans[b.ID]
	if running != nil && running.Held() && !b.Held() {
		j.over(running)
		running = nil
	}
	if running != nil {
		if b.Held() && !running.Held() {
			return d, false
		}
		if running.Permanent() || !b.Permanent() && !b.End.After(running.End) {
			return d, false
		}
		running.End = b.End
		if r, ok := j.past.last[b.ID]; ok && !running.Observed {
			r.length = recordOf(&running.Ban).length
			j.past.last[b.ID] = r
		}
		s.expect(&running.Ban)
		return s.decide(j, bantam.Prolong, j.whole(running), now), true
	}
	n := s.before(j, b.ID, b.Time)
	if grow {
		c := j.of(b.Country)
		c.BanTime = c.length(n, func() *rand.Rand { return chance(s.seed, j.Name, b.ID, b.Time.UnixMicro()) })
		b.End = c.end(b.Time)
	}
	b.Count = max(1, n)
	if !b.Observed {
		b.Count = n + 1
		j.past.begin(b.ID, recordOf(&b))
	}
	if !b.Held() {
		j.banned++
		j.lastBan = b.ID
	}
	s.put(j, b)
	return s.decide(j, bantam.Start, b, now), true
}

// protects is the login that holds a ban back. What an operator asks for is his own business.
func (s *State) protects(j *one, b *bantam.Ban) (Login, bool) {
	if j.IgnoreLogins <= 0 || b.By == bantam.ByOperator {
		return Login{}, false
	}
	n, is := s.logins.Within(b.ID, b.Time.Add(-j.IgnoreLogins))
	n.At = n.At.In(b.Time.Location())
	return n, is
}

// A running ban is without its Lines, User and Data, which stand on the jail's shelf: there may be a million.
type running struct {
	bantam.Ban
	told spot
}

func (s *State) put(j *one, b bantam.Ban) {
	r := &running{Ban: b}
	if len(b.Lines) > 0 || b.User != "" || len(b.Data) > 0 {
		r.Lines, r.User, r.Data = nil, "", nil
		j.packing = appendOffence(j.packing[:0], b.Lines, b.User, b.Data)
		r.told = j.told.put(j.packing)
	}
	j.bans[b.ID] = r
	if r.Held() {
		j.held++
	}
	s.expect(&b)
}

// whole is a running ban with all that is told of it.
func (j *one) whole(r *running) bantam.Ban {
	b := r.Ban
	if r.told != 0 {
		b.Lines, b.User, b.Data = j.told.get(r.told).unpack()
	}
	return b
}

// over forgets a running ban.
func (j *one) over(r *running) {
	delete(j.bans, r.ID)
	if r.Held() {
		j.held--
	}
	j.told.drop(r.told)
	if !j.told.untidy() {
		return
	}
	var told shelf
	for _, r := range j.bans {
		if r.told != 0 {
			r.told = told.put(j.told.get(r.told))
		}
	}
	j.told = told
}

// decide makes a decision and gives it the positions that moved since the last.
func (s *State) decide(j *one, kind bantam.Kind, b bantam.Ban, now time.Time) bantam.Decision {
	s.seq++
	return bantam.Decision{Seq: s.seq, Kind: kind, Ban: b, At: now, Positions: j.takePositions()}
}

func (j *one) takePositions() []bantam.Position {
	if len(j.moved) == 0 {
		return nil
	}
	out := make([]bantam.Position, 0, len(j.moved))
	for source := range j.moved {
		out = append(out, j.positions[source])
	}
	clear(j.moved)
	return out
}

func (s *State) end(j *one, r *running, cause string, now time.Time) bantam.Decision {
	b := j.whole(r)
	j.over(r)
	if cause == bantam.CauseOperator || cause == bantam.CauseAllowed {
		j.past.pardon(b.ID)
	}
	d := s.decide(j, bantam.End, b, now)
	d.Cause = cause
	return d
}

// Unban ends the bans inside within (or all, if it is zero) of one jail, or of
// all jails if jail is empty. Unbanning an address lifts the ban of its network. What an
// operator lifts is forgiven: the next ban is a first one. So are the earlier bans of
// within itself, or of the prefix that it is counted by, which need not be banned.
func (s *State) Unban(jail string, within bantam.ID, cause string, now time.Time) ([]bantam.Decision, error) {
	names := s.order
	if jail != "" {
		if s.jails[jail] == nil {
			return nil, s.unknown(jail)
		}
		names = []string{jail}
	}
	var out []bantam.Decision
	for _, name := range names {
		j := s.jails[name]
		for _, b := range j.find(within) {
			out = append(out, s.end(j, b, cause, now))
		}
		switch {
		case cause != bantam.CauseOperator:
		case within.IsZero():
			clear(j.past.told)
			clear(j.past.last)
		default:
			j.past.pardon(within)
			j.past.pardon(within.Widen(j.Prefix4, j.Prefix6))
		}
	}
	return out, nil
}

// find is the bans inside id, or all if it is zero, oldest first. For a single
// address the prefixes around it count too: who asks about it means those as well.
func (j *one) find(id bantam.ID) []*running {
	out := j.inside(id)
	slices.SortFunc(out, older)
	return out
}

// older puts bans in the order in which they began.
func older(a, b *running) int { return cmp.Or(a.Time.Compare(b.Time), a.ID.Compare(b.ID)) }

// inside is find in no order.
func (j *one) inside(id bantam.ID) []*running {
	p, ok := id.Prefix()
	single := ok && p.IsSingleIP()
	var out []*running
	for _, b := range j.bans {
		if id.IsZero() || id.Contains(b.ID) || single && b.ID.Contains(id) {
			out = append(out, b)
		}
	}
	return out
}

// Allow ends every ban that lies inside one of the prefixes.
func (s *State) Allow(ids []bantam.ID, now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for _, name := range s.order {
		j := s.jails[name]
		for _, b := range j.find(bantam.ID{}) {
			if slices.ContainsFunc(ids, func(id bantam.ID) bool { return id.Contains(b.ID) }) {
				out = append(out, s.end(j, b, bantam.CauseAllowed, now))
			}
		}
	}
	return out
}

// Expire ends the bans whose time is up at the wall time now.
func (s *State) Expire(now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for len(s.ends) > 0 && now.UnixMicro() > s.ends[0].end {
		e := heap.Pop(&s.ends).(due)
		j := s.jails[e.jail]
		if j == nil {
			continue
		}
		// A ban that was prolonged or lifted has left its old end behind.
		if b := j.bans[e.id]; b != nil && b.Expired(now) {
			out = append(out, s.end(j, b, bantam.CauseExpired, now))
		}
	}
	return out
}

// NextEnd is when the next ban may end; ok is false if none will.
func (s *State) NextEnd() (at time.Time, ok bool) {
	if len(s.ends) == 0 {
		return at, false
	}
	return time.UnixMicro(s.ends[0].end), true
}

// Sweep forgets the counts that no failure read from now on can continue, and, once
// an hour, earlier bans that can count no more.
func (s *State) Sweep(now time.Time) {
	if now.Sub(s.purged) >= purgeEvery {
		s.purged = now
		s.purge(now)
	}
	for _, j := range s.jails {
		j.failing.dropIf(func(t *tally) bool { return t.expired(now, j.FindTime) })
	}
}

// purge forgets earlier bans. A failure that is read now may be findtime old.
func (s *State) purge(now time.Time) {
	findtime, age := s.longest()
	for _, h := range s.histories {
		h.purge(now.Add(-findtime).UnixMicro(), age, s.since(now))
	}
}

// Positions is how far each jail has read, for those sources that moved since
// its last decision.
func (s *State) Positions() map[string][]bantam.Position {
	out := map[string][]bantam.Position{}
	for name, j := range s.jails {
		if p := j.takePositions(); p != nil {
			out[name] = p
		}
	}
	return out
}

// A Status is one jail in figures.
type Status struct {
	Jail           string    `json:"jail"`
	Failing        int       `json:"failing"`        // offenders with failures that still count
	Failures       uint64    `json:"failures"`       // since the start
	Banned         int       `json:"banned"`         // now
	Held           int       `json:"held,omitempty"` // bans that are held back now; not among Banned
	Bans           uint64    `json:"bans"`           // since the start
	LastBan        bantam.ID `json:"last_ban,omitzero"`
	Observe        bool      `json:"observe,omitempty"`
	MaxRetry       int       `json:"maxretry"`
	FindTime       float64   `json:"findtime"` // seconds
	BanTime        float64   `json:"bantime"`  // seconds; negative means for ever
	Prefix4        int       `json:"prefix4,omitempty"`
	Prefix6        int       `json:"prefix6,omitempty"`
	OffendersKnown int       `json:"offenders_known"` // in memory
}

// Status is the jails in figures, in their order, at the wall time now.
func (s *State) Status(now time.Time) []Status {
	out := make([]Status, 0, len(s.order))
	for _, name := range s.order {
		j := s.jails[name]
		failing := 0
		for t := range j.failing.all() {
			if t.last > now.Add(-j.FindTime).UnixNano() {
				failing++
			}
		}
		out = append(out, Status{
			Jail: name, Failing: failing, Failures: j.failures, Banned: len(j.bans) - j.held, Held: j.held, Bans: j.banned,
			LastBan: j.lastBan, Observe: j.Observe, MaxRetry: max(1, j.MaxRetry),
			FindTime: j.FindTime.Seconds(), BanTime: j.BanTime.Seconds(),
			Prefix4: j.Prefix4, Prefix6: j.Prefix6, OffendersKnown: j.failing.len(),
		})
	}
	return out
}

// An UnknownJailError names a jail that does not exist, and those that do.
type UnknownJailError struct {
	Jail  string
	Known []string
}

func (e *UnknownJailError) Error() string {
	return fmt.Sprintf("there is no jail %q; there is %s", e.Jail, strings.Join(e.Known, ", "))
}

func (s *State) unknown(jail string) error {
	return &UnknownJailError{Jail: jail, Known: slices.Clone(s.order)}
}

// due is when to look at a ban.
type due struct {
	end  int64 // microseconds of Unix time, which reach far enough
	jail string
	id   bantam.ID
}

func (s *State) expect(b *bantam.Ban) {
	if !b.Permanent() {
		heap.Push(&s.ends, due{b.End.UnixMicro(), b.Jail, b.ID})
	}
}

type endHeap []due

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, k int) bool { return h[i].end < h[k].end }
func (h endHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *endHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *endHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
