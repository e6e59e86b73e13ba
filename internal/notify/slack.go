package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"bantam/internal/outbox"
)

// A slack sends messages by an incoming webhook (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks),
// as Mattermost and others have it too. They know no key of a request: a repeat of a message that
// had arrived arrives again.
type slack struct {
	*poster
}

// slackMarkup is mrkdwn. The three signs with a meaning everywhere are written as Slack wants it, so that
// <!channel> is text; nothing else ends code but backticks. Slack cuts at 40,000
// characters and asks for no more than 4,000.
var slackMarkup = markup{
	limit:  4000,
	strong: [2]string{"*", "*"},
	code:   [2]string{"`", "`"},
	block:  [2]string{"```\n", "\n```"},
	escape: func(r rune) string {
		if r == '`' {
			return "ˋ" // looks like one
		}
		return angles(r)
	},
}

// slackLetter is the body of a letter and the request.
type slackLetter struct {
	Text        string `json:"text"`
	UnfurlLinks bool   `json:"unfurl_links"`
	UnfurlMedia bool   `json:"unfurl_media"`
}

func newSlack(c *Config) (channel, error) {
	if c.URL.Reveal() == "" {
		return nil, errors.New("url: is missing: at api.slack.com/apps, your app, Incoming Webhooks, Add New Webhook to Workspace")
	}
	u, err := chatURL(c.URL.Reveal())
	switch {
	case err != nil:
		return nil, err
	case len(u.Path) < 2:
		return nil, errors.New("url: is no incoming webhook, which look like https://hooks.slack.com/services/T…/B…/…")
	case !private(u):
		return nil, errors.New("url: it would travel in clear text: use https://")
	}
	s := &slack{newPoster(c, u)}
	s.explain = explainSlack
	return s, nil
}

func (s *slack) compose(e *Edition) ([]byte, error) {
	return chatJSON(slackLetter{Text: slackMarkup.full(e, s.lines)})
}

// Send takes "ok", Slack's answer, for success, and JSON, which others answer with.
func (s *slack) Send(ctx context.Context, l outbox.Letter) error {
	answer, err := s.post(ctx, l.Body)
	if err != nil {
		return err
	}
	if answer = bytes.TrimSpace(answer); string(answer) != "ok" && len(answer) > 0 && !json.Valid(answer) {
		return s.odd(answer)
	}
	return nil
}

// explainSlack reads a refusal, which is one word.
func explainSlack(status int, answer []byte) remark {
	said := remark{text: string(bytes.TrimSpace(answer))}
	switch said.text {
	case "no_service", "no_service_id", "no_active_hooks", "invalid_token", "no_team", "team_disabled", "user_not_found":
		said.hint = "the webhook was removed or switched off: make another one and put its url into the configuration"
	case "channel_not_found", "channel_is_archived":
		said.hint = "the webhook's channel is gone or archived: make a webhook for another one"
	case "action_prohibited", "posting_to_general_channel_denied":
		said.hint = "an administrator of the workspace does not allow it"
	default:
		if status == http.StatusNotFound || status == http.StatusForbidden || status == http.StatusGone {
			said.hint = "the url is no webhook, or no longer"
		}
	}
	return said
}
