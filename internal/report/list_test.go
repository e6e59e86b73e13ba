package report

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/secret"
)

// api is a list's server that keeps what it gets and answers as it is told.
type api struct {
	mu     sync.Mutex
	got    []url.Values
	keys   []string
	answer func(w http.ResponseWriter)
}

func (a *api) RoundTrip(req *http.Request) (*http.Response, error) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	fields, err := url.ParseQuery(string(data))
	if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return nil, fmt.Errorf("a request that no list takes: %v, %v", req, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, fields)
	a.keys = append(a.keys, req.Header.Get("Key"))
	w := httptest.NewRecorder()
	a.answer(w)
	return w.Result(), nil
}

func says(code int, body string, headers ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func listConfig(kind string) Config {
	c := Defaults(kind)
	c.Channel, c.Key = "list", secret.New("k3y")
	if kind == Blocklist {
		c.From = "fail2ban@example.org"
	}
	return c
}

// newListRig is a rig with a list's server of the test's own, without a network, so that it runs in a bubble.
func newListRig(t *testing.T, c Config) (*rig, *api) {
	r := newRig(t, c)
	a := &api{answer: says(200, `{"data":{"ipAddress":"198.51.100.7","abuseConfidenceScore":52},"status":"success","error":0}`)}
	r.world.Client = &http.Client{Transport: a}
	r.restart()
	return r, a
}

func TestAbuseIPDBIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a := newListRig(t, listConfig(AbuseIPDB))
		r.start()
		r.tell(ban(t, "198.51.100.7"))
		r.tell(ban(t, "198.51.100.7")) // again: the guard of 15 minutes
		r.tell(ban(t, "2001:db8:1::/64", func(d *bantam.Decision) {
			d.Ban.Jail = "nginx-botsearch"
			d.Ban.Lines = []string{`2001:db8:1::7 - kim [01/Jan/2000:00:00:00 +0000] "GET /wp" 404`}
		}))
		r.tell(ban(t, "2001:db8:2::/64", func(d *bantam.Decision) { d.Ban.Lines = nil })) // no single address is known
		r.pass(time.Second)
		if len(a.got) != 2 || a.keys[0] != "k3y" {
			t.Fatalf("%d reports, keys %q", len(a.got), a.keys)
		}
		want := url.Values{
			"ip": {"198.51.100.7"}, "categories": {"18,22"}, "timestamp": {"2000-01-01T00:00:00Z"},
			"comment": {"5 failures in jail sshd\nJan  1 00:00:00 [redacted] sshd[812]: Failed password for [redacted] from 198.51.100.7 port 4022 ssh2"},
		}
		if got := a.got[0]; got.Encode() != want.Encode() {
			t.Errorf("told %v, want %v", got, want)
		}
		if got := a.got[1]; got.Get("ip") != "2001:db8:1::7" || got.Get("categories") != "21" || strings.Contains(got.Get("comment"), "kim") {
			t.Errorf("told %v", got)
		}
		r.pass(15 * time.Minute)
		r.tell(ban(t, "198.51.100.7"))
		r.pass(time.Second)
		if len(a.got) != 3 {
			t.Errorf("%d reports after the guard's 15 minutes", len(a.got))
		}
	})
}

func TestACommentIsNeverTooLong(t *testing.T) {
	c := listConfig(AbuseIPDB)
	for n := range 30 {
		fields := map[string]string{}
		a := &attack{Jail: strings.Repeat("ü", 10*n), Failures: 5}
		for i := range n {
			a.Lines = append(a.Lines, strings.Repeat("x", 17*i)+" 198.51.100.7")
		}
		c.abuseIPDB(fields, a)
		if len(fields["comment"]) > longestComment || n > 2 && n < 20 && !strings.HasSuffix(fields["comment"], a.Lines[n-1]) {
			t.Errorf("%d lines: %d bytes %q", n, len(fields["comment"]), fields["comment"])
		}
	}
}

func TestBlocklistIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a := newListRig(t, listConfig(Blocklist))
		r.start()
		r.tell(ban(t, "198.51.100.7"))
		r.pass(time.Second)
		want := url.Values{
			"server": {"fail2ban@example.org"}, "apikey": {"k3y"}, "ip": {"198.51.100.7"}, "service": {"ssh"}, "format": {"json"},
			"logs": {"Jan  1 00:00:00 [redacted] sshd[812]: Failed password for [redacted] from 198.51.100.7 port 4022 ssh2\n"},
		}
		if len(a.got) != 1 || a.got[0].Encode() != want.Encode() {
			t.Errorf("told %v, want %v", a.got, want)
		}
	})
}

func TestAnAnswerDecidesWhatBecomesOfAReport(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, kind string
		answer     func(http.ResponseWriter)
		ok, again  bool
		after      time.Duration
		says       string
	}{
		{"taken", AbuseIPDB, says(200, `{"data":{"ipAddress":"198.51.100.7"}}`), true, false, 0, ""},
		{"the same within 15 minutes", AbuseIPDB, says(429, "{\"errors\":[{\"detail\":\"You can only report the same IP address (`198.51.100.7`) once in 15 minutes.\",\"status\":429,\"source\":{\"parameter\":\"ip\"}}]}"), true, false, 0, ""},
		{"the day's reports used up", AbuseIPDB, says(429, `{"errors":[{"detail":"Daily rate limit of 1000 requests exceeded","status":429}]}`, "Retry-After", "29241"), false, true, 29241 * time.Second, "Daily rate limit"},
		{"a date to wait for", AbuseIPDB, says(429, ``, "Retry-After", "Sat, 01 Jan 2000 01:00:00 GMT"), false, true, time.Hour, "used up"},
		{"only a reset", AbuseIPDB, says(429, ``, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(now.Unix()+120)), false, true, 2 * time.Minute, "used up"},
		{"a year to wait", AbuseIPDB, says(429, ``, "Retry-After", "99999999"), false, true, 24 * time.Hour, ""},
		{"nonsense to wait for", AbuseIPDB, says(429, ``, "Retry-After", "-5"), false, true, 0, ""},
		{"a wrong key", AbuseIPDB, says(401, `{"errors":[{"detail":"Authentication failed. Your key k3y is wrong.","status":401}]}`), false, false, 0, "key *** is wrong.; look at the key"},
		{"not paid", AbuseIPDB, says(402, `{}`), false, false, 0, "paid"},
		{"wrong categories", AbuseIPDB, says(422, `{"errors":[{"detail":"The categories field is invalid."}]}`), false, false, 0, "look at the categories"},
		{"broken over there", AbuseIPDB, says(503, `<html>`), false, true, 0, "503"},
		{"somewhere else", AbuseIPDB, says(302, ``, "Location", "http://127.0.0.1:1/"), false, false, 0, "302"},
		{"codes for the terminal", AbuseIPDB, says(400, `{"errors":[{"detail":"\u001b[2J"}]}`), false, false, 0, `\x1b[2J`},
		{"success", Blocklist, says(200, `{"status":"success","error":0}`), true, false, 0, ""},
		{"no error", Blocklist, says(200, `{"error":"0"}`), true, false, 0, ""},
		{"a wrong key of blocklist.de", Blocklist, says(200, `{"status":"error","error":{"apikey":"k3y is none"}}`), false, false, 0, "*** is none"},
		{"a page instead of an answer", Blocklist, says(200, `<html>down`), false, true, 0, "<html>down"},
		{"broken at blocklist.de", Blocklist, says(500, ``), false, true, 0, "500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, a := newListRig(t, listConfig(tt.kind))
				r.world.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				a.answer = tt.answer
				d := ban(t, "198.51.100.7")
				r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
				if _, err := r.desk.Send(t.Context(), "list", d.Ban.ID, false); err != nil {
					t.Fatal(err)
				}
				err := r.desk.Senders()["list"].Send(t.Context(), r.box.letters[0])
				if tt.ok != (err == nil) {
					t.Fatalf("%v", err)
				}
				if tt.ok {
					return
				}
				v, isVerdict := errors.AsType[outbox.Verdict](err)
				if !isVerdict {
					t.Fatalf("%v is no verdict", err)
				}
				if again, after := v.Again(); again != tt.again || after != tt.after || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "k3y") {
					t.Errorf("again %v after %v: %v", again, after, err)
				}
			})
		})
	}
}

// TestAListsServerIsSpokenToByHTTP goes over loopback, so that the client of our own is tried too.
func TestAListsServerIsSpokenToByHTTP(t *testing.T) {
	got := make(chan *http.Request, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := req.ParseForm(); err != nil {
			t.Error(err)
		}
		got <- req
		http.Redirect(w, req, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c := listConfig(AbuseIPDB)
	c.URL = server.URL
	r := newRig(t, c)
	d := ban(t, "198.51.100.7")
	r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
	if _, err := r.desk.Send(t.Context(), "", d.Ban.ID, false); err != nil {
		t.Fatal(err)
	}
	err := r.desk.Senders()["list"].Send(t.Context(), r.box.letters[0])
	if err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("a way elsewhere was taken: %v", err)
	}
	if req := <-got; req.Header.Get("Key") != "k3y" || req.PostForm.Get("ip") != "198.51.100.7" || len(got) != 0 {
		t.Errorf("%v, %d more", req, len(got))
	}
	server.Close()
	if err := r.desk.Senders()["list"].Send(t.Context(), r.box.letters[0]); err == nil || strings.Contains(err.Error(), "k3y") {
		t.Errorf("a server that is gone: %v", err)
	}
}

func TestAPreviewOfAListsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a := newListRig(t, listConfig(Blocklist))
		d := ban(t, "198.51.100.7")
		r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
		got, err := r.desk.Preview(t.Context(), "list", d.Ban.ID)
		want := `To blocklist.de:

server:     fail2ban@example.org
ip:         198.51.100.7
service:    ssh
logs:       Jan  1 00:00:00 [redacted] sshd[812]: Failed password for [redacted] from 198.51.100.7 port 4022 ssh2
`
		if err != nil || string(got) != want || len(a.got) != 0 {
			t.Errorf("%v\n%s", err, got)
		}
	})
}

func TestAListIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newListRig(t, listConfig(AbuseIPDB))
		for i := range dailyForms + 50 {
			r.box.decide(ban(t, fmt.Sprintf("203.%d.%d.7", i/250, i%250)))
		}
		r.start()
		synctest.Wait()
		if n := len(r.box.letters); n != dailyForms || strings.Count(r.logs.String(), "a cap of reports is reached") != 1 {
			t.Errorf("%d letters\n%s", n, r.logs)
		}
	})
}

func TestAConfigThatIsWrongSaysWhatToWrite(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kind   string
		change func(*Config)
		want   string // "" for right
	}{
		{"the defaults", Abuse, func(*Config) {}, ""},
		{"the defaults of AbuseIPDB", AbuseIPDB, func(*Config) {}, ""},
		{"the defaults of blocklist.de", Blocklist, func(*Config) {}, ""},
		{"categories", AbuseIPDB, func(c *Config) { c.Category = "18, 22" }, ""},
		{"no channel", Abuse, func(c *Config) { c.Channel = "" }, "channel"},
		{"no such kind", Abuse, func(c *Config) { c.Kind = "dshield" }, "abuse, abuseipdb-report or blocklist-report"},
		{"no sender", Abuse, func(c *Config) { c.From = "" }, "from=abuse@example.org"},
		{"a sender that is none", Abuse, func(c *Config) { c.From = "root" }, `from: "root" is no mail address`},
		{"a header in an address", Abuse, func(c *Config) { c.Cc = []string{"a@example.org\r\nBcc: b@example.org"} }, "cc: "},
		{"a blind copy to nobody", Abuse, func(c *Config) { c.Bcc = []string{""} }, "bcc: "},
		{"a trial to nobody", Abuse, func(c *Config) { c.To = []string{"x"} }, "to: "},
		{"a way that is none", Abuse, func(c *Config) { c.Contact = []string{"dns", "phone"} }, "use dns, rdap, whois"},
		{"a way twice", Abuse, func(c *Config) { c.Contact = []string{"dns", "dns"} }, "twice"},
		{"no way", Abuse, func(c *Config) { c.Contact = nil }, "at least one"},
		{"a negative interval", Abuse, func(c *Config) { c.Interval = -time.Hour }, "negative"},
		{"no key", AbuseIPDB, func(c *Config) { c.Key = secret.Value{} }, "key=file:"},
		{"a whole file for a key", AbuseIPDB, func(c *Config) { c.Key = secret.New("k3y\r\nx") }, "key: "},
		{"a category that is none", AbuseIPDB, func(c *Config) { c.Category = "18,ssh" }, `"ssh" is no number from 1 to 23`},
		{"a category too many", AbuseIPDB, func(c *Config) { c.Category = "24" }, "1 to 23"},
		{"a service that is none", Blocklist, func(c *Config) { c.Category = "s s h" }, "as in ssh"},
		{"no server", Blocklist, func(c *Config) { c.From = "" }, "mail address of its profile"},
		{"a url that is none", AbuseIPDB, func(c *Config) { c.URL = "file:///etc/passwd" }, "url: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := abuseConfig()
			if tt.kind != Abuse {
				c = listConfig(tt.kind)
			}
			tt.change(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "k3y")) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzAnswer checks that no answer of a list makes us panic, leak the key, or wait for more than a day.
func FuzzAnswer(f *testing.F) {
	f.Add(429, `{"errors":[{"detail":"k3y"}]}`, "3600", "0")
	f.Add(200, `{"status":"error","error":{"apikey":"no"}}`, "Sat, 01 Jan 2000 01:00:00 GMT", "99999999999999")
	f.Fuzz(func(t *testing.T, code int, answer, after, reset string) {
		c := listConfig(AbuseIPDB)
		resp := &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {after}, "X-Ratelimit-Reset": {reset}, "X-Ratelimit-Remaining": {"0"}}}
		for _, err := range []error{abuseIPDBAnswer(resp, []byte(answer), time.Now()), blocklistAnswer(resp, []byte(answer))} {
			if err = c.hide(err); err == nil {
				continue
			}
			v, ok := errors.AsType[outbox.Verdict](err)
			if !ok || strings.Contains(err.Error(), "k3y") || strings.ContainsFunc(err.Error(), unprintable) || len(err.Error()) > 600 {
				t.Errorf("%q", err)
			}
			if _, pause := v.Again(); pause < 0 || pause > 24*time.Hour {
				t.Errorf("a pause of %v", pause)
			}
		}
	})
}

// FuzzContact checks that what is taken for a contact is one address and nothing else.
func FuzzContact(f *testing.F) {
	f.Add("Desk <ABUSE@net.example>")
	f.Add("a@b.example\r\nBcc: c@d.example")
	f.Add("\"a b\"@x.example, <c@d.example>")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := bareAddress(s)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unprintable) || len(err.Error()) > 700 {
				t.Errorf("%q", err)
			}
			return
		}
		if again, err := bareAddress(got); err != nil || again != got || strings.ContainsAny(got, " \r\n,;<>\"\\%!") || strings.Count(got, "@") != 1 || got[0] == '-' {
			t.Errorf("%q is taken for %q, then %q, %v", s, got, again, err)
		}
	})
}
