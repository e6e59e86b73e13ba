package test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ipwhois stands in for the module of that name, which Debian does not package: it asks the test's WHOIS
// server and gives its answer the shape that the script reads.
const ipwhois = `import socket

class IPWhois:
    def __init__(self, address):
        self.address = address

    def lookup_whois(self):
        with socket.create_connection(("127.0.0.1", 43), 10) as s:
            s.sendall((self.address + "\r\n").encode())
            answer = s.makefile(encoding="utf-8").read()
        net = dict(line.split(": ", 1) for line in answer.splitlines())
        if "emails" in net:
            net["emails"] = net["emails"].split()
        return {"nets": [net]}
`

// A page is how much of the abuse guide's configuration is put back.
type page int

const (
	asFound  page = iota // a closing quote and the sections' heads are missing
	quoted               // the quote is there
	restored             // both are
)

// abuseScript is where the guide puts its script.
const abuseScript = "/usr/local/sbin/fail2ban_abuse_sendmail"

// abuseGuide is what the guide has its reader make. The page has lost lines on its way, "try:" everywhere, and
// what stood in brackets; they are put back with their obvious meaning.
func abuseGuide(t *testing.T, how page) map[string]string {
	t.Helper()
	text := guide(t, "001")
	// That mta is sendmail is the package's own setting.
	jails := between(t, text, "/etc/fail2ban/jail.conf\n\n", "\nmta = sendmail")
	action := between(t, text, "on the bottom of the script!\n\n\n", "\nNow the Python dependencies")
	// The sender is the reader's to fill in.
	action = restore(t, action, "sender =\n", "sender = fail2ban@example.org\n")
	if how >= quoted {
		jails = restore(t, jails, `protocol="%(protocol)s]`, `protocol="%(protocol)s"]`)
	}
	if how >= restored {
		action = "[Definition]\n" + restore(t, action, "# Defaut name of the chain", "[Init]\n# Defaut name of the chain")
	}
	conf, err := os.ReadFile(filepath.Join(unpacked(t), "peer/etc/fail2ban/jail.conf"))
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/usr/bin/env python3" + between(t, text, "#!/usr/bin/env python3", "service fail2ban restart")
	const try = "\n  try:"
	return map[string]string{
		"/etc/fail2ban/jail.conf":                    restore(t, string(conf), "action = %(action_)s\n\n\n", jails+"\n\n\n"),
		"/etc/fail2ban/action.d/sendmail-abuse.conf": action,
		abuseScript: restore(t, script,
			"def get_abuse_contacts(reverse_ip, whois):", try,
			"f'{reverse_ip}'", "f'{reverse_ip}.abuse-contacts.abusix.zone'",
			"      return ','.join(whois['emails'])\n", "      return ','.join(whois['emails'])\n    else:\n",
			"def get_reverse_ip(ip):", try,
			"['', '']", "['.in-addr.arpa.', '.ip6.arpa.']",
			"def whois(ip):", try,
			"def get_logs(ip, logfile):", try,
			"def sendmail(data):", try,
			"no recipients are defined', 'error')", "\n      return",
			"intrusion attempts were detected:\n", "\n      {}\n",
			"      WHOIS report:\n", "\n      {}\n      \"\"\"\n",
			"    date_str =\n", "    date_str = datetime.now().strftime('%Y-%m-%d %H:%M:%S')\n",
			"stdin=subprocess.PIPE, universal_newlines=True)", "\n    s.communicate(msg.as_string())",
			"def log(t, f):", try,
			"    fh.setFormatter(", "    logger.setLevel(logging.INFO)\n    logger.addHandler(fh)\n    fh.setFormatter(",
			"      if f == 'error':\n", "\n        logger.error(l)\n",
			"      if f == 'info':\n", "\n        logger.info(l)\n",
			// Else a report that nobody could be sent would be entered as sent.
			"    if f == 'error':\n  except", "    logger.removeHandler(fh)\n    if f == 'error':\n      sys.exit(1)\n  except",
			"def sql(ip, mode):", try,
			"( - r[0])", "(datetime.now() - r[0])",
			"return td//3600\n", "\n      else:\n",
			"IS NULL THEN\n", "\n                        1\n                      ELSE\n",
			"(SELECT (counter + 1) FROM abusers WHERE ip = '{ip}')\n", "\n                      END)\"\"\")\n    con.commit()\n    con.close()\n",
			"def main():", try,
			"retrying too early ({hours_ago} hours)\", 'info')", "\n      return",
			"get_abuse_contacts(get_reverse_ip(data['ip']), data['whois'])", "\n    sendmail(data)",
			"if __name__ == \"__main__\":", "\n  main()",
		),
		"/usr/lib/python3/dist-packages/ipwhois.py": ipwhois,
		"/etc/fail2ban/jail.local":                  "[sshd]\nlogpath = /var/log/auth.log\nbackend = polling\n",
	}
}

// The abuse guide as it is written: its action in Debian's jail.conf, its action file and its script. The
// network's desk gets one report per address and 72 hours, with lines and WHOIS.
func TestGuideAbuseAsWritten(t *testing.T) { byBoth(t, guideAbuse) }

func guideAbuse(t *testing.T, peer bool) {
	const zone = ".abuse-contacts.abusix.zone"
	g := follow(t, world{
		txt: func(name string) []string {
			switch strings.ToLower(name) {
			case "7.2.0.192" + zone:
				return []string{"abuse@networks.example", "noc@networks.example"}
			case "9.100.51.198" + zone, "5.113.0.203" + zone: // LACNIC's are there, and say nothing
				return []string{""}
			case "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2" + zone:
				return []string{"abuse@six.example"}
			}
			return nil
		},
		whois: func(query string) string {
			switch query {
			case "198.51.100.9", "198.51.100.10":
				return "name: LATIN\nemails: abuse@latin.example\n"
			case "203.0.113.5":
				return "name: NOBODY\n"
			}
			return "name: EXAMPLE-NET\nemails: whois@networks.example\n"
		},
	}, abuseGuide(t, restored))
	g.peer = peer
	client, err := g.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("203.0.113.5/24"))
	g.check(err)
	g.echo()
	connects := func(from string) bool { return g.connects(client, netip.MustParseAddr(from)) }

	g.mustSay("check", g.does("check"), "action iptables-multiport, by bantam itself: sshd", "action sendmail-abuse, by shell: sshd",
		"/etc/fail2ban: 1 jail, nothing that keeps one from running")
	p := g.runs()
	start := g.with(&g.local, "[Fail2Ban] sshd: started", 1)
	header, _, text := start.read(t)
	if _, err := header.Date(); err != nil || start.from != "fail2ban@example.org" || header.Get("From") != "Fail2Ban <fail2ban@example.org>" || header.Get("To") != "root@localhost" {
		t.Errorf("the head of the mail of the start: %v in\n%s", err, start.data)
	}
	if strings.TrimSpace(text) != "The jail sshd has been started successfully.\n\nFail2Ban" {
		t.Errorf("the mail of the start says %q", text)
	}

	const report = "Automatic abuse report for IP address "
	g.attack("198.51.100.200", 1)
	g.attack("192.0.2.7", 5)
	abuse := g.with(&g.local, report+"192.0.2.7", 1)
	header, _, text = abuse.read(t)
	if got := strings.Join(abuse.to, " "); got != "abuse@networks.example noc@networks.example" || abuse.from != "fail2ban@example.org" ||
		header.Get("To") != "abuse@networks.example,noc@networks.example" || header.Get("From") != "fail2ban@example.org" {
		t.Errorf("the report goes from %s to %s:\n%s", abuse.from, got, abuse.data)
	}
	g.mustSay("the report", text, "This is an email abuse report about the IP address 192.0.2.7 generated at 20",
		"The following intrusion attempts were detected:\n\n", "WHOIS report:\n\nname: EXAMPLE-NET\nemails: ['whois@networks.example']\n")
	if n := strings.Count(text, "Failed password for root from 192.0.2.7 port 4000 ssh2"); n != 5 || strings.Contains(text, "198.51.100.200") {
		t.Errorf("the report has %d of the address's lines:\n%s", n, text)
	}
	g.until("who is banned is shut out", func() bool { return !connects("192.0.2.7") })
	g.until("its neighbour is not", func() bool { return connects("192.0.2.8") })
	entered := func(address string, counter int) func() bool {
		return func() bool { return g.reports(address) == fmt.Sprintf("(%d,)", counter) }
	}
	g.until("the report is in the script's database", entered("192.0.2.7", 1))

	// Within 72 hours there is no second one.
	diary := func() string { return g.text("/var/log/fail2ban_abuse_sendmail.log") }
	g.mustSay("the script's log", diary(), "INFO - E-Mail sent for IP 192.0.2.7 with recipient(s) abuse@networks.example,noc@networks.example\n")
	g.unban("192.0.2.7")
	g.attack("192.0.2.7", 5)
	g.until("the second report is skipped", func() bool {
		return strings.Contains(diary(), "Skip sending E-Mail for IP 192.0.2.7, retrying too early (0")
	})
	if n := g.reports("192.0.2.7"); n != "(1,)" {
		t.Errorf("the script has counted %s reports", n)
	}
	g.query("UPDATE abusers SET last_mail = datetime('now', 'localtime', '-73 hours') WHERE ip = ?", "192.0.2.7")
	g.unban("192.0.2.7")
	g.attack("192.0.2.7", 5)
	g.with(&g.local, report+"192.0.2.7", 2)
	g.until("the second report is counted", entered("192.0.2.7", 2))

	// An empty record, and none at all: the contact is WHOIS's.
	for _, address := range []string{"198.51.100.9", "198.51.100.10"} {
		g.attack(address, 5)
		if got := strings.Join(g.with(&g.local, report+address, 1).to, " "); got != "abuse@latin.example" {
			t.Errorf("the report about %s goes to %s", address, got)
		}
	}
	g.attack("2001:db8::7", 5)
	if got := strings.Join(g.with(&g.local, report+"2001:db8::7", 1).to, " "); got != "abuse@six.example" {
		t.Errorf("the report about an address of IPv6 goes to %s", got)
	}

	// Nobody to report to: no mail, the ban stands, and the daemon says that the action failed.
	g.attack("203.0.113.5", 5)
	g.until("the daemon says that the action failed", func() bool {
		return strings.Contains(g.text("/var/log/fail2ban.log"), "Failed to execute ban jail 'sshd' action 'sendmail-abuse'")
	})
	g.mustSay("the script's log", diary(), "ERROR - Skip sending email because no recipients are defined\n")

	g.until("who could not be reported is shut out", func() bool { return !connects("203.0.113.5") })

	p.terminate()
	_, _, text = g.with(&g.local, "[Fail2Ban] sshd: stopped", 1).read(t)
	g.mustSay("the mail of the stop", text, "The jail sshd has been stopped.")
	if n := len(g.local.list()); n != 7 {
		t.Errorf("%d mails were sent, not five reports, a start and a stop", n)
	}
}

// The line that the guide offers for a copy of every report: who is configured as the recipient gets one,
// and the network's desk does not see that.
func TestGuideAbuseBlindCopyAsWritten(t *testing.T) {
	files := abuseGuide(t, restored)
	files[abuseScript] = restore(t, files[abuseScript], "report for IP address {data['ip']}\"", "\n    msg['Bcc'] = data['dest_mail']")
	byBoth(t, func(t *testing.T, peer bool) {
		g := follow(t, world{whois: func(string) string { return "emails: abuse@networks.example\n" }}, files)
		g.peer = peer
		g.runs()
		g.attack("192.0.2.7", 5)
		l := g.with(&g.local, "Automatic abuse report for IP address 192.0.2.7", 1)
		header, _, _ := l.read(t)
		if got := strings.Join(l.to, " "); got != "abuse@networks.example root@localhost" || header.Get("To") != "abuse@networks.example" || header.Get("Bcc") != "" {
			t.Errorf("the report goes to %s:\n%s", got, l.data)
		}
	})
}

// query runs a statement on the script's own database, on the machine, and returns what it finds: a
// SQLite in this process would take the way there, a link of /proc, for the real root.
func (g *guided) query(statement string, args ...string) string {
	g.Helper()
	const program = `import sqlite3, sys
con = sqlite3.connect("file:/var/lib/fail2ban_abuse_sendmail.db?mode=rw", uri=True, timeout=10)
with con:
    print(*con.execute(sys.argv[1], sys.argv[2:]).fetchall())`
	out, err := g.inside(append([]string{"python3", "-c", program, statement}, args...)...).CombinedOutput()
	if err != nil {
		g.Fatalf("%s: %v\n%s", statement, err, out)
	}
	return strings.TrimSpace(string(out))
}

// reports is how many reports about an address the script has counted, as Python prints it.
func (g *guided) reports(address string) string {
	g.Helper()
	return g.query("SELECT counter FROM abusers WHERE ip = ?", address)
}

// What the page lacks is named with its place, one thing after the other.
func TestGuideAbuseDamagedPage(t *testing.T) {
	for _, tt := range []struct {
		name string
		page page
		want []string
	}{
		{"a quote is not closed", asFound, []string{`jail.conf:264: action_abuse: a quote is not closed: "protocol=\"%(protocol)s]"`, "1 jail, 1 error"}},
		{"the action's file has no section", quoted, []string{
			"action.d/sendmail-abuse.conf:4: \"actionstart = printf", "stands before the first [section]\n  hint: begin with ", "[Definition]",
			"action iptables-multiport, by bantam itself: sshd", "1 jail, 1 error",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := follow(t, world{}, abuseGuide(t, tt.page))
			out, code := g.says("check")
			if code != 1 {
				t.Errorf("check ends with %d", code)
			}
			g.mustSay("check", out, tt.want...)
		})
	}
}
