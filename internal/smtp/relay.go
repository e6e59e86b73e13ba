package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/mail"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/wneessen/go-mail/smtp"

	"bantam/internal/secret"
)

// maxTalk is how many bytes a server may say in one conversation, TLS included. Servers need a few
// thousand.
const maxTalk = 1 << 20

// maxPending is of how many mails a relay remembers who has them already.
const maxPending = 1000

// farewell is how long a server may take to say good-bye.
const farewell = 2 * time.Second

// A relay sends mails by a server, on a connection of its own for each.
type relay struct {
	config Config
	host   string
	log    *slog.Logger
	dial   func(ctx context.Context, network, address string) (net.Conn, error)

	mu sync.Mutex
	// pending has, for mails that not all recipients could get, who has them: by Message-ID, because
	// a mail that is written out anew differs in its boundaries.
	pending map[string]map[string]bool
}

func newRelay(c Config, log *slog.Logger) *relay {
	host, _, _ := net.SplitHostPort(c.Server) // Validate has seen it
	return &relay{
		config: c, host: host, log: log, dial: new(net.Dialer).DialContext,
		pending: map[string]map[string]bool{},
	}
}

// Send sends one mail.
func (r *relay) Send(ctx context.Context, p Packet) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	m, err := mail.ReadMessage(bytes.NewReader(p.Data))
	if err != nil {
		return final(fmt.Errorf("send mail by %s: read back what was written: %w", r.config.Server, err))
	}
	key := m.Header.Get("Message-ID")
	r.mu.Lock()
	has := maps.Clone(r.pending[key])
	r.mu.Unlock()
	to := slices.DeleteFunc(slices.Clone(p.To), func(a string) bool { return has[a] })

	refused, err := r.talk(ctx, p, to)
	if err != nil {
		return r.explain(ctx, err)
	}
	r.log.Debug("mail sent", "server", r.config.Server, "recipients", len(to)-len(refused))
	return r.settle(key, to, refused)
}

// settle says what became of those whom the server refused while others got the mail, and
// remembers who has it, for another attempt.
func (r *relay) settle(key string, to []string, refused []refusal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(refused) == 0 {
		delete(r.pending, key)
		return nil
	}
	if r.pending[key] == nil {
		if len(r.pending) >= maxPending {
			clear(r.pending) // somebody may get a mail twice, with the same Message-ID
		}
		r.pending[key] = map[string]bool{}
	}
	later := false
	for _, a := range to {
		i := slices.IndexFunc(refused, func(f refusal) bool { return f.to == a })
		if i < 0 {
			r.pending[key][a] = true
		} else if refused[i].reply.Code < 500 {
			later = true
		}
	}
	err := fmt.Errorf("send mail by %s: %s; the others have it", r.config.Server, r.list(refused))
	if later {
		return err
	}
	return final(err)
}

// A refusal is what the server said to a recipient.
type refusal struct {
	to    string
	reply *textproto.Error
}

// list names the first of those who were refused.
func (r *relay) list(refused []refusal) string {
	var b strings.Builder
	for i, f := range refused {
		if i == 3 {
			fmt.Fprintf(&b, ", and %d more", len(refused)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s is refused with %s", quote(f.to), r.said(f.reply))
	}
	return b.String()
}

// said is a server's reply as it may be shown: servers repeat what they are sent.
func (r *relay) said(reply *textproto.Error) string {
	return fmt.Sprintf("%d %s", reply.Code, r.quote(reply.Msg))
}

// quote makes a server's text harmless.
func (r *relay) quote(text string) string {
	return quote(secret.Scrub(text, r.config.Password, secret.New(r.password())))
}

// password is what we log in with.
func (r *relay) password() string {
	text := r.config.Password.Reveal()
	if r.config.Kind == Gmail {
		text = strings.ReplaceAll(text, " ", "") // Google shows App Passwords in groups of four
	}
	return text
}

// A step is an error with what was being done.
type step struct {
	doing string
	err   error
}

func (s *step) Error() string { return s.doing + ": " + s.err.Error() }
func (s *step) Unwrap() error { return s.err }

// talk is one conversation. It returns who was refused while others were not.
func (r *relay) talk(ctx context.Context, p Packet, to []string) (refused []refusal, err error) {
	raw, err := r.dial(ctx, "tcp", r.config.Server)
	if err != nil {
		return nil, &step{"connect to " + r.config.Server, err}
	}
	defer raw.Close()
	// Both ends of the time we have: its end, and that of the caller's patience.
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return nil, &step{"connect to " + r.config.Server, err}
		}
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()

	secure := &tls.Config{ServerName: r.host, RootCAs: r.config.CAs, MinVersion: tls.VersionTLS12}
	limit := &bounded{Conn: raw, left: maxTalk}
	defer func() {
		// Half a line before the end of our time is not an answer that is too short.
		if s, ok := errors.AsType[*step](err); ok && isTimeout(limit.err) {
			s.err = limit.err
		}
	}()
	var conn net.Conn = limit
	if r.config.TLS == "tls" {
		shielded := tls.Client(conn, secure)
		if err := shielded.HandshakeContext(ctx); err != nil {
			return nil, &step{"speak TLS with " + r.config.Server, err}
		}
		conn = shielded
	}
	client, err := gosmtp.NewClient(conn, r.host)
	if err != nil {
		return nil, &step{"greet " + r.config.Server, err}
	}
	client.SkipSMTPUTF8(true) // our addresses are ASCII
	if err := client.Hello(helloName()); err != nil {
		return nil, &step{"greet " + r.config.Server, err}
	}
	if r.config.TLS == "starttls" {
		if ok, _ := client.Extension("STARTTLS"); !ok {
			return nil, fmt.Errorf("send mail by %s: it offers no STARTTLS, so nothing was sent; "+
				"tls = tls is for a server that speaks TLS at once, tls = none for one on this machine", r.config.Server)
		}
		if err := client.StartTLS(secure); err != nil {
			return nil, &step{"speak TLS with " + r.config.Server, err}
		}
	}
	if err := r.login(client, p.From); err != nil {
		return nil, err
	}
	refused, err = r.hand(client, p, to)
	if err == nil {
		// The server has the mail, whatever it says to our good-bye.
		_ = raw.SetDeadline(time.Now().Add(farewell))
		_ = client.Quit()
	}
	return refused, err
}

// login says who we are, in a way that the server knows and that gives nothing away.
func (r *relay) login(client *gosmtp.Client, from string) error {
	user, password := r.config.User, r.password()
	if r.config.Kind == Gmail && user == "" {
		user = from
	}
	if user == "" {
		return nil
	}
	_, offered := client.Extension("AUTH")
	ways := strings.Fields(strings.ToUpper(offered))
	_, encrypted := client.TLSConnectionState()
	var auth gosmtp.Auth
	switch {
	case encrypted && slices.Contains(ways, "PLAIN"):
		auth = gosmtp.PlainAuth("", user, password, r.host, false)
	case encrypted && slices.Contains(ways, "LOGIN"):
		auth = gosmtp.LoginAuth(user, password, r.host, false)
	case slices.Contains(ways, "CRAM-MD5"):
		auth = gosmtp.CRAMMD5Auth(user, password)
	case encrypted && slices.Contains(ways, "XOAUTH2"):
		auth = gosmtp.XOAuth2Auth(user, password)
	case len(ways) == 0:
		return fmt.Errorf("log in to %s as %s: it offers no login; without user and password none is tried",
			r.config.Server, quote(user))
	case !encrypted:
		return fmt.Errorf("log in to %s as %s: of %s none hides the password, and tls = none does not either",
			r.config.Server, quote(user), quote(offered))
	default:
		return fmt.Errorf("log in to %s as %s: of %s none is known here", r.config.Server, quote(user), quote(offered))
	}
	err := client.Auth(auth)
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf("log in to %s as %s", r.config.Server, quote(user))
	reply, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return &step{doing, err}
	}
	// Whatever its code, a refused login is mended by the operator, and the mail goes out then.
	hint := "user or password is wrong, or the account may not send by SMTP"
	if r.config.Kind == Gmail || strings.HasSuffix(r.host, ".gmail.com") {
		hint = "Gmail wants an App Password, " + appPasswords
	}
	return hinted(fmt.Errorf("%s: refused with %s", doing, r.said(reply)), hint)
}

// hand gives the mail to a server that knows us.
func (r *relay) hand(client *gosmtp.Client, p Packet, to []string) ([]refusal, error) {
	if err := client.Mail("<" + p.From + ">"); err != nil {
		return nil, &step{fmt.Sprintf("send mail by %s from %s", r.config.Server, quote(p.From)), r.judge(err)}
	}
	var refused []refusal
	for _, a := range to {
		err := client.Rcpt("<" + a + ">")
		if err == nil {
			continue
		}
		reply, ok := errors.AsType[*textproto.Error](err)
		if !ok {
			return nil, &step{fmt.Sprintf("send mail by %s to %s", r.config.Server, quote(a)), err}
		}
		refused = append(refused, refusal{a, reply})
	}
	if len(refused) == len(to) {
		err := fmt.Errorf("send mail by %s: %s", r.config.Server, r.list(refused))
		if slices.ContainsFunc(refused, func(f refusal) bool { return f.reply.Code < 500 || f.reply.Code == 530 }) {
			return nil, err
		}
		return nil, final(err)
	}
	doing := "send mail by " + r.config.Server
	w, err := client.Data()
	if err != nil {
		return nil, &step{doing, r.judge(err)}
	}
	if _, err := w.Write(p.Data); err != nil {
		return nil, &step{doing, err}
	}
	if err := w.Close(); err != nil {
		return nil, &step{doing, r.judge(err)}
	}
	return refused, nil
}

// judge makes an error out of a server's reply to a mail: a 5xx is final. 530 is not, it asks for the login
// that the configuration lacks (RFC 4954 6), nor 503, to which a server that has
// lost the thread comes (RFC 5321 4.2.2).
func (r *relay) judge(err error) error {
	reply, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return err
	}
	f := &failure{err: fmt.Errorf("refused with %s", r.said(reply))}
	switch {
	case reply.Code == 530:
		f.err = hinted(f.err, "the server wants user and password")
	case reply.Code >= 500 && reply.Code != 503:
		f.final = true
	}
	return f
}

// explain makes of an error of a conversation one for a person. Only those of a step may
// have a server's words in them.
func (r *relay) explain(ctx context.Context, err error) error {
	s, ok := errors.AsType[*step](err)
	if _, judged := errors.AsType[*failure](err); !ok || judged {
		return err
	}
	cert, isCert := errors.AsType[*tls.CertificateVerificationError](err)
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	reply, isReply := errors.AsType[*textproto.Error](err)
	_, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return fmt.Errorf("%s: %w", s.doing, context.Canceled)
	case ctx.Err() != nil || isTimeout(err):
		return fmt.Errorf("%s: %w: it took longer than %s", s.doing, context.DeadlineExceeded, Timeout)
	case errors.Is(err, errTalk):
		return fmt.Errorf("%s: %w", s.doing, errTalk)
	case isCert:
		return hinted(fmt.Errorf("%s: its certificate is not good: %s", s.doing, quote(cert.Err.Error())), certificateHint(cert, r.host))
	case isRecord:
		return hinted(fmt.Errorf("%s: it does not speak TLS there", s.doing),
			"port 465 is for tls = tls, ports 587 and 25 are for tls = starttls")
	case isReply:
		return fmt.Errorf("%s: refused with %s", s.doing, r.said(reply))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the server hung up", s.doing)
	case isNet:
		return err
	}
	return fmt.Errorf("%s: the answer is not understood: %s", s.doing, r.quote(s.err.Error()))
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// certificateHint is the way on for a certificate that does not convince.
func certificateHint(err *tls.CertificateVerificationError, host string) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the certificate, or the clock of this machine, is out of date"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "relay must be the name in the certificate, and " + host + " is not"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "this machine does not trust who signed it; see update-ca-certificates(8)"
	}
	return ""
}

// helloName is how we introduce ourselves: a server may look at it (RFC 5321 4.1.1.1).
func helloName() string {
	name, err := os.Hostname()
	if err != nil || !isDomain(name) {
		return "localhost"
	}
	return name
}

var errTalk = fmt.Errorf("the server said more than %d bytes", maxTalk)

// bounded is a connection that ends when the other side talks too much.
type bounded struct {
	net.Conn
	left int
	err  error // of the last Read
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTalk
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.err = err
	return n, err
}
