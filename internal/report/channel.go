package report

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

// The caps. They hold however many attackers there are and whoever they pretend to be: nobody can have us flood a third
// party's mailbox. They are counted over restarts.
const (
	gather      = 5 * time.Minute // from the first address of a contact to its mail
	contactRest = time.Hour       // between two mails to a contact
	hourlyMails = 20
	dailyMails  = 200
	dailyForms  = 1000 // reports to a list; what AbuseIPDB takes of a free account

	mostWaiting   = 1000 // addresses that wait; more are counted and left out
	mostPerMail   = 25   // addresses in one mail
	mostContacts  = 3    // of one address
	tooOld        = 72 * time.Hour
	lookupTimeout = 20 * time.Second
	lookupPause   = 10 * time.Minute // after the first lookup that failed; it doubles
	troublePause  = time.Minute      // after the database did not answer
	settle        = 2 * time.Second  // from news to a look at them
	newsAtOnce    = 200
	asksAtOnce    = 32
	sentKept      = 500
	sentAtMost    = 1500
)

// A setup is what Configure has given a channel.
type setup struct {
	Config
	transport smtp.Transport // of kind Abuse
}

// A channel is one way to report, with its own news, its own state, and, in Run, its own goroutine.
type channel struct {
	desk   *Desk
	name   string
	reader string // of its news, and owner of its notes
	log    *slog.Logger
	setup  atomic.Pointer[setup]
	wake   chan struct{}

	// lock is held by whoever reads the state and writes it down again: Run for one step, or Send.
	lock   chan struct{}
	state  *state // what was last written down; nil for unknown
	capped bool   // the caps have been told of
}

// state is what a channel keeps in its note "state". What is said of each address is in the note "case ADDRESS", when it was
// reported in "at ADDRESS".
type state struct {
	Waiting []*waiting `json:"waiting,omitempty"`
	// Contacts says when the last mail to each was written; older than contactRest is forgotten.
	Contacts map[string]time.Time `json:"contacts,omitempty"`
	// Mails are when letters were written in the last day, in Unix seconds.
	Mails []int64 `json:"mails,omitempty"`
	// LeftOut counts bans that were not reported since too many others waited.
	LeftOut int      `json:"left_out,omitempty"`
	Sent    []record `json:"sent,omitempty"`
}

// waiting is an address that is to be reported.
type waiting struct {
	ID    bantam.ID `json:"id"`
	Jail  string    `json:"jail"`
	Since time.Time `json:"since"` // wall time
	Count int       `json:"count"` // reports before
	// Contacts are set once Asked is true.
	Contacts []string  `json:"contacts,omitempty"`
	Asked    bool      `json:"asked,omitempty"`
	Tries    int       `json:"tries,omitempty"`
	Next     time.Time `json:"next,omitzero"` // when something is to be done about it
	Err      string    `json:"error,omitempty"`
}

// record is a report that was written.
type record struct {
	ID    bantam.ID `json:"id"`
	Jail  string    `json:"jail"`
	At    time.Time `json:"at"`
	To    []string  `json:"to"`
	Count int       `json:"count"`
	Key   string    `json:"key"`
}

func (r *record) sent(channel string) Sent {
	return Sent{Channel: channel, ID: r.ID, Jail: r.Jail, State: Delivered, At: r.At, To: r.To, Count: r.Count, Key: r.Key}
}

// told is the note "at ADDRESS": when an address was last reported, and how often.
type told struct {
	Last  time.Time `json:"last"`
	Count int       `json:"count"`
}

// run takes steps until ctx ends.
func (c *channel) run(ctx context.Context) {
	for {
		next, err := c.steps(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Warn("reports wait", "err", err)
			next = time.Now().Add(troublePause)
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			// Each look writes the whole state down, and bans want the same disk: those of a burst are looked at together.
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return
			}
		case <-timer:
		}
	}
}

// steps does all that can be done now, and says when there will be more; zero for when there are news.
func (c *channel) steps(ctx context.Context) (time.Time, error) {
	for {
		again, next, err := c.step(ctx)
		if err != nil || !again {
			return next, err
		}
	}
}

// step does one thing: reads some news, or asks for one contact, or writes one mail.
func (c *channel) step(ctx context.Context) (again bool, next time.Time, err error) {
	unlock, err := c.hold(ctx)
	if err != nil {
		return false, next, err
	}
	defer unlock()
	s := c.state
	if s == nil {
		if s, err = c.load(ctx); err != nil {
			return false, next, err
		}
	}
	c.state = nil // whatever goes wrong below, it is read again
	defer func() {
		if err == nil {
			c.state = s
		}
	}()
	if again, err = c.read(ctx, s); again || err != nil {
		return again, next, err
	}
	if c.setup.Load().Kind != Abuse {
		return false, next, nil
	}
	if list := s.toAsk(time.Now()); len(list) > 0 {
		return true, next, c.ask(ctx, s, list)
	}
	return c.mail(ctx, s)
}

func (c *channel) hold(ctx context.Context) (unlock func(), err error) {
	select {
	case c.lock <- struct{}{}:
		return func() { <-c.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load reads the state. A note that cannot be read is an error, never an empty state: that would report everybody again.
func (c *channel) load(ctx context.Context) (*state, error) {
	s := &state{}
	if _, err := c.note(ctx, "state", s); err != nil {
		return nil, err
	}
	if s.Contacts == nil {
		s.Contacts = map[string]time.Time{}
	}
	return s, nil
}

// note reads a note into v, and reports whether there is one.
func (c *channel) note(ctx context.Context, key string, v any) (bool, error) {
	data, _, err := c.desk.box.Note(ctx, c.reader, key)
	if err != nil || data == nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read the note %q of %s: %w", key, c.reader, err)
	}
	return true, nil
}

// commit writes a batch down together with the state.
func (c *channel) commit(ctx context.Context, s *state, b outbox.Batch) error {
	if b.Notes == nil {
		b.Notes = map[string][]byte{}
	}
	now := time.Now()
	maps.DeleteFunc(s.Contacts, func(_ string, at time.Time) bool { return now.Sub(at) > contactRest })
	s.Mails = slices.DeleteFunc(s.Mails, func(at int64) bool { return now.Unix()-at >= 24*60*60 })
	// What is older than the interval needs no note any more, but for its count; that goes with the list.
	interval := c.setup.Load().Interval
	for len(s.Sent) > sentAtMost || len(s.Sent) > sentKept && now.Sub(s.Sent[0].At) > interval {
		old := s.Sent[0]
		s.Sent = s.Sent[1:]
		key := "at " + old.ID.String()
		if b.Notes[key] == nil && now.Sub(old.At) > interval && !slices.ContainsFunc(s.Sent, func(r record) bool { return r.ID == old.ID }) {
			b.Notes[key] = nil
		}
	}
	data, err := json.Marshal(s)
	for err == nil && len(data) > outbox.MaxBody { // names that are made to be long
		if len(s.Sent) > 0 {
			s.Sent = s.Sent[(len(s.Sent)+1)/2:]
		} else {
			keep := len(s.Waiting) / 2
			for _, w := range s.Waiting[keep:] {
				b.Notes["case "+w.ID.String()] = nil
			}
			s.LeftOut += len(s.Waiting) - keep
			s.Waiting = s.Waiting[:keep]
		}
		data, err = json.Marshal(s)
	}
	if err != nil {
		return err
	}
	b.Notes["state"] = data
	return c.desk.box.Commit(ctx, c.reader, b)
}

// read takes the next news in, and reports whether there may be more.
func (c *channel) read(ctx context.Context, s *state) (bool, error) {
	news, err := c.desk.box.News(ctx, c.reader, newsAtOnce)
	if err != nil || len(news) == 0 {
		return false, err
	}
	set := c.setup.Load()
	b := outbox.Batch{UpTo: news[len(news)-1].Number, Notes: map[string][]byte{}}
	cases := map[bantam.ID]*attackCase{}
	for i := range news {
		n := &news[i]
		if why := c.hinders(set, &n.Decision); why != "" {
			if n.Decision.Kind == bantam.Start {
				c.log.Debug("ban not reported", "jail", n.Decision.Ban.Jail, "prefix", n.Decision.Ban.ID.String(), "reason", why)
			}
			continue
		}
		if err := c.take(ctx, s, set, n, cases, &b); err != nil {
			return false, err
		}
	}
	for id, attacked := range cases {
		data, err := json.Marshal(attacked)
		if err != nil {
			return false, err
		}
		b.Notes["case "+id.String()] = data
	}
	return true, c.commit(ctx, s, b)
}

// take puts one ban on the list of what waits; for a public list it writes the letter at once.
func (c *channel) take(ctx context.Context, s *state, set *setup, n *bantam.News, cases map[bantam.ID]*attackCase, b *outbox.Batch) error {
	id, now := n.Decision.Ban.ID, time.Now()
	var w *waiting
	if i := slices.IndexFunc(s.Waiting, func(w *waiting) bool { return w.ID == id }); i >= 0 {
		w = s.Waiting[i]
	} else {
		var last told
		if _, err := c.note(ctx, "at "+id.String(), &last); err != nil {
			return err
		}
		if i := slices.IndexFunc(s.Sent, func(r record) bool { return r.ID == id && now.Sub(r.At) < set.Interval }); i >= 0 || now.Sub(last.Last) < set.Interval {
			return nil
		}
		w = &waiting{ID: id, Jail: n.Decision.Ban.Jail, Since: now, Count: last.Count}
	}
	if set.Kind != Abuse {
		if s.today(now) >= dailyForms {
			s.LeftOut++
			c.tellCap("no more reports today", s)
			return nil
		}
		c.capped = false
		l, err := set.formLetter(id, c.attackOf(ctx, set, &n.Decision, n.Number), "report-"+key(c.reader, strconv.FormatInt(n.Number, 10)), now)
		if errors.Is(err, errNothingToSay) {
			return nil
		} else if err != nil {
			return err
		}
		b.Letters = append(b.Letters, l)
		return s.wrote(b, now, l.Key, set.receivers(nil), w)
	}
	attacked := cases[id]
	if attacked == nil {
		attacked = &attackCase{ID: id}
		if !slices.Contains(s.Waiting, w) {
			if len(s.Waiting) >= mostWaiting {
				s.LeftOut++
				c.tellCap("too many addresses wait to be reported", s)
				return nil
			}
			s.Waiting = append(s.Waiting, w)
		} else if _, err := c.note(ctx, "case "+id.String(), attacked); err != nil {
			return err
		}
		cases[id] = attacked
	}
	attacked.add(c.attackOf(ctx, set, &n.Decision, n.Number))
	return nil
}

// tellCap says once that a cap was reached.
func (c *channel) tellCap(what string, s *state) {
	if !c.capped {
		c.log.Warn("a cap of reports is reached", "reason", what, "waiting", len(s.Waiting), "left_out", s.LeftOut)
	}
	c.capped = true
}

// today is how many letters were written in the last day.
func (s *state) today(now time.Time) int { return s.since(now.Add(-24 * time.Hour)) }

func (s *state) since(from time.Time) int {
	n := 0
	for _, at := range s.Mails {
		if at > from.Unix() {
			n++
		}
	}
	return n
}

// wrote notes that a letter was written about some addresses.
func (s *state) wrote(b *outbox.Batch, now time.Time, key string, to []string, about ...*waiting) error {
	s.Mails = append(s.Mails, now.Unix())
	for _, w := range about {
		data, err := json.Marshal(told{Last: now, Count: w.Count + 1})
		if err != nil {
			return err
		}
		b.Notes["at "+w.ID.String()] = data
		b.Notes["case "+w.ID.String()] = nil
		s.Sent = append(s.Sent, record{ID: w.ID, Jail: w.Jail, At: now, To: to, Count: w.Count + 1, Key: key})
	}
	s.Waiting = slices.DeleteFunc(s.Waiting, func(w *waiting) bool { return slices.Contains(about, w) })
	return nil
}

// hinders says why a decision is not reported, "" if it is.
func (c *channel) hinders(set *setup, d *bantam.Decision) string {
	b := &d.Ban
	switch {
	case d.Kind != bantam.Start:
		return "it starts no ban"
	case b.By != bantam.ByFailures:
		return "the ban is not from this machine's own logs"
	case b.Held():
		return "the ban was held back: " + b.Reason
	case b.Observed:
		return "the jail only observes"
	case len(set.Jails) > 0 && !slices.Contains(set.Jails, b.Jail):
		return "the jail is not the channel's"
	case !set.Spoofable && c.desk.world.Spoofable != nil && c.desk.world.Spoofable(b.Jail):
		return "the attacker may have written a false address"
	case time.Since(d.At) > tooOld:
		return "the ban is too old"
	}
	return notReportable(b.ID)
}

// notReportable says why no desk answers for an ID, "" if one may.
func notReportable(id bantam.ID) string {
	p, ok := id.Prefix()
	switch {
	case !ok:
		return "it is no address"
	case p.Addr().Is4() && p.Bits() < 24, p.Addr().Is6() && p.Bits() < 48:
		return "the prefix is too large to be one attacker"
	}
	for _, private := range privateNetworks {
		if private.Overlaps(p) {
			return "the address is not one of the Internet's"
		}
	}
	return ""
}

// privateNetworks are those that IANA's registries of special addresses (RFC 6890) give to no network of the Internet. Those
// for documentation are left in: they do no harm.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/16"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("ff00::/8"),
}

// attackOf is a ban as it may be told to strangers.
func (c *channel) attackOf(ctx context.Context, set *setup, d *bantam.Decision, number int64) *attack {
	w, b := &c.desk.world, &d.Ban
	a := &attack{
		Number: number, Jail: b.Jail, First: b.Time, Last: b.Time, Failures: b.Failures, Count: b.Count,
		Zone: zoneName(b.Time, w.Zone), Redacted: set.Redact,
	}
	a.Lines, a.More = newRedactor(b, w.Host, set.Redact).lines(b.Lines)
	if w.Values != nil {
		values := w.Values(ctx, d)
		for tag, to := range map[string]*string{"port": &a.Port, "protocol": &a.Protocol} {
			if v, ok := values(tag); ok {
				*to = v
			}
		}
	}
	return a
}

// toAsk are addresses whose contacts are to be asked for now.
func (s *state) toAsk(now time.Time) (list []*waiting) {
	for _, w := range s.Waiting {
		if !w.Asked && !w.Next.After(now) && len(list) < asksAtOnce {
			list = append(list, w)
		}
	}
	return list
}

// ask asks who takes complaints about some addresses, all at once.
func (c *channel) ask(ctx context.Context, s *state, list []*waiting) error {
	set := c.setup.Load()
	found, errs := make([][]string, len(list)), make([]error, len(list))
	var group sync.WaitGroup
	for i, w := range list {
		group.Go(func() { found[i], errs[i] = c.contacts(ctx, set, w.ID) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b := outbox.Batch{Notes: map[string][]byte{}}
	now := time.Now()
	for i, w := range list {
		contacts, err := found[i], errs[i]
		switch {
		case err != nil && now.Sub(w.Since) < tooOld:
			w.Tries, w.Err = w.Tries+1, cut(clean(err.Error()), 200)
			w.Next = now.Add(lookupPause << min(w.Tries-1, 5))
			c.log.Debug("contact not found yet", "prefix", w.ID.String(), "err", err)
		case (err != nil || len(contacts) == 0) && len(set.To) == 0:
			c.log.Info("ban not reported", "prefix", w.ID.String(), "reason", ErrNoContact.Error())
			// It counts as told, so that nobody is asked again before the interval is over.
			data, err := json.Marshal(told{Last: now, Count: w.Count})
			if err != nil {
				return err
			}
			b.Notes["at "+w.ID.String()], b.Notes["case "+w.ID.String()] = data, nil
			s.Waiting = slices.DeleteFunc(s.Waiting, func(o *waiting) bool { return o == w })
		default:
			w.Contacts, w.Asked, w.Err, w.Next = contacts, true, "", w.Since.Add(gather)
		}
	}
	return c.commit(ctx, s, b)
}

// contacts are the desk's addresses: checked, sorted, few. Ours is not among them, lest we answer ourselves for ever.
func (c *channel) contacts(ctx context.Context, set *setup, id bantam.ID) ([]string, error) {
	p, ok := id.Prefix()
	if !ok || c.desk.world.Contacts == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := c.desk.world.Contacts(ctx, p.Addr(), set.Contact)
	if errors.Is(err, whois.ErrUnknown) || errors.Is(err, whois.ErrNotPublic) {
		return nil, nil // that is an answer: asking again would bring no other
	}
	if err != nil {
		return nil, err
	}
	own, _ := bareAddress(set.From)
	var contacts []string
	for _, text := range found {
		contact, err := bareAddress(text)
		if err != nil {
			c.log.Debug("contact passed over", "prefix", id.String(), "err", err)
			continue
		}
		if contact != own {
			contacts = append(contacts, contact)
		}
	}
	slices.Sort(contacts)
	contacts = slices.Compact(contacts)
	return contacts[:min(len(contacts), mostContacts)], nil
}

// mail writes the next mail that is due, if there is one; else it says when there will be.
func (c *channel) mail(ctx context.Context, s *state) (again bool, next time.Time, err error) {
	now := time.Now()
	if old := s.stale(now); len(old) > 0 {
		return true, next, c.forget(ctx, s, old)
	}
	due, next, err := c.due(ctx, s, now)
	if err != nil || due == nil {
		return false, next, err
	}
	if from := s.capsUntil(now); from.After(now) {
		c.tellCap("no more mails for now", s)
		return false, earlier(next, from), nil
	}
	c.capped = false
	l, contacts, err := c.compose(ctx, due, now)
	for err == nil && len(l.Body) > outbox.MaxBody && len(due) > 1 { // the others get the next one
		due = due[:len(due)/2]
		l, contacts, err = c.compose(ctx, due, now)
	}
	if errors.Is(err, errNothingToSay) {
		return true, next, c.forget(ctx, s, due)
	}
	if err != nil {
		return false, next, err
	}
	b := outbox.Batch{Letters: []outbox.Letter{l}, Notes: map[string][]byte{}}
	for _, contact := range contacts {
		s.Contacts[contact] = now
	}
	to := c.setup.Load().receivers(contacts)
	if err := s.wrote(&b, now, l.Key, to, due...); err != nil {
		return false, next, err
	}
	if err := c.commit(ctx, s, b); err != nil {
		return false, next, err
	}
	c.log.Info("report written", "addresses", len(due), "prefix", due[0].ID.String(), "to", strings.Join(to, ", "))
	return true, next, nil
}

// compose writes the letter about addresses that have their contacts in common.
func (c *channel) compose(ctx context.Context, due []*waiting, now time.Time) (l outbox.Letter, contacts []string, err error) {
	d := &dossier{at: now, contacts: due[0].Contacts, counts: map[bantam.ID]int{}}
	numbers := []string{c.reader, strings.Join(d.contacts, " ")}
	for _, w := range due {
		attacked := &attackCase{ID: w.ID}
		if _, err := c.note(ctx, "case "+w.ID.String(), attacked); err != nil {
			return l, nil, err
		}
		if len(attacked.Attacks) == 0 { // the note is lost
			continue
		}
		d.cases = append(d.cases, attacked)
		d.counts[w.ID] = w.Count
		for _, a := range attacked.Attacks {
			numbers = append(numbers, strconv.FormatInt(a.Number, 10))
		}
	}
	if len(d.cases) == 0 {
		return l, nil, errNothingToSay
	}
	d.networks = c.networks(ctx, due)
	// The same news make the same key, also if they are read again after a crash.
	d.key = "report-" + key(numbers...)
	l, err = c.setup.Load().mailLetter(d)
	return l, d.contacts, err
}

// stale are the addresses that have waited too long: what a desk reads should be of this week.
func (s *state) stale(now time.Time) (old []*waiting) {
	for _, w := range s.Waiting {
		if now.Sub(w.Since) > 2*tooOld {
			old = append(old, w)
		}
	}
	return old
}

// forget gives up reporting some addresses.
func (c *channel) forget(ctx context.Context, s *state, old []*waiting) error {
	b := outbox.Batch{Notes: map[string][]byte{}}
	for _, w := range old {
		b.Notes["case "+w.ID.String()] = nil
	}
	s.LeftOut += len(old)
	s.Waiting = slices.DeleteFunc(s.Waiting, func(w *waiting) bool { return slices.Contains(old, w) })
	c.log.Warn("addresses are not reported any more", "addresses", len(old), "left_out", s.LeftOut)
	return c.commit(ctx, s, b)
}

// receivers are who gets a report in truth.
func (c *Config) receivers(contacts []string) []string {
	switch {
	case c.Kind != Abuse:
		return []string{listName[c.Kind]}
	case len(c.To) > 0:
		return c.To
	}
	return contacts
}

// due are the addresses of the one contact whose mail is due the longest; nil if there is none, and then next is when one
// will be, or a contact is to be asked for again.
func (c *channel) due(ctx context.Context, s *state, now time.Time) (due []*waiting, next time.Time, err error) {
	refused, err := c.refused(ctx, s)
	if err != nil {
		return nil, next, err
	}
	seen := map[string]bool{}
	for _, first := range s.Waiting { // oldest first
		if !first.Asked {
			next = earlier(next, first.Next)
			continue
		}
		desk := strings.Join(first.Contacts, " ")
		if seen[desk] {
			continue
		}
		seen[desk] = true
		at := first.Since.Add(gather)
		for _, contact := range first.Contacts {
			if last, ok := s.Contacts[contact]; ok && last.Add(contactRest).After(at) {
				at = last.Add(contactRest)
			}
			if refused[contact] && at.Before(now.Add(contactRest)) {
				// What it has sent back lies in the outbox: nothing more goes there before somebody has looked at it.
				at = now.Add(contactRest)
			}
		}
		if at.After(now) {
			next = earlier(next, at)
			continue
		}
		if due == nil {
			for _, w := range s.Waiting {
				if w.Asked && slices.Equal(w.Contacts, first.Contacts) && len(due) < mostPerMail {
					due = append(due, w)
				}
			}
		}
	}
	return due, next, nil
}

// refused are the contacts that a failed letter in the outbox was for.
func (c *channel) refused(ctx context.Context, s *state) (map[string]bool, error) {
	letters, err := c.desk.box.Letters(ctx)
	if err != nil {
		return nil, err
	}
	failed, contacts := map[string]bool{}, map[string]bool{}
	for _, l := range letters {
		if l.Failed && l.Channel == c.name {
			failed[l.Key] = true
		}
	}
	for _, r := range s.Sent {
		if failed[r.Key] {
			for _, to := range r.To {
				contacts[to] = true
			}
		}
	}
	return contacts, nil
}

// capsUntil is when the caps let the next mail go.
func (s *state) capsUntil(now time.Time) time.Time {
	var until time.Time
	for _, limit := range []struct {
		most   int
		within time.Duration
	}{{hourlyMails, time.Hour}, {dailyMails, 24 * time.Hour}} {
		if n := len(s.Mails) - limit.most; n >= 0 {
			// It is free again when the limit-th mail from the end is out of the window.
			if at := time.Unix(s.Mails[n], 0).Add(limit.within); at.After(until) {
				until = at
			}
		}
	}
	return until
}

// earlier is the earlier of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// networks are what is registered of the networks that addresses are of, each once. What does not answer is left out.
func (c *channel) networks(ctx context.Context, about []*waiting) []whois.Answer {
	if c.desk.world.Whois == nil {
		return nil
	}
	var networks []whois.Answer
	for i, w := range about {
		p, _ := w.ID.Prefix()
		if i >= 2*mostNetworks || slices.ContainsFunc(networks, func(n whois.Answer) bool { return n.Network.Contains(p.Addr()) }) {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, lookupTimeout)
		answer, err := c.desk.world.Whois(asking, p.Addr())
		cancel()
		if err != nil {
			c.log.Debug("network not known", "prefix", w.ID.String(), "err", err)
			continue
		}
		networks = append(networks, answer)
	}
	return networks
}

// mailLetter makes the letter of a mail.
func (c *Config) mailLetter(d *dossier) (outbox.Letter, error) {
	m, err := c.write(d)
	if err != nil {
		return outbox.Letter{}, err
	}
	packet, err := m.Packet()
	if err != nil {
		return outbox.Letter{}, err
	}
	data, err := json.Marshal(body{Mail: &packet})
	if err != nil {
		return outbox.Letter{}, err
	}
	about := d.cases[0].ID.String()
	if n := len(d.cases); n > 1 {
		about += fmt.Sprintf(" and %d more", n-1)
	}
	return outbox.Letter{
		Key: d.key, Channel: c.Channel, Made: d.at, Due: d.at, Body: data,
		About: cut("abuse report of "+about+" to "+strings.Join(c.receivers(d.contacts), ", "), 200),
	}, nil
}

// key is a letter's key out of what it is about.
func key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}
