package jail

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"bantam"
)

// A Login is that somebody has logged in to administrate this machine. Only who has proved who he is may become one:
// who is in Logins is not banned for his failures.
type Login struct {
	Addr netip.Addr `json:"addr"`
	User string     `json:"user"` // it may be anything
	At   time.Time  `json:"at"`
	Live bool       `json:"live,omitempty"` // his session lasts
	// Guest is true for who may not administrate the machine: he counts while his session lasts, and no longer.
	Guest bool `json:"guest,omitempty"`
}

// maxLogins bounds how many addresses are remembered; the oldest are forgotten first.
const maxLogins = 1 << 14

// Logins are who administrates this machine, and from where: the latest login from each address. Safe for
// concurrent use; its zero value knows nobody.
type Logins struct {
	mu   sync.Mutex
	live map[netip.Addr]Login // whose sessions last
	told map[netip.Addr]Login // that logs told of, over or not
}

// Add notes a login that a log tells of, at its event time. One of a guest is nothing to note.
func (l *Logins) Add(n Login) {
	if n.Guest {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.told[n.Addr]; ok && old.At.After(n.At) {
		return
	}
	if l.told == nil {
		l.told = map[netip.Addr]Login{}
	}
	if len(l.told) >= maxLogins {
		all := slices.SortedFunc(maps.Values(l.told), func(a, b Login) int { return a.At.Compare(b.At) })
		for _, old := range all[:len(all)/8] {
			delete(l.told, old.Addr)
		}
	}
	n.Live = false
	l.told[n.Addr] = n
}

// Last says which sessions last now: those of before that are not among them do so no more, and count by the time of
// their login.
func (l *Logins) Last(live []Login) {
	now := make(map[netip.Addr]Login, len(live))
	for _, n := range live[:min(len(live), maxLogins)] {
		if old, ok := now[n.Addr]; !ok || old.Guest && !n.Guest || old.Guest == n.Guest && n.At.After(old.At) {
			n.Live = true
			now[n.Addr] = n
		}
	}
	l.mu.Lock()
	over := l.live
	l.live = now
	l.mu.Unlock()
	for addr, n := range over {
		if _, still := now[addr]; !still {
			l.Add(n)
		}
	}
}

// Within is a login from inside id whose session lasts, else the latest one that is not before since. ok is false if
// there is none.
func (l *Logins) Within(id bantam.ID, since time.Time) (found Login, ok bool) {
	p, is := id.Prefix()
	if !is {
		return found, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	look := func(n Login) {
		if p.Contains(n.Addr) && (n.Live || !n.At.Before(since)) && (!ok || later(n, found)) {
			found, ok = n, true
		}
	}
	for _, all := range []map[netip.Addr]Login{l.live, l.told} {
		if p.IsSingleIP() {
			if n, is := all[p.Addr()]; is {
				look(n)
			}
			continue
		}
		for _, n := range all {
			look(n)
		}
	}
	return found, ok
}

// later reports whether a is rather to be named than b: the order is the same every time.
func later(a, b Login) bool {
	if a.Live != b.Live {
		return a.Live
	}
	return cmp.Or(a.At.Compare(b.At), b.Addr.Compare(a.Addr), strings.Compare(b.User, a.User)) > 0
}

// maxUser is how much of a name is told, in bytes.
const maxUser = 64

// Why is why a ban of id would be held back: "an administrator's session: user root since 2026-03-01 12:04".
func (n Login) Why(id bantam.ID) string {
	who := "user " + strings.ToValidUTF8(n.User[:min(len(n.User), maxUser)], "\ufffd")
	if id != bantam.AddrID(n.Addr) {
		who += " from " + n.Addr.String()
	}
	at := n.At.Format("2006-01-02 15:04")
	switch {
	case n.Live && n.Guest:
		return "a session that lasts: " + who + " since " + at
	case n.Live:
		return "an administrator's session: " + who + " since " + at
	}
	return "an administrator's login: " + who + " at " + at
}
