package timestamp

import (
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
	shapeAlways                     // every line's

	anyShape = ^shape(0)
)

// What shows its shape may have begun up to reach bytes before, with the name of a
// zone; what is bound to the start of the line also has two characters before it.
const (
	reach         = 8
	anchoredReach = reach + 2*utf8.UTFMax
)

// shapesOf is one quick look at the places of text up to limit at which something
// begins. A zone or weekday in front of a date does not count as its beginning.
func shapesOf(text []byte, limit int) (has shape) {
	has = shapeAlways
	word := false // the character before belongs to a word
	for i := 0; i < len(text) && i <= limit; {
		c := text[i]
		switch {
		case isDigit(c):
			first := i
			for i++; i < len(text) && isDigit(text[i]); i++ {
			}
			if !word && i < len(text) {
				has |= digitShape(text, first, i)
			}
			if n := i - first; n >= 10 {
				has |= shapeEpoch
			}
			word = true
			continue
		case isLetter(c):
			if !word && i+3 < len(text) {
				switch text[i+3] {
				case ' ':
					if monthNumber(text[i:]) > 0 || weekdayNumber(text[i:]) >= 0 {
						has |= shapeName
					}
				case '-':
					has |= shapeNameDash
				}
			}
			for i++; i < len(text) && isLetter(text[i]); i++ {
			}
			word = true
			continue
		case c == '@':
			has |= shapeTAI
		}
		word = c == '_'
		i++
	}
	return has
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
	return i == 0 || !isWord(text[i]) || nonWordBefore(text[:i])
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
