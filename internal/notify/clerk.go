package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/whois"
)

// Bounds of a clerk's work.
const (
	lookupFor  = 15 * time.Second // all that is asked for one message, together
	readAtOnce = 256              // news
	settle     = 100 * time.Millisecond
	foldEvery  = time.Minute // how long news lie in the store while they are gathered
	firstRest  = 5 * time.Second
	lastRest   = 5 * time.Minute // after errors of the store
)

// Keys of a clerk's notes.
const (
	noteBans  = "bans"
	noteJails = "jails"
)

// A clerk serves one channel: reads its news, decides what is told now and what is gathered, and
// writes the letters. All it knows is in its notes, written in one transaction with the letters, so that a
// restart neither forgets nor repeats.
type clerk struct {
	name  string
	log   *slog.Logger
	box   outbox.Keeper
	world *World
	news  chan struct{} // one token: there may be news
	poked chan struct{} // one token: something else has changed

	gathering bool // it gathered when it looked last; the run's own

	mu        sync.Mutex // guards the rest; while it is held nobody is asked but the store
	config    Config
	channel   channel
	loaded    bool
	bans      bansNote
	jails     jailNews
	last      time.Time // wall time of the last message since the daemon began
	trouble   string    // what is in the way, for the operator
	delivered []string  // letters that have arrived but may still lie in the box
}

// bansNote is what a clerk remembers of bans.
type bansNote struct {
	Window window `json:"window,omitzero"`
	Digest digest `json:"digest,omitzero"`
}

// readerOf is the name under which a channel's clerk reads news and keeps notes.
func readerOf(channel string) string { return "notify/" + channel }

// poke puts a token into a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// set gives the clerk a new configuration; what it has gathered lives on.
func (c *clerk) set(config Config, ch channel) {
	c.mu.Lock()
	c.config, c.channel = config, ch
	c.mu.Unlock()
	poke(c.poked)
}

// Send delivers a letter of the clerk's channel as it is configured now.
func (c *clerk) Send(ctx context.Context, l outbox.Letter) error {
	c.mu.Lock()
	ch := c.channel
	c.mu.Unlock()
	err := ch.Send(ctx, l)
	if err == nil {
		c.mu.Lock()
		c.delivered = append(c.delivered, l.Key)
		c.mu.Unlock()
		poke(c.poked) // what has been gathered meanwhile may go
	}
	return err
}

// run tells until ctx ends.
func (c *clerk) run(ctx context.Context) {
	rest := firstRest
	for {
		wait, err := c.work(ctx)
		if ctx.Err() != nil {
			return
		}
		c.say(err)
		news, poked := c.news, c.poked
		if err != nil {
			wait, news, poked = rest, nil, nil
			rest = min(2*rest, lastRest)
		} else {
			rest = firstRest
		}
		if c.gathering {
			news = nil // they are read with others, from time to time
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-news:
			// A burst costs one look, not one for each of it.
			select {
			case <-time.After(settle):
			case <-ctx.Done():
			}
		case <-poked:
		case <-due:
		case <-ctx.Done():
		}
	}
}

// say tells the operator of trouble, once for each kind of it.
func (c *clerk) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.mu.Lock()
	same := text == c.trouble
	c.trouble = text
	c.mu.Unlock()
	switch {
	case same:
	case err != nil:
		c.log.Warn("cannot tell the news; trying again", "err", err)
	default:
		c.log.Info("telling the news works again")
	}
}

// work does what can be done now, and says when to look again though nothing new has come; 0 is for
// not at all.
func (c *clerk) work(ctx context.Context) (wait time.Duration, err error) {
	for ctx.Err() == nil {
		now := time.Now()
		c.mu.Lock()
		err := c.load(ctx)
		config, bans, jails := c.config, c.bans, c.jails
		c.mu.Unlock()
		if err != nil {
			return 0, err
		}
		pace := paceOf(&config)
		full, err := c.full(ctx, pace.most)
		if err != nil {
			return 0, err
		}
		opens := bans.Window.open(pace, now)
		closed := full || opens.After(now)
		if closed || c.gathering || !bans.Digest.empty() {
			if bans.Digest, err = c.fold(ctx); err != nil {
				return 0, err
			}
		}
		c.gathering = closed
		if closed {
			if wait = opens.Sub(now); wait <= 0 || wait > foldEvery {
				wait = foldEvery
			}
			return wait, nil
		}
		if bans.Digest.empty() {
			// The window has room: the first event goes out by itself.
			if bans.Digest, err = c.read(ctx, bans.Digest, 1); err != nil {
				return 0, err
			}
		}
		if !bans.Digest.empty() {
			if err := c.tell(ctx, pace, bans.Digest); err != nil {
				return 0, err
			}
			continue
		}
		if jails.empty() {
			return 0, nil
		}
		if wait = jails.Window.open(calls, now).Sub(now); wait > 0 {
			return wait, nil
		}
		if err := c.announce(ctx, nil, nil); err != nil {
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// load reads what the clerk knew when the daemon last stopped. c.mu is held.
func (c *clerk) load(ctx context.Context) error {
	if c.loaded {
		return nil
	}
	for key, into := range map[string]any{noteBans: &c.bans, noteJails: &c.jails} {
		value, _, err := c.box.Note(ctx, readerOf(c.name), key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		if err := json.Unmarshal(value, into); err != nil {
			// Better one message too many than none any more.
			c.log.Error("what was gathered cannot be read and is forgotten", "note", key, "err", err)
		}
	}
	c.loaded = true
	return nil
}

// full reports whether so many letters wait that another would only make the heap larger.
func (c *clerk) full(ctx context.Context, most int) (bool, error) {
	letters, err := c.box.Letters(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var still []string
	n := 0
	for i := range letters {
		switch l := &letters[i]; {
		case slices.Contains(c.delivered, l.Key):
			still = append(still, l.Key)
		case l.Channel == c.name && !l.Failed:
			n++
		}
	}
	c.delivered = still
	return n >= most, nil
}

// concerns reports whether a channel is told of a decision.
func (c *Config) concerns(d *bantam.Decision) bool {
	on := ""
	switch d.Kind {
	case bantam.Start:
		on = OnBan
	case bantam.End:
		on = OnUnban
	}
	return slices.Contains(c.On, on) && slices.Contains(c.Jails, d.Ban.Jail)
}

// read is g and the next most events that concern the channel. What it passes over is done with.
func (c *clerk) read(ctx context.Context, g digest, most int) (digest, error) {
	c.mu.Lock()
	config := c.config
	c.mu.Unlock()
	for {
		news, err := c.box.News(ctx, readerOf(c.name), readAtOnce)
		if err != nil || len(news) == 0 {
			return g, err
		}
		for i := range news {
			if config.concerns(&news[i].Decision) {
				g = g.with(&news[i])
				if most--; most == 0 {
					return g, nil
				}
			}
		}
		if err := c.box.Commit(ctx, readerOf(c.name), outbox.Batch{UpTo: news[len(news)-1].Number}); err != nil {
			return g, err
		}
	}
}

// fold gathers all that there is to be told.
func (c *clerk) fold(ctx context.Context) (digest, error) {
	for {
		c.mu.Lock()
		config, bans := c.config, c.bans
		c.mu.Unlock()
		news, err := c.box.News(ctx, readerOf(c.name), readAtOnce)
		if err != nil || len(news) == 0 {
			return bans.Digest, err
		}
		for i := range news {
			if config.concerns(&news[i].Decision) {
				bans.Digest = bans.Digest.with(&news[i])
			}
		}
		if err := c.commit(ctx, outbox.Batch{UpTo: news[len(news)-1].Number}, &bans, nil); err != nil {
			return bans.Digest, err
		}
	}
}

// commit writes a batch and what the clerk knows from then on; nil for what stays.
func (c *clerk) commit(ctx context.Context, b outbox.Batch, bans *bansNote, jails func(jailNews) jailNews) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commitHeld(ctx, b, bans, jails)
}

// commitHeld is commit for those who hold c.mu.
func (c *clerk) commitHeld(ctx context.Context, b outbox.Batch, bans *bansNote, jails func(jailNews) jailNews) error {
	b.Notes = map[string][]byte{}
	after := c.jails
	var err error
	if bans != nil {
		if b.Notes[noteBans], err = json.Marshal(bans); err != nil {
			return fmt.Errorf("write down what was gathered: %w", err)
		}
	}
	if jails != nil {
		after = jails(after)
		if b.Notes[noteJails], err = json.Marshal(after); err != nil {
			return fmt.Errorf("write down which jails started: %w", err)
		}
	}
	if err := c.box.Commit(ctx, readerOf(c.name), b); err != nil {
		return err
	}
	if bans != nil {
		c.bans = *bans
	}
	c.jails = after
	if len(b.Letters) > 0 {
		c.last = b.Letters[0].Made
	}
	return nil
}

// tell writes the letter about what was gathered.
func (c *clerk) tell(ctx context.Context, p pace, g digest) error {
	c.mu.Lock()
	ch, jails := c.channel, c.jails
	c.mu.Unlock()
	e := &Edition{
		Key: c.key("b", g.Number), Host: c.world.Host,
		Bans: g.Bans, Unbans: g.Unbans, Observed: g.Observed, Held: g.Held, More: g.More,
		Started: jails.Started, Stopped: jails.Stopped,
	}
	if !g.single() {
		e.Since = g.Since
	}
	asking, cancel := context.WithTimeout(ctx, lookupFor)
	defer cancel()
	for _, d := range g.Events {
		e.Events = append(e.Events, c.event(asking, d))
	}
	if g.single() {
		c.ask(asking, &e.Events[0], ch.wants())
	}
	e.At = time.Now()
	batch := outbox.Batch{UpTo: g.Number}
	l, err := c.letter(e, ch)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		// It would not be otherwise the next time.
		c.log.Error("an event cannot be told in this channel and is passed over", "about", l.About, "err", err)
	} else {
		batch.Letters = []outbox.Letter{l}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := bansNote{Window: c.bans.Window.sent(p, e.At, !g.single())}
	return c.commitHeld(ctx, batch, &next, func(j jailNews) jailNews { return j.told(e) })
}

// letter puts an edition into a letter. A channel that panics over what somebody wrote does not
// take the daemon with it.
func (c *clerk) letter(e *Edition, ch channel) (l outbox.Letter, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compose letter %s: %v\n%s", e.Key, p, debug.Stack())
		}
	}()
	l = outbox.Letter{Key: e.Key, Channel: c.name, About: describe(e, false, false).subject, Made: e.At, Due: e.At}
	l.Body, err = ch.compose(e)
	return l, err
}

// key is a letter's: no other of this channel, of another one or of another machine has it. The numbers
// of news are larger than those of any database before, so that a commit that is repeated because
// nobody knows whether it worked makes no second letter.
func (c *clerk) key(kind string, n int64) string {
	whose := sha256.Sum256([]byte(c.world.Host + "\x00" + c.name))
	return "bantam." + hex.EncodeToString(whose[:6]) + "." + kind + strconv.FormatInt(n, 10)
}

// announce tells that jails have started or stopped, at once or, if that happens too often, with
// what is told next. Without any it tells what is left to tell.
func (c *clerk) announce(ctx context.Context, started, stopped []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx); err != nil {
		return err
	}
	mine := func(on string, jails []string) []string {
		var out []string
		for _, jail := range jails {
			if slices.Contains(c.config.On, on) && slices.Contains(c.config.Jails, jail) {
				out = append(out, jail)
			}
		}
		return out
	}
	next := c.jails.with(mine(OnStart, started), mine(OnStop, stopped))
	if next.empty() {
		return nil
	}
	now := time.Now()
	if next.Window.open(calls, now).After(now) {
		defer poke(c.poked) // for the time at which it may be told
		return c.commitHeld(ctx, outbox.Batch{}, nil, func(jailNews) jailNews { return next })
	}
	e := &Edition{Key: c.key("j", now.UnixNano()), Host: c.world.Host, At: now, Started: next.Started, Stopped: next.Stopped}
	l, err := c.letter(e, c.channel)
	if err != nil {
		return err
	}
	err = c.commitHeld(ctx, outbox.Batch{Letters: []outbox.Letter{l}}, nil, func(jailNews) jailNews {
		return jailNews{Window: next.Window.sent(calls, now, false)}
	})
	if err != nil {
		c.jails = next // for the next message, if this run has one
		poke(c.poked)
	}
	return err
}

// event is a decision with what is known of it without asking anybody.
func (c *clerk) event(ctx context.Context, d bantam.Decision) Event {
	e := Event{Decision: d, Values: func(string) (string, bool) { return "", false }}
	if c.world.Values != nil {
		e.Values = c.world.Values(ctx, &d)
	}
	if addr := addressOf(&d.Ban); addr.IsValid() && c.world.Place != nil {
		e.Place = c.world.Place(addr)
	}
	return e
}

// ask asks the world for what a message about one event says beside it. What does not answer until
// ctx ends is left out.
func (c *clerk) ask(ctx context.Context, e *Event, w wants) {
	var asked sync.WaitGroup
	defer asked.Wait()
	if w.host {
		asked.Go(func() {
			if name, _ := e.Values("ip-host"); name != "None" {
				e.Host = name
			}
		})
	}
	addr := addressOf(&e.Decision.Ban)
	if !w.whois || c.world.Whois == nil || !addr.IsValid() {
		return
	}
	asked.Go(func() {
		var answer whois.Answer
		var err error
		if answer, err = c.world.Whois(ctx, addr); err != nil {
			c.log.Debug("nobody says whose network it is", "addr", addr, "err", err)
			return
		}
		e.Whois = &answer
	})
}

// addressOf is the address of a ban: its own, or the one beside it where the filter took another
// thing for the ID; invalid if there is none.
func addressOf(b *bantam.Ban) netip.Addr {
	if p, ok := b.ID.Prefix(); ok {
		return p.Addr()
	}
	id, err := bantam.ParsePrefix(b.Data["ip"])
	if err != nil {
		return netip.Addr{}
	}
	p, _ := id.Prefix()
	return p.Addr()
}
