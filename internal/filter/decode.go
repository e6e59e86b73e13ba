package filter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A decoder gives text as valid UTF-8 without line ends in it. What it returns is
// text itself or in scratch, and valid until the next call. Nil is that of UTF-8.
type decoder func(text []byte, scratch *[]byte) []byte

func (d decoder) decode(text []byte, scratch *[]byte) []byte {
	if d == nil {
		return decodeUTF8(text, scratch)
	}
	return d(text, scratch)
}

// newDecoder knows the encodings by their names in Python, case and separators aside.
// What "auto" stands for there follows from the locale; here it is UTF-8.
func newDecoder(name string) (decoder, error) {
	key := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name))
	switch key {
	case "", "auto", "utf8", "u8", "utf", "cp65001":
		return nil, nil
	case "ascii", "usascii", "646":
		return decodeASCII, nil
	case "latin1", "latin", "l1", "iso88591", "88591", "8859", "cp819", "iso8859":
		return decodeLatin1, nil
	case "utf16", "u16", "utf16le", "unicodelittleunmarked":
		return decodeUTF16(false), nil
	case "utf16be", "unicodebigunmarked":
		return decodeUTF16(true), nil
	}
	for _, other := range [...]struct{ begin, instead string }{
		{"windows", "cp"}, {"latin", "iso8859"}, {"l", "iso8859"}, {"ibm", "cp"}, {"12", "cp12"},
	} {
		if rest, ok := strings.CutPrefix(key, other.begin); ok {
			// The Latin alphabets are numbered otherwise than the parts of ISO 8859.
			if part := latinParts[rest]; part != "" && other.instead == "iso8859" {
				rest = part
			}
			key = other.instead + rest
			break
		}
	}
	if high := highHalves[key]; high != "" {
		return decodeBytes([]rune(high)), nil
	}
	return nil, fmt.Errorf("the encoding %q is not known; there are utf-8, utf-16, ascii, iso-8859-1 to -16, "+
		"cp1250 to cp1258, cp437, cp850, cp866, koi8-r and koi8-u", name)
}

// latinParts are the parts of ISO 8859 by the number of the Latin alphabet in them.
var latinParts = map[string]string{"5": "9", "6": "10", "7": "13", "8": "14", "9": "15", "10": "16"}

// isPlain reports whether text is ASCII without line ends, as most lines are.
func isPlain(text []byte) bool {
	const (
		high  = 0x8080808080808080
		low   = ^uint64(high)
		feeds = 0x0a0a0a0a0a0a0a0a
	)
	le, n := binary.LittleEndian, len(text)
	if n < 8 {
		for _, c := range text {
			if c >= utf8.RuneSelf || c == '\n' {
				return false
			}
		}
		return true
	}
	x := le.Uint64(text[n-8:]) // whose front may be read twice
	// The high bit of a byte of other is set where it is no line feed, if all are ASCII.
	all, other := x, (x^feeds)+low
	for len(text) >= 16 {
		x, y := le.Uint64(text), le.Uint64(text[8:])
		all |= x | y
		other &= ((x ^ feeds) + low) & ((y ^ feeds) + low)
		text = text[16:]
	}
	if len(text) >= 8 {
		x := le.Uint64(text)
		all |= x
		other &= (x ^ feeds) + low
	}
	return all&high == 0 && other&high == high
}

func decodeUTF8(text []byte, scratch *[]byte) []byte {
	if isPlain(text) {
		return text
	}
	if utf8.Valid(text) {
		return oneLine(text, scratch)
	}
	out := (*scratch)[:0]
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			size = illFormed(text)
		}
		out = utf8.AppendRune(out, r)
		text = text[size:]
	}
	*scratch = out
	return oneLine(out, scratch)
}

// illFormed is how many bytes at the start of text, which is no UTF-8 there, are one
// U+FFFD: as many as begin a character, at least one (The Unicode Standard, 3.9, "U+FFFD
// Substitution of Maximal Subparts"), as Python has it.
func illFormed(text []byte) int {
	low, high, size := byte(0x80), byte(0xbf), 0
	switch c := text[0]; {
	case c >= 0xc2 && c <= 0xdf:
		size = 2
	case c >= 0xe0 && c <= 0xef:
		size = 3
	case c >= 0xf0 && c <= 0xf4:
		size = 4
	default:
		return 1
	}
	switch text[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	n := 1
	for n < len(text) && n < size && text[n] >= low && text[n] <= high {
		low, high = 0x80, 0xbf
		n++
	}
	return n
}

// decodeUTF16 is the decoder of UTF-16 in the byte order of the machine that wrote it. A
// byte order mark at the start of a line counts. Lines were cut at the byte 0x0a,
// so that the other half of a line end is left over at the start or end of one.
func decodeUTF16(bigEndian bool) decoder {
	return func(text []byte, scratch *[]byte) []byte {
		big := bigEndian
		if len(text)%2 == 1 {
			switch {
			case !big && text[0] == 0:
				text = text[1:]
			case big && text[len(text)-1] == 0:
				text = text[:len(text)-1]
			}
		}
		order := func() binary.ByteOrder {
			if big {
				return binary.BigEndian
			}
			return binary.LittleEndian
		}
		if len(text) >= 2 {
			switch mark := order().Uint16(text); mark {
			case 0xfeff:
				text = text[2:]
			case 0xfffe:
				text, big = text[2:], !big
			}
		}
		out := (*scratch)[:0]
		for bo := order(); len(text) > 0; {
			if len(text) == 1 {
				out = utf8.AppendRune(out, utf8.RuneError)
				break
			}
			r := rune(bo.Uint16(text))
			text = text[2:]
			if utf16.IsSurrogate(r) {
				next := rune(0)
				if len(text) >= 2 {
					next = rune(bo.Uint16(text))
				}
				if r = utf16.DecodeRune(r, next); r != utf8.RuneError {
					text = text[2:]
				}
			}
			out = utf8.AppendRune(out, r)
		}
		*scratch = bytes.TrimRight(out, "\r")
		return oneLine(*scratch, scratch)
	}
}

// decodeBytes is the decoder of an encoding whose bytes from 0x80 on are high.
func decodeBytes(high []rune) decoder {
	return func(text []byte, scratch *[]byte) []byte {
		out := (*scratch)[:0]
		for _, c := range text {
			if c < utf8.RuneSelf {
				out = append(out, c)
			} else {
				out = utf8.AppendRune(out, high[c-utf8.RuneSelf])
			}
		}
		*scratch = out
		return oneLine(out, scratch)
	}
}

func decodeASCII(text []byte, scratch *[]byte) []byte {
	out := (*scratch)[:0]
	for _, c := range text {
		if c < utf8.RuneSelf {
			out = append(out, c)
		} else {
			out = utf8.AppendRune(out, utf8.RuneError)
		}
	}
	*scratch = out
	return oneLine(out, scratch)
}

func decodeLatin1(text []byte, scratch *[]byte) []byte {
	out := (*scratch)[:0]
	for _, c := range text {
		out = utf8.AppendRune(out, rune(c))
	}
	*scratch = out
	return oneLine(out, scratch)
}

// oneLine writes line ends inside a line as \n, as the journal's reader does, so that $
// and what stands behind a line end cannot be had by whoever logs one.
func oneLine(text []byte, scratch *[]byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 {
		return text
	}
	*scratch = bytes.ReplaceAll(text, []byte{'\n'}, []byte(`\n`))
	return *scratch
}
