// Package outbox sends what is to leave the machine: mails, chat messages, reports. Each
// waits in the database until its receiver has taken it.
//
// A letter is written down before it is sent, in one transaction with the mark of how far its
// author has read the news, so that a crash at any moment loses none and doubles none
// but, at most, the one that was on its way; that one goes out again under the same key. Channels
// are independent of each other: what one cannot deliver it tries again with growing pauses, or
// when the receiver says, and holds up nobody else. What a letter says, and how it travels, is
// the business of whoever wrote it.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bantam"
)

// Bounds. The letters of a week fit into them many times over.
const (
	MaxBody    = 1 << 20   // bytes of one letter's Body
	maxLetters = 10_000    // of all channels
	maxBytes   = 256 << 20 // of all bodies

	maxKey   = 200 // bytes of a key and of a channel's name
	maxAbout = 200 // bytes of About
	maxErr   = 300 // bytes of Err

	// maxAge is how long a letter is tried, and how long a failed one is kept for the operator to
	// see, or one whose channel is gone.
	maxAge = 7 * 24 * time.Hour

	attemptTime = 2 * time.Minute // of one attempt
	keeperTime  = 5 * time.Second // of a write that is to happen even at the stop
	lookEvery   = time.Hour       // for letters that are too old
)

// ErrNoChannel is wrapped by Retry's error for a letter whose channel is no more.
var ErrNoChannel = errors.New("no channel of this name is configured")

// An Outbox delivers letters. It is safe for concurrent use, but for Run, which is called
// once.
type Outbox struct {
	log   *slog.Logger
	shelf Shelf
	wake  chan struct{} // room for one: there is something for Run to look at

	maxLetters int
	maxBytes   int64

	mu       sync.Mutex // guards the rest, and what the letters and channels hold
	loaded   bool
	letters  map[string]*letter
	channels map[string]*channel
	bytes    int64
	empty    []func(channel string)
}

// A letter is one as it waits, without its body.
type letter struct {
	Letter
	// delivered is true for one that was taken while the shelf could not be told: it is not sent
	// again.
	delivered bool
	// asked is true when somebody wants it tried, however old it is.
	asked bool
	// sending and gone are true while it is on its way, and when it is forgotten.
	sending, gone bool
}

// A channel is where letters go, in whatever state: also one that is configured no more.
type channel struct {
	name    string
	sender  Sender    // nil for one that is not configured
	letters []*letter // oldest first
	busy    bool      // a goroutine is at work
	// until is when it may be used again after an attempt that did not work, misses how many
	// there were in a row.
	until   time.Time
	misses  int
	ordered bool // until is the receiver's wish
	told    told
}

// New makes an outbox of what shelf keeps. It starts nothing.
func New(log *slog.Logger, shelf Shelf) *Outbox {
	return &Outbox{
		log: log, shelf: shelf, wake: make(chan struct{}, 1), maxLetters: maxLetters, maxBytes: maxBytes,
		letters: map[string]*letter{}, channels: map[string]*channel{},
	}
}

// Configure says who delivers the letters of each channel from now on, at the start and at each
// reload. What waits, but for those who were told when to come back, is tried at once: something
// may have been mended. Letters of a channel that is not among them are held, seven days long
// since they were made, in case it comes back.
func (o *Outbox) Configure(senders map[string]Sender) {
	o.mu.Lock()
	for name, c := range o.channels {
		c.sender = nil
		o.tidy(c)
		if senders[name] != nil {
			o.hurry(c)
		}
	}
	for name, sender := range senders {
		if sender != nil {
			o.channel(name).sender = sender
		}
	}
	o.mu.Unlock()
	o.poke()
}

// Wake has the letters of a channel, or of all if it is "", tried now, but for those whose
// receiver said when to come back: the network may be there again, say. It never blocks.
func (o *Outbox) Wake(name string) {
	o.mu.Lock()
	for _, c := range o.channels {
		if name == "" || c.name == name {
			o.hurry(c)
		}
	}
	o.mu.Unlock()
	o.poke()
}

// hurry ends the pauses that are our own. mu is held.
func (o *Outbox) hurry(c *channel) {
	now := time.Now()
	if c.ordered && c.until.After(now) {
		return
	}
	c.until = time.Time{}
	for _, l := range c.letters {
		if l.Tries > 0 && !l.Failed && l.Due.After(now) {
			l.Due = now
		}
	}
}

// WhenEmpty has f called, by whoever made it so, whenever nothing waits in a channel any more: its
// last letter was delivered, has failed or was dropped. f must not block.
func (o *Outbox) WhenEmpty(f func(channel string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.empty = append(o.empty, f)
}

// News are the decisions that reader has not done with yet, as Keeper's.
func (o *Outbox) News(ctx context.Context, reader string, most int) ([]bantam.News, error) {
	return o.shelf.News(ctx, reader, most)
}

// Note is what owner remembers by key, as Keeper's.
func (o *Outbox) Note(ctx context.Context, owner, key string) (value []byte, at time.Time, err error) {
	return o.shelf.Note(ctx, owner, key)
}

// Notes are all that owner remembers, in the order of their keys.
func (o *Outbox) Notes(ctx context.Context, owner string) ([]Note, error) {
	return o.shelf.Notes(ctx, owner)
}

// Commit writes down what an author changes, all or nothing, and has the letters sent. A letter
// whose key is there already is that letter, so that a Commit of which nobody knows whether it
// went well may be repeated. If there are too many letters, the oldest of the channel with the
// most of them are dropped, and the log says so.
func (o *Outbox) Commit(ctx context.Context, reader string, b Batch) error {
	now := time.Now()
	b.Letters = slices.Clone(b.Letters)
	for i := range b.Letters {
		l := &b.Letters[i]
		if err := l.check(); err != nil {
			return fmt.Errorf("commit what %s tells: %w", reader, err)
		}
		l.Size, l.Tries, l.Err, l.Failed = len(l.Body), 0, "", false
		l.About = printable(l.About, maxAbout)
		if l.Made.IsZero() {
			l.Made = now
		}
		if l.Due.IsZero() || l.Due.After(now.Add(longestPause)) {
			l.Due = now
		}
	}
	for key, value := range b.Notes {
		if len(key) > MaxBody || len(value) > MaxBody {
			return fmt.Errorf("commit what %s tells: the note %.100q has %d bytes, more than %d", reader, key, len(value), MaxBody)
		}
	}
	if err := o.shelf.Commit(ctx, reader, b); err != nil || len(b.Letters) == 0 {
		return err
	}
	o.mu.Lock()
	for _, l := range b.Letters {
		o.add(l)
	}
	surplus := o.surplus()
	o.mu.Unlock()
	o.dropAll(context.WithoutCancel(ctx), surplus)
	o.poke()
	return nil
}

// check says what is wrong with a letter that an author hands in.
func (l *Letter) check() error {
	switch {
	case l.Key == "" || len(l.Key) > maxKey:
		return fmt.Errorf("the key of a letter to %s has %d bytes, not 1 to %d", l.Channel, len(l.Key), maxKey)
	case l.Channel == "" || len(l.Channel) > maxKey:
		return fmt.Errorf("the channel of the letter %s has %d bytes, not 1 to %d", l.Key, len(l.Channel), maxKey)
	case len(l.Body) > MaxBody:
		return fmt.Errorf("the letter %s to %s has %d bytes, more than %d", l.Key, l.Channel, len(l.Body), MaxBody)
	}
	for i := range len(l.Key) {
		switch c := l.Key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
		default:
			return fmt.Errorf("the key %.100q of a letter to %s holds more than letters, digits, dashes and dots", l.Key, l.Channel)
		}
	}
	return nil
}

// channel is that of a name, made if need be. mu is held.
func (o *Outbox) channel(name string) *channel {
	c := o.channels[name]
	if c == nil {
		c = &channel{name: name}
		o.channels[name] = c
	}
	return c
}

// add takes a letter that is written down, unless it is here. mu is held.
func (o *Outbox) add(l Letter) {
	if o.letters[l.Key] != nil {
		return
	}
	l.Body = nil
	kept := &letter{Letter: l}
	o.letters[l.Key] = kept
	o.bytes += int64(l.Size)
	c := o.channel(l.Channel)
	at := len(c.letters)
	for at > 0 && c.letters[at-1].Made.After(l.Made) {
		at--
	}
	c.letters = slices.Insert(c.letters, at, kept)
}

// remove forgets a letter. mu is held.
func (o *Outbox) remove(c *channel, l *letter) {
	if l.gone {
		return
	}
	l.gone = true
	delete(o.letters, l.Key)
	o.bytes -= int64(l.Size)
	c.letters = slices.DeleteFunc(c.letters, func(other *letter) bool { return other == l })
	o.tidy(c)
}

// tidy forgets a channel that is nothing any more. mu is held.
func (o *Outbox) tidy(c *channel) {
	if c.sender == nil && len(c.letters) == 0 && !c.busy {
		delete(o.channels, c.name)
	}
}

// surplus takes away the letters that are too many and returns them: of the channel with the
// most letters first those that have failed, then the oldest. mu is held.
func (o *Outbox) surplus() (out []*letter) {
	counts := map[string]int{}
	for len(o.letters) > o.maxLetters || o.bytes > o.maxBytes {
		var fullest *channel
		most := -1
		for _, c := range o.channels {
			load := len(c.letters)
			if len(o.letters) <= o.maxLetters { // it is their size
				load = 0
				for _, l := range c.letters {
					load += l.Size
				}
			}
			if load > most {
				fullest, most = c, load
			}
		}
		i := slices.IndexFunc(fullest.letters, func(l *letter) bool { return l.Failed })
		if i < 0 {
			i = slices.IndexFunc(fullest.letters, func(l *letter) bool { return !l.sending })
		}
		if i < 0 {
			break
		}
		l := fullest.letters[i]
		o.remove(fullest, l)
		out = append(out, l)
		counts[fullest.name]++
	}
	for name, n := range counts {
		o.log.Error("too many messages wait; the oldest are dropped", "channel", name, "messages", n)
	}
	return out
}

// dropAll has the shelf forget letters that are forgotten here.
func (o *Outbox) dropAll(ctx context.Context, letters []*letter) {
	for _, l := range letters {
		if err := o.shelf.DropLetter(ctx, l.Key); err != nil {
			// It comes back with the next start, and is dropped again.
			o.log.Warn("cannot forget a message", "channel", l.Channel, "key", l.Key, "err", err)
		}
	}
}

// Queue is all letters that wait, have failed or are held, oldest first, without their bodies: what
// an operator is shown.
func (o *Outbox) Queue() []Letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Letter, 0, len(o.letters))
	for _, l := range o.letters {
		if l.delivered {
			continue
		}
		shown := l.Letter
		if shown.Err == "" && o.channels[l.Channel].sender == nil {
			shown.Err = ErrNoChannel.Error()
		}
		out = append(out, shown)
	}
	slices.SortFunc(out, func(a, b Letter) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.Key, b.Key)) })
	return out
}

// Letters are Queue's; before Run has read them, the shelf's.
func (o *Outbox) Letters(ctx context.Context) ([]Letter, error) {
	o.mu.Lock()
	loaded := o.loaded
	o.mu.Unlock()
	if !loaded {
		return o.shelf.Letters(ctx)
	}
	return o.Queue(), nil
}

// Pending is how many letters of a channel are still to be delivered. An author may let a
// digest grow until it is 0, of which WhenEmpty tells. It counts what an earlier run of the program
// left from the moment on at which Run has read it.
func (o *Outbox) Pending(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.channels[name].pending()
}

func (c *channel) pending() (n int) {
	if c == nil {
		return 0
	}
	for _, l := range c.letters {
		if !l.Failed && !l.delivered {
			n++
		}
	}
	return n
}

// Retry has a letter tried at once, also one that has failed: for the operator. Its error wraps
// ErrNoLetter or ErrNoChannel.
func (o *Outbox) Retry(ctx context.Context, key string) error {
	o.mu.Lock()
	l := o.letters[key]
	if l == nil || l.delivered {
		o.mu.Unlock()
		return fmt.Errorf("try %.100q again: %w", key, ErrNoLetter)
	}
	c := o.channels[l.Channel]
	if c.sender == nil {
		o.mu.Unlock()
		return fmt.Errorf("try %s again by %s: %w", key, l.Channel, ErrNoChannel)
	}
	c.until = time.Time{}
	l.Failed, l.Due, l.asked = false, time.Now(), true
	kept := l.Letter
	o.mu.Unlock()
	o.poke()
	return o.shelf.KeepLetter(ctx, kept)
}

// Drop forgets a letter, for the operator. One that is on its way may arrive all the same. Its
// error wraps ErrNoLetter.
func (o *Outbox) Drop(ctx context.Context, key string) error {
	o.mu.Lock()
	l := o.letters[key]
	o.mu.Unlock()
	if l == nil {
		return fmt.Errorf("drop %.100q: %w", key, ErrNoLetter)
	}
	if err := o.shelf.DropLetter(ctx, key); err != nil {
		return err
	}
	o.forget(l)
	o.log.Info("a message was dropped", "channel", l.Channel, "key", l.Key, "about", l.About)
	return nil
}

// forget removes a letter that the shelf has forgotten, and tells if it was the last.
func (o *Outbox) forget(l *letter) {
	o.mu.Lock()
	c := o.channels[l.Channel]
	if l.gone {
		o.mu.Unlock()
		return
	}
	waited := c.pending()
	o.remove(c, l)
	last := waited > 0 && c.pending() == 0
	o.mu.Unlock()
	if last {
		o.tellEmpty(l.Channel)
	}
}

func (o *Outbox) tellEmpty(name string) {
	o.mu.Lock()
	empty := o.empty
	o.mu.Unlock()
	for _, f := range empty {
		f(name)
	}
}

func (o *Outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
