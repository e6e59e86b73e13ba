// Package smtp writes mails and sends them: by a relay, by the machine's own sendmail, or
// by Gmail's API. What a mail says is its caller's business.
//
// Each attempt to send ends within a minute, whatever the other side does, and reads a bounded part of what it
// says. Errors say whether it makes sense to try again; they hold no secret, and of a server's
// text only a quoted beginning.
package smtp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// Timeout is how long one attempt to send may take, from the first look-up of a name to the last answer.
const Timeout = time.Minute

// A Config says how mails travel.
type Config struct {
	Kind string
	// Server is a relay, as host:port or host, whose port is then 587, 465 or 25 as TLS is starttls,
	// tls or none; "" is smtp.gmail.com:587 for Gmail. Its certificate must be for host.
	Server string
	// TLS is "starttls", which is then required, "tls" from the first byte, or "none"; "" is tls on
	// port 465 (RFC 8314 3.3) and starttls on any other.
	TLS string
	// User and Password log in; both empty for no login. Gmail's user is From's address, unless it
	// is given. Without TLS nothing that gives the password away is used. With a server that knows nothing
	// but XOAUTH2 the password is the token.
	User     string
	Password secret.Value
	// Client is the file with the OAuth2 client that Google's console offers for download, Token
	// the file with the token that the login has obtained.
	Client, Token string
	// URL is where Gmail's API is, "" for the usual place.
	URL string
	// Program is sendmail's path; "" for /usr/sbin/sendmail.
	Program string
	// CAs sign the certificates of servers; nil for those that the system trusts.
	CAs *x509.CertPool
}

// A Mail is a message before it is written out.
type Mail struct {
	// ID is the left side of its Message-ID; the right side is the domain of From.
	ID string
	// Date is wall time; zero for now.
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
//
// A relay may refuse some recipients. The others get the mail then, and the error names the refused. It is
// final, unless some were refused for the time being. The same Transport does not send a mail of the same
// Message-ID again to those who have it.
//
// Where the connection breaks before the receiver has said that it has the mail, nobody knows whether it has;
// the next attempt carries the same Message-ID.
type Transport interface {
	Send(ctx context.Context, p Packet) error
}

// ports are those of a relay by how TLS begins: RFC 6409, RFC 8314, RFC 5321.
var ports = map[string]string{"starttls": "587", "tls": "465", "none": "25"}

// complete puts in what has been left out.
func (c Config) complete() Config {
	if c.Kind == Gmail && c.Server == "" {
		c.Server = "smtp.gmail.com:587"
	}
	if c.TLS == "" {
		c.TLS = "starttls"
		if strings.HasSuffix(c.Server, ":465") {
			c.TLS = "tls"
		}
	}
	if _, _, err := net.SplitHostPort(c.Server); err != nil && c.Server != "" {
		host := c.Server
		if n := len(host); host[0] == '[' && host[n-1] == ']' {
			host = host[1 : n-1]
		}
		c.Server = net.JoinHostPort(host, ports[c.TLS])
	}
	if c.Program == "" {
		c.Program = "/usr/sbin/sendmail"
	}
	if c.URL == "" {
		c.URL = "https://gmail.googleapis.com"
	}
	return c
}

// Validate says what is wrong with the configuration, without asking anybody and without
// reading files.
func (c Config) Validate() error {
	c = c.complete()
	switch c.Kind {
	case Relay, Gmail:
		if c.Server == "" {
			return errors.New("relay: the mail server is missing, as in mail.example.org:587")
		}
		host, port, err := net.SplitHostPort(c.Server)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" || !isHost(host) {
			return fmt.Errorf("relay: %s is no mail server; one like mail.example.org:587 is wanted", quote(c.Server))
		}
		if ports[c.TLS] == "" {
			return fmt.Errorf("tls: %s is none of starttls, tls, none", quote(c.TLS))
		}
		if c.Kind == Gmail {
			if c.Password.IsZero() {
				return errors.New("password: Gmail wants an App Password, " + appPasswords)
			}
		} else if (c.User == "") != c.Password.IsZero() {
			return errors.New("user and password: one of them is missing")
		}
	case MTA:
		if !filepath.IsAbs(c.Program) {
			return fmt.Errorf("program: %s is no absolute path", quote(c.Program))
		}
	case GmailAPI:
		for _, f := range []struct{ name, path string }{{"client", c.Client}, {"token", c.Token}} {
			if !filepath.IsAbs(f.path) {
				return fmt.Errorf("%s: the absolute path of a file is wanted, not %s", f.name, quote(f.path))
			}
		}
		if err := checkURL(c.URL); err != nil {
			return fmt.Errorf("url: %w", err)
		}
	default:
		return fmt.Errorf("%s is no way to send mail; there are smtp, gmail, gmail-api and mta", quote(c.Kind))
	}
	return nil
}

// Check says what would keep a mail from being sent, as far as this machine knows: it reads the
// files of Gmail's API and looks for sendmail. It asks nobody else.
func (c Config) Check() error {
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.complete()
	switch c.Kind {
	case MTA:
		if _, err := exec.LookPath(c.Program); err != nil {
			err = errors.Unwrap(err)
			if missing, ok := errors.AsType[*fs.PathError](err); ok {
				err = missing.Err // it names the program again
			}
			return hinted(fmt.Errorf("find %s: %w", c.Program, err), installMTA)
		}
	case GmailAPI:
		if _, err := readClient(c.Client); err != nil {
			return err
		}
		if _, err := readToken(c.Token); err != nil {
			return err
		}
	}
	return nil
}

// isHost reports whether s is a host name or an address.
func isHost(s string) bool { return isDomain(s) || net.ParseIP(s) != nil }

// checkURL says whether tokens may travel to an address.
func checkURL(text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is no address that begins with https://", quote(text))
	}
	return nil
}

// Open makes the transport; it asks nobody and reads nothing yet.
func (c Config) Open(log *slog.Logger) (Transport, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("open mail by %s: %w", quote(c.Kind), err)
	}
	c = c.complete()
	switch c.Kind {
	case MTA:
		return &mta{program: c.Program, log: log}, nil
	case GmailAPI:
		return newAPI(c, log), nil
	default:
		return newRelay(c, log), nil
	}
}
