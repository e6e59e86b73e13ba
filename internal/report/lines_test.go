package report

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"bantam"
)

func id(t testing.TB, s string) bantam.ID {
	t.Helper()
	id, err := bantam.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAnAddressIsFoundAsAnAddress(t *testing.T) {
	for _, tt := range []struct {
		name, id, line string
		found          bool
	}{
		{"plain", "1.2.3.4", "from 1.2.3.4 port 22", true},
		{"inside a longer one", "1.2.3.4", "from 11.2.3.40 port 22", false},
		{"as the end of a longer one", "1.2.3.4", "from 21.2.3.4 port 22", false},
		{"with five parts it is no address", "1.2.3.4", "version 1.2.3.4.5 here", false},
		{"with its port", "1.2.3.4", "client 1.2.3.4:567 refused", true},
		{"in brackets with its port", "1.2.3.4", "unknown[1.2.3.4]:65410: SASL LOGIN", true},
		{"at the end of a sentence", "1.2.3.4", "Banned 1.2.3.4.", true},
		{"at the end of a line", "1.2.3.4", "rhost=1.2.3.4", true},
		{"as the name of somebody else's host", "1.2.3.4", "from 1.2.3.4.example.net port 22", false},
		{"behind a name", "1.2.3.4", "from host1.2.3.4 port 22", false},
		{"with leading zeros it is another one to some", "1.2.3.4", "from 001.002.003.004", false},
		{"IPv6", "2001:db8::1", "from 2001:db8::1 port 22", true},
		{"IPv6 in another spelling", "2001:db8::1", "from 2001:0DB8:0:0:0:0:0:0001 port 22", true},
		{"IPv6 in brackets with its port", "2001:db8::1", "rejected [2001:db8::1]:4022", true},
		{"IPv6 before a colon", "2001:db8::1", "refused 2001:db8::1: no", true},
		{"IPv6 inside a longer one", "2001:db8::1", "from 2001:db8::1:1 port 22", false},
		{"IPv4 in IPv6", "1.2.3.4", "from ::ffff:1.2.3.4 port 22", true},
		{"IPv4 in IPv6 in hex", "1.2.3.4", "from ::ffff:102:304 port 22", true},
		{"within a prefix", "2001:db8:1::/64", "from 2001:db8:1::77 port 22", true},
		{"outside of a prefix", "2001:db8:1::/64", "from 2001:db8:2::77 port 22", false},
		{"a time is none", "2001:db8::1", "at 10:15:04 from nobody", false},
		{"only as what the attacker calls himself", "1.2.3.4", "Invalid user 1.2.3.4 from 198.51.100.9 port 5", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRedactor(&bantam.Ban{ID: id(t, tt.id)}, "", true)
			if got, ok := r.line(tt.line); ok != tt.found {
				t.Errorf("%q in %q: found %v (%q)", tt.id, tt.line, ok, got)
			}
		})
	}
}

func TestWhatAStrangerMayNotSeeIsTakenOut(t *testing.T) {
	ban := bantam.Ban{
		ID: id(t, "192.0.2.7"), User: "frank", Data: map[string]string{"alt_user": "anna maria", "mlfid": "812"},
		Lines: []string{"Mar  2 10:15:04 wall7 sshd[812]: x"},
	}
	for _, tt := range []struct{ name, line, want string }{
		{
			"host and user of sshd", "Mar  2 10:15:04 gate sshd[812]: Failed password for frank from 192.0.2.7 port 4022 ssh2",
			"Mar  2 10:15:04 [redacted] sshd[812]: Failed password for [redacted] from 192.0.2.7 port 4022 ssh2",
		},
		{
			"another user than the first", "Mar  2 10:15:04 gate sshd[812]: Failed password for invalid user bob from 192.0.2.7 port 4022 ssh2",
			"Mar  2 10:15:04 [redacted] sshd[812]: Failed password for invalid user [redacted] from 192.0.2.7 port 4022 ssh2",
		},
		{
			"a user with blanks and a false address", "gate sshd[812]: Invalid user a b from 198.51.100.9 from 192.0.2.7 port 1",
			"[redacted] sshd[812]: Invalid user [redacted] from 192.0.2.7 port 1",
		},
		{
			"a name of the data", "sshd: anna maria came from 192.0.2.7", "sshd: [redacted] came from 192.0.2.7",
		},
		{
			"the name of a host in its domain", "2025-03-02T10:15:04+01:00 mx postfix/smtpd[9]: warning: unknown[192.0.2.7]: for db.example.org",
			"2025-03-02T10:15:04+01:00 [redacted] postfix/smtpd[9]: warning: unknown[192.0.2.7]: for [redacted]",
		},
		{
			"the name of a host in another line's header", "connect to wall7 from 192.0.2.7", "connect to [redacted] from 192.0.2.7",
		},
		{
			"a part of another name is no host", "gatekeeper and investigate from 192.0.2.7", "gatekeeper and investigate from 192.0.2.7",
		},
		{
			"our own address", "kernel: DROP IN=eth0 SRC=192.0.2.7 DST=203.0.113.5 DPT=22", "kernel: DROP IN=eth0 SRC=192.0.2.7 DST=[redacted] DPT=22",
		},
		{
			"hardware addresses", "MAC=52:54:00:12:34:56:52:54:00:65:43:21:08:00 SRC=192.0.2.7", "MAC=[redacted] SRC=192.0.2.7",
		},
		{
			"mail addresses", "RCPT from unknown[192.0.2.7]: 550 <kim@example.net>: relay denied; from=<a.b@example.com>",
			"RCPT from unknown[192.0.2.7]: 550 <[redacted]>: relay denied; from=<[redacted]>",
		},
		{
			"the guide's line", "warning: unknown[192.0.2.7]:65410: SASL LOGIN authentication failed: authentication failure, sasl_username=zaim",
			"warning: unknown[192.0.2.7]:65410: SASL LOGIN authentication failed: authentication failure, sasl_username=[redacted]",
		},
		{
			"dovecot", "imap-login: Aborted login (auth failed, 1 attempts in 2 secs): user=<bob>, method=PLAIN, rip=192.0.2.7, lip=203.0.113.5",
			"imap-login: Aborted login (auth failed, 1 attempts in 2 secs): user=[redacted], method=PLAIN, rip=192.0.2.7, lip=[redacted]",
		},
		{
			"pam", "authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=bob",
			"authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=[redacted]",
		},
		{
			"a web server's user", `192.0.2.7 - bob [02/Mar/2025:10:15:04 +0000] "GET /login?password=hunter2&x=1 HTTP/1.1" 401 12`,
			`192.0.2.7 [redacted] [02/Mar/2025:10:15:04 +0000] "GET /login?password=[redacted]&x=1 HTTP/1.1" 401 12`,
		},
		{
			"quoted in JSON", `{"ip":"192.0.2.7","username":"bob","password":"hunter2","status":401}`,
			`{"ip":"192.0.2.7","username":[redacted],"password":[redacted],"status":401}`,
		},
		{
			"terminal codes and reversed writing", "bad \x1b[2J\u202ename from 192.0.2.7", `bad \x1b[2J\u202ename from 192.0.2.7`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := ban
			b.Lines = append([]string{tt.line}, ban.Lines...)
			got, ok := newRedactor(&b, "gate.example.org", true).line(tt.line)
			if !ok || got != tt.want {
				t.Errorf("%s\n got %s\nwant %s", tt.line, got, tt.want)
			}
		})
	}
}

func TestWithoutRedactionLinesStayAsLogged(t *testing.T) {
	line := "Mar  2 10:15:04 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 to 203.0.113.5"
	got, ok := newRedactor(&bantam.Ban{ID: id(t, "192.0.2.7"), User: "root"}, "gate", false).line(line)
	if !ok || got != line {
		t.Errorf("got %q", got)
	}
}

func TestALongLineIsNotCutInsideAnAddress(t *testing.T) {
	r := newRedactor(&bantam.Ban{ID: id(t, "1.2.3.4")}, "", true)
	for pad := longestRead - 12; pad < longestRead+2; pad++ {
		line := strings.Repeat("x", pad-1) + " 1.2.3.45 end"
		if got, ok := r.line(line); ok {
			t.Fatalf("1.2.3.45 behind %d bytes was taken for 1.2.3.4: %q", pad, got[len(got)-20:])
		}
	}
	if got, ok := r.line("1.2.3.4 " + strings.Repeat("é", 5000)); !ok || len(got) > longestLine || !utf8.ValidString(got) {
		t.Errorf("a long line: %v, %d bytes", ok, len(got))
	}
}

func TestTheNewestLinesAreShown(t *testing.T) {
	b := bantam.Ban{ID: id(t, "192.0.2.7")}
	for i := range 50 {
		b.Lines = append(b.Lines, fmt.Sprintf("attempt %d from 192.0.2.7", i), "another attempt from 198.51.100.3")
	}
	shown, more := newRedactor(&b, "", true).lines(b.Lines)
	if len(shown) != mostLines || more != 30 || shown[0] != "attempt 30 from 192.0.2.7" || shown[19] != "attempt 49 from 192.0.2.7" {
		t.Errorf("%d lines, %d more: %q", len(shown), more, shown)
	}
}

// FuzzLine checks what holds for every line: what is shown has the address in it, nothing that steers a terminal, and neither
// the machine's name nor the user's.
func FuzzLine(f *testing.F) {
	f.Add("Mar  2 10:15:04 wall7 sshd[812]: Failed password for frank from 192.0.2.7 port 4022 ssh2", "frank")
	f.Add("warning: unknown[192.0.2.7]:65410: SASL LOGIN authentication failed, sasl_username=zaim", "zaim")
	f.Add(`192.0.2.7 - - [02/Mar/2025:10:15:04 +0000] "GET / HTTP/1.1" 404`, "")
	f.Add("2001:db8::1 ::ffff:192.0.2.7 [::1]:22 1.2.3.4.5.6 \xff\x1b]0;x\a", "\u202e")
	f.Add("192.0.2.7 \ue000\ue001 user 192.0.2.7 from from 192.0.2.7", "192.0.2.7 from")
	f.Fuzz(func(t *testing.T, line, user string) {
		if len(line) > 20000 || len(user) > 2000 {
			t.Skip()
		}
		b := bantam.Ban{ID: id(t, "192.0.2.7"), User: user, Lines: []string{line}}
		r := newRedactor(&b, "wall7.example.org", true)
		got, ok := r.line(line)
		if !ok {
			return
		}
		if len(got) > longestLine || !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) {
			t.Errorf("%q is shown as %q", line, got)
		}
		stands := false
		for _, sp := range spans(got) {
			if sp.addr.IsValid() && sp.addr != mustAddr("192.0.2.7") {
				t.Errorf("%q shows %v: %q", line, sp.addr, got)
			}
			stands = stands || sp.addr == mustAddr("192.0.2.7")
		}
		if !stands && len(got) < longestLine-3 {
			t.Errorf("%q is shown without the address: %q", line, got)
		}
		if replaceWord(got, "wall7", "") != got {
			t.Errorf("%q shows the machine's name: %q", line, got)
		}
		again, ok := r.line(line)
		if !ok || again != got {
			t.Errorf("%q is shown as %q, then as %q", line, got, again)
		}
	})
}

// FuzzClean checks that a stranger's text becomes printable and stays so.
func FuzzClean(f *testing.F) {
	f.Add("~! rm\r\n\x1b[31m\u2066\u200b\xff\ue000\U000e0001", 20)
	f.Fuzz(func(t *testing.T, s string, max int) {
		got := clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) || clean(got) != got || len(got) > 6*len(s) {
			t.Errorf("%q became %q", s, got)
		}
		if max = max&1023 + 3; len(cut(got, max)) > max || !utf8.ValidString(cut(got, max)) {
			t.Errorf("%q cut to %d is %q", got, max, cut(got, max))
		}
	})
}

func BenchmarkLine(b *testing.B) {
	line := "Mar  2 10:15:04 gate sshd[812]: Failed password for invalid user frank from 192.0.2.7 port 4022 ssh2"
	r := newRedactor(&bantam.Ban{ID: id(b, "192.0.2.7"), User: "frank", Lines: []string{line}}, "gate.example.org", true)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.line(line); !ok {
			b.Fatal("the line was left out")
		}
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
