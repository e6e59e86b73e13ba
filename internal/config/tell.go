package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"bantam/internal/action"
	"bantam/internal/notify"
	"bantam/internal/report"
	"bantam/internal/secret"
	"bantam/internal/smtp"
)

// What parameters channels read, beside those that all of a sort have in common.
var (
	mailParams   = []string{"to", "from"}
	notifyParams = []string{"lines", "whois", "on", "digest"}
	// viaParams are the parameters of mail's transports.
	viaParams = map[string][]string{
		smtp.Relay:    {"relay", "user", "password", "tls"},
		smtp.Gmail:    {"password", "user", "relay", "tls"},
		smtp.GmailAPI: {"client", "token", "url"},
		smtp.MTA:      {"program"},
	}
	// chatParams are those of channels that are no mail.
	chatParams = map[string][]string{
		notify.Telegram: {"token", "chat", "url"},
		notify.Discord:  {"url"},
		notify.Slack:    {"url"},
		notify.Ntfy:     {"topic", "token", "url"},
		notify.Webhook:  {"url", "method", "headers", "template", "key"},
	}
	reportParams = map[string][]string{
		report.Abuse:     {"via", "from", "to", "cc", "bcc", "interval", "format", "contact", "redact", "spoofable"},
		report.AbuseIPDB: {"key", "category", "url", "redact"},
		report.Blocklist: {"key", "category", "from", "url", "redact"},
	}
	// secrets are the parameters that nobody may see, wherever they occur but for those of open.
	secrets = []string{"password", "token", "key", "headers", "url", "topic", "abuseipdb_apikey"}
	// open are parameters with the name of a secret that hold none: gmail-api's token is the path of a file, and
	// where an API is may be seen.
	open = map[string][]string{
		smtp.GmailAPI:    {"token", "url"},
		notify.Telegram:  {"url"},
		notify.Ntfy:      {"url"},
		report.AbuseIPDB: {"url"},
		report.Blocklist: {"url"},
	}
)

// Where the login of gmail-api keeps what it needs, if nothing else is said.
const (
	GmailClient = "/etc/bantam/gmail-client.json"
	GmailToken  = "/var/lib/bantam/gmail-token.json"
)

// Tells reports whether a native action of that name tells somebody: it then is no effect of its jail, but a
// channel.
func Tells(name string) bool { return kindOf(name) != "" }

// kindOf is which way an action of that name tells somebody, "" for other actions.
func kindOf(name string) string {
	if viaParams[name] != nil || chatParams[name] != nil || reportParams[name] != nil {
		return name
	}
	if name == "abuseipdb" {
		return report.AbuseIPDB
	}
	kind, _, _ := stockMail(name)
	return kind
}

// stockMail reads the names that jail.conf's action_mw and action_mwl make of mta, such as sendmail-whois and
// gmail-api-whois-lines: the way the mail goes and what is in it. kind is "" if the name is none of them. By sendmail and
// mail, which are files of their own in Fail2Ban's folder, the machine's sendmail is meant.
func stockMail(name string) (kind string, whois, lines bool) {
	kind, lines = strings.CutSuffix(name, "-whois-lines")
	whois = lines
	if !whois {
		kind, whois = strings.CutSuffix(name, "-whois")
	}
	switch {
	case kind == "sendmail" || kind == "mail":
		return smtp.MTA, whois, lines
	case whois && viaParams[kind] != nil:
		return kind, whois, lines
	}
	return "", false, false
}

// Parameters that people give to Fail2Ban's actions of these names: some have other names here, and what is for commands only
// is not needed.
var (
	stockParams   = map[string]string{"dest": "to", "sender": "from", "abuseipdb_apikey": "key", "abuseipdb_category": "category"}
	stockNeedless = []string{"logpath", "chain", "port", "protocol"}
)

// paramsOf are the parameters of a native action that tells somebody, by its kind.
func paramsOf(kind string) []string {
	switch {
	case viaParams[kind] != nil:
		return slices.Concat(mailParams, viaParams[kind], notifyParams)
	case chatParams[kind] != nil:
		return slices.Concat(chatParams[kind], notifyParams)
	}
	return reportParams[kind]
}

// isSecret reports whether a parameter of an action is one that nobody may see.
func isSecret(name, key string) bool {
	return slices.Contains(secrets, key) && !slices.Contains(open[kindOf(name)], key)
}

// A telling is an action of one jail that tells somebody.
type telling struct {
	// key is the same for actions that tell the same ones in the same way.
	key   string
	title string
	jail  string
	value *Value

	notify *notify.Config // one of the two
	report *report.Config
}

// tell reads the parameters of an action that tells somebody. What is wrong keeps the channel from
// being used, not the jail: better protected in silence than not at all.
func (r *jailReader) tell(c *action.Config, v *Value, params []param) {
	t := &tellReader{jail: r, name: kindOf(c.Name), value: v, given: map[string]string{}}
	stock := t.name != c.Name
	if kind, whois, lines := stockMail(c.Name); stock && kind != "" {
		yesNo := map[bool]string{true: "yes", false: "no"}
		t.given["whois"], t.given["lines"] = yesNo[whois], yesNo[lines]
	}
	for _, p := range params {
		switch {
		case p.key == "name" || p.key == "actname" || stock && slices.Contains(stockNeedless, p.key):
		case stock && stockParams[p.key] != "":
			t.given[stockParams[p.key]] = p.value
		default:
			t.given[p.key] = p.value
		}
	}
	known := paramsOf(t.name)
	if stock {
		known = slices.Concat(known, slices.Sorted(maps.Keys(stockParams)), stockNeedless)
	}
	r.unknownParams(v, c.Name, params, known)
	out := telling{key: t.key(), title: strings.TrimSuffix(c.Title, "-"+c.Params["name"]), jail: r.jail.Name, value: v}
	var err error
	if reportParams[t.name] != nil {
		out.report = t.report()
		out.report.Channel = out.title
		err = out.report.Validate()
	} else {
		out.notify = t.notify()
		out.notify.Channel = out.title
		err = out.notify.Validate()
	}
	for key, text := range c.Params {
		if isSecret(c.Name, key) {
			c.Params[key] = secret.New(text).String()
		} else {
			c.Params[key] = hide(text, nil)
		}
	}
	if err != nil && !t.failed {
		hint := "bantam config show " + r.jail.Name + " shows where each part of it comes from"
		switch {
		case t.name == report.Abuse && strings.HasPrefix(err.Error(), "from: "):
			hint = "write from=abuse@example.org, or sender = abuse@example.org in [DEFAULT]: desks answer to it"
		case stock && viaParams[t.name] != nil:
			hint = fmt.Sprintf("write it out below %%(action_)s with all that it needs, as in %s[%s=…, whois=yes]", t.name, viaParams[t.name][0])
		}
		t.fail(err.Error(), hint)
	}
	if !t.failed {
		r.jail.tellings = append(r.jail.tellings, out)
	}
}

// A tellReader reads the parameters of one action. The first thing that is wrong is told.
type tellReader struct {
	jail   *jailReader
	name   string
	value  *Value
	given  map[string]string
	failed bool
}

// key is the action as it is written, so that the same one in other jails is the same channel.
func (t *tellReader) key() string {
	var b strings.Builder
	b.WriteString(t.name)
	for _, key := range slices.Sorted(maps.Keys(t.given)) {
		fmt.Fprintf(&b, "\x00%s\x00%s", key, t.given[key])
	}
	return b.String()
}

func (t *tellReader) warn(text, hint string) { t.jail.warn(problemAt(t.value, text, hint)) }

func (t *tellReader) fail(text, hint string) {
	if t.failed {
		return
	}
	t.failed = true
	p := problemAt(t.value, t.name+": "+text, hint)
	p.Jail = t.jail.jail.Name
	t.jail.problems = append(t.jail.problems, *p)
}

func (t *tellReader) text(key, def string) string {
	v, ok := t.given[key]
	if v = trim(v); !ok || v == "" {
		return def
	}
	return v
}

// list is a list of words with commas between them.
func (t *tellReader) list(key string, def []string) []string {
	v := t.text(key, "")
	if v == "" {
		return def
	}
	var out []string
	for w := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ',' || r == '\n' }) {
		if w = trim(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// words is a list of words with blanks or commas between them.
func (t *tellReader) words(key string, def []string) []string {
	v := t.text(key, "")
	if v == "" {
		return def
	}
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || isSpace(r) })
}

func (t *tellReader) boolean(key string, def bool) bool {
	v := t.text(key, "")
	if v == "" {
		return def
	}
	b, known := boolean(v)
	if !known {
		t.warn(fmt.Sprintf("%s: %s=%s is none of yes and no: taken as no", t.name, key, quote(v)), "")
	}
	return b
}

func (t *tellReader) duration(key string, def time.Duration) time.Duration {
	v := t.text(key, "")
	if v == "" {
		return def
	}
	f, err := seconds(v)
	if err != nil {
		t.fail(key+": "+err.Error(), unitHint)
		return def
	}
	d, fits := duration(f)
	if !fits {
		return math.MaxInt64
	}
	return d
}

func (t *tellReader) secret(key string) secret.Value { return t.secretIn(key, t.text(key, "")) }

func (t *tellReader) secretIn(key, text string) secret.Value {
	v, literal, err := secret.Read(text)
	switch {
	case errors.Is(err, secret.ErrElsewhere):
		// The channel is not used, but whoever checks in a shell what a service reads need not have done anything wrong.
		if !t.failed {
			t.failed = true
			t.warn(t.name+": "+key+": "+err.Error(), "where the service itself has it, as systemd gives it, all is well")
		}
	case err != nil:
		t.fail(key+": "+err.Error(), "a secret is given as credential:NAME, file:PATH, env:NAME, or as it is")
	case literal:
		t.jail.literals = append(t.jail.literals, text)
		if path := t.jail.tree.readable(t.value.File); path != "" {
			t.warn(fmt.Sprintf("%s: %s stands in a file that others can read", t.name, key), "chmod 600 "+path+", or write it as file:PATH or credential:NAME")
		}
	}
	return v
}

// readable is the path of a file of the folder if others than its owner and group can read it. It is "" if they
// cannot, and when it was asked for before: one warning is enough.
func (t *tree) readable(file string) string {
	if file == "" || t.dir == "" || strings.HasPrefix(file, t.prefix) || t.asked[file] {
		return ""
	}
	path := t.path(place{name: file})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	t.asked[file] = true
	return path
}

// inEntry finds the secrets of an action's entry, well written or not.
var inEntry = regexp.MustCompile(`\b(` + strings.Join(secrets, "|") + `)(\s*=\s*)("[^"]*"?|'[^']*'?|[^,\]\n]*)`)

// hideAll takes what may be a secret out of what is said about an entry that is not well written, if
// any action in the option tells somebody.
func hideAll(said, option string) string {
	for _, line := range strings.FieldsFunc(option, isSpace) {
		if name, _, _ := strings.Cut(line, "["); Tells(name) {
			return inEntry.ReplaceAllString(said, "$1$2***")
		}
	}
	return said
}

// hide takes secrets out of a text that is to be shown: what stands for them in the entry of an action that tells
// somebody, and those that were found to be written out somewhere.
func hide(text string, literals []string) string {
	for _, l := range literals {
		if len(l) >= 4 {
			text = strings.ReplaceAll(text, l, "***")
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		name, _, has := strings.Cut(line, "[")
		if name = trim(name); !has || !Tells(name) {
			continue
		}
		lines[i] = inEntry.ReplaceAllStringFunc(line, func(m string) string {
			key, value, _ := strings.Cut(m, "=")
			value = strings.Trim(trim(value), `"'`)
			kind, _, named := strings.Cut(value, ":")
			switch {
			case !isSecret(name, trim(key)) && name != report.Abuse,
				named && (kind == "credential" || kind == "file" || kind == "env"), strings.HasPrefix(value, "%("):
				return m
			}
			return key + "=***"
		})
	}
	return strings.Join(lines, "")
}

// mail reads how mails travel.
func (t *tellReader) mail(kind string) smtp.Config {
	c := smtp.Config{
		Kind: kind, Server: t.text("relay", ""), TLS: strings.ToLower(t.text("tls", "")), User: t.text("user", ""),
		Program: t.text("program", ""),
	}
	if kind == smtp.GmailAPI {
		c.Client, c.Token, c.URL = t.text("client", GmailClient), t.text("token", GmailToken), t.text("url", "")
	} else {
		c.Password = t.secret("password")
	}
	return c
}

// sender is who mails are from: the jail's sender if nothing else is said.
func (t *tellReader) sender() string {
	_, sender := t.jail.get("sender")
	return t.host(t.text("from", trim(sender)))
}

// host puts this machine's name for the tags that stand for it.
func (t *tellReader) host(text string) string {
	if !strings.Contains(text, "-hostname>") {
		return text
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return strings.NewReplacer("<fq-hostname>", name, "<sh-hostname>", name).Replace(text)
}

func (t *tellReader) notify() *notify.Config {
	c := notify.Defaults(t.name)
	c.Jails = []string{t.jail.jail.Name}
	c.Lines, c.Whois = t.boolean("lines", c.Lines), t.boolean("whois", c.Whois)
	c.On, c.Digest = t.words("on", c.On), t.duration("digest", c.Digest)
	if viaParams[t.name] != nil {
		_, dest := t.jail.get("destemail")
		c.Mail, c.From, c.To = t.mail(t.name), t.sender(), t.list("to", nil)
		if c.To == nil && trim(dest) != "" {
			c.To = []string{trim(dest)}
		}
		return &c
	}
	c.URL, c.Token, c.Key = t.secret("url"), t.secret("token"), t.secret("key")
	c.Chat, c.Topic = t.text("chat", ""), t.text("topic", "")
	c.Method, c.Template = t.text("method", ""), t.given["template"]
	for line := range strings.SplitSeq(t.text("headers", ""), "\n") {
		if line = trim(line); line == "" {
			continue
		}
		c.Headers = append(c.Headers, t.secretIn("headers", line))
	}
	return &c
}

func (t *tellReader) report() *report.Config {
	c := report.Defaults(t.name)
	c.Jails = []string{t.jail.jail.Name}
	c.Interval, c.Redact = t.duration("interval", c.Interval), t.boolean("redact", c.Redact)
	c.Key, c.Category, c.URL = t.secret("key"), t.text("category", c.Category), t.text("url", c.URL)
	if t.name != report.Abuse {
		c.From = t.text("from", c.From)
		return &c
	}
	c.To, c.Cc, c.Bcc = t.list("to", c.To), t.list("cc", c.Cc), t.list("bcc", c.Bcc)
	c.Contact, c.Spoofable = t.words("contact", c.Contact), t.boolean("spoofable", c.Spoofable)
	switch format := strings.ToLower(t.text("format", "text+xarf")); format {
	case "text", "text+xarf":
		c.XARF = format != "text"
	default:
		t.fail(fmt.Sprintf("format: %s is none of text and text+xarf", quote(format)), "")
	}
	c.From = t.sender()
	via, params, err := nameParams(t.text("via", smtp.MTA))
	if err == nil && viaParams[via] == nil {
		err = fmt.Errorf("%s is no way to send mail", quote(via))
	}
	if err != nil {
		t.fail("via: "+err.Error(), `write mta, or smtp[relay="mail.example.org", user=…, password=…] and the like`)
		return &c
	}
	by := &tellReader{jail: t.jail, name: via, value: t.value, given: map[string]string{}}
	t.jail.unknownParams(t.value, "via: "+via, params, append(slices.Clone(viaParams[via]), "from"))
	for _, p := range params {
		by.given[p.key] = p.value
	}
	c.Via = by.mail(via)
	c.From = by.host(by.text("from", c.From))
	t.failed = t.failed || by.failed
	if err := c.Via.Validate(); err != nil {
		t.fail("via: "+err.Error(), "")
	}
	return &c
}

// Channels are those whom the jails that work tell of their bans. Actions that are written alike are one channel, whatever
// jail they stand in; it is named as they are, or JAIL/NAME where others have the name, too, and JAIL/NAME-2 and so on
// where one jail has several.
func (c *Config) Channels() (tell []notify.Config, reports []report.Config) {
	type channel struct {
		telling
		jails []string
	}
	var channels []*channel
	byKey, named := map[string]*channel{}, map[string]int{}
	for i := range c.Jails {
		if c.Jails[i].Err != nil {
			continue
		}
		for _, t := range c.Jails[i].tellings {
			key := t.title + "\x00" + t.key
			ch := byKey[key]
			if ch == nil {
				ch = &channel{telling: t}
				channels, byKey[key] = append(channels, ch), ch
				named[t.title]++
			}
			if !slices.Contains(ch.jails, t.jail) {
				ch.jails = append(ch.jails, t.jail)
			}
		}
	}
	taken := map[string]bool{}
	for _, ch := range channels {
		name := ch.title
		if named[name] > 1 {
			name = ch.jail + "/" + name
		}
		for i, first := 2, name; taken[name]; i++ {
			name = fmt.Sprintf("%s-%d", first, i)
		}
		taken[name] = true
		if ch.notify != nil {
			n := *ch.notify
			n.Channel, n.Jails = name, ch.jails
			tell = append(tell, n)
			continue
		}
		r := *ch.report
		r.Channel, r.Jails = name, ch.jails
		reports = append(reports, r)
	}
	slices.SortFunc(tell, func(a, b notify.Config) int { return cmp.Compare(a.Channel, b.Channel) })
	slices.SortFunc(reports, func(a, b report.Config) int { return cmp.Compare(a.Channel, b.Channel) })
	return tell, reports
}
