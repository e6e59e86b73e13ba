package smtp

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"bantam/internal/secret"
)

// LoginTime is how long a person has to agree.
const LoginTime = 5 * time.Minute

// A Login is how a person lets Bantam send mail by their account at Google: by agreeing in a browser,
// which then comes back to a port of this machine (RFC 8252 7.3, with PKCE, RFC 7636). Where the browser runs on another
// machine it cannot come back; its page, which shows nothing, has an address that can be pasted.
type Login struct {
	// Client and Token are as in Config. Token is written.
	Client, Token string
	// Out is where the person is told what to do. In, if not nil, is where they may paste.
	Out io.Writer
	In  io.Reader
	// CAs are as in Config.
	CAs *x509.CertPool
}

// errAsk is an answer that is none yet: the person may try again.
var errAsk = errors.New("this is not the answer to this login")

// Run returns when the token is written, the person has refused, or LoginTime is over. A Read of In
// may still be under way then.
func (l Login) Run(ctx context.Context) error {
	client, err := readClient(l.Client)
	if err != nil {
		return err
	}
	// A place that cannot be written is found before the person has gone to the trouble.
	if err := checkPlace(l.Token); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("wait for the browser: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, LoginTime)
	defer cancel()

	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	config := client.config("http://" + listener.Addr().String() + "/")
	answers := make(chan answer, 1) // the first one counts

	server := &http.Server{
		Handler:           &landing{state, answers},
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    maxAnswer,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // it ends when it is closed
	}()
	defer func() {
		// The page that says that all is well is still on its way.
		quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(quick) != nil {
			server.Close()
		}
		<-served
	}()

	address := config.AuthCodeURL(state, oauth2.AccessTypeOffline, oauth2.ApprovalForce, oauth2.S256ChallengeOption(verifier))
	fmt.Fprintf(l.Out, "Open this address in a browser, and let Bantam send mail:\n\n%s\n\n"+
		"Does the browser run on another machine? It ends on a page that cannot be shown then.\n"+
		"Copy that page's whole address, and paste it here:\n", address)
	if l.In != nil {
		go l.listen(state, answers)
	}
	select {
	case a := <-answers:
		if a.err != nil {
			return a.err
		}
		return l.exchange(ctx, config, a.code, verifier)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("log in to Gmail: nobody agreed within %s", LoginTime)
		}
		return fmt.Errorf("log in to Gmail: %w", ctx.Err())
	}
}

// checkPlace makes the folder of a file, if there is none, and tries whether a file can be made in it.
func checkPlace(path string) error {
	dir := filepath.Dir(path)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var temp *os.File
		if temp, err = os.CreateTemp(dir, ".token-"); err == nil {
			temp.Close()
			err = os.Remove(temp.Name())
		}
	}
	if err != nil {
		return fmt.Errorf("keep Gmail's token: %w", err)
	}
	return nil
}

// listen reads what is pasted until one line is an answer.
func (l Login) listen(state string, answers chan<- answer) {
	lines := bufio.NewScanner(io.LimitReader(l.In, maxAnswer))
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		a := pasted(text, state)
		if !errors.Is(a.err, errAsk) {
			a.deliver(answers)
			return
		}
		fmt.Fprintf(l.Out, "%v. Paste the whole address, from http://127.0.0.1 on:\n", a.err)
	}
}

// An answer is what came of asking: a code that is good for a token, or an error.
type answer struct {
	code string
	err  error
}

func (a answer) deliver(answers chan<- answer) {
	select {
	case answers <- a:
	default: // there was one before
	}
}

// pasted reads an address, or the code alone. A code alone cannot show that it belongs to this login,
// but PKCE has Google refuse it if it does not.
func pasted(text, state string) answer {
	if strings.ContainsAny(text, "?&=") {
		_, query, _ := strings.Cut(text, "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			return answer{err: errAsk}
		}
		return brought(values, state)
	}
	if len(text) < 10 || len(text) > 512 || strings.ContainsAny(text, " \t:") {
		return answer{err: errAsk}
	}
	return answer{code: text}
}

// brought reads what the browser brought back: RFC 6749 4.1.2.
func brought(values url.Values, state string) answer {
	if subtle.ConstantTimeCompare([]byte(values.Get("state")), []byte(state)) != 1 {
		return answer{err: errAsk}
	}
	switch reason := values.Get("error"); {
	case reason == "access_denied":
		return answer{err: errors.New("log in to Gmail: refused in the browser")}
	case reason != "":
		return answer{err: fmt.Errorf("log in to Gmail: Google says %s", quote(reason))}
	case values.Get("code") == "":
		return answer{err: errAsk}
	}
	return answer{code: values.Get("code")}
}

// landing is the page to which the browser comes back.
type landing struct {
	state   string
	answers chan<- answer
}

func (l *landing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.URL.Path != "/" {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	a := brought(r.URL.Query(), l.state)
	if errors.Is(a.err, errAsk) {
		w.WriteHeader(http.StatusBadRequest)
		page(w, "This is not the answer to this login", "Open the address that Bantam printed once more.")
		return
	}
	if a.err != nil {
		page(w, "Bantam may not send mail", "You can close this page.")
	} else {
		page(w, "Thank you", "You can close this page. Bantam says in the terminal whether it may send mail now.")
	}
	a.deliver(l.answers)
}

// page shows two sentences; both are ours.
func page(w io.Writer, title, text string) {
	_, _ = fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Bantam</title>`+
		`<body style="font:16px/1.5 sans-serif;max-width:32em;margin:4em auto"><h1>%s</h1><p>%s</p></body></html>`, title, text)
}

// exchange makes a token of the code and keeps it.
func (l Login) exchange(ctx context.Context, config *oauth2.Config, code, verifier string) error {
	const doing = "log in to Gmail"
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	web := newHTTP(Config{CAs: l.CAs})
	token, err := config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, web), code, oauth2.VerifierOption(verifier))
	if err != nil {
		if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			reason := e.ErrorCode
			if reason == "" && e.Response != nil {
				reason = e.Response.Status
			}
			return hinted(fmt.Errorf("%s: the code is refused with %s", doing, quote(reason)), "try once more")
		}
		err = noAnswer(doing, err)
		return errors.New(secret.Scrub(err.Error(), secret.New(code), secret.New(verifier), secret.New(config.ClientSecret)))
	}
	if scope, ok := token.Extra("scope").(string); ok && !strings.Contains(" "+scope+" ", " "+Scope+" ") {
		return fmt.Errorf("%s: sending mail was not allowed; try once more, and tick it", doing)
	}
	if token.RefreshToken == "" {
		return fmt.Errorf("%s: Google gave no lasting token; "+
			"take Bantam's access away at https://myaccount.google.com/connections and try once more", doing)
	}
	if err := new(tokenFile).write(l.Token, token); err != nil {
		return err
	}
	_, err = fmt.Fprintln(l.Out, "Bantam may send mail now.")
	return err
}
