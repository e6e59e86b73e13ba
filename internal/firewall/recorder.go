package firewall

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Recorder is a backend that remembers what it is told and drops nothing: for
// observing, and for tests without privilege. Its errors are those of NFTables
// about unknown jails and bad prefixes. Its zero value is ready; its methods may be
// called at once.
type Recorder struct {
	mu       sync.Mutex
	rules    []Rule
	jails    map[string]bool
	allow    []netip.Prefix
	bans     map[place]time.Time
	watchers map[chan struct{}]bool
	closed   bool
}

// A place is where an element is: there is at most one.
type place struct {
	jail   string
	prefix netip.Prefix
}

// Sync is NFTables.Sync.
func (r *Recorder) Sync(ctx context.Context, rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) error {
	if err := checkRules(rules); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	w, err := newWanted(rules, allow, bans)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync: %w: %w", ErrUnknownState, err)
	}
	r.rules, r.jails, r.bans = slices.Clone(rules), make(map[string]bool), make(map[place]time.Time)
	for _, rule := range rules {
		r.jails[rule.Jail] = true
	}
	for k, set := range w.bans {
		for a, end := range set {
			r.bans[place{k.jail, k.prefix(a)}] = end
		}
	}
	r.setAllow(w.allow)
	return nil
}

func (r *Recorder) setAllow(sets map[setKey][]element) {
	r.allow = nil
	for _, k := range keys(sets) {
		for _, e := range sets[k] {
			if p := k.prefix(e.addr); !slices.Contains(r.allow, p) {
				r.allow = append(r.allow, p)
			}
		}
	}
}

// Apply is NFTables.Apply.
func (r *Recorder) Apply(changes []Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if err := checkChanges(changes, r.jails); err != nil {
		return err
	}
	now := time.Now()
	for _, c := range changes {
		p, _ := canonical(c.Prefix)
		if c.Remove || c.ended(now) {
			delete(r.bans, place{c.Jail, p})
		} else {
			r.bans[place{c.Jail, p}] = c.End
		}
	}
	return nil
}

// SetAllow is NFTables.SetAllow.
func (r *Recorder) SetAllow(allow []netip.Prefix) error {
	sets, err := allowElements(allow)
	if err != nil {
		return fmt.Errorf("set the allow list: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errClosed
	case r.jails == nil:
		return fmt.Errorf("set the allow list before the first sync: %w", ErrUnknownState)
	}
	r.setAllow(sets)
	return nil
}

// Counters is NFTables.Counters; they stay zero.
func (r *Recorder) Counters() (map[string]Counter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	counters := make(map[string]Counter, len(r.jails))
	for jail := range r.jails {
		counters[jail] = Counter{}
	}
	return counters, nil
}

// Elements is NFTables.Elements: what has ended by wall time is gone.
func (r *Recorder) Elements(jail string) ([]Element, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	now := time.Now()
	maps.DeleteFunc(r.bans, func(p place, end time.Time) bool { return Element{End: end}.ended(now) })
	var all []Element
	for p, end := range r.bans {
		if p.jail == jail {
			all = append(all, Element{Jail: jail, Prefix: p.prefix, End: end})
		}
	}
	return all, nil
}

// Rules are those of the last Sync.
func (r *Recorder) Rules() []Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rules)
}

// Allow is the allow list as it is now, without doubles.
func (r *Recorder) Allow() []netip.Prefix {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.allow)
}

// Watch calls notify after each Disturb, or once after several that came close
// together, until ctx ends.
func (r *Recorder) Watch(ctx context.Context, notify func()) error {
	disturbed := make(chan struct{}, 1)
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return errClosed
	}
	if r.watchers == nil {
		r.watchers = make(map[chan struct{}]bool)
	}
	r.watchers[disturbed] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, disturbed)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-disturbed:
			notify()
		}
	}
}

// Disturb forgets all bans, as if somebody had flushed the kernel's sets, and
// tells those who watch.
func (r *Recorder) Disturb() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.bans)
	for w := range r.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Stands is NFTables.Stands.
func (r *Recorder) Stands() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, errClosed
	}
	return r.rules != nil, nil
}

// Remove is NFTables.Remove.
func (r *Recorder) Remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	r.rules, r.jails, r.allow, r.bans = nil, nil, nil, nil
	return nil
}

// Close is NFTables.Close. What was told can still be read with Rules and Allow.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
