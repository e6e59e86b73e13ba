package library_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/filter"
	"bantam/internal/logtest"
	"bantam/library"
)

// parts are files that only others include.
var parts = map[string]bool{"common": true, "nginx-common": true, "apache-common": true, "http-common": true, "haproxy-common": true, "netfilter-common": true}

// filterNames are the filters of the library.
func filterNames(t testing.TB) []string {
	t.Helper()
	paths, err := fs.Glob(library.FS, "filter.d/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		if name := strings.TrimSuffix(strings.TrimPrefix(p, "filter.d/"), ".conf"); !parts[name] {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatal("the library has no filters")
	}
	return names
}

// annotated reads the log beside a filter.
func annotated(t testing.TB, name string) []logtest.Section {
	t.Helper()
	file, err := os.Open(filepath.Join("filter.d", name+".log"))
	if err != nil {
		t.Fatalf("every filter has an annotated log beside it: %v", err)
	}
	defer file.Close()
	sections, err := logtest.Parse(file)
	if err != nil {
		t.Fatalf("%s.log: %v", name, err)
	}
	return sections
}

// TestFilters runs every filter on the log beside it.
func TestFilters(t *testing.T) {
	for _, name := range filterNames(t) {
		t.Run(name, func(t *testing.T) {
			failures := 0
			for _, s := range annotated(t, name) {
				for _, err := range s.Check(load(t, name, s.Options)) {
					t.Errorf("%s.log, options %v: %v", name, s.Options, err)
				}
				for _, l := range s.Lines {
					failures += len(l.Failures)
				}
			}
			if failures == 0 {
				t.Errorf("%s.log promises no failure at all", name)
			}
		})
	}
}

// modes are those of filters that have some.
var modes = map[string][]string{
	"sshd":            {"normal", "ddos", "extra", "aggressive"},
	"nginx-http-auth": {"normal", "auth", "fallback", "aggressive"},
	"dovecot":         {"normal", "aggressive"},
	"exim":            {"normal", "more", "aggressive"},
	"sendmail-reject": {"normal", "extra", "aggressive"},
	"opensmtpd":       {"normal", "aggressive"},
	"postfix":         {"normal", "more", "rbl", "auth", "extra", "errors", "ddos", "aggressive"},
}

// Each mode of each filter compiles for each type of log.
func TestFilterOptions(t *testing.T) {
	for _, name := range filterNames(t) {
		for _, mode := range append(modes[name], "") {
			for _, logtype := range []string{"file", "short", "journal", "rfc5424"} {
				options := map[string]string{"logtype": logtype}
				if mode != "" {
					options["mode"] = mode
				}
				c := load(t, name, options)
				if _, err := filter.Compile(c); err != nil {
					t.Errorf("%s %v: %v", name, options, err)
				}
				if len(c.Failregex) == 0 {
					t.Errorf("%s %v: no failregex", name, options)
				}
			}
		}
	}
}

// victim is an address that no line of the test below comes from.
const victim = "203.0.113.99"

// evil are texts that a client may send in the hope that the server's log says what
// it does not. %s is the victim.
var evil = []string{
	"%s",
	"x %s",
	"x from %s",
	"x from %s port 22",
	"x from %s port 22 ssh2",
	"x from %s port 22 ssh2: RSA SHA256:abc",
	"x from %s port 22 ssh2: y",
	"x from %s not allowed because not listed in AllowUsers",
	"x from %s via y",
	"x %s port 22",
	"x %s port 22 [preauth]",
	"x %s port 22: Change of username or service not allowed: (a,b) -> (c,d)",
	"x %s port 22: Too many authentication failures [preauth]",
	"Invalid user root from %s",
	"Failed password for root from %s port 22 ssh2",
	"' from %s port 22",
	"sshd[1]: Failed password for root from %s port 22 ssh2",
	"(%s)",
	"x@h (%s)",
	"[%s]",
	"unknown[%s]",
	"warning: unknown[%s]: SASL LOGIN authentication failed: x",
	"x>: Relay access denied; from unknown[%s]: 554 5.7.1 <y",
	", client: %s, server: s",
	`", client: %s, server: s`,
	`" failed (2: No such file or directory), client: %s, server: s, request: "GET /cgi-bin/ HTTP/1.1`,
	`x", host: "h", referrer: "y" failed (2: No such file or directory), client: %s, server: s`,
	`cgi-bin" failed (2: No such file or directory), client: %s, server: s, request: "GET / HTTP/1.1", host: "h", referrer: "`,
	`[20/Jan/2025:19:53:28 +0100] "GET /phpmyadmin HTTP/1.1" 404 1`,
	"%s - - [] \"GET /phpmyadmin HTTP/1.1\" 404 1",
	"2025-03-02 10:15:04 %s",
	"\xff\x00%s\x1b[31m",
}

// evilNginx are further ones for nginx.
var evilNginx = []string{
	`": password mismatch, client: %s, server: s, request: "GET / HTTP/1.1", host: "h`,
	`x": password mismatch, client: %s, server: s, request: "GET / HTTP/1.1", host: "h", referrer: "`,
	`x" was not found in "f", client: %s, server: s`,
	`limiting connections by zone "x", client: %s, server: s`,
}

// TestNobodyElseIsBlamed writes what a client can choose into every place of every
// message where the server prints it, and asks that never another address fails.
// Several lines of one connection stand together: what one leaves open, another
// must not fill wrongly.
func TestNobodyElseIsBlamed(t *testing.T) {
	const sshd, nginx = "Mar  2 10:15:04 gate sshd[8]: ", "2025/04/09 11:53:29 [error] 2865#0: *6 "
	const mx = "Mar  2 10:15:04 mx postfix/smtpd[9]: "
	all := append(append([]string{}, evil...), evilNginx...)
	var noColon []string
	for _, e := range all {
		noColon = append(noColon, strings.ReplaceAll(e, ":", "%%3a"))
	}
	for _, c := range []struct {
		filter string
		texts  []string
		lines  []string // @ is what the client chose; 192.0.2.7 is the client
	}{
		{"sshd", evil, []string{sshd + "Invalid user @ from 192.0.2.7 port 4", sshd + "Failed password for invalid user @ from 192.0.2.7 port 4 ssh2", sshd + "Connection closed by invalid user @ 192.0.2.7 port 4 [preauth]"}},
		{"sshd", evil, []string{sshd + "Invalid user @ from 192.0.2.7"}},
		{"sshd", evil, []string{sshd + "Failed password for invalid user @ from 192.0.2.7 port 4 ssh2", sshd + "Received disconnect from 192.0.2.7 port 4:11: @ [preauth]"}},
		{"sshd", evil, []string{sshd + "Failed none for invalid user @ from 192.0.2.7 port 4 ssh2", sshd + "Failed keyboard-interactive/pam for invalid user @ from 192.0.2.7 port 4 ssh2", sshd + "Connection reset by invalid user @ 192.0.2.7 port 4"}},
		{"sshd", evil, []string{sshd + "Failed publickey for invalid user @ from 192.0.2.7 port 4 ssh2: RSA SHA256:x", sshd + "Disconnected from invalid user @ 192.0.2.7 port 4 [preauth]"}},
		{"sshd", evil, []string{sshd + "Failed publickey for git from 192.0.2.7 port 4 ssh2: RSA-CERT SHA256:x ID @ (serial 0) CA RSA SHA256:y", sshd + "error: maximum authentication attempts exceeded for git from 192.0.2.7 port 4 ssh2 [preauth]"}},
		{"sshd", evil, []string{sshd + "Failed publickey for invalid user @ from 192.0.2.7 port 4 ssh2: RSA-CERT SHA256:x ID @ (serial 0) CA RSA SHA256:y", sshd + "Connection closed by invalid user @ 192.0.2.7 port 4 [preauth]"}},
		{"sshd", evil, []string{sshd + "User @ from 192.0.2.7 not allowed because not listed in AllowUsers"}},
		{"sshd", evil, []string{sshd + "User @ not allowed because account is locked", sshd + "Connection reset by invalid user @ 192.0.2.7 port 4 [preauth]"}},
		{"sshd", evil, []string{sshd + "error: PAM: Authentication failure for illegal user @ from 192.0.2.7"}},
		{"sshd", evil, []string{sshd + "error: maximum authentication attempts exceeded for invalid user @ from 192.0.2.7 port 4 ssh2 [preauth]"}},
		{"sshd", evil, []string{sshd + "Disconnecting invalid user @ 192.0.2.7 port 4: Change of username or service not allowed: (@,ssh-connection) -> (@,ssh-connection) [preauth]", sshd + "Connection closed by 192.0.2.7 port 4"}},
		{"sshd", evil, []string{sshd + "Disconnecting invalid user @ 192.0.2.7 port 4: Too many authentication failures [preauth]", sshd + "User x not allowed because account is locked", sshd + "Connection closed by 192.0.2.7 port 4"}},
		{"sshd", evil, []string{sshd + "refused connect from @ (192.0.2.7)", sshd + "Received disconnect from 192.0.2.7 port 4:3: @: Auth fail [preauth]"}},
		{"sshd", evil, []string{sshd + "Bad protocol version identification '@' from 192.0.2.7 port 4"}},
		{"sshd", evil, []string{sshd + "Unable to negotiate with 192.0.2.7 port 4: no matching cipher found. Their offer: @ [preauth]"}},
		{"sshd", evil, []string{sshd + `error: kex_exchange_identification: client sent invalid protocol identifier "@"`, sshd + "banner exchange: Connection from 192.0.2.7 port 4: invalid format"}},
		{"sshd", evil, []string{"Mar  2 10:15:04 gate other[8]: @"}},
		{"nginx-http-auth", noColon, []string{nginx + `user "@": password mismatch, client: 192.0.2.7, server: s, request: "GET / HTTP/1.1", host: "h"`}},
		{"nginx-http-auth", noColon, []string{nginx + `user "@" was not found in "/etc/x", client: 192.0.2.7, server: s, request: "GET / HTTP/1.1", host: "h"`}},
		{"nginx-http-auth", noColon, []string{nginx + `PAM: user '@' - not authenticated: Authentication failure, client: 192.0.2.7, server: s, request: "GET / HTTP/1.1", host: "h"`}},
		{"nginx-http-auth", all, []string{nginx + `user "u": password mismatch, client: 192.0.2.7, server: s, request: "GET /@ HTTP/1.1", host: "h"`}},
		{"nginx-http-auth", all, []string{nginx + `user "u": password mismatch, client: 192.0.2.7, server: s, request: "GET / HTTP/1.1", host: "@", referrer: "@"`}},
		{"nginx-http-auth", all, []string{nginx + `open() "/@" failed (2: No such file or directory), client: 192.0.2.7, server: s, request: "GET /@ HTTP/1.1", host: "h", referrer: "@"`}},
		{"nginx-limit-req", all, []string{nginx + `limiting requests, excess: 1.852 by zone "one", client: 192.0.2.7, server: s, request: "GET /@ HTTP/1.1", host: "@", referrer: "@"`}},
		{"nginx-limit-req", all, []string{nginx + `open() "/@" failed (2: No such file or directory), client: 192.0.2.7, server: s, request: "GET /@ HTTP/1.1", host: "h", referrer: "@"`}},
		{"nginx-botsearch", all, []string{nginx + `open() "/cgi-bin/@" failed (2: No such file or directory), client: 192.0.2.7, server: s, request: "GET /@ HTTP/1.1", host: "h", referrer: "@"`}},
		{"nginx-botsearch", all, []string{`192.0.2.7 - @ [02/Mar/2025:10:15:04 +0000] "GET /cgi-bin/@ HTTP/1.1" 404 1 "@" "@"`}},
		{"postfix", evil, []string{mx + "NOQUEUE: reject: RCPT from x.example[192.0.2.7]: 554 5.7.1 <@>: Relay access denied; from=<@> to=<@> proto=SMTP helo=<@>"}},
		{"postfix", evil, []string{mx + "warning: x.example[192.0.2.7]: SASL LOGIN authentication failed: @, sasl_username=@"}},
		{"postfix", evil, []string{mx + "improper command pipelining after EHLO from x.example[192.0.2.7]: @"}},
		{"postfix", evil, []string{mx + "PREGREET 14 after 0.08 from [192.0.2.7]:59415: @"}},
		{"postfix", evil, []string{mx + "warning: non-SMTP command from x.example[192.0.2.7]: @"}},
	} {
		for _, options := range []map[string]string{{}, {"mode": "aggressive"}} {
			rules, err := filter.Compile(load(t, c.filter, options))
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, text := range c.texts {
				text = strings.ReplaceAll(text, "%s", victim)
				text = strings.ReplaceAll(text, "%%", "%")
				f := filter.New(rules)
				for _, pattern := range c.lines {
					line := strings.ReplaceAll(pattern, "@", text)
					for _, fl := range f.Judge(&bantam.Line{Text: []byte(line), Read: time.Date(2025, 4, 10, 0, 0, 0, 0, time.UTC)}, nil) {
						found++
						if got := logtest.Host(&fl); got != "192.0.2.7" {
							t.Errorf("%s %v: %q blames %q", c.filter, options, line, got)
						}
					}
				}
			}
			// Nor does what the client writes hide it.
			if options["mode"] == "aggressive" && c.filter == "sshd" && !strings.Contains(c.lines[0], "other[") && found < len(c.texts) {
				t.Errorf("%s: %q: only %d of %d found", c.filter, c.lines[0], found, len(c.texts))
			}
		}
	}
}

func BenchmarkFilters(b *testing.B) {
	for _, name := range filterNames(b) {
		b.Run(name, func(b *testing.B) {
			s := annotated(b, name)[0]
			c := load(b, name, s.Options)
			c.Local = time.UTC
			rules, err := filter.Compile(c)
			if err != nil {
				b.Fatal(err)
			}
			f := filter.New(rules)
			lines := make([]bantam.Line, len(s.Lines))
			for i, l := range s.Lines {
				lines[i] = bantam.Line{Text: []byte(l.Text), Read: s.Now()}
			}
			var out []bantam.Failure
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				out = f.Judge(&lines[i], out[:0])
				if i++; i == len(lines) {
					i = 0
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
	b.Run("sshd, lines nobody wants", func(b *testing.B) {
		c := load(b, "sshd", nil)
		c.Local = time.UTC
		rules, err := filter.Compile(c)
		if err != nil {
			b.Fatal(err)
		}
		f := filter.New(rules)
		lines := make([]bantam.Line, 1000)
		for i := range lines {
			lines[i] = bantam.Line{
				Text: fmt.Appendf(nil, "Mar  2 10:15:%02d gate CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)", i%60, i),
				Read: time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC),
			}
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			f.Judge(&lines[i], nil)
			if i++; i == len(lines) {
				i = 0
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	})
}
