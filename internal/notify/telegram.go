package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"bantam/internal/outbox"
)

// A telegram sends messages as a bot, by sendMessage of core.telegram.org/bots/api. Telegram knows no
// key of a request: a repeat of a message that had arrived arrives again.
type telegram struct {
	*poster
	chat string
}

// What BotFather gives out, and chat_id: a number, negative for groups, or a public name.
var (
	telegramToken = regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]{20,100}$`)
	telegramChat  = regexp.MustCompile(`^(-?[0-9]{1,19}|@[A-Za-z][A-Za-z0-9_]{3,63})$`)
)

// telegramMarkup is parse_mode HTML. In code and pre Telegram looks for no links, mentions or commands. The
// limit counts what is left when the markup is taken away.
var telegramMarkup = markup{
	limit:  4096,
	strong: [2]string{"<b>", "</b>"},
	code:   [2]string{"<code>", "</code>"},
	block:  [2]string{"<pre>", "</pre>"},
	escape: angles,
}

// angles are the three signs that Telegram and Slack want written otherwise.
func angles(r rune) string {
	switch r {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	}
	return ""
}

// telegramLetter is the body of a letter, and with a chat the request.
type telegramLetter struct {
	Chat   string `json:"chat_id,omitempty"`
	Text   string `json:"text"`
	Mode   string `json:"parse_mode"`
	Silent bool   `json:"disable_notification,omitempty"`
	// Previews are off although nothing is a link.
	Preview struct {
		Off bool `json:"is_disabled"`
	} `json:"link_preview_options"`
}

// telegramAnswer is what every method answers with.
type telegramAnswer struct {
	OK          bool   `json:"ok"`
	Description string `json:"description"`
	Parameters  struct {
		MigrateTo  int64   `json:"migrate_to_chat_id"`
		RetryAfter float64 `json:"retry_after"` // seconds
	} `json:"parameters"`
}

func newTelegram(c *Config) (channel, error) {
	token := c.Token.Reveal()
	switch {
	case token == "":
		return nil, errors.New("token: is missing: write to @BotFather in Telegram, who makes a bot and says its token")
	case !telegramToken.MatchString(token):
		return nil, errors.New("token: is none of Telegram's, which look like 123456789:AAF…")
	case c.Chat == "":
		return nil, errors.New("chat: is missing: send the bot a message and read the chat's id at https://api.telegram.org/botTOKEN/getUpdates")
	case !telegramChat.MatchString(c.Chat):
		return nil, fmt.Errorf("chat: %q is no chat: it is a number (negative for groups) or the @name of a public channel", c.Chat)
	}
	server, err := chatURL(cmp.Or(c.URL.Reveal(), "https://api.telegram.org"))
	if err != nil {
		return nil, err
	}
	if !private(server) {
		return nil, errors.New("url: the token would travel in clear text: use https://")
	}
	_, secret, _ := strings.Cut(token, ":")
	t := &telegram{newPoster(c, server.JoinPath("bot"+token, "sendMessage"), token, secret), c.Chat}
	t.explain = explainTelegram
	return t, nil
}

func (t *telegram) compose(e *Edition) ([]byte, error) {
	l := telegramLetter{Text: telegramMarkup.full(e, t.lines), Mode: "HTML", Silent: quiet(e)}
	l.Preview.Off = true
	return chatJSON(l)
}

func (t *telegram) Send(ctx context.Context, l outbox.Letter) error {
	var req telegramLetter
	if err := readLetter(l.Key, l.Body, &req); err != nil {
		return err
	}
	req.Chat = t.chat
	body, err := chatJSON(req)
	if err != nil {
		return err
	}
	answer, err := t.post(ctx, body)
	if err != nil {
		return err
	}
	var a telegramAnswer
	if len(answer) > 0 && (json.Unmarshal(answer, &a) != nil || !a.OK) {
		return t.odd(answer)
	}
	return nil
}

// explainTelegram reads a refusal. What the descriptions are is not documented; these have
// been the same for years.
func explainTelegram(status int, answer []byte) remark {
	var a telegramAnswer
	if json.Unmarshal(answer, &a) != nil {
		return remark{text: string(answer)}
	}
	said := remark{text: a.Description, pause: chatSeconds(a.Parameters.RetryAfter)}
	has := func(words string) bool { return strings.Contains(strings.ToLower(a.Description), words) }
	switch {
	case a.Parameters.MigrateTo != 0:
		said.hint = "the group has become another: set chat to " + strconv.FormatInt(a.Parameters.MigrateTo, 10)
	case status == http.StatusUnauthorized, status == http.StatusNotFound:
		said.hint = "the token is no bot's, or no longer: ask @BotFather for it"
	case has("chat not found"), has("initiate conversation"):
		said.hint = "send the bot a message first, or add it to the group, and check chat"
	case status == http.StatusForbidden:
		said.hint = "the bot was blocked or removed: unblock it, or add it to the chat again"
	}
	return said
}
