package report

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// longestLogs is what is sent of the lines.
const longestLogs = 8 << 10

// services are blocklist.de's names (www.blocklist.de/en/rbldns.html) for what a jail's name says of it.
var services = map[string]string{
	"ssh": "ssh", "scan": "portflood", "ftp": "ftp", "mail": "mail", "imap": "imap", "pop3": "pop3", "sip": "asterisk", "sql": "mysql",
	"weblogin": "bruteforcelogin", "web": "badbot", "": "bruteforcelogin",
}

// blocklist fills in the fields of www.blocklist.de/en/httpreports.html?help.
func (c *Config) blocklist(fields map[string]string, a *attack) {
	fields["server"], _ = bareAddress(c.From)
	fields["service"] = c.Category
	if c.Category == "" {
		fields["service"] = services[service(a.Jail)]
	}
	fields["format"] = "json"
	from, room := len(a.Lines), longestLogs
	for ; from > 0 && len(a.Lines[from-1])+1 <= room; from-- {
		room -= len(a.Lines[from-1]) + 1
	}
	fields["logs"] = strings.Join(a.Lines[from:], "\n") + "\n"
}

// blocklistAnswer judges what blocklist.de says: "status" is "success" or "error", and "error" 0 or what is wrong, as a text
// or several by field. It says so with the status 200 too.
func blocklistAnswer(resp *http.Response, answer []byte) error {
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return refused("blocklist.de", resp, "", "", time.Now())
	}
	var said struct {
		Status string          `json:"status"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		// A page instead of an answer: the service is down, or the address is another one.
		return &refusal{text: "report to blocklist.de: its answer is not understood: " + cut(clean(string(answer)), 100), again: true}
	}
	wrong := strings.Trim(string(said.Error), `"`)
	if strings.EqualFold(said.Status, "success") || said.Status == "" && wrong == "0" {
		return nil
	}
	return &refusal{text: "report to blocklist.de: it answers: " + cut(clean(wrong), 200) + "; look at the key and at the server's mail address in your profile"}
}
