// Package lookup adds to a failure what needs the world: whether its offender is
// somebody who is never banned.
//
// Failures of ignored addresses lose their ID here, so that they only tell the jail
// how far its log has been read. The rules are plain data, replaced as a whole; a
// failure is judged by the rules of the moment it arrives. Names of hosts are not resolved here yet: Configure refuses rules that
// would need it, and failures that bear only a name are dropped and told.
package lookup

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"bantam"
)

// Sources of an exemption, as Fail2Ban's log names them in "Ignore … by …".
const (
	BySelf  = "ignoreself rule" // one of this machine's own addresses
	ByIP    = "ip"              // an address or prefix of ignoreip
	ByAllow = "allow"           // on the operator's allow list
)

// A Config is one jail's ignore rules.
type Config struct {
	Jail string
	// IgnoreIP are the words of ignoreip: addresses, prefixes, host names,
	// "file:PATH".
	IgnoreIP []string
	// IgnoreSelf ignores this machine's own addresses.
	IgnoreSelf bool
	// IgnoreCommand is a shell command that decides, or empty.
	IgnoreCommand string
}

// Rules are the checked ignore rules of one jail.
type Rules struct {
	jail     string
	prefixes bart.Lite
	self     bool
}

// Compile checks a jail's ignore rules. What it cannot obey it refuses: an address
// that should never be banned is worse to get wrong than a jail that is not there.
func Compile(c Config) (*Rules, error) {
	r := &Rules{jail: c.Jail, self: c.IgnoreSelf}
	for _, word := range c.IgnoreIP {
		id, err := bantam.ParsePrefix(word)
		if err != nil {
			return nil, fmt.Errorf("%w: host names and files are not resolved yet", err)
		}
		p, _ := id.Prefix()
		r.prefixes.Insert(p)
	}
	if c.IgnoreCommand != "" {
		return nil, errors.New("a command that decides whom to ignore is not built yet")
	}
	return r, nil
}

// Lookup holds the rules of all jails. Its methods are safe for concurrent use.
type Lookup struct {
	log   *slog.Logger
	rules atomic.Pointer[map[string]*Rules]
	allow atomic.Pointer[bart.Lite]
	self  ownAddresses
}

// New makes a Lookup without rules: nothing is ignored.
func New(log *slog.Logger) *Lookup {
	l := &Lookup{log: log}
	l.Configure()
	l.SetAllow(nil)
	return l
}

// Configure replaces the rules of all jails.
func (l *Lookup) Configure(rules ...*Rules) {
	byJail := make(map[string]*Rules, len(rules))
	for _, r := range rules {
		byJail[r.jail] = r
	}
	l.rules.Store(&byJail)
}

// SetAllow replaces the operator's allow list, which holds for every jail.
func (l *Lookup) SetAllow(prefixes []netip.Prefix) {
	var t bart.Lite
	for _, p := range prefixes {
		t.Insert(p)
	}
	l.allow.Store(&t)
}

// Ignored reports whether an ID is never to be banned by a jail, and which rule
// says so. A prefix is ignored if all of it is, texts never are.
func (l *Lookup) Ignored(jail string, id bantam.ID) (by string, ignored bool) {
	p, ok := id.Prefix()
	if !ok {
		return "", false
	}
	if l.allow.Load().LookupPrefix(p) {
		return ByAllow, true
	}
	r := (*l.rules.Load())[jail]
	switch {
	case r == nil:
		return "", false
	case r.self && p.IsSingleIP() && l.self.have(p.Addr()):
		return BySelf, true
	case r.prefixes.LookupPrefix(p):
		return ByIP, true
	}
	return "", false
}

// Run passes on failures until in is closed, then closes out. Those that must not
// count pass without an ID.
func (l *Lookup) Run(in <-chan bantam.Failure, out chan<- bantam.Failure) {
	defer close(out)
	var told time.Time
	for f := range in {
		if f.ID.IsZero() && f.Host != "" {
			if f.Read.Sub(told) >= 24*time.Hour {
				told = f.Read
				l.log.Warn("host names are not resolved yet, so failures that bear one do not count",
					"jail", f.Jail, "host", f.Host)
			}
		} else if by, ignored := l.Ignored(f.Jail, f.ID); ignored {
			if !f.Known {
				l.log.Info("ignored", "jail", f.Jail, "addr", f.ID, "by", by)
			}
			f.ID = bantam.ID{}
		}
		out <- f
	}
}

// ownAddresses are the addresses of this machine's interfaces, asked for again
// when they are older than freshFor.
type ownAddresses struct {
	mu    sync.Mutex // guards the rest
	at    time.Time
	addrs map[netip.Addr]bool
}

const freshFor = time.Minute

func (o *ownAddresses) have(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.addrs == nil || time.Since(o.at) > freshFor {
		o.at, o.addrs = time.Now(), interfaceAddrs()
	}
	return o.addrs[a] || a.IsLoopback()
}

// interfaceAddrs is what the kernel says now; nothing where it does not say.
func interfaceAddrs() map[netip.Addr]bool {
	have := map[netip.Addr]bool{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return have
	}
	for _, a := range addrs {
		text, _, _ := strings.Cut(a.String(), "/")
		if addr, err := netip.ParseAddr(text); err == nil {
			have[addr.Unmap().WithZone("")] = true
		}
	}
	return have
}
