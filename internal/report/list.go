package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/outbox"
)

// listName is how a public list is called in List.
var listName = map[string]string{AbuseIPDB: "AbuseIPDB", Blocklist: "blocklist.de"}

// usualURL is where a list's API is.
var usualURL = map[string]string{
	AbuseIPDB: "https://api.abuseipdb.com/api/v2/report",
	Blocklist: "https://www.blocklist.de/en/httpreports.html",
}

// longestAnswer is what is read of a list's answer.
const longestAnswer = 64 << 10

// A form is a report to a list as it is kept. The key is not in it: it is put in when the report is sent.
type form struct {
	Kind   string            `json:"kind"`
	Fields map[string]string `json:"fields"`
}

// preview shows what a list would be told.
func (f *form) preview() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "To %s:\n\n", listName[f.Kind])
	for _, key := range []string{"server", "ip", "categories", "service", "timestamp", "comment", "logs"} {
		if v, ok := f.Fields[key]; ok {
			fmt.Fprintf(&b, "%-11s %s\n", key+":", strings.ReplaceAll(strings.TrimSuffix(v, "\n"), "\n", "\n            "))
		}
	}
	return []byte(b.String())
}

// errNothingToSay is for a ban that nobody would take: a list wants a single address.
var errNothingToSay = errors.New("a list takes single addresses, and none of the prefix stands in the log lines")

// formLetter makes the letter of a report to a list.
func (c *Config) formLetter(id bantam.ID, a *attack, key string, now time.Time) (outbox.Letter, error) {
	addr, ok := single(id, a.Lines)
	if !ok {
		return outbox.Letter{}, errNothingToSay
	}
	f := &form{Kind: c.Kind, Fields: map[string]string{"ip": addr.String()}}
	switch c.Kind {
	case AbuseIPDB:
		c.abuseIPDB(f.Fields, a)
	case Blocklist:
		c.blocklist(f.Fields, a)
	}
	data, err := json.Marshal(body{Form: f})
	if err != nil {
		return outbox.Letter{}, err
	}
	return outbox.Letter{
		Key: key, Channel: c.Channel, About: "report of " + addr.String() + " to " + listName[c.Kind], Body: data, Made: now, Due: now,
	}, nil
}

// single is the address of an ID, and of a prefix the last one that its lines show.
func single(id bantam.ID, lines []string) (netip.Addr, bool) {
	p, _ := id.Prefix()
	if p.IsSingleIP() {
		return p.Addr(), true
	}
	for i := len(lines) - 1; i >= 0; i-- {
		for _, sp := range spans(lines[i]) {
			if sp.addr.IsValid() && id.Contains(bantam.AddrID(sp.addr)) {
				return sp.addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// A refusal is a receiver's answer that is an outbox.Verdict.
type refusal struct {
	text  string
	again bool
	after time.Duration
}

func (r *refusal) Error() string { return r.text }

// Again reports whether it makes sense to try again, and after which pause.
func (r *refusal) Again() (bool, time.Duration) { return r.again, r.after }

// Send delivers a letter of the channel; it is the channel's outbox.Sender.
func (c *channel) Send(ctx context.Context, l outbox.Letter) error {
	var b body
	if err := json.Unmarshal(l.Body, &b); err != nil {
		return &refusal{text: fmt.Sprintf("the report %s cannot be read: %v", l.Key, err)}
	}
	set := c.setup.Load()
	switch {
	case b.Mail != nil && set.transport != nil:
		return set.transport.Send(ctx, *b.Mail)
	case b.Form != nil && b.Form.Kind == set.Kind:
		return set.post(ctx, c.desk.world.Client, b.Form)
	}
	return &refusal{text: fmt.Sprintf("the report %s was written when the channel %s was of another kind", l.Key, c.name)}
}

// post sends a form to a list and judges the answer.
func (c *Config) post(ctx context.Context, client *http.Client, f *form) error {
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the key goes nowhere else
		}}
	}
	fields := url.Values{}
	for k, v := range f.Fields {
		fields.Set(k, v)
	}
	if c.Kind == Blocklist {
		fields.Set("apikey", c.Key.Reveal())
	}
	address := c.URL
	if address == "" {
		address = usualURL[c.Kind]
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(fields.Encode()))
	if err != nil {
		return &refusal{text: fmt.Sprintf("report to %s: the url is none", listName[c.Kind])}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "bantam/"+bantam.Version)
	if c.Kind == AbuseIPDB {
		req.Header.Set("Key", c.Key.Reveal())
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("report to %s: %w", listName[c.Kind], err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer))
	if err != nil && len(answer) == 0 {
		return fmt.Errorf("report to %s: read the answer: %w", listName[c.Kind], err)
	}
	if c.Kind == Blocklist {
		return c.hide(blocklistAnswer(resp, answer))
	}
	return c.hide(abuseIPDBAnswer(resp, answer, time.Now()))
}

// hide takes the key out of what a receiver says about it.
func (c *Config) hide(err error) error {
	var r *refusal
	if errors.As(err, &r) {
		r.text = strings.ReplaceAll(r.text, c.Key.Reveal(), "***")
	}
	return err
}

// refused is the verdict on an answer that says no: what asks too much (RFC 9110 and 6585: 408, 425, 429) or is broken at the
// receiver's (5xx) may be tried again, all else not.
func refused(list string, resp *http.Response, said, wayOn string, now time.Time) error {
	text := fmt.Sprintf("report to %s: it answers %d", list, resp.StatusCode)
	if said = strings.TrimSpace(cut(clean(said), 200)); said != "" {
		text += ": " + said
	}
	if wayOn != "" {
		text += "; " + wayOn
	}
	r := &refusal{text: text}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		r.again, r.after = true, pause(resp.Header, now)
	}
	return r
}

// pause is how long a receiver asks to be left alone, at most a day: Retry-After in seconds or as a date, else
// X-RateLimit-Reset in Unix seconds where nothing remains.
func pause(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	var d time.Duration
	if text := strings.TrimSpace(h.Get("Retry-After")); text != "" {
		if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
			d = time.Duration(seconds) * time.Second
		} else if at, err := http.ParseTime(text); err == nil {
			d = at.Sub(now)
		}
	} else if h.Get("X-RateLimit-Remaining") == "0" {
		if at, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && at < 1<<40 {
			d = time.Unix(at, 0).Sub(now)
		}
	}
	return min(max(d, 0), most)
}
