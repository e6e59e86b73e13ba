package test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gmailGuide is what the guide has its reader make, sections 4.2, 5 and 7, at its places.
func gmailGuide(t *testing.T) map[string]string {
	t.Helper()
	page := guide(t, "000")
	return map[string]string{
		"/etc/fail2ban/action.d/sendmail-gmail.conf": fenced(t, page, "### 4.2 Fail2Ban Action File", "ini"),
		// The reader puts in what the guide has told him to keep.
		"/etc/fail2ban/send_gmail.py": restore(t, fenced(t, page, "## 5. Integrated Python Script (send_gmail.py)", "python"),
			"<YOUR_GMAIL_APP_PASSWORD>", gmailPassword),
		"/etc/fail2ban/jail.local": fenced(t, page, "## 7. Example jail.local Configuration", "ini"),
	}
}

// The Gmail guide as it is written: its action file, its script and its jail.local, on Debian's
// package. Each ban and unban is a mail through Gmail's SMTP and, by the package's own action, one with WHOIS and
// log lines through sendmail, in which what attackers write stays text.
func TestGuideGmailAsWritten(t *testing.T) { byBoth(t, guideGmail) }

func guideGmail(t *testing.T, peer bool) {
	const evil = "$(touch /var/evil) `touch /var/evil` \"; touch /var/evil; '"
	g := follow(t, world{whois: func(query string) string {
		return "NetName: TEST-NET-1\r\nComment: " + evil + "\r\n~!touch /var/evil\r\nQuery: " + query + "\r\n"
	}}, gmailGuide(t))
	g.peer = peer
	client, err := g.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
	g.check(err)
	g.echo()
	connects := func(from string) bool { return g.connects(client, netip.MustParseAddr(from)) }

	out, code := g.says("check")
	if code != 0 {
		t.Errorf("check ends with %d", code)
	}
	g.mustSay("check", out, "action iptables-multiport, by bantam itself: sshd", "action sendmail-whois-lines, by shell: sshd",
		"action sendmail-gmail-SSH, by shell: sshd", "/etc/fail2ban: 1 jail, nothing that keeps one from running")

	p := g.runs()
	start := g.with(&g.local, "[Fail2Ban] sshd: started on gate.example.org", 1)
	if start.from != "root@gate.example.org" || strings.Join(start.to, " ") != "root@localhost" {
		t.Errorf("the mail of the start is from %s to %s", start.from, start.to)
	}

	if !connects("192.0.2.7") {
		t.Fatal("nobody is banned, and the client cannot connect")
	}
	before := time.Now().Truncate(time.Second)
	g.log("var/log/auth.log", strings.Replace(failed(netip.MustParseAddr("192.0.2.7")), "root", "invalid user "+evil, 1))
	g.attack("192.0.2.7", 2)
	gmail := g.with(&g.gmail, "Fail2Ban: SSH banned 192.0.2.7", 1) // the guide's action has name=SSH
	const me = "youraddress@gmail.com"
	if !gmail.tls || gmail.user != me || gmail.from != me || strings.Join(gmail.to, " ") != me {
		t.Errorf("the mail is from %s to %s, logged in as %q, with TLS %t", gmail.from, gmail.to, gmail.user, gmail.tls)
	}
	_, _, text := gmail.read(t)
	head, date, _ := strings.Cut(text, "\nDate: ")
	if head != "Host: gate.example.org\nJail: SSH\nIP: 192.0.2.7" {
		t.Errorf("the mail says\n%s", text)
	}
	at, err := time.ParseInLocation(time.DateTime, strings.TrimSpace(date), time.Local)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("the mail is of %s: %v", date, err)
	}

	long := g.with(&g.local, "[Fail2Ban] sshd: banned 192.0.2.7 from gate.example.org", 1)
	header, _, text := long.read(t)
	g.mustSay("the mail with lines", text, "The IP 192.0.2.7 has just been banned by Fail2Ban after\n3 attempts against sshd.",
		"NetName: TEST-NET-1\nComment: "+evil+"\n~!touch /var/evil\nQuery: ", "Lines containing failures of 192.0.2.7",
		"Failed password for invalid user "+evil+" from 192.0.2.7 port 4000 ssh2\n")
	if n := strings.Count(text, "Failed password for root from 192.0.2.7 port 4000 ssh2"); n != 2 {
		t.Errorf("the mail with lines has %d of them:\n%s", n, text)
	}
	if sent, err := header.Date(); err != nil || sent.Before(before) {
		t.Errorf("the mail with lines is of %s: %v", header.Get("Date"), err)
	}
	g.until("who is banned is shut out", func() bool { return !connects("192.0.2.7") })
	g.until("its neighbour is not", func() bool { return connects("192.0.2.8") })

	g.unban("192.0.2.7")
	_, _, text = g.with(&g.gmail, "Fail2Ban: SSH unbanned 192.0.2.7", 1).read(t)
	g.mustSay("the mail of the unban", text, "Host: gate.example.org\nJail: SSH\nIP: 192.0.2.7\nDate: ")
	g.until("who was unbanned connects", func() bool { return connects("192.0.2.7") })

	// What is still banned at the stop is told, too, for the shell's bans end with the daemon.
	g.attack("192.0.2.9", 3)
	g.with(&g.gmail, "Fail2Ban: SSH banned 192.0.2.9", 1)
	p.terminate()
	g.with(&g.gmail, "Fail2Ban: SSH unbanned 192.0.2.9", 1)
	g.with(&g.local, "[Fail2Ban] sshd: stopped on gate.example.org", 1)
	if _, err := os.Stat(filepath.Join(g.dir, "var/evil")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a log or WHOIS says was run: %v", err)
	}
	if n := len(g.gmail.list()); n != 4 {
		t.Errorf("%d mails went to Gmail, not one per ban and unban", n)
	}
	if n := len(g.local.list()); n != 4 {
		t.Errorf("%d mails went through sendmail, not a start, two bans and a stop", n)
	}

	// After a restart the guide's action tells a restored ban again, for it does not say norestored;
	// the package's does.
	p = g.runs()
	g.with(&g.gmail, "Fail2Ban: SSH banned 192.0.2.9", 2)
	g.until("who is still banned is shut out", func() bool { return !connects("192.0.2.9") })
	p.terminate()
	g.with(&g.gmail, "Fail2Ban: SSH unbanned 192.0.2.9", 2)
	if n := len(g.local.list()); n != 6 {
		t.Errorf("%d mails went through sendmail, not a start and a stop more", n)
	}
}

// Sections 9.1 and 9.2: nginx is guarded, and a jail whose filter Fail2Ban does not have is set aside
// with a hint, while everything else runs.
func TestGuideGmailMoreJailsAsWritten(t *testing.T) {
	files := gmailGuide(t)
	page := guide(t, "000")
	files["/etc/fail2ban/jail.local"] += fenced(t, page, "### 9.1 NGINX Protection", "ini") + fenced(t, page, "### 9.2 WordPress Brute-Force", "ini")
	files["/var/log/nginx/error.log"] = ""
	files["/var/www/blog/logs/access.log"] = ""
	g := follow(t, world{}, files)

	out, code := g.says("check")
	if code != 1 {
		t.Errorf("check ends with %d", code)
	}
	g.mustSay("check", out, "jail.local:22: filter: there is no filter \"wordpress\"\n  hint: put it into filter.d/wordpress.conf\n",
		"/etc/fail2ban: 3 jails, 1 error")

	g.refused()
	g.runs()
	g.mustSay("status", g.does("status"), "wordpress is set aside: jail.local:22: filter: there is no filter")
	line := time.Now().Format("2006/01/02 15:04:05") +
		` [error] 2865#2865: *66647 user "admin" was not found in "/etc/nginx/.htpasswd", client: 192.0.2.9, server: www.example.org, request: "GET / HTTP/1.1", host: "www.example.org"` + "\n"
	g.log("var/log/nginx/error.log", strings.Repeat(line, 3))
	g.with(&g.gmail, "Fail2Ban: SSH banned 192.0.2.9", 1)
	_, _, text := g.with(&g.local, "[Fail2Ban] nginx-http-auth: banned 192.0.2.9 from gate.example.org", 1).read(t)
	if strings.Count(text, "client: 192.0.2.9") != 3 {
		t.Errorf("the mail with lines says\n%s", text)
	}
	g.attack("192.0.2.7", 3)
	g.with(&g.gmail, "Fail2Ban: SSH banned 192.0.2.7", 1)
}

// telegramGuide is section 9.3 in a jail of its own, beside another one. The page names no file; with is
// what follows its name in the jail.
func telegramGuide(t *testing.T, with string, edit func(file string) string) map[string]string {
	t.Helper()
	return map[string]string{
		"/etc/fail2ban/action.d/telegram-guide.conf": edit(fenced(t, guide(t, "000"), "### 9.3 Telegram Notification", "ini")),
		"/etc/fail2ban/jail.local": "[sshd]\nlogpath = /var/log/auth.log\nbackend = polling\nmaxretry = 3\naction = telegram-guide" + with + "\n" +
			"[other]\nenabled = true\nfilter = sshd\nlogpath = /var/log/other.log\nmaxretry = 3\n",
		"/var/log/other.log": "",
	}
}

// doubled writes percent signs as the language has them.
func doubled(file string) string { return strings.ReplaceAll(file, "%", "%%") }

// Section 9.3: the action of the guide has bare percent signs. Fail2Ban refuses all jails for it; we set this
// one aside and say how they are written.
func TestGuideTelegramBarePercentSigns(t *testing.T) {
	g := follow(t, world{}, telegramGuide(t, "", func(file string) string { return file }))
	out, code := g.says("check")
	if code != 1 {
		t.Errorf("check ends with %d", code)
	}
	g.mustSay("check", out, "action.d/telegram-guide.conf:2: actionban: ", "is no reference", "hint: write %% for a percent sign", "2 jails, 1 error")
	g.refused()
	g.runs()
	g.mustSay("status", g.does("status"), "sshd is set aside: action.d/telegram-guide.conf:2: actionban: ")
	g.log("var/log/other.log", strings.Repeat(failed(netip.MustParseAddr("192.0.2.9")), 3))
	g.until("the other jail bans", func() bool { return len(g.bans()) == 1 })
}

// Written so, Telegram receives what Fail2Ban's shell sends it: \n stays two characters, for a shell does not
// read it in quotes, and $(date …) is the shell's time.
func TestGuideTelegramAsWritten(t *testing.T) {
	for _, tt := range []struct {
		name, with string
		edit       func(file string) string
	}{
		{"its placeholders replaced in the file", "", func(file string) string {
			return strings.NewReplacer("<BOT_TOKEN>", "123:abc", "<CHAT_ID>", "-42").Replace(doubled(file))
		}},
		{"its placeholders given as parameters", `[BOT_TOKEN="123:abc", CHAT_ID=-42]`, doubled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			byBoth(t, func(t *testing.T, peer bool) {
				g := follow(t, world{}, telegramGuide(t, tt.with, tt.edit))
				g.peer = peer
				g.mustSay("check", g.does("check"), "telegram-guide, by shell: sshd", "2 jails, nothing that keeps one from running")
				g.runs()
				before := time.Now().Truncate(time.Second)
				g.attack("192.0.2.7", 3)
				g.until("Telegram is told", func() bool { return len(g.web.list()) == 1 })
				got := g.web.list()[0]
				form, err := url.ParseQuery(string(got.body))
				if err != nil || got.method != "POST" || got.host != "api.telegram.org" || got.path != "/bot123:abc/sendMessage" || form.Get("chat_id") != "-42" {
					t.Errorf("Telegram receives %s %s%s %q: %v", got.method, got.host, got.path, got.body, err)
				}
				head, date, _ := strings.Cut(form.Get("text"), `\nTime: `)
				if head != `⚠️ Fail2Ban Alert\nJail: sshd\nIP: 192.0.2.7\nHost: gate.example.org` {
					t.Errorf("Telegram receives the text %q", form.Get("text"))
				}
				at, err := time.ParseInLocation(time.DateTime, date, time.Local)
				if err != nil || at.Before(before) || at.After(time.Now()) {
					t.Errorf("Telegram is told the time %q: %v", date, err)
				}
			})
		})
	}
}

// Who leaves the placeholders in gets a shell that looks for a file BOT_TOKEN. The ban stands, and the
// log says what failed.
func TestGuideTelegramPlaceholdersLeftIn(t *testing.T) {
	byBoth(t, func(t *testing.T, peer bool) {
		g := follow(t, world{}, telegramGuide(t, "", doubled))
		g.peer = peer
		g.runs()
		g.attack("192.0.2.7", 3)
		g.until("the log says that the action failed", func() bool {
			return strings.Contains(g.text("/var/log/fail2ban.log"), "Failed to execute ban jail 'sshd' action 'telegram-guide'")
		})
		g.mustSay("the log", g.text("/var/log/fail2ban.log"), "[sshd] Ban 192.0.2.7\n", "BOT_TOKEN: No such file")
		if n := len(g.web.list()); n != 0 {
			t.Errorf("%d messages are sent", n)
		}
		if peer {
			return
		}
		if bans := g.bans(); len(bans) != 1 {
			t.Errorf("the bans are %v", bans)
		}
		g.mustSay("check", g.does("check"), "warning: action.d/telegram-guide.conf:2: actionban: nothing knows the tag <BOT_TOKEN>", "conf:3: actionban: nothing knows the tag <CHAT_ID>",
			`hint: give it a value, as a parameter: telegram-guide[CHAT_ID="…"]`)
	})
}

// googleModules stand in for Google's, which Debian does not package: as those do, they read a token's file
// and make one HTTPS request of a message.
var googleModules = map[string]string{
	"google/oauth2/credentials.py": `import json

class Credentials:
    @classmethod
    def from_authorized_user_file(cls, name, scopes):
        self = cls()
        with open(name) as f:
            self.token = json.load(f)["token"]
        self.scopes = scopes
        return self
`,
	"googleapiclient/discovery.py": `import json, urllib.request

class Request:
    def __init__(self, *path, credentials):
        self.path, self.credentials = path, credentials

    def __getattr__(self, name):
        return lambda **args: Request(*self.path, (name, args), credentials=self.credentials)

    def execute(self):
        (_, _), (_, _), (name, args) = self.path
        assert name == "send" and self.credentials.scopes == ["https://www.googleapis.com/auth/gmail.send"]
        urllib.request.urlopen(urllib.request.Request(
            "https://gmail.googleapis.com/gmail/v1/users/" + args["userId"] + "/messages/send",
            json.dumps(args["body"]).encode(),
            {"Authorization": "Bearer " + self.credentials.token, "Content-Type": "application/json"})).read()

def build(service, version, credentials):
    assert (service, version) == ("gmail", "v1")
    return Request(credentials=credentials)
`,
}

// Section 6: the guide's function in the place of its script's SMTP part. The page leaves the call to its reader,
// and a token.json without a folder, which a service would look for in its working directory.
func TestGuideGmailAPIAsWritten(t *testing.T) {
	page := guide(t, "000")
	files := gmailGuide(t)
	for name, text := range googleModules {
		files["/usr/lib/python3/dist-packages/"+name] = text
	}
	const script = "/etc/fail2ban/send_gmail.py"
	told, _, _ := strings.Cut(files[script], "sender_email =") // what is said, from the arguments
	files[script] = told + restore(t, fenced(t, page, "## 6. Gmail API (OAuth2) – Optional Method", "python"), "'token.json'", "'/etc/fail2ban/token.json'") +
		"\nsend_gmail_message(subject, body, 'youraddress@gmail.com')\n"
	files["/etc/fail2ban/token.json"] = `{"token": "ya29.test"}`
	byBoth(t, func(t *testing.T, peer bool) {
		g := follow(t, world{}, files)
		g.peer = peer
		g.runs()
		g.attack("192.0.2.7", 3)
		g.until("Gmail is asked to send", func() bool { return len(g.web.list()) == 1 })
		got := g.web.list()[0]
		if got.method != "POST" || got.host != "gmail.googleapis.com" || got.path != "/gmail/v1/users/me/messages/send" || got.header.Get("Authorization") != "Bearer ya29.test" {
			t.Errorf("Gmail receives %s %s%s %v", got.method, got.host, got.path, got.header)
		}
		var message struct{ Raw string }
		g.check(json.Unmarshal(got.body, &message))
		raw, err := base64.URLEncoding.DecodeString(message.Raw)
		g.check(err)
		header, subject, text := letter{data: raw}.read(t)
		if header.Get("To") != "youraddress@gmail.com" || subject != "Fail2Ban: SSH banned 192.0.2.7" {
			t.Errorf("the mail is %q to %s", subject, header.Get("To"))
		}
		g.mustSay("the mail", text, "Host: gate.example.org\nJail: SSH\nIP: 192.0.2.7\nDate: ")
	})
}
