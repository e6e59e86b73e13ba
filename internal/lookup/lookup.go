// Package lookup adds to a failure what needs the world: the addresses of a name, the country,
// and whether its offender is somebody who is never banned.
//
// Failures of ignored addresses lose their ID here, so that they only tell the jail
// how far its log has been read. A failure that bears a host name becomes one for each
// of its addresses. What has to be waited for holds back only the failures it
// concerns, in their order; most pass straight on. The rules are plain data, replaced
// as a whole; a failure is judged by the rules of the moment it is let through.
//
// The last rule may be a command of the administrator's, which is run by what the caller of
// UseCommands hands in and asked about each failure that no other rule exempts.
package lookup

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/gaissmai/bart"

	"bantam"
)

// Sources of an exemption, as Fail2Ban's log names them in "Ignore … by …".
const (
	BySelf  = "ignoreself rule" // one of this machine's own addresses
	ByIP    = "ip"              // an address or prefix of ignoreip
	ByDNS   = "dns"             // an address of a name of ignoreip
	ByFile  = "file:"           // in a list of ignoreip; its path follows
	ByAllow = "allow"           // on the operator's allow list

	ByCountry = "country"         // of ignorecountry, or not of bancountry
	ByASN     = "asn"             // the same of ignoreasn and banasn
	ByUnknown = "country.unknown" // nobody knows where it is

	ByCommand = "command" // ignorecommand says so
)

// A Config is one jail's ignore rules.
type Config struct {
	Jail string
	// IgnoreIP are the words of ignoreip: addresses, prefixes, host names,
	// "file:PATH".
	IgnoreIP []string
	// IgnoreSelf ignores this machine's own addresses.
	IgnoreSelf bool
	// Where are the rules by country and network.
	Where Where
	// IgnoreCommand is a shell command that decides about failures, or empty. Its tags are
	// replaced each time it runs.
	IgnoreCommand string
	// IgnoreCache keeps the command's answers.
	IgnoreCache Cache
}

// Rules are the checked ignore rules of one jail.
type Rules struct {
	jail     string
	prefixes bart.Lite
	names    []string
	lists    []*list
	self     bool
	where    where
	command  askerConfig // no command if that is empty
}

// Compile checks a jail's ignore rules. What it cannot obey it refuses: an address
// that should never be banned is worse to get wrong than a jail that is not there.
func Compile(c Config) (*Rules, error) {
	r := &Rules{jail: c.Jail, self: c.IgnoreSelf}
	for _, word := range c.IgnoreIP {
		if path, ok := strings.CutPrefix(word, "file:"); ok {
			if path = filepath.Clean("/" + path); !strings.HasPrefix(word, "file:/") {
				return nil, fmt.Errorf("%q: the path of a list begins with /", word)
			}
			r.lists = append(r.lists, &list{path: path})
			continue
		}
		switch id, err := bantam.ParsePrefix(word); {
		case err == nil:
			p, _ := id.Prefix()
			r.prefixes.Insert(p)
		case isName(word) && strings.ContainsFunc(word, unicode.IsLetter):
			r.names = append(r.names, word)
		default:
			return nil, err
		}
	}
	var err error
	if r.where, err = c.Where.compile(); err != nil {
		return nil, err
	}
	if strings.TrimSpace(c.IgnoreCommand) != "" {
		if err := c.IgnoreCache.Validate(); err != nil {
			return nil, fmt.Errorf("ignorecache: %w", err)
		}
		r.command = askerConfig{c.IgnoreCommand, c.IgnoreCache}
	}
	return r, nil
}

// Lookup holds the rules of all jails. Its methods are safe for concurrent use, but
// for Run, which is called once.
type Lookup struct {
	log      *slog.Logger
	names    *names
	commands Commands // nil if none can be run
	// whenIgnored may be nil.
	whenIgnored func(*bantam.Failure)
	places      Places // nil if nothing is known of any
	rules       atomic.Pointer[ruleSet]
	allow       atomic.Pointer[bart.Lite]
	self        ownAddresses

	asking tasks // questions under way, and those who wait for them
	ctx    context.Context
	cancel context.CancelFunc
}

// New makes a Lookup without rules: nothing is ignored. Names are asked of resolver.
func New(log *slog.Logger, resolver Resolver) *Lookup {
	l := &Lookup{log: log, names: newNames(resolver)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.Configure()
	l.SetAllow(nil)
	return l
}

// A ruleSet is the rules of all jails, and who asks their commands.
type ruleSet struct {
	rules  map[string]*Rules
	askers map[string]*asker
}

// UseCommands hands in what runs commands. It is called before all other methods; without
// it no command is run, and what only a command would exempt counts.
func (l *Lookup) UseCommands(c Commands) { l.commands = c }

// UsePlaces hands in what knows where addresses are. It is called before all other methods; without it
// all are unknown.
func (l *Lookup) UsePlaces(p Places) { l.places = p }

// WhenIgnored has f called with each failure that does not count, before Run lets go of its ID. f does not
// keep it and must not block. It is called before Run.
func (l *Lookup) WhenIgnored(f func(*bantam.Failure)) { l.whenIgnored = f }

// Configure replaces the rules of all jails. What a command has answered is kept where the
// command and its cache stay the same. It is called by one at a time.
func (l *Lookup) Configure(rules ...*Rules) {
	now := &ruleSet{rules: make(map[string]*Rules, len(rules)), askers: map[string]*asker{}}
	old := l.rules.Load()
	for _, r := range rules {
		now.rules[r.jail] = r
		switch {
		case r.command.command == "" || l.commands == nil:
		case old != nil && old.askers[r.jail] != nil && old.askers[r.jail].config == r.command:
			now.askers[r.jail] = old.askers[r.jail]
		default:
			now.askers[r.jail] = newAsker(r.command, l.commands)
		}
	}
	l.rules.Store(now)
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
// says so. A prefix is ignored if all of it is, texts never are. It waits for names
// that were never asked for, until ctx ends. No command is asked: those decide about failures.
func (l *Lookup) Ignored(ctx context.Context, jail string, id bantam.ID) (by string, ignored bool) {
	for {
		by, wait := l.judge(jail, id)
		if wait == nil {
			return by, by != ""
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return "", false
		}
	}
}

// IgnoredFailure is Ignored for a failure, about which the jail's command is asked, too.
func (l *Lookup) IgnoredFailure(ctx context.Context, f *bantam.Failure) (by string, ignored bool) {
	if by, ignored = l.Ignored(ctx, f.Jail, f.ID); ignored {
		return by, true
	}
	a := l.rules.Load().askers[f.Jail]
	if a == nil {
		return "", false
	}
	q := &question{done: make(chan struct{})}
	a.ask(ctx, f, q, l.commandFailed(f))
	if !q.ignored {
		return "", false
	}
	return ByCommand, true
}

// commandFailed tells of a command that gave no answer.
func (l *Lookup) commandFailed(f *bantam.Failure) func(error) {
	jail, id := f.Jail, f.ID
	return func(err error) {
		l.log.Error("ignorecommand gave no answer; the failure counts", "jail", jail, "addr", id, "err", err)
	}
}

// judge is which rule exempts an ID, if any does. It cannot say before wait, if that
// is not nil, is closed.
func (l *Lookup) judge(jail string, id bantam.ID) (by string, wait <-chan struct{}) {
	p, ok := id.Prefix()
	if !ok {
		return "", nil
	}
	if l.allow.Load().LookupPrefix(p) {
		return ByAllow, nil
	}
	r := l.rules.Load().rules[jail]
	switch {
	case r == nil:
		return "", nil
	case r.self && p.IsSingleIP() && l.self.have(p.Addr()):
		return BySelf, nil
	case r.prefixes.LookupPrefix(p):
		return ByIP, nil
	}
	wait = l.named(r.names, p, &by, ByDNS)
	for _, list := range r.lists {
		prefixes, names, err := list.read()
		if err != nil {
			l.log.Warn("a list of whom to ignore is empty", "jail", jail, "err", err)
		}
		if prefixes.LookupPrefix(p) {
			return ByFile + list.path, nil
		}
		if w := l.named(names, p, &by, ByFile+list.path); w != nil {
			wait = w
		}
	}
	if by == "" && r.where.any {
		by = r.where.judge(l.place(p))
	}
	if by != "" {
		return by, nil
	}
	return "", wait
}

// named sets by if one of the names has the address p.
func (l *Lookup) named(hosts []string, p netip.Prefix, by *string, source string) (wait <-chan struct{}) {
	for _, host := range hosts {
		addrs, w := l.names.get(l.ctx, &l.asking, host)
		if w != nil {
			wait = w
		}
		if p.IsSingleIP() && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap().WithZone("") == p.Addr() }) {
			*by = source
		}
	}
	return wait
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
