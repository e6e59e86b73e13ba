package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"bantam/internal/outbox"
	"bantam/internal/smtp"
)

// A mailChannel tells by mail. The body of its letters is an smtp.Packet as JSON.
type mailChannel struct {
	config    Config
	transport smtp.Transport
}

func newMail(c *Config) (channel, error) {
	var errs []error
	if c.From == "" {
		errs = append(errs, errors.New("from: say whom the mails are from, as in bantam@example.org"))
	} else if _, err := smtp.Address(c.From); err != nil {
		errs = append(errs, fmt.Errorf("from: %w", err))
	}
	if len(c.To) == 0 {
		errs = append(errs, errors.New("to: say whom to tell, as in admin@example.org"))
	}
	for _, to := range c.To {
		if _, err := smtp.Address(to); err != nil {
			errs = append(errs, fmt.Errorf("to: %w", err))
		}
	}
	if err := errors.Join(append(errs, c.Mail.Validate())...); err != nil {
		return nil, err
	}
	transport, err := c.Mail.Open(c.logger())
	if err != nil {
		return nil, err
	}
	return &mailChannel{*c, transport}, nil
}

func (m *mailChannel) wants() wants { return wants{whois: m.config.Whois, host: true} }

// compose writes the mail. Its name is the letter's key, so that a repeat can be told by its Message-ID.
func (m *mailChannel) compose(e *Edition) ([]byte, error) {
	letter := m.letter(e)
	packet, err := letter.Packet()
	if err != nil {
		return nil, fmt.Errorf("write a mail to %v: %w", m.config.To, err)
	}
	return json.Marshal(packet)
}

// maxSubject is in characters.
const maxSubject = 180

// letter is the mail before it is written out.
func (m *mailChannel) letter(e *Edition) *smtp.Mail {
	p := describe(e, m.config.Lines, m.config.Whois)
	return &smtp.Mail{
		ID: e.Key, Date: e.At, From: m.config.From, To: m.config.To,
		Subject: plain("[bantam] "+plain(e.Host, maxName)+": "+p.subject, maxSubject),
		Text:    p.text(),
		HTML:    p.html(),
	}
}

// Send delivers a letter.
func (m *mailChannel) Send(ctx context.Context, l outbox.Letter) error {
	var p smtp.Packet
	if err := json.Unmarshal(l.Body, &p); err != nil {
		return fmt.Errorf("read letter %s: %w", l.Key, err)
	}
	return m.transport.Send(ctx, p)
}
