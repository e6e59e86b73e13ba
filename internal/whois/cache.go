package whois

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	keepAnswer  = 24 * time.Hour  // how long an answer holds
	keepUnknown = time.Hour       // how long it holds that nobody knows
	keepTrouble = 5 * time.Minute // how long nobody is asked after something went wrong
	maxEntries  = 10000           // answers in memory
	maxMemory   = 16 << 20        // bytes of their texts
	maxNotes    = 1024            // notes in the Cache
	maxNote     = 64 << 10        // bytes of one
)

// An entry is an answer, or that there was none, and for whom it holds.
type entry struct {
	Way     string       `json:"way"`
	Prefix  netip.Prefix `json:"prefix"`
	Answer  Answer       `json:"answer,omitzero"`
	Err     string       `json:"error,omitempty"`
	Unknown bool         `json:"unknown,omitempty"` // Err is an ErrUnknown
	Until   time.Time    `json:"until"`             // wall time
}

// scopeOf is the widest prefix around an address for which an answer holds. A network may be wider, but has then
// mostly given parts of itself to others; and a wrong answer does harm to its scope only. DNS does not say for
// which network its answer is.
func scopeOf(way string, addr netip.Addr) netip.Prefix {
	bits := 32
	switch {
	case way == DNS && addr.Is6():
		bits = 64
	case way != DNS && addr.Is4():
		bits = 16
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// newEntry is what is remembered of an answer or an error.
func newEntry(way string, addr netip.Addr, answer Answer, err error, now time.Time) entry {
	e := entry{Way: way, Prefix: scopeOf(way, addr), Answer: answer}
	switch {
	case err == nil:
		e.Until = now.Add(keepAnswer)
		if answer.Network.IsValid() && answer.Network.Bits() > e.Prefix.Bits() {
			e.Prefix = answer.Network
		}
		return e
	case errors.Is(err, ErrUnknown):
		e.Unknown, e.Until = true, now.Add(keepUnknown)
	default:
		e.Until = now.Add(keepTrouble)
	}
	e.Err = cleanLine(err.Error())
	// Of an address that nobody knows the network of, the neighbours in the smallest prefix that is routed are likely as unknown.
	e.Prefix = netip.PrefixFrom(addr, max(e.Prefix.Bits(), routed(addr))).Masked()
	return e
}

// routed is the length of the smallest prefix that is commonly announced to the internet.
func routed(addr netip.Addr) int {
	if addr.Is4() {
		return 24
	}
	return 48
}

// result is what the entry's question came to.
func (e *entry) result() (Answer, error) {
	switch {
	case e.Unknown:
		return Answer{}, fmt.Errorf("asked before: %w", ErrUnknown)
	case e.Err != "":
		return Answer{}, fmt.Errorf("asked before: %s", e.Err)
	}
	a := e.Answer
	a.Abuse = slices.Clone(a.Abuse) // callers may do with it what they like
	return a, nil
}

// size is what an entry takes in memory, roughly.
func (e *entry) size() int {
	n := 300 + len(e.Err) + len(e.Answer.Text) + len(e.Answer.Name) + len(e.Answer.Org)
	for _, contact := range e.Answer.Abuse {
		n += 16 + len(contact)
	}
	return n
}

// A memory keeps the entries that were used last. The zero memory is ready.
type memory struct {
	mu      sync.Mutex // guards the rest
	entries map[memoryKey]*list.Element
	order   list.List // of *entry, the one used last in front
	bytes   int
}

type memoryKey struct {
	way    string
	prefix netip.Prefix
}

// get is the entry of the smallest prefix around an address.
func (m *memory) get(way string, addr netip.Addr, now time.Time) (*entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for bits := addr.BitLen(); bits >= scopeOf(way, addr).Bits(); bits-- {
		at, ok := m.entries[memoryKey{way, netip.PrefixFrom(addr, bits).Masked()}]
		if !ok {
			continue
		}
		e := at.Value.(*entry)
		if !now.Before(e.Until) {
			m.drop(at)
			continue
		}
		m.order.MoveToFront(at)
		return e, true
	}
	return nil, false
}

// put remembers an entry, which is not changed afterwards.
func (m *memory) put(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := memoryKey{e.Way, e.Prefix}
	if at, ok := m.entries[key]; ok {
		m.drop(at)
	}
	if m.entries == nil {
		m.entries = map[memoryKey]*list.Element{}
	}
	m.entries[key] = m.order.PushFront(e)
	m.bytes += e.size()
	for m.order.Len() > maxEntries || m.bytes > maxMemory {
		m.drop(m.order.Back())
	}
}

// drop forgets one; m.mu is held.
func (m *memory) drop(at *list.Element) {
	e := m.order.Remove(at).(*entry)
	delete(m.entries, memoryKey{e.Way, e.Prefix})
	m.bytes -= e.size()
}

// notes keeps entries in a Cache. Those of one neighbourhood share a note, and
// neighbourhoods share it by chance, so that there is one note to read for an address and the Cache can neither grow
// nor need a sweep.
type notes struct {
	cache Cache // may be nil
	log   *slog.Logger
	mu    sync.Mutex // held while a note is read and written back
}

// noteKey names the note in which the entries about an address are.
func noteKey(addr netip.Addr) string {
	h := fnv.New32a()
	h.Write(scopeOf(RDAP, addr).Addr().AsSlice())
	return fmt.Sprintf("answers-%03x", h.Sum32()%maxNotes)
}

// read is what a note holds that has not expired, the newest first.
func (n *notes) read(ctx context.Context, key string, now time.Time) []entry {
	if n.cache == nil {
		return nil
	}
	value, _, err := n.cache.Note(ctx, key)
	if err != nil {
		n.log.Warn("Known networks cannot be read", "key", key, "err", err)
		return nil
	}
	var entries []entry
	if len(value) == 0 {
		return nil
	}
	if err := json.Unmarshal(value, &entries); err != nil {
		n.log.Warn("Known networks cannot be read", "key", key, "err", err)
		return nil
	}
	// A clock that was wrong when they were written must not make them hold for ever.
	return slices.DeleteFunc(entries, func(e entry) bool {
		return !now.Before(e.Until) || e.Until.Sub(now) > keepAnswer || !e.Prefix.IsValid()
	})
}

// add writes an entry to its note and forgets what there is no place for.
func (n *notes) add(ctx context.Context, key string, e entry, now time.Time) {
	if n.cache == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	entries := slices.DeleteFunc(n.read(ctx, key, now), func(old entry) bool {
		return old.Way == e.Way && old.Prefix == e.Prefix
	})
	entries = slices.Insert(entries, 0, e)
	for len(entries) > 0 {
		value, err := json.Marshal(entries)
		if err == nil && len(value) > maxNote {
			entries = entries[:len(entries)-1]
			continue
		}
		if err == nil {
			err = n.cache.SetNote(ctx, key, value)
		}
		if err != nil {
			n.log.Warn("What is known of a network cannot be kept", "prefix", e.Prefix, "err", err)
		}
		return
	}
}

// recall is what is known about an address, in memory or in the Cache.
func (c *Client) recall(ctx context.Context, way string, addr netip.Addr) (*entry, bool) {
	now := time.Now()
	if e, ok := c.memory.get(way, addr, now); ok {
		return e, true
	}
	for _, e := range slices.Backward(c.notes.read(ctx, noteKey(addr), now)) {
		c.memory.put(&e)
	}
	return c.memory.get(way, addr, now)
}

// remember keeps an entry. Trouble is forgotten at a restart, which may have been made to end it.
func (c *Client) remember(ctx context.Context, e entry) {
	c.memory.put(&e)
	if e.Err == "" || e.Unknown {
		c.notes.add(ctx, noteKey(e.Prefix.Addr()), e, time.Now())
	}
}
