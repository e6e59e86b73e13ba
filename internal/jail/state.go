package jail

import (
	"cmp"
	"container/heap"
	"fmt"
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
}

// one is a jail.
type one struct {
	Config
	tallies map[bantam.ID]tally
	bans    map[bantam.ID]*bantam.Ban
	counts  map[bantam.ID]int // bans so far, the running one included

	positions map[string]bantam.Position // newest of each source
	moved     map[string]bool            // positions not yet told with a decision

	failures, banned uint64 // totals since the start
	lastBan          bantam.ID
}

// NewState is the state of no jails but Manual.
func NewState() *State {
	s := &State{jails: map[string]*one{}}
	s.Configure(nil, time.Time{})
	return s
}

// Configure sets the jails that exist. Jails that stay keep counts and bans, with
// the ends they had; running bans of jails that go are ended for CauseRemoved. A
// jail that stops observing starts the bans it had only written down.
func (s *State) Configure(configs []Config, now time.Time) []bantam.Decision {
	manual := DefaultConfig(Manual)
	manual.BanTime = -1
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
			if enforce {
				out = append(out, s.enforce(j, now)...)
			}
			continue
		}
		s.jails[c.Name] = &one{
			Config:    c,
			tallies:   map[bantam.ID]tally{},
			bans:      map[bantam.ID]*bantam.Ban{},
			counts:    map[bantam.ID]int{},
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
	return out
}

// enforce starts the bans that a jail had only observed.
func (s *State) enforce(j *one, now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for _, b := range j.find(bantam.ID{}) {
		if !b.Observed || b.Expired(now) {
			continue
		}
		b.Observed = false
		j.counts[b.ID]++
		b.Count = j.counts[b.ID]
		out = append(out, s.decide(j, bantam.Start, *b, now))
	}
	return out
}

// Restore takes over bans that ran before a restart and returns a decision of kind
// Restore for each, to be carried out again. Bans of jails that are not configured
// are left out, as are those that a jail only observed when it now bans.
func (s *State) Restore(bans []bantam.Ban, now time.Time) []bantam.Decision {
	var out []bantam.Decision
	for _, b := range bans {
		j := s.jails[b.Jail]
		if j == nil || j.bans[b.ID] != nil || b.Expired(now) || b.Observed && !j.Observe {
			continue
		}
		s.put(j, b)
		j.counts[b.ID] = max(j.counts[b.ID], b.Count)
		out = append(out, s.decide(j, bantam.Restore, b, now))
	}
	return out
}

// Remember tells how often an ID was banned in a jail before.
func (s *State) Remember(jail string, id bantam.ID, count int) {
	if j := s.jails[jail]; j != nil {
		j.counts[id] = max(j.counts[id], count)
	}
}

// Fail counts a failure and returns the decision it makes, if any. Failures of
// jails that do not exist, those without an ID (ignored ones), and those that were
// too old when they were read, count for nothing.
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
	t := j.tallies[id]
	count := t.add(f.Time, j.FindTime)
	t.keep(f.Lines, f.User, f.Data, j.MaxMatches)
	if count < j.MaxRetry {
		j.tallies[id] = t
		return d, false
	}
	delete(j.tallies, id)
	if f.Known {
		return d, false
	}
	start := time.Unix(0, t.last).In(f.Time.Location())
	return s.start(j, bantam.Ban{
		Jail: j.Name, ID: id, Time: start, End: j.end(start),
		Failures: int(t.failures), By: bantam.ByFailures,
		Lines: t.offence.lines, User: t.offence.user, Data: t.offence.data,
	}, f.Read)
}

// end is when a ban that starts now ends: zero for never.
func (c Config) end(start time.Time) time.Time {
	if c.BanTime < 0 {
		return time.Time{}
	}
	return start.Add(c.BanTime)
}

// Ban starts or prolongs a ban on somebody's order. A zero length takes the
// jail's bantime, a negative one means for ever. ok is false if the ID is banned at
// least that long already.
func (s *State) Ban(jail string, id bantam.ID, length time.Duration, by, reason string, now time.Time) (d bantam.Decision, ok bool, err error) {
	j := s.jails[jail]
	if j == nil {
		return d, false, s.unknown(jail)
	}
	c := j.Config
	if length != 0 {
		c.BanTime = length
	}
	d, ok = s.start(j, bantam.Ban{Jail: jail, ID: id, Time: now, End: c.end(now), By: by, Reason: reason}, now)
	return d, ok, nil
}

// start begins a ban, or prolongs the one that runs if the new end is later.
func (s *State) start(j *one, b bantam.Ban, now time.Time) (d bantam.Decision, ok bool) {
	if b.Expired(now) {
		return d, false
	}
	b.Observed = j.Observe
	if running := j.bans[b.ID]; running != nil {
		if running.Permanent() || !b.Permanent() && !b.End.After(running.End) {
			return d, false
		}
		running.End = b.End
		s.expect(running)
		return s.decide(j, bantam.Prolong, *running, now), true
	}
	if !j.Observe {
		j.counts[b.ID]++
	}
	b.Count = max(1, j.counts[b.ID])
	j.banned++
	j.lastBan = b.ID
	s.put(j, b)
	return s.decide(j, bantam.Start, b, now), true
}

func (s *State) put(j *one, b bantam.Ban) {
	j.bans[b.ID] = &b
	s.expect(&b)
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

func (s *State) end(j *one, b *bantam.Ban, cause string, now time.Time) bantam.Decision {
	delete(j.bans, b.ID)
	d := s.decide(j, bantam.End, *b, now)
	d.Cause = cause
	return d
}

// Unban ends the bans inside within (or all, if it is zero) of one jail, or of
// all jails if jail is empty. Unbanning an address lifts the ban of its network.
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
	}
	return out, nil
}

// find is the bans inside id, or all if it is zero, oldest first. For a single
// address the prefixes around it count too: who asks about it means those as well.
func (j *one) find(id bantam.ID) []*bantam.Ban {
	p, ok := id.Prefix()
	single := ok && p.IsSingleIP()
	var out []*bantam.Ban
	for _, b := range j.bans {
		if id.IsZero() || id.Contains(b.ID) || single && b.ID.Contains(id) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b *bantam.Ban) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID.String(), b.ID.String()))
	})
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
	for len(s.ends) > 0 && now.After(s.ends[0].end) {
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
	return s.ends[0].end, true
}

// Sweep forgets the counts that no failure read from now on can continue.
func (s *State) Sweep(now time.Time) {
	for _, j := range s.jails {
		for id, t := range j.tallies {
			if t.expired(now, j.FindTime) {
				delete(j.tallies, id)
			}
		}
	}
}

// Bans is the running bans of one jail, or of all if jail is empty, oldest first;
// with a within, those inside it or around it.
func (s *State) Bans(jail string, within bantam.ID) ([]bantam.Ban, error) {
	names := s.order
	if jail != "" {
		if s.jails[jail] == nil {
			return nil, s.unknown(jail)
		}
		names = []string{jail}
	}
	out := []bantam.Ban{}
	for _, name := range names {
		for _, b := range s.jails[name].find(within) {
			out = append(out, *b)
		}
	}
	return out, nil
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
	Failing        int       `json:"failing"`  // offenders with failures that still count
	Failures       uint64    `json:"failures"` // since the start
	Banned         int       `json:"banned"`   // now
	Bans           uint64    `json:"bans"`     // since the start
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
		for _, t := range j.tallies {
			if t.last > now.Add(-j.FindTime).UnixNano() {
				failing++
			}
		}
		out = append(out, Status{
			Jail: name, Failing: failing, Failures: j.failures, Banned: len(j.bans), Bans: j.banned,
			LastBan: j.lastBan, Observe: j.Observe, MaxRetry: max(1, j.MaxRetry),
			FindTime: j.FindTime.Seconds(), BanTime: j.BanTime.Seconds(),
			Prefix4: j.Prefix4, Prefix6: j.Prefix6, OffendersKnown: len(j.tallies),
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
	end  time.Time
	jail string
	id   bantam.ID
}

func (s *State) expect(b *bantam.Ban) {
	if !b.Permanent() {
		heap.Push(&s.ends, due{b.End, b.Jail, b.ID})
	}
}

type endHeap []due

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, k int) bool { return h[i].end.Before(h[k].end) }
func (h endHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *endHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *endHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
