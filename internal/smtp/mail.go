package smtp

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

// What a mail may hold. A text that is longer is cut and says so; what else is too large is refused.
const (
	MaxSubject    = 250      // characters
	MaxBody       = 1 << 20  // bytes of Text, and of HTML, which is not cut
	MaxData       = 16 << 20 // bytes of a Packet's Data, parts in base64 included
	MaxRecipients = 100
)

// Address reads an address as in a header, "Bantam <bantam@example.org>" or "bantam@example.org".
// Whoever wrote it may be a stranger: an address that could be anything else to a mail
// server or on a command line is refused, as are domains that are not in ASCII.
func Address(text string) (mail.Address, error) {
	if strings.ContainsAny(text, "\r\n\x00") || len(text) > 1000 {
		return mail.Address{}, fmt.Errorf("address %s: not one line", quote(text))
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return mail.Address{}, fmt.Errorf("address %s: one like name@example.org is wanted", quote(text))
	}
	// RFC 5321 4.5.3.1: 64 and 255 octets, 256 for both with the angle brackets.
	local, domain, _ := cutLast(a.Address, "@")
	switch {
	case len(a.Address) > 254 || len(local) > 64:
		return mail.Address{}, fmt.Errorf("address %s: too long", quote(text))
	case !isDotAtom(local) || strings.HasPrefix(local, "-"):
		return mail.Address{}, fmt.Errorf("address %s: the name before the @ holds what mail servers quarrel about", quote(text))
	case !isDomain(domain):
		return mail.Address{}, fmt.Errorf("address %s: %s is no domain; "+
			"one with other letters than a to z is written in its xn-- form", quote(text), quote(domain))
	}
	a.Name = oneLine(a.Name)
	if utf8.RuneCountInString(a.Name) > 100 {
		a.Name = string([]rune(a.Name)[:100])
	}
	return *a, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// isDotAtom reports whether s needs no quotes before an @: RFC 5322 3.2.3.
func isDotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

// isDomain reports whether s is a host name, or an address literal such as [192.0.2.1].
func isDomain(s string) bool {
	literal, bracket := strings.CutPrefix(s, "[")
	if bracket {
		literal, bracket = strings.CutSuffix(literal, "]")
		for i := range len(literal) {
			if c := literal[i]; !isAlnum(c) && c != '.' && c != ':' {
				return false
			}
		}
		return bracket && literal != ""
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// quote makes a stranger's text harmless and short.
func quote(text string) string {
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}

// shown is what becomes of a character that does not show, or shows what is not there: control
// characters, and those that turn the direction of what follows (Unicode UAX 9, as in CVE-2021-42574).
func shown(r rune) (instead string, hidden bool) {
	switch {
	case r < 0x20 || r == 0x7f || 0x80 <= r && r < 0xa0:
		return fmt.Sprintf(`\x%02x`, r), true
	case unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
		return fmt.Sprintf(`\u%04x`, r), true
	}
	return "", false
}

// visible is a body's text in which everything shows; lines and tabs stay.
func visible(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\r\n", "\n")
	if strings.IndexFunc(text, func(r rune) bool { _, hidden := shown(r); return hidden && r != '\n' && r != '\t' }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if instead, hidden := shown(r); hidden && r != '\n' && r != '\t' {
			b.WriteString(instead)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// oneLine is a text for a header: line ends, tabs and NUL are blanks, and what does not show is made
// visible.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\r', '\n', '\t', '\x00', '\u2028', '\u2029':
			return ' '
		}
		return r
	}, text)
	// What looks like an encoded word (RFC 2047) would be decoded by the reader's program.
	text = strings.ReplaceAll(visible(text), "=?", "= ?")
	return strings.Join(strings.Fields(text), " ")
}

// cut shortens a text to n bytes and says so.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const note = "\n[…]\n"
	return strings.ToValidUTF8(text[:n-len(note)], "") + note
}

// Packet writes the mail out. In the Subject line ends become blanks; there and in the bodies what
// would not show is made visible. Addresses are refused rather than repaired: every text in them, and in ID and
// the parts' Type, must be on one line. Nobody gets it twice who is named twice.
func (m Mail) Packet() (Packet, error) {
	if m.ID == "" || len(m.ID) > 200 || !isDotAtom(m.ID) {
		return Packet{}, fmt.Errorf("write mail: %s does not go into a Message-ID", quote(m.ID))
	}
	from, err := Address(m.From)
	if err != nil {
		return Packet{}, fmt.Errorf("write mail: from %w", err)
	}
	p := Packet{From: from.Address}
	var to, cc []*mail.Address
	known := map[string]bool{}
	for _, list := range []struct {
		name      string
		addresses []string
		shown     *[]*mail.Address
	}{{"to", m.To, &to}, {"cc", m.Cc, &cc}, {"bcc", m.Bcc, nil}} {
		for _, text := range list.addresses {
			a, err := Address(text)
			if err != nil {
				return Packet{}, fmt.Errorf("write mail: %s %w", list.name, err)
			}
			if key := strings.ToLower(a.Address); known[key] {
				continue
			} else {
				known[key] = true
			}
			p.To = append(p.To, a.Address)
			if list.shown != nil {
				*list.shown = append(*list.shown, &a)
			}
		}
	}
	switch {
	case len(p.To) == 0:
		return Packet{}, fmt.Errorf("write mail: nobody to send it to")
	case len(p.To) > MaxRecipients:
		return Packet{}, fmt.Errorf("write mail: %d recipients, more than %d", len(p.To), MaxRecipients)
	case len(m.HTML) > MaxBody:
		return Packet{}, fmt.Errorf("write mail: %d bytes of HTML, more than %d", len(m.HTML), MaxBody)
	}

	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	_, domain, _ := cutLast(from.Address, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetDateWithValue(m.date())
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday answers it
	subject := oneLine(m.Subject)
	if utf8.RuneCountInString(subject) > MaxSubject {
		subject = string([]rune(subject)[:MaxSubject-1]) + "…"
	}
	msg.Subject(subject)
	msg.FromMailAddress(&from)
	if len(to) > 0 {
		msg.ToMailAddress(to...)
	}
	if len(cc) > 0 {
		msg.CcMailAddress(cc...)
	}
	msg.SetBodyString(gomail.TypeTextPlain, visible(cut(m.Text, MaxBody)))
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, visible(m.HTML))
	}
	size := 0
	for _, part := range m.Parts {
		if size += base64.StdEncoding.EncodedLen(len(part.Data)); size > MaxData {
			return Packet{}, fmt.Errorf("write mail: its parts are more than %d bytes", MaxData)
		}
		if err := attach(msg, part); err != nil {
			return Packet{}, fmt.Errorf("write mail: %w", err)
		}
	}
	var data bytes.Buffer
	if _, err := msg.WriteTo(&data); err != nil {
		return Packet{}, fmt.Errorf("write mail: %w", err)
	}
	if data.Len() > MaxData {
		return Packet{}, fmt.Errorf("write mail: %d bytes, more than %d", data.Len(), MaxData)
	}
	p.Data = data.Bytes()
	return p, nil
}

func (m Mail) date() time.Time {
	if m.Date.IsZero() {
		return time.Now()
	}
	return m.Date
}

// attach adds a file: plain text as it is, so that it can be read on its way, anything else in base64.
func attach(msg *gomail.Msg, part Part) error {
	if strings.ContainsAny(part.Type, "\r\n\x00") || len(part.Type) > 200 {
		return fmt.Errorf("part %s: type %s: not one line", quote(part.Name), quote(part.Type))
	}
	kind, params, err := mime.ParseMediaType(part.Type)
	if err != nil || !strings.Contains(kind, "/") || strings.HasPrefix(kind, "multipart/") {
		return fmt.Errorf("part %s: %s is no media type of a file", quote(part.Name), quote(part.Type))
	}
	encoding, plain := gomail.EncodingB64, isPlain(part.Data)
	switch {
	case plain && (strings.HasPrefix(kind, "text/") || strings.HasPrefix(kind, "message/")):
		encoding = gomail.NoEncoding
		lines := bytes.ReplaceAll(part.Data, []byte("\r\n"), []byte("\n"))
		part.Data = bytes.ReplaceAll(lines, []byte("\n"), []byte("\r\n"))
	case strings.HasPrefix(kind, "message/"): // RFC 2046 5.2: they must not be encoded
		return fmt.Errorf("part %s: %s must be lines of ASCII", quote(part.Name), kind)
	}
	name := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !isAlnum(byte(r)) && !strings.ContainsRune("._-+", r) {
			return '_'
		}
		return r
	}, part.Name)
	name = name[:min(len(name), 100)]
	if name == "" {
		name = "part"
	}
	// Written anew, so that only what was understood goes out.
	kind = mime.FormatMediaType(kind, params)
	if kind == "" {
		return fmt.Errorf("part %s: %s is no media type of a file", quote(part.Name), quote(part.Type))
	}
	return msg.AttachReader(name, bytes.NewReader(part.Data),
		gomail.WithFileContentType(gomail.ContentType(kind)), gomail.WithFileEncoding(encoding))
}

// isPlain reports whether data may travel as it is: lines of at most 998 characters (RFC 2045 2.7), all of which show.
func isPlain(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > 998 || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
			return false
		}
	}
	return true
}
