package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// units are the spellings of time units and their seconds (detection.md 1.8). A
// month is a twelfth of a year of 365.25 days. "M" is a minute: case does not count.
var units = map[string]int{}

func init() {
	for seconds, names := range map[int]string{
		1:        "s ss se sec second seconds",
		60:       "m mm mi min minute minutes",
		3600:     "h hh ho hou hour hours",
		86400:    "d dd da day days",
		604800:   "w ww we wee week weeks",
		2629800:  "mo mon month months",
		31557600: "y yy ye yea year years",
	} {
		for name := range strings.FieldsSeq(names) {
			units[name] = seconds
		}
	}
}

const unitHint = "use s, m, h, d or w, as in 10m"

// maxTimeText bounds a time expression; nobody writes a longer one.
const maxTimeText = 1000

var (
	letterDigit = regexp.MustCompile(`([A-Za-z])(\d)`)
	unitWord    = regexp.MustCompile(`([\d\s])([A-Za-z]+)\b`)
	digitDigit  = regexp.MustCompile(`(\d)\s+(\d)`)
)

// seconds evaluates a time expression such as "10m", "1d 12h" or "2*3600".
func seconds(text string) (float64, error) {
	if len(text) > maxTimeText {
		return 0, fmt.Errorf("the time is longer than %d characters", maxTimeText)
	}
	if at := strings.IndexByte(text, '#'); at >= 0 {
		text = text[:at]
	}
	if trim(text) == "" {
		return 0, fmt.Errorf("the time is empty")
	}
	var unknown string
	s := letterDigit.ReplaceAllString(text, "$1 $2")
	s = unitWord.ReplaceAllStringFunc(s, func(m string) string {
		n, ok := units[strings.ToLower(m[1:])]
		if !ok {
			if unknown == "" {
				unknown = m[1:]
			}
			return m
		}
		return m[:1] + "*" + strconv.Itoa(n)
	})
	if unknown != "" {
		return 0, fmt.Errorf("unknown unit %s in %s", quote(unknown), quote(trim(text)))
	}
	// Three digits in a row need two passes, because matches do not overlap.
	s = digitDigit.ReplaceAllString(digitDigit.ReplaceAllString(s, "$1+$2"), "$1+$2")
	c := sum{rest: s}
	f, ok := c.terms(0)
	c.blank()
	switch {
	case !ok || c.rest != "":
		return 0, fmt.Errorf("%s is not a time", quote(trim(text)))
	case math.IsInf(f, 0) || math.IsNaN(f):
		return 0, fmt.Errorf("%s is no finite time", quote(trim(text)))
	}
	return f, nil
}

// sum evaluates + - * / and parentheses over decimal numbers.
type sum struct{ rest string }

func (c *sum) blank() { c.rest = strings.TrimLeftFunc(c.rest, isSpace) }

func (c *sum) accept(ops string) byte {
	c.blank()
	if c.rest == "" || strings.IndexByte(ops, c.rest[0]) < 0 {
		return 0
	}
	op := c.rest[0]
	c.rest = c.rest[1:]
	return op
}

func (c *sum) terms(depth int) (float64, bool) {
	f, ok := c.factors(depth)
	for ok {
		op := c.accept("+-")
		if op == 0 {
			return f, true
		}
		var g float64
		if g, ok = c.factors(depth); op == '+' {
			f += g
		} else {
			f -= g
		}
	}
	return 0, false
}

func (c *sum) factors(depth int) (float64, bool) {
	f, ok := c.atom(depth)
	for ok {
		op := c.accept("*/")
		if op == 0 {
			return f, true
		}
		var g float64
		if g, ok = c.atom(depth); op == '*' {
			f *= g
		} else {
			f, ok = f/g, ok && g != 0
		}
	}
	return 0, false
}

// maxParens is how deep parentheses and signs may be nested.
const maxParens = 50

func (c *sum) atom(depth int) (float64, bool) {
	if depth > maxParens {
		return 0, false
	}
	switch c.accept("+-(") {
	case '+':
		return c.atom(depth + 1)
	case '-':
		f, ok := c.atom(depth + 1)
		return -f, ok
	case '(':
		f, ok := c.terms(depth + 1)
		return f, ok && c.accept(")") != 0
	}
	return c.number()
}

var number = regexp.MustCompile(`^(?:\d+(?:_\d+)*)?(?:\.(?:\d+(?:_\d+)*)?)?`)

// number reads an integer without leading zeros or a decimal fraction, either
// with single underscores between digits, as Python writes them.
func (c *sum) number() (float64, bool) {
	c.blank()
	text := number.FindString(c.rest)
	digits := strings.ReplaceAll(text, "_", "")
	if digits == "" || digits == "." {
		return 0, false
	}
	if !strings.Contains(digits, ".") && digits[0] == '0' && strings.Trim(digits, "0") != "" {
		return 0, false
	}
	c.rest = c.rest[len(text):]
	f, err := strconv.ParseFloat(digits, 64)
	return f, err == nil
}

// duration is a number of seconds as a time.Duration; ok is false if it has no room.
func duration(seconds float64) (d time.Duration, ok bool) {
	const most = float64(math.MaxInt64 / int64(time.Second))
	if seconds > most || seconds < -most {
		return 0, false
	}
	whole, frac := math.Modf(seconds)
	return time.Duration(whole)*time.Second + time.Duration(math.Round(frac*float64(time.Second))), true
}

// boolean reads a truth value as Fail2Ban does: 1, on, true and yes are true and
// everything else is false. known is false for what is none of the usual words.
func boolean(text string) (value, known bool) {
	switch strings.ToLower(text) {
	case "1", "on", "true", "yes":
		return true, true
	case "0", "off", "false", "no", "":
		return false, true
	}
	return false, false
}

var integerForm = regexp.MustCompile(`^[+-]?\d+(?:_\d+)*$`)

// integer reads a number as Python's int() does.
func integer(text string) (int, error) {
	text = trim(text)
	if !integerForm.MatchString(text) {
		return 0, fmt.Errorf("%s is not a whole number", quote(text))
	}
	n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
		return 0, fmt.Errorf("%s is out of range", quote(text))
	}
	return n, nil
}

// lines are the lines of text without outer blanks, empty ones left out.
func lines(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = trim(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// shellWords cuts a line into words as a POSIX shell would, with quotes and
// backslashes but without any expansion.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quoted, escaped := false, rune(0), false
	for _, r := range line {
		switch {
		case escaped:
			if quoted == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quoted != '\'':
			escaped, in = true, true
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quoted, in = r, true
		case r == ' ' || r == '\t' || r == '\r' || r == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quoted != 0 {
		return nil, fmt.Errorf("a quote is not closed in %s", quote(line))
	}
	if escaped {
		return nil, fmt.Errorf("nothing follows the backslash in %s", quote(line))
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
