package lookup

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"bantam"
)

// Commands decide by programs of the administrator whether a failure counts. Their methods
// are called at once by many.
type Commands interface {
	// Ignores runs a command about a failure. After an error the failure counts.
	Ignores(ctx context.Context, command string, f *bantam.Failure) (bool, error)
	// Expand puts the values of a failure in a text for its tags. It may have to ask
	// for names.
	Expand(ctx context.Context, text string, f *bantam.Failure) string
}

// A Cache says for how long a command's answers hold, and for whom. The zero Cache keeps none.
type Cache struct {
	// Key is a text with tags: failures for which it reads the same have the same answer.
	Key string
	// MaxCount is how many answers are kept; >= 1, unless Key is empty.
	MaxCount int
	// MaxTime is how long each is kept, in wall time; > 0, unless Key is empty.
	MaxTime time.Duration
}

// DefaultCache are the values of a Cache that names only its key (detection.md 3.1).
func DefaultCache() Cache { return Cache{MaxCount: 100, MaxTime: 5 * time.Minute} }

// maxKept is the most answers that a Cache may keep; an answer takes about 200 bytes.
const maxKept = 1 << 20

// Validate reports what is wrong with a Cache.
func (c *Cache) Validate() error {
	switch {
	case c.Key == "":
		return nil
	case c.MaxCount < 1 || c.MaxCount > maxKept:
		return fmt.Errorf("max-count %d is not within 1 and %d", c.MaxCount, maxKept)
	case c.MaxTime <= 0:
		return fmt.Errorf("max-time must be more than zero")
	}
	return nil
}

const (
	// maxCommands is how many commands of one jail run at a time.
	maxCommands = 16
	// longKey is from where on a key is kept as its hash: attackers write into keys.
	longKey = 128
)

// An asker asks one jail's command.
type asker struct {
	config askerConfig
	run    Commands
	slots  chan struct{} // a slot for each command that runs

	mu     sync.Mutex // guards the rest
	known  map[string]*question
	oldest []*question // those of known that are answered, in the order of their answers
}

// askerConfig is what makes an asker another one.
type askerConfig struct {
	command string
	cache   Cache
}

func newAsker(c askerConfig, run Commands) *asker {
	return &asker{config: c, run: run, slots: make(chan struct{}, maxCommands), known: map[string]*question{}}
}

// A question is one run of a command.
type question struct {
	key     string
	done    chan struct{} // closed when the rest is known
	ignored bool
	at      time.Time // wall time of the answer
}

// ask finds out whether a failure is to be ignored and closes q.done. An answer that is kept is taken
// at once; one that somebody else waits for is waited for. What was no answer holds as long
// as one: a command that hangs or is broken is not tried at every line.
func (a *asker) ask(ctx context.Context, f *bantam.Failure, q *question, failed func(error)) {
	defer close(q.done)
	if a.config.cache.Key == "" {
		q.ignored = a.decide(ctx, f, failed)
		return
	}
	q.key = a.run.Expand(ctx, a.config.cache.Key, f)
	if len(q.key) > longKey {
		q.key = fmt.Sprintf("%x", sha256.Sum256([]byte(q.key)))
	}
	a.mu.Lock()
	other := a.known[q.key]
	if other != nil && !other.at.IsZero() && time.Since(other.at) >= a.config.cache.MaxTime {
		other = nil
	}
	if other == nil {
		a.known[q.key] = q
	}
	a.mu.Unlock()
	if other != nil {
		select {
		case <-other.done:
			q.ignored = other.ignored
		case <-ctx.Done():
		}
		return
	}
	q.ignored = a.decide(ctx, f, failed)
	a.mu.Lock()
	defer a.mu.Unlock()
	q.at = time.Now()
	if ctx.Err() != nil {
		q.at = q.at.Add(-a.config.cache.MaxTime) // it was broken off
	}
	a.oldest = append(a.oldest, q)
	a.forget(q.at)
}

// forget drops the answers that are too old or too many. Each lives as long as the others, so the
// oldest is the first to go.
func (a *asker) forget(now time.Time) {
	c := &a.config.cache
	n := 0
	for ; n < len(a.oldest) && (len(a.oldest)-n > c.MaxCount || now.Sub(a.oldest[n].at) >= c.MaxTime); n++ {
		if old := a.oldest[n]; a.known[old.key] == old {
			delete(a.known, old.key)
		}
		a.oldest[n] = nil
	}
	a.oldest = a.oldest[n:]
}

// decide runs the command when its turn has come.
func (a *asker) decide(ctx context.Context, f *bantam.Failure, failed func(error)) bool {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return false
	}
	ignored, err := a.run.Ignores(ctx, a.config.command, f)
	if err != nil && ctx.Err() == nil {
		failed(err)
	}
	return ignored && err == nil
}
