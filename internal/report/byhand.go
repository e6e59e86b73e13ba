package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bantam"
	"bantam/internal/outbox"
)

// handmade is what byHand has made.
type handmade struct {
	letter   outbox.Letter
	ban      *bantam.Ban
	about    *dossier // of a mail
	contacts []string
	last     told
}

// byHand makes the letter about an ID without writing it down.
func (c *channel) byHand(ctx context.Context, id bantam.ID) (*handmade, error) {
	set, now := c.setup.Load(), time.Now()
	if why := notReportable(id); why != "" {
		return nil, errors.New(why)
	}
	if c.desk.world.Bans == nil {
		return nil, ErrNoBan
	}
	bans, err := c.desk.world.Bans(ctx, id)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(bans, func(b bantam.Ban) bool { return len(set.Jails) == 0 || slices.Contains(set.Jails, b.Jail) })
	if i < 0 {
		return nil, ErrNoBan
	}
	h := &handmade{ban: &bans[i]}
	if _, err := c.note(ctx, "at "+id.String(), &h.last); err != nil {
		return nil, err
	}
	a := c.attackOf(ctx, set, &bantam.Decision{Kind: bantam.Start, Ban: *h.ban, At: h.ban.Time}, 0)
	k := "report-" + key(c.reader, id.String(), strconv.Itoa(h.last.Count), strconv.FormatInt(now.UnixNano(), 10))
	if set.Kind != Abuse {
		h.letter, err = set.formLetter(id, a, k, now)
		return h, err
	}
	h.contacts, err = c.contacts(ctx, set, id)
	if err == nil && len(h.contacts) == 0 {
		err = ErrNoContact
	}
	if err != nil && len(set.To) == 0 {
		return nil, err
	}
	h.about = &dossier{
		key: k, at: now, contacts: h.contacts, cases: []*attackCase{{ID: id, Attacks: []*attack{a}}},
		counts: map[bantam.ID]int{id: h.last.Count}, networks: c.networks(ctx, []*waiting{{ID: id}}),
	}
	h.letter, err = set.mailLetter(h.about)
	return h, err
}

// sendByHand writes the letter about an ID, unless something holds it back.
func (c *channel) sendByHand(ctx context.Context, id bantam.ID, force bool) (Sent, error) {
	unlock, err := c.hold(ctx)
	if err != nil {
		return Sent{}, err
	}
	defer unlock()
	h, err := c.byHand(ctx, id)
	if err != nil {
		return Sent{}, err
	}
	c.state = nil
	s, err := c.load(ctx)
	if err != nil {
		return Sent{}, err
	}
	set, now := c.setup.Load(), time.Now()
	if why := c.holdsBack(set, s, h, now); why != "" && !force {
		return Sent{}, fmt.Errorf("%w: %s", ErrHeld, why)
	}
	w := &waiting{ID: id, Jail: h.ban.Jail, Count: h.last.Count}
	if i := slices.IndexFunc(s.Waiting, func(w *waiting) bool { return w.ID == id }); i >= 0 {
		w = s.Waiting[i]
	}
	for _, contact := range h.contacts {
		s.Contacts[contact] = now
	}
	b := outbox.Batch{Letters: []outbox.Letter{h.letter}, Notes: map[string][]byte{}}
	if err := s.wrote(&b, now, h.letter.Key, set.receivers(h.contacts), w); err != nil {
		return Sent{}, err
	}
	r := s.Sent[len(s.Sent)-1]
	if err := c.commit(ctx, s, b); err != nil {
		return Sent{}, err
	}
	sent := r.sent(c.name)
	sent.State = Queued
	return sent, nil
}

// holdsBack says what speaks against a report by hand, "" for nothing.
func (c *channel) holdsBack(set *setup, s *state, h *handmade, now time.Time) string {
	if why := c.hinders(set, &bantam.Decision{Kind: bantam.Start, Ban: *h.ban, At: now}); why != "" {
		return why
	}
	if until := h.last.Last.Add(set.Interval); until.After(now) {
		return "it was reported at " + h.last.Last.UTC().Format(time.RFC3339) + ", the next time may be " + until.UTC().Format(time.RFC3339)
	}
	if set.Kind != Abuse {
		if s.today(now) >= dailyForms {
			return fmt.Sprintf("%d reports were written in the last day", dailyForms)
		}
		return ""
	}
	for _, contact := range h.contacts {
		if until := s.Contacts[contact].Add(contactRest); until.After(now) {
			return contact + " gets the next mail after " + until.UTC().Format(time.RFC3339)
		}
	}
	if until := s.capsUntil(now); until.After(now) {
		return "the next mail may be written after " + until.UTC().Format(time.RFC3339)
	}
	return ""
}
