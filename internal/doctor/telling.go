package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bantam"
	"bantam/internal/notify"
	"bantam/internal/report"
	"bantam/internal/smtp"
)

// reached is how long it may take until all receivers have answered.
const reached = 5 * time.Second

// A receiver is a server that channels send to.
type receiver struct {
	server   string // host:port
	channels []string
	err      error
}

// lookAtTelling looks whether messages can go out.
func (e *examination) lookAtTelling(ctx context.Context) {
	if e.config == nil {
		return
	}
	tell, reports := e.config.Channels()
	var receivers []*receiver
	add := func(channel, server string) {
		if server == "" {
			return
		}
		for _, r := range receivers {
			if r.server == server {
				r.channels = append(r.channels, channel)
				return
			}
		}
		receivers = append(receivers, &receiver{server: server, channels: []string{channel}})
	}
	asks := false
	for i := range tell {
		n := &tell[i]
		asks = asks || n.Whois
		add(n.Channel, chatServer(n))
		if n.Mail.Kind != "" {
			e.lookAtMail(n.Channel, n.Mail)
			add(n.Channel, mailServer(n.Mail))
		}
	}
	for i := range reports {
		r := &reports[i]
		switch {
		case r.Kind == report.Abuse:
			asks = true
			e.lookAtMail(r.Channel, r.Via)
			add(r.Channel, mailServer(r.Via))
		default:
			add(r.Channel, serverOf(cmp.Or(r.URL, listServers[r.Kind])))
		}
	}
	if len(tell)+len(reports) == 0 {
		e.ok("nobody is told of bans; docs/guide.md, \"Being told\", has how to be")
	}
	ctx, cancel := context.WithTimeout(ctx, reached)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range receivers {
		wg.Go(func() { r.err = reach(ctx, r.server) })
	}
	names := e.namesInUse(asks)
	errs := make([]error, len(names))
	for i, name := range names {
		wg.Go(func() { _, errs[i] = net.DefaultResolver.LookupHost(ctx, name) })
	}
	wg.Wait()
	for _, r := range receivers {
		if r.err == nil {
			e.ok("%s: %s takes connections", of(r.channels), r.server)
			continue
		}
		e.fault(unreachable(r.err)+" then bantam notify test "+r.channels[0], "%s: %s is not reached: %v", of(r.channels), r.server, plainly(r.err))
	}
	for i, name := range names {
		if errs[i] != nil {
			e.fault("does /etc/resolv.conf name a server that answers? resolvectl query "+name, "the name %s is not found, which the configuration needs: %v", name, plainly(errs[i]))
		}
	}
	if len(names) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		e.ok("names are resolved: %s", of(names))
	}
	e.lookAtLetters()
}

// plainly is a network error without the addresses that the line names already.
func plainly(err error) error {
	if dns, is := errors.AsType[*net.DNSError](err); is {
		if dns.IsTimeout {
			return errors.New("no name server answers")
		}
		return errors.New(dns.Err)
	}
	if op, is := errors.AsType[*net.OpError](err); is {
		if op.Timeout() {
			return fmt.Errorf("no answer within %s", reached)
		}
		return op.Err
	}
	return err
}

// unreachable is the way on where a receiver does not answer.
func unreachable(err error) string {
	if _, is := errors.AsType[*net.DNSError](err); is {
		return "is the name right, and does /etc/resolv.conf name a server that answers?"
	}
	return "is name and port right, and does a firewall let it out?"
}

// reach connects and says nothing.
func reach(ctx context.Context, server string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return err
	}
	return conn.Close()
}

// listServers are where the lists of attackers are told if nothing else is said.
var listServers = map[string]string{report.AbuseIPDB: "https://api.abuseipdb.com", report.Blocklist: "https://www.blocklist.de"}

// relayOf is host and port of a relay, with the port that goes with its TLS: RFC 6409, RFC 8314, RFC 5321.
func relayOf(c smtp.Config) string {
	server := c.Server
	if server == "" && c.Kind == smtp.Gmail {
		server = "smtp.gmail.com"
	}
	if _, _, err := net.SplitHostPort(server); err == nil || server == "" {
		return server
	}
	port := map[string]string{"tls": "465", "none": "25"}[c.TLS]
	return net.JoinHostPort(strings.Trim(server, "[]"), cmp.Or(port, "587"))
}

// mailServer is whom a way of mail talks to, "" for sendmail.
func mailServer(c smtp.Config) string {
	switch c.Kind {
	case smtp.Relay, smtp.Gmail:
		return relayOf(c)
	case smtp.GmailAPI:
		return serverOf(cmp.Or(c.URL, "https://gmail.googleapis.com"))
	}
	return ""
}

// chatServer is whom a channel that is no mail talks to.
func chatServer(c *notify.Config) string {
	switch c.Kind {
	case notify.Telegram:
		return serverOf(cmp.Or(c.URL.Reveal(), "https://api.telegram.org"))
	case notify.Ntfy:
		return serverOf(cmp.Or(c.URL.Reveal(), "https://ntfy.sh"))
	case notify.Discord, notify.Slack, notify.Webhook:
		return serverOf(c.URL.Reveal())
	}
	return ""
}

// serverOf is host and port of an address of the web; the rest may be a secret.
func serverOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := "443"
	if u.Scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

// lookAtMail looks whether a way of mail can work, as far as this machine knows.
func (e *examination) lookAtMail(channel string, c smtp.Config) {
	if err := c.Check(); err != nil {
		e.fault("then bantam notify test "+channel, "%s: %v", channel, err)
		return
	}
	if c.Kind != smtp.MTA {
		return
	}
	program := cmp.Or(c.Program, "/usr/sbin/sendmail")
	info, err := os.Stat(program)
	if err != nil {
		return // Check has said so
	}
	if info.Mode()&(os.ModeSetgid|os.ModeSetuid) != 0 && e.running && e.noNewPrivileges() {
		e.fault("NoNewPrivileges=no in a drop-in (sudo systemctl edit bantam), or the action smtp",
			"%s: %s wants to change its group, and the daemon's unit forbids that (NoNewPrivileges)", channel, program)
		return
	}
	e.ok("%s: %s is there", channel, program)
}

// noNewPrivileges reports whether what the daemon starts keeps its user and group, set-group-ID or not: prctl(2).
func (e *examination) noNewPrivileges() bool {
	for line := range strings.Lines(string(readSome(e.proc("status"), 1<<16))) {
		if value, is := strings.CutPrefix(line, "NoNewPrivs:"); is {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n == 1
		}
	}
	return false
}

// namesInUse are names that the configuration needs resolved: those of ignoreip, and one that whoever asks for
// networks needs first.
func (e *examination) namesInUse(asks bool) (names []string) {
	const most = 5
	for i := range e.config.Jails {
		for _, word := range e.config.Jails[i].Lookup.IgnoreIP {
			if _, err := bantam.ParsePrefix(word); err == nil || strings.HasPrefix(word, "file:") || slices.Contains(names, word) || len(names) == most {
				continue
			}
			names = append(names, word)
		}
	}
	if asks {
		names = append(names, "data.iana.org")
	}
	return names
}

// lookAtLetters looks at what the daemon has to send.
func (e *examination) lookAtLetters() {
	type trouble struct {
		failed, waiting int
		err             string
	}
	by := map[string]*trouble{}
	for i := range e.channels.Letters {
		l := &e.channels.Letters[i]
		if !l.Failed && l.Err == "" {
			continue
		}
		t := by[l.Channel]
		if t == nil {
			t = &trouble{}
			by[l.Channel] = t
		}
		if t.err = l.Err; l.Failed {
			t.failed++
		} else {
			t.waiting++
		}
	}
	for name, t := range by {
		fix := "bantam notify queue shows them; bantam notify test " + name + " tries it now"
		if t.failed > 0 {
			e.fault(fix, "%s: %s refused for good: %s", name, were(t.failed, "message was", "messages were"), t.err)
		}
		if t.waiting > 0 {
			e.doubt(fix, "%s: %s tried again: %s", name, were(t.waiting, "message waits and is", "messages wait and are"), t.err)
		}
	}
	for i := range e.channels.Channels {
		if c := &e.channels.Channels[i]; c.Trouble != "" {
			e.fault("bantam notify test "+c.Channel, "%s: no messages are written: %s", c.Channel, c.Trouble)
		}
	}
}

// covers is the first of some prefixes, as texts, that covers everybody of a family.
func covers(words []string) (netip.Prefix, bool) {
	for _, word := range words {
		if id, err := bantam.ParsePrefix(word); err == nil {
			if p, _ := id.Prefix(); everything(p) {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}
