package library_test

import (
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/filter"
	"bantam/internal/logtest"
)

// heads are what programs that write syslog to files put before a message of PROG, number 812, on 2 March 2025 at
// 10:15:04 UTC: the formats of RFC 3164 and RFC 5424, and those of rsyslog, syslog-ng, journalctl, BusyBox, OpenWrt,
// FreeBSD (-v) and Solaris.
var heads = []string{
	"Mar  2 10:15:04 gate PROG[812]: ",
	"Mar 02 10:15:04 gate.example.org PROG[812]: ",
	"Mar 02 10:15:04.123456 gate PROG[812]: ",
	"Mar  2 10:15:04 192.0.2.200 PROG[812]: ",
	"Mar  2 10:15:04 gate/gate PROG[812]: ",
	"Mar  2 2025 10:15:04 gate PROG[812]: ",
	"Mar  2 10:15:04 gate PROG[812]: [ID 800047 auth.info] ",
	"Mar  2 10:15:04 <auth.info> gate PROG[812]: ",
	"Mar  2 10:15:04 gate auth.info PROG[812]: ",
	"Sun Mar  2 10:15:04 2025 authpriv.warn PROG[812]: ",
	"<38>Mar  2 10:15:04 gate PROG[812]: ",
	"<38>2025-03-02T10:15:04.123+00:00 gate PROG[812]: ",
	"<38>1 2025-03-02T10:15:04.123Z gate PROG 812 - - ",
	`<38>1 2025-03-02T11:15:04.123+01:00 gate PROG 812 - [a b="c"] `,
	"2025-03-02T11:15:04.123456+01:00 gate PROG[812]: ",
	"2025-03-02T11:15:04.123456+01:00 2001:db8::5 PROG[812]: ",
	"2025-03-02T11:15:04+0100 gate PROG[812]: ",
	"2025-03-02T10:15:04Z gate PROG[812]: ",
	"2025-03-02 10:15:04 gate PROG[812]: ",
}

// A service that writes to syslog is understood whatever program writes the file.
func TestEveryHeadOfSyslog(t *testing.T) {
	at := time.Date(2025, 3, 2, 10, 15, 4, 0, time.UTC)
	const who = "192.0.2.1"
	for _, c := range []struct{ filter, program, message string }{
		{"asterisk", "asterisk", `NOTICE[812]: chan_sip.c:28000 in handle_request_register: Registration from '<sip:100@x>' failed for '192.0.2.1:5060' - Wrong password`},
		{"apache-auth", "apache2", `[auth_basic:error] [pid 7:tid 7] [client 192.0.2.1:4022] AH01617: user root: authentication failure for "/x": Password Mismatch`},
		{"bitwarden", "bitwarden", "[WRN] Failed login attempt. 192.0.2.1"},
		{"cockpit", "cockpit-session", "pam_unix(cockpit:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=192.0.2.1  user=a"},
		{"courier-auth", "imapd", "LOGIN FAILED, user=a, ip=[::ffff:192.0.2.1]"},
		{"cyrus-imap", "cyrus/imaps", "badlogin: [192.0.2.1] plaintext a SASL(-13): authentication failure: checkpass failed"},
		{"dovecot", "dovecot", "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<a>, method=PLAIN, rip=192.0.2.1, lip=192.0.2.2, TLS, session=<q454Xu/vMwBZApgg>"},
		{"drupal-auth", "drupal", "https://example.com|1740910504|user|192.0.2.1|https://example.com/user/login||0||Login attempt failed for a."},
		{"haproxy-http-auth", "haproxy", `192.0.2.1:4022 [02/Mar/2025:10:15:04.123] fe be/<NOSRV> 0/-1/-1/-1/0 401 248 - - PR-- 0/0/0/0/0 0/0 "GET / HTTP/1.1"`},
		{"named-refused", "named", "client @0x7f8b4c0a1b20 192.0.2.1#4022 (example.com): query (cache) 'example.com/A/IN' denied"},
		{"nginx-http-auth", "nginx", `2025/03/02 10:15:04 [error] 1#1: *1 user "a" was not found in "/etc/x", client: 192.0.2.1, server: _, request: "GET / HTTP/1.1", host: "x"`},
		{"openvpn", "openvpn", "192.0.2.1:4022 TLS Auth Error: Auth Username/Password verification failed for peer"},
		{"pam-generic", "login", "pam_unix(login:auth): authentication failure; logname= uid=0 euid=0 tty=/dev/tty1 ruser= rhost=192.0.2.1  user=root"},
		{"phpmyadmin-syslog", "phpMyAdmin", "user denied: root (mysql-denied) from 192.0.2.1"},
		{"postfix", "postfix/smtpd", "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 <a@b>: Relay access denied; from=<x@y> to=<a@b> proto=ESMTP helo=<h>"},
		{"proftpd", "proftpd", "gate (192.0.2.1[192.0.2.1]) - USER root: no such user found from 192.0.2.1 [192.0.2.1] to 192.0.2.2:21"},
		{"proxmox", "pvedaemon", "authentication failure; rhost=::ffff:192.0.2.1 user=root@pam msg=Authentication failure"},
		{"pure-ftpd", "pure-ftpd", "(?@192.0.2.1) [WARNING] Authentication failed for user [root]"},
		{"roundcube-auth", "roundcube", "<abcd1234> IMAP Error: Login failed for a from 192.0.2.1. AUTHENTICATE PLAIN: Authentication failed. in /usr/share/roundcube/rcube_imap.php on line 200 (POST /?_task=login&_action=login)"},
		{"sendmail-auth", "sendmail", "AUTH failure (LOGIN): authentication failure (-13) SASL(-13): authentication failure: checkpass failed, relay=x.example [192.0.2.1]"},
		{"sogo-auth", "sogod", "SOGoRootPage Login from '192.0.2.1' for user 'a' might not have worked - password policy: 65535  grace: -1  expire: -1  bound: 0"},
		{"sshd", "sshd", "Failed password for root from 192.0.2.1 port 4022 ssh2"},
		{"sshd", "sshd-session", "Invalid user admin from 192.0.2.1 port 4022"},
		{"vsftpd", "vsftpd", "pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser=root rhost=192.0.2.1"},
		{"webmin-auth", "webmin", "Invalid login as root from 192.0.2.1"},
		{"wordpress-login", "wordpress(example.com)", "Authentication failure for admin from 192.0.2.1"},
		{"xrdp", "xrdp-sesman", "[INFO ] AUTHFAIL: user=a ip=::ffff:192.0.2.1 time=1740910504"},
	} {
		cfg := load(t, c.filter, nil)
		cfg.Local = time.UTC
		rules, err := filter.Compile(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, head := range heads {
			line := strings.ReplaceAll(head, "PROG", c.program) + c.message
			got := filter.New(rules).Judge(&bantam.Line{Text: []byte(line), Read: at.AddDate(0, 1, 0)}, nil)
			if len(got) != 1 || logtest.Host(&got[0]) != who || !got[0].Time.Truncate(time.Second).Equal(at) {
				t.Errorf("%s: %d failures, want one of %s at %v: %q, %+v", c.filter, len(got), who, at, line, got)
			}
		}
	}
}
