package notify

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

var update = flag.Bool("update", false, "write the golden files anew")

// mailConfig is a channel of mail to nobody who exists.
func mailConfig() Config {
	c := Defaults(smtp.Relay)
	c.Jails = []string{"sshd", "postfix"}
	c.From, c.To = "Bantam <bantam@example.org>", []string{"Admin <admin@example.org>"}
	c.Mail.Server = "127.0.0.1:25"
	return c
}

// noon is the wall time of the tests' messages.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func sshdBan() bantam.Decision {
	return bantam.Decision{
		Kind: bantam.Start, At: noon.Add(-2 * time.Second),
		Ban: bantam.Ban{
			Jail: "sshd", ID: bantam.AddrID(netip.MustParseAddr("192.0.2.7")),
			Time: noon.Add(-3 * time.Second), End: noon.Add(10*time.Minute - 3*time.Second),
			Failures: 5, Count: 3, User: "root", By: bantam.ByFailures,
			Lines: []string{
				"Mar  2 11:58:40 gate sshd[812]: Failed password for root from 192.0.2.7 port 40022 ssh2",
				"Mar  2 11:58:51 gate sshd[812]: Failed password for root from 192.0.2.7 port 40022 ssh2",
				"Mar  2 11:59:20 gate sshd[815]: Invalid user oracle from 192.0.2.7 port 40031",
				"Mar  2 11:59:44 gate sshd[819]: Disconnected from authenticating user root 192.0.2.7 port 40040 [preauth]",
				"Mar  2 11:59:57 gate sshd[822]: Failed password for root from 192.0.2.7 port 40052 ssh2",
			},
		},
	}
}

func known(d bantam.Decision) Event {
	return Event{
		Decision: d, Host: "scan-7.example.net",
		Place: geo.Place{Country: "NL", CountryName: "Netherlands", City: "Amsterdam", ASN: 64500, ASOrg: "Example Hosting B.V."},
	}
}

// editions are what the golden files are of, by their names.
func editions() map[string]*Edition {
	all := map[string]*Edition{}
	put := func(name string, e Edition) *Edition {
		e.Key, e.Host, e.At = "bantam.0123456789ab.b1", "gate.example.org", noon
		all[name] = &e
		return &e
	}
	one := func(name string, e Event) *Edition { return put(name, Edition{Events: []Event{e}}) }

	one("ban", known(sshdBan()))

	looked := known(sshdBan())
	looked.Whois = &whois.Answer{
		Network: netip.MustParsePrefix("192.0.2.0/24"), Name: "EXAMPLE-NET", Org: "Example Hosting B.V.", Country: "NL",
		Abuse: []string{"abuse@example.net"}, Source: "whois",
		Text: "inetnum:        192.0.2.0 - 192.0.2.255\nnetname:        EXAMPLE-NET\ncountry:        NL\norg:            ORG-EX1-EXAMPLE\nabuse-c:        AR0-EXAMPLE\nstatus:         ASSIGNED PA\n",
	}
	one("whois", looked)

	over := known(sshdBan())
	over.Decision.Kind, over.Decision.Cause, over.Decision.At = bantam.End, bantam.CauseExpired, noon
	over.Decision.Ban.Lines, over.Decision.Ban.Count = nil, 1
	one("unban", over)

	seen := known(sshdBan())
	seen.Decision.Ban.Observed = true
	one("observed", seen)

	byHand := Event{Decision: bantam.Decision{Kind: bantam.Start, At: noon, Ban: bantam.Ban{
		Jail: "manual", ID: bantam.PrefixID(netip.MustParsePrefix("2001:db8:85a3::/48")), Time: noon, By: bantam.ByOperator, Reason: "a scanner that says it is one",
	}}}
	one("by-hand", byHand)

	one("hostile", hostile())

	put("digest", flood(37, false))
	put("flood", flood(10_000, true))
	put("started", Edition{Started: []string{"nginx-http-auth", "postfix", "sshd"}, Stopped: []string{"dovecot"}})
	put("test", Edition{Test: true})
	return all
}

// flood is a digest of n bans and, if mixed, some ends of bans and some that are only observed.
func flood(n int, mixed bool) Edition {
	var g digest
	for i := range n {
		d := sshdBan()
		d.At = noon.Add(-10 * time.Minute).Add(time.Duration(i) * 10 * time.Minute / time.Duration(n))
		d.Ban.ID = bantam.AddrID(netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(i % 250)}))
		d.Ban.User = []string{"root", "admin", "", "git"}[i%4]
		d.Ban.Failures = 3 + i%7
		switch {
		case i%5 == 1:
			d.Ban.Jail = "postfix"
			d.Ban.ID = bantam.AddrID(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0x85, 0xa3, byte(i >> 8), byte(i), 13, 19, 0x8a, 0x2e, 3, 0x70, 0x73, 0x44}))
		case mixed && i%5 == 2:
			d.Kind, d.Cause = bantam.End, bantam.CauseExpired
		case mixed && i%5 == 3:
			d.Ban.Jail, d.Ban.Observed = "nginx-http-auth", true
		}
		g = g.with(&bantam.News{Number: int64(i + 1), Decision: d})
	}
	e := Edition{Bans: g.Bans, Unbans: g.Unbans, Observed: g.Observed, More: g.More, Since: g.Since}
	for i, d := range g.Events {
		e.Events = append(e.Events, Event{Decision: d, Place: geo.Place{Country: []string{"NL", "DE", "", "BR"}[i%4]}})
	}
	return e
}

// evil is a text that would like to be more than a text.
const evil = "x\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\x1b]8;;http://example.com\x07\u202etxt\u2028=?utf-8?q?a?= \"'&\x00\xff\u200b"

func hostile() Event {
	d := sshdBan()
	d.Ban.Jail, d.Ban.User, d.Ban.Reason = evil, evil, evil
	d.Ban.ID = bantam.TextID("$(reboot) `id` " + "'; rm -rf / #")
	d.Ban.Lines = nil
	for range 2 * maxLogLines {
		d.Ban.Lines = append(d.Ban.Lines, evil+strings.Repeat("long ", 100*(1+len(d.Ban.Lines)%2)))
	}
	d.Ban.Data = map[string]string{"ip": evil}
	return Event{
		Decision: d, Host: evil,
		Place: geo.Place{Country: evil, CountryName: evil, City: evil, ASN: 1, ASOrg: evil},
		Whois: &whois.Answer{Name: evil, Org: evil, Country: evil, Abuse: []string{evil}, Text: strings.Repeat(evil+"\n", 500)},
	}
}

func mailOf(t testing.TB, c Config) *mailChannel {
	t.Helper()
	ch, err := newMail(&c)
	if err != nil {
		t.Fatal(err)
	}
	return ch.(*mailChannel)
}

// The golden files are what people get to see: a change of them is to be looked at.
func TestMailsRead(t *testing.T) {
	for name, e := range editions() {
		t.Run(name, func(t *testing.T) {
			c := mailConfig()
			c.Whois = true
			m := mailOf(t, c).letter(e)
			golden(t, name+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
			golden(t, name+".html", m.HTML)
			checkMail(t, m)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is another (go test -run TestMailsRead -update writes it anew):\n%s", path, got)
	}
}

var (
	htmlTags = regexp.MustCompile(`<[^<>]*>`)
	// ownTags are all that we write.
	ownTags = regexp.MustCompile(`^</?(!DOCTYPE html|html|head|body|meta|title|style|div|p|h1|h2|table|tr|td|pre)( [a-z-]+="[^"<>]*")*>$`)
	remote  = regexp.MustCompile(`(?i)\b(src|href|background|action)\s*=|url\(|@import|<img|<script|<link|<iframe|<form|<a\b`)
)

// checkMail holds what is true of every mail, whoever wrote what is in it.
func checkMail(t *testing.T, m *smtp.Mail) {
	t.Helper()
	if n := utf8.RuneCountInString(m.Subject); n > maxSubject {
		t.Errorf("the subject has %d characters", n)
	}
	for _, part := range []struct{ name, text string }{{"subject", m.Subject}, {"text", m.Text}, {"HTML", m.HTML}} {
		if !utf8.ValidString(part.text) {
			t.Errorf("the %s is not UTF-8", part.name)
		}
		for _, r := range part.text {
			if !unicode.IsPrint(r) && (r != '\n' || part.name == "subject") {
				t.Fatalf("the %s has %q", part.name, r)
			}
		}
		if len(part.text) > 128<<10 {
			t.Errorf("the %s has %d bytes", part.name, len(part.text))
		}
	}
	command := false
	for line := range strings.Lines(m.Text) {
		command = strings.HasPrefix(line, "  bantam ")
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !command {
			t.Errorf("a line of the text has %d characters: %s", n, line)
		}
	}
	for _, tag := range htmlTags.FindAllString(m.HTML, -1) {
		if !ownTags.MatchString(tag) {
			t.Errorf("the HTML has %s", tag)
		}
		if found := remote.FindString(tag); found != "" {
			t.Errorf("the HTML has %s in %s", found, tag)
		}
	}
	if rest := htmlTags.ReplaceAllString(m.HTML, ""); strings.ContainsAny(rest, "<>") {
		t.Error("the HTML has a bare < or >")
	}
}

// What arrives is read by the standard library's own parser: two parts, our headers and no others.
func TestNobodyElsesTextBecomesAHeader(t *testing.T) {
	c := mailConfig()
	c.Whois = true
	for name, e := range editions() {
		e.Host = evil
		body, err := mailOf(t, c).compose(e)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p smtp.Packet
		if err := json.Unmarshal(body, &p); err != nil {
			t.Fatal(err)
		}
		if want := []string{"admin@example.org"}; p.From != "bantam@example.org" || !slices.Equal(p.To, want) {
			t.Errorf("%s: from %s to %s", name, p.From, p.To)
		}
		msg, err := mail.ReadMessage(bytes.NewReader(p.Data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for key, values := range msg.Header {
			if len(values) != 1 || !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type", "Auto-Submitted"}, key) {
				t.Errorf("%s: header %s: %q", name, key, values)
			}
		}
		if got := msg.Header.Get("Message-ID"); got != "<"+e.Key+"@example.org>" {
			t.Errorf("%s: Message-ID %s", name, got)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
		if err != nil || !strings.HasPrefix(subject, "[bantam] x") || strings.ContainsAny(subject, "\r\n") {
			t.Errorf("%s: subject %q, %v", name, subject, err)
		}
		_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(msg.Body, params["boundary"])
		for _, want := range []string{"text/plain; charset=UTF-8", "text/html; charset=UTF-8"} {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatalf("%s: %s: %v", name, want, err)
			}
			if got := part.Header.Get("Content-Type"); got != want {
				t.Errorf("%s: a part is %s, want %s", name, got, want)
			}
			if _, err := io.Copy(io.Discard, quotedprintable.NewReader(part)); err != nil {
				t.Errorf("%s: %s: %v", name, want, err)
			}
		}
		if _, err := parts.NextRawPart(); err != io.EOF {
			t.Errorf("%s: there is a third part (%v)", name, err)
		}
	}
}
