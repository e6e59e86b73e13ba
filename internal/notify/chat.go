package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bantam"
)

// Bounds of talking to a chat service.
const (
	chatTimeout   = 30 * time.Second // for a request and its answer
	maxChatAnswer = 64 << 10         // bytes of an answer that are read
	maxChatPause  = 24 * time.Hour   // that a service may ask for
	maxChatWords  = 200              // bytes of a service's words in an error
)

// chatClient is what all chat channels send with.
var chatClient = newChatClient(nil)

// newChatClient is a client that trusts roots, or the system's if roots is nil. It follows no
// redirect, because secrets stand in paths and headers, and keeps no connection: messages are
// rare. It takes the proxy that the environment names, which is the administrator's.
func newChatClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: chatTimeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxChatAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A refusal is why a message was not taken. It holds no secret.
type refusal struct {
	text  string
	again bool
	pause time.Duration
	cause error // may be nil
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.cause }

// Again says what becomes of the letter, for the outbox.
func (r *refusal) Again() (bool, time.Duration) { return r.again, r.pause }

// A remark is what a service says beside its status.
type remark struct {
	text  string        // its words, strangers' text
	pause time.Duration // before another attempt
	hint  string        // our words: what to do about it
}

// A poster is what the channels beside mail have in common: it sends one request for each letter.
type poster struct {
	client  *http.Client
	url     string
	header  http.Header // of all requests
	lines   bool        // messages have log lines
	looks   wants
	host    string   // who is asked, for errors
	secrets []string // never stand in an error
	// explain reads an answer that is no success; nil has its text taken as it is.
	explain func(status int, answer []byte) remark
}

// newPoster is the poster of a channel for a URL, of which path and query may be secret.
func newPoster(c *Config, u *url.URL, secrets ...string) *poster {
	p := &poster{
		client: chatClient, url: u.String(), header: http.Header{"Content-Type": {"application/json"}},
		lines: c.Lines, looks: wants{whois: c.Whois}, host: u.Host,
	}
	secrets = append(secrets, u.String(), u.RequestURI())
	for part := range strings.SplitSeq(u.Path, "/") {
		if len(part) >= 16 { // shorter ones are words
			secrets = append(secrets, part)
		}
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, password)
	}
	for _, s := range secrets {
		p.secrets = append(p.secrets, s, url.QueryEscape(s), url.PathEscape(s))
	}
	p.secrets = slices.DeleteFunc(p.secrets, func(s string) bool { return len(s) < 6 }) // too short for one
	slices.SortFunc(p.secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	p.secrets = slices.Compact(p.secrets)
	return p
}

func (p *poster) wants() wants { return p.looks }

// clean is a text for an error: without secrets and cut.
func (p *poster) clean(text string) string {
	for _, s := range p.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	if len(text) > maxChatWords {
		text = strings.ToValidUTF8(text[:maxChatWords], "") + "…"
	}
	return strings.TrimSpace(text)
}

// post sends one request and returns the answer if its status is a success; there is none
// if it broke off behind the status. Every error is a refusal.
func (p *poster) post(ctx context.Context, body []byte) ([]byte, error) {
	return p.request(ctx, http.MethodPost, p.header, body)
}

// request is post with another method and header.
func (p *poster) request(ctx context.Context, method string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url, bytes.NewReader(body))
	if err != nil {
		return nil, &refusal{text: fmt.Sprintf("post to %s: the url is wrong", p.host)}
	}
	maps.Copy(req.Header, header)
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	if header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "bantam/"+bantam.Version)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxChatAnswer))
	if resp.StatusCode/100 == 2 {
		if err != nil {
			return nil, nil // the message was taken; sent again, it would be there twice
		}
		return answer, nil
	}
	return nil, p.refused(resp, answer)
}

// unreachable is the refusal for want of an answer.
func (p *poster) unreachable(err error) error {
	// Its text has the URL.
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return &refusal{text: fmt.Sprintf("post to %s: %s", p.host, p.clean(err.Error())), again: true, cause: err}
}

// odd is the refusal for an answer that says it is a success and is none of the service's.
func (p *poster) odd(answer []byte) error {
	return &refusal{text: fmt.Sprintf("post to %s: the answer is not understood: %q", p.host, p.clean(string(answer))), again: true}
}

// numbered is nil for a success whose answer, if there is one, is what was made of the message, with its id.
func (p *poster) numbered(answer []byte) error {
	var message struct {
		ID string `json:"id"`
	}
	if len(answer) == 0 {
		return nil
	}
	if json.Unmarshal(answer, &message) != nil || message.ID == "" {
		return p.odd(answer)
	}
	return nil
}

// refused is the refusal that an answer means.
func (p *poster) refused(resp *http.Response, answer []byte) error {
	r := &refusal{text: fmt.Sprintf("post to %s: status %d", p.host, resp.StatusCode)}
	said := remark{text: string(answer)}
	if p.explain != nil {
		said = p.explain(resp.StatusCode, answer)
	}
	switch s := resp.StatusCode; {
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		r.again = true
	// 409 is what a receiver answers who is still busy with an earlier attempt of the same key
	// (draft-ietf-httpapi-idempotency-key-header, 2.6).
	case s == http.StatusConflict:
		r.again = true
	case s/100 == 3:
		r.again = s != http.StatusMovedPermanently && s != http.StatusPermanentRedirect
		said = remark{hint: "redirects are not followed, name the right url"}
		if to, err := resp.Location(); err == nil {
			said.text = "to " + to.Host
		}
	}
	if said.text != "" {
		r.text += ": " + strconv.Quote(p.clean(said.text))
	}
	if said.hint != "" {
		r.text += ": " + said.hint
	}
	if r.again {
		r.pause = min(max(said.pause, retryAfter(resp.Header.Get("Retry-After"), time.Now()), 0), maxChatPause)
	}
	return r
}

// retryAfter reads the header of RFC 9110, 10.2.3: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return chatSeconds(n)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// chatSeconds is a pause that a service has asked for, rounded up to milliseconds.
func chatSeconds(n float64) time.Duration {
	if !(n > 0) { // also not a number
		return 0
	}
	return time.Duration(math.Ceil(min(n, maxChatPause.Seconds())*1000)) * time.Millisecond
}

// chatURL reads a URL that may be a secret, and so is in no error.
func chatURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return nil, errors.New("url: is none that begins with https://")
	}
	return u, nil
}

// private reports whether what is sent to u is read by nobody on the way.
func private(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// headerText reports whether text may be the value of a header.
func headerText(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// chatJSON encodes what is made of our own structs, which always can be.
func chatJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// readLetter reads a letter's body back.
func readLetter(key string, body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return &refusal{text: fmt.Sprintf("letter %s cannot be read: %v", key, err), cause: err}
	}
	return nil
}

// A markup is how one service is told what a piece of text is.
//
// All that comes from elsewhere, from logs, databases, or the configuration, stands in
// code, where no service looks for mentions, links or markup, so all there is to do is to keep
// the end of the code out of it.
type markup struct {
	// limit is the service's for one message, in characters; we count bytes, which are never fewer.
	limit               int
	strong, code, block [2]string
	quote               string // before each line of a block
	// escape is what a character becomes inside code, "" for itself.
	escape func(r rune) string
	// bare is for services without markup: what looks like a link must not be one.
	bare bool
}

// The pieces of a message from elsewhere, in bytes at most.
const (
	maxChatName = 60
	maxChatHost = 100
	maxChatNote = 160
	maxChatLine = 600
	chatLines   = 3  // log lines
	chatList    = 10 // jails, events
)

// shown is a stranger's text as it may stand inside code: one line, all that is not printed or turns the
// direction of writing made visible, and at most most bytes, cut between characters.
func (m *markup) shown(text string, most int) string {
	const cut = "…"
	if m.bare {
		// The apps make links of these by themselves.
		text = strings.ReplaceAll(text[:min(len(text), 4*most)], "://", "[:]//")
	}
	var b []byte
	whole := 0 // how much stays if there is more to come
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		piece := rest[:size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, rest[0])
		case r == '\t':
			piece = " "
		case !unicode.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRune(r), "'")
		case m.escape != nil:
			piece = cmp.Or(m.escape(r), piece)
		}
		rest = rest[size:]
		if len(b)+len(piece) > most {
			return string(b[:whole]) + cut
		}
		b = append(b, piece...)
		if len(b) <= most-len(cut) {
			whole = len(b)
		}
	}
	return string(b)
}

// coded is a stranger's text as code. Blanks around it would keep some services from seeing code.
func (m *markup) coded(text string, most int) string {
	text = strings.TrimSpace(text)
	if text == "" {
		text = "?"
	}
	return m.code[0] + m.shown(text, most) + m.code[1]
}

func (m *markup) loud(words string) string { return m.strong[0] + words + m.strong[1] }

// compose is what an edition says: its headline, and the rest in lines, "" for none. lines has the log lines in it.
// Both together with a newline between them are within the limit.
func (m *markup) compose(e *Edition, lines bool) (head, rest string) {
	on := ""
	if e.Host != "" {
		on = " on " + m.coded(e.Host, maxChatHost)
	}
	switch {
	case e.Test:
		return m.loud("This is a test") + on, "Whoever reads this is told what Bantam does."
	case alone(e):
		return m.single(&e.Events[0], on, lines)
	default:
		return m.digest(e, on)
	}
}

// alone reports whether an edition is about one event and nothing else.
func alone(e *Edition) bool {
	return len(e.Events) == 1 && e.More == 0 && len(e.Started)+len(e.Stopped) == 0
}

// full is compose's message as one text.
func (m *markup) full(e *Edition, lines bool) string {
	head, rest := m.compose(e, lines)
	return strings.TrimSuffix(head+"\n"+rest, "\n")
}

// Titles of decisions.
var chatTitles = map[bantam.Kind]string{
	bantam.Start: "Banned", bantam.Prolong: "Banned for longer", bantam.End: "Unbanned", bantam.Restore: "Still banned",
}

// Why bans ended, for people.
var chatCauses = map[string]string{
	bantam.CauseExpired: "its time was up", bantam.CauseOperator: "an operator lifted it",
	bantam.CauseAllowed: "it is never to be banned any more", bantam.CauseRemoved: "its jail is gone",
}

// single tells of one decision.
func (m *markup) single(e *Event, on string, lines bool) (head, rest string) {
	d := &e.Decision
	b := &d.Ban
	id := b.ID.String()
	title := cmp.Or(chatTitles[d.Kind], "Decided about")
	switch {
	case d.Kind == bantam.End:
	case b.Held():
		title = "Held back, not banned:"
	case b.Observed:
		title = "Would be banned"
	}
	head = m.loud(title) + " " + m.coded(id, maxChatHost) + " in " + m.coded(b.Jail, maxChatName) + on
	var text []string
	if from := m.place(e); from != "" {
		text = append(text, "from "+from)
	}
	if e.Host != "" {
		text = append(text, "named "+m.coded(e.Host, maxChatHost))
	}
	if w := e.Whois; w != nil {
		text = append(text, m.network(e))
	}
	text = append(text, m.terms(d))
	switch {
	case b.Held():
		text = append(text, "has "+m.coded(b.Reason, maxChatNote))
	case b.Reason != "":
		text = append(text, "reason "+m.coded(b.Reason, maxChatNote))
	}
	var tail []string
	if name, ok := typed(b.ID); ok {
		tail = append(tail, m.coded("bantam why "+name, maxChatNote))
		if d.Kind != bantam.End && !b.Observed {
			tail = append(tail, m.coded("bantam unban "+name, maxChatNote))
		}
	}
	if lines {
		used := len(head) + 2
		for _, line := range append(text, tail...) {
			used += len(line) + 1
		}
		text = append(text, m.logged(b.Lines, m.limit-used)...)
	}
	return head, strings.Join(append(text, tail...), "\n")
}

// place is where an event's address is, "" for nowhere.
func (m *markup) place(e *Event) string {
	var parts []string
	if where := cmp.Or(e.Place.CountryName, e.Place.Country); where != "" {
		if e.Place.City != "" {
			where = e.Place.City + ", " + where
		}
		parts = append(parts, m.coded(where, maxChatHost))
	}
	if e.Place.ASN != 0 {
		parts = append(parts, fmt.Sprintf("AS%d", e.Place.ASN))
	}
	if e.Place.ASOrg != "" {
		parts = append(parts, m.coded(e.Place.ASOrg, maxChatName))
	}
	return strings.Join(parts, " ")
}

// network is what the registry says of an event's address.
func (m *markup) network(e *Event) string {
	parts := []string{"network"}
	if e.Whois.Network.IsValid() {
		parts = append(parts, m.coded(e.Whois.Network.String(), maxChatName))
	}
	if name := cmp.Or(e.Whois.Name, e.Whois.Org); name != "" {
		parts = append(parts, m.coded(name, maxChatName))
	}
	if len(e.Whois.Abuse) > 0 {
		parts = append(parts, "abuse "+m.coded(e.Whois.Abuse[0], maxChatHost))
	}
	return strings.Join(parts, " ")
}

// terms is why there is a ban and until when, or why there is none any more.
func (m *markup) terms(d *bantam.Decision) string {
	b := &d.Ban
	if d.Kind == bantam.End {
		return cmp.Or(chatCauses[d.Cause], "it is over")
	}
	var parts []string
	switch b.By {
	case bantam.ByOperator:
		parts = append(parts, "by an operator")
	case bantam.ByPeer:
		parts = append(parts, "by another host")
	default:
		parts = append(parts, many(b.Failures, "failure"))
	}
	if b.Count > 1 {
		parts = append(parts, "ban "+strconv.Itoa(b.Count))
	}
	if b.Permanent() {
		return strings.Join(append(parts, "for ever"), ", ")
	}
	until := "until " + b.End.Local().Format("2006-01-02 15:04 MST")
	if !b.Time.IsZero() && b.End.After(b.Time) {
		until += " (" + chatSpan(b.End.Sub(b.Time)) + ")"
	}
	return strings.Join(append(parts, until), ", ")
}

// logged are the last log lines as a block of at most room bytes, or nothing.
func (m *markup) logged(lines []string, room int) []string {
	lines = lines[max(0, len(lines)-chatLines):]
	room -= len(m.block[0]) + len(m.block[1]) + 1
	if len(lines) == 0 || room/len(lines) < 40 {
		return nil
	}
	each := min(maxChatLine, room/len(lines)-len(m.quote)-1)
	text := make([]string, len(lines))
	for i, line := range lines {
		text[i] = m.quote + m.shown(line, each)
	}
	return []string{m.block[0] + strings.Join(text, "\n") + m.block[1]}
}

// digest counts and lists.
func (m *markup) digest(e *Edition, on string) (head, rest string) {
	var parts []string
	if all := totals(chatTotals(e)); all != "" {
		parts = append(parts, all)
	}
	for _, list := range []struct {
		jails []string
		word  string
	}{{e.Started, "started"}, {e.Stopped, "stopped"}} {
		if n := len(list.jails); n > 0 {
			parts = append(parts, many(n, "jail")+" "+list.word)
		}
	}
	head = m.loud(cmp.Or(strings.Join(parts, ", "), "Nothing new")) + on
	if !e.Since.IsZero() {
		head += " since " + e.Since.Local().Format("15:04 MST")
	}
	p := page{room: m.limit - len(head) - 1}
	if len(e.Events) > 0 {
		p.last = m.coded("bantam banned", maxChatName)
	}
	var jails []string
	for _, jail := range e.Started {
		jails = append(jails, "started "+m.coded(jail, maxChatName))
	}
	for _, jail := range e.Stopped {
		jails = append(jails, "stopped "+m.coded(jail, maxChatName))
	}
	p.list(jails, len(jails))
	figures := m.byJail(e)
	p.list(figures, len(figures))
	events := make([]string, 0, chatList)
	for i := range e.Events[:min(len(e.Events), chatList)] {
		events = append(events, m.brief(&e.Events[i]))
	}
	p.list(events, len(e.Events)+e.More)
	return head, p.text()
}

// byJail are the figures of each jail, those with most first.
func (m *markup) byJail(e *Edition) []string {
	jails := jailsByCount(e)
	text := make([]string, len(jails))
	for i, jail := range jails {
		text[i] = m.coded(jail, maxChatName) + " " + totals(e.Bans[jail], e.Unbans[jail], e.Observed[jail], e.Held[jail])
	}
	return text
}

// brief is an event as a line of a list.
func (m *markup) brief(e *Event) string {
	b := &e.Decision.Ban
	line := m.coded(b.ID.String(), maxChatName) + " in " + m.coded(b.Jail, maxChatName)
	if e.Place.Country != "" {
		line += " from " + m.coded(e.Place.Country, maxChatName)
	}
	switch {
	case e.Decision.Kind == bantam.End:
		line += ", unbanned"
	case b.Held():
		line += ", held back"
	case b.Observed:
		line += ", only observed"
	}
	return line
}

// A page is the rest of a message, as far as there is room.
type page struct {
	lines []string
	room  int    // bytes, last included
	last  string // the line that is always there
}

// list adds lines, as many as there is room for and chatList at most, and says how many more of total there are.
func (p *page) list(lines []string, total int) {
	const more = 40 // bytes for "and N more"
	n := 0
	for _, line := range lines {
		if n == chatList || len(line)+1+more > p.room-len(p.last)-1 {
			break
		}
		p.lines = append(p.lines, line)
		p.room -= len(line) + 1
		n++
	}
	if n < total && len(lines) > 0 {
		line := fmt.Sprintf("and %d more", total-n)
		p.lines = append(p.lines, line)
		p.room -= len(line) + 1
	}
}

func (p *page) text() string {
	if p.last != "" {
		return strings.Join(append(p.lines, p.last), "\n")
	}
	return strings.Join(p.lines, "\n")
}

// chatTotals are how many bans and unbans there were, and how many of the bans were only observed, or held back.
func chatTotals(e *Edition) (bans, unbans, observed, held int) {
	if len(e.Bans)+len(e.Unbans) > 0 {
		return sum(e.Bans), sum(e.Unbans), sum(e.Observed), sum(e.Held)
	}
	for i := range e.Events {
		switch d := &e.Events[i].Decision; {
		case d.Kind == bantam.End:
			unbans++
		case d.Ban.Held():
			held++
			bans++
		case d.Ban.Observed:
			observed++
			bans++
		default:
			bans++
		}
	}
	return bans + e.More, unbans, observed, held
}

// quiet reports whether an edition is worth no sound: nobody was banned.
func quiet(e *Edition) bool {
	bans, _, _, _ := chatTotals(e)
	return bans == 0 && !e.Test
}

// typed is an ID as somebody may paste it into a shell, if it can be.
func typed(id bantam.ID) (string, bool) {
	name := id.String()
	if _, ok := id.Prefix(); ok {
		return name, true
	}
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._@:/+,=-", r)
	}
	return name, name != "" && len(name) <= maxChatHost && name[0] != '-' && !strings.ContainsFunc(name, odd)
}

// chatSpan is a length of time in its two largest units, as 1d 2h.
func chatSpan(d time.Duration) string {
	var parts []string
	for _, unit := range []struct {
		name string
		is   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / unit.is; n > 0 && len(parts) < 2 {
			parts = append(parts, strconv.FormatInt(int64(n), 10)+unit.name)
			d -= n * unit.is
		} else if len(parts) > 0 {
			break
		}
	}
	return cmp.Or(strings.Join(parts, " "), "0s")
}
