package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// What the chats give out, in their own shapes; all of it is secret.
const (
	telegramToken = "123456789:AAFabcdefghijklmnopqrstuvwxyz0123456"
	discordURL    = "https://discord.com/api/webhooks/1234567890/AbCdEfGhIjKlMnOpQrStUvWxYz"
	slackURL      = "https://hooks.slack.com/services/T0000/B0000/abcdefghijklmnopqrstuvwx"
	hookURL       = "https://alerts.example.org/in/qwertzuiopasdfghjkl"
	hookKey       = "correct horse battery staple"
)

// chats answers as each chat's server does when it takes a message.
func chats(r post) (int, string) {
	switch r.host {
	case "discord.com":
		return http.StatusOK, `{"id":"1290000000000000000","type":0}`
	case "hooks.slack.com":
		return http.StatusOK, "ok"
	case "ntfy.sh":
		return http.StatusOK, `{"id":"hwQ2YpKdmg","time":1795295690,"event":"message"}`
	case "api.telegram.org":
		return http.StatusOK, `{"ok":true,"result":{"message_id":1,"chat":{"id":-42},"date":1795295690}}`
	}
	return http.StatusNoContent, ""
}

// chatting is a machine whose jail tells in the ways given, beside the firewall, and where what the chats
// have given out is in files of root's.
func chatting(t *testing.T, actions ...string) *guided {
	t.Helper()
	g := follow(t, world{}, map[string]string{"/etc/fail2ban/jail.local": chatJail(actions...)})
	g.web.answers(chats)
	for name, text := range map[string]string{
		"telegram": telegramToken, "discord": discordURL, "slack": slackURL, "hook": hookURL, "hook-key": hookKey,
	} {
		g.keep("/etc/fail2ban/secrets/"+name, text+"\n")
	}
	return g
}

func chatJail(actions ...string) string {
	return "[sshd]\nlogpath = /var/log/auth.log\nbackend = polling\nmaxretry = 3\naction = %(action_)s\n    " + strings.Join(actions, "\n    ") + "\n"
}

const telegramLine = `telegram[token="file:/etc/fail2ban/secrets/telegram", chat=-42, digest=0]`

// to waits until a host was sent n messages and returns the last one.
func (g *guided) to(host string, n int) post {
	g.Helper()
	var all []post
	g.until(host+" is told", func() bool {
		all = nil
		for _, r := range g.web.list() {
			if r.host == host {
				all = append(all, r)
			}
		}
		return len(all) >= n
	})
	if len(all) > n {
		g.Errorf("%s is told %d times, not %d", host, len(all), n)
	}
	return all[len(all)-1]
}

// said is a field of what a message sends.
func (g *guided) said(r post, field string) string {
	g.Helper()
	var fields map[string]any
	if err := json.Unmarshal(r.body, &fields); err != nil {
		g.Fatalf("%s receives %q: %v", r.host, r.body, err)
	}
	text, _ := fields[field].(string)
	return text
}

// Section 9.3 in one line, and the chats that it has none for: jail, address, machine, lines and both commands arrive as
// text, whatever attackers write, and nobody is mentioned.
func TestGuideTelegramNatively(t *testing.T) {
	const evil = "<b>x</b> @everyone <!channel> ``` `id` $(id) _*[a](http://evil.example)"
	g := chatting(t, telegramLine, `discord[url="file:/etc/fail2ban/secrets/discord"]`, `slack[url="file:/etc/fail2ban/secrets/slack"]`,
		`ntfy[topic=gate-d41d8cd98f]`, `webhook[url="file:/etc/fail2ban/secrets/hook", key="file:/etc/fail2ban/secrets/hook-key"]`)
	if out, code := g.says("check"); code != 0 || strings.Contains(out, "warning") {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	p := g.runs()
	g.log("var/log/auth.log", strings.Replace(failed(netip.MustParseAddr("192.0.2.7")), "root", "invalid user "+evil, 1))
	g.attack("192.0.2.7", 2)
	for _, tt := range []struct{ host, path, field, evil string }{
		{"api.telegram.org", "/bot" + telegramToken + "/sendMessage", "text", "&lt;b&gt;x&lt;/b&gt; @everyone"},
		{"discord.com", "/api/webhooks/1234567890/AbCdEfGhIjKlMnOpQrStUvWxYz", "content", "<b>x</b> @everyone <!channel> ˋˋˋ ˋidˋ"},
		{"hooks.slack.com", "/services/T0000/B0000/abcdefghijklmnopqrstuvwx", "text", "&lt;!channel&gt; ˋˋˋ ˋidˋ"},
		{"ntfy.sh", "/", "message", "<b>x</b> @everyone"},
		{"alerts.example.org", "/in/qwertzuiopasdfghjkl", "text", "<b>x</b> @everyone"},
	} {
		got := g.to(tt.host, 1)
		if got.method != http.MethodPost || got.path != tt.path {
			t.Errorf("%s receives %s %s", tt.host, got.method, got.path)
		}
		text := g.said(got, tt.field) + g.said(got, "title")
		g.mustSay(tt.host, text, "192.0.2.7", "sshd", "gate", "3 failures", "Failed password", "bantam why 192.0.2.7", "bantam unban 192.0.2.7", tt.evil)
	}
	if chat := g.said(g.to("api.telegram.org", 1), "chat_id"); chat != "-42" {
		t.Errorf("Telegram's chat is %q", chat)
	}
	g.mustSay("Discord", string(g.to("discord.com", 1).body), `"allowed_mentions":{"parse":[]}`)
	if topic := g.said(g.to("ntfy.sh", 1), "topic"); topic != "gate-d41d8cd98f" {
		t.Errorf("ntfy's topic is %q", topic)
	}
	hook := g.to("alerts.example.org", 1)
	sum := hmac.New(sha256.New, []byte(hookKey))
	sum.Write(append([]byte(hook.header.Get("X-Bantam-Timestamp")+"."), hook.body...))
	if got := hook.header.Get("X-Bantam-Signature"); got != "sha256="+hex.EncodeToString(sum.Sum(nil)) || hook.header.Get("Idempotency-Key") == "" {
		t.Errorf("the webhook's headers are %v", hook.header)
	}
	for i, channel := range []string{"discord", "ntfy", "slack", "telegram", "webhook"} {
		g.mustSay("the test", g.does("notify", "test", channel), channel+" has taken the message")
		host := []string{"discord.com", "ntfy.sh", "hooks.slack.com", "api.telegram.org", "alerts.example.org"}[i]
		g.mustSay(host, string(g.to(host, 2).body), "gate")
	}
	g.hides(p, telegramToken, "AAFabcdefghijklmnopqrstuvwxyz", "AbCdEfGhIjKlMnOpQrStUvWxYz", "abcdefghijklmnopqrstuvwx", "qwertzuiopasdfghjkl", hookKey, "gate-d41d8cd98f")
}

// What the receiver of a webhook wants, as the page about it has it pasted: an attacker's quotes end nothing.
func TestWebhookWithTemplate(t *testing.T) {
	g := chatting(t, `webhook[url="https://alerts.example.org/in", digest=0, template='{"title": "<name> on <fq-hostname>", "body": "<text>", "user": "<F-USER>", "address": "<ip>", "failures": <failures>}']`,
		`webhook[actname=form, url="https://alerts.example.org/form", headers="Content-Type: application/x-www-form-urlencoded", template="title=<name>&who=<F-USER>"]`)
	g.runs()
	g.log("var/log/auth.log", strings.Replace(failed(netip.MustParseAddr("192.0.2.7")), "root", `invalid user "}&title=x,<ip>`, 1))
	g.attack("192.0.2.7", 2)
	g.to("alerts.example.org", 2)
	for _, got := range g.web.list() {
		if got.path == "/form" {
			if form, err := url.ParseQuery(string(got.body)); err != nil || form.Get("title") != "sshd" || form.Get("who") != `"}&title=x,<ip>` {
				t.Errorf("the form is %q: %v", got.body, err)
			}
			continue
		}
		var filled struct {
			Title, Body, User, Address string
			Failures                   int
		}
		g.check(json.Unmarshal(got.body, &filled))
		if filled.Title != "sshd on gate.example.org" || filled.Address != "192.0.2.7" || filled.Failures != 3 || filled.User != `"}&title=x,<ip>` {
			t.Errorf("the template makes %s", got.body)
		}
		g.mustSay("the text", filled.Body, "bantam unban 192.0.2.7")
	}
}

// A chat that refuses or is away delays nobody else; what waits for it is shown with its reason, can be tried at once or
// forgotten, and stays when a reload takes its channel away and gives it back.
func TestChatsThatRefuse(t *testing.T) {
	g := chatting(t, telegramLine, `discord[url="file:/etc/fail2ban/secrets/discord", digest=0]`)
	g.web.answers(func(r post) (int, string) {
		if r.host == "api.telegram.org" {
			return http.StatusForbidden, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`
		}
		return chats(r)
	})
	p := g.runs()
	g.attack("192.0.2.7", 3)
	g.to("discord.com", 1)
	g.mustSay("the queue", g.queue(1), "telegram", "sshd banned 192.0.2.7", "bot was blocked", "unblock it")
	first := g.key()

	// Without its channel the letter is held, and others are told as before.
	g.write("etc/fail2ban/jail.local", chatJail(`discord[url="file:/etc/fail2ban/secrets/discord", digest=0]`, `slack[url="file:/etc/fail2ban/secrets/slack", digest=0]`))
	g.does("reload")
	g.attack("192.0.2.8", 3)
	g.to("discord.com", 2)
	g.to("hooks.slack.com", 1)
	if key := g.key(); key != first {
		t.Errorf("%s waits, not %s", key, first)
	}
	out, code := g.says("notify", "queue", "--retry", first)
	if code == 0 {
		t.Errorf("a letter without a channel is tried again: %s", out)
	}

	g.web.answers(chats)
	g.write("etc/fail2ban/jail.local", chatJail(telegramLine))
	g.does("reload")
	if out, code := g.says("notify", "queue", "--retry", first); code != 0 && !strings.Contains(out, "no such letter") {
		t.Errorf("the retry ends with %d: %s", code, out) // the channel's return may have sent it by itself
	}
	g.until("it arrives", func() bool { return strings.TrimSpace(g.does("notify", "queue")) == "nothing waits" })
	got := g.web.list()[len(g.web.list())-1]
	if got.host != "api.telegram.org" || !strings.Contains(g.said(got, "text"), "192.0.2.7") {
		t.Errorf("the last message is to %s: %s", got.host, got.body)
	}

	g.web.answers(func(post) (int, string) {
		return http.StatusUnauthorized, `{"ok":false,"error_code":401,"description":"Unauthorized: bot` + telegramToken + `"}`
	})
	g.attack("192.0.2.9", 3)
	g.mustSay("the queue", g.queue(1), "sshd banned 192.0.2.9", "ask @BotFather")
	g.hides(p, telegramToken, "AAFabcdefghijklmnopqrstuvwxyz")
	// What Telegram gives out anew counts after a reload.
	g.keep("/etc/fail2ban/secrets/telegram", strings.Replace(telegramToken, "AAF", "AAG", 1)+"\n")
	g.web.answers(func(r post) (int, string) {
		if strings.Contains(r.path, "AAG") {
			return chats(r)
		}
		return http.StatusUnauthorized, `{"ok":false,"error_code":401,"description":"Unauthorized"}`
	})
	g.does("reload")
	g.mustSay("the test", g.does("notify", "test", "telegram"), "telegram has taken the message")
	g.until("what has waited arrives", func() bool {
		out, _ := g.says("notify", "queue")
		return strings.TrimSpace(out) == "nothing waits" || strings.Contains(out, "never") // refused for good: the operator decides
	})
	if strings.TrimSpace(g.does("notify", "queue")) != "nothing waits" {
		g.does("notify", "queue", "--retry", g.key())
		g.until("what has waited arrives", func() bool { return strings.TrimSpace(g.does("notify", "queue")) == "nothing waits" })
	}

	g.web.answers(func(post) (int, string) {
		return http.StatusBadRequest, `{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}`
	})
	g.attack("192.0.2.10", 3)
	g.mustSay("the queue", g.queue(1), "sshd banned 192.0.2.10", "check chat")
	dropped := g.key()
	g.mustSay("the drop", g.does("notify", "queue", "--drop", dropped), dropped+" is forgotten")
	g.mustSay("the queue", g.does("notify", "queue"), "nothing waits")
	out, code = g.says("notify", "queue", "--retry", dropped)
	if code == 0 {
		t.Errorf("a letter that was forgotten is tried again: %s", out)
	}
	g.mustSay("the retry", out, "there is no such letter", "bantam notify queue shows what waits")
	if bans := g.bans(); len(bans) != 4 {
		t.Errorf("the bans are %v", bans)
	}
}
