package smtptest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// AuthMechanisms has what EHLO offers.
func (s *session) AuthMechanisms() []string {
	if s.server.options.User == "" {
		return nil
	}
	return s.server.options.Mechanisms
}

// Auth begins a login.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if err := s.server.say("AUTH", mechanism, s.conn.Conn()); err != nil {
		return nil, err
	}
	want := s.server.options
	check := func(user, password string) error {
		if user != want.User || password != want.Password {
			return smtp.ErrAuthFailed
		}
		s.user, s.mechanism = user, mechanism
		return nil
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	case "CRAM-MD5":
		return &cramServer{check: check, want: want}, nil
	case "XOAUTH2":
		return &bearerServer{check: check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// loginServer asks for two things in two questions, as draft-murchison-sasl-login has it.
type loginServer struct {
	check func(user, password string) error
	user  []byte
	asked bool
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil && !l.asked:
		return []byte("Username:"), false, nil
	case !l.asked:
		l.user, l.asked = response, true
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(string(l.user), string(response))
}

// cramServer is RFC 2195's: the password never travels.
type cramServer struct {
	check     func(user, password string) error
	want      Options
	challenge []byte
}

func (c *cramServer) Next(response []byte) ([]byte, bool, error) {
	if c.challenge == nil {
		c.challenge = fmt.Appendf(nil, "<%p@mail.test>", c)
		return c.challenge, false, nil
	}
	user, digest, _ := strings.Cut(string(response), " ")
	sum := hmac.New(md5.New, []byte(c.want.Password))
	sum.Write(c.challenge)
	if digest != hex.EncodeToString(sum.Sum(nil)) {
		return nil, true, smtp.ErrAuthFailed
	}
	return nil, true, c.check(user, c.want.Password)
}

// bearerServer is XOAUTH2: a refusal is a challenge with JSON first, which the client answers
// with nothing, and then 535.
type bearerServer struct {
	check  func(user, password string) error
	failed error
}

func (b *bearerServer) Next(response []byte) ([]byte, bool, error) {
	if b.failed != nil {
		return nil, true, b.failed
	}
	if response == nil {
		return nil, false, nil
	}
	user, found := bytes.CutPrefix(response, []byte("user="))
	user, rest, _ := bytes.Cut(user, []byte("\x01"))
	token, bearer := bytes.CutPrefix(rest, []byte("auth=Bearer "))
	if !found || !bearer {
		return nil, true, errors.New("no XOAUTH2")
	}
	if err := b.check(string(user), string(bytes.TrimRight(token, "\x01"))); err != nil {
		b.failed = err
		return []byte(`{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}`), false, nil
	}
	return nil, true, nil
}
