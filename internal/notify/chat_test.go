package notify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/outbox"
	"bantam/internal/secret"
	"bantam/internal/whois"
)

// What the channels of the tests are told to keep to themselves.
const (
	chatToken  = "123456789:AAF-secretsecretsecretsecretsecret1"
	chatSecret = "S3cret-in-the-url_0123456789abcdef"
	chatTopic  = "very-private-topic"
	chatKey    = "signing-key-of-the-hook"
	chatHeader = "header-token-0123456789"
)

// chatSecrets are in no error, no log and no letter.
var chatSecrets = []string{chatToken, "AAF-secret", chatSecret, chatTopic, chatKey, chatHeader}

// chatKinds makes each channel of a server at a URL.
var chatKinds = []struct {
	name  string
	limit int
	make  func(url string, change func(*Config)) (channel, error)
}{
	{Telegram, 4096, chatMaker(newTelegram, func(c *Config, url string) {
		c.URL, c.Token, c.Chat = secret.New(url), secret.New(chatToken), "-1001234567890"
	})},
	{Discord, 2000, chatMaker(newDiscord, func(c *Config, url string) {
		c.URL = secret.New(url + "/api/webhooks/223704706495545344/" + chatSecret)
	})},
	{Slack, 4000, chatMaker(newSlack, func(c *Config, url string) {
		c.URL = secret.New(url + "/services/T0001/B0001/" + chatSecret)
	})},
	{Ntfy, 4096, chatMaker(newNtfy, func(c *Config, url string) {
		c.URL, c.Token, c.Topic = secret.New(url), secret.New("tk_"+chatSecret), chatTopic
	})},
	{Webhook, maxHookBody, chatMaker(newWebhook, func(c *Config, url string) {
		c.URL, c.Key = secret.New(url+"/hook/"+chatSecret+"?key="+chatSecret), secret.New(chatKey)
		c.Headers = []secret.Value{secret.New("Authorization: Bearer " + chatHeader), secret.New("X-Fleet: one")}
	})},
}

func chatMaker(make func(*Config) (channel, error), set func(*Config, string)) func(string, func(*Config)) (channel, error) {
	return func(url string, change func(*Config)) (channel, error) {
		c := Config{Lines: true}
		set(&c, url)
		if change != nil {
			change(&c)
		}
		return make(&c)
	}
}

// posterOf is the part of a channel that sends.
func posterOf(t testing.TB, ch channel) *poster {
	t.Helper()
	switch c := ch.(type) {
	case *telegram:
		return c.poster
	case *discord:
		return c.poster
	case *slack:
		return c.poster
	case *ntfy:
		return c.poster
	case *webhook:
		return c.poster
	}
	t.Fatalf("%T is no chat channel", ch)
	return nil
}

// A chatRequest is what a server was sent.
type chatRequest struct {
	method, uri string
	header      http.Header
	body        string
}

// A chatServer is a service with TLS, which keeps what it is sent.
type chatServer struct {
	*httptest.Server
	mu  sync.Mutex // guards the rest
	all []chatRequest
}

func newChatServer(t *testing.T, answer http.HandlerFunc) *chatServer {
	t.Helper()
	s := &chatServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a request: %v", err)
		}
		s.mu.Lock()
		s.all = append(s.all, chatRequest{r.Method, r.RequestURI, r.Header, string(body)})
		s.mu.Unlock()
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// requests are those that came.
func (s *chatServer) requests() []chatRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// trust has a channel trust the server.
func (s *chatServer) trust(t testing.TB, ch channel) channel {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	posterOf(t, ch).client = newChatClient(roots)
	return ch
}

// says answers with a status and a body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body) // the client may have gone
	}
}

// letter is an edition as the outbox has it.
func letterOf(t testing.TB, ch channel, e *Edition) outbox.Letter {
	t.Helper()
	body, err := ch.compose(e)
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Letter{Key: e.Key, Body: body}
}

// sent sends an edition and is the refusal, or nil.
func sent(t *testing.T, ch channel, e *Edition) *refusal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := ch.Send(ctx, letterOf(t, ch, e))
	if err == nil {
		return nil
	}
	var v outbox.Verdict
	if !errors.As(err, &v) {
		t.Fatalf("%v is no verdict", err)
	}
	for _, s := range append([]string{`Post "`}, chatSecrets...) { // url.Error's text has the URL
		if strings.Contains(err.Error(), s) {
			t.Fatalf("the error has the secret %s: %v", s, err)
		}
	}
	return err.(*refusal)
}

// chatTime is the wall time of the tests' events.
var chatTime = time.Date(2026, 3, 2, 10, 15, 9, 0, time.UTC)

// oneBan is a message about one ban, all of it harmless.
func oneBan() *Edition {
	return &Edition{
		Key: "desk-42.7", Host: "gate.example.org", At: chatTime.Add(time.Second), Bans: map[string]int{"sshd": 1},
		Events: []Event{{
			Decision: bantam.Decision{
				Seq: 7, Kind: bantam.Start, At: chatTime,
				Ban: bantam.Ban{
					Jail: "sshd", ID: bantam.AddrID(netip.MustParseAddr("192.0.2.7")), Time: chatTime, End: chatTime.Add(10 * time.Minute),
					Failures: 5, Count: 2, By: bantam.ByFailures, User: "root",
					Lines: []string{
						"one too many", "sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2",
						"sshd[813]: Failed password for root from 192.0.2.7 port 4023 ssh2", "sshd[814]: Invalid user <b>x</b> & co from 192.0.2.7",
					},
					Data: map[string]string{"port": "4022"},
				},
			},
			Place: geo.Place{Country: "DE", CountryName: "Germany", ASN: 64500, ASOrg: "Example & Sons"},
			Host:  "host7.example.net",
			Values: func(name string) (string, bool) {
				v, ok := map[string]string{
					"ip": "192.0.2.7", "failures": "5", "F-USER": "root", "matches": "first\nsecond", "name": "sshd", "country": "DE",
				}[name]
				return v, ok
			},
		}},
	}
}

// storm is a digest of many bans.
func storm() *Edition {
	e := &Edition{
		Key: "desk-43.1", Host: "gate.example.org", At: chatTime, Since: chatTime.Add(-10 * time.Minute), More: 9980,
		Bans: map[string]int{"sshd": 9000, "postfix": 990}, Unbans: map[string]int{"sshd": 10},
	}
	for i := range 20 {
		ev := Event{Place: geo.Place{Country: "NL"}, Decision: bantam.Decision{Kind: bantam.Start, At: chatTime, Ban: bantam.Ban{
			Jail: "sshd", ID: bantam.AddrID(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})), Time: chatTime, By: bantam.ByFailures,
		}}}
		if i == 3 {
			ev.Decision.Kind = bantam.End
		}
		e.Events = append(e.Events, ev)
	}
	return e
}

func TestEachServiceIsAskedAsItsDocumentationSays(t *testing.T) {
	const okTelegram = `{"ok":true,"result":{"message_id":42,"date":1746268800,"text":"x"}}`
	for _, tt := range []struct{ kind, answer, uri, want string }{
		{
			Telegram, okTelegram, "/bot" + chatToken + "/sendMessage",
			`{"chat_id":"-1001234567890","text":"<b>This is a test</b> on <code>gate</code>\nWhoever reads this is told what Bantam does.","parse_mode":"HTML","link_preview_options":{"is_disabled":true}}`,
		},
		{
			Discord, `{"id":"1","type":0,"content":"x"}`, "/api/webhooks/223704706495545344/" + chatSecret + "?wait=true",
			"{\"content\":\"**This is a test** on `gate`\\nWhoever reads this is told what Bantam does.\",\"flags\":4,\"allowed_mentions\":{\"parse\":[]}}",
		},
		{
			Slack, "ok", "/services/T0001/B0001/" + chatSecret,
			"{\"text\":\"*This is a test* on `gate`\\nWhoever reads this is told what Bantam does.\",\"unfurl_links\":false,\"unfurl_media\":false}",
		},
		{
			Ntfy, `{"id":"sPs71M8A2T","time":1643935928,"event":"message","topic":"t","message":"x"}`, "/",
			`{"topic":"` + chatTopic + `","title":"This is a test on gate","message":"Whoever reads this is told what Bantam does.","tags":["wave"],"priority":3,"sequence_id":"6ca13d52ca70c883e0f0bb101e425a89"}`,
		},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			s := newChatServer(t, says(http.StatusOK, tt.answer))
			ch := s.trust(t, newChat(t, tt.kind, s.URL, nil))
			e := &Edition{Key: "abc123", Host: "gate", Test: true}
			if r := sent(t, ch, e); r != nil {
				t.Fatal(r)
			}
			got := s.requests()
			if len(got) != 1 {
				t.Fatalf("%d requests", len(got))
			}
			if got[0].method != "POST" || got[0].uri != tt.uri || got[0].header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s as %s, want POST %s", got[0].method, got[0].uri, got[0].header.Get("Content-Type"), tt.uri)
			}
			if got[0].header.Get("User-Agent") != "bantam/"+bantam.Version {
				t.Errorf("says it is %q", got[0].header.Get("User-Agent"))
			}
			if diff := cmp.Diff(tt.want, got[0].body); diff != "" {
				t.Error(diff)
			}
			if tt.kind == Ntfy && got[0].header.Get("Authorization") != "Bearer tk_"+chatSecret {
				t.Errorf("authorised by %q", got[0].header.Get("Authorization"))
			}
		})
	}
}

// newChat is one of chatKinds.
func newChat(t testing.TB, kind, url string, change func(*Config)) channel {
	t.Helper()
	for _, k := range chatKinds {
		if k.name == kind {
			ch, err := k.make(url, change)
			if err != nil {
				t.Fatal(err)
			}
			return ch
		}
	}
	t.Fatalf("no kind %s", kind)
	return nil
}

func TestARefusalSaysWhatBecomesOfTheLetterAndWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		status     int
		header     http.Header
		body       string
		again      bool
		pause      time.Duration
		says       string
	}{
		{"Telegram asks for a pause", Telegram, 429, nil, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 14","parameters":{"retry_after":14}}`, true, 14 * time.Second, "Too Many Requests"},
		{"Telegram knows no such token", Telegram, 401, nil, `{"ok":false,"error_code":401,"description":"Unauthorized"}`, false, 0, "ask @BotFather"},
		{"Telegram knows no such bot", Telegram, 404, nil, `{"ok":false,"error_code":404,"description":"Not Found"}`, false, 0, "ask @BotFather"},
		{"nobody wrote to the bot", Telegram, 400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}`, false, 0, "send the bot a message first"},
		{"the bot was blocked", Telegram, 403, nil, `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`, false, 0, "unblock it"},
		{"the group has moved", Telegram, 400, nil, `{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-100987}}`, false, 0, "set chat to -100987"},
		{"Telegram is down", Telegram, 502, nil, "<html>Bad Gateway</html>", true, 0, "Bad Gateway"},
		{"Telegram says it is well, and is not", Telegram, 200, nil, `{"ok":false}`, true, 0, "not understood"},
		{"a page in Telegram's place", Telegram, 200, nil, `<html>Sign in to the hotel's network</html>`, true, 0, "hotel"},
		{"an answer of another shape", Telegram, 400, nil, `[{"description":3}]`, false, 0, "description"},
		{"Discord's pause is a fraction", Discord, 429, http.Header{"Retry-After": {"1"}}, `{"message":"You are being rate limited.","retry_after":1.2345,"global":false}`, true, 1235 * time.Millisecond, "rate limited"},
		{"Discord's webhook was deleted", Discord, 404, nil, `{"message":"Unknown Webhook","code":10015}`, false, 0, "make another one"},
		{"Discord's token is wrong", Discord, 401, nil, `{"message":"Invalid Webhook Token","code":50027}`, false, 0, "make another one"},
		{"Discord takes no such message", Discord, 400, nil, `{"message":"Invalid Form Body","code":50035}`, false, 0, "Invalid Form Body"},
		{"Discord's channel is a forum", Discord, 400, nil, `{"message":"Webhooks posted to forum channels must have a thread_name or thread_id","code":220001}`, false, 0, "thread_id=NUMBER"},
		{"Discord is busy", Discord, 503, http.Header{"Retry-After": {"120"}}, "", true, 2 * time.Minute, "503"},
		{"Discord says yes without a message", Discord, 200, nil, "{}", true, 0, "not understood"},
		{"Slack's webhook was removed", Slack, 404, nil, "no_service", false, 0, "make another one"},
		{"Slack's channel is archived", Slack, 410, nil, "channel_is_archived", false, 0, "another"},
		{"Slack's administrator forbids it", Slack, 403, nil, "action_prohibited", false, 0, "administrator"},
		{"Slack asks for a pause", Slack, 429, http.Header{"Retry-After": {"30"}}, "rate_limited", true, 30 * time.Second, "rate_limited"},
		{"a page in Slack's place", Slack, 200, nil, "<html>", true, 0, "not understood"},
		{"ntfy's topic is protected", Ntfy, 403, nil, `{"code":40301,"http":403,"error":"forbidden"}`, false, 0, "may write to it"},
		{"ntfy's token is wrong", Ntfy, 401, nil, `{"code":40101,"http":401,"error":"unauthorized"}`, false, 0, "token is wrong"},
		{"ntfy has enough for today", Ntfy, 429, nil, `{"code":42908,"http":429,"error":"limit reached: daily message quota reached"}`, true, 0, "42908"},
		{"a webhook is not there", Webhook, 404, nil, "no such page", false, 0, "no such page"},
		{"a webhook is still busy with it", Webhook, 409, nil, "", true, 0, "409"},
		{"a webhook breaks", Webhook, 500, nil, "oops", true, 0, "oops"},
		{"a webhook wants an eternity", Webhook, 503, http.Header{"Retry-After": {"99999999999999"}}, "", true, 24 * time.Hour, "503"},
		{"a webhook that moved for good", Webhook, 301, http.Header{"Location": {"https://other.example/" + chatSecret}}, "", false, 0, "other.example"},
		{"a webhook that sends elsewhere today", Webhook, 307, http.Header{"Location": {"/maintenance"}}, "", true, 0, "redirects are not followed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newChatServer(t, func(w http.ResponseWriter, r *http.Request) {
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				says(tt.status, tt.body)(w, r)
			})
			r := sent(t, s.trust(t, newChat(t, tt.kind, s.URL, nil)), oneBan())
			if r == nil {
				t.Fatal("it was taken")
			}
			if again, pause := r.Again(); again != tt.again || pause != tt.pause {
				t.Errorf("again %v in %v, want %v in %v", again, pause, tt.again, tt.pause)
			}
			if !strings.Contains(r.Error(), tt.says) {
				t.Errorf("%q does not say %q", r, tt.says)
			}
			if strings.ContainsFunc(r.Error(), unicode.IsControl) || len(r.Error()) > 600 {
				t.Errorf("the error is %q", r)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 10, 21, 7, 28, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, text string
		want       time.Duration
	}{
		{"none", "", 0},
		{"seconds", "120", 2 * time.Minute},
		{"a fraction", "0.5", 500 * time.Millisecond},
		{"a date", "Wed, 21 Oct 2026 07:29:30 GMT", 90 * time.Second},
		{"a date gone by", "Wed, 21 Oct 2015 07:28:00 GMT", 0},
		{"less than nothing", "-5", 0},
		{"no number", "NaN", 0},
		{"endless", "Inf", maxChatPause},
		{"words", "tomorrow", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := retryAfter(tt.text, now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTrapT47_NoErrorHasASecret(t *testing.T) {
	// The worst server repeats all that it was sent.
	echo := newChatServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"description":"%[1]s","message":"%[1]s","error":"%[1]s","also":"%[2]v"}`, r.URL.String(), r.Header)
	})
	plain := newChatServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "cannot POST %s with %v", r.URL.String(), r.Header)
	})
	moved := newChatServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example"+r.RequestURI, http.StatusFound)
	})
	closed := httptest.NewTLSServer(nil)
	closed.Close()
	garbled := rawServer(t, func(c net.Conn) {
		defer c.Close()
		line, _, _ := strings.Cut(readHead(c), "\r\n")
		fmt.Fprintf(c, "garbage %s\r\n\r\n", line)
	})
	for _, k := range chatKinds {
		t.Run(k.name, func(t *testing.T) {
			for _, s := range []*chatServer{echo, plain, moved} {
				if sent(t, s.trust(t, newChat(t, k.name, s.URL, nil)), oneBan()) == nil {
					t.Error("it was taken")
				}
			}
			for _, url := range []string{closed.URL, garbled} {
				ch := newChat(t, k.name, url, nil)
				if r := sent(t, ch, oneBan()); r == nil || !r.again {
					t.Errorf("%s: %v", url, r)
				}
			}
			// A certificate that nobody vouches for.
			ch := newChat(t, k.name, echo.URL, nil)
			n := len(echo.requests())
			if r := sent(t, ch, oneBan()); r == nil || !r.again || !strings.Contains(r.Error(), "certificate") {
				t.Errorf("an unknown certificate: %v", r)
			}
			if len(echo.requests()) != n {
				t.Error("it was told something without knowing who it is")
			}
		})
	}
}

func TestNoLetterHasASecret(t *testing.T) {
	for _, k := range chatKinds {
		for _, e := range []*Edition{oneBan(), storm(), {Test: true}} {
			body := letterOf(t, newChat(t, k.name, "https://chat.example", nil), e).Body
			if !json.Valid(body) {
				t.Errorf("%s: the letter is no JSON: %s", k.name, body)
			}
			for _, s := range chatSecrets {
				if bytes.Contains(body, []byte(s)) {
					t.Errorf("%s: the letter has the secret %s", k.name, s)
				}
			}
		}
	}
}

// rawServer is a server without TLS whose connections are handled by serve.
func rawServer(t *testing.T, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return "http://" + l.Addr().String()
}

// readHead reads a request up to its body.
func readHead(c net.Conn) string {
	var head []byte
	b := make([]byte, 4096)
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := c.Read(b)
		if err != nil {
			break
		}
		head = append(head, b[:n]...)
	}
	return string(head)
}

func TestNoRedirectIsFollowed(t *testing.T) {
	other := newChatServer(t, says(http.StatusOK, "ok"))
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"/", other.URL} { // a loop, and another host
			s := newChatServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) })
			for _, k := range chatKinds {
				n := len(s.requests())
				if sent(t, s.trust(t, newChat(t, k.name, s.URL, nil)), oneBan()) == nil {
					t.Errorf("%s: status %d to %s was taken for a success", k.name, status, to)
				}
				if got := len(s.requests()) - n; got != 1 {
					t.Errorf("%s: status %d to %s: %d requests", k.name, status, to, got)
				}
			}
		}
	}
	if n := len(other.requests()); n != 0 {
		t.Errorf("another host was told %d times", n)
	}
}

func TestAnEndlessAnswerIsReadAtMost64KiB(t *testing.T) {
	const most = 64 << 20 // that the server has the patience to send of 1 GB
	for _, k := range chatKinds {
		t.Run(k.name, func(t *testing.T) {
			written := make(chan int, 1)
			s := newChatServer(t, func(w http.ResponseWriter, r *http.Request) {
				piece, n := bytes.Repeat([]byte("x"), 32<<10), 0
				w.Header().Set("Content-Length", "1000000000")
				w.WriteHeader(http.StatusBadRequest)
				for n < most {
					m, err := w.Write(piece)
					n += m
					if err != nil {
						break
					}
				}
				written <- n
			})
			r := sent(t, s.trust(t, newChat(t, k.name, s.URL, nil)), oneBan())
			if r == nil || len(r.Error()) > 600 {
				t.Errorf("got %v", r)
			}
			// What is on the way when the client hangs up is in the kernel's buffers.
			if n := <-written; n >= most {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

func TestAServiceThatSendsAByteASecondIsLeftAfter30Seconds(t *testing.T) {
	for _, k := range chatKinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := newChat(t, k.name, "http://127.0.0.1", nil)
				tr := newChatClient(nil).Transport.(*http.Transport)
				var served sync.WaitGroup
				tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					served.Go(func() {
						defer theirs.Close()
						go io.Copy(io.Discard, theirs) // ends with the connection
						tick := time.NewTicker(time.Second)
						defer tick.Stop()
						for _, b := range []byte("HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1000)) {
							<-tick.C
							if _, err := theirs.Write([]byte{b}); err != nil {
								return
							}
						}
					})
					return ours, nil
				}
				client := *chatClient
				client.Transport = tr
				posterOf(t, ch).client = &client
				began := time.Now()
				err := ch.Send(t.Context(), letterOf(t, ch, oneBan()))
				if r, ok := errors.AsType[*refusal](err); !ok || !r.again {
					t.Errorf("got %v", err)
				}
				took := time.Since(began)
				served.Wait()
				if took != chatTimeout {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestSendingEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	release := make(chan struct{})
	s := newChatServer(t, func(w http.ResponseWriter, r *http.Request) { close(asked); <-release })
	defer close(release)
	ch := s.trust(t, newChat(t, Telegram, s.URL, nil))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if err := ch.Send(ctx, letterOf(t, ch, oneBan())); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A message whose taking was confirmed is not sent again because the confirmation broke off.
func TestASuccessWithoutAnEndIsASuccess(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		defer c.Close()
		readHead(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"ok\":tr") // the client may have gone
	})
	for _, k := range chatKinds {
		if r := sent(t, newChat(t, k.name, url, nil), oneBan()); r != nil {
			t.Errorf("%s: %v", k.name, r)
		}
	}
}

func TestAnExpiredCertificateIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chat.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(says(http.StatusOK, "ok"))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	defer s.Close()
	ch := (&chatServer{Server: s}).trust(t, newChat(t, Slack, s.URL, nil))
	if r := sent(t, ch, oneBan()); r == nil || !r.again || !strings.Contains(r.Error(), "expired") {
		t.Errorf("got %v", r)
	}
}

func TestALetterThatCannotBeReadIsFinal(t *testing.T) {
	for _, kind := range []string{Telegram, Ntfy, Webhook} {
		err := newChat(t, kind, "https://chat.example", nil).Send(t.Context(), outbox.Letter{Key: "k", Body: []byte("{")})
		if r, ok := errors.AsType[*refusal](err); !ok || r.again {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

func TestWhatAChannelNeedsIsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		change     func(*Config)
		says       string
	}{
		{"no token", Telegram, func(c *Config) { c.Token = secret.Value{} }, "@BotFather"},
		{"a token of something else", Telegram, func(c *Config) { c.Token = secret.New("hunter2-" + chatSecret) }, "token: is none"},
		{"a token that leaves its place in the path", Telegram, func(c *Config) { c.Token = secret.New(chatToken + "/../../x") }, "token: is none"},
		{"no chat", Telegram, func(c *Config) { c.Chat = "" }, "send the bot a message"},
		{"a chat that is none", Telegram, func(c *Config) { c.Chat = "my friends" }, `"my friends" is no chat`},
		{"a server in clear text", Telegram, func(c *Config) { c.URL = secret.New("http://api.example") }, "https://"},
		{"no url", Discord, func(c *Config) { c.URL = secret.Value{} }, "Copy Webhook URL"},
		{"another page of Discord's", Discord, func(c *Config) { c.URL = secret.New("https://discord.com/channels/1/" + chatSecret) }, "/api/webhooks/"},
		{"a url with a blank in its host", Discord, func(c *Config) { c.URL = secret.New("https://dis cord/" + chatSecret) }, "url: is none"},
		{"no scheme", Slack, func(c *Config) { c.URL = secret.New("hooks.slack.com/services/" + chatSecret) }, "url: is none"},
		{"clear text", Slack, func(c *Config) { c.URL = secret.New("http://hooks.example/services/" + chatSecret) }, "https://"},
		{"no path", Slack, func(c *Config) { c.URL = secret.New("https://hooks.slack.com") }, "incoming webhook"},
		{"no topic", Ntfy, func(c *Config) { c.Topic = "" }, "topic: is missing"},
		{"a topic with its server", Ntfy, func(c *Config) { c.Topic = "ntfy.sh/" + chatTopic }, "goes into url"},
		{"a token in clear text", Ntfy, func(c *Config) { c.URL = secret.New("http://ntfy.example") }, "https://"},
		{"a token of two lines", Ntfy, func(c *Config) { c.Token = secret.New(chatSecret + "\r\nX: y") }, "token: has characters"},
		{"no url for a webhook", Webhook, func(c *Config) { c.URL = secret.Value{} }, "url: is missing"},
		{"a file", Webhook, func(c *Config) { c.URL = secret.New("file:///" + chatSecret) }, "url: is none"},
		{"a method without a body", Webhook, func(c *Config) { c.Method = "GET" }, "POST, PUT or PATCH"},
		{"a header without a colon", Webhook, func(c *Config) { c.Headers = []secret.Value{secret.New(chatSecret)} }, "number 1"},
		{"a header of two lines", Webhook, func(c *Config) { c.Headers = []secret.Value{secret.New("A: " + chatSecret + "\nB: c")} }, "number 1"},
		{"a header of ours", Webhook, func(c *Config) { c.Headers = []secret.Value{secret.New("idempotency-key: 1")} }, "Idempotency-Key is set by Bantam"},
		{"a content type that is none", Webhook, func(c *Config) { c.Headers = []secret.Value{secret.New("Content-Type: ;")} }, "Content-Type"},
		{"text without a template", Webhook, func(c *Config) { c.Headers = []secret.Value{secret.New("Content-Type: text/plain")} }, "template: is missing"},
		{"a template that is no JSON", Webhook, func(c *Config) { c.Template = `{"ip": "<ip>"` }, "template: is no JSON"},
		{"a template of thousands of tags", Webhook, func(c *Config) {
			c.Template = strings.Repeat("<ip>", 2000)
			c.Headers = []secret.Value{secret.New("Content-Type: text/xml")}
		}, "may exceed 1048576 bytes"},
		{"a tag as a JSON key", Webhook, func(c *Config) { c.Template = `{<ip>: 1}` }, "template: is no JSON"},
		{"a tag behind a backslash", Webhook, func(c *Config) { c.Template = `{"ip": "\<ip>"}` }, "template: is no JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, k := range chatKinds {
				if k.name != tt.kind {
					continue
				}
				_, err := k.make("https://chat.example", tt.change)
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("got %v, want %q", err, tt.says)
				}
				for _, s := range append(chatSecrets, "hunter2") {
					if strings.Contains(err.Error(), s) {
						t.Errorf("the error has the secret %s: %v", s, err)
					}
				}
			}
		})
	}
}

// texts are the messages of all services with markup or without.
var texts = []struct {
	name  string
	m     *markup
	limit int
}{{Telegram, &telegramMarkup, 4096}, {Discord, &discordMarkup, 2000}, {Slack, &slackMarkup, 4000}, {Ntfy, &ntfyMarkup, 4096}}

func TestAMessageIsGoodToRead(t *testing.T) {
	zone := chatTime.Add(10 * time.Minute).Local().Format("2006-01-02 15:04 MST")
	since := chatTime.Add(-10 * time.Minute).Local().Format("15:04 MST")
	unban := oneBan()
	unban.Events[0].Decision.Kind, unban.Events[0].Decision.Cause = bantam.End, bantam.CauseOperator
	unban.Events[0].Place, unban.Events[0].Host, unban.Events[0].Decision.Ban.Lines = geo.Place{}, "", nil
	ordered := oneBan()
	ordered.Events[0].Decision.Ban = bantam.Ban{Jail: "manual", ID: bantam.TextID("x; rm -rf /"), By: bantam.ByOperator, Reason: "because"}
	ordered.Events[0].Place, ordered.Events[0].Host = geo.Place{Country: "FR"}, ""
	ordered.Events[0].Whois = &whois.Answer{Network: netip.MustParsePrefix("192.0.2.0/24"), Name: "EX-NET", Abuse: []string{"abuse@example.net"}}
	observed := oneBan()
	observed.Events[0].Decision.Ban.Observed, observed.Events[0].Decision.Ban.Lines = true, nil
	held := oneBan()
	held.Events[0].Decision.Ban.Observed, held.Events[0].Decision.Ban.Lines = true, nil
	held.Events[0].Decision.Ban.Reason = "an administrator's session: user root since 2025-03-02 12:04"
	for _, tt := range []struct {
		name string
		e    *Edition
		want string
	}{
		{"a ban", oneBan(), `Banned 192.0.2.7 in sshd on gate.example.org
from Germany AS64500 Example & Sons
named host7.example.net
5 failures, ban 2, until ` + zone + ` (10m)
> sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2
> sshd[813]: Failed password for root from 192.0.2.7 port 4023 ssh2
> sshd[814]: Invalid user <b>x</b> & co from 192.0.2.7
bantam why 192.0.2.7
bantam unban 192.0.2.7`},
		{"an unban", unban, `Unbanned 192.0.2.7 in sshd on gate.example.org
an operator lifted it
bantam why 192.0.2.7`},
		{"an order about what no shell should see", ordered, `Banned x; rm -rf / in manual on gate.example.org
from FR
network 192.0.2.0/24 EX-NET abuse abuse@example.net
by an operator, for ever
reason because`},
		{"a ban that is only observed", observed, `Would be banned 192.0.2.7 in sshd on gate.example.org
from Germany AS64500 Example & Sons
named host7.example.net
5 failures, ban 2, until ` + zone + ` (10m)
bantam why 192.0.2.7`},
		{"a ban that is held back", held, `Held back, not banned: 192.0.2.7 in sshd on gate.example.org
from Germany AS64500 Example & Sons
named host7.example.net
5 failures, ban 2, until ` + zone + ` (10m)
has an administrator's session: user root since 2025-03-02 12:04
bantam why 192.0.2.7`},
		{"a digest with one", &Edition{Events: append(unban.Events, held.Events...)}, `1 unban, 1 ban held back
192.0.2.7 in sshd, unbanned
192.0.2.7 in sshd from DE, held back
bantam banned`},
		{"a jail with figures of both", &Edition{Bans: map[string]int{"sshd": 5}, Observed: map[string]int{"sshd": 1}, Held: map[string]int{"sshd": 2}}, `2 bans, 1 ban only observed, 2 bans held back
sshd 2 bans, 1 ban only observed, 2 bans held back`},
		{"a test", &Edition{Test: true, Host: "gate"}, "This is a test on gate\nWhoever reads this is told what Bantam does."},
		{"jails that started", &Edition{Host: "gate", Started: []string{"nginx", "sshd"}}, "2 jails started on gate\nstarted nginx\nstarted sshd"},
		{"a storm", storm(), `9,990 bans, 10 unbans on gate.example.org since ` + since + `
sshd 9,000 bans, 10 unbans
postfix 990 bans
192.0.2.0 in sshd from NL
192.0.2.1 in sshd from NL
192.0.2.2 in sshd from NL
192.0.2.3 in sshd from NL, unbanned
192.0.2.4 in sshd from NL
192.0.2.5 in sshd from NL
192.0.2.6 in sshd from NL
192.0.2.7 in sshd from NL
192.0.2.8 in sshd from NL
192.0.2.9 in sshd from NL
and 9990 more
bantam banned`},
		{"a digest without figures", &Edition{Events: append(unban.Events, observed.Events...), More: 1}, `1 ban, 1 unban, 1 ban only observed
192.0.2.7 in sshd, unbanned
192.0.2.7 in sshd from DE, only observed
and 1 more
bantam banned`},
		{"a jail that only observes bans nobody", &Edition{Bans: map[string]int{"sshd": 3, "web": 2}, Observed: map[string]int{"web": 2}}, `3 bans, 2 bans only observed
sshd 3 bans
web 2 bans only observed`},
		{"nothing at all", &Edition{}, "Nothing new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ntfyMarkup.full(tt.e, true)); diff != "" {
				t.Error(diff)
			}
		})
	}
	wants := map[string]string{
		Telegram: "<b>Banned</b> <code>192.0.2.7</code> in <code>sshd</code> on <code>gate.example.org</code>\nfrom <code>Germany</code> AS64500 <code>Example &amp; Sons</code>\n" +
			"named <code>host7.example.net</code>\n5 failures, ban 2, until " + zone + " (10m)\n<pre>sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n" +
			"sshd[813]: Failed password for root from 192.0.2.7 port 4023 ssh2\nsshd[814]: Invalid user &lt;b&gt;x&lt;/b&gt; &amp; co from 192.0.2.7</pre>\n" +
			"<code>bantam why 192.0.2.7</code>\n<code>bantam unban 192.0.2.7</code>",
		Discord: "**Banned** `192.0.2.7` in `sshd` on `gate.example.org`\nfrom `Germany` AS64500 `Example & Sons`\nnamed `host7.example.net`\n" +
			"5 failures, ban 2, until " + zone + " (10m)\n```\nsshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n" +
			"sshd[813]: Failed password for root from 192.0.2.7 port 4023 ssh2\nsshd[814]: Invalid user <b>x</b> & co from 192.0.2.7\n```\n`bantam why 192.0.2.7`\n`bantam unban 192.0.2.7`",
	}
	for _, m := range texts {
		if want, ok := wants[m.name]; ok {
			if diff := cmp.Diff(want, m.m.full(oneBan(), true)); diff != "" {
				t.Errorf("%s: %s", m.name, diff)
			}
		}
	}
}

func TestADigestOfManyJailsIsWithinTheLimit(t *testing.T) {
	for _, n := range []int{1, 9, 10, 11, 30} {
		for _, wide := range []int{1, 20, 45, 60, 300} {
			e := storm()
			for i := range n {
				jail := fmt.Sprintf("%0*d", wide, i)
				e.Bans[jail] = 3
				e.Started = append(e.Started, jail)
				e.Stopped = append(e.Stopped, jail)
				for j := range e.Events {
					e.Events[j].Decision.Ban.Jail = jail
				}
			}
			for _, m := range texts {
				got := m.m.full(e, true)
				if len(got) > m.limit {
					t.Errorf("%s: %d jails of %d signs make %d bytes", m.name, n, wide, len(got))
				}
				if last := got[strings.LastIndexByte(got, '\n')+1:]; !strings.Contains(last, "bantam banned") || !strings.Contains(got, " more\n") {
					t.Errorf("%s: it ends with %q", m.name, last)
				}
			}
		}
	}
}

func TestCodeIsNeverEmptyAndHasNoBlanksAround(t *testing.T) {
	for text, want := range map[string]string{"": "`?`", " \t\n": "`?`", "  x ": "`x`", "\tx\n": "`x`"} {
		if got := slackMarkup.coded(text, maxChatName); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestAMessageWithoutBansMakesNoSound(t *testing.T) {
	unban := oneBan()
	unban.Events[0].Decision.Kind, unban.Bans, unban.Unbans = bantam.End, nil, map[string]int{"sshd": 1}
	for kind, want := range map[string]string{Telegram: `"disable_notification":true`, Discord: `"flags":4100`, Ntfy: `"priority":2`} {
		ch := newChat(t, kind, "https://chat.example", nil)
		if body := letterOf(t, ch, unban).Body; !bytes.Contains(body, []byte(want)) {
			t.Errorf("%s: an unban is %s", kind, body)
		}
		if body := letterOf(t, ch, oneBan()).Body; bytes.Contains(body, []byte(want)) {
			t.Errorf("%s: a ban is %s", kind, body)
		}
	}
}

// hostile are texts that would do something, in one service or another.
var hostile = []string{
	"@everyone", "@here", "<@1>", "<@&2>", "<#3>", "<!channel>", "<!here|x>", "<!subteam^S1>", "</code><a href=\"https://evil.example\">x</a>", "&lt;b&gt;",
	"```", "`", "``` @everyone ```", "`@everyone`", "[x](https://evil.example)", "**x**", "__x__", "*x*", "> x", "# x", "||x||", ":joy:", "https://evil.example/x",
	"www.evil.example", "/start", "#tag", "tg://user?id=1", "a\nBanned 192.0.2.99 in sshd", "a\r\nb", "x\u2028y", "\x1b[2J\x1b]0;t\x07", "\x1b]52;c;eA==\x07", "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07",
	"\x9b31m", "\u202egnp.exe", "\u2066x\u2069", "\u200b", "\ufeff", "\xff\xfe", "a\x00b", " ", "\\", "\\`", "x\\", "…", "😀", strings.Repeat("&", 5000), strings.Repeat("`", 5000), strings.Repeat("\u202e", 5000),
	strings.Repeat("😀", 3000), "{\"a\":1}", "\"", "'", "<t:1:R>", "<ip>",
}

// bare replaces what stands in code by nothing, so that only our own words are left.
var bareCode = map[string]*regexp.Regexp{
	Telegram: regexp.MustCompile(`<code>(?:[^<>&]|&amp;|&lt;|&gt;)+</code>|<pre>(?:[^<>&]|&amp;|&lt;|&gt;)*</pre>`),
	Discord:  regexp.MustCompile("```\n[^`]*\n```|`[^`\n]+`"),
	Slack:    regexp.MustCompile("```\n(?:[^`<>&]|&amp;|&lt;|&gt;)*\n```|`(?:[^`<>&\n]|&amp;|&lt;|&gt;)+`"),
}

// attacked is an edition in which all that comes from elsewhere is text.
func attacked(text string, digest bool) *Edition {
	e := oneBan()
	ev := &e.Events[0]
	ev.Decision.Ban.Jail, ev.Decision.Ban.Reason, ev.Decision.Ban.User = text, text, text
	ev.Decision.Ban.ID = bantam.TextID(text + " ") // never one to be typed
	ev.Decision.Ban.Lines = []string{text, text, text}
	ev.Place = geo.Place{Country: text, CountryName: text, City: text, ASN: 1, ASOrg: text}
	ev.Host, e.Host = text, text
	ev.Whois = &whois.Answer{Name: text, Abuse: []string{text}, Text: text, Org: text}
	ev.Values = func(string) (string, bool) { return text, true }
	e.Bans = map[string]int{text: 3}
	if digest {
		e.More, e.Started, e.Stopped, e.Unbans = 2, []string{text}, []string{text}, map[string]int{text: 1}
	}
	return e
}

// checkPlace fails if text could leave its place in a message.
func checkPlace(t *testing.T, text string) {
	t.Helper()
	if text == "" {
		return // what is not known is not there
	}
	for _, m := range texts {
		for _, digest := range []bool{false, true} {
			got := m.m.full(attacked(text, digest), true)
			mild := m.m.full(attacked("mild", digest), true)
			switch {
			case len(got) > m.limit:
				t.Fatalf("%s: %d bytes", m.name, len(got))
			case !utf8.ValidString(got):
				t.Fatalf("%s: %q is cut inside a character", m.name, got)
			case strings.Count(got, "\n") != strings.Count(mild, "\n"):
				t.Fatalf("%s: %q has lines of its own", m.name, got)
			case strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }):
				t.Fatalf("%s: %q has what is not printed", m.name, got)
			}
			if re := bareCode[m.name]; re != nil {
				if g, w := re.ReplaceAllString(got, "_"), re.ReplaceAllString(mild, "_"); g != w {
					t.Fatalf("%s: %q leaves its place:\n%s\nwant\n%s", m.name, text, g, w)
				}
			} else if strings.Contains(got, "://") {
				t.Fatalf("%s: %q has a link", m.name, got)
			}
		}
	}
}

func TestTrapT37_NoTextOfALogMentionsLinksOrMarks(t *testing.T) {
	for _, text := range hostile {
		checkPlace(t, text)
	}
	body := letterOf(t, newChat(t, Discord, "https://chat.example", nil), attacked("@everyone", false)).Body
	if !bytes.Contains(body, []byte(`"allowed_mentions":{"parse":[]}`)) {
		t.Errorf("Discord may mention people: %s", body)
	}
}

func TestTrapT38_ControlCharactersAreMadeVisible(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"\x1b[31mroot\x1b]8;;https://x\x07", `\x1b[31mroot\x1b]8;;https[:]//x\a`},
		{"a\nb\r\x00\x9b", `a\nb\r\x00\x9b`},
		{"\u202egnp.exe\u2066\u200b\ufeff", `\u202egnp.exe\u2066\u200b\ufeff`},
		{"a\tb\u00a0\u2028", `a b\u00a0\u2028`},
		{"grüße 😀", "grüße 😀"},
	} {
		if got := ntfyMarkup.shown(tt.text, 200); got != tt.want {
			t.Errorf("%q is shown as %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestTextIsCutBetweenCharactersAndEscapes(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		most       int
		want       string
	}{
		{"it just fits", "abcdef", 6, "abcdef"},
		{"one too many", "abcdefg", 6, "abc…"},
		{"inside of an entity", "a&&&", 12, "a&amp;…"},
		{"inside of a visible control character", "ab\u202e\u202e", 12, `ab\u202e…`},
		{"inside of a character", "😀😀😀", 8, "😀…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := telegramMarkup.shown(tt.text, tt.most); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzMessagesKeepTextInItsPlace(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkPlace(t, text)
	})
}

// What services answer is read by nobody but us.
func FuzzAnswers(f *testing.F) {
	f.Add(429, []byte(`{"ok":false,"description":"x","parameters":{"retry_after":14,"migrate_to_chat_id":-1}}`))
	f.Add(404, []byte(`{"message":"Unknown Webhook","code":10015,"retry_after":1e300}`))
	f.Add(403, []byte("no_service"))
	f.Add(200, []byte(`{"code":40301,"error":"`+chatToken+`"}`))
	p := &poster{host: "chat.example", secrets: chatSecrets}
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		for _, explain := range []func(int, []byte) remark{nil, explainTelegram, explainDiscord, explainSlack, explainNtfy} {
			p.explain = explain
			err := p.refused(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {string(answer)}}}, answer).(*refusal)
			if _, pause := err.Again(); pause < 0 || pause > maxChatPause {
				t.Fatalf("a pause of %v", pause)
			}
			if len(err.Error()) > 1200 || strings.ContainsFunc(err.Error(), unicode.IsControl) || strings.Contains(err.Error(), chatToken) {
				t.Fatalf("the error is %q", err)
			}
		}
	})
}

func BenchmarkCompose(b *testing.B) {
	for _, m := range texts {
		for name, e := range map[string]*Edition{"ban": oneBan(), "storm": storm()} {
			b.Run(m.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.m.full(e, true)
				}
			})
		}
	}
}
