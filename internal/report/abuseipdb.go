package report

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// lastCategory is the highest number in AbuseIPDB's public list of categories (www.abuseipdb.com/categories).
const lastCategory = 23

// longestComment is what AbuseIPDB takes of a comment; what is longer it cuts off.
const longestComment = 1024

// categories are AbuseIPDB's numbers for what a jail's name says of it: 5 FTP brute-force, 8 fraud VoIP, 14 port scan,
// 15 hacking, 18 brute-force, 21 web app attack, 22 SSH.
var categories = map[string]string{
	"ssh": "18,22", "scan": "14", "ftp": "5,18", "mail": "18", "imap": "18", "pop3": "18", "sip": "8,18", "sql": "18",
	"weblogin": "18,21", "web": "21", "": "15",
}

// abuseIPDB fills in the fields of docs.abuseipdb.com, "REPORT Endpoint".
func (c *Config) abuseIPDB(fields map[string]string, a *attack) {
	fields["categories"] = strings.ReplaceAll(c.Category, " ", "")
	if c.Category == "" {
		fields["categories"] = categories[service(a.Jail)]
	}
	fields["timestamp"] = a.Last.UTC().Format(time.RFC3339)
	comment := fmt.Sprintf("%s in jail %s", plural(a.Failures, "failure", "failures"), cut(clean(a.Jail), 100))
	if a.Failures == 0 {
		comment = "Banned in jail " + cut(clean(a.Jail), 100)
	}
	// The newest lines that fit, in their order.
	from := len(a.Lines)
	for room := longestComment - len(comment); from > 0 && len(a.Lines[from-1])+1 <= room; from-- {
		room -= len(a.Lines[from-1]) + 1
	}
	fields["comment"] = strings.Join(append([]string{comment}, a.Lines[from:]...), "\n")
}

// abuseIPDBAnswer judges what AbuseIPDB says. Its errors are {"errors":[{"detail":"…","status":429}]}.
func abuseIPDBAnswer(resp *http.Response, answer []byte, now time.Time) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	var said struct {
		Errors []struct {
			Detail string `json:"detail"`
		} `json:"errors"`
	}
	detail := ""
	if json.Unmarshal(answer, &said) == nil && len(said.Errors) > 0 {
		detail = said.Errors[0].Detail
	}
	wayOn := ""
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		// It has the report already: ours, when we died before its answer came.
		if strings.Contains(detail, "once in 15 minutes") {
			return nil
		}
		wayOn = "the account's reports of today are used up"
	case http.StatusUnauthorized, http.StatusForbidden:
		wayOn = "look at the key: AbuseIPDB's version 2 has keys of its own"
	case http.StatusPaymentRequired:
		wayOn = "the account has to be paid for"
	case http.StatusUnprocessableEntity:
		wayOn = "look at the categories"
	}
	return refused("AbuseIPDB", resp, detail, wayOn, now)
}
