package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Counters says what each jail has dropped since its counter was made. Before the
// first Sync, jails of odd names appear under the names of their objects.
func (n *NFTables) Counters() (map[string]Counter, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return nil, errClosed
	}
	jails := make(map[string]string, len(n.jails))
	for jail := range n.jails {
		jails[jailPrefix+objectName(jail)] = jail
	}
	var counters map[string]Counter
	err := n.repeat(func() error {
		counters = make(map[string]Counter, len(jails))
		return n.sock.dump(unix.NFT_MSG_GETOBJ, func(attrs []byte) error {
			o := parseObject(attrs)
			object, ours := strings.CutPrefix(o.name, jailPrefix)
			if ours && o.table == n.table && o.kind == unix.NFT_OBJECT_COUNTER {
				counters[cmp.Or(jails[o.name], object)] = o.counter
			}
			return nil
		}, n.inTable(unix.NFTA_OBJ_TABLE))
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("read the counters of table %s: %w", n.table, explain(err))
	}
	return counters, nil
}

// Elements reads back what the kernel holds for a jail, in no order; nothing if
// there is no such jail. An end is right to the millisecond or two. It needs no Sync
// before. It is for tests and for diagnosis: the kernel takes time that grows with
// the square of the number, about half a second for 100,000.
func (n *NFTables) Elements(jail string) ([]Element, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return nil, errClosed
	}
	have, err := n.read()
	if err != nil {
		return nil, fmt.Errorf("list the sets of table %s: %w", n.table, explain(err))
	}
	var all []Element
	for name := range have.sets {
		k, ok := parseSetName(name, map[string]string{objectName(jail): jail})
		if !ok || k.jail != jail {
			continue
		}
		found, err := n.members(context.Background(), k)
		if err != nil {
			return nil, fmt.Errorf("list set %s: %w", name, explain(err))
		}
		now := time.Now()
		for a, end := range found {
			if e := (Element{Jail: jail, Prefix: k.prefix(a), End: end}); !e.ended(now) {
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// members reads a set with the ends of its elements, zero for ever.
func (n *NFTables) members(ctx context.Context, k setKey) (map[netip.Addr]time.Time, error) {
	return n.sock.members(ctx, n.table, k.name())
}

// members reads a hash set with the ends of its elements, zero for ever.
//
// While the kernel's hash table grows, in the background after many additions, a
// walk through it passes elements by, one in ten, and does not say so; and any
// change of a ruleset while a list is read may have the same effect. So it is
// read until it shows nothing new any more. A set that somebody keeps adding to
// always shows something new: what many readings found together is then the
// answer, which lacks none that stood when the first began.
func (s *socket) members(ctx context.Context, table, set string) (map[netip.Addr]time.Time, error) {
	found := make(map[netip.Addr]time.Time)
	for attempt := range dumpAttempts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before, now := len(found), time.Now()
		err := s.dump(unix.NFT_MSG_GETSETELEM, func(attrs []byte) error {
			return parseElements(attrs, func(a netip.Addr, left time.Duration) {
				var end time.Time
				if left > 0 {
					end = now.Add(left).Round(0)
				}
				found[a] = end
			})
		}, func(b *batch) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, set)
		})
		if err != nil && !errors.Is(err, errInterrupted) {
			return nil, err
		}
		if attempt > 0 && len(found) == before {
			break
		}
	}
	return found, nil
}

// inTable narrows a dump to our table.
func (n *NFTables) inTable(typ uint16) func(*batch) {
	return func(b *batch) { b.str(typ, n.table) }
}

// repeat calls a function that dumps until nobody interfered.
func (n *NFTables) repeat(dump func() error) error { return repeat(dump) }

func repeat(dump func() error) error {
	var err error
	for range dumpAttempts {
		if err = dump(); !errors.Is(err, errInterrupted) {
			break
		}
	}
	return err
}
