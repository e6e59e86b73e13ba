package report

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"bantam"
)

const (
	// mostLines are shown of one ban: a desk wants to see what happened, not our whole log.
	mostLines = 20
	// longestLine is what is shown of a line, in bytes; longestRead what is looked at.
	longestLine = 400
	longestRead = 4096
)

// hidden stands where something was taken out.
const hidden = "[redacted]"

// A redactor picks the log lines of one ban that a stranger may see, and takes out of them what he may not.
//
// A line is picked only if the banned address stands in it as an address: 1.2.3.4 does not stand in 11.2.3.40, nor in the
// name 1.2.3.4.example.net; 2001:db8::1 does in every spelling. What is taken out are other addresses,
// be they ours, our users' or a bystander's, names of this machine, names of users, mail addresses and passwords. Where it is
// in doubt it takes out too much.
type redactor struct {
	id bantam.ID
	// off leaves the picked lines as they were logged.
	off   bool
	hosts hostNames
	// users are what the attacker claimed to be.
	users []string
}

// newRedactor knows the machine's name and what a ban says of its user.
func newRedactor(b *bantam.Ban, host string, redact bool) *redactor {
	r := &redactor{id: b.ID, off: !redact}
	r.hosts.add(host)
	for _, line := range b.Lines {
		if m := header.FindStringSubmatch(line); m != nil {
			r.hosts.add(m[1] + m[2])
		}
	}
	users := []string{b.User}
	for key, value := range b.Data {
		if userKey.MatchString(key) {
			users = append(users, value)
		}
	}
	for _, user := range users {
		if user = strings.TrimSpace(clean(user)); user != "" && !r.isAddress(user) {
			r.users = append(r.users, user)
		}
	}
	// The longest first: "anna" must not cut "anna-maria" in two.
	slices.SortFunc(r.users, func(a, b string) int { return len(b) - len(a) })
	return r
}

// isAddress reports whether a user is nothing but the banned address: the address itself is no secret.
func (r *redactor) isAddress(user string) bool {
	id, err := bantam.ParsePrefix(user)
	return err == nil && r.id.Contains(id)
}

var (
	// userKey are the names under which filters keep users.
	userKey = regexp.MustCompile(`user|login|logname|account|mail`)
	// header is how syslog and the journal begin a line: a date, if any, then the machine and the program.
	header = regexp.MustCompile(`^(?:<\d{1,3}>)?(?:1 )?(?:` +
		`(?:[A-Z][a-z]{2} [ \d]\d(?: \d{4})? \d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*)\s+([\w.:-]+)\s+[^\s:\[]+(?:\[\d+\])?:?\s` +
		`|([\w.-]+) [\w./@-]+\[\d+\]: )`)
)

// hostNames are names of this machine, in lower case.
type hostNames struct {
	labels  []string // first labels: whatever has one of them, with others or a dash beside it, is one of its names
	domains []string // with a dot before them: whatever is in one is our own
}

func (h *hostNames) add(name string) {
	name = strings.Trim(strings.ToLower(name), ".")
	if _, err := netip.ParseAddr(name); err == nil || name == "" || strings.HasPrefix(name, "localhost") {
		return
	}
	label, domain, _ := strings.Cut(name, ".")
	if !slices.Contains(h.labels, label) {
		h.labels = append(h.labels, label)
	}
	if strings.Contains(domain, ".") && !slices.Contains(h.domains, "."+domain) {
		h.domains = append(h.domains, "."+domain)
	}
}

// has reports whether a word of a line is such a name.
func (h *hostNames) has(word string) bool {
	word = strings.Trim(strings.ToLower(word), ".")
	if slices.ContainsFunc(h.labels, func(l string) bool { return replaceWord(word, l, "") != word }) {
		return true
	}
	return slices.ContainsFunc(h.domains, func(d string) bool { return strings.HasSuffix("."+word, d) })
}

// takeOut puts gone for such names.
func (h *hostNames) takeOut(line string) string {
	var b strings.Builder
	for len(line) > 0 {
		end := strings.IndexFunc(line, nameRune)
		if end < 0 {
			end = len(line)
		}
		b.WriteString(line[:end])
		line = line[end:]
		if end = strings.IndexFunc(line, func(r rune) bool { return !nameRune(r) }); end < 0 {
			end = len(line)
		}
		if word := line[:end]; word != "" && h.has(word) {
			b.WriteString(gone)
			word = strings.TrimRight(word, ".")
			b.WriteString(line[len(word):end])
		} else {
			b.WriteString(word)
		}
		line = line[end:]
	}
	return b.String()
}

// nameRune is what a host's name is made of, and what joins it with a longer word.
func nameRune(r rune) bool { return wordRune(r) || r == '.' || r == '-' || r == '_' }

// lines are those of the ban that may be shown, oldest first, the newest mostLines of them; more is how many others
// there were that say the same.
func (r *redactor) lines(logged []string) (shown []string, more int) {
	for _, line := range logged {
		if line, ok := r.line(line); ok {
			shown = append(shown, line)
		}
	}
	if more = len(shown) - mostLines; more > 0 {
		return shown[more:], more
	}
	return shown, 0
}

// line is a line as it may be shown; ok is false for one that the address does not stand in.
func (r *redactor) line(line string) (string, bool) {
	line, ok := head(line)
	if !ok {
		return "", false
	}
	hold := &holder{id: r.id, keepOthers: r.off}
	line = hold.addresses(clean(line))
	if !holds(line) {
		return "", false
	}
	if !r.off {
		line = r.redact(line, hold)
		if !holds(line) { // it stood in what the attacker chose, and nowhere else
			return "", false
		}
	}
	return cut(hold.back(line), longestLine), true
}

// head is the part of a line that is looked at. It ends between two words, for half an address is another one.
func head(line string) (string, bool) {
	if len(line) <= longestRead {
		return line, true
	}
	end := strings.LastIndexAny(line[:longestRead], " \t")
	return line[:max(end, 0)], end > 0
}

// redact takes out of a line what a stranger may not see. Addresses are held already.
func (r *redactor) redact(line string, hold *holder) string {
	for _, user := range r.users {
		line = replaceWord(line, hold.addresses(user), gone)
	}
	// A pattern costs ten microseconds where it does not match, a look for its words none.
	folded := lower(line)
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(folded, w) })
	}
	if says("@") {
		line = mailAddress.ReplaceAllString(line, gone)
	}
	if says("=", ":") && says("pass", "pwd", "token", "secret", "key", "sess", "sid", "cookie", "auth", "sig") {
		line = secretPair.ReplaceAllString(line, "${1}"+gone)
	}
	if says("basic ", "bearer ") {
		line = bearer.ReplaceAllString(line, "${1}"+gone)
	}
	names := says("user", "login", "logname", "account", "acct", "uname", "mail", "set_id", "authid")
	if names && says("=", ":") {
		line = userPair.ReplaceAllString(line, "${1}"+gone)
	}
	if says(" from ") && (names || says("for ")) {
		line = userFrom.ReplaceAllString(line, "${1}"+gone+"${2}")
	}
	if names || says(" for ") {
		line = userWord.ReplaceAllStringFunc(line, notWords)
	}
	if says("] fail login", "] ok login") {
		line = failLogin.ReplaceAllString(line, "["+gone+"]${1}")
	}
	if holds(line[:min(len(line), utf8.UTFMax)]) {
		line = commonLog.ReplaceAllString(line, "${1}"+gone+" [")
	}
	return r.hosts.takeOut(line)
}

// notWords takes the name out of what userWord has found, if it is one.
func notWords(found string) string {
	at := userWord.FindStringSubmatchIndex(found)
	word := strings.Trim(found[at[4]:at[5]], `:;,.()`)
	if wordNotUser[strings.ToLower(word)] || strings.ContainsRune(word, goneRune) || holds(word) {
		return found
	}
	return found[:at[4]] + gone
}

// What is taken out is one rune of private use until the end, so that no later pattern reads its name as a user's; the
// banned address' spellings are the runes behind it. clean has left no such rune of the log's own.
const (
	goneRune  = '\uE000'
	gone      = string(goneRune)
	firstHeld = '\uE001'
	lastHeld  = '\uE0FF'
)

var (
	mailAddress = regexp.MustCompile(`[^\s<>"'` + "`" + `,;:()\[\]{}=@]+@[^\s<>"'` + "`" + `,;:()\[\]{}=@]+`)
	// secretPair is a value whose key says that it is nobody's business.
	secretPair = regexp.MustCompile(`(?i)((?:pass|passwd|password|passphrase|pwd|token|secret|api_?key|apikey|session|session_?id|sessid|phpsessid|sid|cookie|auth|sig|signature)"?[=:]\s?)(?:"[^"]*"|'[^']*'|<[^>]*>|[^\s&;,"')\]}]+)`)
	bearer     = regexp.MustCompile(`(?i)((?:basic|bearer)\s+)[A-Za-z0-9+/=._~-]{8,}`)
	userPair   = regexp.MustCompile(`(?i)(\b(?:[a-z]+[_-])?(?:(?:r?user(?:_?name|_?id)?|logname|uname|set_id|authid)"?(?:=|:\s?)|(?:login|account|acct|mailbox|email|mail)(?:=|":\s?)))(?:"[^"]*"|'[^']*'|<[^>]*>|\([^)]*\)|[^\s,;&)\]}>"']+)`)
	// userFrom is a name with whatever is in it, up to the last "from" with an address behind it.
	userFrom = regexp.MustCompile(`(?i)(\b(?:for|user|login|account)\s+(?:(?:invalid|illegal|unknown)\s+user\s+)?)\S.*?(\s+from\s+(?:\S*\[)?[` + gone + `-` + string(lastHeld) + `][^` + gone + `-` + string(lastHeld) + `]*$)`)
	userWord = regexp.MustCompile(`(?i)(\b(?:user|login|account|username|login failed:|failed login for|authentication failed for|auth failed for)\s+)("[^"]*"|'[^']*'|<[^>]*>|\S+)`)
	// failLogin is how vsftpd puts it.
	failLogin = regexp.MustCompile(`\[[^\]\s]+\]( (?:FAIL|OK) LOGIN)`)
	// commonLog is the user of a web server's log, which stands third.
	commonLog = regexp.MustCompile(`^([` + string(firstHeld) + `-` + string(lastHeld) + `]\S* )[^\s\[]+ [^\[]{1,200} \[`)
)

// wordNotUser are words that follow "user" without being its name.
var wordNotUser = map[string]bool{
	"from": true, "at": true, "by": true, "is": true, "not": true, "in": true, "on": true, "for": true, "with": true, "and": true,
	"or": true, "unknown": true, "failed": true, "failure": true, "failures": true, "authentication": true, "attempt": true,
	"attempts": true, "name": true, "does": true, "has": true, "was": true, "password": true, "auth": true, "account": true,
	"login": true, "user": true, "via": true, "to": true, "because": true, "request": true, "authenticator": true, "": true,
}

// replaceWord puts with for every place of word that is one, in upper or lower case.
func replaceWord(s, word, with string) string {
	folded, word := lower(s), lower(word)
	if word == "" || !strings.Contains(folded, word) {
		return s
	}
	var b strings.Builder
	last := 0
	for from := 0; ; {
		i := strings.Index(folded[from:], word)
		if i < 0 {
			break
		}
		i += from
		end := i + len(word)
		before, _ := utf8.DecodeLastRuneInString(s[:i])
		after, _ := utf8.DecodeRuneInString(s[end:])
		if i > 0 && wordRune(before) || end < len(s) && wordRune(after) {
			from = i + 1
			continue
		}
		b.WriteString(s[last:i])
		b.WriteString(with)
		last, from = end, end
	}
	b.WriteString(s[last:])
	return b.String()
}

// lower is s with small letters for the capitals of ASCII, so that its length stays.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// A holder keeps the spellings of the banned address while a line is worked on.
type holder struct {
	id         bantam.ID
	keepOthers bool
	spellings  []string
}

// addresses puts a rune for each spelling of the banned address, and gone for other addresses.
func (h *holder) addresses(s string) string {
	var b strings.Builder
	last := 0
	for _, sp := range spans(s) {
		put := gone
		switch own := sp.addr.IsValid() && h.id.Contains(bantam.AddrID(sp.addr)); {
		case own:
			i := slices.Index(h.spellings, s[sp.from:sp.to])
			if i < 0 {
				if len(h.spellings) > int(lastHeld-firstHeld) {
					continue // nobody spells an address in 255 ways but a liar
				}
				h.spellings = append(h.spellings, s[sp.from:sp.to])
				i = len(h.spellings) - 1
			}
			put = string(firstHeld + rune(i))
		case h.keepOthers:
			continue
		}
		b.WriteString(s[last:sp.from])
		b.WriteString(put)
		last = sp.to
	}
	b.WriteString(s[last:])
	return b.String()
}

// holds reports whether a spelling of the banned address is in a text.
func holds(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= firstHeld && r <= lastHeld })
}

// back puts the addresses back, and a word for what is gone.
func (h *holder) back(line string) string {
	var b strings.Builder
	for _, r := range line {
		switch {
		case r == goneRune:
			b.WriteString(hidden)
		case r >= firstHeld && int(r-firstHeld) < len(h.spellings):
			b.WriteString(h.spellings[r-firstHeld])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// A span is a place in a text that is an address, or might be read as one; then addr is not valid.
type span struct {
	from, to int
	addr     netip.Addr
}

// spans finds the addresses in a text, in order. Its time is linear in the text's length.
func spans(s string) []span {
	var found []span
	for i := 0; i < len(s); {
		if !addressByte(s[i]) {
			i++
			continue
		}
		end := i
		colons := 0
		for end < len(s) && addressByte(s[end]) {
			if s[end] == ':' {
				colons++
			}
			end++
		}
		if sp, ok := six(s, i, end, colons); ok {
			found = append(found, sp)
		} else {
			found = fours(s, i, end, found)
		}
		i = end
	}
	return found
}

func addressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':' || c == '.'
}

// six reads an IPv6 address that fills s[from:to], but for a full stop or colon of the sentence around it.
func six(s string, from, to, colons int) (span, bool) {
	if colons < 2 {
		return span{}, false
	}
	for to > from && (s[to-1] == '.' || s[to-1] == ':' && !(to-from >= 2 && s[to-2] == ':')) {
		to--
	}
	for from < to && (s[from] == '.' || s[from] == ':' && !strings.HasPrefix(s[from:to], "::")) {
		from++
	}
	text := s[from:to]
	word := inWord(s, from, to)
	if len(text) <= 45 {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is6() {
			if word && len(text) < 8 {
				return span{}, false // std::fault and its like
			}
			if word {
				addr = netip.Addr{}
			}
			return span{from, to, addr.Unmap()}, true
		}
	}
	// Hardware addresses, and whatever else has as many groups.
	if strings.Count(text, ":") >= 5 || strings.Contains(text, "::") && len(text) >= 8 {
		return span{from: from, to: to}, true
	}
	return span{}, false
}

// fours finds the IPv4 addresses in s[from:to].
func fours(s string, from, to int, found []span) []span {
	for i := from; i < to; {
		if !fourByte(s[i]) {
			i++
			continue
		}
		end := i
		for end < to && fourByte(s[end]) {
			end++
		}
		a, b := i, end
		for a < b && s[a] == '.' {
			a++
		}
		for b > a && s[b-1] == '.' {
			b--
		}
		i = end
		if strings.Count(s[a:b], ".") < 3 || b-a > 64 || !maybeFour(s[a:b]) {
			continue
		}
		addr, err := netip.ParseAddr(s[a:b])
		if err != nil || inWord(s, a, b) {
			addr = netip.Addr{}
		}
		found = append(found, span{a, b, addr})
	}
	return found
}

func fourByte(c byte) bool { return c >= '0' && c <= '9' || c == '.' }

// maybeFour reports whether all numbers between the points are those of an address: 120.0.6099.109 is a version.
func maybeFour(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		part = strings.TrimLeft(part, "0")
		if len(part) > 3 || len(part) == 3 && part > "255" {
			return false
		}
	}
	return true
}

// inWord reports whether s[from:to] is a part of a longer word or name.
func inWord(s string, from, to int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:from])
	if from > 0 && (wordRune(before) || before == '.' && from > 1 && isAlnum(s[from-2])) {
		return true
	}
	after, _ := utf8.DecodeRuneInString(s[to:])
	return to < len(s) && (wordRune(after) || after == '.' && to+1 < len(s) && isAlnum(s[to+1]))
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// clean makes a stranger's text printable: what steers a terminal, turns the direction of writing or has no
// width is written as an escape, a tab as a space.
func clean(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1, unprintable(r) && r < 0x100:
			if n > 1 {
				b.WriteString(`\u00`)
				b.WriteByte(hex[r>>4])
				b.WriteByte(hex[r&15])
				break
			}
			b.WriteString(`\x`)
			b.WriteByte(hex[s[i]>>4])
			b.WriteByte(hex[s[i]&15])
		case unprintable(r):
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[r>>shift&15])
			}
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// unprintable are control and format characters, separators but the space, and runes of private use.
func unprintable(r rune) bool {
	return r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// cut shortens a text to max bytes, between two characters, and says so.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	end := max - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
