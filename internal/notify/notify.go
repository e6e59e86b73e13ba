// Package notify tells the operator: who was banned, why, and what to do about it, by mail
// and chat.
//
// A channel is one way to one receiver, however many jails use it. Its first event goes out at once;
// what follows within the digest's interval becomes one message that counts and lists it,
// so a storm of bans makes a handful of messages. Nothing here delays a ban: news are read from
// the store after the fact, and letters wait in the outbox.
package notify

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/outbox"
	"bantam/internal/secret"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

// Kinds of channels beside those of mail, which are named as smtp's transports.
const (
	Telegram = "telegram"
	Discord  = "discord"
	Slack    = "slack"
	Ntfy     = "ntfy"
	Webhook  = "webhook"
)

// Events that a channel may be told, for Config.On.
const (
	OnBan   = "ban"
	OnUnban = "unban"
	OnStart = "start" // a jail has started
	OnStop  = "stop"  // a jail has stopped
)

// A Config is one channel.
type Config struct {
	// Channel is its name, by which operators try it: that of the action, or JAIL/TITLE where
	// several differ.
	Channel string
	Kind    string
	// Jails are those that use it.
	Jails []string
	// On are the events that it is told.
	On []string
	// Digest is how long events are gathered after a message; 0 sends a message for each.
	Digest time.Duration
	// Lines has the matched log lines in the message, Whois what is known of the network.
	Lines, Whois bool

	// Mail is for the kinds of mail: how it travels, and from whom to whom.
	Mail smtp.Config
	From string
	To   []string

	// URL is the receiver of Discord, Slack and Webhook, and the server of Telegram and Ntfy if it is not
	// the usual one. Discord's and Slack's are secrets themselves.
	URL secret.Value
	// Token is Telegram's and Ntfy's; Chat is Telegram's, Topic Ntfy's.
	Token       secret.Value
	Chat, Topic string
	// Method, Headers and Template are Webhook's; tags in Template are put in as the Content-Type
	// needs it. Key signs the body.
	Method   string
	Headers  []secret.Value // "Name: value"
	Template string
	Key      secret.Value

	log *slog.Logger // nil but for channels of a Desk
}

// A World is what messages may say beyond what a decision does. All functions may be nil, and
// all are safe for concurrent use.
type World struct {
	// Host is the machine's full name.
	Host string
	// Values knows the tags of a decision, as action.World does; it may ask DNS and the
	// database.
	Values func(ctx context.Context, d *bantam.Decision) func(tag string) (value string, ok bool)
	Place  func(netip.Addr) geo.Place
	Whois  func(ctx context.Context, addr netip.Addr) (whois.Answer, error)
}

// An Event is one decision as a message tells it.
type Event struct {
	Decision bantam.Decision
	Place    geo.Place
	Host     string        // the address's own name, "" if it has none or was not asked for
	Whois    *whois.Answer // nil if it was not asked for or did not answer
	// Values are what tags stand for.
	Values func(tag string) (value string, ok bool)
}

// An Edition is what one message says.
type Edition struct {
	// Key is the letter's.
	Key string
	// Host is the machine that speaks.
	Host string
	At   time.Time // wall time
	// Events are those that are told one by one, oldest first; a single one is told in full.
	Events []Event
	// More is how many others are only counted.
	More int
	// Bans and Unbans are how many events there were of each kind in all, by jail.
	Bans, Unbans map[string]int
	// Observed are how many of Bans were only observed, not carried out.
	Observed map[string]int
	// Held are how many of Bans were held back, to spare an administrator.
	Held map[string]int
	// Since is when the digest began to gather; zero for a message about one event.
	Since time.Time
	// Started and Stopped are jails that did so.
	Started, Stopped []string
	// Test is true for a message by which an operator tries the channel.
	Test bool
}

// A channel is one kind of way to somebody, with its parameters.
type channel interface {
	outbox.Sender
	// compose makes the body of a letter out of an edition. It asks nobody.
	compose(e *Edition) (body []byte, err error)
	// wants are what the channel is told, beyond what all channels have in common.
	wants() wants
}

// wants are what a channel asks to have looked up for a single event.
type wants struct {
	whois, host bool
}
