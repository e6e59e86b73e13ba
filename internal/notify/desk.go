package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bantam/internal/outbox"
)

// A Desk has the operator told of what happens, by as many channels as are configured. Each
// is served by a goroutine of its own: one whose look-ups are slow delays no other.
//
// Its methods are safe for concurrent use, but Configure and Run are called by one each at a time.
type Desk struct {
	log     *slog.Logger
	box     outbox.Keeper
	world   World
	changed chan struct{}
	clerks  atomic.Pointer[[]*clerk] // by name; the slice is never changed
}

// New makes a desk without channels.
func New(log *slog.Logger, box outbox.Keeper, world World) *Desk {
	d := &Desk{log: log, box: box, world: world, changed: make(chan struct{}, 1)}
	d.clerks.Store(&[]*clerk{})
	return d
}

// Configure says which channels there are from now on, at the start and at each reload. What a
// channel of the same name has gathered lives on. An error changes nothing.
//
// Afterwards Readers and Senders are others: the store has to be told whom to keep news for, the
// outbox who delivers.
func (d *Desk) Configure(configs []Config) error {
	known := map[string]*clerk{}
	for _, c := range *d.clerks.Load() {
		known[c.name] = c
	}
	var errs []error
	seen := map[string]bool{}
	channels := make([]channel, len(configs))
	configs = slices.Clone(configs)
	for i := range configs {
		c := &configs[i]
		c.log = d.log.With("channel", c.Channel)
		err := c.Validate()
		if err == nil && seen[c.Channel] {
			err = errors.New("there are two channels of this name")
		}
		if err == nil {
			channels[i], err = kinds[c.Kind](c)
		}
		seen[c.Channel] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("channel %q: %w", plain(c.Channel, maxName), err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	clerks := make([]*clerk, len(configs))
	for i, config := range configs {
		c := known[config.Channel]
		if c == nil {
			c = &clerk{
				name: config.Channel, log: config.log, box: d.box, world: &d.world,
				news: make(chan struct{}, 1), poked: make(chan struct{}, 1),
			}
		}
		c.set(config, channels[i])
		clerks[i] = c
	}
	slices.SortFunc(clerks, func(a, b *clerk) int { return strings.Compare(a.name, b.name) })
	d.clerks.Store(&clerks)
	poke(d.changed)
	return nil
}

// Readers are the names under which the channels read news, and the jails whose decisions each is told.
func (d *Desk) Readers() map[string][]string {
	out := map[string][]string{}
	for _, c := range *d.clerks.Load() {
		c.mu.Lock()
		if slices.Contains(c.config.On, OnBan) || slices.Contains(c.config.On, OnUnban) {
			out[readerOf(c.name)] = slices.Clone(c.config.Jails)
		} else {
			out[readerOf(c.name)] = nil
		}
		c.mu.Unlock()
	}
	return out
}

// Senders deliver the letters, by channel. A sender stays the same over a reload, and delivers as the channel is
// configured then.
func (d *Desk) Senders() map[string]outbox.Sender {
	out := map[string]outbox.Sender{}
	for _, c := range *d.clerks.Load() {
		out[c.name] = c
	}
	return out
}

// Run has everything told until ctx ends; what is not told by then is told after the next start.
func (d *Desk) Run(ctx context.Context) error {
	type job struct {
		cancel context.CancelFunc
		ended  chan struct{}
	}
	jobs := map[*clerk]job{}
	var all sync.WaitGroup
	defer all.Wait()
	for {
		clerks := *d.clerks.Load()
		for c, j := range jobs {
			if !slices.Contains(clerks, c) {
				// One that comes back under its name must not find it at work.
				j.cancel()
				<-j.ended
				delete(jobs, c)
			}
		}
		for _, c := range clerks {
			if _, works := jobs[c]; works {
				continue
			}
			one, cancel := context.WithCancel(ctx)
			j := job{cancel, make(chan struct{})}
			jobs[c] = j
			all.Go(func() {
				defer close(j.ended)
				defer cancel()
				c.run(one)
			})
		}
		select {
		case <-d.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Wake says that decisions have been stored. It costs next to nothing and never waits.
func (d *Desk) Wake() {
	for _, c := range *d.clerks.Load() {
		poke(c.news)
	}
}

// announceFor is what Announce may take of a daemon that stops.
const announceFor = 5 * time.Second

// Announce tells those channels that want it that jails have started or stopped. When it returns,
// after at most five seconds, the letters are in the box: those of a daemon that stops go out while
// the outbox still runs, or after the next start. More than ten in an hour are gathered.
func (d *Desk) Announce(started, stopped []string) {
	ctx, cancel := context.WithTimeout(context.Background(), announceFor)
	defer cancel()
	for _, c := range *d.clerks.Load() {
		if err := c.announce(ctx, started, stopped); err != nil {
			c.log.Warn("cannot tell that jails started or stopped", "started", started, "stopped", stopped, "err", err)
		}
	}
}

// ErrNoChannel is Test's error for a channel that is not configured.
var ErrNoChannel = errors.New("no such channel")

// Test sends a message by a channel at once, past the outbox, and returns what became of it; nil says
// that its receiver has taken it.
func (d *Desk) Test(ctx context.Context, channel string) error {
	var names []string
	for _, c := range *d.clerks.Load() {
		if c.name == channel {
			return c.test(ctx)
		}
		names = append(names, c.name)
	}
	if len(names) == 0 {
		return fmt.Errorf("%w %q: none is configured", ErrNoChannel, plain(channel, maxName))
	}
	return fmt.Errorf("%w %q: there are %s", ErrNoChannel, plain(channel, maxName), strings.Join(names, ", "))
}

func (c *clerk) test(ctx context.Context) error {
	c.mu.Lock()
	ch := c.channel
	c.mu.Unlock()
	now := time.Now()
	l, err := c.letter(&Edition{Key: c.key("t", now.UnixNano()), Host: c.world.Host, At: now, Test: true}, ch)
	if err != nil {
		return err
	}
	return ch.Send(ctx, l)
}

// A Status is how a channel stands. It holds no secret.
type Status struct {
	Channel string        `json:"channel"`
	Kind    string        `json:"kind"`
	Jails   []string      `json:"jails"`
	On      []string      `json:"on"`
	Digest  time.Duration `json:"digest"` // in nanoseconds
	// To are the receivers of mails.
	To []string `json:"to,omitempty"`
	// Gathered are how many events wait to be told in the next message; those of the last minute may
	// not have been counted yet.
	Gathered int `json:"gathered"`
	// Last is when the last message was written since the daemon started, and Next when the next may be
	// one, if it is not now. Wall time.
	Last time.Time `json:"last,omitzero"`
	Next time.Time `json:"next,omitzero"`
	// Trouble is why no messages are written now. Why letters do not arrive the outbox knows.
	Trouble string `json:"trouble,omitempty"`
}

// Channels are all channels, by name.
func (d *Desk) Channels() []Status {
	clerks := *d.clerks.Load()
	out := make([]Status, len(clerks))
	for i, c := range clerks {
		out[i] = c.status(time.Now())
	}
	return out
}

func (c *clerk) status(now time.Time) Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{
		Channel: c.name, Kind: c.config.Kind, Jails: slices.Clone(c.config.Jails), On: slices.Clone(c.config.On), Digest: c.config.Digest,
		To: slices.Clone(c.config.To), Last: c.last, Trouble: c.trouble, Gathered: len(c.bans.Digest.Events) + c.bans.Digest.More,
	}
	if opens := c.bans.Window.open(paceOf(&c.config), now); opens.After(now) {
		s.Next = opens
	}
	return s
}

// Wants reports whether any channel is told of events like on.
func (d *Desk) Wants(on string) bool {
	return slices.ContainsFunc(*d.clerks.Load(), func(c *clerk) bool { return slices.Contains(c.config.On, on) })
}
