package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"bantam/internal/secret"
)

// Scope is all that Bantam asks Google for: to send, not to read.
const Scope = "https://www.googleapis.com/auth/gmail.send"

// loginAgain is the way on for everything that only a new login heals.
const loginAgain = "run: bantam notify login gmail"

const (
	maxAnswer = 64 << 10 // bytes of an answer that are read
	maxPause  = 24 * time.Hour
	maxOAuth  = 64 << 10 // bytes of the client's and the token's file
	// A token that ends sooner than this is refreshed first.
	margin = time.Minute
)

// An api sends mails by Gmail's REST call users.messages.send.
type api struct {
	config Config
	log    *slog.Logger
	http   *http.Client

	// turn is held, as a mutex that a context can give up, by whoever reads or refreshes the token.
	turn chan struct{}
	// token is what the last refresh gave, for a token file that cannot be written; nil before.
	token *oauth2.Token
}

func newAPI(c Config, log *slog.Logger) *api {
	return &api{config: c, log: log, http: newHTTP(c), turn: make(chan struct{}, 1)}
}

// newHTTP is a client that follows nobody elsewhere with a token, and trusts whom c says.
func newHTTP(c Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: c.CAs, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxAnswer,
			DisableKeepAlives:      true, // mails are rare
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       Timeout,
	}
}

// Send sends one mail.
func (a *api) Send(ctx context.Context, p Packet) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	body, err := message(p)
	if err != nil {
		return final(fmt.Errorf("send mail by Gmail's API: %w", err))
	}
	token, err := a.fresh(ctx, "")
	if err != nil {
		return err
	}
	status, err := a.post(ctx, token, body)
	if status == http.StatusUnauthorized {
		// The access token has ended before its time, or was taken back.
		if token, err = a.fresh(ctx, token.AccessToken); err != nil {
			return err
		}
		status, err = a.post(ctx, token, body)
	}
	if status == http.StatusUnauthorized {
		return hinted(err, "the login is no longer good; "+loginAgain)
	}
	if err == nil {
		a.log.Debug("mail sent", "server", a.config.URL, "recipients", len(p.To))
	}
	return err
}

// message is the body of the call. Google reads the recipients out of the headers, so those who are in
// none get one, Bcc, which it does not pass on.
func message(p Packet) ([]byte, error) {
	m, err := mail.ReadMessage(bytes.NewReader(p.Data))
	if err != nil {
		return nil, fmt.Errorf("read back what was written: %w", err)
	}
	blind := slices.Clone(p.To)
	for _, key := range []string{"To", "Cc"} {
		list, err := m.Header.AddressList(key)
		if err != nil && !errors.Is(err, mail.ErrHeaderNotPresent) {
			return nil, fmt.Errorf("read back what was written: %s: %w", key, err)
		}
		for _, a := range list {
			blind = slices.DeleteFunc(blind, func(b string) bool { return strings.EqualFold(b, a.Address) })
		}
	}
	data := p.Data
	if len(blind) > 0 {
		data = slices.Concat([]byte("Bcc: "+strings.Join(blind, ",\r\n ")+"\r\n"), data)
	}
	return json.Marshal(map[string]string{"raw": base64.URLEncoding.EncodeToString(data)})
}

// post makes the call. status is 0 if there was no answer.
func (a *api) post(ctx context.Context, token *oauth2.Token, body []byte) (status int, err error) {
	const doing = "send mail by Gmail's API"
	where := strings.TrimSuffix(a.config.URL, "/") + "/gmail/v1/users/me/messages/send"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token.AccessToken)
	res, err := a.http.Do(req)
	if err != nil {
		return 0, noAnswer(doing, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		return res.StatusCode, nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, noAnswer(doing, err)
	}
	reason := secret.Scrub(reasonOf(text), secret.New(token.AccessToken))
	told := fmt.Errorf("%s: refused with %d %s", doing, res.StatusCode, quote(reason))
	f := &failure{err: told}
	switch {
	case res.StatusCode == http.StatusForbidden && !strings.Contains(strings.ToLower(reason), "limit"):
		f.err = hinted(told, "the API must be enabled in the client's Google project, and its login have the scope gmail.send; "+loginAgain)
	case res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusTooManyRequests, res.StatusCode/100 == 5:
	case res.StatusCode == http.StatusBadRequest:
		// failedPrecondition speaks of the account, which its owner can mend.
		f.final = !strings.Contains(reason, "failedPrecondition")
	case res.StatusCode == http.StatusRequestEntityTooLarge:
		f.final = true
	}
	f.after = retryAfter(res.Header.Get("Retry-After"), time.Now())
	return res.StatusCode, f
}

// noAnswer is an error of net/http without the address, which url.Error repeats.
func noAnswer(doing string, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return fmt.Errorf("%s: %w: it took longer than %s", doing, context.DeadlineExceeded, Timeout)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// reasonOf is what an error answer of Google's says, or its beginning if it is none.
func reasonOf(body []byte) string {
	var answer struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Message == "" {
		return strings.Join(strings.Fields(string(body)), " ")
	}
	reason := answer.Error.Message
	if len(answer.Error.Errors) > 0 {
		reason = answer.Error.Errors[0].Reason + ": " + reason
	}
	return reason
}

// retryAfter reads the header of that name, RFC 9110 10.2.3: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	var pause time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxPause)
}

// fresh is a token that is good for now. One whose access token is stale is not.
func (a *api) fresh(ctx context.Context, stale string) (*oauth2.Token, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("refresh Gmail's token: %w", ctx.Err())
	}
	client, err := readClient(a.config.Client)
	if err != nil {
		return nil, err
	}
	file, err := readToken(a.config.Token)
	if err != nil {
		return nil, err
	}
	token := file.token
	if a.token != nil && a.token.RefreshToken == token.RefreshToken && a.token.Expiry.After(token.Expiry) {
		token = a.token
	}
	if token.AccessToken != "" && token.AccessToken != stale && time.Until(token.Expiry) > margin {
		return token, nil
	}
	renewed, err := client.config("").TokenSource(
		context.WithValue(ctx, oauth2.HTTPClient, a.http), &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil {
		return nil, refreshFailed(err, client, token)
	}
	if renewed.RefreshToken == "" {
		renewed.RefreshToken = token.RefreshToken
	}
	a.token = renewed
	if err := file.write(a.config.Token, renewed); err != nil {
		a.log.Warn("the token is good, but cannot be kept for the next start", "err", err)
	}
	return renewed, nil
}

// refreshFailed says why there is no new token, without the server's words where they may
// hold ours.
func refreshFailed(err error, client *client, token *oauth2.Token) error {
	const doing = "refresh Gmail's token"
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		err = noAnswer(doing, err)
		return errors.New(secret.Scrub(err.Error(), secret.New(token.RefreshToken), secret.New(client.Secret)))
	}
	switch e.ErrorCode {
	case "invalid_grant": // RFC 6749 5.2
		return hinted(errors.New(doing+": the login was revoked, has expired or belongs to another client"), loginAgain)
	case "invalid_client", "unauthorized_client":
		return hinted(errors.New(doing+": Google does not know the client, or no longer"),
			"download the client's file from Google's console again")
	}
	status, text := 0, e.ErrorCode
	f := &failure{}
	if e.Response != nil {
		status, f.after = e.Response.StatusCode, retryAfter(e.Response.Header.Get("Retry-After"), time.Now())
	}
	if text == "" {
		text = strings.Join(strings.Fields(string(e.Body)), " ")
	}
	f.err = fmt.Errorf("%s: refused with %d %s", doing, status,
		quote(secret.Scrub(text, secret.New(token.RefreshToken), secret.New(client.Secret))))
	return f
}

// A client is what Google's console offers for download under "installed": who we are to Google.
type client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
	Auth   string `json:"auth_uri"`
	Token  string `json:"token_uri"`
}

func readClient(path string) (*client, error) {
	data, err := readPrivate(path, false)
	if err != nil {
		return nil, fmt.Errorf("read the OAuth2 client: %w", err)
	}
	var file struct{ Installed, Web *client }
	switch err := json.Unmarshal(data, &file); {
	case err != nil:
		return nil, fmt.Errorf("read the OAuth2 client %q: it is no JSON", path)
	case file.Installed == nil && file.Web != nil:
		return nil, fmt.Errorf(`read the OAuth2 client %q: it is one for web servers; `+
			`make one of the type "Desktop app" in Google's console`, path)
	case file.Installed == nil || file.Installed.ID == "":
		return nil, fmt.Errorf(`read the OAuth2 client %q: it has no "installed" with a client_id; `+
			`download it as JSON from Google's console`, path)
	}
	c := file.Installed
	for _, u := range []string{c.Auth, c.Token} {
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("read the OAuth2 client %q: %w", path, err)
		}
	}
	return c, nil
}

// config is the client for golang.org/x/oauth2.
func (c *client) config(redirect string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: c.ID, ClientSecret: c.Secret, RedirectURL: redirect, Scopes: []string{Scope},
		Endpoint: oauth2.Endpoint{AuthURL: c.Auth, TokenURL: c.Token, AuthStyle: oauth2.AuthStyleInParams},
	}
}

// A tokenFile is a token and what else its file holds. It is RFC 6749's answer with "expiry", in RFC 3339. Google's library for Python
// keeps the access token as "token"; its files are read too.
type tokenFile struct {
	token *oauth2.Token
	all   map[string]json.RawMessage
}

func readToken(path string) (*tokenFile, error) {
	data, err := readPrivate(path, true)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hinted(fmt.Errorf("read Gmail's token: %w", err), loginAgain)
	} else if err != nil {
		return nil, fmt.Errorf("read Gmail's token: %w", err)
	}
	var shape struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Expiry  string
	}
	file := tokenFile{}
	if json.Unmarshal(data, &file.all) != nil || json.Unmarshal(data, &shape) != nil || shape.Refresh == "" {
		return nil, hinted(fmt.Errorf("read Gmail's token %q: it holds no refresh_token", path), loginAgain)
	}
	// A time that is none makes the token old, and it is refreshed.
	expiry, _ := time.Parse(time.RFC3339, shape.Expiry)
	file.token = &oauth2.Token{AccessToken: shape.Access, RefreshToken: shape.Refresh, Expiry: expiry}
	return &file, nil
}

// write replaces the file by one with a new token, whole or not at all.
func (f *tokenFile) write(path string, token *oauth2.Token) error {
	all := map[string]json.RawMessage{}
	maps.Copy(all, f.all)
	for key, value := range map[string]string{
		"access_token": token.AccessToken, "refresh_token": token.RefreshToken, "token_type": token.Type(),
		"expiry": token.Expiry.UTC().Format(time.RFC3339),
	} {
		all[key], _ = json.Marshal(value) // strings always work
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write Gmail's token: %w", err)
	}
	// CreateTemp's files are 0600.
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write Gmail's token: %w", err)
	}
	defer os.Remove(temp.Name()) // gone by then if all went well
	_, err = temp.Write(append(data, '\n'))
	if err == nil {
		err = temp.Sync()
	}
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write Gmail's token: %w", err)
	}
	return nil
}

// readPrivate reads a small file, which nobody else may read if it is private.
func readPrivate(path string, private bool) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return nil, fmt.Errorf("%q: others than its owner may read it (mode %04o); chmod 600 %s", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxOAuth+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxOAuth {
		return nil, fmt.Errorf("%q: larger than %d bytes", path, maxOAuth)
	}
	return data, nil
}
