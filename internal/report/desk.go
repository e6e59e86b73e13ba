package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
)

// A Desk writes reports: it reads the news of each channel, gathers them, and puts letters into the outbox, which sends
// them by the channel's Sender.
//
// All it knows is in the Keeper, written down in one transaction with the letters and with how far it has read. So
// a crash loses no report and doubles none. All methods are safe for concurrent use.
type Desk struct {
	log   *slog.Logger
	box   outbox.Keeper
	world World

	mu       sync.Mutex // guards the rest
	channels map[string]*channel
	names    []string      // of those that are configured, in their order
	changed  chan struct{} // closed by Configure
}

// New makes a desk that reports nothing yet. It starts nothing.
func New(log *slog.Logger, box outbox.Keeper, world World) *Desk {
	return &Desk{log: log, box: box, world: world, channels: map[string]*channel{}, changed: make(chan struct{})}
}

// Configure replaces the channels, also while Run runs. Of a channel that keeps its name goes on what waits and what was
// reported; what a channel that is gone has written already is left to the outbox. An error changes nothing.
func (d *Desk) Configure(list []Config) error {
	setups := make([]*setup, len(list))
	names := make([]string, len(list))
	for i, c := range list {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("report %s: %w", c.Channel, err)
		}
		if slices.Contains(names[:i], c.Channel) {
			return fmt.Errorf("report %s: there are two of that name", c.Channel)
		}
		names[i] = c.Channel
		setups[i] = &setup{Config: c}
		if c.Kind == Abuse {
			open := d.world.Transport
			if open == nil {
				open = func(via smtp.Config) (smtp.Transport, error) { return via.Open(d.log) }
			}
			transport, err := open(c.Via)
			if err != nil {
				return fmt.Errorf("report %s: %w", c.Channel, err)
			}
			setups[i].transport = transport
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, name := range names {
		c := d.channels[name]
		if c == nil {
			c = &channel{
				desk: d, name: name, reader: "report/" + name, log: d.log.With("channel", name),
				lock: make(chan struct{}, 1), wake: make(chan struct{}, 1),
			}
			d.channels[name] = c
		}
		c.setup.Store(setups[i])
	}
	d.names = names
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}

// configured are the channels in their order, and what is closed when they are others.
func (d *Desk) configured() ([]*channel, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*channel, len(d.names))
	for i, name := range d.names {
		list[i] = d.channels[name]
	}
	return list, d.changed
}

// Readers are the names by which the configured channels read news, and the jails whose decisions each is to be told, as
// the store's Follow takes them.
func (d *Desk) Readers() map[string][]string {
	list, _ := d.configured()
	readers := map[string][]string{}
	for _, c := range list {
		readers[c.reader] = c.setup.Load().Jails
	}
	return readers
}

// Senders are those that deliver the letters of each configured channel, as the outbox takes them.
func (d *Desk) Senders() map[string]outbox.Sender {
	list, _ := d.configured()
	senders := map[string]outbox.Sender{}
	for _, c := range list {
		senders[c.name] = c
	}
	return senders
}

// Run reads news and writes letters until ctx ends. It is called once.
func (d *Desk) Run(ctx context.Context) error {
	for {
		list, changed := d.configured()
		running, stop := context.WithCancel(ctx)
		var group sync.WaitGroup
		for _, c := range list {
			group.Go(func() { c.run(running) })
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
		stop()
		group.Wait()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Wake says that there may be news. It returns at once.
func (d *Desk) Wake() {
	list, _ := d.configured()
	for _, c := range list {
		select {
		case c.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// What has become of a report, for Sent.State.
const (
	Waits     = "waits"     // it is gathered with others, or held back by a cap
	Queued    = "queued"    // it is written and waits in the outbox
	Refused   = "refused"   // its receiver will not have it; it stands in the outbox
	Delivered = "delivered" // its receiver has taken it
)

// A Sent is one report about one address, as the operator sees it.
type Sent struct {
	Channel string    `json:"channel"`
	ID      bantam.ID `json:"id"`
	Jail    string    `json:"jail"`
	State   string    `json:"state"`
	// At is when it was written, and of one that waits since when it does, wall time.
	At time.Time `json:"at"`
	// Due is before when one that waits is not written, zero if that is not known.
	Due time.Time `json:"due,omitzero"`
	// To are the mail addresses, or the name of the list; none while the contact is still being asked for.
	To []string `json:"to,omitempty"`
	// Count is how many reports there have been about the address in this channel, this one included.
	Count int `json:"count"`
	// Key is the letter's.
	Key string `json:"key,omitempty"`
	// Err is why it is not delivered yet, or what went wrong last.
	Err string `json:"error,omitempty"`
}

// List are the reports that wait and the last ones of each channel, newest first.
func (d *Desk) List(ctx context.Context) ([]Sent, error) {
	letters, err := d.box.Letters(ctx)
	if err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	queue := map[string]outbox.Letter{}
	for _, l := range letters {
		queue[l.Key] = l
	}
	var all []Sent
	list, _ := d.configured()
	for _, c := range list {
		s, err := c.load(ctx)
		if err != nil {
			return nil, fmt.Errorf("list reports: %w", err)
		}
		for _, w := range s.Waiting {
			all = append(all, Sent{
				Channel: c.name, ID: w.ID, Jail: w.Jail, State: Waits, At: w.Since, Due: w.Next, To: w.Contacts, Count: w.Count + 1, Err: w.Err,
			})
		}
		for _, r := range s.Sent {
			sent := r.sent(c.name)
			if l, ok := queue[r.Key]; ok {
				sent.State, sent.Err = Queued, l.Err
				if l.Failed {
					sent.State = Refused
				}
			}
			all = append(all, sent)
		}
	}
	slices.SortStableFunc(all, func(a, b Sent) int { return b.At.Compare(a.At) })
	return all, nil
}

// Errors of Preview and Send that a caller tells apart.
var (
	// ErrNoChannel is wrapped where no channel has the name.
	ErrNoChannel = errors.New("no report channel of this name")
	// ErrNoBan is wrapped where nobody remembers a ban of the ID.
	ErrNoBan = errors.New("no ban of it is known")
	// ErrHeld is wrapped where a cap, the interval or a rule holds the report back; Send's force goes over it.
	ErrHeld = errors.New("held back")
	// ErrNoContact is wrapped where nobody takes complaints about an address.
	ErrNoContact = errors.New("no abuse contact is known")
)

// Preview is the report about an ID as it would be sent now, without sending it: a mail as its reader sees it, or what a list
// would be told.
// It is made of the newest ban that World.Bans has in a jail of the channel. An empty channel is the first of kind Abuse, or the first.
// It asks for the contact and the network, and regards no cap.
func (d *Desk) Preview(ctx context.Context, channel string, id bantam.ID) ([]byte, error) {
	c, err := d.find(channel)
	if err != nil {
		return nil, fmt.Errorf("preview the report about %s: %w", id, err)
	}
	h, err := c.byHand(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("preview the report about %s by %s: %w", id, c.name, err)
	}
	if h.about != nil {
		m, err := c.setup.Load().write(h.about)
		if err != nil {
			return nil, fmt.Errorf("preview the report about %s by %s: %w", id, c.name, err)
		}
		return mailPreview(&m), nil
	}
	var b body
	if err := json.Unmarshal(h.letter.Body, &b); err != nil {
		return nil, fmt.Errorf("preview the report about %s by %s: %w", id, c.name, err)
	}
	return b.Form.preview(), nil
}

// Send writes the report about an ID at once, without gathering, out of what Preview shows. Interval, caps and rules hold it
// back with ErrHeld, unless force goes over them; addresses that no desk answers for are never reported.
func (d *Desk) Send(ctx context.Context, channel string, id bantam.ID, force bool) (Sent, error) {
	c, err := d.find(channel)
	if err != nil {
		return Sent{}, fmt.Errorf("report %s: %w", id, err)
	}
	s, err := c.sendByHand(ctx, id, force)
	if err != nil {
		return Sent{}, fmt.Errorf("report %s by %s: %w", id, c.name, err)
	}
	return s, nil
}

// find is the channel of a name, or the one that is meant if it is empty.
func (d *Desk) find(name string) (*channel, error) {
	list, _ := d.configured()
	for _, c := range list {
		if c.name == name || name == "" && c.setup.Load().Kind == Abuse {
			return c, nil
		}
	}
	if name == "" && len(list) > 0 {
		return list[0], nil
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNoChannel)
}

// A body is what a letter keeps for its Sender: one of the two.
type body struct {
	Mail *smtp.Packet `json:"mail,omitempty"`
	Form *form        `json:"form,omitempty"`
}
