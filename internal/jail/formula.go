package jail

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// A Formula is an expression in Python's syntax for a number: `ban.Time * (1 <<
// min(ban.Count, 20)) * banFactor`. It is only ever computed, never run: there is
// no loop in it, no call of anything but the functions of numbers it knows, and no
// number beyond a few thousand bits, so that each takes a bounded time and room.
//
// It knows + - * / // % ** << >> & | ^ ~, comparisons (chained ones, too), and, or,
// not, `a if c else b`, parentheses, True and False, float, int, bool, abs, round, min,
// max, pow, most of math, and of random: random, uniform, randint. Whole numbers are
// exact, as in Python.
//
// A Formula does not change and may be used at once by several.
type Formula struct {
	text string
	root expression
}

// Bounds of a formula.
const (
	maxFormula = 1000 // bytes
	maxDepth   = 100  // of parentheses, signs and the like inside one another
	maxArgs    = 100  // of one function
)

// defaultFormula doubles with each ban, twenty times at most.
var defaultFormula = mustParse("ban.Time * (1 << min(ban.Count, 20)) * banFactor")

func mustParse(text string) *Formula {
	f, err := ParseFormula(text)
	if err != nil {
		panic(err)
	}
	return f
}

// variables are what a formula may ask for.
type variables struct {
	named  bool   // false for what knows no ban, as a factor does
	time   number // the jail's bantime in seconds
	count  int    // bans before this one
	factor number
	chance *rand.Rand
}

// An expression computes a part of a formula.
type expression func(*variables) (number, error)

// ParseFormula reads a formula. The error names the place, counting characters
// from 1 on.
func ParseFormula(text string) (*Formula, error) {
	if len(text) > maxFormula {
		return nil, fmt.Errorf("the formula is longer than %d characters", maxFormula)
	}
	p := &formulaParser{text: text}
	root, err := p.whole()
	if err != nil {
		return nil, err
	}
	return &Formula{text: text, root: root}, nil
}

// String is the formula as it was written.
func (f *Formula) String() string { return f.text }

// compute is the formula's value.
func (f *Formula) compute(v *variables) (number, error) { return f.root(v) }

type tokenKind int

const (
	atEnd tokenKind = iota
	aNumber
	aName
	anOperator
)

type token struct {
	kind tokenKind
	text string
	at   int // where it begins, in bytes
}

type formulaParser struct {
	text  string
	pos   int // behind the token
	token token
	depth int
}

// wrong is an error at a place in the formula.
func (p *formulaParser) wrong(at int, format string, args ...any) error {
	return fmt.Errorf("at character %d: %s", utf8.RuneCountInString(p.text[:at])+1, fmt.Sprintf(format, args...))
}

// unexpected is the error for a token that cannot stand where it does.
func (p *formulaParser) unexpected(want string) error {
	if p.token.kind == atEnd {
		return p.wrong(p.token.at, "it ends where %s should be", want)
	}
	return p.wrong(p.token.at, "%.40q stands where %s should be", p.token.text, want)
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// operators in such an order that a longer one comes before its beginning.
var operators = strings.Fields("** // << >> <= >= == != + - * / % < > & | ^ ~ ( ) , .")

// next reads a token. A # begins a comment, as in Python.
func (p *formulaParser) next() error {
	for p.pos < len(p.text) {
		if c := p.text[p.pos]; c == '#' {
			end := strings.IndexByte(p.text[p.pos:], '\n')
			if end < 0 {
				end = len(p.text) - p.pos
			}
			p.pos += end
		} else if c == ' ' || c >= '\t' && c <= '\r' {
			p.pos++
		} else {
			break
		}
	}
	rest := p.text[p.pos:]
	p.token = token{at: p.pos}
	switch {
	case rest == "":
		return nil
	case isDigit(rest[0]), rest[0] == '.' && len(rest) > 1 && isDigit(rest[1]):
		p.token.kind, p.token.text = aNumber, numberForm.FindString(rest)
		if end := len(p.token.text); end < len(rest) && (isLetter(rest[end]) || isDigit(rest[end])) {
			return p.wrong(p.pos, "the number is not understood")
		}
	case isLetter(rest[0]):
		end := 1
		for end < len(rest) && (isLetter(rest[end]) || isDigit(rest[end])) {
			end++
		}
		p.token.kind, p.token.text = aName, rest[:end]
	default:
		for _, op := range operators {
			if strings.HasPrefix(rest, op) {
				p.token.kind, p.token.text = anOperator, op
				break
			}
		}
		if p.token.text == "" {
			r, _ := utf8.DecodeRuneInString(rest)
			return p.wrong(p.pos, "%q has no meaning in a formula", r)
		}
	}
	p.pos += len(p.token.text)
	return nil
}

// accept reads the next token if this one is text, an operator or a word.
func (p *formulaParser) accept(text string) (bool, error) {
	if p.token.kind != anOperator && p.token.kind != aName || p.token.text != text {
		return false, nil
	}
	return true, p.next()
}

func (p *formulaParser) expect(text string) error {
	ok, err := p.accept(text)
	if err == nil && !ok {
		err = p.unexpected(fmt.Sprintf("%q", text))
	}
	return err
}

// deeper does one more level of nesting.
func (p *formulaParser) deeper(parse func() (expression, error)) (expression, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.wrong(p.token.at, "it is nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	return parse()
}

func (p *formulaParser) whole() (expression, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	e, err := p.conditional()
	if err == nil && p.token.kind != atEnd {
		err = p.unexpected("an operator")
	}
	return e, err
}

func (p *formulaParser) conditional() (expression, error) { return p.deeper(p.ifElse) }

func (p *formulaParser) ifElse() (expression, error) {
	then, err := p.either()
	if err != nil {
		return nil, err
	}
	if ok, err := p.accept("if"); !ok || err != nil {
		return then, err
	}
	condition, err := p.either()
	if err == nil {
		err = p.expect("else")
	}
	if err != nil {
		return nil, err
	}
	otherwise, err := p.conditional()
	if err != nil {
		return nil, err
	}
	return func(v *variables) (number, error) {
		c, err := condition(v)
		switch {
		case err != nil:
			return number{}, err
		case c.truth():
			return then(v)
		}
		return otherwise(v)
	}, nil
}

func (p *formulaParser) either() (expression, error) { return p.logical("or", true, p.both) }
func (p *formulaParser) both() (expression, error)   { return p.logical("and", false, p.negation) }

// logical is operands joined by a word; the first whose truth is stop is the value,
// else the last.
func (p *formulaParser) logical(word string, stop bool, operand func() (expression, error)) (expression, error) {
	left, err := operand()
	for err == nil {
		ok, err := p.accept(word)
		if !ok || err != nil {
			return left, err
		}
		first := left
		second, err := operand()
		if err != nil {
			return nil, err
		}
		left = func(v *variables) (number, error) {
			x, err := first(v)
			if err != nil || x.truth() == stop {
				return x, err
			}
			return second(v)
		}
	}
	return nil, err
}

func (p *formulaParser) negation() (expression, error) {
	if ok, err := p.accept("not"); !ok || err != nil {
		if err != nil {
			return nil, err
		}
		return p.comparison()
	}
	operand, err := p.deeper(p.negation)
	if err != nil {
		return nil, err
	}
	return func(v *variables) (number, error) {
		x, err := operand(v)
		return truth(!x.truth()), err
	}, nil
}

// comparison is a chain: a < b < c is a < b and b < c.
func (p *formulaParser) comparison() (expression, error) {
	first, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	var links []string
	operands := []expression{first}
	for p.token.kind == anOperator {
		op := p.token.text
		if _, ok := comparisons[op]; !ok {
			break
		}
		if err := p.next(); err != nil {
			return nil, err
		}
		operand, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		links, operands = append(links, op), append(operands, operand)
	}
	if len(links) == 0 {
		return first, nil
	}
	return func(v *variables) (number, error) {
		left, err := operands[0](v)
		if err != nil {
			return number{}, err
		}
		for i, op := range links {
			right, err := operands[i+1](v)
			if err != nil {
				return number{}, err
			}
			if !comparisons[op](left.compare(right)) {
				return truth(false), nil
			}
			left = right
		}
		return truth(true), nil
	}, nil
}

// levels are the operators of two operands, weakest first.
var levels = []string{"|", "^", "&", "<< >>", "+ -", "* / // %"}

func (p *formulaParser) binary(level int) (expression, error) {
	if level == len(levels) {
		return p.sign()
	}
	left, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for p.token.kind == anOperator && strings.Contains(" "+levels[level]+" ", " "+p.token.text+" ") {
		op := arithmetic[p.token.text]
		if err := p.next(); err != nil {
			return nil, err
		}
		right, err := p.binary(level + 1)
		if err != nil {
			return nil, err
		}
		left = apply(op, left, right)
	}
	return left, nil
}

func apply(op func(a, b number) (number, error), left, right expression) expression {
	return func(v *variables) (number, error) {
		a, err := left(v)
		if err != nil {
			return number{}, err
		}
		b, err := right(v)
		if err != nil {
			return number{}, err
		}
		return op(a, b)
	}
}

func (p *formulaParser) sign() (expression, error) {
	op := p.token
	if op.kind != anOperator || !strings.Contains("+-~", op.text) {
		return p.power()
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	operand, err := p.deeper(p.sign)
	if err != nil {
		return nil, err
	}
	return func(v *variables) (number, error) {
		x, err := operand(v)
		if err != nil {
			return number{}, err
		}
		switch op.text {
		case "-":
			return subtract(whole(0), x)
		case "~":
			if x.i == nil {
				return number{}, errWhole
			}
			return number{i: new(big.Int).Not(x.i)}, nil
		}
		return x, nil
	}, nil
}

// power binds tighter than a sign before it and looser than one behind it.
func (p *formulaParser) power() (expression, error) {
	base, err := p.atom()
	if err != nil {
		return nil, err
	}
	if ok, err := p.accept("**"); !ok || err != nil {
		return base, err
	}
	exponent, err := p.deeper(p.sign)
	if err != nil {
		return nil, err
	}
	return apply(raise, base, exponent), nil
}

func (p *formulaParser) atom() (expression, error) {
	t := p.token
	switch {
	case t.kind == aNumber:
		x, err := parseNumber(t.text)
		if err != nil {
			return nil, p.wrong(t.at, "%v", err)
		}
		return func(*variables) (number, error) { return x, nil }, p.next()
	case t.kind == aName:
		return p.name()
	case t.kind == anOperator && t.text == "(":
		if err := p.next(); err != nil {
			return nil, err
		}
		e, err := p.conditional()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	}
	return nil, p.unexpected("a number")
}

// names are what a formula calls its variables and constants.
var names = map[string]expression{
	"ban.Time":  ofBan(func(v *variables) number { return v.time }),
	"ban.Count": ofBan(func(v *variables) number { return whole(int64(v.count)) }),
	"banFactor": ofBan(func(v *variables) number { return v.factor }),
	"True":      func(*variables) (number, error) { return whole(1), nil },
	"False":     func(*variables) (number, error) { return whole(0), nil },
}

var errNoBan = errors.New("ban.Time, ban.Count and banFactor belong into bantime.formula")

func ofBan(get func(*variables) number) expression {
	return func(v *variables) (number, error) {
		if !v.named {
			return number{}, errNoBan
		}
		return get(v), nil
	}
}

// name is a variable, a constant or a function with its operands.
func (p *formulaParser) name() (expression, error) {
	at, name := p.token.at, p.token.text
	if err := p.next(); err != nil {
		return nil, err
	}
	for p.token.kind == anOperator && p.token.text == "." {
		if err := p.next(); err != nil {
			return nil, err
		}
		if p.token.kind != aName {
			return nil, p.unexpected("a name")
		}
		name += "." + p.token.text
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if e, ok := names[name]; ok {
		return e, nil
	}
	if x, ok := constants[name]; ok {
		return func(*variables) (number, error) { return decimal(x), nil }, nil
	}
	f, ok := functions[name]
	if !ok {
		return nil, p.wrong(at, "there is no %.40s; a formula knows ban.Time, ban.Count, banFactor, and functions such as min, max, math.exp", name)
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	args, err := p.arguments()
	if err != nil {
		return nil, err
	}
	if len(args) < f.least || len(args) > f.most {
		return nil, p.wrong(at, "%s cannot take %d numbers", name, len(args))
	}
	return func(v *variables) (number, error) {
		values := make([]number, len(args))
		for i, arg := range args {
			var err error
			if values[i], err = arg(v); err != nil {
				return number{}, err
			}
		}
		x, err := f.call(values, v.chance)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return x, err
	}, nil
}

// arguments are expressions between commas up to the closing parenthesis.
func (p *formulaParser) arguments() ([]expression, error) {
	var args []expression
	for {
		if ok, err := p.accept(")"); ok || err != nil {
			return args, err
		}
		if len(args) == maxArgs {
			return nil, p.wrong(p.token.at, "more than %d numbers", maxArgs)
		}
		arg, err := p.conditional()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		if ok, err := p.accept(","); err != nil {
			return nil, err
		} else if !ok {
			return args, p.expect(")")
		}
	}
}
