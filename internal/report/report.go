// Package report tells the world: the abuse desk of the network that an attack came from, and public
// lists of attackers.
//
// A desk hears of an address at most once in an interval, of all its addresses in one mail, and only what the
// bans themselves kept: the address's own log lines, without the names of this machine and its users. Nothing here
// delays a ban: news are read from the store after the fact, and reports wait in the outbox.
package report

import (
	"context"
	"net/netip"
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
	// Spoofable reports whether attackers of a jail may have written a false address: it counts what
	// comes by UDP alone.
	Spoofable func(jail string) bool
}
