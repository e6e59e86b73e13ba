package smtp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"bantam/internal/outbox"
	"bantam/internal/secret"
	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// verdict is what the outbox learns from an error.
func verdict(err error) (again bool, after time.Duration) {
	if v, ok := errors.AsType[outbox.Verdict](err); ok {
		return v.Again()
	}
	return true, 0
}

// open is the transport of the configuration.
func open(t *testing.T, c smtp.Config) smtp.Transport {
	t.Helper()
	transport, err := c.Open(quiet)
	if err != nil {
		t.Fatal(err)
	}
	return transport
}

// sendBy sends the letter by a transport of the configuration.
func sendBy(t *testing.T, c smtp.Config) error {
	t.Helper()
	return open(t, c).Send(limited(t), packetOf(t, letter()))
}

// limited is a context that ends a test that would hang.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func packetOf(t *testing.T, m smtp.Mail) smtp.Packet {
	t.Helper()
	p, err := m.Packet()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// relayTo is the configuration for a test's server.
func relayTo(s *smtptest.Server, tls string) smtp.Config {
	return smtp.Config{Kind: smtp.Relay, Server: s.Addr(), TLS: tls, CAs: s.CA()}
}

// says checks an error's text.
func says(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q, want %q in it", err, w)
		}
	}
	if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
		t.Errorf("the error repeats too much: %q", err)
	}
}

const password = "correct horse battery"

func TestAMailArrivesByEveryWayToLogIn(t *testing.T) {
	for _, c := range []struct {
		tls        string
		mechanisms []string
		want       string
	}{
		{"starttls", nil, "PLAIN"},
		{"tls", nil, "PLAIN"},
		{"starttls", []string{"LOGIN"}, "LOGIN"},
		{"starttls", []string{"CRAM-MD5"}, "CRAM-MD5"},
		{"starttls", []string{"XOAUTH2"}, "XOAUTH2"},
		{"tls", []string{"X-OTHER", "LOGIN"}, "LOGIN"},
		{"none", nil, "CRAM-MD5"},
	} {
		t.Run(fmt.Sprint(c.tls, c.mechanisms), func(t *testing.T) {
			s := smtptest.New(t, smtptest.Options{TLS: c.tls, User: "ann", Password: password, Mechanisms: c.mechanisms})
			config := relayTo(s, c.tls)
			config.User, config.Password = "ann", secret.New(password)
			if err := sendBy(t, config); err != nil {
				t.Fatal(err)
			}
			m, err := s.Next(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			if m.Mechanism != c.want || m.TLS != (c.tls != "none") {
				t.Errorf("login by %s, TLS %v", m.Mechanism, m.TLS)
			}
			if p := packetOf(t, letter()); m.From != p.From || len(m.To) != 3 {
				t.Errorf("from %s to %q", m.From, m.To)
			}
			r, err := m.Read()
			if err != nil || r.Text != letter().Text || r.Subject != letter().Subject {
				t.Errorf("read %+v, %v", r, err)
			}
		})
	}
}

func TestGmailLogsInWithItsAddressAndAnAppPassword(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{User: "bantam@gate.example.org", Password: "abcdefghijklmnop"})
	config := relayTo(s, "")
	config.Kind, config.Password = smtp.Gmail, secret.New("abcd efgh ijkl mnop")
	if err := sendBy(t, config); err != nil {
		t.Fatal(err)
	}
	config.Password = secret.New("wrng wrng")
	s.Answer(func(verb, _ string) smtptest.Reply {
		if verb == "AUTH" {
			return smtptest.Reply{Code: 535, Text: "wrngwrng is wrong"}
		}
		return smtptest.Reply{}
	})
	err := sendBy(t, config)
	says(t, err, `535 "*** is wrong"`, "App Password", "https://myaccount.google.com/apppasswords", `"bantam@gate.example.org"`)
	if again, _ := verdict(err); !again {
		t.Error("a refused login loses the mail")
	}
}

func TestNothingIsSentInTheClear(t *testing.T) {
	for _, c := range []struct {
		name, tls string
		options   smtptest.Options
		user      string
		want      string
	}{
		{"no STARTTLS where it is wanted", "starttls", smtptest.Options{TLS: "none"}, "", "offers no STARTTLS"},
		{"no STARTTLS, with a login", "", smtptest.Options{TLS: "none"}, "ann", "offers no STARTTLS"},
		{"no way to log in that hides the password", "none", smtptest.Options{TLS: "none", Mechanisms: []string{"PLAIN", "LOGIN", "XOAUTH2"}}, "ann", "hides the password"},
		{"a certificate out of date", "starttls", smtptest.Options{Expired: true}, "ann", "out of date"},
		{"a certificate out of date, TLS at once", "tls", smtptest.Options{TLS: "tls", Expired: true}, "ann", "out of date"},
		{"TLS at once with a server that begins plainly", "tls", smtptest.Options{TLS: "starttls"}, "ann", "tls = starttls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.User, c.options.Password = "ann", password
			s := smtptest.New(t, c.options)
			config := relayTo(s, c.tls)
			if c.user != "" {
				config.User, config.Password = c.user, secret.New(password)
			}
			err := sendBy(t, config)
			says(t, err, c.want, s.Addr())
			if again, _ := verdict(err); !again {
				t.Error("what the operator can mend loses the mail")
			}
			if s.Logins() != 0 || len(s.Mails()) != 0 {
				t.Errorf("%d logins, %d mails", s.Logins(), len(s.Mails()))
			}
		})
	}
}

func TestACertificateMustBeForTheServerAndOfAKnownAuthority(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{})
	stranger := relayTo(s, "starttls")
	stranger.CAs = smtptest.New(t, smtptest.Options{}).CA()
	says(t, sendBy(t, stranger), "does not trust who signed it")

	other := relayTo(s, "starttls")
	other.Server = fmt.Sprintf("mail.example.org:%d", s.Port())
	transport := open(t, other)
	smtp.SetDial(transport, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addr())
	})
	says(t, transport.Send(limited(t), packetOf(t, letter())), "mail.example.org is not")
	if len(s.Mails()) != 0 {
		t.Error("a mail went out")
	}
}

func TestWhatTheServerSaysDecides(t *testing.T) {
	for _, c := range []struct {
		verb  string
		code  int
		again bool
	}{
		{"CONNECT", 421, true},
		{"CONNECT", 554, true}, // it speaks of us, not of the mail
		{"EHLO", 451, true},
		{"EHLO", 550, true},
		{"AUTH", 454, true},
		{"AUTH", 534, true},
		{"AUTH", 535, true},
		{"MAIL", 451, true},
		{"MAIL", 530, true},
		{"MAIL", 550, false},
		{"RCPT", 450, true},
		{"RCPT", 550, false},
		{"DATA", 421, true},
		{"DATA", 451, true},
		{"DATA", 503, true},
		{"DATA", 552, false},
		{"DATA", 554, false},
	} {
		t.Run(fmt.Sprint(c.verb, " ", c.code), func(t *testing.T) {
			s := smtptest.New(t, smtptest.Options{User: "ann", Password: password, Answer: func(verb, _ string) smtptest.Reply {
				if verb != c.verb {
					return smtptest.Reply{}
				}
				return smtptest.Reply{Code: c.code, Text: "go \x1b[2J away, " + password + strings.Repeat("!", 400)}
			}})
			config := relayTo(s, "starttls")
			config.User, config.Password = "ann", secret.New(password)
			err := sendBy(t, config)
			says(t, err, fmt.Sprint(c.code), `go \x1b[2J away, ***`)
			if again, _ := verdict(err); again != c.again {
				t.Errorf("tried again: %v, for %v", again, err)
			}
			if strings.Contains(fmt.Sprint(err), password) {
				t.Errorf("the password is in %v", err)
			}
			if len(s.Mails()) != 0 {
				t.Error("a refused mail was taken")
			}
		})
	}
}

func TestARefusedRecipientKeepsNoMailFromTheOthers(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{Answer: func(verb, arg string) smtptest.Reply {
		if verb == "RCPT" && arg == "cc@example.org" {
			return smtptest.Reply{Code: 550, Text: "no such user"}
		}
		return smtptest.Reply{}
	}})
	err := sendBy(t, relayTo(s, ""))
	says(t, err, `"cc@example.org" is refused with 550 "no such user"`, "the others have it")
	if again, _ := verdict(err); again {
		t.Error("the others would get it twice")
	}
	transport := open(t, relayTo(s, ""))
	for range 2 {
		_ = transport.Send(limited(t), packetOf(t, letter())) // the operator may ask for it
	}
	if n := len(s.Mails()); n != 2 {
		t.Errorf("after three attempts by two transports the others have it %d times", n)
	}
	if mails := s.Mails(); fmt.Sprint(mails[0].To) != "[ann@example.org secret@example.org]" {
		t.Errorf("arrived: %+v", mails)
	}
}

func TestARecipientWhoIsRefusedForNowGetsTheMailLaterAndAlone(t *testing.T) {
	var busy atomic.Bool
	busy.Store(true)
	s := smtptest.New(t, smtptest.Options{Answer: func(verb, arg string) smtptest.Reply {
		if verb == "RCPT" && arg == "ann@example.org" && busy.Load() {
			return smtptest.Reply{Code: 450, Text: "greylisted"}
		}
		return smtptest.Reply{}
	}})
	transport := open(t, relayTo(s, ""))
	p := packetOf(t, letter())
	for range 2 {
		err := transport.Send(limited(t), p)
		says(t, err, `"ann@example.org" is refused with 450`)
		if again, _ := verdict(err); !again {
			t.Error("greylisting loses the mail")
		}
	}
	busy.Store(false)
	if err := transport.Send(limited(t), p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range s.Mails() {
		got = append(got, fmt.Sprint(m.To))
	}
	if fmt.Sprint(got) != "[[cc@example.org secret@example.org] [ann@example.org]]" {
		t.Errorf("arrived to %v", got)
	}
}

func TestAServerThatHangsUpIsTriedAgain(t *testing.T) {
	for _, verb := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA"} {
		s := smtptest.New(t, smtptest.Options{Answer: func(v, _ string) smtptest.Reply { return smtptest.Reply{Drop: v == verb} }})
		err := sendBy(t, relayTo(s, ""))
		if again, _ := verdict(err); err == nil || !again {
			t.Errorf("%s: %v, again %v", verb, err, again)
		}
		says(t, err, s.Addr())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	err = sendBy(t, smtp.Config{Kind: smtp.Relay, Server: listener.Addr().String()})
	says(t, err, "connect to "+listener.Addr().String(), "refused")
}

func TestTheCallersPatienceEndsASilentServer(t *testing.T) {
	for _, verb := range []string{"CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"} {
		ctx, cancel := context.WithCancel(limited(t))
		s := smtptest.New(t, smtptest.Options{User: "ann", Password: password, Answer: func(v, _ string) smtptest.Reply {
			if v == verb {
				cancel()
			}
			return smtptest.Reply{Hang: v == verb}
		}})
		config := relayTo(s, "")
		config.User, config.Password = "ann", secret.New(password)
		transport := open(t, config)
		if err := transport.Send(ctx, packetOf(t, letter())); !errors.Is(err, context.Canceled) {
			t.Errorf("silent at %s: %v", verb, err)
		}
	}
}

// talking sends a mail, in a bubble, to a server that does what talk does, and waits for its end.
func talking(t *testing.T, talk func(conn net.Conn)) (took time.Duration, err error) {
	t.Helper()
	transport := open(t, smtp.Config{Kind: smtp.Relay, Server: "mail.example.org:25", TLS: "none"})
	dial, ended := piped(talk)
	smtp.SetDial(transport, dial)
	begin := time.Now()
	err = transport.Send(t.Context(), packetOf(t, letter()))
	took = time.Since(begin)
	<-ended
	return took, err
}

// piped is a way to a server that talks, once, and closes ended when it has.
func piped(talk func(conn net.Conn)) (dial func(context.Context, string, string) (net.Conn, error), ended chan struct{}) {
	ended = make(chan struct{})
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer close(ended)
			defer theirs.Close()
			talk(theirs)
		}()
		return ours, nil
	}, ended
}

func TestAServerThatSendsAByteASecondIsLeftAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, err := talking(t, func(conn net.Conn) {
			for {
				time.Sleep(time.Second) // in the bubble, where it takes no time
				if _, err := conn.Write([]byte("2")); err != nil {
					return
				}
			}
		})
		if took != smtp.Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", took, err)
		}
		says(t, err, "longer than 1m0s")
	})
}

func TestAServerThatSaysNoGoodByeHasTheMailAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, err := talking(t, func(conn net.Conn) {
			r := bufio.NewReader(conn)
			_, _ = io.WriteString(conn, "220 hi\r\n")
			for data := false; ; {
				line, err := r.ReadString('\n')
				switch {
				case err != nil:
					return
				case data && line != ".\r\n", strings.HasPrefix(line, "QUIT"):
				case strings.HasPrefix(line, "DATA"):
					data = true
					_, _ = io.WriteString(conn, "354 go on\r\n")
				default:
					data = false
					_, _ = io.WriteString(conn, "250 ok\r\n")
				}
			}
		})
		if err != nil || took > 5*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

func TestAServerThatNeverEndsIsLeft(t *testing.T) {
	for _, c := range []struct{ name, talk string }{
		{"a line without end", "220 " + strings.Repeat("x", 4096)},
		{"lines without end", strings.Repeat("220-hello\r\n", 400)},
	} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			_, err := talking(t, func(conn net.Conn) {
				for {
					n, err := io.WriteString(conn, c.talk)
					sent += n
					if err != nil {
						return
					}
				}
			})
			says(t, err, "more than 1048576 bytes")
			if sent > 2<<20 {
				t.Errorf("%s: %d bytes were read", c.name, sent)
			}
		})
	}
}

func TestAnAnswerThatIsNoSMTPIsSaidToBeNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := talking(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 \x1b[31mBad\r\n\r\n")
		})
		says(t, err, "not understood", `\x1b[31m`)
	})
}

// What a server sends in the clear behind its consent to TLS must not count as said under TLS.
func TestWhatComesBeforeTLSDoesNotCount(t *testing.T) {
	transport := open(t, smtp.Config{Kind: smtp.Relay, Server: "mail.example.org:25"})
	dial, ended := piped(func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for _, say := range []string{"220 hi\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n250-x\r\n250 AUTH PLAIN\r\n235 in\r\n250 ok\r\n250 ok\r\n"} {
			if _, err := io.WriteString(conn, say); err != nil {
				return
			}
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
	})
	smtp.SetDial(transport, dial)
	if err := transport.Send(limited(t), packetOf(t, letter())); err == nil {
		t.Error("a mail was sent to somebody who never spoke TLS")
	}
	<-ended
}

func TestManyMailsAtOnce(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{})
	transport := open(t, relayTo(s, ""))
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			m := letter()
			m.ID = fmt.Sprint("mail-", i)
			p, err := m.Packet()
			if err == nil {
				err = transport.Send(limited(t), p)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := len(s.Mails()); n != 8 {
		t.Errorf("%d of 8 arrived", n)
	}
}

func TestAConfigurationShowsNoPassword(t *testing.T) {
	c := smtp.Config{Kind: smtp.Relay, User: "ann", Password: secret.New(password)}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", c, c, &c, asJSON); strings.Contains(text, password) || strings.Count(text, "***") != 4 {
		t.Errorf("it shows %s", text)
	}
}

func TestAConfigurationIsCheckedBeforehand(t *testing.T) {
	p := secret.New("p")
	for _, c := range []struct {
		name   string
		config smtp.Config
		want   string // "" if it is good
	}{
		{"a relay", smtp.Config{Kind: smtp.Relay, Server: "mail.example.org:587"}, ""},
		{"a relay without a port", smtp.Config{Kind: smtp.Relay, Server: "mail.example.org"}, ""},
		{"a relay by address", smtp.Config{Kind: smtp.Relay, Server: "[::1]:25", TLS: "none"}, ""},
		{"a relay by address without a port", smtp.Config{Kind: smtp.Relay, Server: "::1", TLS: "none"}, ""},
		{"Gmail", smtp.Config{Kind: smtp.Gmail, Password: p}, ""},
		{"Gmail without a password", smtp.Config{Kind: smtp.Gmail}, "App Password"},
		{"sendmail", smtp.Config{Kind: smtp.MTA}, ""},
		{"Gmail's API", smtp.Config{Kind: smtp.GmailAPI, Client: "/c", Token: "/t"}, ""},
		{"Gmail's API without a token", smtp.Config{Kind: smtp.GmailAPI, Client: "/c"}, "token"},
		{"Gmail's API in the clear", smtp.Config{Kind: smtp.GmailAPI, Client: "/c", Token: "/t", URL: "http://x"}, "https://"},
		{"nothing", smtp.Config{}, "no way to send mail"},
		{"no server", smtp.Config{Kind: smtp.Relay}, "mail.example.org:587"},
		{"a server with CRLF", smtp.Config{Kind: smtp.Relay, Server: "a\r\nb:25"}, "no mail server"},
		{"a port that is none", smtp.Config{Kind: smtp.Relay, Server: "a:70000"}, "no mail server"},
		{"TLS misspelt", smtp.Config{Kind: smtp.Relay, Server: "a:25", TLS: "ssl"}, "starttls, tls, none"},
		{"a user without a password", smtp.Config{Kind: smtp.Relay, Server: "a:25", User: "u"}, "missing"},
		{"a password without a user", smtp.Config{Kind: smtp.Relay, Server: "a:25", Password: p}, "missing"},
		{"a program by name", smtp.Config{Kind: smtp.MTA, Program: "sendmail"}, "absolute"},
	} {
		err := c.config.Validate()
		if c.want == "" && err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if c.want != "" {
			says(t, err, c.want)
		}
		if _, opened := c.config.Open(quiet); (opened == nil) != (err == nil) {
			t.Errorf("%s: Validate says %v, Open %v", c.name, err, opened)
		}
	}
}

// BenchmarkRelay sends a mail with a login, by STARTTLS, to a server of the same machine.
func BenchmarkRelay(b *testing.B) {
	b.ReportAllocs()
	s := smtptest.New(b, smtptest.Options{User: "ann", Password: password})
	config := relayTo(s, "")
	config.User, config.Password = "ann", secret.New(password)
	transport, err := config.Open(quiet)
	if err != nil {
		b.Fatal(err)
	}
	p, err := letter().Packet()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := transport.Send(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
}
