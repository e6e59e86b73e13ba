package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
)

// A google is what of Google a test needs: it gives tokens and takes mails, unless a test
// says otherwise.
type google struct {
	*httptest.Server
	token, send http.HandlerFunc // nil for what Google does on good days

	mu        sync.Mutex
	refreshes []url.Values
	sent      [][]byte // decoded
	good      string   // the access token that counts
}

// Secrets of the tests.
const (
	oldAccess, newAccess = "ya29.old-access", "ya29.new-access"
	refreshToken         = "1//refresh-token"
	clientSecret         = "GOCSPX-client-secret"
)

func newGoogle(t *testing.T) *google {
	g := &google{good: newAccess}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		g.mu.Lock()
		g.refreshes = append(g.refreshes, r.PostForm)
		handler := g.token
		g.mu.Unlock()
		if handler != nil {
			handler(w, r)
			return
		}
		answerJSON(w, 200, `{"access_token":"`+newAccess+`","expires_in":3599,"scope":"`+smtp.Scope+`","token_type":"Bearer"}`)
	})
	mux.HandleFunc("POST /gmail/v1/users/me/messages/send", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Raw string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		data, err := base64.URLEncoding.DecodeString(body.Raw)
		if err != nil {
			t.Error(err)
		}
		g.mu.Lock()
		handler, good := g.send, g.good
		g.mu.Unlock()
		switch {
		case handler != nil:
			handler(w, r)
		case r.Header.Get("Authorization") != "Bearer "+good:
			answerJSON(w, 401, `{"error":{"code":401,"message":"Request had invalid authentication credentials.","errors":[{"message":"Invalid Credentials","domain":"global","reason":"authError"}],"status":"UNAUTHENTICATED"}}`)
		default:
			g.mu.Lock()
			g.sent = append(g.sent, data)
			g.mu.Unlock()
			answerJSON(w, 200, `{"id":"18c","threadId":"18c","labelIds":["SENT"]}`)
		}
	})
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	g.Server = httptest.NewUnstartedServer(mux)
	g.Config.ErrorLog = log.New(io.Discard, "", 0) // clients go away
	g.StartTLS()
	t.Cleanup(g.Close)
	return g
}

func answerJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (g *google) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(g.Certificate())
	return pool
}

// clientFile is what Google's console offers for download.
func (g *google) clientFile(t *testing.T) string {
	t.Helper()
	return writeFile(t, "client.json", `{"installed":{"client_id":"1.apps.googleusercontent.com","project_id":"p",`+
		`"auth_uri":"`+g.URL+`/auth","token_uri":"`+g.URL+`/token","client_secret":"`+clientSecret+`","redirect_uris":["http://localhost"]}}`, 0o600)
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// config has a token whose access token ended long ago.
func (g *google) config(t *testing.T) smtp.Config {
	t.Helper()
	return smtp.Config{
		Kind: smtp.GmailAPI, URL: g.URL, CAs: g.roots(), Client: g.clientFile(t),
		Token: writeFile(t, "token.json", `{"access_token":"`+oldAccess+`","refresh_token":"`+refreshToken+`","expiry":"2020-01-01T00:00:00Z","extra":[1]}`, 0o600),
	}
}

// clean checks that an error gives no secret away.
func clean(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{oldAccess, newAccess, refreshToken, clientSecret, url.QueryEscape(refreshToken)} {
		if strings.Contains(fmt.Sprint(err), s) {
			t.Errorf("a secret is in %q", err)
		}
	}
}

func TestGmailsAPITakesTheMail(t *testing.T) {
	g := newGoogle(t)
	config := g.config(t)
	if err := config.Check(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	transport := open(t, config)
	for range 2 {
		if err := transport.Send(limited(t), packetOf(t, letter())); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.refreshes) != 1 {
		t.Errorf("%d refreshes for two mails", len(g.refreshes))
	}
	for key, want := range map[string]string{
		"grant_type": "refresh_token", "refresh_token": refreshToken,
		"client_id": "1.apps.googleusercontent.com", "client_secret": clientSecret,
	} {
		if got := g.refreshes[0].Get(key); got != want {
			t.Errorf("%s = %q", key, got)
		}
	}
	r, err := smtptest.Read(g.sent[0])
	if err != nil || r.Text != letter().Text || r.Subject != letter().Subject {
		t.Errorf("it reads %+v, %v", r, err)
	}
	// Google takes the recipients out of the headers and does not pass Bcc on.
	if got := r.Header.Get("Bcc"); got != "secret@example.org" {
		t.Errorf("Bcc: %q", got)
	}

	info, err := os.Stat(config.Token)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	var kept map[string]any
	data, err := os.ReadFile(config.Token)
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil || kept["access_token"] != newAccess || kept["refresh_token"] != refreshToken || kept["extra"] == nil {
		t.Errorf("kept is %v, %v", kept, err)
	}
	if files, _ := os.ReadDir(filepath.Dir(config.Token)); len(files) != 1 {
		t.Errorf("left beside it: %v", files)
	}
	// The next start needs no refresh.
	if err := sendBy(t, config); err != nil || len(g.refreshes) != 1 {
		t.Errorf("%v, %d refreshes", err, len(g.refreshes))
	}
}

func TestATokenOfGooglesPythonLibraryIsGood(t *testing.T) {
	g := newGoogle(t)
	config := g.config(t)
	config.Token = writeFile(t, "token.json", `{"token":"`+oldAccess+`","refresh_token":"`+refreshToken+`","token_uri":"https://oauth2.googleapis.com/token",`+
		`"client_id":"x","client_secret":"y","scopes":["`+smtp.Scope+`"],"universe_domain":"googleapis.com","account":"","expiry":"2025-01-01T00:00:00.123456Z"}`, 0o600)
	if err := sendBy(t, config); err != nil {
		t.Fatal(err)
	}
}

func TestATokenThatIsTakenBackIsRefreshedOnce(t *testing.T) {
	g := newGoogle(t)
	config := g.config(t)
	config.Token = writeFile(t, "token.json", fmt.Sprintf(`{"access_token":%q,"refresh_token":%q,"expiry":%q}`,
		oldAccess, refreshToken, time.Now().Add(time.Hour).Format(time.RFC3339)), 0o600)
	if err := sendBy(t, config); err != nil || len(g.refreshes) != 1 {
		t.Errorf("%v after %d refreshes", err, len(g.refreshes))
	}
	g.good = "ya29.nothing"
	err := sendBy(t, config)
	says(t, err, "401", "authError", "bantam notify login gmail")
	clean(t, err)
	if again, _ := verdict(err); !again || len(g.refreshes) != 2 {
		t.Errorf("again %v after %d refreshes", again, len(g.refreshes))
	}
}

func TestATokenThatCannotBeKeptIsUsed(t *testing.T) {
	g := newGoogle(t)
	config := g.config(t)
	// /proc/self/fd/N can be read as a file, and nothing can be made beside it.
	file, err := os.Open(config.Token)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	config.Token = fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	var told bytes.Buffer
	transport, err := config.Open(slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := transport.Send(limited(t), packetOf(t, letter())); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.refreshes) != 1 || len(g.sent) != 2 {
		t.Errorf("%d refreshes, %d mails", len(g.refreshes), len(g.sent))
	}
	clean(t, errors.New(told.String()))
	if strings.Count(told.String(), "level=WARN") != 1 {
		t.Errorf("the operator is told %s", &told)
	}
}

func TestFilesThatAreNotFitAreNamed(t *testing.T) {
	g := newGoogle(t)
	for _, c := range []struct {
		name   string
		change func(c *smtp.Config)
		want   string
	}{
		{"a token that others may read", func(c *smtp.Config) { c.Token = writeFile(t, "t", `{"refresh_token":"1//refresh-token"}`, 0o640) }, "chmod 600"},
		{"no token", func(c *smtp.Config) { c.Token = "/nonexistent/token" }, "bantam notify login gmail"},
		{"a token without a lasting one", func(c *smtp.Config) { c.Token = writeFile(t, "t", `{"access_token":"ya29.old-access"}`, 0o600) }, "no refresh_token"},
		{"a token that is no JSON", func(c *smtp.Config) { c.Token = writeFile(t, "t", "1//refresh-token", 0o600) }, "no refresh_token"},
		{"a token of 1 MB", func(c *smtp.Config) { c.Token = writeFile(t, "t", strings.Repeat(" ", 1<<20), 0o600) }, "larger than"},
		{"no client", func(c *smtp.Config) { c.Client = "/nonexistent/client" }, "no such file"},
		{"a client for web servers", func(c *smtp.Config) { c.Client = writeFile(t, "c", `{"web":{"client_id":"x"}}`, 0o600) }, "Desktop app"},
		{"a client that is no JSON", func(c *smtp.Config) { c.Client = writeFile(t, "c", clientSecret, 0o600) }, "no JSON"},
		{"a client with nothing", func(c *smtp.Config) { c.Client = writeFile(t, "c", `{}`, 0o600) }, `"installed"`},
		{"a client that talks in the clear", func(c *smtp.Config) {
			c.Client = writeFile(t, "c", `{"installed":{"client_id":"x","auth_uri":"https://a","token_uri":"http://b"}}`, 0o600)
		}, "https://"},
	} {
		config := g.config(t)
		c.change(&config)
		says(t, config.Check(), c.want)
		err := sendBy(t, config)
		says(t, err, c.want)
		clean(t, err)
		if again, _ := verdict(err); !again {
			t.Errorf("%s: what the operator can mend loses the mail", c.name)
		}
	}
	if len(g.sent)+len(g.refreshes) != 0 {
		t.Error("Google was asked")
	}
}

// long is 1 MB that repeats the secrets it was sent.
func long(secrets string) string {
	return strings.Repeat("<p>\x1b[31m "+secrets+"</p>\r\n", 1<<20/32)
}

func TestWhatGoogleAnswersDecides(t *testing.T) {
	limit := `{"error":{"code":403,"message":"User-rate limit exceeded.  Retry after 2026-01-01T00:00:00.000Z","errors":[{"domain":"usageLimits","reason":"userRateLimitExceeded"}]}}`
	for _, c := range []struct {
		name, call string
		status     int
		retry      string
		body       string
		again      bool
		after      time.Duration
		want       string
	}{
		{"revoked", "token", 400, "", `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`, true, 0, "bantam notify login gmail"},
		{"an unknown client", "token", 401, "", `{"error":"invalid_client","error_description":"The OAuth client was not found."}`, true, 0, "download"},
		{"no token for now", "token", 503, "30", "<html>", true, 30 * time.Second, "503"},
		{"a token answer of 1 MB", "token", 500, "", long(refreshToken + clientSecret), true, 0, "500"},
		{"a token answer that is none", "token", 200, "", "hello", true, 0, "refresh Gmail's token"},
		{"a token answer without one", "token", 200, "", "{}", true, 0, "refresh Gmail's token"},
		{"a token elsewhere", "token", 307, "", "", true, 0, "refused with 307"},
		{"too many", "send", 429, "120", `{"error":{"message":"Too many"}}`, true, 2 * time.Minute, "Too many"},
		{"too many for a year", "send", 429, "31536000", "", true, 24 * time.Hour, "429"},
		{"a limit as 403", "send", 403, "", limit, true, 0, "userRateLimitExceeded"},
		{"no right", "send", 403, "", `{"error":{"message":"Insufficient Permission","errors":[{"reason":"insufficientPermissions"}]}}`, true, 0, "gmail.send"},
		{"broken", "send", 500, "", "", true, 0, "500"},
		{"an answer of 1 MB", "send", 502, "", long(newAccess + "&" + newAccess), true, 0, "502"},
		{"a mail that it will never take", "send", 400, "", `{"error":{"message":"Invalid To header","errors":[{"reason":"invalidArgument"}]}}`, false, 0, "Invalid To header"},
		{"an account without mail", "send", 400, "", `{"error":{"message":"Mail service not enabled","errors":[{"reason":"failedPrecondition"}]}}`, true, 0, "not enabled"},
		{"too large", "send", 413, "", "", false, 0, "413"},
		{"elsewhere", "send", 302, "", "", true, 0, "302"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGoogle(t)
			handler := func(w http.ResponseWriter, _ *http.Request) {
				if c.retry != "" {
					w.Header().Set("Retry-After", c.retry)
				}
				if c.status/100 == 3 {
					w.Header().Set("Location", g.URL+"/elsewhere") // where the test would fail
				}
				answerJSON(w, c.status, c.body)
			}
			if c.call == "token" {
				g.token = handler
			} else {
				g.send = handler
			}
			err := sendBy(t, g.config(t))
			says(t, err, c.want)
			clean(t, err)
			if again, after := verdict(err); again != c.again || after != c.after {
				t.Errorf("again %v after %s for %v", again, after, err)
			}
			if len(g.sent) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

func TestTheCallersPatienceEndsASilentGoogle(t *testing.T) {
	for _, call := range []string{"token", "send"} {
		g := newGoogle(t)
		ctx, cancel := context.WithCancel(limited(t))
		silent := func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}
		if call == "token" {
			g.token = silent
		} else {
			g.send = silent
		}
		transport := open(t, g.config(t))
		if err := transport.Send(ctx, packetOf(t, letter())); err == nil || ctx.Err() == nil {
			t.Errorf("silent at %s: %v", call, err)
		} else {
			clean(t, err)
		}
	}
}

func TestAGoogleThatSendsAByteASecondIsLeftAfterAMinute(t *testing.T) {
	token := writeFile(t, "t", `{"access_token":"a","refresh_token":"r","expiry":"2100-01-01T00:00:00Z"}`, 0o600)
	client := writeFile(t, "c", `{"installed":{"client_id":"x","auth_uri":"https://a","token_uri":"https://b"}}`, 0o600)
	p := packetOf(t, letter())
	synctest.Test(t, func(t *testing.T) {
		transport := open(t, smtp.Config{Kind: smtp.GmailAPI, Client: client, Token: token})
		dial, ended := piped(func(conn net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				_, err = io.Copy(io.Discard, req.Body)
			}
			if err != nil {
				t.Error(err)
			}
			for text := "HTTP/1.1 500 x\r\nContent-Length: 1000\r\n\r\n"; err == nil; text = "x" {
				_, err = io.WriteString(conn, text)
				time.Sleep(time.Second) // in the bubble, where it takes no time
			}
		})
		smtp.SetDialHTTP(transport, dial)
		begin := time.Now()
		err := transport.Send(t.Context(), p)
		took := time.Since(begin)
		<-ended
		if took != smtp.Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

func TestManyMailsAtOnceRefreshOnce(t *testing.T) {
	g := newGoogle(t)
	transport := open(t, g.config(t))
	p := packetOf(t, letter())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := transport.Send(limited(t), p); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(g.refreshes) != 1 || len(g.sent) != 8 {
		t.Errorf("%d refreshes, %d mails", len(g.refreshes), len(g.sent))
	}
}

func TestAPlaceThatCannotKeepTheTokenIsFoundFirst(t *testing.T) {
	g := newGoogle(t)
	file := writeFile(t, "file", "", 0o600)
	l := smtp.Login{Client: g.clientFile(t), Token: file + "/token.json", Out: io.Discard}
	says(t, l.Run(limited(t)), "keep Gmail's token", file)
}

// login runs a Login as a person sees it, and hands out the address that it prints, taken apart.
func (g *google) login(t *testing.T, in io.Reader) (address url.Values, token string, done chan error, screen *display) {
	t.Helper()
	token = filepath.Join(t.TempDir(), "new", "token.json")
	screen = &display{more: make(chan struct{}, 1)}
	l := smtp.Login{Client: g.clientFile(t), Token: token, Out: screen, In: in, CAs: g.roots()}
	done = make(chan error, 1)
	ctx := limited(t)
	go func() { done <- l.Run(ctx) }()
	text := screen.wait(t, "paste it here")
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, g.URL+"/auth?") {
			u, err := url.Parse(word)
			if err != nil {
				t.Fatal(err)
			}
			return u.Query(), token, done, screen
		}
	}
	t.Fatalf("no address in %q", text)
	return nil, "", nil, nil
}

// A display is what the person sees.
type display struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.more <- struct{}{}:
	default:
	}
	return d.text.Write(p)
}

// wait returns all that is shown as soon as it has the words.
func (d *display) wait(t *testing.T, words string) string {
	t.Helper()
	ctx := limited(t)
	for {
		d.mu.Lock()
		text := d.text.String()
		d.mu.Unlock()
		if strings.Contains(text, words) {
			return text
		}
		select {
		case <-d.more:
		case <-ctx.Done():
			t.Fatalf("%q is not shown, but %q", words, text)
		}
	}
}

// give is Google's answer to a code.
func (g *google) give(scope, refresh string) {
	g.token = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, fmt.Sprintf(`{"access_token":%q,"expires_in":3599,"refresh_token":%q,"scope":%q,"token_type":"Bearer"}`, newAccess, refresh, scope))
	}
}

// browse opens an address as the browser does that comes back.
func browse(t *testing.T, address string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(limited(t), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// ended is how a login ended.
func ended(t *testing.T, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-limited(t).Done():
		t.Fatal("the login does not end")
		return nil
	}
}

const code = "4/0AX4XfWh-code_of_google"

func TestALoginInTheBrowserGivesATokenThatSends(t *testing.T) {
	g := newGoogle(t)
	g.give("openid "+smtp.Scope, refreshToken)
	address, token, done, _ := g.login(t, nil)
	for key, want := range map[string]string{
		"scope": smtp.Scope, "response_type": "code", "access_type": "offline", "prompt": "consent", "code_challenge_method": "S256",
	} {
		if address.Get(key) != want {
			t.Errorf("%s = %q", key, address.Get(key))
		}
	}
	back := address.Get("redirect_uri")
	if !strings.HasPrefix(back, "http://127.0.0.1:") {
		t.Fatalf("the browser comes back to %s", back)
	}
	if status, _ := browse(t, back+"?state=guessed&code="+code); status != 400 {
		t.Errorf("an answer with a wrong state is answered %d", status)
	}
	if status, _ := browse(t, back+"favicon.ico"); status != 404 {
		t.Errorf("another page: %d", status)
	}
	status, page := browse(t, back+"?state="+url.QueryEscape(address.Get("state"))+"&code="+url.QueryEscape(code))
	if status != 200 || !strings.Contains(page, "Thank you") || strings.Contains(page, code) {
		t.Errorf("the page: %d %s", status, page)
	}
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	asked := g.refreshes[0]
	// RFC 7636 4.2: only who has the verifier can use the code.
	sum := sha256.Sum256([]byte(asked.Get("code_verifier")))
	if got := base64.RawURLEncoding.EncodeToString(sum[:]); got != address.Get("code_challenge") {
		t.Errorf("the challenge was %s, the verifier makes %s", address.Get("code_challenge"), got)
	}
	if asked.Get("code") != code || asked.Get("redirect_uri") != back || len(asked.Get("code_verifier")) < 43 {
		t.Errorf("the exchange asked %v", asked)
	}
	if info, err := os.Stat(token); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info, err)
	}
	config := g.config(t)
	config.Token = token
	if err := sendBy(t, config); err != nil || len(g.refreshes) != 1 {
		t.Errorf("%v after %d calls", err, len(g.refreshes))
	}
}

func TestALoginOnAServerIsPasted(t *testing.T) {
	for _, form := range []string{"%s?state=%s&code=%s&scope=x\n", "code"} {
		g := newGoogle(t)
		g.give(smtp.Scope, refreshToken)
		in, paste := io.Pipe()
		defer paste.Close()
		address, token, done, screen := g.login(t, in)
		text := code + "\n"
		if form != "code" {
			text = fmt.Sprintf(form, address.Get("redirect_uri"), url.QueryEscape(address.Get("state")), url.QueryEscape(code))
		}
		for _, wrong := range []string{"\n", "what?\n", "http://127.0.0.1:1/?state=other&code=" + code + "\n", "short\n"} {
			if _, err := io.WriteString(paste, wrong); err != nil {
				t.Fatal(err)
			}
		}
		screen.wait(t, "not the answer")
		if _, err := io.WriteString(paste, text); err != nil {
			t.Fatal(err)
		}
		if err := ended(t, done); err != nil {
			t.Errorf("pasted %q: %v", text, err)
		}
		if g.refreshes[0].Get("code") != code {
			t.Errorf("the exchange asked %v", g.refreshes)
		}
		if _, err := os.Stat(token); err != nil {
			t.Error(err)
		}
	}
}

func TestALoginThatComesToNothingSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name, answer, scope, refresh, want string
		token                              http.HandlerFunc
	}{
		{"refused in the browser", "error=access_denied", "", "", "refused in the browser", nil},
		{"another error", "error=admin_policy_enforced%1b", "", "", `admin_policy_enforced\x1b`, nil},
		{"the box for sending is not ticked", "code=" + code, "openid", refreshToken, "tick it", nil},
		{"no lasting token", "code=" + code, smtp.Scope, "", "https://myaccount.google.com/connections", nil},
		{"a code that is refused", "code=" + code, "", "", "invalid_grant", func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, 400, `{"error":"invalid_grant","error_description":"Malformed auth code."}`)
		}},
		{"1 MB", "code=" + code, "", "", "500", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 500, long(code)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGoogle(t)
			g.give(c.scope, c.refresh)
			if c.token != nil {
				g.token = c.token
			}
			address, token, done, _ := g.login(t, nil)
			browse(t, address.Get("redirect_uri")+"?state="+url.QueryEscape(address.Get("state"))+"&"+c.answer)
			err := ended(t, done)
			says(t, err, c.want)
			clean(t, err)
			if strings.Contains(fmt.Sprint(err), code) {
				t.Errorf("the code is in %v", err)
			}
			if _, err := os.Stat(token); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the token's file: %v", err)
			}
		})
	}
}
