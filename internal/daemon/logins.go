package daemon

import (
	"bytes"
	"regexp"
	"time"

	"bantam"
	"bantam/internal/jail"
)

// A login is a successful one, as a log tells it.
type login struct {
	addr bantam.ID
	user string // attacker's text
	at   time.Time
	ssh  bool // by sshd
}

// sshLogin is how sshd tells of logins, by which people administrate a machine.
var sshLogin = &logins[0]

// A loginForm is how one service tells of logins.
type loginForm struct {
	word []byte
	expr *regexp.Regexp
	addr int // which of its two groups is the address; the other one is the user
}

// logins are how services tell of successful logins, each with a word that a line must
// hold to be worth the expression. The expressions go from the line's start over the tag
// of the service that wrote it, so that nobody can make one of a name he failed with.
//
//   - OpenSSH, auth_log in auth.c: "Accepted METHOD for USER from ADDR port N ssh2".
//   - Dovecot, client_get_log_str in login-common/client-common.c: "imap-login: Login:
//     user=<U>, method=M, rip=ADDR, …"; since 2.4 "Logged in:".
//   - Postfix, smtpd_sasl_glue and smtpd.c: "ID: client=NAME[ADDR], sasl_method=M,
//     sasl_username=U".
var logins = [...]loginForm{
	{
		[]byte("Accepted "), // begins with what is rare, which makes the search fast
		regexp.MustCompile(loginHead + `(?:\S+ )?sshd(?:-session)?\[\d+\]: Accepted [\w/-]+ for (\S+) from ([0-9A-Fa-f.:]+) port \d+`), 2,
	},
	{
		[]byte("-login: "),
		regexp.MustCompile(loginHead + `(?:\S+ dovecot(?:\[\d+\])?: )?(?:imap|pop3|managesieve|submission)-login: (?:Info: )?(?:Login|Logged in): user=<([^<>]*)>, (?:[^<>]*, )?rip=([0-9A-Fa-f.:]+)`), 2,
	},
	{
		[]byte(", sasl_username="),
		regexp.MustCompile(loginHead + `(?:\S+ )?postfix[\w./-]*/smtpd\[\d+\]: [0-9A-Za-z]+: client=[^\s\[\]]*\[([0-9A-Fa-f.:]+)\], sasl_method=[^,]*, sasl_username=(\S+)`), 1,
	},
}

// loginHead is a line's date, which a journal's line has none of.
const loginHead = `^(?:(?:[A-Z][a-z]{2} [ \d]\d [\d:]{8}|\d{4}-\d\d\S*(?: [\d:.,]+)?) )?`

// maxUser is how much of a name is kept.
const maxUser = 64

// loginOf is the successful login that a line tells of, nil for nearly all lines.
func loginOf(text []byte) *login {
	for i := range logins {
		if l := logins[i].find(text); l != nil {
			l.ssh = &logins[i] == sshLogin
			return l
		}
	}
	return nil
}

// find is the login that a line tells of in this form, nil if it tells of none.
func (f *loginForm) find(text []byte) *login {
	if !bytes.Contains(text, f.word) {
		return nil
	}
	m := f.expr.FindSubmatch(text)
	if m == nil {
		return nil
	}
	id, err := bantam.ParsePrefix(string(m[f.addr]))
	if err != nil {
		return nil
	}
	user := m[3-f.addr]
	return &login{addr: id, user: string(user[:min(len(user), maxUser)])}
}

// administrator is a login as the jails know it; ok is false if it was not by sshd.
func (l *login) administrator() (n jail.Login, ok bool) {
	p, is := l.addr.Prefix()
	return jail.Login{Addr: p.Addr(), User: l.user, At: l.at}, is && p.IsSingleIP() && l.ssh
}
