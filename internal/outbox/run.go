package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Run sends what waits until ctx ends; then it breaks off what is on its way, which goes out again
// with the next Run, and returns nil when all its goroutines are over.
func (o *Outbox) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	var looked time.Time
	for {
		wait := firstPause
		if o.load(ctx) {
			if now := time.Now(); now.Sub(looked).Abs() >= lookEvery {
				looked = now
				o.dropAll(ctx, o.sweep(ctx, now))
			}
			wait = o.dispatch(ctx, &working)
		}
		timer := time.NewTimer(wait)
		select {
		case <-o.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// load takes up what earlier runs have left. It reports whether that is known.
func (o *Outbox) load(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.loaded {
		return true
	}
	letters, err := o.shelf.Letters(ctx)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Error("cannot read which messages wait; none is sent until it works", "err", err)
		}
		return false
	}
	for _, l := range letters {
		o.add(l)
	}
	o.loaded = true
	return true
}

// dispatch puts a goroutine to work for each channel that has something to do, and returns how
// long there will be nothing new.
func (o *Outbox) dispatch(ctx context.Context, working *sync.WaitGroup) (wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	wait = lookEvery
	for _, c := range o.channels {
		if c.sender == nil || c.busy {
			continue
		}
		l, at := c.next(now)
		if l == nil {
			continue
		}
		if rest := at.Sub(now); rest > 0 {
			wait = min(wait, rest)
			continue
		}
		c.busy = true
		working.Go(func() { o.work(ctx, c) })
	}
	return wait
}

// next is the letter that is to be tried first, and when. mu is held.
func (c *channel) next(now time.Time) (first *letter, at time.Time) {
	for _, l := range c.letters {
		if l.Failed {
			continue
		}
		if due := sensible(l.Due, now); first == nil || due.Before(at) {
			first, at = l, due
		}
	}
	if until := sensible(c.until, now); at.Before(until) && first != nil && !first.delivered {
		at = until
	}
	return first, at
}

// sensible is a time up to which something rests; now if no pause is that long: the clock has been
// set back since.
func sensible(until, now time.Time) time.Time {
	if until.After(now.Add(longestPause + time.Minute)) {
		return now
	}
	return until
}

// work tries the letters of a channel one after the other until none is due.
func (o *Outbox) work(ctx context.Context, c *channel) {
	for {
		o.mu.Lock()
		l, at := c.next(time.Now())
		sender := c.sender
		if l == nil || sender == nil || ctx.Err() != nil || at.After(time.Now()) {
			c.busy = false
			o.tidy(c)
			o.mu.Unlock()
			o.poke()
			return
		}
		l.sending = true
		o.mu.Unlock()
		o.attempt(ctx, c, sender, l)
		o.mu.Lock()
		l.sending = false
		o.mu.Unlock()
	}
}

// attempt tries a letter once.
func (o *Outbox) attempt(ctx context.Context, c *channel, sender Sender, l *letter) {
	o.mu.Lock()
	sent, delivered := l.Letter, l.delivered
	o.mu.Unlock()
	if !delivered {
		var err error
		if sent.Body, err = o.shelf.Body(ctx, l.Key); err != nil {
			if errors.Is(err, ErrNoLetter) {
				o.forget(l)
				return
			}
			o.keeperTrouble(ctx, c, l, "cannot read a message; it is tried again", err)
			return
		}
		if err := send(ctx, sender, sent); err != nil {
			if ctx.Err() == nil {
				o.refused(ctx, c, l, err)
			}
			return
		}
		o.taken(c, l)
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeperTime)
	defer cancel()
	if err := o.shelf.DropLetter(writing, l.Key); err != nil {
		o.keeperTrouble(ctx, c, l, "cannot forget a message that was delivered; it is not sent again unless the program stops before it can", err)
		return
	}
	o.forget(l)
}

// send is one attempt. A sender that panics has refused the letter: it would panic again.
func send(ctx context.Context, sender Sender, l Letter) (err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{what: p, stack: debug.Stack()}
		}
	}()
	return sender.Send(ctx, l)
}

// A panicked is a final Verdict.
type panicked struct {
	what  any
	stack []byte
}

func (p *panicked) Error() string                { return fmt.Sprintf("sending it panics: %v", p.what) }
func (p *panicked) Again() (bool, time.Duration) { return false, 0 }

// taken notes that the receiver has taken a letter.
func (o *Outbox) taken(c *channel, l *letter) {
	o.mu.Lock()
	before := c.pending()
	l.delivered = true
	l.Due = time.Time{}
	last := !l.gone && before > 0 && c.pending() == 0
	c.until, c.misses, c.ordered = time.Time{}, 0, false
	recovered := c.told.clear()
	o.mu.Unlock()
	if recovered {
		o.log.Info("messages are delivered again", "channel", c.name)
	}
	if last {
		o.tellEmpty(c.name)
	}
}

// refused notes that an attempt did not work, and when there is to be another.
func (o *Outbox) refused(ctx context.Context, c *channel, l *letter, err error) {
	again, wait := true, time.Duration(0)
	var v Verdict
	if errors.As(err, &v) {
		again, wait = v.Again()
	}
	now := time.Now()
	o.mu.Lock()
	if l.gone {
		o.mu.Unlock()
		return
	}
	before := c.pending()
	l.Tries++
	l.Err = printable(err.Error(), maxErr)
	c.misses++
	if c.ordered = again && wait > 0; c.ordered {
		wait = min(max(wait, shortestPause), longestPause)
		l.Due, c.until = now.Add(wait), now.Add(wait)
	} else {
		// The channel rests after a final refusal, too: if the password is wrong, say, so is every
		// other attempt.
		l.Due, c.until = now.Add(pause(l.Tries, rand.Float64())), now.Add(pause(c.misses, rand.Float64()))
	}
	if final := !again || now.Sub(l.Made) >= maxAge; final {
		l.fail(now)
	}
	last := before > 0 && c.pending() == 0
	kept := l.Letter
	tell := kept.Failed || c.told.first(err.Error(), now)
	o.mu.Unlock()

	var p *panicked
	switch {
	case errors.As(err, &p):
		o.log.Error("a message is not delivered: sending it panics", "channel", c.name, "key", l.Key, "about", kept.About,
			"err", kept.Err, "stack", printable(string(p.stack), 4096))
	case kept.Failed && !again:
		o.log.Error("a message is refused for good", "channel", c.name, "key", l.Key, "about", kept.About, "tries", kept.Tries, "err", kept.Err)
	case kept.Failed:
		o.log.Error("a message could not be delivered for a week", "channel", c.name, "key", l.Key, "about", kept.About, "tries", kept.Tries, "err", kept.Err)
	case tell:
		o.log.Warn("a message could not be delivered; it is tried again", "channel", c.name, "key", l.Key, "tries", kept.Tries, "due", kept.Due, "err", kept.Err)
	}
	o.keep(ctx, kept)
	if last {
		o.tellEmpty(c.name)
	}
}

// fail gives a letter up; what Due says then is when it is forgotten.
func (l *letter) fail(now time.Time) {
	l.Failed, l.asked, l.Due = true, false, now.Add(maxAge)
}

// keep writes down how a letter stands.
func (o *Outbox) keep(ctx context.Context, l Letter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeperTime)
	defer cancel()
	if err := o.shelf.KeepLetter(ctx, l); err != nil {
		// After a restart it is tried a little earlier.
		o.log.Warn("cannot write down how a message stands", "channel", l.Channel, "key", l.Key, "err", err)
	}
}

// keeperTrouble has a letter wait for the database.
func (o *Outbox) keeperTrouble(ctx context.Context, c *channel, l *letter, message string, err error) {
	now := time.Now()
	o.mu.Lock()
	l.Due, c.until = now.Add(firstPause), now.Add(firstPause) // what cannot be forgotten would be sent twice after a crash
	tell := ctx.Err() == nil && c.told.first(err.Error(), now)
	o.mu.Unlock()
	if tell {
		o.log.Error(message, "channel", c.name, "key", l.Key, "err", err)
	}
}

// sweep takes away the letters that have failed, or have had no channel, for a week, and returns
// them. What has waited for a week behind others that could not be delivered has failed, too.
func (o *Outbox) sweep(ctx context.Context, now time.Time) (out []*letter) {
	var failed []Letter
	var emptied []string
	o.mu.Lock()
	for _, c := range o.channels {
		before := c.pending()
		for _, l := range slices.Clone(c.letters) {
			switch age := now.Sub(l.Made); {
			case l.sending || l.delivered:
			case l.Failed && !l.Due.After(now), c.sender == nil && !l.Failed && age >= maxAge:
				if !l.Failed {
					o.log.Warn("a message is dropped: its channel has been gone for a week", "channel", c.name, "key", l.Key, "about", l.About)
				}
				o.remove(c, l)
				out = append(out, l)
			case c.sender != nil && !l.Failed && !l.asked && age >= maxAge+longestPause:
				if l.fail(now); l.Err == "" {
					l.Err = "those before it could not be delivered for a week"
				}
				failed = append(failed, l.Letter)
				o.log.Error("a message could not be delivered for a week", "channel", c.name, "key", l.Key, "about", l.About, "tries", l.Tries, "err", l.Err)
			}
		}
		if before > 0 && c.pending() == 0 {
			emptied = append(emptied, c.name)
		}
	}
	o.mu.Unlock()
	for _, l := range failed {
		o.keep(ctx, l)
	}
	for _, name := range emptied {
		o.tellEmpty(name)
	}
	return out
}

// told are the causes that the log was told of, and when. Each is told again after an hour at the
// earliest.
type told map[string]time.Time

// maxCauses bounds told: an error may have the receiver's words in it.
const maxCauses = 16

// first reports whether the log is to be told of a cause at a time. Numbers make no other cause: they
// are ports, times, identifiers.
func (t *told) first(cause string, now time.Time) bool {
	cause = strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, printable(cause, maxErr))
	if at, ok := (*t)[cause]; ok && now.Sub(at) < time.Hour && !at.After(now) {
		return false
	}
	if len(*t) >= maxCauses || *t == nil {
		*t = told{}
	}
	(*t)[cause] = now
	return true
}

// clear forgets all causes and reports whether there were any.
func (t *told) clear() bool {
	any := len(*t) > 0
	*t = nil
	return any
}
