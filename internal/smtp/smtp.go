// Package smtp writes mails and sends them: by a relay, by the machine's own sendmail, or
// by Gmail's API. What a mail says is its caller's business.
package smtp

import (
	"context"
	"time"

	"bantam/internal/secret"
)

// Kinds of transports, named as the actions that use them.
const (
	Relay    = "smtp"      // a mail server that we speak SMTP with
	Gmail    = "gmail"     // Relay with Gmail's server
	GmailAPI = "gmail-api" // Gmail's REST call, with OAuth2
	MTA      = "mta"       // the machine's sendmail program
)

// A Config says how mails travel.
type Config struct {
	Kind string
	// Server is host:port of a relay; "" is smtp.gmail.com:587 for Gmail.
	Server string
	// TLS is "starttls", required, "tls" from the first byte, or "none".
	TLS string
	// User and Password log in; both empty for no login. Gmail's user is From's address.
	User     string
	Password secret.Value
	// Client is the file with the OAuth2 client that Google's console offers for download, Token
	// the file with the token that the login has obtained.
	Client, Token string
	// Program is sendmail's path; "" for /usr/sbin/sendmail.
	Program string
}

// A Mail is a message before it is written out.
type Mail struct {
	// ID is the left side of its Message-ID; the right side is the domain of From.
	ID   string
	Date time.Time
	// From, To, Cc and Bcc are addresses as in a header: "Bantam <bantam@example.org>".
	From        string
	To, Cc, Bcc []string
	Subject     string
	Text        string
	HTML        string // "" for none
	Parts       []Part
}

// A Part is a file in a mail.
type Part struct {
	Name, Type string // Type is a media type, "text/plain; charset=utf-8"
	Data       []byte
}

// A Packet is a mail as it travels.
type Packet struct {
	From string   `json:"from"` // bare address of the envelope
	To   []string `json:"to"`   // bare addresses, those of Cc and Bcc too
	Data []byte   `json:"data"` // RFC 5322, with CRLF, without Bcc
}

// A Transport sends mails. Its errors are outbox.Verdicts by shape where the receiver has
// said so: a 5xx is final, a 4xx is not. It is safe for concurrent use.
type Transport interface {
	Send(ctx context.Context, p Packet) error
}
