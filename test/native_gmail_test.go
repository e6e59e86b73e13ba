package test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/smtp/smtptest"
)

// me is the guide's reader.
const me = "youraddress@gmail.com"

// gmailNatively is the guide's jail.local, section 7, with a line of our own in the place of its script.
func gmailNatively(t *testing.T, line string) map[string]string {
	t.Helper()
	return map[string]string{"/etc/fail2ban/jail.local": restore(t, fenced(t, guide(t, "000"), "## 7. Example jail.local Configuration", "ini"),
		"%(action_mwl)s", "%(action_)s",
		"sendmail-gmail[name=SSH, dest=youraddress@gmail.com, sender=youraddress@gmail.com]", line)}
}

// keep writes a file that only its owner can read.
func (g *guided) keep(name, text string) {
	g.Helper()
	name = filepath.Join(g.dir, name)
	g.check(os.MkdirAll(filepath.Dir(name), 0o755))
	g.check(os.WriteFile(name, []byte(text), 0o600))
}

// opened waits for a letter of that subject, the n-th from 1, and shows it as its reader's program does.
func (g *guided) opened(in *letters, subject string, n int) (letter, *smtptest.Reading) {
	g.Helper()
	l := g.with(in, "[bantam] gate.example.org: "+subject, n)
	m, err := smtptest.Read(l.data)
	g.check(err)
	return l, m
}

// queue is what waits, once it holds n letters and each of them was tried.
func (g *guided) queue(n int) string {
	g.Helper()
	var out string
	g.until(fmt.Sprintf("%d letters wait", n), func() bool {
		var waiting []struct{ Tries int }
		out = g.does("notify", "queue", "--json")
		g.check(json.Unmarshal([]byte(out), &waiting))
		tried := 0
		for _, l := range waiting {
			tried += min(l.Tries, 1)
		}
		return len(waiting) == n && tried == n
	})
	return g.does("notify", "queue")
}

// key is that of the only letter that waits.
func (g *guided) key() string {
	g.Helper()
	var waiting []struct{ Key string }
	g.check(json.Unmarshal([]byte(g.does("notify", "queue", "--json")), &waiting))
	if len(waiting) != 1 {
		g.Fatalf("%d letters wait, not one", len(waiting))
	}
	return waiting[0].Key
}

// hides fails the test if any of some secrets can be seen: in the process list, the log, what
// commands say, and the database.
func (g *guided) hides(p *process, secrets ...string) {
	g.Helper()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
	g.check(err)
	places := map[string]string{
		"the process list": string(cmdline), "the log": g.text("/var/log/fail2ban.log"),
		"the database": g.text("/var/lib/fail2ban/fail2ban.sqlite3") + g.text("/var/lib/fail2ban/fail2ban.sqlite3-wal"),
	}
	for _, command := range []string{"status --json", "status sshd", "check", "check --json", "config show sshd", "notify --json", "notify", "notify queue --json", "reload"} {
		places["bantam "+command], _ = g.says(strings.Fields(command)...)
	}
	for place, text := range places {
		if text == "" {
			g.Errorf("%s is empty", place)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				g.Errorf("%s has the secret %q:\n%.2000q", place, secret, text)
			}
		}
	}
}

// The Gmail guide, sections 4, 5 and 7, in one line: no action file, no script, no MTA. The same mails as there
// and more: bans and unbans, jails that start and stop, WHOIS and the log lines. What was restored is not told again.
func TestGuideGmailNatively(t *testing.T) {
	const evil = "$(touch /var/evil) <script>alert(1)</script> \x1b[31m\u202e"
	const thief = "93.184.216.34"
	registry := "199.71.0.46" // of the test's own: nobody is asked about networks inside the machine
	files := gmailNatively(t, `gmail[to=`+me+`, from=`+me+`, password="file:/etc/fail2ban/gmail-password", on="ban unban start stop", digest=0, whois=yes]`)
	files["/etc/hosts"] = "127.0.0.1 localhost smtp.gmail.com\n127.0.1.1 gate.example.org gate\n" +
		registry + " whois.iana.org whois.arin.net whois.ripe.net whois.apnic.net whois.lacnic.net whois.afrinic.net\n"
	g := follow(t, world{whois: func(query string) string {
		if query == thief { // asked of IANA, which only knows who knows
			return "refer: whois.ripe.net\r\n"
		}
		return "inetnum: 93.184.216.0 - 93.184.216.255\r\nnetname: EXAMPLE-NET\r\norg-name: Example <b>B.V.</b>\r\ncountry: NL\r\nabuse-mailbox: abuse@example.net\r\nsource: RIPE\r\n"
	}}, files)
	g.keep("/etc/fail2ban/gmail-password", gmailPassword+"\n")
	outside, err := g.net.AddClient("registry", netip.MustParsePrefix(registry+"/24"))
	g.check(err)
	asked, err := outside.Listen("tcp", registry+":43")
	g.check(err)
	g.talkTo(asked, answerWHOIS(g.world.whois))
	client, err := g.net.AddClient("client", netip.MustParsePrefix(thief+"/24"))
	g.check(err)
	g.echo()
	connects := func() bool { return g.connects(client, netip.MustParseAddr(thief)) }

	if out, code := g.says("check"); code != 0 || strings.Contains(out, "warning") {
		t.Errorf("check ends with %d and says\n%s", code, out)
	} else {
		g.mustSay("check", out, "action iptables-multiport, by bantam itself: sshd", "sshd: told by gmail to ")
	}
	p := g.runs()
	_, started := g.opened(&g.gmail, "sshd started", 1)
	g.mustSay("the mail of the start", started.Text, "sshd started\n")

	if !connects() {
		t.Fatal("nobody is banned, and the client cannot connect")
	}
	g.log("var/log/auth.log", strings.Replace(failed(netip.MustParseAddr(thief)), "root", "invalid user "+evil, 1))
	g.attack(thief, 2)
	l, m := g.opened(&g.gmail, "sshd banned "+thief+" (NL)", 1)
	if !l.tls || l.user != me || l.from != me || strings.Join(l.to, " ") != me || m.Shape != "multipart/alternative(text/plain text/html)" {
		t.Errorf("the mail is %s from %s to %s, logged in as %q, with TLS %t", m.Shape, l.from, l.to, l.user, l.tls)
	}
	g.mustSay("the mail", m.Text, "  address        "+thief+"\n", "  jail           sshd\n", "  failures       3\n",
		"  registered     93.184.216.0/24, EXAMPLE-NET, Example <b>B.V.</b>, NL\n", "  complaints to  abuse@example.net\n", " (10 minutes)\n",
		`$(touch /var/evil) <script>alert(1)</script> \x1b[31m\u202e`, "Failed password for root from\n    "+thief+" port 4000 ssh2\n",
		"\n  bantam why "+thief+"\n  bantam unban "+thief+"\n", "\nWHOIS:\n\n  inetnum:", "Bantam on gate.example.org")
	g.mustSay("the mail as HTML", m.HTML, "bantam unban "+thief, "&lt;script&gt;", "Example &lt;b&gt;B.V.&lt;/b&gt;", "Failed password for root from "+thief+" port 4000 ssh2\n")
	if strings.Contains(m.HTML, "<script") || strings.ContainsAny(m.HTML+m.Text, "\x1b\u202e") {
		t.Errorf("what attackers write is more than text:\n%s", m.HTML)
	}
	g.until("who is banned is shut out", func() bool { return !connects() })
	g.mustSay("why", g.does("why", thief), "sshd", "Failed password for root from "+thief)

	g.does("unban", thief)
	_, m = g.opened(&g.gmail, "sshd unbanned "+thief+" (NL)", 1)
	g.mustSay("the mail of the unban", m.Text, ", by an operator\n", "bantam why "+thief)
	g.until("who was unbanned connects", connects)

	g.attack("192.0.2.9", 3)
	g.opened(&g.gmail, "sshd banned 192.0.2.9", 1)
	p.terminate()
	g.opened(&g.gmail, "sshd stopped", 1)
	p = g.runs()
	g.opened(&g.gmail, "sshd started", 2)
	if bans := g.bans(); len(bans) != 1 {
		t.Errorf("after a restart the bans are %v", bans)
	}
	g.mustSay("the test of the channel", g.does("notify", "test", "gmail"), "gmail has taken the message")
	_, m = g.opened(&g.gmail, "a test of this channel", 1)
	g.mustSay("the mail of the test", m.Text, "This channel works")
	p.terminate()
	g.opened(&g.gmail, "sshd stopped", 2)
	// Starts, stops, bans and an unban, and the test; the restored ban is none of them.
	if n := len(g.gmail.list()); n != 8 {
		t.Errorf("%d mails, not 8", n)
	}
	if g.text("/var/evil") != "" {
		t.Error("what a log says was run")
	}
}

// Section 8: the password is the service's credential, and nowhere to be seen. While Gmail refuses it, the letter waits and
// says why; once the file holds the right one, it goes out by itself.
func TestGuideGmailPasswordAsCredential(t *testing.T) {
	files := gmailNatively(t, `gmail[to=`+me+`, from=`+me+`, password="credential:gmail-password"]`)
	g := follow(t, world{}, files)
	const wrong = "zyxw vuts rqpo nmlk"
	g.keep("/run/credentials/bantam/gmail-password", wrong+"\n")
	if out, code := g.says("check"); code != 0 {
		t.Errorf("check ends with %d in a shell, where there is no credential:\n%s", code, out)
	}
	cmd := g.inside(program, "run")
	cmd.Env = append(cmd.Env, "CREDENTIALS_DIRECTORY=/run/credentials/bantam")
	p := g.startAs(cmd).ready()

	g.attack("192.0.2.7", 3)
	g.until("the ban stands although nobody can be told", func() bool { return len(g.bans()) == 1 })
	g.mustSay("the queue", g.queue(1), "gmail", "sshd banned 192.0.2.7", "refused with 535", "App Password", "https://myaccount.google.com/apppasswords")
	g.mustSay("notify", g.does("notify"), "1 letter", "refused with 535")
	out, code := g.says("notify", "test", "gmail")
	if code == 0 {
		t.Errorf("a test that is refused ends with 0")
	}
	g.mustSay("the test", out, "gmail does not deliver", "refused with 535")
	hidden := []string{wrong, strings.ReplaceAll(wrong, " ", ""), base64.StdEncoding.EncodeToString([]byte("\x00" + me + "\x00" + strings.ReplaceAll(wrong, " ", "")))}
	for _, secret := range hidden {
		if strings.Contains(out, secret) {
			t.Errorf("the test says the secret %q: %s", secret, out)
		}
	}
	g.hides(p, hidden...)

	g.keep("/run/credentials/bantam/gmail-password", gmailPassword+"\n")
	g.opened(&g.gmail, "sshd banned 192.0.2.7", 1)
	g.until("nothing waits", func() bool { return strings.TrimSpace(g.does("notify", "queue")) == "nothing waits" })
	g.hides(p, gmailPassword, strings.ReplaceAll(gmailPassword, " ", ""))
}

// Sections 9.1 and 9.2 with one channel for all jails. WordPress has no filter in Fail2Ban or here: the reader's own is two lines.
func TestGuideGmailMoreJailsNatively(t *testing.T) {
	page := guide(t, "000")
	files := gmailNatively(t, `gmail[to=`+me+`, from=`+me+`, password=env:GMAIL_PASSWORD, digest=0]`)
	files["/etc/fail2ban/jail.local"] += fenced(t, page, "### 9.1 NGINX Protection", "ini") + fenced(t, page, "### 9.2 WordPress Brute-Force", "ini")
	files["/etc/fail2ban/filter.d/wordpress.conf"] = "[Definition]\nfailregex = ^<HOST> .*\"POST /(?:\\S+/)?(?:wp-login|xmlrpc)\\.php\\S* [^\"]*\" (?:200|403)\n"
	files["/var/log/nginx/error.log"] = ""
	files["/var/www/blog/logs/access.log"] = ""
	g := follow(t, world{}, files)
	cmd := g.inside(program, "run")
	cmd.Env = append(cmd.Env, "GMAIL_PASSWORD="+gmailPassword)
	p := g.startAs(cmd).ready()
	g.mustSay("notify", g.does("notify"), "sshd nginx-http-auth wordpress")
	g.log("var/log/nginx/error.log", strings.Repeat(time.Now().Format("2006/01/02 15:04:05")+
		` [error] 2865#2865: *66647 user "admin" was not found in "/etc/nginx/.htpasswd", client: 192.0.2.9, server: www.example.org, request: "GET / HTTP/1.1", host: "www.example.org"`+"\n", 3))
	_, m := g.opened(&g.gmail, "nginx-http-auth banned 192.0.2.9", 1)
	if strings.Count(m.HTML, "client: 192.0.2.9") != 3 {
		t.Errorf("the mail about nginx says\n%s", m.Text)
	}
	g.log("var/www/blog/logs/access.log", strings.Repeat("192.0.2.8 - - ["+time.Now().Format("02/Jan/2006:15:04:05 -0700")+"] \"POST /wp-login.php HTTP/1.1\" 200 4523 \"-\" \"curl\"\n", 3))
	_, m = g.opened(&g.gmail, "wordpress banned 192.0.2.8", 1)
	if strings.Count(m.HTML, "wp-login.php") != 3 {
		t.Errorf("the mail about WordPress says\n%s", m.Text)
	}
	g.hides(p, gmailPassword, strings.ReplaceAll(gmailPassword, " ", ""))
}

// google answers as Google's token and send calls do; codes and refresh tokens that are good are those given.
func google(good map[string]bool) func(post) (int, string) {
	return func(r post) (int, string) {
		if r.host == "gmail.googleapis.com" {
			if !strings.HasPrefix(r.header.Get("Authorization"), "Bearer ya29.") {
				return http.StatusUnauthorized, `{"error":{"code":401,"message":"Request had invalid authentication credentials.","errors":[{"reason":"authError"}]}}`
			}
			return http.StatusOK, `{"id":"1","threadId":"1","labelIds":["SENT"]}`
		}
		form, err := url.ParseQuery(string(r.body))
		key := form.Get("code") + form.Get("refresh_token")
		if err != nil || !good[key] || form.Get("code") != "" && form.Get("code_verifier") == "" {
			return http.StatusBadRequest, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`
		}
		// It ends at once, so that each mail needs a refresh, as an hour later.
		return http.StatusOK, fmt.Sprintf(`{"access_token":"ya29.%s","refresh_token":"1//%s","expires_in":1,"token_type":"Bearer","scope":"https://www.googleapis.com/auth/gmail.send"}`, key, strings.TrimPrefix(key, "1//"))
	}
}

// agree starts the login, and hands the address to which a person's browser is sent to the way it
// comes back. It returns what the login says.
func (g *guided) agree(code string, back func(address string, input io.Writer)) string {
	g.Helper()
	cmd := g.inside(program, "notify", "login", "gmail", "--client", "/etc/fail2ban/client.json")
	input, err := cmd.StdinPipe()
	g.check(err)
	output, err := cmd.StdoutPipe()
	g.check(err)
	cmd.Stderr = cmd.Stdout
	g.check(cmd.Start())
	var said strings.Builder
	var address string
	buffer := make([]byte, 4096)
	for !strings.Contains(said.String(), "paste it here:\n") {
		n, err := output.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	for line := range strings.Lines(said.String()) {
		if strings.HasPrefix(line, "https://accounts.google.com/") {
			address = strings.TrimSpace(line)
		}
	}
	asked, err := url.Parse(address)
	g.check(err)
	query := asked.Query()
	if query.Get("scope") != "https://www.googleapis.com/auth/gmail.send" || query.Get("code_challenge_method") != "S256" || query.Get("access_type") != "offline" {
		g.Errorf("Google is asked for %v:\n%s", query, said.String())
	}
	back(query.Get("redirect_uri")+"?"+url.Values{"state": {query.Get("state")}, "code": {code}, "scope": {query.Get("scope")}}.Encode(), input)
	rest, err := io.ReadAll(output)
	g.check(err)
	if err := cmd.Wait(); err != nil {
		g.Errorf("the login ends with %v", err)
	}
	return said.String() + string(rest)
}

// Section 6: the API in the place of the password. The login is done once, by a browser on the machine or by pasting;
// when the token is revoked, the letter waits and says so, and a new login sets it free.
func TestGuideGmailAPINatively(t *testing.T) {
	files := gmailNatively(t, `gmail-api[to=`+me+`, from=`+me+`, client=/etc/fail2ban/client.json, digest=0]`)
	files["/etc/fail2ban/client.json"] = `{"installed":{"client_id":"1-x.apps.googleusercontent.com","client_secret":"GOCSPX-hidden",` +
		`"auth_uri":"https://accounts.google.com/o/oauth2/auth","token_uri":"https://oauth2.googleapis.com/token","redirect_uris":["http://localhost"]}}`
	g := follow(t, world{}, files)
	g.web.answers(google(map[string]bool{"4/first-code": true, "1//4/first-code": true}))

	said := g.agree("4/first-code", func(address string, _ io.Writer) {
		browser := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			return g.net.Dial(ctx, network, netip.Addr{}, netip.MustParseAddrPort(to))
		}}, Timeout: patience}
		answer, err := browser.Get(address)
		g.check(err)
		page, err := io.ReadAll(answer.Body)
		g.check(err)
		g.check(answer.Body.Close())
		g.mustSay("the browser", string(page), "Thank you")
	})
	g.mustSay("the login", said, "Bantam may send mail now", "gmail-api[")
	const file = "/var/lib/bantam/gmail-token.json"
	if info, err := os.Stat(filepath.Join(g.dir, file)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v %v", info, err)
	}
	p := g.runs()
	sent := func() (all []*smtptest.Reading) {
		for _, r := range g.web.list() {
			if r.host != "gmail.googleapis.com" {
				continue
			}
			var message struct{ Raw string }
			g.check(json.Unmarshal(r.body, &message))
			raw, err := base64.URLEncoding.DecodeString(message.Raw)
			g.check(err)
			m, err := smtptest.Read(raw)
			g.check(err)
			all = append(all, m)
		}
		return all
	}
	g.attack("192.0.2.7", 3)
	g.until("Gmail is asked to send", func() bool { return len(sent()) == 1 })
	if m := sent()[0]; m.Subject != "[bantam] gate.example.org: sshd banned 192.0.2.7" || !strings.Contains(m.Header.Get("To"), me) {
		t.Errorf("the mail is %q to %s", m.Subject, m.Header.Get("To"))
	} else {
		g.mustSay("the mail", m.Text, "bantam why 192.0.2.7\n  bantam unban 192.0.2.7\n", "Failed password for root from 192.0.2.7")
	}

	g.web.answers(google(map[string]bool{"4/second-code": true, "1//4/second-code": true})) // Google has taken the first back
	out, code := g.says("notify", "test", "gmail-api")
	if code == 0 {
		t.Error("a test with a revoked token ends with 0")
	}
	g.mustSay("the test", out, "revoked", "bantam notify login gmail")
	g.attack("192.0.2.8", 3)
	g.mustSay("the queue", g.queue(1), "gmail-api", "revoked", "run: bantam notify login gmail")
	g.hides(p, "GOCSPX-hidden", "ya29.", "first-code")

	said = g.agree("4/second-code", func(address string, input io.Writer) {
		_, err := io.WriteString(input, "what?\n"+address+"\n")
		g.check(err)
	})
	g.mustSay("the login", said, "this is not the answer to this login", "Bantam may send mail now")
	g.mustSay("the retry", g.does("notify", "queue", "--retry", g.key()), "tried again")
	g.until("what has waited is sent", func() bool { return len(sent()) == 2 })
	if m := sent()[1]; m.Subject != "[bantam] gate.example.org: sshd banned 192.0.2.8" {
		t.Errorf("what has waited is %q", m.Subject)
	}
	g.hides(p, "GOCSPX-hidden", "ya29.", "second-code")
}

// The library's own %(action_mw)s and %(action_mwl)s, for who has no jail.conf: through the machine's sendmail.
func TestLibraryActionsThroughSendmail(t *testing.T) {
	for name, has := range map[string]bool{"action_mw": false, "action_mwl": true} {
		t.Run(name, func(t *testing.T) {
			g := follow(t, world{}, map[string]string{
				"/etc/bantam/jail.local": "[DEFAULT]\naction = %(" + name + ")s\ndestemail = admin@example.org\nsender = bantam@gate.example.org\nbackend = polling\n" +
					"[sshd]\nenabled = true\nmaxretry = 3\nlogpath = /var/log/auth.log\n",
			})
			if out, code := g.says("check"); code != 0 || strings.Contains(out, "warning") {
				t.Errorf("check ends with %d and says\n%s", code, out)
			} else {
				g.mustSay("check", out, "sshd: told by sendmail-whois", "/etc/bantam: 1 jail")
			}
			g.runs()
			g.attack("192.0.2.7", 3)
			l, m := g.opened(&g.local, "sshd banned 192.0.2.7", 1)
			if l.from != "bantam@gate.example.org" || strings.Join(l.to, " ") != "admin@example.org" {
				t.Errorf("the mail is from %s to %s", l.from, l.to)
			}
			g.mustSay("the mail", m.Text, "bantam unban 192.0.2.7")
			if got := strings.Contains(m.Text, "Failed password for root"); got != has {
				t.Errorf("the mail has log lines: %t\n%s", got, m.Text)
			}
		})
	}
}
