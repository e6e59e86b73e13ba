package smtptest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/smtp"
	"net/textproto"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bantam/internal/smtp/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial speaks to the server as the standard library does, a client that is not ours.
func dial(t *testing.T, s *smtptest.Server) *smtp.Client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := t.Deadline()
	if soon := time.Now().Add(20 * time.Second); deadline.IsZero() || soon.Before(deadline) {
		deadline = soon
	}
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const letter = "From: a@example.org\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nH=C3=B6r zu\r\n"

func TestAMailArrivesByTLSWithALogin(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{User: "ann", Password: "sesame"})
	c := dial(t, s)
	must(t, c.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: s.CA()}))
	must(t, c.Auth(smtp.CRAMMD5Auth("ann", "sesame")))
	must(t, c.Mail("a@example.org"))
	must(t, c.Rcpt("b@example.org"))
	w, err := c.Data()
	must(t, err)
	_, err = w.Write([]byte(letter))
	must(t, err)
	must(t, w.Close())
	must(t, c.Quit())

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := s.Next(ctx)
	must(t, err)
	if !m.TLS || m.User != "ann" || m.Mechanism != "CRAM-MD5" || m.From != "a@example.org" || len(m.To) != 1 {
		t.Errorf("received %+v", m)
	}
	r, err := m.Read()
	must(t, err)
	if r.Subject != "grüße" || r.Text != "Hör zu\n" || r.Shape != "text/plain" {
		t.Errorf("read %+v", r)
	}
}

func TestAWrongLoginIsRefused(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{User: "ann", Password: "sesame"})
	c := dial(t, s)
	must(t, c.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: s.CA()}))
	var reply *textproto.Error
	if err := c.Auth(smtp.PlainAuth("", "ann", "wrong", "localhost")); !errors.As(err, &reply) || reply.Code != 535 {
		t.Errorf("a wrong password is answered %v, not by 535", err)
	}
	if s.Logins() != 1 || s.Connections() != 1 {
		t.Errorf("%d logins on %d connections", s.Logins(), s.Connections())
	}
}

func TestTheScriptDecides(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{TLS: "none", Answer: func(verb, arg string) smtptest.Reply {
		switch {
		case verb == "RCPT" && arg == "nobody@example.org":
			return smtptest.Reply{Code: 550, Text: "no such user"}
		case verb == "DATA":
			return smtptest.Reply{Drop: true}
		}
		return smtptest.Reply{}
	}})
	c := dial(t, s)
	must(t, c.Mail("a@example.org"))
	var reply *textproto.Error
	if err := c.Rcpt("nobody@example.org"); !errors.As(err, &reply) || reply.Code != 550 {
		t.Errorf("the unknown recipient is answered %v", err)
	}
	must(t, c.Rcpt("b@example.org"))
	w, err := c.Data()
	must(t, err)
	if err := w.Close(); err == nil {
		t.Error("the mail was taken although the server was to hang up")
	}
	if len(s.Mails()) != 0 {
		t.Error("a refused mail was kept")
	}
}

func TestASlowServerSpeaksByteByByte(t *testing.T) {
	const pace = 2 * time.Millisecond
	s := smtptest.New(t, smtptest.Options{TLS: "none", Pace: pace})
	begin := time.Now()
	dial(t, s) // it waits for a greeting of more than ten bytes
	if took := time.Since(begin); took < 10*pace {
		t.Errorf("it greets after %s", took)
	}
}

func TestTheEndOfTheTestEndsAHangingServer(t *testing.T) {
	for _, verb := range []string{"CONNECT", "EHLO"} {
		t.Run(verb, func(t *testing.T) {
			asked := make(chan struct{})
			s := smtptest.New(t, smtptest.Options{TLS: "none", Answer: func(v, _ string) smtptest.Reply {
				if v != verb {
					return smtptest.Reply{}
				}
				close(asked)
				return smtptest.Reply{Hang: true}
			}})
			conn, err := net.Dial("tcp", s.Addr())
			must(t, err)
			t.Cleanup(func() { conn.Close() })
			_, err = conn.Write([]byte("EHLO x\r\n"))
			must(t, err)
			<-asked
		})
	}
}
