package tag

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Repr is a text as Python's repr writes it: in single quotes, or in double ones if only single
// ones occur in it, and with everything that does not print escaped. A byte that is no UTF-8 is
// written as the surrogate that Python reads it as (PEP 383).
func Repr(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	escape := func(letter byte, digits int, r rune) {
		b.WriteByte('\\')
		b.WriteByte(letter)
		for i := digits - 1; i >= 0; i-- {
			b.WriteByte("0123456789abcdef"[r>>(4*i)&0xf])
		}
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				escape('u', 4, 0xdc00|rune(s[i]))
				continue
			}
		}
		switch {
		case r == '\\' || r == quote:
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			escape('x', 2, r)
		case r < 0x10000:
			escape('u', 4, r)
		default:
			escape('U', 8, r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
