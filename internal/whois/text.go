package whois

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxText = 16 << 10 // bytes of Answer.Text
	maxLine = 200      // bytes of an Answer's other texts
)

// clean makes a stranger's text harmless: valid UTF-8 (what is not is taken for Latin-1, which older registries
// write) without characters that control a terminal or turn the reading direction, lines ended by newlines. A line
// that begins as a command to a mail program reading it would, with "~" or as a lone ".", is set in by a blank.
func clean(text string, most int) string {
	var b strings.Builder
	latin1 := !utf8.ValidString(text)
	start := true // at the start of a line
	for i := 0; i < len(text) && b.Len() < most; {
		r, size := utf8.DecodeRuneInString(text[i:])
		if latin1 {
			r, size = rune(text[i]), 1
		}
		i += size
		switch {
		case r == '\n', r == '\u2028', r == '\u2029':
			b.WriteByte('\n')
			start = true
			continue
		case r == '\t':
			r = ' '
		case r == utf8.RuneError, !unicode.IsPrint(r) && !unicode.IsSpace(r), unicode.IsControl(r):
			continue
		}
		if start && (r == '~' || r == '.') {
			b.WriteByte(' ')
		}
		start = false
		b.WriteRune(r)
	}
	return cut(b.String(), most)
}

// cut shortens valid UTF-8 to at most so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// cleanLine is clean for a text of one line.
func cleanLine(text string) string {
	return strings.Join(strings.Fields(clean(cut(text, 4*maxLine), maxLine)), " ")
}

// country is a code of two letters, in capitals, or nothing.
func country(text string) string {
	text = strings.ToUpper(strings.TrimSpace(text))
	if len(text) != 2 || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return ""
	}
	return text
}

// addContacts adds the mail addresses that texts hold, with commas or blanks between them, to list, up to maxContacts.
// What is no mail address is passed over.
func addContacts(list []string, texts ...string) []string {
	for _, text := range texts {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) }) {
			if len(list) >= maxContacts {
				return list
			}
			contact, ok := mailbox(word)
			same := func(other string) bool { return strings.EqualFold(contact, other) }
			if ok && !slices.ContainsFunc(list, same) {
				list = append(list, contact)
			}
		}
	}
	return list
}

// sorted is a list in order, nil if it is empty.
func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// mailbox is a mail address with its domain in lower case. It takes less than RFC 5321 does: what reaches people is
// made of plain characters, and the others ("%", "!", "|", a leading "-") mean something to some mail server or to sendmail.
func mailbox(text string) (string, bool) {
	local, domain, ok := strings.Cut(text, "@")
	if !ok || len(text) > 254 || local == "" || len(local) > 64 || local[0] == '-' ||
		local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", false
	}
	for _, r := range local {
		if !isAlphanumeric(r) && !strings.ContainsRune("._+-=", r) {
			return "", false
		}
	}
	domain = strings.ToLower(domain)
	if !isDomain(domain) {
		return "", false
	}
	switch domain[strings.LastIndexByte(domain, '.')+1:] {
	case "localhost", "local", "localdomain", "invalid":
		return "", false
	}
	return local + "@" + domain, true
}

// isDomain reports whether a text is a name of at least two labels (RFC 1035 2.3.1, RFC 1123 2.1) and no address.
func isDomain(name string) bool {
	if len(name) > 253 || !strings.Contains(name, ".") {
		return false
	}
	var label string
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if !isAlphanumeric(r) && r != '-' {
				return false
			}
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	return strings.ContainsFunc(label, unicode.IsLetter) // RFC 3696 2: a top-level domain is not all numbers
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
