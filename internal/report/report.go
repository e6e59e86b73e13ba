// Package report tells the world: the abuse desk of the network that an attack came from, and public
// lists of attackers.
//
// A desk hears of an address at most once in an interval, of all its addresses in one mail an hour, and only what the
// bans themselves kept: the address's own log lines, without the names of this machine and its users. However many attackers there
// are, and whoever they pretend to be, no more than twenty mails leave in an hour and two hundred in a day: nobody can use us to
// flood a third party. What a crash interrupts is neither lost nor told twice.
//
// Nothing here delays a ban: news are read from the store after the fact, and reports wait in the outbox. Who answers for an
// address is whois' business, how a mail travels smtp's, when a letter is tried again the outbox's.
package report

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/secret"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

// Kinds of reports, named as the actions.
const (
	Abuse     = "abuse"            // a mail to the network's abuse desk
	AbuseIPDB = "abuseipdb-report" // AbuseIPDB's API
	Blocklist = "blocklist-report" // blocklist.de's API
)

// A Config is one way to report.
type Config struct {
	// Channel is its name, for the operator.
	Channel string
	Kind    string
	// Jails are those whose bans are reported.
	Jails []string

	// Via is how Abuse's mails travel, From whom they are from. If To is not empty, they go there and
	// not to the desks: a trial.
	Via         smtp.Config
	From        string
	To, Cc, Bcc []string
	// Interval is how long no second report goes out about an address.
	Interval time.Duration
	// XARF adds the machine-readable part.
	XARF bool
	// Contact are the ways to find the desk, in their order: "dns", "rdap", "whois".
	Contact []string
	// Redact takes this machine's names and its users out of the lines.
	Redact bool
	// Spoofable reports bans of jails whose attackers may have written a false address, too.
	Spoofable bool

	// Key is AbuseIPDB's and Blocklist's; Category theirs: for AbuseIPDB numbers with commas between
	// them, for Blocklist the name of a service.
	Key      secret.Value
	Category string
	// URL is the API, "" for the usual one.
	URL string
}

// Defaults are the values of a kind's parameters that nobody has set.
func Defaults(kind string) Config {
	c := Config{Kind: kind, Redact: true}
	switch kind {
	case Abuse:
		c.Via.Kind = smtp.MTA
		c.Interval = 72 * time.Hour
		c.XARF = true
		c.Contact = []string{"dns", "rdap", "whois"}
	case AbuseIPDB:
		// AbuseIPDB refuses a second report of an address by the same reporter within 15 minutes.
		c.Interval = 15 * time.Minute
	case Blocklist:
		c.Interval = time.Hour
	}
	return c
}

// Validate says what is wrong with the first parameter that is, and what to write instead.
func (c *Config) Validate() error {
	if c.Channel == "" {
		return errors.New("a report needs the name of its channel")
	}
	if c.Interval < 0 {
		return fmt.Errorf("interval: %v is negative", c.Interval)
	}
	switch c.Kind {
	case Abuse:
		return c.validateAbuse()
	case AbuseIPDB, Blocklist:
		return c.validateList()
	}
	return fmt.Errorf("%q is no kind of report: use %s, %s or %s", c.Kind, Abuse, AbuseIPDB, Blocklist)
}

func (c *Config) validateAbuse() error {
	if c.From == "" {
		return errors.New("from: say who answers the desks' questions, as in from=abuse@example.org")
	}
	for _, list := range []struct {
		key       string
		addresses []string
	}{{"from", []string{c.From}}, {"to", c.To}, {"cc", c.Cc}, {"bcc", c.Bcc}} {
		for _, a := range list.addresses {
			if _, err := bareAddress(a); err != nil {
				return fmt.Errorf("%s: %w", list.key, err)
			}
		}
	}
	if err := c.Via.Validate(); err != nil {
		return fmt.Errorf("via: %w", err)
	}
	if len(c.Contact) == 0 && len(c.To) == 0 {
		return errors.New("contact: name at least one of dns, rdap, whois")
	}
	for i, way := range c.Contact {
		if !slices.Contains([]string{"dns", "rdap", "whois"}, way) {
			return fmt.Errorf("contact: %q is no way to find a desk: use dns, rdap, whois", way)
		}
		if slices.Contains(c.Contact[:i], way) {
			return fmt.Errorf("contact: %q stands there twice", way)
		}
	}
	return nil
}

func (c *Config) validateList() error {
	if c.Key.Reveal() == "" {
		return errors.New("key: the list wants the key of your account, as in key=file:/etc/bantam/report.key")
	}
	if !headerValue(c.Key.Reveal()) {
		return errors.New("key: it holds a character that no key has; is the file the right one?")
	}
	if u, err := url.Parse(c.URL); err != nil || c.URL != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("url: %q is no http(s) address", c.URL)
	}
	if c.Kind == Blocklist {
		if _, err := bareAddress(c.From); err != nil {
			return fmt.Errorf("from: blocklist.de knows a server by the mail address of its profile: %w", err)
		}
		if c.Category != "" && !serviceName.MatchString(c.Category) {
			return fmt.Errorf("category: %q is no service's name, as in ssh", c.Category)
		}
		return nil
	}
	for number := range strings.SplitSeq(c.Category, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(number)); c.Category != "" && (err != nil || n < 1 || n > lastCategory) {
			return fmt.Errorf("category: %q is no number from 1 to %d, as in 18,22", number, lastCategory)
		}
	}
	return nil
}

// serviceName is how blocklist.de's names look.
var serviceName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// headerValue reports whether a text may stand in a header as it is: visible ASCII.
func headerValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// bareAddress is the address in "Name <user@example.org>", in lower case, if it is one that a mail can travel to. It is
// narrower than RFC 5322 on purpose: what nobody has registered as a contact is a liar's text.
func bareAddress(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf("%q is no mail address", cut(clean(s), 100))
	}
	local, domain, _ := strings.Cut(a.Address, "@")
	if !localPart.MatchString(local) || !domainPart.MatchString(domain) || len(a.Address) > 254 {
		return "", fmt.Errorf("%q is no mail address", cut(clean(s), 100))
	}
	return strings.ToLower(a.Address), nil
}

var (
	localPart  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+=&'-]{0,63}$`)
	domainPart = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]$`)
)

// A World is what reports are made of beyond what a decision says. All functions are safe for concurrent
// use; they may be nil.
type World struct {
	// Host is the machine's full name.
	Host string
	// Whois asks who holds the network of an address, Contacts who takes complaints about it,
	// by the first of the ways that answers.
	Whois    func(ctx context.Context, addr netip.Addr) (whois.Answer, error)
	Contacts func(ctx context.Context, addr netip.Addr, ways []string) (contacts []string, err error)
	// Values knows the tags of a decision.
	Values func(ctx context.Context, d *bantam.Decision) func(tag string) (value string, ok bool)
	// Bans are what the store remembers of an ID, the newest first; Preview and Send need it.
	Bans func(ctx context.Context, id bantam.ID) ([]bantam.Ban, error)
	// Zone is the one that the logs are written in; nil for the machine's.
	Zone *time.Location
	// Transport opens the way that mails travel by; nil for smtp's own.
	Transport func(smtp.Config) (smtp.Transport, error)
	// Client sends to the lists' APIs; nil for one that gives up after half a minute.
	Client *http.Client
	// Spoofable reports whether attackers of a jail may have written a false address: it counts what
	// comes by UDP alone.
	Spoofable func(jail string) bool
}
