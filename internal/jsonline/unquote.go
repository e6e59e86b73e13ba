package jsonline

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote appends the text of a JSON string (RFC 8259, 7) to out. in begins behind
// its first quote; rest is what follows the last one. Half surrogates become U+FFFD.
func Unquote(out, in []byte) (text, rest []byte, ok bool) {
	for {
		i := 0
		for i < len(in) && in[i] != '"' && in[i] != '\\' {
			i++
		}
		if i == len(in) {
			return out, nil, false
		}
		out = append(out, in[:i]...)
		if in[i] == '"' {
			return out, in[i+1:], true
		}
		if len(in) < i+2 {
			return out, nil, false
		}
		c := in[i+1]
		in = in[i+2:]
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			r, ok := hex4(in)
			if !ok {
				return out, nil, false
			}
			in = in[4:]
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if bytes.HasPrefix(in, []byte(`\u`)) {
					low, ok = hex4(in[2:])
				}
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					in = in[6:]
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return out, nil, false
		}
	}
}

func hex4(in []byte) (r rune, ok bool) {
	if len(in) < 4 {
		return 0, false
	}
	for _, c := range in[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
