package test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/internal/smtp/smtptest"
)

// me is the guide's reader.
const me = "youraddress@gmail.com"

// gmailNatively is the guide's jail.local, section 7, with one line in the place of its script: our own action,
// with is what follows its name.
func gmailNatively(t *testing.T, line string) string {
	t.Helper()
	return restore(t, fenced(t, guide(t, "000"), "## 7. Example jail.local Configuration", "ini"),
		"%(action_mwl)s", "%(action_)s",
		"sendmail-gmail[name=SSH, dest=youraddress@gmail.com, sender=youraddress@gmail.com]", line)
}

// keep writes a file that only its owner can read.
func (g *guided) keep(name, text string) {
	g.Helper()
	name = filepath.Join(g.dir, name)
	g.check(os.MkdirAll(filepath.Dir(name), 0o755))
	g.check(os.WriteFile(name, []byte(text), 0o600))
}

// opened is a letter as its reader's program shows it.
func (g *guided) opened(l letter) *smtptest.Reading {
	g.Helper()
	m, err := smtptest.Read(l.data)
	g.check(err)
	return m
}

func TestGuideGmailNatively(t *testing.T) {
	const evil = "$(touch /var/evil) <script>alert(1)</script> \x1b[31m"
	const thief = "93.184.216.34"
	g := follow(t, world{whois: func(query string) string {
		return "inetnum: 93.184.216.0 - 93.184.216.255\r\nnetname: EXAMPLE-NET\r\norganisation: Example Hosting <b>B.V.</b>\r\ncountry: NL\r\nabuse-mailbox: abuse@example.net\r\nsource: RIPE\r\n"
	}}, map[string]string{"/etc/fail2ban/fail2ban.local": "[Definition]\nloglevel = DEBUG\n", "/etc/fail2ban/jail.local": gmailNatively(t,
		`gmail[to=`+me+`, from=`+me+`, password="file:/etc/fail2ban/gmail-password", on="ban unban start stop", digest=0, whois=yes]`)})
	g.keep("/etc/fail2ban/gmail-password", gmailPassword+"\n")
	out, _ := g.says("check")
	t.Log(out)
	p := g.runs()
	g.log("var/log/auth.log", strings.Replace(failed(netip.MustParseAddr(thief)), "root", "invalid user "+evil, 1))
	g.attack(thief, 2)
	g.until("two mails", func() bool { return len(g.gmail.list()) == 2 })
	g.does("unban", thief)
	g.until("three mails", func() bool { return len(g.gmail.list()) == 3 })
	p.terminate()
	for _, l := range g.gmail.list() {
		m := g.opened(l)
		t.Log(l.from, l.to, l.user, l.tls, m.Header, m.Subject, "\n", m.Text, "\n", m.HTML)
	}
	t.Log(g.text("/var/log/fail2ban.log"))
}
