// Package action carries decisions out.
//
// Each effect has its own queue and its own goroutine, so a slow one delays no
// other. What an effect could not do is tried again with growing pauses until it
// works or is no longer needed; the order of what concerns one offender is kept.
// What an effect is, a firewall, a mail, a shell command, is its own business.
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

// Actions are all effects at work. Run is called once; the other methods are safe
// for concurrent use.
type Actions struct {
	log    *slog.Logger
	queues []*queue // by name
}

// A queue holds what one effect has still to do.
type queue struct {
	name   string
	effect Effect
	wake   chan struct{}

	mu      sync.Mutex // guards the rest
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
	for name, e := range effects {
		a.queues = append(a.queues, &queue{name: name, effect: e, wake: make(chan struct{}, 1), moved: make(chan struct{})})
	}
	slices.SortFunc(a.queues, func(x, y *queue) int { return strings.Compare(x.name, y.name) })
	return a
}

// Run carries out what arrives until stored is closed, then what is left, for at
// most drain. Observed bans are not carried out.
func (a *Actions) Run(stored <-chan []bantam.Decision, drain time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for _, q := range a.queues {
		wg.Go(func() { q.run(ctx, a.log) })
	}
	for batch := range stored {
		act := slices.DeleteFunc(slices.Clone(batch), func(d bantam.Decision) bool { return d.Ban.Observed })
		last := batch[len(batch)-1].Seq
		for _, q := range a.queues {
			q.add(act, last)
		}
	}
	stop := time.AfterFunc(drain, cancel)
	defer stop.Stop()
	for _, q := range a.queues {
		q.close()
	}
	wg.Wait()
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
		work, last, closed := q.pending, q.put, q.closed
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
		retry, err := q.effect.Do(ctx, work)
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

// Wait waits until the decisions up to seq are carried out, or ctx ends; the
// error then says which action hangs and why.
func (a *Actions) Wait(ctx context.Context, seq uint64) error {
	for _, q := range a.queues {
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

// A Status is one effect in figures.
type Status struct {
	Action  string `json:"action"`
	Pending int    `json:"pending"`
	Err     string `json:"error,omitempty"`
}

// Status is the effects in figures.
func (a *Actions) Status() []Status {
	out := make([]Status, 0, len(a.queues))
	for _, q := range a.queues {
		q.mu.Lock()
		st := Status{Action: q.name, Pending: len(q.pending)}
		if q.err != nil {
			st.Err = q.err.Error()
		}
		q.mu.Unlock()
		out = append(out, st)
	}
	return out
}
