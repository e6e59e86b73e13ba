package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"bantam"
	"bantam/internal/secret"
)

// hookBody is what a webhook sends for an edition.
func hookBody(t testing.TB, ch channel, e *Edition) string {
	t.Helper()
	var l hookLetter
	if err := json.Unmarshal(letterOf(t, ch, e).Body, &l); err != nil {
		t.Fatal(err)
	}
	return l.Body
}

// hookPage is the page by which receivers are written.
func hookPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/formats/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestTheDocumentedObjectIsWhatIsSent(t *testing.T) {
	_, rest, _ := strings.Cut(hookPage(t), "```json\n")
	want, _, _ := strings.Cut(rest, "\n```")
	e := oneBan()
	e.Events[0].Decision.Ban.Lines = e.Events[0].Decision.Ban.Lines[3:]
	got := hookBody(t, newChat(t, Webhook, "https://chat.example", nil), e)
	var g, w map[string]any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("the page's object: %v", err)
	}
	// The page's text is written in UTC, the message's in the machine's zone.
	if text, ok := g["text"].(string); !ok || !strings.HasPrefix(text, "Banned 192.0.2.7 in sshd on gate.example.org\n") {
		t.Errorf("the text is %v", g["text"])
	}
	g["text"], w["text"] = nil, nil
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s\nsent is\n%s", diff, got)
	}
}

func TestTheDocumentedSignatureIsOurs(t *testing.T) {
	got := signature("correct horse battery staple", "1772446509", `{"ip":"192.0.2.7"}`)
	if !strings.Contains(hookPage(t), "`"+got+"`") {
		t.Errorf("%s is not on the page", got)
	}
}

func TestAReceiverCanTellWhoSentIt(t *testing.T) {
	s := newChatServer(t, says(http.StatusNoContent, ""))
	ch := s.trust(t, newChat(t, Webhook, s.URL, func(c *Config) { c.Method = "put" }))
	if r := sent(t, ch, oneBan()); r != nil {
		t.Fatal(r)
	}
	if r := sent(t, ch, oneBan()); r != nil { // a repeat
		t.Fatal(r)
	}
	all := s.requests()
	if len(all) != 2 {
		t.Fatalf("%d requests", len(all))
	}
	for _, r := range all {
		if r.method != "PUT" || r.uri != "/hook/"+chatSecret+"?key="+chatSecret {
			t.Errorf("%s %s", r.method, r.uri)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Idempotency-Key": "desk-42.7", "Authorization": "Bearer " + chatHeader, "X-Fleet": "one",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		at := r.header.Get("X-Bantam-Timestamp")
		mac := hmac.New(sha256.New, []byte(chatKey))
		mac.Write([]byte(at + "." + r.body))
		if got, want := r.header.Get("X-Bantam-Signature"), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
			t.Errorf("signed with %s, want %s", got, want)
		}
	}
	if all[0].body != all[1].body {
		t.Error("the repeat says something else")
	}
}

func TestWithoutAKeyNothingIsSigned(t *testing.T) {
	s := newChatServer(t, says(http.StatusOK, ""))
	ch := s.trust(t, newChat(t, Webhook, s.URL, func(c *Config) { c.Key = secret.Value{} }))
	if r := sent(t, ch, oneBan()); r != nil {
		t.Fatal(r)
	}
	if h := s.requests()[0].header; h.Get("X-Bantam-Signature") != "" || h.Get("X-Bantam-Timestamp") == "" {
		t.Errorf("got %v", h)
	}
}

func TestTheTemplateDecidesWhatIsSent(t *testing.T) {
	sly := oneBan()
	sly.Events[0].Values = func(name string) (string, bool) {
		v, ok := map[string]string{"ip": "192.0.2.7", "failures": "5", "F-USER": "\",\"admin\":\"<ip>&x=1\n\x1b[31m\u202e", "matches": "a\nb\r\x07"}[name]
		return v, ok
	}
	for _, tt := range []struct {
		name, kind, template string
		e                    *Edition
		want                 string
	}{
		{"a JSON string", "", `{"a": "<ip> by <F-USER>", "b": 1}`, sly, `{"a": "192.0.2.7 by \",\"admin\":\"\u003cip\u003e\u0026x=1\n\u001b[31m` + "\u202e" + `", "b": 1}`},
		{"a JSON number", "", `{"n": <failures>}`, sly, `{"n": 5}`},
		{"text where a number should be", "", `{"n": <F-USER>}`, sly, `{"n": "\",\"admin\":\"\u003cip\u003e\u0026x=1\n\u001b[31m` + "\u202e" + `"}`},
		{"an unknown tag", "", `{"n": <nothing>, "s": "<nothing>", "<b>": "\"<ip>"}`, sly, `{"n": null, "s": "<nothing>", "<b>": "\"192.0.2.7"}`},
		{"signs that look like a tag", "", `{"a":"<","b":">","c":<failures>}`, sly, `{"a":"<","b":">","c":5}`},
		{"a problem document", "application/problem+json", `{"a": "<ip>"}`, sly, `{"a": "192.0.2.7"}`},
		{"a form", "application/x-www-form-urlencoded", "to=me&text=<F-USER>", sly, "to=me&text=%22%2C%22admin%22%3A%22%3Cip%3E%26x%3D1%0A%1B%5B31m%E2%80%AE"},
		{"XML", "application/xml", `<a x="<F-USER>"><ip></a>`, sly, `<a x="&#34;,&#34;admin&#34;:&#34;&lt;ip&gt;&amp;x=1 [31m">192.0.2.7</a>`},
		{"plain text", "", "user=<F-USER> <nothing>", sly, `user=","admin":"<ip>&x=1 [31m <nothing>`},
		{"lines stay lines", "text/plain", "<matches>", sly, "a\nb "},
		{"a digest", "", `{"n": <count>, "jails": "<jails>", "first": "<ip>", "event": "<event>", "key": "<key>"}`, storm(), `{"n": 10000, "jails": "postfix, sshd", "first": "192.0.2.0", "event": "digest", "key": "desk-43.1"}`},
		{"a test has no event", "", `{"n": <failures>, "u": "<F-USER>", "h": "<fq-hostname>", "t": "<text>"}`, &Edition{Test: true, Host: "gate"}, `{"n": "", "u": "", "h": "gate", "t": "This is a test on gate\nWhoever reads this is told what Bantam does."}`},
		{"nobody knows the values", "", `{"j": "<name>", "i": "<ip>"}`, &Edition{Events: []Event{{}}}, `{"j": "", "i": ""}`},
		{"jails that stopped", "text/x", "<event> <jails>", &Edition{Stopped: []string{"b", "a"}}, "stop a, b"},
		{"jails that started", "text/x", "<event> <jails>", &Edition{Started: []string{"a"}}, "start a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ch := newChat(t, Webhook, "https://chat.example", func(c *Config) {
				c.Template = tt.template
				if tt.kind != "" {
					c.Headers = []secret.Value{secret.New("content-type:" + tt.kind)}
				}
			})
			if diff := cmp.Diff(tt.want, hookBody(t, ch, tt.e)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheContentTypeIsTheTemplates(t *testing.T) {
	for _, tt := range []struct{ name, header, template, want string }{
		{"none", "", "", "application/json"},
		{"an object", "", " {}", "application/json"},
		{"text", "", "<ip>", "text/plain; charset=utf-8"},
		{"said", "Content-Type: application/x-www-form-urlencoded", "ip=<ip>", "application/x-www-form-urlencoded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newChatServer(t, says(http.StatusOK, ""))
			ch := s.trust(t, newChat(t, Webhook, s.URL, func(c *Config) {
				c.Template = tt.template
				if tt.header != "" {
					c.Headers = []secret.Value{secret.New(tt.header)}
				}
			}))
			if r := sent(t, ch, oneBan()); r != nil {
				t.Fatal(r)
			}
			if got := s.requests()[0].header["Content-Type"]; len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// An attacker who makes texts long does not make the message fail.
func TestNoTextIsTooLongForAWebhook(t *testing.T) {
	long := strings.Repeat("\x00", 1<<20)
	one := oneBan()
	b := &one.Events[0].Decision.Ban
	b.ID, b.User, b.Lines, b.Data = bantam.TextID(long), long, []string{long, long, long, long}, map[string]string{"a": long}
	one.Events[0].Values = func(string) (string, bool) { return long, true }
	many := storm()
	for range 500 {
		many.Events = append(many.Events, one.Events[0])
	}
	for _, template := range []string{"", `{"a": "<ip><F-USER><matches>"}`, "[" + strings.Repeat(`"<F-USER>",`, 100) + "1]"} {
		ch := newChat(t, Webhook, "https://chat.example", func(c *Config) { c.Template = template })
		for _, e := range []*Edition{one, many} {
			if n := len(hookBody(t, ch, e)); n > maxHookBody {
				t.Errorf("%d bytes", n)
			}
		}
	}
	var o hookObject
	if err := json.Unmarshal([]byte(hookBody(t, newChat(t, Webhook, "https://chat.example", nil), many)), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Events) != maxHookEvents || o.More != 9980+420 {
		t.Errorf("%d events and %d more", len(o.Events), o.More)
	}
}

func TestLinesAreLeftOutIfNotWanted(t *testing.T) {
	for _, k := range chatKinds {
		ch, err := k.make("https://chat.example", func(c *Config) { c.Lines = false })
		if err != nil {
			t.Fatal(err)
		}
		if body := letterOf(t, ch, oneBan()).Body; strings.Contains(string(body), "Failed password") {
			t.Errorf("%s: %s", k.name, body)
		}
	}
}

func TestTheTimestampIsNow(t *testing.T) {
	s := newChatServer(t, says(http.StatusOK, ""))
	before := time.Now().Unix()
	if r := sent(t, s.trust(t, newChat(t, Webhook, s.URL, nil)), oneBan()); r != nil {
		t.Fatal(r)
	}
	var at int64
	if err := json.Unmarshal([]byte(s.requests()[0].header.Get("X-Bantam-Timestamp")), &at); err != nil || at < before || at > time.Now().Unix() {
		t.Errorf("sent at %d, %v", at, err)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{"a": "<x>", "b": <y>}`, "192.0.2.7", "5")
	f.Add(`{"a":"<","b":">"}`, "\",\"admin\":true", "1,2")
	f.Add(`["\"<x>", <y>, {"<x>": [<x>]}]`, "\xff\u2028</script>", "1e9")
	f.Add(`<x><y><`, "<y>", "<x>")
	f.Add(`{"a": "\\<x>"}`, `\`, "-0")
	f.Fuzz(func(t *testing.T, template, x, y string) {
		values := func(name string) (string, bool) {
			v, ok := map[string]string{"x": x, "y": y}[name]
			return v, ok
		}
		mild := func(v string) func(string) (string, bool) {
			return func(name string) (string, bool) { return v, name == "x" || name == "y" }
		}
		for _, form := range []form{asText, asJSON, asForm, asMarkup} {
			if got := fill(template, form, maxHookValue, values); len(got) > len(template)*(6*min(len(x)+len(y), maxHookValue)+10) {
				t.Fatalf("%d bytes became %d", len(template), len(got))
			}
		}
		// A template that is JSON with harmless values is JSON of the same shape with any.
		text, number := fill(template, asJSON, maxHookValue, mild("x")), fill(template, asJSON, maxHookValue, mild("0"))
		if json.Valid([]byte(text)) && json.Valid([]byte(number)) {
			got := fill(template, asJSON, maxHookValue, values)
			if !json.Valid([]byte(got)) {
				t.Fatalf("%q became %q", template, got)
			}
			if g, w := shape(t, got), shape(t, text); g != w {
				t.Fatalf("%q became %q: the shape %s, not %s", template, got, g, w)
			}
		}
		// A form has the value, and nothing else.
		if form, err := url.ParseQuery(fill("a=<x>&b=<y>", asForm, maxHookValue, values)); err != nil || len(form) != 2 || len(x) < maxHookValue && form.Get("a") != strings.ToValidUTF8(x, "�") {
			t.Fatalf("%q, %v", form, err)
		}
		// XML has one element with one attribute.
		var doc struct {
			X     string     `xml:"x,attr"`
			All   []xml.Attr `xml:",any,attr"`
			Text  string     `xml:",chardata"`
			Inner []struct{} `xml:",any"`
		}
		if err := xml.Unmarshal([]byte(fill(`<a x="<x>"><y></a>`, asMarkup, maxHookValue, values)), &doc); err != nil || len(doc.All)+len(doc.Inner) != 0 {
			t.Fatalf("%+v, %v", doc, err)
		}
		if got := fill("<x>", asText, maxHookValue, values); !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q", got)
		}
	})
}

// shape is a JSON text with its tokens' kinds alone, numbers and strings being one kind.
func shape(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		token, err := dec.Token()
		if err != nil {
			return b.String()
		}
		switch v := token.(type) {
		case json.Delim:
			b.WriteRune(rune(v))
		case bool:
			b.WriteByte('b')
		case nil:
			b.WriteByte('n')
		default:
			b.WriteByte('v')
		}
	}
}

func BenchmarkTemplate(b *testing.B) {
	ch := newChat(b, Webhook, "https://chat.example", func(c *Config) { c.Template = `{"what": "<text>", "address": "<ip>", "failures": <failures>}` })
	e := oneBan()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ch.compose(e); err != nil {
			b.Fatal(err)
		}
	}
}
