package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"bantam"
)

// mostHeld is how many failures an idle jail keeps for later; the oldest go first.
const mostHeld = 4096

// idle holds the failures of jails that are idle, on their way to the jails, and lets in
// those that somebody tells of. Bans of an idle jail end in their time.
type idle struct {
	told chan bantam.Failure // what was told by hand
	woke chan struct{}       // holds one token: a jail is idle no more

	mu   sync.Mutex // guards what follows
	held map[string][]bantam.Failure
	due  []bantam.Failure // of jails that are idle no more

	found func(f *bantam.Failure, how string) // is told of failures that are let in; nil for nobody
}

func newIdle() *idle {
	return &idle{told: make(chan bantam.Failure), woke: make(chan struct{}, 1), held: map[string][]bantam.Failure{}}
}

// run hands failures on until in is closed, then closes out.
func (i *idle) run(in <-chan bantam.Failure, out chan<- bantam.Failure) {
	defer close(out)
	for {
		select {
		case f, ok := <-in:
			if !ok {
				return
			}
			i.pass(f, out)
		case f := <-i.told:
			i.passAs(f, attempted, out)
		case <-i.woke:
			for _, f := range i.ready() {
				// It counts as read now: what has grown too old does not count.
				f.Read = time.Now()
				i.letIn(f, foundIt, out)
			}
		}
	}
}

func (i *idle) pass(f bantam.Failure, out chan<- bantam.Failure) { i.passAs(f, foundIt, out) }

// passAs lets a failure in, or holds it if its jail is idle; how is what the log says of it.
func (i *idle) passAs(f bantam.Failure, how string, out chan<- bantam.Failure) {
	i.mu.Lock()
	held, idle := i.held[f.Jail]
	if idle {
		if len(held) == mostHeld {
			held = held[1:]
		}
		i.held[f.Jail] = append(held, f)
	}
	i.mu.Unlock()
	if !idle {
		i.letIn(f, how, out)
	}
}

// letIn hands a failure to the jails, once the log has it.
func (i *idle) letIn(f bantam.Failure, how string, out chan<- bantam.Failure) {
	if i.found != nil {
		i.found(&f, how)
	}
	out <- f
}

// ready takes what was held for jails that are idle no more.
func (i *idle) ready() []bantam.Failure {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := i.due
	i.due = nil
	return out
}

// tell hands in a failure that no line made.
func (i *idle) tell(ctx context.Context, f bantam.Failure) error {
	select {
	case i.told <- f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(carryOut):
		return errors.New("the jails are busy or stopping")
	}
}

// rest makes a jail idle.
func (i *idle) rest(jail string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, idle := i.held[jail]; !idle {
		i.held[jail] = nil
	}
}

// wake ends a jail's rest.
func (i *idle) wake(jail string) {
	i.mu.Lock()
	i.due = append(i.due, i.held[jail]...)
	delete(i.held, jail)
	i.mu.Unlock()
	select {
	case i.woke <- struct{}{}:
	default:
	}
}

// wakeAll ends the rest of every jail.
func (i *idle) wakeAll() {
	i.mu.Lock()
	jails := slices.Collect(maps.Keys(i.held))
	i.mu.Unlock()
	for _, jail := range jails {
		i.wake(jail)
	}
}

// resting reports whether a jail is idle.
func (i *idle) resting(jail string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, idle := i.held[jail]
	return idle
}
