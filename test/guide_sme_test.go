package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bantam/internal/nstest"
)

// Where the guide's machine keeps what.
const (
	smeSSH   = "/var/log/sshd/current"
	smeMail  = "/var/log/qpsmtpd/current"
	smeHTTP  = "/var/log/httpd/error_log"
	smePAM   = "/var/log/secure"
	smeOwn   = "/var/log/fail2ban/daemon.log"
	smeDB    = "/etc/e-smith/db/configuration" // /home, its real place, is the machine's own
	smeLocal = "192.168.7.0/24"
)

// The programs of an SME Server that the guide takes for granted: its two actions, which the page names and does not
// print, its command db, and two filters that came with Fail2Ban then.
var smeFiles = map[string]string{
	"/etc/fail2ban/action.d/smeserver-iptables.conf": `[Definition]
actionban = if [ -n "<port>" ]; then iptables -I INPUT -s <ip> -p <protocol> -m multiport --dports <port> -j DROP; else iptables -I INPUT -s <ip> -j DROP; fi
            T=<time>; db fail2ban set <name>-<ip> ban Host <ip> BanTimestamp ${T%%.*} UnbanTimestamp $((${T%%.*} + <bantime>))
actionunban = if [ -n "<port>" ]; then iptables -D INPUT -s <ip> -p <protocol> -m multiport --dports <port> -j DROP; else iptables -D INPUT -s <ip> -j DROP; fi
              db fail2ban delete <name>-<ip>
[Init]
port =
protocol = tcp
`,
	"/etc/fail2ban/action.d/smeserver-sendmail.conf": `[Definition]
actionban = printf "Subject: [Fail2Ban] <name>: banned <ip>\nTo: <dest>\n\nbanned after <failures> attempts\n" | /usr/sbin/sendmail <dest>@localhost
[Init]
dest = root
`,
	"/etc/fail2ban/filter.d/sshd-ddos.conf":   "[Definition]\nfailregex = sshd(?:\\[\\d+\\])?: Did not receive identification string from <HOST>\\s*$\n",
	"/etc/fail2ban/filter.d/apache-scan.conf": "[Definition]\nfailregex = \\[client <HOST>(?::\\d+)?\\] (?:AH\\d+: )?File does not exist: /\\S*(?:phpmyadmin|wp-login)\n",
	"/usr/local/bin/db": `#!/bin/bash
file=/var/local/db-$1
touch "$file"
case $2 in
set) key=$3; shift 3; sed -i "/^$key=/d" "$file"; (IFS='|'; echo "$key=$*") >>"$file" ;;
delete) sed -i "/^$3=/d" "$file" ;;
getprop) sed -n "s/^$3=.*|$4|\([^|]*\).*/\1/p" "$file" ;;
show) awk -F'|' '{ print $1; for (i = 2; i < NF; i += 2) print "    " $i "=" $(i + 1) }' "$file" ;;
esac
`,
}

// smeGuide is the machine of who has followed the guide up to a point: files are laid over it.
func smeGuide(t *testing.T, files map[string]string) *guided {
	t.Helper()
	all := map[string]string{
		"/etc/fail2ban/jail.d/defaults-debian.conf": "",
		"/etc/fail2ban/fail2ban.local":              "[Definition]\nlogtarget = " + smeOwn + "\n",
		"/usr/local/bin/fail2ban-client":            "#!/bin/bash\nexec -a fail2ban-client " + program + " \"$@\"\n",
		smeSSH:                                      "", smeMail: "", smeHTTP: "", smePAM: "", smeOwn: "", "/var/local/empty": "",
	}
	for _, more := range []map[string]string{smeFiles, files} {
		for name, text := range more {
			all[name] = text
		}
	}
	g := follow(t, world{}, all)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", g.text(smeOwn))
		}
	})
	return g
}

// smeJailConf is the jail.conf that the guide prints, with the headers that the page has lost.
func smeJailConf(t *testing.T) string {
	t.Helper()
	text := restore(
		t, between(t, guide(t, "003"), "\ndefault jail.conf\n", "\nyum remove"),
		"ignoreip = 192.168.XXX.XXX 192.168.XXX.0/24\n", "[DEFAULT]\nignoreip = 192.168.7.1 "+smeLocal+"\n",
		"\nImportant.png Note:\nYour network and your server are in the list of ignored IP by fail2ban (see IgnoreIP)\n", " ",
		"backend = auto\n", "\n",
	)
	for _, jail := range [][2]string{
		{"ssh", "sshd\n"},
		{"ssh-ddos", "sshd-ddos\n"},
		{"qpsmtpd", "qpsmtpd\n"},
		{"http-overflows", "apache-overflows\n"},
		{"http-noscript", "apache-noscript\n"},
		{"http-scan", "apache-scan\n"},
		{"http-auth", "apache-auth\n"},
		{"pam-generic", "pam-generic\n"},
		{"recidive", "recidive\n"},
	} {
		start := "enabled  = true\nfilter   = " + jail[1]
		text = restore(t, text, start, "["+jail[0]+"]\n"+start)
	}
	return text
}

// tai is the time as multilog writes it: TAI64N, ten seconds ahead of UTC (cr.yp.to/libtai/tai64.html).
func tai(at time.Time) string {
	return fmt.Sprintf("@%016x%08x", uint64(1)<<62+10+uint64(at.Unix()), at.Nanosecond())
}

// fails writes n failures of an address with a service.
func (g *guided) fails(service, from string, n int) {
	g.Helper()
	now := time.Now()
	apache := now.Format("[Mon Jan 02 15:04:05.000000 2006]")
	for range n {
		file, line := "", ""
		switch service {
		case "ssh":
			file, line = smeSSH, tai(now)+" sshd[77]: Failed password for root from "+from+" port 4000 ssh2"
		case "sshd -e":
			file, line = smeSSH, tai(now)+" Failed password for root from "+from+" port 4000 ssh2\r"
		case "qpsmtpd":
			file, line = smeMail, tai(now)+" 7923 logging::logterse plugin (deny): ` "+from+"\tmx.example.net\tmx\t<a@example.com>\t\trhsbl\t901\tBlocked\tmsg denied before queued"
		case "http-auth":
			file, line = smeHTTP, apache+" [auth_basic:error] [pid 77] [client "+from+":4000] AH01617: user admin: authentication failure for \"/manager\": Password Mismatch"
		case "pwauth":
			file, line = smeHTTP, apache+" [authnz_external:error] [pid 77] [client "+from+":4000] AuthExtern pwauth [/usr/bin/pwauth]: Failed (1) for user admin"
		case "pam-generic":
			file, line = smePAM, now.Format(time.Stamp)+" gate vsftpd: pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=bob rhost="+from
		case "imap":
			file, line = "/var/log/dovecot/current", tai(now)+" imap-login: Info: Disconnected (auth failed, 1 attempts in 2 secs): user=<bob>, method=PLAIN, rip="+from+", lip=10.99.0.1"
		case "wordpress":
			file, line = "/var/log/httpd/access_log", from+" - - "+now.Format("[02/Jan/2006:15:04:05 -0700]")+` "POST /wp-login.php HTTP/1.1" 200 4530 "-" "Mozilla/5.0"`
		case "portscan":
			file, line = "/var/log/messages", now.Format(time.Stamp)+" gate kernel: [123.4] denylog: IN=eth0 OUT= MAC= SRC="+from+" DST=10.99.0.1 LEN=44 TOS=0x00 PREC=0x00 TTL=54 ID=54321 PROTO=TCP SPT=40611 DPT=23 WINDOW=65535 RES=0x00 SYN URGP=0"
		default:
			g.Fatalf("nobody knows how %s fails", service)
		}
		g.log(file[1:], line+"\n")
	}
}

// reaches is whether an address of the client gets through to a port.
func (g *guided) reaches(client *nstest.Host, from string, port uint16) bool {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.Context(), 300*time.Millisecond)
	defer cancel()
	conn, err := client.Dial(ctx, "tcp", netip.MustParseAddr(from), netip.AddrPortFrom(nstest.Server4, port))
	if err != nil {
		return false
	}
	g.check(conn.Close())
	return true
}

// listens has the machine answer at the ports of the services.
func (g *guided) listens(ports ...int) {
	g.Helper()
	for _, port := range ports {
		g.answer(fmt.Sprintf("%s:%d", nstest.Server4, port), func(net.Conn) {})
	}
}

// bash runs a script of the guide.
func (g *guided) bash(script string, args ...string) string {
	g.Helper()
	cmd := g.inside(append([]string{"/bin/bash", "-c", script, "script"}, args...)...)
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	out, err := cmd.Output()
	if err != nil || trouble.Len() > 0 {
		g.Errorf("the script ends with %v:\n%s%s", err, out, trouble.String())
	}
	return string(out)
}

// shut waits until an address does not get through to ports, and wants it to get through to others.
func (g *guided) shut(client *nstest.Host, from string, closed, open []uint16) {
	g.Helper()
	for _, port := range closed {
		g.until(fmt.Sprintf("%s is shut out of port %d", from, port), func() bool { return !g.reaches(client, from, port) })
	}
	for _, port := range open {
		if !g.reaches(client, from, port) {
			g.Errorf("%s does not get through to port %d", from, port)
		}
	}
}

// asks is what fail2ban-client prints.
func (g *guided) asks(args ...string) string {
	g.Helper()
	return g.bash(`fail2ban-client "$@"`, args...)
}

// The guide's jail.conf as it is printed: its jails, their bans on their ports only, mails, and what it shows to type.
func TestGuideSMEAsWritten(t *testing.T) {
	g := smeGuide(t, map[string]string{"/etc/fail2ban/jail.conf": smeJailConf(t)})
	client, err := g.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("192.168.7.9/24"))
	g.check(err)
	g.listens(22, 25, 80)
	out, code := g.says("check")
	if code != 0 {
		t.Errorf("check ends with %d", code)
	}
	g.mustSay("check", out, "action smeserver-iptables, by shell: ", "/etc/fail2ban: 9 jails, nothing that keeps one from running")
	p := g.runs()

	if got, want := g.asks("status"), "Status\n|- Number of jail:\t9\n`- Jail list:\thttp-auth, http-noscript, http-overflows, http-scan, pam-generic, qpsmtpd, recidive, ssh, ssh-ddos\n"; got != want {
		t.Errorf("status is\n%s, want\n%s", got, want)
	}
	for jail, retry := range map[string]string{"ssh": "3", "qpsmtpd": "9", "pam-generic": "6", "recidive": "5"} {
		if got := g.asks("get", jail, "maxretry"); got != retry+"\n" {
			t.Errorf("%s allows %s", jail, got)
		}
	}
	for jail, times := range map[string]string{"ssh": "1800 900", "recidive": "604800 86400"} {
		if got := strings.TrimSpace(g.asks("get", jail, "bantime")) + " " + strings.TrimSpace(g.asks("get", jail, "findtime")); got != times {
			t.Errorf("%s has the times %s", jail, got)
		}
	}

	g.fails("ssh", "192.168.7.9", 4) // its own network
	g.fails("ssh", "192.0.2.7", 3)
	g.shut(client, "192.0.2.7", []uint16{22}, []uint16{80, 25})
	if !g.reaches(client, "192.168.7.9", 22) {
		t.Error("somebody of the own network is banned")
	}
	const want = "Status for the jail: ssh\n|- Filter\n|  |- Currently failed:\t0\n|  |- Total failed:\t3\n|  `- File list:\t/var/log/sshd/current\n" +
		"`- Actions\n   |- Currently banned:\t1\n   |- Total banned:\t1\n   `- Banned IP list:\t192.0.2.7\n"
	if got := g.asks("status", "ssh"); got != want {
		t.Errorf("the status of ssh is\n%s", got)
	}
	if got := g.asks("set", "ssh", "unbanip", "192.0.2.7"); got != "1\n" {
		t.Errorf("unbanip says %q", got)
	}
	g.until("who was unbanned connects", func() bool { return g.reaches(client, "192.0.2.7", 22) })

	g.fails("qpsmtpd", "192.0.2.8", 8)
	g.fails("http-auth", "192.0.2.9", 3)
	g.shut(client, "192.0.2.9", []uint16{80}, []uint16{22, 25})
	letter := g.with(&g.local, "[Fail2Ban] Apache (auth): banned 192.0.2.9", 1)
	if strings.Join(letter.to, " ") != "root@localhost" {
		t.Errorf("the mail goes to %v", letter.to)
	}
	if !g.reaches(client, "192.0.2.8", 25) {
		t.Error("eight rejected mails ban")
	}
	g.fails("qpsmtpd", "192.0.2.8", 1)
	g.shut(client, "192.0.2.8", []uint16{25}, []uint16{22, 80})
	g.fails("pam-generic", "192.0.2.10", 6)
	g.shut(client, "192.0.2.10", []uint16{22, 25, 80}, nil)
	g.with(&g.local, "[Fail2Ban] PAM generic: banned 192.0.2.10", 1)
	p.terminate()
	if !g.reaches(client, "192.0.2.10", 22) {
		t.Error("the stop leaves a rule behind")
	}
}

// The four scripts, but for lines that the page has lost, each with the one command that does the same.
func TestGuideSMEScripts(t *testing.T) {
	page := guide(t, "003")
	count := restore(
		t, "#lancer"+between(t, page, "#lancer", "\nchmod 700 /root/checklist_ban"),
		"for j in $JAILS\n", "for j in $JAILS\ndo\n",
		`sed 's/   |- Currently banned:\t//g')"`, "\ndone\n",
	)
	byService := restore(
		t, "# Set CLI"+between(t, page, "# Set CLI", "\nSave the file and make it executable"),
		"# Set CLI vars to something we can read\n", "# Set CLI vars to something we can read\nTYPE=$1\nLOG=$2\n",
	)
	all := restore(
		t, between(t, page, "paste this in it:\n", "\nthen do"),
		"sed -e 's/^[ \\t]*//')\n", "sed -e 's/^[ \\t]*//')\ndo\n",
		"grep -E 'IP list|Status for the jail'", "\ndone\n",
	)
	summary := restore(
		t, between(t, page, "Paste this\n", "\nsave, then make executable"),
		"\"UnbanTime           \\t\"\\\n", "\"UnbanTime           \\t\"\\\n\"Jail\"\n",
		"{print $1}'); \n", "{print $1}'); do\n",
		`echo -e "\t$Bantime\t$UnBanTime\t$LastJail"`, "\ndone\n",
	)

	g := smeGuide(t, map[string]string{"/etc/fail2ban/jail.conf": smeJailConf(t)})
	p := g.runs()
	empty := g.bash(summary)
	g.fails("ssh", "192.0.2.7", 3)
	g.until("the first is banned", func() bool { return strings.Contains(g.bash("db fail2ban show"), "Host=192.0.2.7") })
	g.fails("ssh", "192.0.2.17", 3)
	g.fails("http-auth", "192.0.2.9", 3)
	g.until("all are banned", func() bool { return strings.Count(g.bash("db fail2ban show"), "=ban\n") == 3 })

	if got, want := g.bash(count), "http-auth 1\nhttp-noscript 0\nhttp-overflows 0\nhttp-scan 0\npam-generic 0\nqpsmtpd 0\nrecidive 0\nssh 2\nssh-ddos 0\n"; got != want {
		t.Errorf("the jails' counts are\n%swant\n%s", got, want)
	}
	if got, want := g.bash(byService, "ssh", smeOwn), "[ssh] Ban 192.0.2.7\n[ssh] Ban 192.0.2.17\n"; got != want {
		t.Errorf("ssh has banned\n%swant\n%s", got, want)
	}
	var want strings.Builder
	for _, jail := range strings.Fields("http-auth http-noscript http-overflows http-scan pam-generic qpsmtpd recidive ssh ssh-ddos") {
		fmt.Fprintf(&want, "Status for the jail: %s\n   `- Banned IP list:\t%s\n", jail, map[string]string{"ssh": "192.0.2.7 192.0.2.17", "http-auth": "192.0.2.9"}[jail])
	}
	if got := g.bash(all); got != want.String() {
		t.Errorf("the banned of all jails are\n%swant\n%s", got, want.String())
	}

	const head = "IP             \tBanTime             \tUnbanTime           \tJail\n"
	if empty != head {
		t.Errorf("with nobody banned the summary is\n%s", empty)
	}
	rows := head
	for _, b := range g.bans() {
		begin := b.Time.Truncate(time.Second).Local()
		rows += fmt.Sprintf("%-15s\t%s\t%s\t[%s]\n", b.ID, begin.Format(time.DateTime), begin.Add(30*time.Minute).Format(time.DateTime), b.Jail)
	}
	if got := g.bash(summary); strings.Count(rows, "\n") != 4 || sortedLines(got) != sortedLines(rows) {
		t.Errorf("the summary is\n%swant\n%s", got, rows)
	}

	// The same natively: counts, by service, all, summary.
	g.mustMatch("status", g.does("status"), `(?m)^ssh +\S+ +- +6 +2 `, `(?m)^http-auth +\S+ +- +3 +1 `, `(?m)^recidive +\S+ +- +\d+ +0 `)
	stamp := `\d\d:\d\d:\d\d`
	row := func(address, jail string) string {
		return `(?m)^` + regexp.QuoteMeta(address) + ` +` + jail + ` +(?:\S+ )?` + stamp + ` +(?:\S+ )?` + stamp + ` +(?:30m|29m \d+s) +3 failures$`
	}
	g.mustMatch("banned", g.does("banned"), `^ADDRESS +JAIL +SINCE +UNTIL +LEFT +WHY\n`, row("192.0.2.7", "ssh"), row("192.0.2.17", "ssh"), row("192.0.2.9", "http-auth"))
	if got := g.does("banned", "--jail", "ssh"); strings.Contains(got, "192.0.2.9") || strings.Count(got, "\n") != 3 {
		t.Errorf("banned by ssh are\n%s", got)
	}
	p.terminate()
}

// sortedLines is a text with its lines in order: the database of bans keeps none.
func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		for j := i; j > 0 && lines[j] < lines[j-1]; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return strings.Join(lines, "\n")
}

// mustMatch fails the test for each expression that a text does not match.
func (g *guided) mustMatch(what, text string, expressions ...string) {
	g.Helper()
	for _, e := range expressions {
		if !regexp.MustCompile(e).MatchString(text) {
			g.Errorf("%s does not match %s:\n%s", what, e, text)
		}
	}
}

const smeConfiguration = `# DO NOT MODIFY THIS FILE.
dovecot=service|status|enabled
ejabberd=service|status|disabled
fail2ban=service|BanTime|1800|status|enabled
httpd-admin=service|ValidFrom|198.51.100.0/255.255.255.0|status|enabled
httpd-e-smith=service|TCPPort|80|access|public|status|enabled
imap=service|TCPPort|143|status|enabled
imaps=service|TCPPort|993|status|enabled
masq=service|Fail2Ban|enabled|Logging|most|status|enabled
modSSL=service|TCPPort|443|status|enabled
qpsmtpd=service|TCPPort|25|status|enabled
sogod=service|status|enabled
sqpsmtpd=service|TCPPort|465|status|enabled
sshd=service|TCPPort|2222|status|enabled
wordpress=service|status|enabled
`

// The same server by its own database, with no file of Fail2Ban's: jails, selective bans, mails, local networks,
// and the guide's wishes: pwauth, portscan, WordPress, a log that is not there, a firewall that is reloaded.
func TestGuideSMEDatabase(t *testing.T) {
	g := smeGuide(t, map[string]string{
		"/etc/bantam/jail.local":          "# nothing of our own\n",
		"/etc/bantam/bantam.conf":         "[Definition]\nsettings = esmith:" + smeDB + "\nlogtarget = " + smeOwn + "\nsocket = /var/run/f2b.sock\n",
		smeDB:                             smeConfiguration,
		filepath.Dir(smeDB) + "/networks": "192.168.7.0=network|Mask|255.255.255.0|Router|default|SystemLocalNetwork|yes\n",
		"/var/log/dovecot/current":        "", "/var/log/httpd/access_log": "", "/var/log/messages": "",
	})
	client, err := g.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("192.168.7.9/24"), netip.MustParsePrefix("198.51.100.9/24"))
	g.check(err)
	g.listens(22, 25, 80, 143, 993, 2222)
	out, code := g.says("check")
	if code != 0 {
		t.Errorf("check ends with %d", code)
	}
	g.mustSay("check", out, `there is no file "/var/log/sogo/sogo.log" for [sogo]`, "told by mta to root@localhost")
	p := g.runs()
	g.mustSay("the list of jails", g.asks("-s", "/var/run/f2b.sock", "status"), "Jail list:\thttp-auth, http-badbots, http-fakegooglebot, http-noscript, "+
		"http-overflows, http-scan, http-shellshock, imap, pam-generic, portscan, qpsmtpd, recidive, sogo, ssh, ssh-ddos, wordpress-login\n")
	g.mustMatch("status", g.does("status"), `(?m)^sogo .* no file$`)

	rest := func(but ...uint16) (open []uint16) {
		for _, port := range []uint16{22, 25, 80, 143, 2222} {
			if len(but) == 0 || port != but[0] {
				open = append(open, port)
			}
		}
		return open
	}
	for i, c := range []struct {
		service, jail string
		n             int
		closed, open  []uint16
	}{
		{"ssh", "ssh", 3, []uint16{2222}, rest(2222)},
		{"sshd -e", "ssh", 3, []uint16{2222}, rest(2222)},
		{"http-auth", "http-auth", 3, []uint16{80}, rest(80)},
		{"pwauth", "http-auth", 3, []uint16{80}, rest(80)},
		{"qpsmtpd", "qpsmtpd", 9, []uint16{25}, rest(25)},
		{"imap", "imap", 3, []uint16{143, 993}, rest(143)},
		{"wordpress", "wordpress-login", 8, []uint16{80}, rest(80)},
		{"pam-generic", "pam-generic", 6, rest(), nil},
		{"portscan", "portscan", 15, rest(), nil},
	} {
		from := fmt.Sprintf("192.0.2.%d", 20+i)
		g.fails(c.service, from, c.n-1)
		if !g.reaches(client, from, c.closed[0]) {
			t.Errorf("%s: %d failures ban", c.service, c.n-1)
		}
		g.fails(c.service, from, 1)
		g.shut(client, from, c.closed, c.open)
		g.with(&g.local, "[bantam] gate.example.org: "+c.jail+" banned "+from, 1)
	}
	g.fails("ssh", "192.168.7.9", 4)  // the local network
	g.fails("ssh", "198.51.100.9", 4) // who may manage the server
	g.fails("ssh", "192.0.2.40", 3)
	g.shut(client, "192.0.2.40", []uint16{2222}, nil)
	for _, from := range []string{"192.168.7.9", "198.51.100.9"} {
		if !g.reaches(client, from, 2222) {
			t.Errorf("%s is banned", from)
		}
	}

	// What reloads the firewall takes bans away, for less than a second.
	flushed, err := g.net.Output(t.Context(), "nft", "flush", "ruleset")
	if err != nil {
		t.Fatalf("flush the rules: %v: %s", err, flushed)
	}
	at := time.Now()
	g.shut(client, "192.0.2.40", []uint16{2222}, nil)
	if took := time.Since(at); took > time.Second+300*time.Millisecond { // which one attempt may last
		t.Errorf("bans are back after %s", took)
	}

	// A setting of the database counts from a reload on; bans stay. One that is cut off changes nothing.
	before := len(g.bans())
	g.rewrite(smeDB, strings.Replace(smeConfiguration, "httpd-e-smith=service", "httpd-e-smith=service|Fail2Ban|disabled", 1))
	g.does("reload")
	if out := g.asks("-s", "/var/run/f2b.sock", "status"); strings.Contains(out, "http-") || !strings.Contains(out, "ssh-ddos") {
		t.Errorf("with Apache's filters off the jails are %s", out)
	}
	if after := len(g.bans()); after != before-2 { // those of http-auth ended with their jail
		t.Errorf("%d bans have become %d", before, after)
	}
	g.rewrite(smeDB, smeConfiguration[:strings.Index(smeConfiguration, "|status|enabled\nwordpress")])
	out, code = g.says("reload")
	if code == 0 {
		t.Errorf("a database that is cut off is taken:\n%s", out)
	}
	g.mustSay("the reload", out, smeDB+":14: the database ends in the middle of a line: it is cut off")
	if g.reaches(client, "192.0.2.40", 2222) {
		t.Error("a database that is cut off ends a ban")
	}
	g.fails("ssh", "192.0.2.41", 3)
	g.shut(client, "192.0.2.41", []uint16{2222}, nil)
	p.terminate()
}

// rewrite replaces a file of the machine.
func (g *guided) rewrite(name, text string) {
	g.Helper()
	g.check(os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644))
}

// The settings that the guide shows, by key, on the guide's machine with its jails; they count at once and bans stay. recidive
// is among them.
func TestGuideSMESettings(t *testing.T) {
	g := smeGuide(t, map[string]string{"/etc/fail2ban/jail.conf": smeJailConf(t)})
	p := g.runs()
	g.fails("ssh", "192.0.2.7", 3)
	g.until("the first is banned", func() bool { return len(g.bans()) == 1 })
	g.mustSay("the change", g.does("config", "set", "MaxRetry", "2"), "MaxRetry is 2, was 3 (jail.conf:", "not for qpsmtpd, pam-generic, recidive: own value", "reloaded; bans stay\n")
	g.does("config", "set", "fail2ban", "BanTime", "60")
	g.does("config", "set", "FindTime", "10m")
	g.does("config", "set", "IgnoreIP", "192.0.2.9,198.51.100.0/24")
	g.does("config", "set", "RecidiveMaxRetry", "2")
	if n := len(g.bans()); n != 1 {
		t.Errorf("after the reloads %d are banned", n)
	}
	g.fails("ssh", "192.0.2.9", 5)
	g.fails("ssh", "192.0.2.8", 2)
	g.until("two failures ban", func() bool { return len(g.bans()) == 2 })
	for _, b := range g.bans() {
		if got, want := b.End.Sub(b.Time).Round(time.Second), map[string]time.Duration{"192.0.2.7": 30 * time.Minute, "192.0.2.8": time.Minute}[b.ID.String()]; got != want {
			t.Errorf("%s is banned for %s", b.ID, got)
		}
	}
	g.does("unban", "192.0.2.8")
	g.fails("ssh", "192.0.2.8", 2)
	g.until("recidive bans at the second ban", func() bool {
		return strings.Contains(g.asks("status", "recidive"), "Banned IP list:\t192.0.2.8\n")
	})
	g.mustSay("the change", g.does("config", "set", "httpd-e-smith", "Fail2Ban", "disabled"), "httpd-e-smith Fail2Ban is disabled", "http-auth")
	if got := g.asks("status"); strings.Contains(got, "http-") {
		t.Errorf("with Apache's filters off the jails are %s", got)
	}

	// Nothing changes for who may not, and on a full disk.
	const kept = "/etc/fail2ban/jail.d/bantam-settings.local"
	before := g.text(kept)
	refused := func(what string, cmd *exec.Cmd, parts ...string) {
		t.Helper()
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: the change succeeds", what)
		}
		g.mustSay(what, string(out), parts...)
		if got := g.text(kept); got != before {
			t.Errorf("%s: the file is\n%s", what, got)
		}
	}
	refused("without privilege", g.inside("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "config", "set", "BanTime", "5"),
		"bantam: /etc/fail2ban/jail.d/bantam-settings.local: the settings cannot be written: permission denied\n", "hint: run it as root")
	g.bash("cp -a /etc/fail2ban/jail.d /var/local/old && mount -t tmpfs -o size=8k,mode=755 full /etc/fail2ban/jail.d && cp -a /var/local/old/. /etc/fail2ban/jail.d/ && rm -f /etc/fail2ban/jail.d/defaults-debian.conf")
	var many strings.Builder
	for i := range 600 {
		fmt.Fprintf(&many, "10.0.%d.%d,", i/200, i%200)
	}
	refused("on a full disk", g.inside(program, "config", "set", "IgnoreIP", many.String()),
		"the settings cannot be written: no space left on device\n", "hint: the disk is full")
	if left := g.bash("ls -A /etc/fail2ban/jail.d"); left != "bantam-settings.local\n" {
		t.Errorf("left over are\n%s", left)
	}
	p.terminate()
}
