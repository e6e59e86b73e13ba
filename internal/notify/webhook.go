package notify

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/outbox"
	"bantam/internal/tag"
	"bantam/internal/whois"
)

// A webhook sends editions to a URL of the administrator's, as JSON or in a form of their own.
// docs/formats/webhook.md is what receivers are written by: the object, the tags, the
// headers and how to check the signature.
type webhook struct {
	*poster
	method   string
	kind     string // the Content-Type
	template string
	form     form
	key      string // signs, "" for no signature
}

// Bounds of what a webhook says.
const (
	maxHookBody   = 1 << 20
	maxHookValue  = 16 << 10 // bytes of one tag's value
	minHookValue  = 256      // the same where they would be too much together
	maxHookEvents = 100
	maxHookLines  = 10
	maxHookLine   = 1024 // bytes of a line or a captured text
	minHookLine   = 256  // the same in a digest
)

// A form is how a Content-Type wants values written.
type form int

const (
	asText   form = iota // as they are, without control characters
	asJSON               // as JSON strings, or numbers outside of quotes
	asForm               // as application/x-www-form-urlencoded
	asMarkup             // as XML and HTML write text
)

// formOf is the form of a Content-Type.
func formOf(kind string) (form, error) {
	media, _, err := mime.ParseMediaType(kind)
	switch {
	case err != nil:
		return 0, fmt.Errorf("headers: %q is no Content-Type", kind)
	case media == "application/json", strings.HasSuffix(media, "+json"):
		return asJSON, nil
	case media == "application/x-www-form-urlencoded":
		return asForm, nil
	case media == "application/xml", media == "text/xml", media == "text/html", strings.HasSuffix(media, "+xml"):
		return asMarkup, nil
	default:
		return asText, nil
	}
}

// headerName is a token of RFC 9110, 5.6.2.
var headerName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")

// ourHeaders are the client's or those by which receivers know us.
var ourHeaders = []string{
	"Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade", "Te",
	"Idempotency-Key", "X-Bantam-Timestamp", "X-Bantam-Signature",
}

func newWebhook(c *Config) (channel, error) {
	if c.URL.Reveal() == "" {
		return nil, errors.New("url: is missing: name what is to be told")
	}
	u, err := chatURL(c.URL.Reveal())
	if err != nil {
		return nil, err
	}
	w := &webhook{poster: newPoster(c, u), method: strings.ToUpper(cmp.Or(c.Method, http.MethodPost)), template: c.Template, key: c.Key.Reveal()}
	if w.method != http.MethodPost && w.method != http.MethodPut && w.method != http.MethodPatch {
		return nil, fmt.Errorf("method: %q has no body that could carry a message: use POST, PUT or PATCH", c.Method)
	}
	w.header = http.Header{}
	secrets := []string{w.key}
	for i, h := range c.Headers {
		name, value, ok := strings.Cut(h.Reveal(), ":")
		name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok || !headerName.MatchString(name) || !headerText(value):
			return nil, fmt.Errorf("headers: number %d is not of the form Name: value", i+1)
		case slices.Contains(ourHeaders, name):
			return nil, fmt.Errorf("headers: %s is set by Bantam itself", name)
		}
		w.header.Add(name, value)
		if name != "Content-Type" && name != "User-Agent" && name != "Host" && name != "Accept" {
			_, word, _ := strings.Cut(value, " ") // behind "Bearer"
			secrets = append(secrets, value, word)
		}
	}
	w.poster.secrets = newPoster(c, u, secrets...).secrets
	w.kind = w.header.Get("Content-Type")
	w.header.Del("Content-Type") // a letter goes out as what it was written
	if w.kind == "" {
		w.kind = "application/json"
		if t := strings.TrimSpace(w.template); t != "" && t[0] != '{' && t[0] != '[' && t[0] != '"' {
			w.kind = "text/plain; charset=utf-8"
		}
	}
	if w.form, err = formOf(w.kind); err != nil {
		return nil, err
	}
	if w.form != asJSON && w.template == "" {
		return nil, fmt.Errorf("template: is missing: what is sent without one is JSON, not %s", w.kind)
	}
	if w.form == asJSON && w.template != "" {
		for _, sample := range []string{"0", "x"} {
			all := func(string) (string, bool) { return sample, true }
			if made := fill(w.template, asJSON, minHookValue, all); !json.Valid([]byte(made)) {
				return nil, fmt.Errorf("template: is no JSON: with every tag as %q it becomes %q", sample, w.clean(made))
			}
		}
	}
	// So that no text makes composing fail later.
	for _, sample := range []string{"\x00", `"`} {
		long := func(string) (string, bool) { return strings.Repeat(sample, minHookValue), true }
		if len(fill(w.template, w.form, minHookValue, long)) > maxHookBody {
			return nil, fmt.Errorf("template: with its tags it may exceed %d bytes", maxHookBody)
		}
	}
	return w, nil
}

// hookLetter is the body of a letter: what is sent.
type hookLetter struct {
	Type string `json:"type"`
	Body string `json:"body"`
}

func (w *webhook) compose(e *Edition) ([]byte, error) {
	var body string
	if w.template == "" {
		object, err := chatJSON(w.object(e))
		if err != nil {
			return nil, err
		}
		body = string(object)
	} else {
		for _, most := range []int{maxHookValue, minHookValue} {
			if body = fill(w.template, w.form, most, w.tags(e)); len(body) <= maxHookBody {
				break
			}
		}
	}
	switch {
	case len(body) > maxHookBody:
		return nil, fmt.Errorf("compose for %s: the message has %d bytes, more than %d", w.host, len(body), maxHookBody)
	case w.form == asJSON && !json.Valid([]byte(body)):
		return nil, fmt.Errorf("compose for %s: the template makes no JSON", w.host)
	}
	return chatJSON(hookLetter{w.kind, body})
}

// Send gives every attempt the letter's key and, if there is a key to sign with, the time and a signature over both.
// Any success will do; what the answer says is nobody's business.
func (w *webhook) Send(ctx context.Context, l outbox.Letter) error {
	var letter hookLetter
	if err := readLetter(l.Key, l.Body, &letter); err != nil {
		return err
	}
	header := w.header.Clone()
	header.Set("Content-Type", letter.Type)
	header.Set("Idempotency-Key", l.Key)
	at := strconv.FormatInt(time.Now().Unix(), 10)
	header.Set("X-Bantam-Timestamp", at)
	if w.key != "" {
		header.Set("X-Bantam-Signature", signature(w.key, at, letter.Body))
	}
	_, err := w.request(ctx, w.method, header, []byte(letter.Body))
	return err
}

// signature is what X-Bantam-Signature holds: HMAC-SHA256 over the time, a dot and the body. The time is in it so
// that a receiver can refuse what somebody has kept to send it again later.
func signature(key, at, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(at + "." + body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// A hookObject is what is sent without a template.
type hookObject struct {
	Version int            `json:"version"`
	Event   string         `json:"event"`
	Host    string         `json:"host"`
	Time    time.Time      `json:"time"`
	Since   time.Time      `json:"since,omitzero"`
	Text    string         `json:"text"`
	Count   int            `json:"count"`
	More    int            `json:"more"`
	Bans    map[string]int `json:"bans"`
	Unbans  map[string]int `json:"unbans"`
	Started []string       `json:"started"`
	Stopped []string       `json:"stopped"`
	Events  []hookEvent    `json:"events"`
}

type hookEvent struct {
	Kind  bantam.Kind   `json:"kind"`
	Time  time.Time     `json:"time"`
	Cause string        `json:"cause,omitempty"`
	Ban   bantam.Ban    `json:"ban"`
	Place geo.Place     `json:"place"`
	Host  string        `json:"host,omitempty"`
	Whois *whois.Answer `json:"whois,omitempty"`
}

// object is an edition as its receivers read it, with lists and maps that are never null.
func (w *webhook) object(e *Edition) hookObject {
	bans, unbans, _, _ := chatTotals(e)
	o := hookObject{
		Version: 1, Event: eventOf(e), Host: e.Host, Time: e.At.UTC(), Since: e.Since.UTC(), Text: ntfyMarkup.full(e, w.lines),
		Count: bans + unbans, More: e.More, Bans: map[string]int{}, Unbans: map[string]int{},
		Started: append([]string{}, e.Started...), Stopped: append([]string{}, e.Stopped...), Events: []hookEvent{},
	}
	maps.Copy(o.Bans, e.Bans)
	maps.Copy(o.Unbans, e.Unbans)
	for i := range e.Events {
		if i == maxHookEvents {
			o.More += len(e.Events) - i
			break
		}
		ev := &e.Events[i]
		b := ev.Decision.Ban
		lines, data, most := b.Lines, b.Data, minHookLine
		b.Lines, b.Data = nil, nil
		if alone(e) {
			most = maxHookLine
			if w.lines {
				for _, line := range lines[max(0, len(lines)-maxHookLines):] {
					b.Lines = append(b.Lines, hookText(line, most))
				}
			}
			b.Data = map[string]string{}
			for name, v := range data {
				b.Data[name] = hookText(v, most)
			}
		}
		b.Time, b.End, b.User = b.Time.UTC(), b.End.UTC(), hookText(b.User, most)
		if text := b.ID.String(); len(text) > most {
			b.ID = bantam.TextID(hookText(text, most))
		}
		o.Events = append(o.Events, hookEvent{ev.Decision.Kind, ev.Decision.At.UTC(), ev.Decision.Cause, b, ev.Place, ev.Host, ev.Whois})
	}
	return o
}

// hookText is an attacker's text, cut.
func hookText(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "�")
}

// eventOf is what an edition is, in a word.
func eventOf(e *Edition) string {
	switch {
	case e.Test:
		return "test"
	case alone(e) && e.Events[0].Decision.Kind == bantam.End:
		return OnUnban
	case alone(e):
		return OnBan
	case len(e.Events)+e.More+len(e.Bans)+len(e.Unbans) > 0 || len(e.Started) > 0 && len(e.Stopped) > 0:
		return "digest"
	case len(e.Stopped) > 0:
		return OnStop
	default:
		return OnStart
	}
}

// eventTags are those of an event. Where there is none, as in a test, they stand for nothing;
// so do those that begin with F-.
var eventTags = []string{
	"abuse-contact", "as-org", "asn", "bancount", "bantime", "city", "country", "country-name", "failures", "family",
	"fid", "ip", "ip-host", "ip-rev", "ipfailures", "ipjailfailures", "ipjailmatches", "ipmatches", "jail.banned",
	"jail.banned_total", "jail.found", "jail.found_total", "jail.name", "matches", "name", "network", "restored", "time",
}

// tags are what the tags of a template stand for: the edition's own, then those of its first event.
func (w *webhook) tags(e *Edition) func(string) (string, bool) {
	return func(name string) (string, bool) {
		switch name {
		case "event":
			return eventOf(e), true
		case "key":
			return e.Key, true
		case "count":
			bans, unbans, _, _ := chatTotals(e)
			return strconv.Itoa(bans + unbans), true
		case "jails":
			return strings.Join(jailsOf(e), ", "), true
		case "text":
			return ntfyMarkup.full(e, w.lines), true
		}
		if len(e.Events) == 0 {
			if name == "fq-hostname" {
				return e.Host, true
			}
			return "", slices.Contains(eventTags, name) || strings.HasPrefix(name, "F-")
		}
		ev := &e.Events[0]
		if ev.Values != nil {
			if v, ok := ev.Values(name); ok {
				return v, true
			}
		}
		switch name {
		case "name", "jail.name":
			return ev.Decision.Ban.Jail, true
		case "ip":
			return ev.Decision.Ban.ID.String(), true
		case "fq-hostname":
			return e.Host, true
		}
		return "", false
	}
}

// jailsOf are the jails that an edition is about, sorted.
func jailsOf(e *Edition) []string {
	jails := slices.Concat(e.Started, e.Stopped, slices.Collect(maps.Keys(e.Bans)), slices.Collect(maps.Keys(e.Unbans)))
	for i := range e.Events {
		jails = append(jails, e.Events[i].Decision.Ban.Jail)
	}
	slices.Sort(jails)
	return slices.Compact(jails)
}

// fill puts values into a template as its form needs it, looking once: what is put in is never
// looked at again, and has at most most bytes before it is written as the form needs it. A tag
// that value does not know stays, but in JSON outside of quotes it is null.
func fill(template string, f form, most int, value func(string) (string, bool)) string {
	var b strings.Builder
	quoted, escaped := false, false // where we are in JSON
	keep := func(text string) {
		b.WriteString(text)
		for _, c := range []byte(text) {
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = quoted
			case c == '"':
				quoted = !quoted
			}
		}
	}
	for {
		start, end := tag.Next(template, 0)
		if start < 0 {
			b.WriteString(template)
			return b.String()
		}
		keep(template[:start])
		name := template[start+1 : end-1]
		v, known := "", false
		if tagName.MatchString(name) {
			v, known = value(name)
		}
		switch {
		case known:
			b.WriteString(f.written(hookText(v, most), name, quoted))
		case f == asJSON && !quoted:
			b.WriteString("null")
		default:
			keep(template[start:end])
		}
		template = template[end:]
	}
}

// tagName is what tags are called; other things between < and > are the template's own.
var tagName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?$`)

var markupEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// written is a tag's value as the form needs it; quoted is for JSON.
func (f form) written(v, name string, quoted bool) string {
	switch f {
	case asForm:
		return url.QueryEscape(v)
	case asMarkup:
		return markupEscapes.Replace(printed(v, name))
	case asJSON:
		if !quoted && jsonNumber.MatchString(v) {
			return v
		}
		s, _ := json.Marshal(v) // a string always can be
		if quoted {
			s = s[1 : len(s)-1]
		}
		return string(s)
	default:
		return printed(v, name)
	}
}

// printed is a value without what is not printed. Tags of several lines keep them, others are made one line.
func printed(v, name string) string {
	several := name == "text" || strings.HasSuffix(name, "matches")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && several:
			return r
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, v)
}
