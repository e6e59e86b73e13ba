package test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"

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
	g.mustSay("check", g.does("check"), "action abuse, by bantam itself: sshd", "1 jail, nothing that keeps one from running")
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
