package filter

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A decoder gives text as valid UTF-8 without line ends in it. What it returns is
// text itself or in scratch, and valid until the next call.
type decoder func(text []byte, scratch *[]byte) []byte

// newDecoder knows the encodings by their names in Python, case and separators aside.
func newDecoder(name string) (decoder, error) {
	switch strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name)) {
	case "", "auto", "utf8", "u8", "utf", "cp65001":
		return decodeUTF8, nil
	case "ascii", "usascii", "646":
		return decodeASCII, nil
	case "latin1", "latin", "l1", "iso88591", "88591", "8859", "cp819", "iso8859":
		return decodeLatin1, nil
	}
	return nil, fmt.Errorf("the encoding %q is not built yet; there are utf-8, ascii and latin-1", name)
}

func decodeUTF8(text []byte, scratch *[]byte) []byte {
	if utf8.Valid(text) {
		return oneLine(text, scratch)
	}
	out := (*scratch)[:0]
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		out = utf8.AppendRune(out, r) // U+FFFD for what is no UTF-8
		text = text[size:]
	}
	*scratch = out
	return oneLine(out, scratch)
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
