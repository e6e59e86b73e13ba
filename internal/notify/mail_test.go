package notify

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
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
	"bantam/internal/outbox"
	"bantam/internal/secret"
	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
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

	held := known(sshdBan())
	held.Decision.Ban.Observed, held.Decision.Ban.Reason = true, "an administrator's session: user root since 2025-03-02 12:04"
	one("held", held)

	byHand := Event{Decision: bantam.Decision{Kind: bantam.Start, At: noon, Ban: bantam.Ban{
		Jail: "manual", ID: bantam.PrefixID(netip.MustParsePrefix("2001:db8:85a3::/48")), Time: noon, By: bantam.ByOperator, Reason: "a scanner that says it is one",
	}}}
	one("by-hand", byHand)

	one("hostile", hostileEvent())

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

func hostileEvent() Event {
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

// What arrives is our headers and no others, and two parts, whatever strangers wrote.
func TestTrapT16T36T38_NobodyElsesTextBecomesAHeader(t *testing.T) {
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
		if p.From != "bantam@example.org" || !slices.Equal(p.To, []string{"admin@example.org"}) {
			t.Errorf("%s: from %s to %s", name, p.From, p.To)
		}
		got, err := smtptest.Read(p.Data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for key, values := range got.Header {
			if len(values) != 1 || !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type", "Auto-Submitted"}, key) {
				t.Errorf("%s: header %s: %q", name, key, values)
			}
		}
		if id := got.Header.Get("Message-ID"); id != "<"+e.Key+"@example.org>" {
			t.Errorf("%s: Message-ID %s", name, id)
		}
		if !strings.HasPrefix(got.Subject, `[bantam] x\r\nBcc: victim`) {
			t.Errorf("%s: subject %q", name, got.Subject)
		}
		if got.Shape != "multipart/alternative(text/plain text/html)" {
			t.Errorf("%s: %s", name, got.Shape)
		}
	}
}

// A mail goes from a decision to the server as it would at work: over TLS, by a login, with the same
// text that was composed, lines of a single point and mailx's commands in it.
func TestTrapT11_AMailArrivesAsItWasWritten(t *testing.T) {
	server := smtptest.New(t, smtptest.Options{User: "bantam", Password: "not a secret"})
	c := mailConfig()
	c.Whois = true
	c.Mail.Server, c.Mail.CAs = server.Addr(), server.CA()
	c.Mail.User, c.Mail.Password = "bantam", secret.New("not a secret")
	box := newMemory()
	desk := New(slog.New(slog.DiscardHandler), box, World{
		Host: "gate.example.org",
		Whois: func(context.Context, netip.Addr) (whois.Answer, error) {
			return whois.Answer{Org: "Zażółć GmbH", Text: "~! touch /tmp/pwned\n.\nQUIT\n..x\n"}, nil
		},
	})
	if err := desk.Configure([]Config{c}); err != nil {
		t.Fatal(err)
	}
	box.written = make(chan outbox.Letter, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- desk.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	d := sshdBan()
	d.Ban.User = "jörg"
	box.put("notify/smtp", d)
	desk.Wake()
	var l outbox.Letter
	select {
	case l = <-box.written:
	case <-ctx.Done():
		t.Fatal("no letter was written")
	}
	if err := desk.Senders()["smtp"].Send(ctx, l); err != nil {
		t.Fatal(err)
	}
	mail, err := server.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !mail.TLS || mail.User != "bantam" {
		t.Errorf("TLS %v, user %q", mail.TLS, mail.User)
	}
	got, err := mail.Read()
	if err != nil {
		t.Fatal(err)
	}
	if want := "[bantam] gate.example.org: sshd banned 192.0.2.7"; got.Subject != want {
		t.Errorf("subject %q, want %q", got.Subject, want)
	}
	for _, want := range []string{"  ~! touch /tmp/pwned\n  .\n  QUIT\n  ..x\n", "user           jörg\n", "Zażółć GmbH\n", "\n  bantam why 192.0.2.7\n  bantam unban 192.0.2.7\n"} {
		if text := strings.ReplaceAll(got.Text, "\r\n", "\n"); !strings.Contains(text, want) {
			t.Errorf("%q is not in the text:\n%s", want, text)
		}
	}
	if err := desk.Test(ctx, "smtp"); err != nil {
		t.Errorf("Test: %v", err)
	}
	server.Answer(func(verb, _ string) smtptest.Reply {
		if verb == "AUTH" {
			return smtptest.Reply{Code: 535, Text: "5.7.8 wrong password"}
		}
		return smtptest.Reply{}
	})
	if err := desk.Test(ctx, "smtp"); err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "not a secret") {
		t.Errorf("Test: %v", err)
	}
}

var boundary = regexp.MustCompile(`boundary="?([0-9a-zA-Z]+)"?`)

// The whole mail as it travels.
func TestTheMailAsItTravels(t *testing.T) {
	packet, err := mailOf(t, mailConfig()).letter(editions()["ban"]).Packet()
	if err != nil {
		t.Fatal(err)
	}
	data := string(packet.Data)
	if m := boundary.FindStringSubmatch(data); m != nil { // it is another in each mail
		data = strings.ReplaceAll(data, m[1], "BOUNDARY")
	}
	golden(t, "ban.eml", strings.ReplaceAll(data, "\r\n", "\n"))
}

// FuzzMail holds what checkMail holds, whatever strangers write, and in a time that does not depend on it.
func FuzzMail(f *testing.F) {
	f.Add("sshd", "root", "192.0.2.7", "Failed password", "scan.example.net", "inetnum: x", 1)
	f.Add(evil, evil, evil, evil, evil, evil, 3)
	f.Add("\u202e", "\xff", "-rf", strings.Repeat("e\u0301", 9000), "a b", "\r\r\n", 60)
	c := mailConfig()
	c.Whois = true
	f.Fuzz(func(t *testing.T, jail, user, id, line, host, text string, n int) {
		var e Edition
		e.Key, e.Host, e.At = "k", host, noon
		e.Bans, e.Observed = map[string]int{jail: n}, map[string]int{user: n}
		e.Started = []string{jail, user}
		for i := range min(max(n, 1), maxEvents) {
			d := sshdBan()
			d.Ban.Jail, d.Ban.User, d.Ban.Reason, d.Ban.ID = jail, user, line, bantam.TextID(id)
			d.Ban.Lines = []string{line, text}
			d.Ban.Observed = i%2 == 1
			e.Events = append(e.Events, Event{
				Decision: d, Host: host, Place: geo.Place{Country: id, City: user, ASOrg: text},
				Whois: &whois.Answer{Org: user, Text: text, Abuse: []string{line}},
			})
		}
		ch := mailOf(t, c)
		checkMail(t, ch.letter(&e))
		if _, err := ch.compose(&e); err != nil {
			t.Error(err)
		}
	})
}

// What is pasted into a shell is one word there, and the name itself.
func TestCommandsAreSafeToPaste(t *testing.T) {
	for _, name := range []string{"192.0.2.7", "user@example.org", "it's", "$(reboot)", "`id`; rm -rf / #", "-all", "a\\b", "\"x\" & y"} {
		id, err := bantam.ParsePrefix(name)
		if err != nil {
			id = bantam.TextID(name)
		}
		words, _ := strings.CutPrefix(command("why", id), "bantam why ")
		script := "set x " + words + `; shift; [ "$1" = -- ] && shift; printf %s "$*"`
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
		if err != nil || string(out) != name {
			t.Errorf("%s prints %q, %v", script, out, err)
		}
	}
	for _, name := range []string{"a\nb", "\x1b[2J", "a\u202eb", "", strings.Repeat("x", 1000)} {
		if got := command("why", bantam.TextID(name)); got != "" {
			t.Errorf("%q becomes %s", name, got)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, test := range []struct {
		name, in string
		max      int
		want     string
	}{
		{"a text stays as it is", "Zażółć 日本 😀", 80, "Zażółć 日本 😀"},
		{"line ends are shown", "a\r\nb\u2028c", 80, `a\r\nb\u2028c`},
		{"a tab is a blank", "a\tb", 80, "a b"},
		{"escape sequences are shown", "\x1b]52;c;eA==\x07", 80, `\x1b]52;c;eA==\a`},
		{"what turns the direction is shown", "a\u202eb\u2066c\u200f", 80, `a\u202eb\u2066c\u200f`},
		{"what is not UTF-8 is shown", "a\xffb", 80, `a\xffb`},
		{"as much as fits", "abcde", 5, "abcde"},
		{"one more is cut", "abcdef", 5, "abcd…"},
		{"an escape is not torn", "abc\x1b", 5, "abc…"},
	} {
		if got := plain(test.in, test.max); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestPeriod(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 seconds", 10 * time.Minute: "10 minutes", 90 * time.Minute: "1 hour 30 minutes", 7*24*time.Hour + 3*time.Hour: "1 week",
		26*time.Hour + 29*time.Minute: "1 day 2 hours", 61 * time.Second: "1 minute 1 second", 400 * time.Millisecond: "0 seconds", 364 * 24 * time.Hour: "52 weeks",
	} {
		if got := period(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

func BenchmarkMailOfOneEvent(b *testing.B) { benchmarkMail(b, editions()["whois"]) }

func BenchmarkMailOfADigest(b *testing.B) { benchmarkMail(b, editions()["flood"]) }

func benchmarkMail(b *testing.B, e *Edition) {
	c := mailConfig()
	c.Whois = true
	ch := mailOf(b, c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ch.compose(e); err != nil {
			b.Fatal(err)
		}
	}
}

// What 10,000 bans cost to gather, from the news to the mail.
func BenchmarkGatherTenThousand(b *testing.B) {
	var news []bantam.News
	for i := range 10_000 {
		news = append(news, bantam.News{Number: int64(i + 1), Decision: ban(i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		var g digest
		for i := range news {
			g = g.with(&news[i])
		}
		if g.More != 10_000-maxEvents {
			b.Fatal(g.More)
		}
	}
}

// What a decision costs those who decide.
func BenchmarkWake(b *testing.B) {
	d := New(slog.New(slog.DiscardHandler), newMemory(), World{})
	if err := d.Configure([]Config{plainChannel("a"), plainChannel("b"), plainChannel("c"), plainChannel("d")}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Wake()
	}
}
