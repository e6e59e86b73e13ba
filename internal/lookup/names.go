package lookup

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// nameFresh is how long what a name stands for is taken as known, as in
	// Fail2Ban (detection.md 4.10).
	nameFresh = 5 * time.Minute
	// nameTimeout is how long an answer is waited for. What comes later is used
	// for the next one.
	nameTimeout = 5 * time.Second
	// maxAddresses are taken of one name; an attacker may own its zone.
	maxAddresses = 64
	// maxNames are remembered, maxAsking asked for at a time.
	maxNames  = 4096
	maxAsking = 16
	// maxName is the longest name the DNS has (RFC 1035, 2.3.4).
	maxName = 253
)

// A Resolver answers what addresses a name has; net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// names remembers what names stand for. It is safe for concurrent use.
type names struct {
	resolver Resolver
	asking   chan struct{} // a slot for each question under way

	mu    sync.Mutex // guards known
	known map[string]*answer
}

// An answer is what is known of a name; addrs are those of the last good answer, so
// that a resolver that fails for a while takes nobody's exemption away.
type answer struct {
	addrs []netip.Addr
	at    time.Time     // wall time of the last answer, good or not; zero before the first
	done  chan struct{} // closed when the question under way is answered; nil if none is
}

func newNames(r Resolver) *names {
	return &names{resolver: r, asking: make(chan struct{}, maxAsking), known: map[string]*answer{}}
}

// get is what is known of a name. If that is not fresh, it is asked for in the
// background; wait is closed when a name that was never answered is.
func (n *names) get(ctx context.Context, tasks *tasks, name string) (addrs []netip.Addr, wait <-chan struct{}) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > maxName {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.known[name]
	if a == nil {
		if len(n.known) >= maxNames {
			n.forget()
		}
		a = &answer{}
		n.known[name] = a
	}
	if a.done == nil && (a.at.IsZero() || time.Since(a.at) >= nameFresh) {
		a.done = make(chan struct{})
		if !tasks.start(func() { n.ask(ctx, name, a) }) {
			a.done = nil
			return a.addrs, nil
		}
	}
	if a.at.IsZero() {
		return nil, a.done
	}
	return a.addrs, nil
}

// tasks are goroutines that end before Run does.
type tasks struct {
	mu   sync.Mutex // guards over
	over bool
	wg   sync.WaitGroup
}

// start runs f unless it is too late.
func (t *tasks) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.wg.Go(f)
	}
	return !t.over
}

// end lets no more start and waits for those that run.
func (t *tasks) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.wg.Wait()
}

// forget drops the answers that are not fresh, or all that nobody waits for.
func (n *names) forget() {
	for _, least := range []time.Duration{nameFresh, 0} {
		for name, a := range n.known {
			if a.done == nil && time.Since(a.at) >= least {
				delete(n.known, name)
			}
		}
		if len(n.known) < maxNames {
			return
		}
	}
}

// ask asks for a name and writes down the answer.
func (n *names) ask(ctx context.Context, name string, a *answer) {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	var addrs []netip.Addr
	err := context.Canceled
	select {
	case n.asking <- struct{}{}:
		addrs, err = n.resolver.LookupNetIP(ctx, "ip", name)
		<-n.asking
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		a.addrs = addrs[:min(len(addrs), maxAddresses)]
	}
	a.at = time.Now()
	close(a.done)
	a.done = nil
}
