package report

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/smtp/smtptest"
	"bantam/internal/whois"
)

var update = flag.Bool("update", false, "write the golden mails anew")

// shown is a mail as its reader sees it: the headers that programs show, the text, the files.
func shown(t testing.TB, data []byte) string {
	t.Helper()
	m := reading(t, data)
	var b strings.Builder
	for _, h := range []string{"Date", "From", "To", "Cc", "Message-ID", "Auto-Submitted"} {
		if v := m.Header.Get(h); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	fmt.Fprintf(&b, "Subject: %s\n\n%s", m.Subject, strings.ReplaceAll(m.Text, "\r\n", "\n"))
	for _, p := range m.Parts {
		fmt.Fprintf(&b, "\n[%s, %s]\n%s", p.Name, p.Type, p.Data)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: go test -update writes it anew; it is now\n%s", file, got)
	}
}

// guideWhois has what a hostile registry once made a mail program run: lines that begin with ~!.
const guideWhois = "% This is the registry's remark\nnetname:  EXAMPLE-NET\n~! touch /tmp/owned\n.\nFrom me\r\nBcc: victim@example.com\x1b[2J\norg:      Example Networks"

func TestTheMailsReadWell(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		about  func(t *testing.T, r *rig)
	}{
		{"one.txt", func(*Config) {}, func(t *testing.T, r *rig) {
			r.box.decide(ban(t, "198.51.100.7", func(d *bantam.Decision) {
				d.Ban.Count = 3
				d.Ban.Lines = []string{
					"Jan  1 00:59:51 gate sshd[812]: Invalid user admin from 198.51.100.7 port 4022",
					"Jan  1 00:59:53 gate sshd[812]: Failed password for invalid user admin from 198.51.100.7 port 4022 ssh2",
					"Jan  1 00:59:58 gate sshd[812]: Failed password for frank from 198.51.100.7 port 4022 ssh2",
					"Jan  1 00:59:59 gate sshd[813]: Failed password for kim from 198.51.100.70 port 4023 ssh2",
				}
			}))
		}},
		{"several.txt", func(c *Config) {
			c.XARF = false
			c.Cc = []string{"noc@example.org"}
			c.Bcc = []string{"archive@example.org"}
		}, func(t *testing.T, r *rig) {
			r.box.decide(ban(t, "198.51.100.7"))
			r.box.decide(ban(t, "198.51.100.8", func(d *bantam.Decision) {
				d.Ban.Jail, d.Ban.Failures = "nginx-http-auth", 2
				d.Ban.Lines = []string{`198.51.100.8 - kim [01/Jan/2000:01:00:00 +0100] "GET /admin HTTP/1.1" 401 12`}
			}))
			r.box.decide(ban(t, "198.51.100.7", func(d *bantam.Decision) {
				d.Ban.Jail, d.Ban.Lines = "recidive", nil
			}))
		}},
		{"trial.txt", func(c *Config) { c.To = []string{"me@example.org"}; c.Redact = false }, func(t *testing.T, r *rig) {
			r.box.decide(ban(t, "2001:db8:4::4"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := abuseConfig()
				tt.change(&c)
				r := newRig(t, c)
				r.desk.world.Zone = time.FixedZone("CET", 3600)
				r.desk.world.Whois = func(context.Context, netip.Addr) (whois.Answer, error) {
					return whois.Answer{Network: netip.MustParsePrefix("198.51.100.0/24"), Text: guideWhois}, nil
				}
				tt.about(t, r)
				r.start()
				r.pass(time.Hour)
				mails := r.post.mails()
				if len(mails) != 1 {
					t.Fatalf("%d mails", len(mails))
				}
				golden(t, tt.name, shown(t, mails[0].Data))
				if c.Bcc != nil && (!slices.Contains(mails[0].To, c.Bcc[0]) || strings.Contains(string(mails[0].Data), c.Bcc[0])) {
					t.Errorf("the blind copy: to %q", mails[0].To)
				}
				for line := range strings.SplitSeq(reading(t, mails[0].Data).Text, "\n") {
					if strings.HasPrefix(line, "~") || strings.HasPrefix(line, ".") || strings.HasPrefix(line, "From ") {
						t.Errorf("a line that something may obey: %q", line)
					}
				}
			})
		})
	}
}

// TestHeadersCannotBeInjected puts line ends wherever a stranger's text comes from.
func TestHeadersCannotBeInjected(t *testing.T) {
	evil := "x\r\nBcc: victim@example.com\r\n\r\n<script>\u202e\x1b[2J\x00"
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.desk.world.Host = evil
		r.desk.world.Values = func(context.Context, *bantam.Decision) func(string) (string, bool) {
			return func(string) (string, bool) { return evil, true }
		}
		r.desk.world.Whois = func(context.Context, netip.Addr) (whois.Answer, error) {
			return whois.Answer{Name: evil, Org: evil, Text: evil}, nil
		}
		r.box.decide(ban(t, "198.51.100.7", func(d *bantam.Decision) {
			d.Ban.Jail, d.Ban.User, d.Ban.Data = evil, evil, map[string]string{"user": evil}
			d.Ban.Lines = []string{evil + " from 198.51.100.7 " + evil}
		}))
		r.start()
		r.pass(time.Hour)
		mails := r.post.mails()
		if len(mails) != 1 || !slices.Equal(mails[0].To, []string{"abuse@net100.example"}) {
			t.Fatalf("%d mails, %+v", len(mails), mails)
		}
		m := reading(t, mails[0].Data)
		if m.Header.Get("Bcc") != "" || len(m.Header) > 9 {
			t.Errorf("headers: %v", m.Header)
		}
		if strings.ContainsAny(m.Text, "\x1b\x00\u202e") {
			t.Errorf("the text steers a terminal: %q", m.Text)
		}
		if !strings.Contains(m.Text, "198.51.100.7") || len(m.Parts) != 1 {
			t.Errorf("not told:\n%s", m.Text)
		}
		checkXARF(t, m.Parts[0].Data)
	})
}

// checkXARF holds a document against what schemas/v4/xarf-core.json, types/connection-login-attack.json and
// types/connection-vulnerability-scan.json of XARF 4.2.0 want.
func checkXARF(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var x map[string]any
	if err := json.Unmarshal(data, &x); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	text := func(in map[string]any, key, pattern string) string {
		s, ok := in[key].(string)
		if !ok || !regexp.MustCompile(pattern).MatchString(s) {
			t.Errorf("%s is %v, wants %s", key, in[key], pattern)
		}
		return s
	}
	text(x, "xarf_version", `^4\.[0-9]+\.[0-9]+$`)
	text(x, "report_id", `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	text(x, "category", `^connection$`)
	text(x, "protocol", `^(tcp|udp|icmp)$`)
	if _, err := netip.ParseAddr(text(x, "source_identifier", `.`)); err != nil && !strings.Contains(x["source_identifier"].(string), "/") {
		t.Errorf("source_identifier is %v", x["source_identifier"])
	}
	for _, key := range []string{"timestamp", "first_seen", "last_seen"} {
		if _, err := time.Parse(time.RFC3339, text(x, key, `Z$`)); err != nil {
			t.Error(err)
		}
	}
	if text(x, "type", `^(login_attack|vulnerability_scan)$`) == "vulnerability_scan" {
		text(x, "scan_type", `^(port_scan|vulnerability_scan|web_vuln_scan|service_enumeration|mixed)$`)
	}
	for _, who := range []string{"reporter", "sender"} {
		contact, _ := x[who].(map[string]any)
		if len(contact) != 3 || len(text(contact, "org", `.`)) > 200 {
			t.Errorf("%s is %v", who, x[who])
		}
		if _, err := mail.ParseAddress(text(contact, "contact", `^\S+@\S+$`)); err != nil {
			t.Error(err)
		}
		text(contact, "domain", `^[a-z0-9.-]+$`)
	}
	if port, ok := x["destination_port"].(float64); ok && (port < 1 || port > 65535) {
		t.Errorf("destination_port is %v", port)
	}
	evidence, _ := x["evidence"].([]any)
	for _, e := range evidence {
		item := e.(map[string]any)
		for key := range item {
			if !slices.Contains([]string{"content_type", "description", "payload", "hash", "size"}, key) {
				t.Errorf("evidence has a field %s", key)
			}
		}
		payload, err := base64.StdEncoding.DecodeString(text(item, "payload", `.`))
		sum := sha256.Sum256(payload)
		if err != nil || text(item, "hash", `.`) != "sha256:"+hex.EncodeToString(sum[:]) || item["size"] != float64(len(payload)) || len(text(item, "description", `.`)) > 500 {
			t.Errorf("evidence %v, %v", item, err)
		}
	}
	tags, _ := x["tags"].([]any)
	for _, tag := range tags {
		if !regexp.MustCompile(`^[a-z0-9][a-z0-9_+-]*:[a-z0-9][a-z0-9_+-.]*$`).MatchString(tag.(string)) {
			t.Errorf("tag %v", tag)
		}
	}
	return x
}

func TestXARFIsValidForEveryKindOfJail(t *testing.T) {
	at := time.Date(2025, 3, 2, 10, 15, 4, 0, time.FixedZone("CET", 3600))
	for _, tt := range []struct {
		jail, port, protocol string
		kind                 string
		number               any
	}{
		{"sshd", "ssh", "tcp", "login_attack", 22.0},
		{"sshd", "2222", "", "login_attack", 2222.0},
		{"postfix-sasl", "smtp,465,submission", "tcp", "login_attack", nil},
		{"nginx-botsearch", "http,https", "tcp", "vulnerability_scan", nil},
		{"wordpress", "https", "tcp", "login_attack", 443.0},
		{"portscan", "0:65535", "all", "vulnerability_scan", nil},
		{"named-refused", "domain", "udp", "login_attack", 53.0},
		{"my own \"jail\" ü", "99999", "sctp", "login_attack", nil},
		{"", "", "", "login_attack", nil},
	} {
		t.Run(tt.jail+" "+tt.port, func(t *testing.T) {
			a := &attack{Jail: tt.jail, Port: tt.port, Protocol: tt.protocol, First: at, Last: at, Failures: 5, Lines: []string{"a", "b"}, Zone: "UTC"}
			data, err := xarfOf(&attackCase{ID: id(t, "198.51.100.7")}, a, reporterOf("Example Security <abuse@example.org>"), "k", true)
			if err != nil {
				t.Fatal(err)
			}
			if x := checkXARF(t, data); x["type"] != tt.kind || x["destination_port"] != tt.number || x["timestamp"] != "2025-03-02T09:15:04Z" {
				t.Errorf("%s", data)
			}
		})
	}
}

// lineShapes are log lines with H for our host, U for a user, A for the attacker, O for another address, M for a mail address, and P
// for a password.
var lineShapes = []string{
	"Mar  2 10:15:04 H sshd[812]: Failed password for U from A port 4022 ssh2",
	"Mar  2 10:15:04 H sshd[812]: Failed password for invalid user U from A port 4022 ssh2",
	"Mar  2 10:15:04 H sshd-session[812]: Invalid user U from A port 4022",
	"2025-03-02T10:15:04.123456+01:00 H sshd[812]: Connection closed by authenticating user U A port 22 [preauth]",
	"H sshd[812]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=A  user=U",
	"Mar  2 10:15:04 H sshd[812]: error: maximum authentication attempts exceeded for U from A port 4022 ssh2 [preauth]",
	"Mar  2 10:15:04 H postfix/smtpd[9]: warning: unknown[A]:65410: SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username=U",
	"Mar  2 10:15:04 H postfix/smtpd[9]: NOQUEUE: reject: RCPT from unknown[A]: 554 5.7.1 <M>: Relay access denied; from=<M> to=<M> proto=ESMTP helo=<H>",
	"Mar  2 10:15:04 H dovecot: imap-login: Disconnected (auth failed, 3 attempts in 9 secs): user=<U>, method=PLAIN, rip=A, lip=O, TLS, session=<P>",
	`A - U [02/Mar/2025:10:15:04 +0000] "GET /x?password=P&token=P HTTP/1.1" 401 12 "-" "curl/8.0"`,
	`A - - [02/Mar/2025:10:15:04 +0000] "GET /?user=U&mail=M HTTP/1.1" 404 12`,
	`{"time":"2025-03-02T10:15:04Z","remote_ip":"A","username":"U","password":"P","host":"H"}`,
	"Mar  2 10:15:04 H kernel: [123.4] DROP IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:65:43:21:08:00 SRC=A DST=O LEN=40 PROTO=TCP DPT=22",
	"2025/03/02 10:15:04 [error] 12#12: *1 user \"U\": password mismatch, client: A, server: H, request: \"GET / HTTP/1.1\", host: \"H\"",
	"Mar  2 10:15:04 H vsftpd[7]: [U] FAIL LOGIN: Client \"A\"",
	"Mar  2 10:15:04 H proftpd[7]: O (A[A]) - USER U: no such user found from A [A] to O:21",
	"2025-03-02 10:15:04 login authenticator failed for (H) [A]: 535 Incorrect authentication data (set_id=U)",
	"Access denied for user 'U'@'A' (using password: YES)",
	"[2025-03-02 10:15:04][vaultwarden::api][ERROR] Username or password is incorrect. Try again. IP: A. Username: M.",
	"Mar  2 10:15:04 H login: authentication failed for U from A, Authorization: Basic P",
}

// TestNothingIsLeakedInTenThousandReports writes reports about made-up attacks and looks for whatever was secret in them, in the
// whole mail as it travels, once it is decoded.
func TestNothingIsLeakedInTenThousandReports(t *testing.T) {
	const seed = 7
	chance := rand.New(rand.NewPCG(seed, seed))
	word := func(prefix string) string { return fmt.Sprintf("%s%08x", prefix, chance.Uint32()) }
	c := abuseConfig()
	reports := 10000
	if slow || testing.Short() {
		reports = 500
	}
	shownLines, leaks := 0, 0
	for n := range reports {
		user, host, pass := word("usr"), word("hst"), word("Pw")
		box := word("box") + "@" + word("dom") + ".example"
		other := fmt.Sprintf("203.0.113.%d", chance.IntN(256))
		attacker := fmt.Sprintf("198.51.100.%d", chance.IntN(256))
		if n%3 == 0 {
			other, attacker = fmt.Sprintf("2001:db8:a::%x", 1+chance.IntN(9999)), fmt.Sprintf("2001:db8:b::%x", 1+chance.IntN(9999))
		}
		replace := func(shape string) string {
			var b strings.Builder
			for i, r := range shape {
				alone := (i == 0 || !isAlnum(shape[i-1])) && (i+1 == len(shape) || !isAlnum(shape[i+1]))
				with, ok := map[rune]string{'H': host, 'U': user, 'A': attacker, 'O': other, 'M': box, 'P': pass}[r]
				if !ok || !alone {
					b.WriteRune(r)
					continue
				}
				b.WriteString(with)
			}
			return b.String()
		}
		b := bantam.Ban{Jail: "sshd", ID: id(t, attacker), Failures: 5, Count: 1, Time: time.Unix(1740910504, 0), User: user}
		for range 1 + chance.IntN(4) {
			b.Lines = append(b.Lines, replace(lineShapes[chance.IntN(len(lineShapes))]))
		}
		if n%2 == 0 {
			b.User = "" // the filter knows no user: the lines' own words must do
		}
		a := &attack{Jail: b.Jail, First: b.Time, Last: b.Time, Failures: b.Failures, Zone: "UTC", Redacted: true}
		a.Lines, a.More = newRedactor(&b, host+".corp.example", true).lines(b.Lines)
		shownLines += len(a.Lines)
		m, err := c.write(&dossier{key: "k", at: b.Time, contacts: []string{"abuse@net.example"}, cases: []*attackCase{{ID: b.ID, Attacks: []*attack{a}}}})
		if err != nil {
			t.Fatal(err)
		}
		text := m.Text + strings.Join(a.Lines, "\n")
		for _, p := range m.Parts {
			text += string(p.Data)
		}
		if n%100 == 0 { // as it travels, too
			packet, err := m.Packet()
			if err != nil {
				t.Fatal(err)
			}
			whole, err := smtptest.Read(packet.Data)
			if err != nil {
				t.Fatal(err)
			}
			text += whole.Text + whole.Subject
		}
		for _, secret := range []string{user, host, pass, box, other} {
			if strings.Contains(text, secret) && secret != attacker {
				if leaks++; leaks < 10 {
					t.Errorf("report %d (seed %d) shows %q:\n%s\nout of\n%s", n, seed, secret, strings.Join(a.Lines, "\n"), strings.Join(b.Lines, "\n"))
				}
			}
		}
	}
	if leaks > 0 || shownLines < 2*reports {
		t.Errorf("%d leaks in %d reports; %d lines were shown", leaks, reports, shownLines)
	}
}
