// Package smtptest is a mail server for tests: it listens on loopback, speaks TLS with a
// certificate of its own authority, asks for a login if told to, keeps what it is sent, and
// can refuse, stay silent, hang up or be slow where a test wants it to.
//
// A program of its own, such as the daemon, trusts it with SSL_CERT_FILE set to CAFile.
package smtptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Options say what the server is like. The zero value takes any mail by STARTTLS
// without a login.
type Options struct {
	// TLS is "starttls" or "", "tls" from the first byte, or "none".
	TLS string
	// User and Password are what the login must be; both empty for no login. For XOAUTH2
	// the password is the token.
	User, Password string
	// Mechanisms are those offered, all four if nil: PLAIN, LOGIN, CRAM-MD5, XOAUTH2.
	Mechanisms []string
	// Names are what its certificate stands for, beside localhost, 127.0.0.1 and ::1.
	Names []string
	// Expired makes a certificate whose time has passed.
	Expired bool
	// Pace is a pause before each byte that it writes.
	Pace time.Duration
	// Answer is as of Server.Answer.
	Answer func(verb, arg string) Reply
	// Listener is where it listens, in another network namespace, say; nil for a port of loopback. The server closes it.
	Listener net.Listener
}

// A Reply is what the server says instead of yes; its zero value is yes.
type Reply struct {
	Code int    // 400 to 599
	Text string // "refused by the test" if empty
	Hang bool   // no answer until the test ends
	Drop bool   // the connection is closed without an answer
}

// A Mail is what was received. User and Mechanism are those of the login, if there was one.
type Mail struct {
	From            string
	To              []string
	Data            []byte // as it came, with CRLF
	TLS             bool
	User, Mechanism string
}

// A Server is one test's mail server. Its methods are safe for concurrent use.
type Server struct {
	options Options
	addr    string
	pool    *x509.CertPool
	pemFile string
	done    chan struct{}

	mu     sync.Mutex
	answer func(verb, arg string) Reply
	mails  []Mail
	read   int           // how many of mails Next has returned
	more   chan struct{} // closed, and made anew, with each mail
	logins int
	conns  map[net.Conn]struct{} // nil when closed
	dialed int
}

// New starts a server that ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Mechanisms == nil {
		o.Mechanisms = []string{sasl.Plain, sasl.Login, "CRAM-MD5", "XOAUTH2"}
	}
	s := &Server{
		options: o,
		answer:  o.Answer,
		done:    make(chan struct{}),
		more:    make(chan struct{}),
		conns:   map[net.Conn]struct{}{},
	}
	config := s.certify(t)
	tcp, err := o.Listener, error(nil)
	if tcp == nil {
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s.addr = tcp.Addr().String()

	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if err := s.say("EHLO", c.Hostname(), c.Conn()); err != nil {
			return nil, err
		}
		return &session{server: s, conn: c}, nil
	}))
	server.Domain = "mail.test"
	server.MaxMessageBytes = 64 << 20
	server.AllowInsecureAuth = true
	server.ErrorLog = log.New(io.Discard, "", 0) // a test ends connections at any time
	var listener net.Listener = &watched{tcp, s}
	switch o.TLS {
	case "", "starttls":
		server.TLSConfig = config
	case "tls":
		listener = tls.NewListener(listener, config)
	case "none":
	default:
		t.Fatalf("smtptest: TLS %q is none of starttls, tls, none", o.TLS)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		close(s.done)
		s.mu.Lock()
		open := slices.Collect(maps.Keys(s.conns))
		s.conns = nil
		s.mu.Unlock()
		for _, c := range open {
			c.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("the test's mail server does not end: %v", err)
		}
		<-served
	})
	return s
}

// Addr is where it listens, as host:port.
func (s *Server) Addr() string { return s.addr }

// Port is Addr's.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.addr)
	n, _ := strconv.Atoi(port) // a listener's address has both
	return n
}

// CA is the authority that has signed its certificate.
func (s *Server) CA() *x509.CertPool { return s.pool }

// CAFile is a PEM file with the authority.
func (s *Server) CAFile() string { return s.pemFile }

// Answer changes what the server says to CONNECT, EHLO, AUTH (arg is the mechanism), MAIL, RCPT
// (arg is the address) and, after the mail has come in whole, DATA. nil is yes to all.
// CONNECT cannot refuse with a code where TLS begins at once.
func (s *Server) Answer(f func(verb, arg string) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// Mails are all that were accepted, oldest first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Next waits for the next mail that it has not yet returned.
func (s *Server) Next(ctx context.Context) (Mail, error) {
	for {
		s.mu.Lock()
		more := s.more
		if s.read < len(s.mails) {
			s.read++
			m := s.mails[s.read-1]
			s.mu.Unlock()
			return m, nil
		}
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return Mail{}, ctx.Err()
		}
	}
}

// Connections is how many there have been.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialed
}

// Logins is how many logins there have been, refused ones too.
func (s *Server) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

var errDrop = errors.New("hung up")

// reply asks the test what to say.
func (s *Server) reply(verb, arg string) Reply {
	s.mu.Lock()
	answer := s.answer
	if verb == "AUTH" {
		s.logins++
	}
	s.mu.Unlock()
	if answer == nil {
		return Reply{}
	}
	r := answer(verb, arg)
	if r.Text == "" {
		r.Text = "refused by the test"
	}
	return r
}

// say is what go-smtp is to answer; it waits and hangs up itself.
func (s *Server) say(verb, arg string, conn net.Conn) error {
	switch r := s.reply(verb, arg); {
	case r.Hang:
		<-s.done
		return errDrop
	case r.Drop:
		conn.Close()
		return errDrop
	case r.Code != 0:
		return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.NoEnhancedCode, Message: r.Text}
	}
	return nil
}

// certify makes an authority and a certificate of it.
func (s *Server) certify(t testing.TB) *tls.Config {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	ca, err = x509.ParseCertificate(caDER)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mail.test"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames:    append([]string{"localhost"}, s.options.Names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if s.options.Expired {
		leaf.NotAfter = now.Add(-time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(err)
	s.pool = x509.NewCertPool()
	s.pool.AddCert(ca)
	s.pemFile = filepath.Join(t.TempDir(), "ca.pem")
	must(os.WriteFile(s.pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// A session is one connection's.
type session struct {
	server          *Server
	conn            *smtp.Conn
	user, mechanism string
	mail            Mail
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.options.User != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	if err := s.server.say("MAIL", from, s.conn.Conn()); err != nil {
		return err
	}
	_, secure := s.conn.TLSConnectionState()
	s.mail = Mail{From: from, TLS: secure, User: s.user, Mechanism: s.mechanism}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.server.say("RCPT", to, s.conn.Conn()); err != nil {
		return err
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.server.say("DATA", "", s.conn.Conn()); err != nil {
		return err
	}
	s.mail.Data = data
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, s.mail)
	close(s.server.more)
	s.server.more = make(chan struct{})
	return nil
}

// watched hands out connections that the server can close and slow down.
type watched struct {
	net.Listener
	server *Server
}

func (w *watched) Accept() (net.Conn, error) {
	for {
		tcp, err := w.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &conn{tcp, w.server}
		w.server.mu.Lock()
		w.server.dialed++
		open := w.server.conns != nil
		if open {
			w.server.conns[conn] = struct{}{}
		}
		w.server.mu.Unlock()
		if !open {
			tcp.Close()
			continue
		}
		switch r := w.server.reply("CONNECT", ""); {
		case r.Hang: // it stays open, and nobody reads it
		case r.Code != 0:
			// The client may be gone already, which is no matter.
			_, _ = io.WriteString(conn, strconv.Itoa(r.Code)+" "+r.Text+"\r\n")
			conn.Close()
		case r.Drop:
			conn.Close()
		default:
			return conn, nil
		}
	}
}

type conn struct {
	net.Conn
	server *Server
}

func (c *conn) Write(b []byte) (int, error) {
	if c.server.options.Pace == 0 {
		return c.Conn.Write(b)
	}
	for i := range b {
		timer := time.NewTimer(c.server.options.Pace)
		select {
		case <-timer.C:
		case <-c.server.done:
			timer.Stop()
			return i, net.ErrClosed
		}
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (c *conn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}
