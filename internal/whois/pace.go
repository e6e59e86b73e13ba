package whois

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// betweenQuestions is how long a server has rest from us: registries block whoever asks in bursts.
	betweenQuestions = time.Second
	// maxWait is how long a question stands in a queue before it gives up.
	maxWait = 30 * time.Second
	// afterTrouble is how long a server is left alone with which something did not work.
	afterTrouble = time.Minute
	// maxPause is the longest that a server may ask to be left alone, and what is
	// kept to if it does not say how long.
	maxPause = time.Hour
	// maxServers is how many servers are kept in mind.
	maxServers = 1000
)

// A refusal is an error of a server that wants to be left alone.
type refusal struct {
	pause time.Duration
	said  string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the server wants no question for %s: %s", r.pause, r.said)
}

// A pace keeps questions to one server apart. The zero pace is ready.
type pace struct {
	mu   sync.Mutex           // guards the rest
	next map[string]time.Time // when a server may be asked next, wall time
}

// wait waits until it is one's turn. What would take too long, or longer than ctx has, fails at once.
func (p *pace) wait(ctx context.Context, host string) error {
	p.mu.Lock()
	now := time.Now()
	pause := max(0, p.next[host].Sub(now))
	deadline, limited := ctx.Deadline()
	if pause > maxWait || limited && now.Add(pause).After(deadline) {
		p.mu.Unlock()
		return fmt.Errorf("%w: it is left alone for %s more", errBusy, pause.Round(time.Second))
	}
	p.set(host, now, now.Add(pause+betweenQuestions))
	p.mu.Unlock()
	if pause == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold leaves a server alone for a while.
func (p *pace) hold(host string, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if until := now.Add(min(pause, maxPause)); until.After(p.next[host]) {
		p.set(host, now, until)
	}
}

// set notes when a server may be asked next. Servers are named by strangers, so their number is bounded. p.mu is held.
func (p *pace) set(host string, now, next time.Time) {
	if p.next == nil {
		p.next = map[string]time.Time{}
	}
	if len(p.next) >= maxServers {
		for h, t := range p.next {
			if t.Before(now) {
				delete(p.next, h)
			}
		}
		if len(p.next) >= maxServers {
			clear(p.next)
		}
	}
	p.next[host] = next
}

// turns lets one caller at a time do what has the same name. The zero turns is ready.
type turns struct {
	mu    sync.Mutex               // guards the rest
	taken map[string]chan struct{} // closed when the turn is over
}

// take waits until nobody else has the turn of that name. The turn lasts until done is called.
func (t *turns) take(ctx context.Context, name string) (done func(), err error) {
	for {
		t.mu.Lock()
		over, busy := t.taken[name]
		if !busy {
			if t.taken == nil {
				t.taken = map[string]chan struct{}{}
			}
			over = make(chan struct{})
			t.taken[name] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.taken, name)
				close(over)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
