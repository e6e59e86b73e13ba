// Package whois asks who answers for an address: by RDAP, by WHOIS where there is no RDAP,
// and by DNS for who takes complaints. What comes back is a stranger's text.
//
// It promises that nobody is asked about an address that is not public; that a question ends, whatever
// the servers do, and takes a bounded amount of memory; that no registry is asked more than once in a second, nor
// mostly twice in a day about one network; that a stranger's answer leads to no server inside this
// machine's own networks; and that all it hands out is cleaned and cut. It does not know what the answer is for: that
// a contact takes complaints is the holder's word alone, so caps on what is sent there are the business of
// whoever sends.
package whois

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Ways to find out who takes complaints, for Contacts.
const (
	DNS   = "dns"   // TXT records below Config.Zone
	RDAP  = "rdap"  // the registry, RFC 9082
	WHOIS = "whois" // the registry, RFC 3912
)

// CheckWays reports a way that there is none of.
func CheckWays(ways []string) error {
	for _, way := range ways {
		if way != DNS && way != RDAP && way != WHOIS {
			return fmt.Errorf("unknown way %q to find a contact: use %s, %s or %s", way, DNS, RDAP, WHOIS)
		}
	}
	return nil
}

var (
	// ErrNotPublic is wrapped by errors about addresses that nobody on the internet answers for: private ones,
	// those of documentation, multicast and the like.
	ErrNotPublic = errors.New("not a public address")
	// ErrUnknown is wrapped if all who were asked have said that they know nothing: asking again soon makes no
	// sense. Errors without it are trouble on the way and may pass.
	ErrUnknown = errors.New("nobody is known to answer for it")
)

// errBusy is wrapped if a server was not asked at all, for its own sake.
var errBusy = errors.New("not asked")

// An Answer is what is known of the network of an address. All texts are strangers': valid UTF-8
// without control characters but newline, and cut to length; no line begins with what a mail program
// could take for a command.
type Answer struct {
	Network netip.Prefix `json:"network,omitzero"` // the smallest that is registered
	Name    string       `json:"name,omitempty"`   // the network's, as EXAMPLE-NET
	Org     string       `json:"org,omitempty"`    // who holds it
	Country string       `json:"country,omitempty"`
	// Abuse are the mail addresses for complaints, checked to be some, their domains in lower case, sorted;
	// at most 5.
	Abuse []string `json:"abuse,omitempty"`
	// Text is the answer to show to people, at most 16 KiB.
	Text string `json:"text,omitempty"`
	// Source is who said so: "rdap", "whois".
	Source string    `json:"source,omitempty"`
	At     time.Time `json:"at"` // wall time
}

// DefaultZone is the zone of a public database of abuse contacts that its keeper fills from the registries.
const DefaultZone = "abuse-contacts.abusix.zone"

// A Resolver asks DNS. *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// A Cache keeps answers across restarts. It is safe for concurrent use. Its keys are short
// ASCII texts, a little over a thousand in all; a value has at most 256 KiB. Its errors are
// logged and do no harm.
type Cache interface {
	// Note is what was set last for key, and when, wall time; nil for nothing.
	Note(ctx context.Context, key string) ([]byte, time.Time, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

// A Config says whom to ask. The zero Config asks the real world and remembers until the end of the process.
type Config struct {
	// Zone is where contacts are looked up by DNS: a TXT record by the reversed address, as reverse DNS has
	// it. "" is DefaultZone.
	Zone string
	// Resolver is nil for the system's.
	Resolver Resolver
	// Transport carries RDAP; nil for one that verifies certificates, uses no proxy and connects to
	// public addresses only.
	Transport http.RoundTripper
	// Dial connects to WHOIS servers; nil for one that connects to public addresses only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Cache may be nil.
	Cache Cache
	// Log may be nil.
	Log *slog.Logger
}

// Validate reports what is wrong with a Config.
func (c *Config) Validate() error {
	if c.Zone != "" && !isDomain(strings.TrimSuffix(c.Zone, ".")) {
		return fmt.Errorf("zone %q is no domain name", c.Zone)
	}
	return nil
}

// A Client asks, and remembers the answers. It is safe for concurrent use and has no goroutine
// of its own.
type Client struct {
	zone      string // with the dot at its end, so that no search domain is tried
	resolver  Resolver
	transport http.RoundTripper
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	log       *slog.Logger

	memory   memory
	notes    notes
	turns    turns
	pace     pace
	services [2]services // of IPv4 and IPv6; whoever has the turn of that name owns it
}

// New makes a Client of a Config that is valid.
func New(c Config) *Client {
	w := &Client{
		zone: c.Zone, resolver: c.Resolver, transport: c.Transport, dial: c.Dial, log: c.Log,
	}
	if w.zone == "" {
		w.zone = DefaultZone
	}
	w.zone = strings.TrimSuffix(w.zone, ".") + "."
	if w.resolver == nil {
		w.resolver = net.DefaultResolver
	}
	if w.transport == nil {
		// A server is asked too seldom for a connection to be worth keeping.
		w.transport = &http.Transport{
			DialContext: dialPublic, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout: maxQuestion, ForceAttemptHTTP2: true,
		}
	}
	if w.dial == nil {
		w.dial = dialPublic
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.notes.cache, w.notes.log = c.Cache, w.log
	return w
}

// Lookup says what is known of the network of addr, by RDAP or else by WHOIS. It mostly takes less than a second, and
// never more than a few minutes. If ctx ends sooner than in some twenty seconds, a server that hangs is not found
// out and goes on costing that time.
func (c *Client) Lookup(ctx context.Context, addr netip.Addr) (Answer, error) {
	return c.first(ctx, addr, []string{RDAP, WHOIS}, func(Answer) bool { return true })
}

// Contacts are the mail addresses of who takes complaints about addr, by the first of the ways, in their order,
// that knows one: at most 5, sorted, as Answer.Abuse.
func (c *Client) Contacts(ctx context.Context, addr netip.Addr, ways []string) ([]string, error) {
	if err := CheckWays(ways); err != nil {
		return nil, err
	}
	answer, err := c.first(ctx, addr, ways, func(a Answer) bool { return len(a.Abuse) > 0 })
	return slices.Clone(answer.Abuse), err
}

// first is the first answer that is enough.
func (c *Client) first(ctx context.Context, addr netip.Addr, ways []string, enough func(Answer) bool) (Answer, error) {
	addr = addr.Unmap().WithZone("")
	if !isPublic(addr) {
		return Answer{}, fmt.Errorf("look up who answers for %s: %w", addr, ErrNotPublic)
	}
	var trouble []error
	for _, way := range ways {
		answer, err := c.ask(ctx, way, addr)
		switch {
		case ctx.Err() != nil:
			return Answer{}, fmt.Errorf("look up who answers for %s: %w", addr, ctx.Err())
		case err == nil && enough(answer):
			return answer, nil
		case err != nil && !errors.Is(err, ErrUnknown):
			trouble = append(trouble, fmt.Errorf("%s: %w", way, err))
		}
	}
	if len(trouble) == 0 {
		trouble = []error{ErrUnknown}
	}
	return Answer{}, fmt.Errorf("look up who answers for %s: %w", addr, errors.Join(trouble...))
}

// ask takes an answer from memory or asks for it. Who asks about a place of which somebody else is just asking
// waits for that answer, which mostly is about the same network.
func (c *Client) ask(ctx context.Context, way string, addr netip.Addr) (Answer, error) {
	if e, ok := c.memory.get(way, addr, time.Now()); ok {
		return e.result()
	}
	place := scopeOf(way, addr)
	done, err := c.turns.take(ctx, way+" "+place.String())
	if err != nil {
		return Answer{}, err
	}
	defer done()
	if e, ok := c.recall(ctx, way, addr); ok {
		return e.result()
	}
	var answer Answer
	switch way {
	case DNS:
		answer, err = c.askDNS(ctx, addr)
	case RDAP:
		answer, err = c.askRDAP(ctx, addr)
	default:
		answer, err = c.askWHOIS(ctx, addr)
	}
	// A question that was not asked, or not to its end, has no answer to remember.
	if ctx.Err() == nil && !errors.Is(err, errBusy) {
		c.remember(ctx, newEntry(way, addr, answer, err, time.Now()))
	}
	return answer, err
}

const (
	// maxQuestion is how long one question may take in all, without waiting for its turn at a server.
	maxQuestion = 10 * time.Second
	// maxContacts is how many contacts are taken from one answer.
	maxContacts = 5
)

// A budget is the time that a question has left.
type budget struct{ left time.Duration }

// visit does something with a server when its turn has come. A server with which it does not work
// is left alone for a while.
func (c *Client) visit(ctx context.Context, b *budget, host string, do func(ctx context.Context) error) error {
	if b.left <= 0 {
		return fmt.Errorf("ask %s: %w: the servers before it took all the time", cleanLine(host), errBusy)
	}
	if err := c.pace.wait(ctx, host); err != nil {
		return fmt.Errorf("ask %s: %w", cleanLine(host), err)
	}
	began := time.Now()
	inner, cancel := context.WithTimeout(ctx, b.left)
	defer cancel()
	err := do(inner)
	b.left -= time.Since(began)
	if err == nil {
		return nil
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		c.pace.hold(host, refused.pause)
	case ctx.Err() == nil && !errors.Is(err, ErrUnknown):
		c.pace.hold(host, afterTrouble)
	}
	return fmt.Errorf("ask %s: %w", cleanLine(host), err)
}
