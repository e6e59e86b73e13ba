package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"bantam/internal/outbox"
)

// An ntfy publishes to a topic of ntfy.sh or a server of one's own, as JSON (docs.ntfy.sh/publish). The
// letter's key becomes the sequence_id, so that from ntfy 2.16 on a repeat of a message that had
// arrived replaces it; before that it arrives again.
type ntfy struct {
	*poster
	topic string
}

// ntfyTopic is what the server takes for a topic.
var ntfyTopic = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

// ntfyMarkup is plain text. More than 4,096 bytes would become an attachment.
var ntfyMarkup = markup{limit: 4096, quote: "> ", bare: true}

// ntfyLetter is the body of a letter, and with a topic the request. A topic is as good as a
// password, which is why it is not in the body.
type ntfyLetter struct {
	Topic    string   `json:"topic,omitempty"`
	Title    string   `json:"title"`
	Message  string   `json:"message"`
	Tags     []string `json:"tags"`
	Priority int      `json:"priority"`
	Sequence string   `json:"sequence_id,omitempty"`
}

// ntfy's priorities.
const (
	ntfyLow     = 2 // without a sound
	ntfyDefault = 3
)

func newNtfy(c *Config) (channel, error) {
	switch {
	case c.Topic == "":
		return nil, errors.New("topic: is missing: choose a name that nobody guesses and subscribe to it in the ntfy app")
	case !ntfyTopic.MatchString(c.Topic):
		return nil, errors.New("topic: may have letters, digits, - and _, 64 at most; a server goes into url")
	}
	u, err := chatURL(cmp.Or(c.URL.Reveal(), "https://ntfy.sh"))
	if err != nil {
		return nil, err
	}
	n := &ntfy{newPoster(c, u, c.Topic, c.Token.Reveal()), c.Topic}
	if token := c.Token.Reveal(); token != "" {
		switch {
		case !headerText(token):
			return nil, errors.New("token: has characters that no token has")
		case !private(u):
			return nil, errors.New("url: the token would travel in clear text: use https://")
		}
		n.header.Set("Authorization", "Bearer "+token)
	}
	n.explain = explainNtfy
	return n, nil
}

func (n *ntfy) compose(e *Edition) ([]byte, error) {
	title, message := ntfyMarkup.compose(e, n.lines)
	l := ntfyLetter{Title: title, Message: message, Priority: ntfyDefault, Tags: []string{"no_entry"}}
	switch {
	case e.Test:
		l.Tags = []string{"wave"}
	case quiet(e):
		l.Tags, l.Priority = []string{"information_source"}, ntfyLow
	}
	return chatJSON(l)
}

func (n *ntfy) Send(ctx context.Context, l outbox.Letter) error {
	var req ntfyLetter
	if err := readLetter(l.Key, l.Body, &req); err != nil {
		return err
	}
	req.Topic = n.topic
	// A sequence_id is spelled as a topic is, which keys need not be.
	sum := sha256.Sum256([]byte(l.Key))
	req.Sequence = hex.EncodeToString(sum[:16])
	body, err := chatJSON(req)
	if err != nil {
		return err
	}
	answer, err := n.post(ctx, body)
	if err != nil {
		return err
	}
	return n.numbered(answer)
}

// explainNtfy reads a refusal.
func explainNtfy(status int, answer []byte) remark {
	var a struct {
		Code  int    `json:"code"`
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return remark{text: string(answer)}
	}
	said := remark{text: a.Error}
	if a.Code != 0 {
		said.text = fmt.Sprintf("%d %s", a.Code, a.Error)
	}
	switch status {
	case http.StatusUnauthorized:
		said.hint = "the token is wrong or has expired"
	case http.StatusForbidden:
		said.hint = "the topic is reserved or protected: give a token that may write to it"
	case http.StatusNotFound:
		said.hint = "url must be the server alone, without the topic"
	}
	return said
}
