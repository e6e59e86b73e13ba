package pyre

import (
	"unicode"
	"unicode/utf8"
)

// isWord is Python's \w: letters, numbers of all kinds, and the underscore.
func isWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '_' || r-'0' < 10 && r >= '0' || r|0x20 >= 'a' && r|0x20 <= 'z'
	}
	return unicode.In(r, unicode.L, unicode.N) && !isNewer(r)
}

// isDigit is Python's \d: decimal digits of all scripts.
func isDigit(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= '0' && r <= '9'
	}
	return unicode.Is(unicode.Nd, r) && !isNewer(r)
}

// isSpace is Python's \s, to which the separators 1c to 1f belong.
func isSpace(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return isASCIISpace(r) || r >= 0x1c && r <= 0x1f
	case r < 0x2000:
		return r == 0x85 || r == 0xa0 || r == 0x1680
	}
	return r <= 0x200a || r == 0x2028 || r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000
}

func isASCIISpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

// isNewer reports whether r came into Unicode after Python 3.11.
func isNewer(r rune) bool {
	if r < newer[0][0] {
		return false
	}
	for _, span := range newer {
		if r >= span[0] && r <= span[1] {
			return true
		}
	}
	return false
}

// lower is the lower case that IGNORECASE compares by; with ascii only A to Z have
// one.
func lower(r rune, ascii bool) rune {
	if r < utf8.RuneSelf || ascii {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}
	return unicode.ToLower(r)
}

// hasCase reports whether IGNORECASE makes a difference to r.
func hasCase(r rune, ascii bool) bool {
	if r < utf8.RuneSelf || ascii {
		return r|0x20 >= 'a' && r|0x20 <= 'z'
	}
	return unicode.ToLower(r) != r || unicode.ToUpper(r) != r || doubles[r] != nil
}

// A set is the characters that one place of a pattern accepts.
type set struct {
	negative  bool
	fold      bool // IGNORECASE
	onlyASCII bool // ASCII: classes and case know ASCII only
	items     []setItem

	// What match needs: the ASCII characters as bits, and what of the others.
	bits  [2]uint64
	above above
}

// A setItem is a range of characters, or a class by its letter: d, D, w, W, s, S.
type setItem struct {
	lo, hi rune
	class  byte
}

// above is which characters beyond ASCII a set holds.
type above uint8

const (
	aboveSome above = iota
	aboveNone
	aboveAll
)

// finish computes what match needs. The items must not change after.
func (s *set) finish() {
	for r := rune(0); r < utf8.RuneSelf; r++ {
		if s.holds(r) {
			s.bits[r>>6] |= 1 << (r & 63)
		}
	}
	if s.fold && !s.onlyASCII {
		return
	}
	for _, item := range s.items {
		if item.hi >= utf8.RuneSelf || item.class != 0 && !(s.onlyASCII && item.class >= 'a') {
			return
		}
	}
	s.above = aboveNone
	if s.negative {
		s.above = aboveAll
	}
}

// has reports whether the set holds r.
func (s *set) has(r rune) bool {
	if r < utf8.RuneSelf {
		return s.bits[r>>6]&(1<<(r&63)) != 0
	}
	switch s.above {
	case aboveNone:
		return false
	case aboveAll:
		return true
	}
	return s.holds(r)
}

// hasByte reports whether the set holds the ASCII character c.
func (s *set) hasByte(c byte) bool { return s.bits[c>>6&1]&(1<<(c&63)) != 0 }

// holds is has by the definition: with IGNORECASE the lower case of a character is
// looked for among the lower cases of the set's, and of their doubles.
func (s *set) holds(r rune) bool {
	if s.fold {
		r = lower(r, s.onlyASCII)
	}
	for _, item := range s.items {
		if s.itemHolds(item, r) {
			return !s.negative
		}
	}
	return s.negative
}

func (s *set) itemHolds(item setItem, r rune) bool {
	switch item.class {
	case 0:
	case 'd', 'D':
		return (isDigit(r) && (!s.onlyASCII || r < utf8.RuneSelf)) == (item.class == 'd')
	case 'w', 'W':
		return (isWord(r) && (!s.onlyASCII || r < utf8.RuneSelf)) == (item.class == 'w')
	default:
		in := isSpace(r)
		if s.onlyASCII {
			in = isASCIISpace(r)
		}
		return in == (item.class == 's')
	}
	if r >= item.lo && r <= item.hi {
		if !s.fold || lower(r, s.onlyASCII) == r {
			return true
		}
	}
	if !s.fold {
		return false
	}
	// Some character of the range has r as its lower case?
	if s.onlyASCII {
		return r >= 'a' && r <= 'z' && r-'a'+'A' >= item.lo && r-'a'+'A' <= item.hi
	}
	within := func(c rune) bool {
		for f := unicode.SimpleFold(c); ; f = unicode.SimpleFold(f) {
			if f >= item.lo && f <= item.hi && unicode.ToLower(f) == c {
				return true
			}
			if f == c {
				// The capital i with a dot is in no orbit of SimpleFold.
				return c == 'i' && item.lo <= 0x130 && 0x130 <= item.hi
			}
		}
	}
	if within(r) {
		return true
	}
	for _, double := range doubles[r] {
		if within(double) {
			return true
		}
	}
	return false
}

// single is a set of one character.
func single(r rune, f Flags) *set {
	s := &set{items: []setItem{{lo: r, hi: r}}, fold: f&IgnoreCase != 0, onlyASCII: f&ASCII != 0}
	s.finish()
	return s
}

// match is the length of the character at text[pos:] if the set has it, else 0.
func (s *set) match(text []byte, pos int) int {
	if pos >= len(text) {
		return 0
	}
	if c := text[pos]; c < utf8.RuneSelf {
		if s.hasByte(c) {
			return 1
		}
		return 0
	}
	r, size := decode(text, pos)
	if !s.has(r) {
		return 0
	}
	return size
}

// decode reads the character at text[i:], which must not be empty. What is no UTF-8
// is U+FFFD, one for each longest beginning of a character, as Python decodes with
// errors="replace" and as Unicode 14, 3.9 recommends.
func decode(text []byte, i int) (r rune, size int) {
	if c := text[i]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	r, size = utf8.DecodeRune(text[i:])
	if r != utf8.RuneError || size != 1 {
		return r, size
	}
	return utf8.RuneError, badLength(text[i:])
}

// badLength is how many bytes one U+FFFD stands for at the start of b, where there
// is no character.
func badLength(b []byte) int {
	lo, hi, need := byte(0x80), byte(0xbf), 0
	switch c := b[0]; {
	case c >= 0xc2 && c <= 0xdf:
		need = 1
	case c >= 0xe0 && c <= 0xef:
		need = 2
		if c == 0xe0 {
			lo = 0xa0
		}
		if c == 0xed {
			hi = 0x9f
		}
	case c >= 0xf0 && c <= 0xf4:
		need = 3
		if c == 0xf0 {
			lo = 0x90
		}
		if c == 0xf4 {
			hi = 0x8f
		}
	}
	n := 1
	for n <= need && n < len(b) && b[n] >= lo && b[n] <= hi {
		lo, hi = 0x80, 0xbf
		n++
	}
	return n
}

// before is where the character that ends at text[:i] starts; i > 0 must be the end
// of one.
func before(text []byte, i int) int {
	if text[i-1] < utf8.RuneSelf {
		return i - 1
	}
	for q := i - 1; q >= 0 && q >= i-4; q-- {
		if utf8.RuneStart(text[q]) {
			if _, size := decode(text, q); q+size == i {
				return q
			}
			break
		}
	}
	return i - 1
}

// wordAt reports whether the characters before and behind i differ in being of a word.
func wordAt(text []byte, i int, ascii bool) bool {
	var left, right bool
	if i > 0 {
		r, _ := decode(text, before(text, i))
		left = isWord(r) && (!ascii || r < utf8.RuneSelf)
	}
	if i < len(text) {
		r, _ := decode(text, i)
		right = isWord(r) && (!ascii || r < utf8.RuneSelf)
	}
	return left != right
}
