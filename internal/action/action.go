// Package action carries decisions out.
//
// Each effect has its own queue and its own goroutine, so a slow one delays no
// other. What an effect could not do is tried again with growing pauses until it
// works or is no longer needed; the order of what concerns one offender is kept.
// What an effect is, a firewall, a mail, is its own business.
//
// The actions of jails that files describe, as commands for the system's shell or as Python
// classes, are carried out here. They work on one decision after the other; what fails rests
// and is tried again while the rest goes on, and each is taken back when the
// configuration has it no more or the daemon stops. What an attacker wrote never
// reaches a shell except as the value of a variable.
package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"bantam"
)

// An Effect carries decisions out.
type Effect interface {
	// Do carries out decisions in their order. If retry is true it is called again
	// with the same ones, and maybe more behind them, so doing one twice must
	// do no harm.
	Do(ctx context.Context, decisions []bantam.Decision) (retry bool, err error)
}

// ErrStopped is wrapped by Wait's error when the actions ended first.
var ErrStopped = errors.New("the daemon is stopping")

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
	// compactAt is the length of a queue at which decisions are dropped that a
	// later one on the same ban has overtaken.
	compactAt = 8192
)

// liftFor is how long the actions of a jail may take, when they end, to take back what they did.
const liftFor = 45 * time.Second

// Actions are all effects at work. Run is called once; the other methods are safe
// for concurrent use.
type Actions struct {
	log *slog.Logger

	mu      sync.Mutex // guards the rest
	queues  []*queue   // by name
	last    uint64     // Seq of the last decision that came
	workers []*worker  // in the order of the configuration
	byJail  map[string][]*worker
	ending  map[string][]<-chan struct{} // by jail: actions that are being taken back
	// run starts a goroutine of Run, with a context that ends when what is left is not waited for
	// any more; nil outside of Run.
	run func(func(context.Context))
}

// A queue holds what one effect has still to do.
type queue struct {
	name string
	jail string // whose decisions it has; empty for all
	wake chan struct{}

	mu      sync.Mutex // guards the rest
	effect  Effect
	pending []bantam.Decision
	put     uint64        // Seq of the last decision that came
	done    uint64        // Seq up to which all is carried out
	moved   chan struct{} // closed and renewed when done or err moves
	err     error         // why the head of the queue is tried again
	closed  bool
}

// New makes the actions of some effects, named for status and log.
func New(log *slog.Logger, effects map[string]Effect) *Actions {
	a := &Actions{log: log}
	for name, e := range effects { // none of them is for one jail
		a.queues = append(a.queues, newQueue(name, "", e))
	}
	slices.SortFunc(a.queues, func(x, y *queue) int { return strings.Compare(x.name, y.name) })
	return a
}

// Assign makes effects, by jail, those that concern one jail alone: each has a queue of
// its own, so that a jail whose effect fails delays no other. The effect of a jail that had
// one before takes over what is pending; one whose jail is not there any more does what is
// pending and ends.
func (a *Actions) Assign(effects map[string]Effect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queues = slices.DeleteFunc(a.queues, func(q *queue) bool {
		if q.jail == "" {
			return false
		}
		effect, stays := effects[q.jail]
		if stays {
			q.take(effect)
			delete(effects, q.jail)
			return false
		}
		q.close()
		return true
	})
	for jail, effect := range effects {
		q := newQueue(jail+"/firewall", jail, effect)
		q.put, q.done = a.last, a.last
		a.queues = append(a.queues, q)
		if a.run != nil {
			a.run(func(ctx context.Context) { q.run(ctx, a.log) })
		}
	}
	slices.SortFunc(a.queues, func(x, y *queue) int { return strings.Compare(x.name, y.name) })
}

// Run carries out what arrives until stored is closed, then what is left, for at
// most drain. Observed bans are not carried out. At last the actions of jails take
// back their bans and stop.
func (a *Actions) Run(stored <-chan []bantam.Decision, drain time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	a.mu.Lock()
	a.run = func(f func(context.Context)) { wg.Go(func() { f(ctx) }) }
	for _, q := range a.queues {
		a.run(func(ctx context.Context) { q.run(ctx, a.log) })
	}
	for _, w := range a.workers {
		a.run(w.run)
	}
	a.mu.Unlock()
	for batch := range stored {
		act := slices.DeleteFunc(slices.Clone(batch), func(d bantam.Decision) bool { return d.Ban.Observed })
		a.share(act, batch[len(batch)-1].Seq)
	}
	stop := time.AfterFunc(drain, cancel)
	defer stop.Stop()
	a.mu.Lock()
	for _, q := range a.queues {
		q.close()
	}
	a.run = nil
	jails := a.byJail
	a.byJail, a.workers = nil, nil
	a.mu.Unlock()
	for _, workers := range jails {
		wg.Go(func() { end(a.log, workers, (*worker).close) })
	}
	wg.Wait()
}

// share hands decisions to the effects for all jails and to those of their own; last is
// the Seq of the last one, carried out or not.
func (a *Actions) share(decisions []bantam.Decision, last uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = last
	of := map[string][]bantam.Decision{}
	if slices.ContainsFunc(a.queues, func(q *queue) bool { return q.jail != "" }) {
		for _, d := range decisions {
			of[d.Ban.Jail] = append(of[d.Ban.Jail], d)
		}
	}
	of[""] = decisions // for those that are for all jails
	for _, q := range a.queues {
		q.add(of[q.jail], last)
	}
	if len(a.byJail) == 0 {
		return
	}
	for i := range decisions {
		for _, w := range a.byJail[decisions[i].Ban.Jail] {
			w.add(decisions[i])
		}
	}
}

// end ends actions of one jail: side by side they take back their bans, and then they
// stop, the last one first.
func end(log *slog.Logger, workers []*worker, how func(*worker)) {
	for _, w := range workers {
		how(w)
	}
	for _, w := range workers {
		<-w.ended
	}
	ctx, cancel := context.WithTimeout(context.Background(), liftFor)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			if err := w.effect.Lift(ctx); err != nil {
				log.Error("cannot take back all bans", "jail", w.config.Jail, "action", w.config.Title, "err", err)
			}
		})
	}
	wg.Wait()
	for _, w := range slices.Backward(workers) {
		if err := w.effect.Stop(ctx); err != nil {
			log.Error(fmt.Sprintf("Failed to stop jail '%s' action '%s'", w.config.Jail, w.config.Title), "err", err)
		}
	}
}

// Configure makes the actions of all jails those of configs, which are of kind Shell or Python.
// Those that are configured as before go on, and are told so; those that are not there
// any more, or otherwise, are taken back: their bans are lifted and they are stopped.
//
// New ones begin with running, decisions of kind Restore, then take all that Run gets from now on,
// once those whose place they take have ended; fresh are their jails. Nothing runs before Run does.
// The error is for actions that cannot be made; then nothing is changed.
func (a *Actions) Configure(world *World, configs []Config, running []bantam.Decision) (fresh []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := map[string]*worker{}
	for _, w := range a.workers {
		old[w.config.key()] = w
	}
	var workers, begun, same []*worker
	of := map[string][]bantam.Decision{}
	for _, d := range running {
		if !d.Ban.Observed {
			of[d.Ban.Jail] = append(of[d.Ban.Jail], d)
		}
	}
	for _, c := range configs {
		if w := old[c.key()]; w != nil && w.config.same(&c) {
			workers, same = append(workers, w), append(same, w)
			delete(old, c.key())
			continue
		}
		effect, err := open(a.log, world, c)
		if err != nil {
			return nil, fmt.Errorf("the action %s of %s: %w", c.Title, c.Jail, err)
		}
		w := newWorker(a.log, c, effect, slices.Clone(of[c.Jail]))
		workers, begun = append(workers, w), append(begun, w)
		if !slices.Contains(fresh, c.Jail) {
			fresh = append(fresh, c.Jail)
		}
	}
	for _, w := range same {
		w.ask(w.reload)
	}
	a.retire(old)
	a.workers, a.byJail = workers, map[string][]*worker{}
	for _, w := range workers {
		a.byJail[w.config.Jail] = append(a.byJail[w.config.Jail], w)
	}
	for _, w := range begun {
		w.after = slices.Clone(a.ending[w.config.Jail])
		if a.run != nil {
			a.run(w.run)
		}
	}
	return fresh, nil
}

// retire ends actions while others go on. mu is held.
func (a *Actions) retire(old map[string]*worker) {
	jails := map[string][]*worker{}
	for _, w := range a.workers {
		if old[w.config.key()] == w {
			jails[w.config.Jail] = append(jails[w.config.Jail], w)
		}
	}
	if a.run == nil {
		return // none has begun
	}
	if a.ending == nil {
		a.ending = map[string][]<-chan struct{}{}
	}
	for jail, over := range a.ending {
		a.ending[jail] = slices.DeleteFunc(over, func(c <-chan struct{}) bool {
			select {
			case <-c:
				return true
			default:
				return false
			}
		})
	}
	for jail, workers := range jails {
		over := make(chan struct{})
		a.ending[jail] = append(a.ending[jail], over)
		a.run(func(context.Context) {
			defer close(over)
			end(a.log, workers, (*worker).abandon)
		})
	}
}

func newQueue(name, jail string, effect Effect) *queue {
	return &queue{name: name, jail: jail, effect: effect, wake: make(chan struct{}, 1), moved: make(chan struct{})}
}

// take makes another effect carry out what comes.
func (q *queue) take(effect Effect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.effect = effect
}

func (q *queue) add(decisions []bantam.Decision, last uint64) {
	q.mu.Lock()
	q.pending = append(q.pending, decisions...)
	q.put = last
	if len(q.pending) >= compactAt {
		q.pending = compact(q.pending)
	}
	q.mu.Unlock()
	q.poke()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.poke()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// compact keeps, of the decisions on one ban, the last: the kernel need not see a
// ban that has already ended.
func compact(pending []bantam.Decision) []bantam.Decision {
	type key struct {
		jail string
		id   bantam.ID
	}
	seen := make(map[key]bool, len(pending))
	out := make([]bantam.Decision, 0, len(pending))
	for _, d := range slices.Backward(pending) {
		if k := (key{d.Ban.Jail, d.Ban.ID}); !seen[k] {
			seen[k] = true
			out = append(out, d)
		}
	}
	slices.Reverse(out)
	return out
}

// run does what is pending until the queue is closed and empty, or ctx ends.
func (q *queue) run(ctx context.Context, log *slog.Logger) {
	defer q.advance(0, ErrStopped)
	pause := firstRetry
	for {
		q.mu.Lock()
		work, last, closed, effect := q.pending, q.put, q.closed, q.effect
		q.pending = nil
		q.mu.Unlock()

		if len(work) == 0 {
			q.advance(last, nil)
			if closed {
				return
			}
			select {
			case <-q.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		retry, err := effect.Do(ctx, work)
		if err != nil {
			log.Error("cannot carry out decisions", "action", q.name, "decisions", len(work), "retry", retry, "err", err)
		}
		if err == nil || !retry {
			q.advance(last, nil)
			pause = firstRetry
			continue
		}
		q.mu.Lock()
		q.pending = append(work, q.pending...)
		if len(q.pending) >= compactAt {
			q.pending = compact(q.pending)
		}
		q.mu.Unlock()
		q.advance(0, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastRetry)
	}
}

// advance says how far the queue has come.
func (q *queue) advance(done uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if done <= q.done && err == nil && q.err == nil {
		return
	}
	q.done = max(q.done, done)
	q.err = err
	close(q.moved)
	q.moved = make(chan struct{})
}

// Wait waits until the decisions up to seq are carried out by all effects that are not
// for one jail alone, or ctx ends; the error then says which hangs and why.
func (a *Actions) Wait(ctx context.Context, seq uint64) error {
	return a.wait(ctx, seq, func(q *queue) bool { return q.jail == "" })
}

func (a *Actions) wait(ctx context.Context, seq uint64, which func(*queue) bool) error {
	a.mu.Lock()
	queues := slices.Clone(a.queues)
	a.mu.Unlock()
	for _, q := range queues {
		if !which(q) {
			continue
		}
		for {
			q.mu.Lock()
			done, err, moved := q.done, q.err, q.moved
			q.mu.Unlock()
			if done >= seq {
				break
			}
			if errors.Is(err, ErrStopped) {
				return fmt.Errorf("action %s: %w", q.name, err)
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return fmt.Errorf("action %s: %w", q.name, cmp.Or(err, context.Cause(ctx)))
			}
		}
	}
	return nil
}

// Settle waits until decisions are carried out, or ctx ends. It waits for no effect that
// they do not concern. What was tried and did not work is an error that names the
// action; it is tried again all the same.
func (a *Actions) Settle(ctx context.Context, decisions []bantam.Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	concerned := func(q *queue) bool {
		return q.jail == "" || slices.ContainsFunc(decisions, func(d bantam.Decision) bool { return d.Ban.Jail == q.jail })
	}
	if err := a.wait(ctx, decisions[len(decisions)-1].Seq, concerned); err != nil {
		return err
	}
	a.mu.Lock()
	byJail := a.byJail
	a.mu.Unlock()
	for i := range decisions {
		for _, w := range byJail[decisions[i].Ban.Jail] {
			if err := w.settle(ctx, &decisions[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// A Status is one effect in figures.
type Status struct {
	// Action is its name; that of a jail's action is JAIL/TITLE.
	Action  string `json:"action"`
	Pending int    `json:"pending"`
	Err     string `json:"error,omitempty"`

	Jail    string `json:"jail,omitempty"`    // empty for what is for all jails
	Kind    string `json:"kind,omitempty"`    // Native, Shell or Python; empty for what is for all jails
	Failing int    `json:"failing,omitempty"` // IDs whose last decision did not work yet
	GaveUp  uint64 `json:"gave_up,omitempty"` // decisions that were never carried out
}

// Status is the effects in figures.
func (a *Actions) Status() []Status {
	a.mu.Lock()
	queues, workers := slices.Clone(a.queues), a.workers
	a.mu.Unlock()
	out := make([]Status, 0, len(queues)+len(workers))
	for _, q := range queues {
		q.mu.Lock()
		st := Status{Action: q.name, Jail: q.jail, Pending: len(q.pending)}
		if q.jail != "" {
			st.Kind = Native
		}
		if q.err != nil {
			st.Err = q.err.Error()
		}
		q.mu.Unlock()
		out = append(out, st)
	}
	for _, w := range workers {
		out = append(out, w.status())
	}
	return out
}

// Carry has one action of a jail carry out a decision that no jail has made, once, as somebody who
// tries an action wants it. It waits for its turn and its end, or for ctx.
func (a *Actions) Carry(ctx context.Context, jail, title string, d bantam.Decision) error {
	a.mu.Lock()
	workers := a.byJail[jail]
	a.mu.Unlock()
	for _, w := range workers {
		if w.config.Title != title {
			continue
		}
		done := make(chan error, 1)
		w.ask(func(ctx context.Context) {
			_, err := w.effect.Do(ctx, &d)
			done <- err
		})
		select {
		case err := <-done:
			return err
		case <-w.ended:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("%w %q in %s", ErrNoAction, title, jail)
}

// ErrNoAction is wrapped by the error for an action that a jail does not have.
var ErrNoAction = errors.New("there is no action")

// Of are the actions of a jail, of kind Shell or Python, in their order.
func (a *Actions) Of(jail string) []Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Config
	for _, w := range a.byJail[jail] {
		out = append(out, w.config)
	}
	return out
}
