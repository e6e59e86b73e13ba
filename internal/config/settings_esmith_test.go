package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam/library"
)

// smeDatabase is what an SME Server's configuration database says of what matters here, and more.
const smeDatabase = `# DO NOT MODIFY THIS FILE.
AccessType=dedicated
DomainName=example.org
InternalInterface=interface|Configuration|static|Driver|e1000|IPAddress|192.168.1.1|Netmask|255.255.255.0|Network|192.168.1.0
dovecot=service|Login|A \| B|status|enabled
ejabberd=service|status|disabled
fail2ban=service|BanTime|1800|FilterLocalNetworks|disabled|IgnoreIP|203.0.113.7,198.51.100.0/24|status|enabled
ftp=service|TCPPort|21|access|private|status|enabled
httpd-admin=service|TCPPort|980|ValidFrom|192.0.2.0/255.255.255.0|status|enabled
httpd-e-smith=service|TCPPort|80|access|public|status|enabled
imap=service|TCPPort|143|status|enabled
imaps=service|TCPPort|993|status|enabled
masq=service|Logging|most|status|enabled
modSSL=service|TCPPort|443|status|enabled
qpsmtpd=service|TCPPort|25|status|enabled
sogod=service|status|enabled
sqpsmtpd=service|TCPPort|465|status|enabled
sshd=service|AutoBlock|disabled|TCPPort|2222|status|enabled
`

const smeNetworks = "192.168.1.0=network|Mask|255.255.255.0|Router|default|SystemLocalNetwork|yes\n" +
	"10.7.0.0=network|Mask|255.255.0.0|Router|192.168.1.9\n"

// sme makes a folder whose settings are those of databases, and is that folder; databases without text are not there.
func sme(t testing.TB, configuration, networks, files string) string {
	t.Helper()
	db := t.TempDir()
	for name, text := range map[string]string{"configuration": configuration, "networks": networks} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(db, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder(t, files+"\n-- bantam.conf --\n[Definition]\nsettings = esmith:"+filepath.Join(db, "configuration")+"\n")
}

func loadSME(t testing.TB, configuration, networks, files string) *Config {
	t.Helper()
	c, err := Load(sme(t, configuration, networks, files), library.FS)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// enabledIn are the names of a configuration's jails in their order.
func enabledIn(c *Config) (names []string) {
	for _, j := range c.Jails {
		names = append(names, j.Name)
	}
	return names
}

func jailIn(t *testing.T, c *Config, name string) *Jail {
	t.Helper()
	at := slices.Index(enabledIn(c), name)
	if at < 0 {
		t.Fatalf("there is no jail %s in %v", name, enabledIn(c))
	}
	return &c.Jails[at]
}

func TestSMEServersJails(t *testing.T) {
	for _, folder := range []struct{ name, files string }{
		{"the library below", ""},
		{"a jail.conf of the folder below", "-- jail.conf --\n[DEFAULT]\nbantime = 10m\nbanaction = bantam\nbanaction_allports = bantam[type=allports]\n" +
			"action_ = %(banaction)s[port=\"%(port)s\", protocol=\"%(protocol)s\"]\naction = %(action_)s\n[sshd]\nenabled = true\nlogpath = /var/log/auth.log\n"},
	} {
		t.Run(folder.name, func(t *testing.T) {
			c := loadSME(t, smeDatabase, smeNetworks, folder.files)
			want := strings.Fields("recidive ssh ssh-ddos qpsmtpd http-overflows http-noscript http-scan http-auth http-badbots http-fakegooglebot http-shellshock imap ftp sogo pam-generic")
			slices.Sort(want)
			got := enabledIn(c)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("the jails are %v,\nwant %v", got, want)
			}
			if len(c.Problems) > 0 {
				t.Errorf("wrong are %s", problemsOf(c))
			}
			for _, w := range []struct {
				jail, ports, logs string
				retry             int
				ban, find         time.Duration
			}{
				{"ssh", "2222", "/var/log/sshd/current", 3, 30 * time.Minute, 15 * time.Minute},
				{"ssh-ddos", "2222", "/var/log/sshd/current", 3, 30 * time.Minute, 15 * time.Minute},
				{"qpsmtpd", "25,465", "/var/log/*qpsmtpd/current", 9, 30 * time.Minute, 15 * time.Minute},
				{"http-auth", "80,443", "/var/log/httpd/error_log", 3, 30 * time.Minute, 15 * time.Minute},
				{"imap", "143,993", "/var/log/dovecot/current /var/log/imap*/current", 3, 30 * time.Minute, 15 * time.Minute},
				{"ftp", "21", "/var/log/proftpd/*log /var/log/secure /var/log/messages", 3, 30 * time.Minute, 15 * time.Minute},
				{"sogo", "80,443", "/var/log/sogo/sogo.log", 3, 30 * time.Minute, 15 * time.Minute},
				{"pam-generic", "", "/var/log/secure", 6, 30 * time.Minute, 15 * time.Minute},
				{"recidive", "", "/var/log/fail2ban/daemon.log", 5, 7 * 24 * time.Hour, 24 * time.Hour},
			} {
				j := jailIn(t, c, w.jail)
				var logs []string
				for _, p := range j.Source.Paths {
					logs = append(logs, p.Pattern)
				}
				if j.Jail.MaxRetry != w.retry || j.Jail.BanTime != w.ban || j.Jail.FindTime != w.find || strings.Join(logs, " ") != w.logs {
					t.Errorf("%s: %d failures in %s ban for %s, read are %v", w.jail, j.Jail.MaxRetry, j.Jail.FindTime, j.Jail.BanTime, logs)
				}
				if len(j.Actions) == 0 {
					t.Errorf("%s bans nobody", w.jail)
					continue
				}
				v, _ := c.Value(w.jail, "port")
				allports := strings.Contains(j.Actions[0].Name, "allports") || j.Actions[0].Params["type"] == "allports"
				if w.ports != "" && (v.Text != w.ports || allports) || w.ports == "" && !allports {
					t.Errorf("%s bans on %q, all ports: %t", w.jail, v.Text, allports)
				}
				if ignored := strings.Join(j.Lookup.IgnoreIP, " "); ignored != "203.0.113.7 198.51.100.0/24 192.0.2.0/255.255.255.0 192.168.1.0/255.255.255.0 10.7.0.0/255.255.0.0" {
					t.Errorf("%s ignores %s", w.jail, ignored)
				}
			}
			told := c.Told()
			if len(told) != 1 || told[0].Channel != "mta" || strings.Join(told[0].To, " ") != "root@localhost" || len(told[0].Jails) != len(want) {
				t.Errorf("told are %+v", told)
			}
		})
	}
}

// edited is the database with texts in the place of others.
func edited(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(smeDatabase) }

func TestSMEServersServicesDecide(t *testing.T) {
	for _, c := range []struct{ name, db, files, with, without string }{
		{"a service that is disabled has no jail", edited("TCPPort|2222|status|enabled", "TCPPort|22|status|disabled"), "", "http-auth", "ssh ssh-ddos sshd"},
		{"Fail2Ban disabled has no jail", edited("httpd-e-smith=service", "httpd-e-smith=service|Fail2Ban|disabled"), "", "ssh", "http-auth http-scan apache-auth"},
		{"an absent service has no jail", edited("sogod=", "other="), "", "ssh", "sogo"},
		{"a service that runs again has one", edited("ejabberd=service|status|disabled", "ejabberd=service|status|enabled"), "", "ejabberd", "ejabberd-auth"},
		{"pam and recidive can be turned off", smeDatabase + "pam=service|Fail2Ban|disabled\nrecidive=service|Fail2Ban|disabled\n", "", "ssh", "pam-generic recidive"},
		{"fail2ban disabled makes no jails", edited("198.51.100.0/24|status|enabled", "198.51.100.0/24|status|disabled"), "", "", "ssh sshd recidive"},
		{"the portal LemonLDAP", smeDatabase + "lemonldap=service|status|enabled\n", "", "lemonldap-ng", ""},
		{"WordPress has one if it is there", smeDatabase + "wordpress=service|status|enabled\n", "", "wordpress-login", ""},
		{"a portscan is watched for if that is asked for", edited("masq=service", "masq=service|Fail2Ban|enabled"), "", "portscan", ""},
		{"and only then", smeDatabase, "", "ssh", "portscan wordpress-login"},
		{"a person's own line wins", smeDatabase, "-- jail.local --\n[ssh]\nenabled = false\n[sshd]\nenabled = true\n", "sshd", "ssh"},
		{"and so does what is set", smeDatabase, "-- jail.d/bantam-settings.local --\n[http-scan]\nenabled = no\n", "http-auth", "http-scan"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := loadSME(t, c.db, smeNetworks, c.files)
			names := enabledIn(got)
			for _, name := range strings.Fields(c.with) {
				if !slices.Contains(names, name) {
					t.Errorf("there is no jail %s: %s", name, problemsOf(got))
				}
			}
			for _, name := range strings.Fields(c.without) {
				if slices.Contains(names, name) {
					t.Errorf("there is a jail %s", name)
				}
			}
			if len(got.Problems) > 0 {
				t.Errorf("wrong are %s", problemsOf(got))
			}
		})
	}
}

func TestSMEServersSettingsByRecord(t *testing.T) {
	db := edited("BanTime|1800|FilterLocalNetworks|disabled", "BanTime|3600|FindTime|60|MaxRetry|4|FilterLocalNetworks|enabled|Mail|disabled|RecidiveBanTime|1209600|RecidiveMaxRetry|2")
	c := loadSME(t, db, smeNetworks, "")
	if j := jailIn(t, c, "ssh").Jail; j.BanTime != time.Hour || j.FindTime != time.Minute || j.MaxRetry != 4 {
		t.Errorf("ssh is %+v", j)
	}
	if j := jailIn(t, c, "qpsmtpd").Jail; j.MaxRetry != 12 {
		t.Errorf("qpsmtpd allows %d", j.MaxRetry)
	}
	if j := jailIn(t, c, "recidive").Jail; j.BanTime != 14*24*time.Hour || j.FindTime != 24*time.Hour || j.MaxRetry != 2 {
		t.Errorf("recidive is %+v", j)
	}
	// The networks of the server-manager are never banned all the same.
	if got := strings.Join(jailIn(t, c, "ssh").Lookup.IgnoreIP, " "); got != "203.0.113.7 198.51.100.0/24 192.0.2.0/255.255.255.0" {
		t.Errorf("ignored are %s", got)
	}
	if told := c.Told(); len(told) > 0 {
		t.Errorf("told are %+v", told)
	}
	// What is set by key wins, and multiples follow.
	dir := sme(t, db, smeNetworks, "-- jail.local --\n[pam-generic]\nmaxretry = 7\n")
	mustChange(t, dir, "MaxRetry 5", "RecidiveMaxRetry 3", "sshd Fail2Ban disabled", "FilterLocalNetworks disabled", "IgnoreIP 192.0.2.99")
	c, err := Load(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	if a, b, d := jailIn(t, c, "qpsmtpd").Jail.MaxRetry, jailIn(t, c, "pam-generic").Jail.MaxRetry, jailIn(t, c, "recidive").Jail.MaxRetry; a != 15 || b != 7 || d != 3 {
		t.Errorf("qpsmtpd allows %d, pam-generic %d, recidive %d", a, b, d)
	}
	if names := enabledIn(c); slices.Contains(names, "ssh") || slices.Contains(names, "ssh-ddos") || slices.Contains(names, "sshd") {
		t.Errorf("the jails are %v", names)
	}
	if got := strings.Join(jailIn(t, c, "imap").Lookup.IgnoreIP, " "); got != "192.0.2.99 192.0.2.0/255.255.255.0 192.168.1.0/255.255.255.0 10.7.0.0/255.255.0.0" {
		t.Errorf("ignored are %s", got)
	}
	if got := value(t, dir, "HTTPD-e-smith fail2ban"); got != "enabled" {
		t.Errorf("httpd-e-smith is %s", got)
	}
	all, err := Settings(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range all {
		lines = append(lines, fmt.Sprintf("%s %s %s:%d", s.Name(), s.Value, filepath.Base(s.File), s.Line))
	}
	for _, want := range []string{
		"BanTime 3600 configuration:7", "MaxRetry 5 bantam-settings.local:6", "MailRecipient root configuration:0", "sshd Fail2Ban disabled bantam-settings.local:14",
		"qpsmtpd Fail2Ban enabled configuration:15", "ejabberd Fail2Ban disabled configuration:6", "pam-generic Fail2Ban enabled configuration:0",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the settings lack %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestDamagedDatabases(t *testing.T) {
	const all = "ssh qpsmtpd http-auth imap ftp sogo pam-generic recidive"
	upTo := func(text string) string { return smeDatabase[:strings.Index(smeDatabase, text)] }
	for _, c := range []struct{ name, db, networks, aside, runs, text string }{
		{"no such file", "", smeNetworks, all, "", "configuration: there is no such file"},
		{"an empty file", "\n", smeNetworks, all, "", "configuration: the database is empty"},
		{"a binary", "\x7fELF\x00\x01\n" + smeDatabase, smeNetworks, all, "", "configuration:1: the database is not text"},
		{"a huge file", strings.Repeat(smeDatabase, 1+maxFile/len(smeDatabase)), smeNetworks, all, "", "configuration: the database is larger than 4 MiB"},
		{"cut before the settings", upTo("ban=service"), smeNetworks, "pam-generic recidive imap", "", "configuration:7: the database ends in the middle of a line"},
		{"cut within a service", upTo("|465|status"), smeNetworks, "ssh ssh-ddos", "http-auth imap ftp qpsmtpd recidive", "configuration:17: the database ends in the middle of a line"},
		{"a record without a value", edited("sshd=service|AutoBlock", "sshd=service|Auto|Block"), smeNetworks, "ssh ssh-ddos", "http-auth recidive", `configuration:18: the record "sshd" has a property without a value`},
		{"a line that is no record", edited("sogod=", "sogod "), smeNetworks, all, "", "configuration:16: "},
		{"a port that is none", edited("|2222|", "|ssh;reboot|"), smeNetworks, "ssh ssh-ddos", "http-auth", `configuration:18: "ssh;reboot" is no port of "sshd"`},
		{"a port too high", edited("|2222|", "|70000|"), smeNetworks, "ssh", "http-auth", `"70000" is no port`},
		{"a status that is none", edited("sogod=service|status|enabled", "sogod=service|status|ena"), smeNetworks, "sogo", "ssh", `configuration:16: status of "sogod" is neither enabled nor disabled: "ena"`},
		{"a time that is none", edited("BanTime|1800", "BanTime|soon"), smeNetworks, "ssh recidive", "", `configuration:7: BanTime: "soon" is not a time`},
		{"whom never to ban is no address", edited("203.0.113.7", "home"), smeNetworks, "ssh", "", `configuration:7: IgnoreIP: "home" is neither`},
		{"networks cut off", smeDatabase, smeNetworks[:len(smeNetworks)-5], "ssh", "", "networks:2: the database ends in the middle of a line"},
		{"networks without a mask's value", smeDatabase, "10.7.0.0=network|Mask\n", "ssh", "", "networks:1: the record"},
		{"networks that are none", smeDatabase, "office=network|Mask|255.0.0.0\n", "ssh", "", `networks:1: the network of "office"`},
		{"no networks, but an interface's", smeDatabase, "", "", "ssh", "networks: there is no such file"},
		{"no networks at all", edited("InternalInterface", "ExternalInterface"), "", "ssh", "", "networks: there is no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := loadSME(t, c.db, c.networks, "-- jail.local --\n[sshd]\nenabled = true\nlogpath = /var/log/own\n")
			for _, name := range strings.Fields(c.aside) {
				j := jailIn(t, got, name)
				if j.Err == nil || !strings.Contains(j.Err.Error(), c.text) {
					t.Errorf("%s: %v, want %q", name, j.Err, c.text)
				}
			}
			for _, name := range strings.Fields(c.runs + " sshd") {
				if j := jailIn(t, got, name); j.Err != nil {
					t.Errorf("%s: %v", name, j.Err)
				}
			}
			if text := problemsOf(got); !strings.Contains(text, c.text) {
				t.Errorf("the problems are %s, want %q", text, c.text)
			}
		})
	}
}

func TestSettingsThatNameNoDatabase(t *testing.T) {
	for text, want := range map[string]string{
		"/home/e-smith/db": `bantam.conf:2: settings: "/home/e-smith/db" is not esmith:PATH`,
		"esmith:db":        `bantam.conf:2: settings: the path "db" is not absolute`,
		"%(x)s":            "bantam.conf:2: settings: %(x)s is not defined",
	} {
		c := load(t, "-- bantam.conf --\n[Definition]\nsettings = "+text+"\n-- jail.conf --\n")
		if got := problemsOf(c); !strings.Contains(got, want) {
			t.Errorf("%s: the problems are %s, want %q", text, got, want)
		}
	}
}

// The page on SME Server has every jail.
func TestSMEServersTable(t *testing.T) {
	page, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, j := range smeJails {
		services, ports := "", "all"
		for i, s := range j.services {
			services += strings.Repeat(", ", min(i, 1)) + "`" + s + "`"
		}
		switch {
		case j.unlisted():
			services += ", also without a record"
		case j.asked:
			services += ", if its `Fail2Ban` is `enabled`"
		}
		for i, sp := range j.ports {
			if i == 0 {
				ports = ""
			}
			ports += strings.Repeat(", ", min(i, 1)) + sp.ports + " (`" + sp.service + "`)"
			if !sp.always {
				ports += " if it is there"
			}
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | `%s` | %s |\n", j.name, services, j.filter, ports))
	}
	if text := strings.Join(want, ""); !strings.Contains(string(page), text) {
		t.Errorf("%s should have the lines\n%s", referencePage, text)
	}
}

// Whatever a database holds, reading it ends, names each record once, and makes nothing that a
// jail file could not hold.
func FuzzDatabase(f *testing.F) {
	f.Add(smeDatabase)
	f.Add(smeNetworks)
	f.Add(smeDatabase[:200])
	f.Add("sshd=service|TCPPort|22|status|enabled|\nfail2ban=service|BanTime|%(x)s|IgnoreIP|0.0.0.0/0\n")
	f.Add("a=b\\|c|d\\\\||e\r\n=\n|=|\n#\nx")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<14 {
			return
		}
		tree := newTree("", library.FS, "library/")
		d := parseDatabase("db", []byte(text))
		seen := map[string]bool{}
		for _, name := range d.names {
			if seen[name] || d.records[name] == nil && d.wrong[name] == nil {
				t.Fatalf("the record %q is named twice or not there", name)
			}
			seen[name] = true
		}
		e := &esmith{
			file: &file{name: "db", defaults: newSection(defaultName, 0)}, aside: map[string]*Problem{}, scaled: map[string]int{},
			named: map[string]*Setting{}, db: d, networks: d,
		}
		e.build(tree)
		var out strings.Builder
		for _, sec := range append([]*section{e.file.defaults}, e.file.sections...) {
			fmt.Fprintf(&out, "[%s]\n", sec.name)
			for _, key := range sec.keys {
				fmt.Fprintf(&out, "%s = %s\n", key, strings.ReplaceAll(sec.opts[key].Text, "\n", "\n  "))
			}
		}
		again, err := parse("db", []byte(out.String()))
		if err != nil {
			t.Fatalf("what it comes to is no jail file: %v\n%s", err, out.String())
		}
		for _, sec := range append([]*section{e.file.defaults}, e.file.sections...) {
			other := again.defaults
			if sec != e.file.defaults {
				other = again.section(sec.name)
			}
			for _, key := range sec.keys {
				if other.opts[key].Text != sec.opts[key].Text {
					t.Fatalf("[%s] %s = %q is not what it seems", sec.name, key, sec.opts[key].Text)
				}
			}
		}
	})
}

func BenchmarkDatabase(b *testing.B) {
	var big strings.Builder
	big.WriteString(smeDatabase)
	for i := range 2000 { // accounts and the like
		fmt.Fprintf(&big, "svc%d=service|TCPPort|%d|access|public|status|enabled\n", i, i)
	}
	text := []byte(big.String())
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		parseDatabase("db", text)
	}
}
