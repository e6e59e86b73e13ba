package firewall

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"bantam"
)

// A Backend is a firewall that a Guard works with. NFTables and Recorder are
// backends; their methods say what each promise means.
type Backend interface {
	Sync(ctx context.Context, rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) error
	Apply(changes []Change) error
	SetAllow(allow []netip.Prefix) error
	// Stands reports whether there is anything of ours, and Remove takes that away.
	Stands() (bool, error)
	Remove() error
}

// A Guard knows what the kernel should hold and brings it there: as single
// changes while all goes well, as a whole at the start, after an error, and
// when somebody else has flushed it. It is an effect of package action and safe
// for concurrent use.
//
// It keeps its own list of what is banned because reading a set back from the
// kernel takes time that grows with the square of its size.
type Guard struct {
	log     *slog.Logger
	backend Backend

	mu    sync.Mutex // guards the rest, and the order of what is sent to backend
	rules map[string]Rule
	allow []netip.Prefix
	want  map[string]map[netip.Prefix]time.Time
	clean bool // the kernel is known to hold what it should
}

// NewGuard makes a Guard without rules; the kernel is not touched.
func NewGuard(log *slog.Logger, backend Backend) *Guard {
	return &Guard{log: log, backend: backend, want: map[string]map[netip.Prefix]time.Time{}}
}

// Configure sets the jails' rules, and what is never dropped, and makes the kernel
// equal to it; bans of jails that have no rule any more are taken out. bans are
// wanted from now on, in addition to those that are already.
func (g *Guard) Configure(ctx context.Context, rules []Rule, allow []netip.Prefix, bans []bantam.Decision) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = make(map[string]Rule, len(rules))
	for _, r := range rules {
		g.rules[r.Jail] = r
	}
	for jail := range g.want {
		if _, ok := g.rules[jail]; !ok {
			delete(g.want, jail)
		}
	}
	g.allow = allow
	g.note(bans)
	return g.sync(ctx)
}

// idle reports whether all rules wait for their first ban.
func (g *Guard) idle() bool {
	for _, r := range g.rules {
		if !r.OnDemand {
			return false
		}
	}
	for _, bans := range g.want {
		if len(bans) > 0 {
			return false
		}
	}
	return true
}

// SetAllow replaces what is never dropped.
func (g *Guard) SetAllow(ctx context.Context, allow []netip.Prefix) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allow = allow
	if !g.clean {
		return g.sync(ctx)
	}
	err := g.backend.SetAllow(allow)
	g.clean = err == nil
	return err
}

// Resync makes the kernel equal to what it should be.
func (g *Guard) Resync(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sync(ctx)
}

// Do carries decisions out. After an error the kernel's state is in doubt, so the
// next try makes it equal as a whole.
func (g *Guard) Do(ctx context.Context, decisions []bantam.Decision) (retry bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	changes := g.note(decisions)
	if !g.clean {
		err = g.sync(ctx)
	} else if err = g.backend.Apply(changes); err != nil {
		g.clean = false
	}
	return err != nil && !errors.Is(err, ErrPrivilege), err
}

// note records what decisions want and returns the changes that lead there.
func (g *Guard) note(decisions []bantam.Decision) []Change {
	changes := make([]Change, 0, len(decisions))
	for i := range decisions {
		b := &decisions[i].Ban
		p, ok := b.ID.Prefix()
		if _, known := g.rules[b.Jail]; !ok || !known || b.Observed {
			continue
		}
		c := Change{Element: Element{Jail: b.Jail, Prefix: p, End: b.End}}
		if c.Remove = decisions[i].Kind == bantam.End; c.Remove {
			delete(g.want[b.Jail], p)
		} else {
			if g.want[b.Jail] == nil {
				g.want[b.Jail] = map[netip.Prefix]time.Time{}
			}
			g.want[b.Jail][p] = b.End
		}
		changes = append(changes, c)
	}
	return changes
}

// sync makes the kernel equal to what it should be.
func (g *Guard) sync(ctx context.Context) error {
	if g.idle() {
		g.clean = false // what comes next makes it
		stands, err := g.backend.Stands()
		if err == nil && stands {
			err = g.backend.Remove()
		}
		return err
	}
	rules := make([]Rule, 0, len(g.rules))
	for _, r := range g.rules {
		rules = append(rules, r)
	}
	err := g.backend.Sync(ctx, rules, g.allow, func(yield func(Element) bool) {
		for jail, ends := range g.want {
			for p, end := range ends {
				if !yield(Element{Jail: jail, Prefix: p, End: end}) {
					return
				}
			}
		}
	})
	g.clean = err == nil
	return err
}
