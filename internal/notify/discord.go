package notify

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"bantam/internal/outbox"
)

// A discord sends messages by a webhook (discord.com/developers/docs/resources/webhook,
// Execute Webhook). Webhooks know no key of a request: a repeat of a message that had arrived
// arrives again.
type discord struct {
	*poster
}

// discordPath ends a webhook's URL: its number and its token.
var discordPath = regexp.MustCompile(`/webhooks/[0-9]{1,20}/([A-Za-z0-9_-]{1,200})$`)

// discordMarkup is Discord's Markdown. Nothing ends code but backticks.
var discordMarkup = markup{
	limit:  2000,
	strong: [2]string{"**", "**"},
	code:   [2]string{"`", "`"},
	block:  [2]string{"```\n", "\n```"},
	escape: func(r rune) string {
		if r == '`' {
			return "ˋ" // looks like one
		}
		return ""
	},
}

// Message flags.
const (
	discordNoEmbeds = 1 << 2  // SUPPRESS_EMBEDS: no preview of any link
	discordSilent   = 1 << 12 // SUPPRESS_NOTIFICATIONS
)

// discordLetter is the body of a letter and the request.
type discordLetter struct {
	Content string `json:"content"`
	Flags   int    `json:"flags"`
	// Mentions allows none: an empty list, not a missing one.
	Mentions struct {
		Parse []string `json:"parse"`
	} `json:"allowed_mentions"`
}

func newDiscord(c *Config) (channel, error) {
	if c.URL.Reveal() == "" {
		return nil, errors.New("url: is missing: in Discord, the channel's settings, Integrations, Webhooks, Copy Webhook URL")
	}
	u, err := chatURL(c.URL.Reveal())
	if err != nil {
		return nil, err
	}
	path := discordPath.FindStringSubmatch(u.Path)
	switch {
	case path == nil:
		return nil, errors.New("url: is no webhook of Discord's, which look like https://discord.com/api/webhooks/NUMBER/TOKEN")
	case !private(u):
		return nil, errors.New("url: it would travel in clear text: use https://")
	}
	// Without it Discord answers before it knows whether the message is kept.
	q := u.Query()
	q.Set("wait", "true")
	u.RawQuery = q.Encode()
	d := &discord{newPoster(c, u, path[1])}
	d.explain = explainDiscord
	return d, nil
}

func (d *discord) compose(e *Edition) ([]byte, error) {
	l := discordLetter{Content: discordMarkup.full(e, d.lines), Flags: discordNoEmbeds}
	l.Mentions.Parse = []string{}
	if quiet(e) {
		l.Flags |= discordSilent
	}
	return chatJSON(l)
}

func (d *discord) Send(ctx context.Context, l outbox.Letter) error {
	answer, err := d.post(ctx, l.Body)
	if err != nil {
		return err
	}
	return d.numbered(answer)
}

// explainDiscord reads a refusal; codes are those of discord.com/developers/docs/topics/opcodes-and-status-codes.
func explainDiscord(status int, answer []byte) remark {
	var a struct {
		Code       int     `json:"code"`
		Message    string  `json:"message"`
		RetryAfter float64 `json:"retry_after"` // seconds
	}
	if json.Unmarshal(answer, &a) != nil {
		return remark{text: string(answer)}
	}
	said := remark{text: a.Message, pause: chatSeconds(a.RetryAfter)}
	const unknownWebhook, invalidToken = 10015, 50027
	switch {
	case a.Code == unknownWebhook, a.Code == invalidToken, status == http.StatusUnauthorized, status == http.StatusNotFound:
		said.hint = "the webhook was deleted: make another one and put its url into the configuration"
	case status == http.StatusForbidden:
		said.hint = "the webhook may not write there: check the channel's permissions"
	case strings.Contains(string(answer), "thread_name"):
		said.hint = "the channel is a forum: add ?thread_id=NUMBER of a post to the url"
	}
	return said
}
