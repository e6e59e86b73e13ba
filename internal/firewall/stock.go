package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os/exec"
	"reflect"
	"slices"
	"sync"
	"time"

	"bantam"
)

// StockOptions say where a Stock works.
type StockOptions struct {
	// NetNS is an open file of the network namespace for netlink; 0 means the
	// process's own.
	NetNS int
	// Start starts a program where the objects are; nil means (*exec.Cmd).Start.
	Start func(*exec.Cmd) error
	// Log hears what had to be repaired; nil for nobody.
	Log *slog.Logger
}

// A Stock makes and keeps the objects of the stock actions that Recognize knows:
// sets and rules of nftables, ipsets, chains and rules of iptables, under the
// names that those actions give them. It is an effect of package action and safe
// for concurrent use.
//
// The objects of a family are made at its first ban, as the stock actions do on
// demand, unless the action is eager. Elements of sets carry the time that a ban
// has left, so that the kernel ends it; rules of plain iptables cannot, and neither
// can an ipset's element for more than 24.8 days: they stay until the ban is ended
// by a decision. Ranges have a set of their own beside that of addresses, made at
// the first range.
//
// It keeps its own list of what is banned, since reading large sets back is slow.
// What concerns one kind of firewall is left as it is when another fails.
type Stock struct {
	log  *slog.Logger
	opts StockOptions

	mu      sync.Mutex // guards the rest, and the order of what is sent
	objects []*object
	byJail  map[string][]*object
	turns   int // counts changes of the rest
	nft     *nftStock
	ipset   *ipsetStock
	tables  *iptablesStock
	closed  bool
}

// An object is what one action has in the kernel for one family.
type object struct {
	*Objects
	jail, action string
	eager        bool
	place        int // in the configuration

	want    map[netip.Prefix]time.Time // with ends; zero for ever
	wide    map[netip.Prefix]time.Time // those of want that are no single addresses
	started bool                       // it stands in the kernel
	clean   bool                       // and holds what it should
	whole   bool                       // it is being made equal as a whole
	err     error                      // of the last try

	pieces []piece               // of nftables: what the set of ranges holds
	ranges bool                  // the set of ranges stands
	sizes  map[string]uint32     // of ipset: how much its sets take
	held   map[netip.Prefix]bool // of iptables: what has a rule
}

// A work is what is to be done to one object.
type work struct {
	*object
	put  []Element
	take []netip.Prefix
}

// A ware is a kind of firewall. Its methods are called with the Stock's mutex held.
type ware interface {
	// sync makes objects and what they hold equal to what is wanted. Those that
	// hold nothing, are not eager and do not stand are left alone. all are the
	// objects of the kind, these and others.
	sync(ctx context.Context, objects, all []*object) error
	// apply carries out changes to objects that stand.
	apply(ctx context.Context, works []work) error
	// remove takes objects away as actionstop does. It is no error if they are
	// not there.
	remove(ctx context.Context, objects []*object) error
}

// OpenStock makes a Stock without objects; the kernel is not touched.
func OpenStock(opts StockOptions) *Stock {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Start == nil {
		opts.Start = (*exec.Cmd).Start
	}
	return &Stock{log: opts.Log, opts: opts}
}

// ware opens what a kind needs.
func (s *Stock) ware(kind Kind) (ware, error) {
	var err error
	switch kind {
	case KindNFTables:
		if s.nft == nil {
			if s.nft, err = openNFTStock(s.opts); err != nil {
				return nil, err
			}
		}
		return s.nft, nil
	case KindIPSet:
		if s.ipset == nil {
			if s.ipset, err = openIPSetStock(s.opts); err != nil {
				return nil, err
			}
		}
		return s.ipset, nil
	default:
		if s.tables == nil {
			s.tables = &iptablesStock{run: runner{start: s.opts.Start}}
		}
		return s.tables, nil
	}
}

// Conflicts says which of several actions want the same object in the kernel, by
// their place in natives: an error for each that has to give way to one before it.
// The set of jail iset for IPv6 has the name of the set of jail iset6 for IPv4.
func Conflicts(natives []Native) map[int]error {
	type taken struct {
		*Objects
		jail string
	}
	var all []taken
	out := map[int]error{}
	for i, n := range natives {
		for _, o := range n.families() {
			for _, t := range all {
				if o.collides(t.Objects) && out[i] == nil {
					out[i] = fmt.Errorf("jail %q, action %s: %s belongs to jail %q already; give one of them another name= in its action", n.Jail, n.Action, o, t.jail)
				}
			}
		}
		if out[i] != nil {
			continue
		}
		for _, o := range n.families() {
			all = append(all, taken{o, n.Jail})
		}
	}
	return out
}

func (n *Native) families() []*Objects {
	return slices.DeleteFunc([]*Objects{n.Inet4, n.Inet6}, func(o *Objects) bool { return o == nil })
}

// Configure sets the actions whose objects are kept and makes the kernel equal to
// what they want; objects of actions that are gone are taken away. bans are
// wanted from now on, in addition to those that are already. Actions that want an
// object of one before them are left out, and the error says so: the others work.
func (s *Stock) Configure(ctx context.Context, natives []Native, bans []bantam.Decision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	var errs []error
	conflicts := Conflicts(natives)
	old := s.objects
	s.objects = nil
	var kept []*object // as they were
	for i, n := range natives {
		if err := conflicts[i]; err != nil {
			errs = append(errs, err)
			continue
		}
		for _, o := range n.families() {
			obj := &object{Objects: o, jail: n.Jail, action: n.Action, eager: n.Eager, want: map[netip.Prefix]time.Time{}, wide: map[netip.Prefix]time.Time{}}
			at := slices.IndexFunc(old, func(p *object) bool { return p.jail == n.Jail && p.action == n.Action && p.V6 == o.V6 })
			if at >= 0 {
				was := old[at]
				obj.want, obj.wide = was.want, was.wide
				if reflect.DeepEqual(was.Objects, o) && was.eager == n.Eager {
					obj, kept = was, append(kept, was)
					old = slices.Delete(old, at, at+1)
				} else if was.Kind == o.Kind && was.Set == o.Set && was.Own == o.Own && was.Table == o.Table && was.Chain == o.Chain && was.Program == o.Program {
					obj.started = was.started
					old = slices.Delete(old, at, at+1)
				}
			}
			obj.place = len(s.objects)
			s.objects = append(s.objects, obj)
		}
	}
	s.byJail = make(map[string][]*object)
	for _, o := range s.objects {
		s.byJail[o.jail] = append(s.byJail[o.jail], o)
	}
	// What is new comes first: another action may take over the same bans.
	_, err := s.carry(ctx, bans, func(o *object) bool { return !o.clean || !slices.Contains(kept, o) })
	errs = append(errs, err, s.remove(ctx, old), s.sweep(ctx))
	return errors.Join(errs...)
}

// sweep takes away what an earlier run left of actions that are gone. Only sets of
// nftables can be told to be ours.
func (s *Stock) sweep(ctx context.Context) error {
	if _, err := s.ware(KindNFTables); err != nil {
		if errors.Is(err, ErrUnsupported) || errors.Is(err, ErrPrivilege) {
			return nil // then there is nothing, or its own error tells
		}
		return err
	}
	return s.nft.sweep(ctx, byKind(s.objects)[KindNFTables])
}

// note records what decisions want and returns what that changes in objects that
// are not made equal as a whole anyway.
func (s *Stock) note(decisions []bantam.Decision) []work {
	works := make(map[*object]*work)
	for i := range decisions {
		b := &decisions[i].Ban
		p, ok := b.ID.Prefix()
		if !ok || b.Observed {
			continue
		}
		for _, o := range s.byJail[b.Jail] {
			if o.V6 != p.Addr().Is6() {
				continue
			}
			end := decisions[i].Kind == bantam.End
			if end {
				o.unwant(p)
			} else {
				o.wants(p, b.End)
			}
			if o.whole {
				continue
			}
			w := works[o]
			if w == nil {
				w = &work{object: o}
				works[o] = w
			}
			if end {
				w.take = append(w.take, p)
			} else {
				w.put = append(w.put, Element{Jail: b.Jail, Prefix: p, End: b.End})
			}
		}
	}
	out := make([]work, 0, len(works))
	for _, w := range works {
		out = append(out, w.settle())
	}
	slices.SortFunc(out, func(a, b work) int { return a.place - b.place })
	return out
}

func (o *object) wants(p netip.Prefix, end time.Time) {
	o.want[p] = end
	if !p.IsSingleIP() {
		o.wide[p] = end
	}
}

func (o *object) unwant(p netip.Prefix) {
	delete(o.want, p)
	delete(o.wide, p)
}

// settle leaves one change for each prefix: what is wanted in the end.
func (w *work) settle() work {
	if len(w.put)+len(w.take) < 2 {
		return *w
	}
	changed := make(map[netip.Prefix]bool, len(w.put)+len(w.take))
	for _, e := range w.put {
		changed[e.Prefix] = true
	}
	for _, p := range w.take {
		changed[p] = true
	}
	out := work{object: w.object}
	for p := range changed {
		if end, ok := w.want[p]; ok {
			out.put = append(out.put, Element{Jail: w.jail, Prefix: p, End: end})
		} else {
			out.take = append(out.take, p)
		}
	}
	return out
}

// Do carries decisions out, those on texts excepted. An object whose state is in
// doubt, after an error or a notice, is made equal as a whole. The error
// is about the jails of these decisions: with a queue for each jail none delays another.
func (s *Stock) Do(ctx context.Context, decisions []bantam.Decision) (retry bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errClosed
	}
	return s.carry(ctx, decisions, func(*object) bool { return false })
}

// carry carries decisions out, and makes objects equal as a whole that all names
// or that cannot be changed.
func (s *Stock) carry(ctx context.Context, decisions []bantam.Decision, all func(*object) bool) (retry bool, err error) {
	s.turns++
	changes := make(map[Kind][]work)
	var whole []*object
	for _, o := range s.objects {
		if o.whole = all(o); o.whole {
			whole = append(whole, o)
		}
	}
	for _, w := range s.note(decisions) {
		switch {
		case !w.clean, !w.started && len(w.want) > 0:
			whole = append(whole, w.object)
		case w.started:
			changes[w.Kind] = append(changes[w.Kind], w)
		}
	}
	errs := []error{s.sync(ctx, whole)}
	for _, kind := range slices.Sorted(maps.Keys(changes)) {
		works := changes[kind]
		w, err := s.ware(kind)
		if err == nil {
			err = w.apply(ctx, works)
		}
		for _, w := range works {
			w.clean, w.err = err == nil, err
		}
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	return err != nil && !errors.Is(err, ErrPrivilege), err
}

// sync makes objects equal to what is wanted, each kind by itself. Where that
// fails, each object is tried by itself: what one jail asks for and the kernel
// refuses leaves no other jail open.
func (s *Stock) sync(ctx context.Context, objects []*object) error {
	s.turns++
	var errs []error
	all := byKind(s.objects)
	for kind, some := range byKind(objects) {
		w, err := s.ware(kind)
		if err == nil {
			err = w.sync(ctx, some, all[kind])
		}
		apart := err != nil && w != nil && len(some) > 1 && ctx.Err() == nil && !errors.Is(err, ErrPrivilege)
		for i, o := range some {
			o.err = err
			if apart {
				o.err = w.sync(ctx, some[i:i+1], all[kind])
			}
			if o.clean = o.err == nil; !o.clean && (apart || i == 0) {
				errs = append(errs, o.err)
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Stock) remove(ctx context.Context, objects []*object) error {
	var errs []error
	for kind, some := range byKind(objects) {
		w, err := s.ware(kind)
		if err == nil {
			err = w.remove(ctx, some)
		}
		for _, o := range some {
			o.started, o.clean = false, err == nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func byKind(objects []*object) map[Kind][]*object {
	out := make(map[Kind][]*object)
	for _, o := range objects {
		out[o.Kind] = append(out[o.Kind], o)
	}
	return out
}

// Resync makes the kernel equal to what it should be, whatever was thought of it.
func (s *Stock) Resync(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.sync(ctx, s.objects)
}

// Repair is Resync for what is in doubt, which is what Watch found and what an
// error left.
func (s *Stock) Repair(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.sync(ctx, slices.DeleteFunc(slices.Clone(s.objects), func(o *object) bool { return o.clean }))
}

// Remove takes everything away, as actionstop does, and forgets the bans.
func (s *Stock) Remove(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	err := s.remove(ctx, s.objects)
	s.objects, s.byJail = nil, nil
	return err
}

// Leave takes away what would not end by itself: the chains and rules of plain
// iptables. Sets of nftables and ipset stay, with the rules that look at them, for
// the next start. It is what a stopping daemon calls before Close.
func (s *Stock) Leave(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.remove(ctx, slices.DeleteFunc(slices.Clone(s.objects), func(o *object) bool { return o.Kind != KindIPTables }))
}

// Close disconnects and leaves everything in the kernel as it is.
func (s *Stock) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	if s.nft != nil {
		errs = append(errs, s.nft.sock.close())
	}
	if s.ipset != nil {
		errs = append(errs, s.ipset.sock.close())
	}
	s.nft, s.ipset = nil, nil
	return errors.Join(errs...)
}

// A StockStatus is one action's objects of one family in figures.
type StockStatus struct {
	Jail    string `json:"jail"`
	Action  string `json:"action"`
	Family  string `json:"family"` // inet4 or inet6
	Kind    Kind   `json:"kind"`
	Objects string `json:"objects"`
	Started bool   `json:"started"`
	Bans    int    `json:"bans"`
	Err     string `json:"error,omitempty"`
}

// Status is the objects in figures, without asking the kernel.
func (s *Stock) Status() []StockStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]StockStatus, 0, len(s.objects))
	for _, o := range s.objects {
		st := StockStatus{
			Jail: o.jail, Action: o.action, Family: "inet4", Kind: o.Kind, Objects: o.String(), Started: o.started, Bans: len(o.want),
		}
		if o.V6 {
			st.Family = "inet6"
		}
		if o.err != nil {
			st.Err = o.err.Error()
		}
		out = append(out, st)
	}
	return out
}

// idle reports whether nothing is to be made of an object that does not stand.
func (o *object) idle() bool { return !o.eager && !o.started && len(o.want) == 0 }

// hosts are the addresses that are wanted and have not ended at the wall time now.
func (o *object) hosts(now time.Time) []element {
	hosts := make([]element, 0, len(o.want))
	for p, end := range o.want {
		if p.IsSingleIP() && !(Element{End: end}).ended(now) {
			hosts = append(hosts, element{p.Addr(), end})
		}
	}
	return hosts
}

// cut are the ranges that are wanted and have not ended, in pieces.
func (o *object) cut(now time.Time) []piece {
	maps.DeleteFunc(o.wide, func(_ netip.Prefix, end time.Time) bool { return Element{End: end}.ended(now) })
	return piecesOf(o.wide)
}
