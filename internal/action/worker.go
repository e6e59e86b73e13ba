package action

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bantam"
)

// How long a failed decision rests before it is tried again, and how often an unban is: what
// somebody else has taken away already cannot be taken away, and no command says so.
const (
	firstRest = time.Second
	lastRest  = 5 * time.Minute
	maxUnbans = 8
)

// A worker has one action of one jail at work. What fails rests, with all that comes for the same
// ID, while the rest goes on.
type worker struct {
	log    *slog.Logger
	config Config
	effect Worker
	wake   chan struct{}
	after  []<-chan struct{} // what has to be over first: actions whose place it takes
	ended  chan struct{}     // closed when its loop is over

	mu        sync.Mutex // guards the rest
	pending   []bantam.Decision
	compactAt int // length of pending at which it is looked through
	resting   map[bantam.ID]*rest
	due       rests
	put       uint64 // Seq of the last decision that came
	done      uint64 // Seq up to which all was tried
	moved     chan struct{}
	held      bool                    // until the bans that run already have come
	asked     []func(context.Context) // what somebody wants done between two decisions
	closed    bool
	over      bool // its loop is
	startOK   bool
	err       error // of Start
	gaveUp    uint64
}

// A rest is an ID whose decisions wait to be tried again.
type rest struct {
	decisions []bantam.Decision // the first is the one that failed
	due       time.Time
	pause     time.Duration
	tries     int
	err       error
	at        int // in the heap
}

// rests is a heap by due.
type rests []*rest

func (r rests) Len() int           { return len(r) }
func (r rests) Less(i, j int) bool { return r[i].due.Before(r[j].due) }
func (r rests) Swap(i, j int)      { r[i], r[j] = r[j], r[i]; r[i].at, r[j].at = i, j }
func (r *rests) Push(x any)        { x.(*rest).at = len(*r); *r = append(*r, x.(*rest)) }
func (r *rests) Pop() any {
	old := *r
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*r = old[:len(old)-1]
	return x
}

// newWorker makes the worker of an effect. Bans that run already are made in between what
// comes: who attacks now does not wait for them.
func newWorker(log *slog.Logger, c Config, effect Worker, running []bantam.Decision) *worker {
	w := &worker{
		log: log.With("jail", c.Jail, "action", c.Title), config: c, effect: effect, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		resting: map[bantam.ID]*rest{}, moved: make(chan struct{}), compactAt: compactAt,
	}
	w.rest(running)
	return w
}

// rest has decisions wait for their turn, which has come, in their order. mu is held, or nobody else
// knows w yet.
func (w *worker) rest(decisions []bantam.Decision) {
	due := time.Now()
	for i, d := range decisions {
		if w.resting[d.Ban.ID] == nil {
			r := &rest{decisions: []bantam.Decision{d}, pause: firstRest, due: due.Add(time.Duration(i - len(decisions)))}
			w.resting[d.Ban.ID] = r
			heap.Push(&w.due, r)
		}
	}
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add takes decisions of its jail.
func (w *worker) add(decisions ...bantam.Decision) {
	w.mu.Lock()
	w.pending = append(w.pending, decisions...)
	if len(w.pending) >= w.compactAt {
		w.pending = overtaken(w.pending)
		w.compactAt = max(compactAt, 2*len(w.pending))
	}
	w.put = decisions[len(decisions)-1].Seq
	w.mu.Unlock()
	w.poke()
}

// overtaken is pending without what need not happen any more: a ban that has already ended, and what
// changed its end. An end is kept, because only the action knows whether the ban was
// made, and so is a ban behind it.
func overtaken(pending []bantam.Decision) []bantam.Decision {
	const gone bantam.Kind = ""
	out := pending[:0]
	last := make(map[bantam.ID]int, len(pending))
	behind := map[bantam.ID]int{} // where the end is that a ban stands behind
	for _, d := range pending {
		id := d.Ban.ID
		at, ok := last[id]
		switch {
		case !ok:
		case out[at].Kind == bantam.End:
			if d.Kind == bantam.End {
				continue
			}
			behind[id] = at
		case d.Kind != bantam.End:
			out[at].Ban = d.Ban // it has not begun: it begins so
			continue
		default:
			end, ok := behind[id]
			if !ok {
				out[at] = d
				continue
			}
			out[at].Kind = gone // the end before it is enough
			last[id] = end
			delete(behind, id)
			continue
		}
		last[id] = len(out)
		out = append(out, d)
	}
	return slices.DeleteFunc(out, func(d bantam.Decision) bool { return d.Kind == gone })
}

// close ends its loop once nothing is pending; what rests is left.
func (w *worker) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.poke()
}

// abandon ends its loop at once.
func (w *worker) abandon() {
	w.mu.Lock()
	w.closed, w.pending = true, nil
	w.mu.Unlock()
	w.poke()
}

// ask has something done between two decisions.
func (w *worker) ask(f func(context.Context)) {
	w.mu.Lock()
	w.asked = append(w.asked, f)
	w.mu.Unlock()
	w.poke()
}

// reload tells the action that it was configured again.
func (w *worker) reload(ctx context.Context) {
	if err := w.effect.Reload(ctx); err != nil {
		w.log.Error("reload the action", "err", err)
	}
}

// run works until the worker is closed and nothing is pending, or ctx ends.
func (w *worker) run(ctx context.Context) {
	defer close(w.ended)
	defer w.move(func() { w.closed, w.over = true, true })
	for _, over := range w.after {
		<-over // they have a deadline of their own
	}
	start := rest{pause: firstRest}
	for ctx.Err() == nil {
		w.mu.Lock()
		closed, asked := w.closed, w.asked
		w.asked = nil
		w.mu.Unlock()
		w.ready(ctx, &start)
		for _, f := range asked {
			f(ctx)
		}
		if w.step(ctx) {
			continue
		}
		if closed {
			return
		}
		w.sleep(ctx, start.due)
	}
}

// ready starts the action if that has not worked yet and it is time to try.
func (w *worker) ready(ctx context.Context, start *rest) {
	if w.startOK || time.Now().Before(start.due) {
		return
	}
	err := w.effect.Start(ctx)
	if err != nil && ctx.Err() == nil {
		w.log.Error(fmt.Sprintf("Failed to start jail '%s' action '%s'", w.config.Jail, w.config.Title), "err", err)
	}
	start.due = time.Now().Add(start.pause)
	start.pause = min(2*start.pause, lastRest)
	w.move(func() { w.startOK, w.err = err == nil, err })
}

// sleep waits until there is something to do.
func (w *worker) sleep(ctx context.Context, start time.Time) {
	w.mu.Lock()
	wait := lastRest
	if len(w.due) > 0 {
		wait = time.Until(w.due[0].due)
	}
	if !w.startOK {
		wait = min(wait, time.Until(start))
	}
	w.mu.Unlock()
	t := time.NewTimer(max(wait, 0))
	defer t.Stop()
	select {
	case <-w.wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// move changes what waiters look at and wakes them.
func (w *worker) move(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.moved)
	w.moved = make(chan struct{})
}

// step tries one decision that has rested and one that is new; it reports whether there was any.
func (w *worker) step(ctx context.Context) (did bool) {
	w.mu.Lock()
	var r *rest
	if len(w.due) > 0 && !w.due[0].due.After(time.Now()) && !w.closed {
		r = w.due[0]
	}
	w.mu.Unlock()
	if r != nil {
		w.retry(ctx, r)
		did = true
	}
	w.mu.Lock()
	if len(w.pending) == 0 {
		caught := w.done < w.put
		w.mu.Unlock()
		if caught {
			w.move(func() {
				if len(w.pending) == 0 {
					w.done = max(w.done, w.put)
				}
			})
		}
		return did
	}
	d := w.pending[0]
	w.pending[0] = bantam.Decision{}
	w.pending = w.pending[1:]
	run := w.join(&d)
	w.mu.Unlock()
	if run {
		retry, err := w.effect.Do(ctx, &d)
		w.mu.Lock()
		if retry && ctx.Err() == nil {
			r := &rest{decisions: []bantam.Decision{d}, pause: firstRest, due: time.Now().Add(firstRest), tries: 1, err: err}
			w.resting[d.Ban.ID] = r
			heap.Push(&w.due, r)
		} else if err != nil {
			w.gaveUp++
		}
		w.mu.Unlock()
	}
	w.lost()
	w.move(func() { w.done = max(w.done, d.Seq) })
	return true
}

// join puts a decision behind those of its ID that rest and reports whether it is to be
// tried now. mu is held.
func (w *worker) join(d *bantam.Decision) (run bool) {
	r := w.resting[d.Ban.ID]
	if r == nil {
		return true
	}
	first := &r.decisions[0]
	switch {
	case first.Kind == bantam.End:
		// It failed to end; then it began again: both are done in turn, the last state counts.
		r.decisions = append(r.decisions[:1], *d)
		if d.Kind == bantam.End {
			r.decisions = r.decisions[:1]
		}
	case d.Kind == bantam.End:
		// It is not needed any more. What a failed command left is cleared away.
		w.forget(r, d.Ban.ID)
		return true
	default:
		first.Ban = d.Ban
	}
	return false
}

// forget ends a rest. mu is held.
func (w *worker) forget(r *rest, id bantam.ID) {
	delete(w.resting, id)
	heap.Remove(&w.due, r.at)
}

// retry tries what has rested.
func (w *worker) retry(ctx context.Context, r *rest) {
	// Only this goroutine changes rests, so what is read here stays so.
	d := r.decisions[0]
	retry, err := w.effect.Do(ctx, &d)
	if ctx.Err() != nil {
		return
	}
	r.tries++
	gaveUp := err != nil && (!retry || d.Kind == bantam.End && r.tries >= maxUnbans)
	if gaveUp {
		w.log.Error("given up", "addr", d.Ban.ID.String(), "tries", r.tries, "err", err)
	}
	w.move(func() {
		switch {
		case gaveUp, err == nil:
			if gaveUp {
				w.gaveUp++
			}
			if r.decisions = r.decisions[1:]; len(r.decisions) == 0 {
				w.forget(r, d.Ban.ID)
				return
			}
			r.pause, r.tries, r.err, r.due = firstRest, 0, nil, time.Now()
		default:
			r.pause, r.err = min(2*r.pause, lastRest), err
			r.due = time.Now().Add(r.pause)
		}
		heap.Fix(&w.due, r.at)
	})
	w.lost()
}

// lost has bans that the effect has lost made again.
func (w *worker) lost() {
	again := w.effect.Again()
	if len(again) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest(again)
}

// settle waits until a decision was tried; the error says what came of it.
func (w *worker) settle(ctx context.Context, d *bantam.Decision) error {
	for {
		w.mu.Lock()
		done, over, moved := w.done >= d.Seq, w.over, w.moved
		var err error
		if r := w.resting[d.Ban.ID]; r != nil {
			err = r.err
		}
		w.mu.Unlock()
		switch {
		case done && err != nil:
			return fmt.Errorf("action %s of %s: %w", w.config.Title, w.config.Jail, err)
		case done:
			return nil
		case over:
			return fmt.Errorf("action %s of %s: %w", w.config.Title, w.config.Jail, ErrStopped)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("action %s of %s: %w", w.config.Title, w.config.Jail, context.Cause(ctx))
		}
	}
}

func (w *worker) status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := Status{
		Action: w.config.Jail + "/" + w.config.Title, Jail: w.config.Jail, Kind: w.config.Kind,
		Pending: len(w.pending), GaveUp: w.gaveUp,
	}
	for _, r := range w.due {
		if r.err == nil {
			st.Pending++
			continue
		}
		st.Failing++
		st.Err = r.err.Error()
	}
	if w.err != nil && !errors.Is(w.err, context.Canceled) {
		st.Err = w.err.Error()
	}
	return st
}
