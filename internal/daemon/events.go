package daemon

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/lookup"
)

// Bounds of what those who watch can make the daemon hold.
const (
	mostWatchers = 32
	mostWaiting  = 1024 // events of one watcher
)

// events tells those who watch what happens. Nobody who tells it waits: a watcher that is too slow loses events and
// is told how many. Its methods are safe for concurrent use; the zero value has no watcher.
type events struct {
	some atomic.Bool // there are watchers: else nothing is made of what happens

	mu       sync.Mutex // guards the rest
	watchers map[*watcher]bool
	closed   bool
}

// A watcher is somebody who watches.
type watcher struct {
	jail    string // "" for all
	waiting []control.Event
	lost    int
	wake    chan struct{} // holds one token: there is something to take
}

// tell hands an event to all who want it.
func (e *events) tell(event control.Event) {
	event.At = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers {
		if w.jail != "" && event.Jail != "" && w.jail != event.Jail {
			continue
		}
		if len(w.waiting) >= mostWaiting && event.Kind != control.EventStop {
			w.lost++
		} else {
			w.waiting = append(w.waiting, event)
		}
		w.nudge()
	}
}

func (w *watcher) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close ends all watching, with a last event.
func (e *events) close() {
	e.tell(control.Event{Kind: control.EventStop})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for w := range e.watchers {
		w.nudge()
	}
}

// take is what has happened since it was last called; over is true if nothing more will.
func (e *events) take(w *watcher) (some []control.Event, over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	some, w.waiting = w.waiting, nil
	if w.lost > 0 {
		some = append(some, control.Event{At: time.Now(), Kind: control.EventLost, Count: w.lost})
		w.lost = 0
	}
	return some, e.closed
}

// watch begins to watch; what happens from now on is in what it returns, until ctx or the daemon ends.
func (e *events) watch(ctx context.Context, jail string) (iter.Seq[[]control.Event], error) {
	w := &watcher{jail: jail, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.watchers) >= mostWatchers {
		return nil, control.Refuse("end one of them", "%d watch already", mostWatchers)
	}
	if e.watchers == nil {
		e.watchers = map[*watcher]bool{}
	}
	e.watchers[w] = true
	e.some.Store(true)
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, w)
		e.some.Store(len(e.watchers) > 0)
	})
	return func(yield func([]control.Event) bool) {
		for {
			some, over := e.take(w)
			if len(some) > 0 && !yield(some) || over {
				return
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
		}
	}, nil
}

func (d *Daemon) watchEvents(ctx context.Context, r control.WatchRequest) (iter.Seq[[]control.Event], error) {
	if r.Jail != "" && r.Jail != jail.Manual {
		p := d.plan.Load()
		if !p.runs(r.Jail) && p.whyAside(r.Jail) == nil {
			return nil, control.Refuse("bantam status lists the jails", "there is no jail %q", r.Jail)
		}
	}
	return d.events.watch(ctx, r.Jail)
}

// eventFound tells of a failure that counts.
func (d *Daemon) eventFound(f *bantam.Failure, _ string) {
	if f.Known || f.ID.IsZero() || !d.events.some.Load() {
		return
	}
	d.events.tell(control.Event{Kind: control.EventFailure, Jail: f.Jail, ID: f.ID, Country: f.Country, User: cutUser(f.User), Regex: f.Regex})
}

// atOnce is the context of who does not wait.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// eventIgnored tells of one that does not count.
func (d *Daemon) eventIgnored(f *bantam.Failure) {
	if f.Known || !d.events.some.Load() {
		return
	}
	by, is := d.lookup.Ignored(atOnce, f.Jail, f.ID)
	if !is {
		by = lookup.ByCommand // which is not asked a second time
	}
	d.events.tell(control.Event{Kind: control.EventIgnored, Jail: f.Jail, ID: f.ID, Country: f.Country, User: cutUser(f.User), Text: by})
}

// cutUser bounds what a watcher may have to hold.
func cutUser(user string) string {
	const most = 256
	if len(user) > most {
		return user[:most]
	}
	return user
}

// eventKinds are what decisions are to those who watch.
var eventKinds = map[bantam.Kind]string{
	bantam.Start: control.EventBan, bantam.Prolong: control.EventProlong, bantam.End: control.EventUnban, bantam.Restore: control.EventRestore,
}

// eventDecided tells of a decision.
func (d *Daemon) eventDecided(decision *bantam.Decision) {
	if !d.events.some.Load() || decision.Cause == jail.Repeated {
		return
	}
	b := &decision.Ban
	e := control.Event{
		Kind: eventKinds[decision.Kind], Jail: b.Jail, ID: b.ID, Country: b.Country, User: cutUser(b.User), Text: b.Reason,
		Failures: b.Failures, Count: b.Count, By: b.By, End: b.End, Observed: b.Observed,
	}
	switch {
	case decision.Kind == bantam.End:
		e.Text = decision.Cause
	case b.Held() && decision.Kind == bantam.Start:
		e.Kind = control.EventHeld
	}
	d.events.tell(e)
}

// eventReloaded tells of the jails of a plan that was put to work.
func (d *Daemon) eventReloaded(p *plan) {
	if !d.events.some.Load() {
		return
	}
	d.events.tell(control.Event{Kind: control.EventReload, Count: len(p.jails) - 1}) // but for manual
	for _, a := range p.aside {
		d.events.tell(control.Event{Kind: control.EventAside, Jail: a.jail, Text: a.err.Error()})
	}
}
