package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"bantam/internal/smtp"
)

// DefaultDigest is how long a channel gathers events if nothing else is said.
const DefaultDigest = 10 * time.Minute

// maxDigest bounds Config.Digest: who is told less often than once a month is not told.
const maxDigest = 31 * 24 * time.Hour

// maxChannel is how long a channel's name may be, in bytes.
const maxChannel = 200

// Defaults is a channel of a kind as it is if nothing else is said: bans, with their log lines,
// gathered for DefaultDigest. What only the operator can know is missing.
func Defaults(kind string) Config {
	c := Config{Kind: kind, Channel: kind, On: []string{OnBan}, Digest: DefaultDigest, Lines: true}
	if isMail(kind) {
		c.Mail.Kind = kind
	}
	return c
}

// Kinds are the kinds of channels there are, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// logger is where the channel writes what it does.
func (c *Config) logger() *slog.Logger {
	if c.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.log
}

func isMail(kind string) bool {
	switch kind {
	case smtp.Relay, smtp.Gmail, smtp.GmailAPI, smtp.MTA:
		return true
	}
	return false
}

// Validate reports what is wrong with a channel, in words for who wrote it, all at once. It asks nobody.
func (c *Config) Validate() error {
	make, known := kinds[c.Kind]
	if !known {
		return fmt.Errorf("unknown kind of channel %q: there are %s", plain(c.Kind, maxName), strings.Join(Kinds(), ", "))
	}
	var errs []error
	switch {
	case c.Channel == "":
		errs = append(errs, errors.New("the channel has no name"))
	case len(c.Channel) > maxChannel || plain(c.Channel, maxChannel) != c.Channel:
		errs = append(errs, fmt.Errorf("the channel's name %q is longer than %d bytes or not printable", plain(c.Channel, maxName), maxChannel))
	}
	for _, on := range c.On {
		switch on {
		case OnBan, OnUnban, OnStart, OnStop:
		default:
			errs = append(errs, fmt.Errorf("on: unknown event %q: there are ban, unban, start, stop", plain(on, maxName)))
		}
	}
	if len(c.On) == 0 {
		errs = append(errs, errors.New("on: nothing is to be told: name ban, unban, start or stop"))
	}
	switch {
	case c.Digest < 0:
		errs = append(errs, fmt.Errorf("digest: %s is negative: it is how long events are gathered, 0 for a message each", c.Digest))
	case c.Digest > maxDigest:
		errs = append(errs, fmt.Errorf("digest: %s is longer than a month", c.Digest))
	}
	if _, err := make(c); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
