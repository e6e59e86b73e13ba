package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// xarf is a report in version 4.2.0 of the eXtended Abuse Reporting Format, as schemas/v4 of github.com/xarf/xarf-spec has it:
// the core, and the types connection/login_attack and connection/vulnerability_scan. One document tells of one incident, so a
// mail about several has as many.
type xarf struct {
	Version        string         `json:"xarf_version"`
	ReportID       string         `json:"report_id"` // a UUID of version 4
	Timestamp      string         `json:"timestamp"` // when it happened
	Reporter       xarfContact    `json:"reporter"`
	Sender         xarfContact    `json:"sender"`
	Source         string         `json:"source_identifier"`
	Category       string         `json:"category"`
	Type           string         `json:"type"`
	EvidenceSource string         `json:"evidence_source"`
	ScanType       string         `json:"scan_type,omitempty"` // wanted by vulnerability_scan
	Port           int            `json:"destination_port,omitempty"`
	Protocol       string         `json:"protocol"`
	FirstSeen      string         `json:"first_seen"`
	LastSeen       string         `json:"last_seen"`
	Service        string         `json:"service,omitempty"`
	Attempts       int            `json:"attempt_count,omitempty"`
	Evidence       []xarfEvidence `json:"evidence,omitempty"`
	Tags           []string       `json:"tags,omitempty"`
}

type xarfContact struct {
	Org     string `json:"org"`
	Contact string `json:"contact"`
	Domain  string `json:"domain"`
}

type xarfEvidence struct {
	ContentType string `json:"content_type"`
	Description string `json:"description"`
	Payload     string `json:"payload"` // base64
	Hash        string `json:"hash"`
	Size        int    `json:"size"`
}

// xarfOf writes down one attack. key makes the report's number, so that a repeat has the same one.
func xarfOf(c *attackCase, a *attack, from reporter, key string, trial bool) ([]byte, error) {
	who := xarfContact{Org: cut(from.name, 200), Contact: from.address, Domain: from.domain}
	x := xarf{
		Version:        "4.2.0",
		ReportID:       uuid(key + " " + c.ID.String() + " " + a.Jail + " " + strconv.FormatInt(a.Number, 10)),
		Timestamp:      a.Last.UTC().Format(time.RFC3339),
		Reporter:       who,
		Sender:         who,
		Source:         c.ID.String(),
		Category:       "connection",
		Type:           "login_attack",
		EvidenceSource: "automated_filter",
		Port:           portNumber(a.Port),
		Protocol:       a.protocol(),
		FirstSeen:      a.First.UTC().Format(time.RFC3339),
		LastSeen:       a.Last.UTC().Format(time.RFC3339),
		Service:        cut(clean(a.Jail), 100),
		Attempts:       a.Failures,
	}
	switch service(a.Jail) {
	case "scan":
		x.Type, x.ScanType = "vulnerability_scan", "port_scan"
	case "web":
		x.Type, x.ScanType = "vulnerability_scan", "web_vuln_scan"
	}
	if len(a.Lines) > 0 {
		lines := strings.Join(a.Lines, "\n") + "\n"
		sum := sha256.Sum256([]byte(lines))
		x.Evidence = []xarfEvidence{{
			ContentType: "text/plain",
			Description: "Log lines of the address, times in " + a.Zone,
			Payload:     base64.StdEncoding.EncodeToString([]byte(lines)),
			Hash:        "sha256:" + hex.EncodeToString(sum[:]),
			Size:        len(lines),
		}}
	}
	if trial {
		x.Tags = []string{"lifecycle:test"}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(x)
	return b.Bytes(), err
}

// uuid is a UUID that is always the same for a text, in the form of a random one (RFC 9562, version 4).
func uuid(text string) string {
	b := sha256.Sum256([]byte(text))
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:32]
}

// portNumbers are the names that jails use for their ports, as in IANA's registry.
var portNumbers = map[string]int{
	"ssh": 22, "ftp": 21, "smtp": 25, "submission": 587, "submissions": 465, "http": 80, "https": 443, "pop3": 110, "pop3s": 995,
	"imap": 143, "imaps": 993, "sieve": 4190, "domain": 53, "sip": 5060, "mysql": 3306, "postgresql": 5432, "telnet": 23,
}

// portNumber is the port if an action's parameter names exactly one; else 0.
func portNumber(ports string) int {
	if n, err := strconv.Atoi(ports); err == nil && n > 0 && n < 1<<16 {
		return n
	}
	return portNumbers[ports]
}

// service sorts a jail by its name: what is it that it watches? "" for what the name does not say.
func service(jail string) string {
	words := strings.FieldsFunc(strings.ToLower(jail), func(r rune) bool { return r < '0' || r > '9' && r < 'a' || r > 'z' })
	has := func(names ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(names, w) })
	}
	switch {
	case has("ssh", "sshd", "dropbear"):
		return "ssh"
	case has("portscan", "scanlogd", "portsentry", "scan") && !has("http", "apache", "nginx", "web"):
		return "scan"
	case has("ftp", "ftpd", "vsftpd", "proftpd", "pure", "sftpgo"):
		return "ftp"
	case has("postfix", "exim", "sendmail", "qpsmtpd", "smtp", "smtpd", "sasl", "mail", "opensmtpd", "courier"):
		return "mail"
	case has("dovecot", "imap", "imapd", "cyrus", "sieve"):
		return "imap"
	case has("pop3", "pop3d"):
		return "pop3"
	case has("asterisk", "freeswitch", "sip", "voip"):
		return "sip"
	case has("mysqld", "mysql", "mariadb", "mssql", "postgresql", "mongodb"):
		return "sql"
	case has("auth", "login", "wordpress", "nextcloud", "roundcube", "phpmyadmin", "grafana", "vaultwarden", "webmin", "gitlab", "gitea"):
		return "weblogin"
	case has("http", "https", "apache", "nginx", "web", "lighttpd", "caddy", "traefik", "haproxy", "php", "modsecurity", "badbots", "botsearch"):
		return "web"
	}
	return ""
}
