package test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/report"
	"bantam/internal/smtp/smtptest"
)

// Where the registries are on these machines: addresses that are public, for no other is asked.
const (
	ianaAt   = "193.0.6.135"
	lacnicAt = "200.3.14.10"
)

// contactZone is where the machines ask for contacts by DNS.
const contactZone = ".abuse-contacts.abusix.zone"

// abuseWorld is what DNS and the registry of Latin America know. Of 46.0.0.0/8 and 2a00::/12 RDAP knows
// the network, and in 46.96.0.0/11 a contact.
var abuseWorld = world{
	txt: func(name string) []string {
		switch strings.TrimSuffix(strings.ToLower(name), contactZone) {
		case "233.252.72.46":
			return []string{"abuse@networks.example", "noc@networks.example"}
		case "1.7.73.46", "2.7.73.46":
			return []string{"abuse@pair.example"}
		case "3.2.1.200", "9.9.9.200": // LACNIC's are there, and say nothing
			return []string{""}
		case "1.1.99.46": // and liars
			return []string{"|touch /var/evil", "-OQueueDirectory=/var@evil.example", "<script>@evil.example", "no address"}
		}
		return nil
	},
	whois: func(query string) string {
		if query == "200.1.2.3" {
			return "inetnum: 200.1.2.0/24\r\nowner: Latin <b>Example</b>\r\n~!touch /var/evil\r\n.\r\nabuse-c: LEX\r\n\r\nnic-hdl-br: LEX\r\nnic-hdl: LEX\r\ne-mail: abuse@latin.example\r\n"
		}
		return "inetnum: 200.9.9.0/24\r\nowner: NOBODY\r\n"
	},
}

// abusive is a machine in a world where somebody answers for every address: names lead to DNS, RDAP and WHOIS of
// the test's own.
func abusive(t *testing.T, w world, jailLocal string) *guided {
	t.Helper()
	w.names = []string{"data.iana.org", "rdap.registry.example"}
	g := follow(t, w, map[string]string{
		"/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 gate.example.org gate\n" +
			ianaAt + " whois.iana.org data.iana.org rdap.registry.example\n" + lacnicAt + " whois.lacnic.net\n",
		"/etc/fail2ban/jail.local": jailLocal,
	})
	for _, address := range []string{ianaAt, lacnicAt} {
		if out, err := g.net.Output(t.Context(), "ip", "address", "add", address+"/32", "dev", "lo"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	g.port43(ianaAt, func(string) string { return "refer: whois.lacnic.net\r\n\r\ninetnum: 200.0.0.0 - 200.255.255.255\r\n" })
	g.port43(lacnicAt, w.whois)
	l, err := g.net.Listen("tcp", ianaAt+":443")
	g.check(err)
	server := &http.Server{Handler: http.HandlerFunc(rdap), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(tls.NewListener(l, g.tls)) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	return g
}

// rdap is IANA and a registry.
func rdap(w http.ResponseWriter, r *http.Request) {
	const network = `{"objectClassName":"ip network","startAddress":"%s","endAddress":"%s","name":"%s","country":"NL","entities":[%s]}`
	contact := func(mail string) string {
		return `{"roles":["abuse"],"vcardArray":["vcard",[["version",{},"text","4.0"],["email",{},"text","` + mail + `"]]]}`
	}
	switch address := strings.TrimPrefix(r.URL.Path, "/ip/"); {
	case strings.HasPrefix(r.URL.Path, "/rdap/ipv"):
		fmt.Fprint(w, `{"version":"1.0","services":[[["46.0.0.0/8","2a00::/12"],["https://rdap.registry.example/"]]]}`)
	case strings.HasPrefix(address, "46.72."):
		fmt.Fprintf(w, network, "46.72.0.0", "46.72.255.255", "SEVENTYTWO", "")
	case strings.HasPrefix(address, "46.73."):
		fmt.Fprintf(w, network, "46.73.0.0", "46.73.255.255", "PAIR", "")
	case strings.HasPrefix(address, "46.99."):
		fmt.Fprintf(w, network, "46.99.0.0", "46.99.255.255", "RDAP-NET", contact("abuse@rdap.example"))
	case strings.HasPrefix(address, "2a00:"):
		fmt.Fprintf(w, network, "2a00:1::", "2a00:1:ffff:ffff:ffff:ffff:ffff:ffff", "SIX-NET", contact("abuse@six.example"))
	default:
		http.NotFound(w, r)
	}
}

// reportsOf are the reports that there are about an address, the newest first.
func (g *guided) reportsOf(address string) (list []report.Sent) {
	g.Helper()
	reply, err := control.Call(g.Context(), g.client, control.GetReports, control.None{})
	g.check(err)
	for _, r := range reply.Reports {
		if r.ID.String() == address {
			list = append(list, r)
		}
	}
	return list
}

// inState waits until the newest report about an address is in a state, and its receivers are known.
func (g *guided) inState(address, state string) (r report.Sent) {
	g.Helper()
	g.until("the report about "+address+" "+state, func() bool {
		list := g.reportsOf(address)
		if len(list) > 0 {
			r = list[0]
		}
		return r.State == state && len(r.To) > 0
	})
	return r
}

// later kills the daemon, has some minutes pass for its reports, and starts it again: a report is gathered
// with others for five minutes.
func (p *process) later(g *guided, minutes int) *process {
	g.Helper()
	p.kill()
	const program = `import datetime, re, sqlite3, sys
back = datetime.timedelta(minutes=int(sys.argv[1]))
def earlier(m):
    return (datetime.datetime.fromisoformat(m[1]) - back).isoformat() + m[2]
con = sqlite3.connect("file:/var/lib/fail2ban/fail2ban.sqlite3?mode=rw", uri=True, timeout=10)
with con:
    rows = con.execute("SELECT owner, key, value FROM bantam_note WHERE owner LIKE 'report/%' AND key NOT LIKE 'case %'").fetchall()
    for owner, key, value in rows:
        text = re.sub(r'(?<=")(2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d)([.\d]*(?:Z|[+-]\d\d:\d\d))', earlier, bytes(value).decode())
        con.execute("UPDATE bantam_note SET value = ? WHERE owner = ? AND key = ?", (text.encode(), owner, key))
print(len(rows))`
	out, err := g.inside("python3", "-c", program, fmt.Sprint(minutes)).CombinedOutput()
	if err != nil || string(out) == "0\n" {
		g.Fatalf("nothing gets older: %v\n%s", err, out)
	}
	return g.runs()
}

// reading is a letter taken apart.
func (g *guided) reading(l letter) *smtptest.Reading {
	g.Helper()
	r, err := smtptest.Read(l.data)
	g.check(err)
	return r
}

// xarfOf is the part for machines.
func (g *guided) xarfOf(r *smtptest.Reading) (x struct {
	Source   string `json:"source_identifier"`
	Type     string `json:"type"`
	Port     int    `json:"destination_port"`
	Evidence []struct{ Payload string }
},
) {
	g.Helper()
	if len(r.Parts) != 1 || r.Parts[0].Name != "xarf.json" {
		g.Fatalf("the mail has no part for machines but %s", r.Shape)
	}
	g.check(json.Unmarshal(r.Parts[0].Data, &x))
	return x
}

const abuseReport = "Abuse report: attacks from "

// The abuse guide in one line: the network's desk gets one mail per address and 72 hours, with the address's own lines,
// through the machine's own mail program.
func TestGuideAbuseNatively(t *testing.T) {
	g := abusive(t, abuseWorld, `[DEFAULT]
action = %(action_)s
         abuse[from=abuse@example.org, cc=security@example.org, bcc="archive@example.org, boss@example.org"]
[sshd]
logpath = /var/log/auth.log
backend = polling
`)
	g.mustSay("check", g.does("check"), "sshd: reported by abuse to each network's abuse desk", "1 jail, nothing that keeps one from running")
	p := g.runs()
	const a = "46.72.252.233"
	g.attack("146.72.252.233", 2)
	g.log("var/log/auth.log", strings.Replace(failed(russian), "root", "invalid user 146.72.252.233", 1))
	g.attack(a, 4)
	desk := []string{"abuse@networks.example", "noc@networks.example"}
	if r := g.inState(a, report.Waits); !slices.Equal(r.To, desk) || r.Count != 1 || r.Jail != "sshd" {
		t.Errorf("waiting is %+v", r)
	}
	if n := len(g.local.list()); n != 0 {
		t.Errorf("%d mails at once", n)
	}
	g.mustSay("the list", g.does("report", "list"), "46.72.252.233", "abuse@networks.example, noc@networks.example", "waits")
	preview := g.does("report", "preview", a)
	g.mustSay("the preview", preview, "Subject: "+abuseReport+a, "To: abuse@networks.example, noc@networks.example\nCc: security@example.org\nBcc: archive@example.org, boss@example.org\n",
		`"source_identifier": "46.72.252.233"`)

	p = p.later(g, 6)
	l := g.with(&g.local, abuseReport+a, 1)
	if want := append(slices.Clone(desk), "security@example.org", "archive@example.org", "boss@example.org"); !slices.Equal(l.to, want) || l.from != "abuse@example.org" {
		t.Errorf("the report goes from %s to %v, want %v", l.from, l.to, want)
	}
	mail := g.reading(l)
	if h := mail.Header; h.Get("Cc") != "<security@example.org>" || h.Get("Bcc") != "" || h.Get("Auto-Submitted") != "auto-generated" || strings.Contains(string(l.data), "archive@") {
		t.Errorf("the head of the report is %v", h)
	}
	g.mustSay("the report", mail.Text, "an address of your network, 46.72.252.233, has attacked", "Attacked    sshd, port ssh (tcp)\n", "Attempts    5\n", "46.72.0.0/16", "SEVENTYTWO",
		"[redacted] sshd[65745]: Failed password for [redacted] from 46.72.252.233 port 4000 ssh2\n")
	if n := strings.Count(mail.Text, "from 46.72.252.233 port 4000 ssh2\n"); n != 5 {
		t.Errorf("the report has %d of five lines:\n%s", n, mail.Text)
	}
	for _, secret := range []string{"146.72.252.233", "root", "gate"} {
		if strings.Contains(mail.Text, secret) {
			t.Errorf("the report tells strangers of %q:\n%s", secret, mail.Text)
		}
	}
	x := g.xarfOf(mail)
	if x.Source != a || x.Type != "login_attack" || x.Port != 22 || len(x.Evidence) != 1 {
		t.Errorf("the part for machines is %+v", x)
	} else if lines, err := base64.StdEncoding.DecodeString(x.Evidence[0].Payload); err != nil || strings.Count(string(lines), a) != 5 || strings.Contains(string(lines), "root") {
		t.Errorf("its evidence is %q, %v", lines, err)
	}
	g.inState(a, report.Delivered)

	// A second ban within 72 hours is not reported. Who is banned after it is, so the second one was seen.
	g.unban(a)
	g.attack(a, 5)
	g.until("it is banned again", func() bool { return strings.Count(g.text("/var/log/fail2ban.log"), "[sshd] Ban "+a) == 2 })
	g.attack("46.73.7.1", 5)
	g.attack("46.73.7.2", 5)
	g.inState("46.73.7.2", report.Waits)
	if list := g.reportsOf(a); len(list) != 1 || list[0].State != report.Delivered {
		t.Errorf("reports about %s are %+v", a, list)
	}
	out, code := g.says("report", "send", a)
	if code == 0 {
		t.Error("a second report within 72 hours can be sent without force")
	}
	g.mustSay("the refusal", out, "held back: it was reported at", "--force sends it all the same")

	// An empty record and a network that RDAP does not know, an address of IPv6, and a contact of RDAP's; and of one there is none.
	g.attack("46.99.1.1", 5)
	g.attack("2a00:1::7", 5)
	g.attack("200.1.2.3", 5)
	g.attack("200.9.9.9", 5)
	for address, contact := range map[string]string{"46.99.1.1": "abuse@rdap.example", "2a00:1::7": "abuse@six.example", "200.1.2.3": "abuse@latin.example"} {
		if r := g.inState(address, report.Waits); !slices.Equal(r.To, []string{contact}) {
			t.Errorf("%s is to be reported to %v, want %s", address, r.To, contact)
		}
	}
	g.until("of whom nobody answers for is told", func() bool {
		return strings.Contains(g.text("/var/log/fail2ban.log"), "no abuse contact is known") && len(g.reportsOf("200.9.9.9")) == 0
	})
	p = p.later(g, 6)
	both := g.reading(g.with(&g.local, abuseReport+"46.73.7.1 and 1 other address", 1))
	g.mustSay("the gathered report", both.Text, "2 addresses of your network have attacked", "1 of 2\n", "  Address     46.73.7.1\n", "2 of 2\n", "  Address     46.73.7.2\n")
	latin := g.reading(g.with(&g.local, abuseReport+"200.1.2.3", 1))
	if strings.Contains("\n"+latin.Text, "\n~") || strings.Contains(latin.Text, "\n.\n") {
		t.Errorf("a line of the registry's is a command to a mail program:\n%s", latin.Text)
	}
	for _, address := range []string{"46.73.7.2", "200.1.2.3", "46.99.1.1", "2a00:1::7"} {
		g.inState(address, report.Delivered)
	}

	// After 72 hours there may be another; by hand at once.
	p = p.later(g, 72*60)
	g.unban(a)
	g.attack(a, 5)
	if r := g.inState(a, report.Waits); r.Count != 2 {
		t.Errorf("the second report is %+v", r)
	}
	g.mustSay("the answer", g.does("report", "send", a), "the report about 46.72.252.233 goes to abuse@networks.example, noc@networks.example")
	g.with(&g.local, abuseReport+a, 2)
	g.does("report", "send", a, "--force")
	g.with(&g.local, abuseReport+a, 3)
	if r := g.inState(a, report.Delivered); r.Count != 3 {
		t.Errorf("the third report is %+v", r)
	}
	p.terminate()
	if n := len(g.local.list()); n != 7 {
		t.Errorf("%d mails were sent, not seven", n)
	}
}

// bansIn waits until a jail has banned somebody.
func (g *guided) bansIn(jail, address string) {
	g.Helper()
	g.until(jail+" bans "+address, func() bool {
		return slices.ContainsFunc(g.bans(), func(b bantam.Ban) bool { return b.Jail == jail && b.ID.String() == address })
	})
}

// attackIn is what a jail's own log has of somebody who tries five passwords; the jail is called as the log.
func (g *guided) attackIn(jail, address string) {
	g.Helper()
	g.log("var/log/"+jail+".log", strings.Repeat(failed(netip.MustParseAddr(address)), 5))
	g.bansIn(jail, address)
}

// The same through a relay that asks for a login and has no time at first: a report that is written is sent
// once, whatever happens to the daemon. Who only watches, bans by hand or counts what anybody can forge reports
// nobody, and a trial goes to who tries.
func TestGuideAbuseByRelayNatively(t *testing.T) {
	g := abusive(t, abuseWorld, "")
	var relay *smtptest.Server
	g.check(g.net.Do(func() {
		relay = smtptest.New(t, smtptest.Options{User: "bantam", Password: "s3cret-pass"})
	}))
	authority, err := os.ReadFile(relay.CAFile())
	g.check(err)
	g.write("etc/ssl/certs/relay.pem", string(authority))
	g.write("etc/fail2ban/relay-password", "s3cret-pass\n")
	var local strings.Builder
	fmt.Fprintf(&local, "[DEFAULT]\nbackend = polling\nfilter = sshd\nreport = abuse[from=abuse@example.org, via=\"smtp[relay=%s, user=bantam, password=file:/etc/fail2ban/relay-password]\"]\n", relay.Addr())
	for _, jail := range []struct{ name, options string }{
		{"sshd", "action = %(report)s"},
		{"watch", "observe = yes\naction = %(report)s"},
		{"voip", "protocol = udp\naction = %(report)s"},
		{"names", "action = %(banaction)s[protocol=udp]\n         %(report)s"},
		{"trial", "action = abuse[from=abuse@example.org, to=me@example.org, cc=security@example.org]"},
	} {
		fmt.Fprintf(&local, "[%s]\nenabled = true\nlogpath = /var/log/%s.log\n%s\n", jail.name, jail.name, jail.options)
		g.write("var/log/"+jail.name+".log", "")
	}
	g.write("etc/fail2ban/jail.local", local.String())
	relay.Answer(func(verb, _ string) smtptest.Reply {
		if verb == "MAIL" {
			return smtptest.Reply{Code: 451}
		}
		return smtptest.Reply{}
	})
	p := g.runs()
	g.attackIn("watch", "46.99.2.1")
	g.attackIn("voip", "46.99.2.2")
	g.does("ban", "46.99.2.3", "--jail", "sshd")
	g.attackIn("names", "46.99.2.4")
	const a = "46.73.7.1"
	g.attackIn("sshd", a)
	g.attackIn("trial", "46.72.252.233")
	g.inState(a, report.Waits)
	g.until("the trial waits", func() bool { return len(g.reportsOf("46.72.252.233")) == 1 })
	for _, address := range []string{"46.99.2.1", "46.99.2.2", "46.99.2.3", "46.99.2.4"} {
		if list := g.reportsOf(address); len(list) != 0 {
			t.Errorf("%s is reported: %+v", address, list)
		}
	}

	p = p.later(g, 6)
	r := g.inState(a, report.Queued)
	g.until("the relay has no time", func() bool { list := g.reportsOf(a); return len(list) == 1 && list[0].Err != "" })
	g.mustSay("the queue", g.does("notify", "queue"), "abuse report of "+a+" to abuse@pair.example", "451", r.Key)
	trial := g.reading(g.with(&g.local, "Trial: "+abuseReport+"46.72.252.233", 1))
	g.mustSay("the trial", trial.Text, "This is a trial, sent to you alone.", "  abuse@networks.example\n  noc@networks.example\n")
	if to := g.local.list()[0].to; !slices.Equal(to, []string{"me@example.org"}) {
		t.Errorf("the trial goes to %v", to)
	}
	g.inState("46.72.252.233", report.Delivered)
	p.kill()
	relay.Answer(nil)
	p = g.runs()
	g.does("notify", "queue", "--retry", r.Key)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mail, err := relay.Next(ctx)
	g.check(err)
	if !slices.Equal(mail.To, []string{"abuse@pair.example"}) || !mail.TLS || mail.User != "bantam" || !strings.Contains(string(mail.Data), "<"+r.Key+"@example.org>") {
		t.Errorf("the report is from %s to %v, by %s, with TLS %t:\n%s", mail.From, mail.To, mail.User, mail.TLS, mail.Data)
	}
	g.inState(a, report.Delivered)
	p.kill()
	p = g.runs()
	g.mustSay("the queue", g.does("notify", "queue"), "nothing waits")
	p.terminate()
	if n := len(relay.Mails()); n != 1 {
		t.Errorf("the relay has taken %d mails", n)
	}
	if text := g.text("/var/log/fail2ban.log"); strings.Contains(text, "s3cret") {
		t.Error("the password stands in the log")
	}
}

// Public lists hear of a ban at once and once, with their own words for what it was; one that asks for a
// pause gets it.
func TestReportToListsNatively(t *testing.T) {
	g := abusive(t, abuseWorld, "")
	var mu sync.Mutex
	var got []url.Values
	busy := true
	l, err := g.net.Listen("tcp", "127.0.0.1:8080")
	g.check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		g.check(r.ParseForm())
		form := r.PostForm
		form.Set("path", r.URL.Path)
		form.Set("key", r.Header.Get("Key"))
		switch {
		case r.URL.Path == "/blocklist":
			fmt.Fprint(w, `{"status":"success","error":0}`)
		case busy:
			busy = false
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"errors":[{"detail":"Daily rate limit exceeded","status":429}]}`)
			return
		default:
			fmt.Fprint(w, `{"data":{"ipAddress":"46.73.7.1","abuseConfidenceScore":52}}`)
		}
		got = append(got, form)
	})}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	taken := func(path, address string) (forms []url.Values) {
		mu.Lock()
		defer mu.Unlock()
		for _, form := range got {
			if form.Get("path") == path && (address == "" || form.Get("ip") == address) {
				forms = append(forms, form)
			}
		}
		return forms
	}
	g.write("etc/fail2ban/abuseipdb-key", "key-of-abuseipdb\n")
	g.write("etc/fail2ban/jail.local", `[sshd]
logpath = /var/log/auth.log
backend = polling
action = abuseipdb-report[key=file:/etc/fail2ban/abuseipdb-key, url=http://127.0.0.1:8080/abuseipdb]
         blocklist-report[key=key-of-blocklist, from=fail2ban@example.org, url=http://127.0.0.1:8080/blocklist]
`)
	p := g.runs()
	g.attack("46.73.7.1", 5)
	for path, want := range map[string]map[string]string{
		"/abuseipdb": {"key": "key-of-abuseipdb", "categories": "18,22"},
		"/blocklist": {"apikey": "key-of-blocklist", "server": "fail2ban@example.org", "service": "ssh", "format": "json"},
	} {
		g.until(path+" is told", func() bool { return len(taken(path, "46.73.7.1")) == 1 })
		form := taken(path, "46.73.7.1")[0]
		for key, value := range want {
			if form.Get(key) != value {
				t.Errorf("%s: %s is %q, want %q", path, key, form.Get(key), value)
			}
		}
		lines := form.Get("comment") + form.Get("logs")
		if n := strings.Count(lines, "[redacted] sshd[2793]: Failed password for [redacted] from 46.73.7.1 port 4000 ssh2"); n != 5 {
			t.Errorf("%s is told of %d lines:\n%s", path, n, lines)
		}
	}
	g.until("both are done with", func() bool {
		list := g.reportsOf("46.73.7.1")
		return len(list) == 2 && list[0].State == report.Delivered && list[1].State == report.Delivered
	})
	g.unban("46.73.7.1")
	g.attack("46.73.7.1", 5)
	g.bansIn("sshd", "46.73.7.1")
	g.attack("46.73.7.2", 5)
	for _, path := range []string{"/abuseipdb", "/blocklist"} {
		g.until(path+" is told of the next", func() bool { return len(taken(path, "46.73.7.2")) == 1 })
		if n := len(taken(path, "")); n != 2 {
			t.Errorf("%s is told %d times, not of each once", path, n)
		}
	}
	p.terminate()
	for _, secret := range []string{"key-of-abuseipdb", "key-of-blocklist"} {
		if strings.Contains(g.text("/var/log/fail2ban.log"), secret) {
			t.Errorf("%s stands in the log", secret)
		}
	}
}

// What a registry says of an attacker's network stands in the operator's mail as text, whatever it says.
func TestMailWithWhoisNatively(t *testing.T) {
	const evil = "inetnum: 200.1.2.0/24\r\nowner: <script>alert(1)</script>\r\n~!touch /var/evil\r\n.\r\nQUIT\r\ncountry: BR\r\n" +
		"remarks: \x1b[2J\u202egnp.exe\r\nSubject: you have won\r\nBcc: victim@example.com\r\n"
	g := abusive(t, world{txt: abuseWorld.txt, whois: func(string) string { return evil }}, `[sshd]
logpath = /var/log/auth.log
backend = polling
action = mta[to=root@example.org, from=bantam@example.org, whois=yes]
`)
	p := g.runs()
	g.attack("200.1.2.3", 5)
	g.until("a mail comes", func() bool { return len(g.local.list()) == 1 })
	l := g.local.list()[0]
	mail := g.reading(l)
	if !slices.Equal(l.to, []string{"root@example.org"}) || !strings.Contains(mail.Subject, "200.1.2.3") || mail.Header.Get("Bcc") != "" || len(mail.Header["Subject"]) != 1 {
		t.Errorf("the mail goes to %v, with the head %v", l.to, mail.Header)
	}
	g.mustSay("the mail", mail.Text, "200.1.2.0/24", "<script>alert(1)</script>", "touch /var/evil", "QUIT", "Subject: you have won")
	g.mustSay("the page", mail.HTML, "&lt;script&gt;alert(1)&lt;/script&gt;", "touch /var/evil")
	for what, text := range map[string]string{"text": mail.Text, "page": mail.HTML} {
		for _, bad := range []string{"\n~", "\n.\n", "\x1b", "\u202e", "<script>alert"} {
			if strings.Contains(text, bad) && (what != "text" || bad != "<script>alert") {
				t.Errorf("the %s has %q:\n%s", what, bad, text)
			}
		}
	}
	p.terminate()
	if _, err := os.Stat(filepath.Join(g.dir, "var/evil")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the registry says was run: %v", err)
	}
}
