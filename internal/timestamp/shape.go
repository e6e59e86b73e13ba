package timestamp

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// A shape is a set of ways in which a date may begin, told at a glance. What looks
// so need not be one; what does not is none of the formats in question.
type shape uint16

const (
	shapeYear     shape = 1 << iota // 2006-, 2006/, 2006.
	shapeName                       // Jan or Mon and a blank
	shapeNameDash                   // Jan-
	shapeDay                        // 2-0, 2/0
	shapeDayName                    // 2-J, 2/J
	shapeClock                      // 15:
	shapeSix                        // 060102 and a blank
	shapeEight                      // 20060102 and -, T or a blank
	shapeEpoch                      // ten digits
	shapeTAI                        // @
	shapeZone                       // CET and a name

	anyShape = ^shape(0)
)

// What shows its shape may have begun up to reach bytes before, with a zone.
const reach = 12

// shapesOf is one quick look at the places of text up to limit at which something
// begins that is not bound to the start of the line. A zone or weekday in front of
// a date does not count as its beginning.
func shapesOf(text []byte, limit int) (has shape) {
	if bytes.IndexByte(text, '@') >= 0 {
		has = shapeTAI
	}
	from, to, ok := mayHold(text)
	if !ok {
		return has
	}
	i := max(0, from-maxHead)
	limit = min(limit+reach, to)
	inWord := i > 0 && isWord(text[i-1]) // the character before belongs to a word
	for i < len(text) && i <= limit {
		c := text[i]
		switch {
		case isDigit(c):
			first := i
			for i++; i < len(text) && isDigit(text[i]); i++ {
			}
			if !inWord && i < len(text) {
				has |= digitShape(text, first, i)
			}
			if n := i - first; n >= 10 {
				has |= shapeEpoch
			}
			inWord = true
			continue
		case isLetter(c):
			if !inWord && i+3 < len(text) {
				switch text[i+3] {
				case ' ':
					if nameAt(text, i) {
						has |= shapeName | shapeZone
					}
				case '-':
					has |= shapeNameDash
				}
			}
			for i++; i < len(text) && isLetter(text[i]); i++ {
			}
			inWord = true
			continue
		}
		inWord = c == '_'
		i++
	}
	return has
}

// maxHead is more than any date has before the first colon of its clock.
const maxHead = 40

// mayHold reports whether text may hold a whole built-in date other than a TAI64N:
// all of them have a clock or at least eight digits together. Those without such
// digits have a clock's first colon between from and to.
func mayHold(text []byte) (from, to int, ok bool) {
	// Of eight bytes together one is at a place divisible by eight.
	for i := 7; i < len(text); i += 8 {
		if !isDigit(text[i]) {
			continue
		}
		from, to := i, i+1
		for from > 0 && isDigit(text[from-1]) {
			from--
		}
		for to < len(text) && isDigit(text[to]) {
			to++
		}
		if to-from >= 8 {
			return 0, len(text), true
		}
	}
	for i := 1; i < len(text); i++ {
		n := bytes.IndexByte(text[i:], ':')
		if n < 0 {
			break
		}
		if i += n; isDigit(text[i-1]) && (clockAt(text, i+2) || clockAt(text, i+3)) {
			if !ok {
				from, ok = i, true
			}
			to = i
		}
	}
	return from, to, ok
}

// clockAt reports whether the minutes of a clock may end at i: a digit is before it
// and a colon and a digit behind.
func clockAt(text []byte, i int) bool {
	return i+1 < len(text) && isDigit(text[i-1]) && text[i] == ':' && isDigit(text[i+1])
}

// nameAt reports whether a month's or weekday's name and a blank begin at i.
func nameAt(text []byte, i int) bool {
	return i+3 < len(text) && text[i+3] == ' ' && (monthNumber(text[i:]) > 0 || weekdayNumber(text[i:]) >= 0)
}

// shapesAtStart are the shapes of what begins at the start of the line or behind
// one or two characters there that belong to no word.
func shapesAtStart(text []byte) (has shape) {
	for i, n := 0, 0; n < 3; n++ {
		has |= shapeAt(text, i)
		size := nonWord(text[i:])
		if size == 0 {
			break
		}
		i += size
	}
	return has
}

// shapeAt is the shape of what begins at i.
func shapeAt(text []byte, i int) (has shape) {
	if i >= len(text) {
		return 0
	}
	switch c := text[i]; {
	case isDigit(c):
		end := i + 1
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		if end < len(text) {
			has = digitShape(text, i, end)
		}
		if end-i >= 10 {
			has |= shapeEpoch
		}
		return has
	case c == '@':
		return shapeTAI
	case c == ' ' || c == '<':
		// Day numbers are padded with blanks.
		if i++; i < len(text) && isDigit(text[i]) {
			return shapeDay | shapeDayName
		}
		return 0
	case isLetter(c):
		if nameAt(text, i) {
			return shapeName
		}
		if i+3 < len(text) && text[i+3] == '-' {
			return shapeNameDash
		}
	case c < utf8.RuneSelf && c != '+' && c != '-':
		return 0
	}
	if n := bytes.IndexByte(text[i:min(i+reach, len(text))], ' '); n > 0 && nameAt(text, i+n+1) {
		return shapeZone
	}
	return 0
}

// digitShape is the shape of what begins with the digits from first to end.
func digitShape(text []byte, first, end int) shape {
	c := text[end]
	switch end - first {
	case 1, 2:
		switch {
		case c == ':':
			return shapeClock
		case c != '-' && c != '/' || end+1 == len(text):
		case isLetter(text[end+1]):
			return shapeDayName
		default:
			return shapeDay
		}
	case 4:
		if c == '-' || c == '/' || c == '.' {
			return shapeYear
		}
	case 6:
		if c == ' ' {
			return shapeSix
		}
	case 8:
		if c == ' ' || c == 'T' || c == '-' {
			return shapeEight
		}
	}
	return 0
}

// mayBegin reports whether a date may begin at i: at the start of a word or at
// what is no word.
func mayBegin(text []byte, i int) bool {
	return i == 0 || classes[text[i]]&word == 0 || nonWordBefore(text[:i])
}

// nonWord is the length of the character text begins with if it belongs to no
// word, else 0; also 0 at the end. Words are Python's: letters, numbers, _.
func nonWord(text []byte) int {
	switch {
	case len(text) == 0:
		return 0
	case text[0] < utf8.RuneSelf:
		if isWord(text[0]) {
			return 0
		}
		return 1
	}
	r, size := utf8.DecodeRune(text)
	if isWordRune(r) {
		return 0
	}
	return size
}

func nonWordBefore(text []byte) bool {
	if c := text[len(text)-1]; c < utf8.RuneSelf {
		return !isWord(c)
	}
	r, _ := utf8.DecodeLastRune(text)
	return !isWordRune(r)
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || r == '_' }

// A class is a set of ASCII characters.
type class uint8

const (
	digit class = 1 << iota
	letter
	word // letters, digits, _
	blank
	at
)

var classes = func() (t [256]class) {
	for c := '0'; c <= '9'; c++ {
		t[c] = digit | word
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] = letter | word
		t[c-'a'+'A'] = letter | word
	}
	t['_'], t[' '], t['@'] = word, blank, at
	return t
}()

func isDigit(c byte) bool  { return c-'0' <= 9 }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isWord(c byte) bool   { return classes[c]&word != 0 }
