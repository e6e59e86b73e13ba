package jail

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

// A number is what a formula computes with: a whole one of any size, or a decimal
// one, with the rules that Python's int and float have.
type number struct {
	i *big.Int // nil for a decimal number
	f float64
}

// maxBits bounds whole numbers; 300 years in seconds take 34.
const maxBits = 4096

var (
	errTooLarge = errors.New("the result is too large")
	errZero     = errors.New("division by zero")
	errWhole    = errors.New("a whole number is needed")
	errDomain   = errors.New("it has no value there")
)

func whole(n int64) number      { return number{i: big.NewInt(n)} }
func decimal(f float64) number  { return number{f: f} }
func (x number) truth() bool    { return x.i != nil && x.i.Sign() != 0 || x.i == nil && x.f != 0 }
func (x number) fraction() bool { return x.i == nil }

func truth(b bool) number {
	if b {
		return whole(1)
	}
	return whole(0)
}

// float is x as a decimal number.
func (x number) float() (float64, error) {
	if x.fraction() {
		return x.f, nil
	}
	f, _ := new(big.Float).SetInt(x.i).Float64()
	if math.IsInf(f, 0) {
		return f, errTooLarge
	}
	return f, nil
}

// compare is -1, 0 or 1, and exact; 2 where one of them is not a number.
func (x number) compare(y number) int {
	if x.fraction() && math.IsNaN(x.f) || y.fraction() && math.IsNaN(y.f) {
		return 2
	}
	return x.exact().Cmp(y.exact())
}

func (x number) exact() *big.Float {
	if x.fraction() {
		return big.NewFloat(x.f)
	}
	return new(big.Float).SetInt(x.i)
}

// comparisons say which results of compare they are true for.
var comparisons = map[string]func(int) bool{
	"<":  func(c int) bool { return c == -1 },
	"<=": func(c int) bool { return c == -1 || c == 0 },
	">":  func(c int) bool { return c == 1 },
	">=": func(c int) bool { return c == 1 || c == 0 },
	"==": func(c int) bool { return c == 0 },
	"!=": func(c int) bool { return c != 0 },
}

// arithmetic are the operators of two numbers but for **.
var arithmetic = map[string]func(a, b number) (number, error){
	"+":  either((*big.Int).Add, func(a, b float64) float64 { return a + b }),
	"-":  subtract,
	"*":  either((*big.Int).Mul, func(a, b float64) float64 { return a * b }),
	"/":  divide,
	"//": floorDivide,
	"%":  modulo,
	"&":  bits((*big.Int).And),
	"|":  bits((*big.Int).Or),
	"^":  bits((*big.Int).Xor),
	"<<": func(a, b number) (number, error) { return shift(a, b, true) },
	">>": func(a, b number) (number, error) { return shift(a, b, false) },
}

var subtract = either((*big.Int).Sub, func(a, b float64) float64 { return a - b })

// either is an operator that stays whole between whole numbers.
func either(ints func(z, a, b *big.Int) *big.Int, floats func(a, b float64) float64) func(a, b number) (number, error) {
	return func(a, b number) (number, error) {
		if !a.fraction() && !b.fraction() {
			return bounded(ints(new(big.Int), a.i, b.i))
		}
		x, y, err := floatsOf(a, b)
		return decimal(floats(x, y)), err
	}
}

func bounded(i *big.Int) (number, error) {
	if i.BitLen() > maxBits {
		return number{}, errTooLarge
	}
	return number{i: i}, nil
}

func floatsOf(a, b number) (x, y float64, err error) {
	if x, err = a.float(); err == nil {
		y, err = b.float()
	}
	return x, y, err
}

func bits(op func(z, a, b *big.Int) *big.Int) func(a, b number) (number, error) {
	return func(a, b number) (number, error) {
		if a.fraction() || b.fraction() {
			return number{}, errWhole
		}
		return number{i: op(new(big.Int), a.i, b.i)}, nil
	}
}

func shift(a, b number, left bool) (number, error) {
	switch {
	case a.fraction() || b.fraction():
		return number{}, errWhole
	case b.i.Sign() < 0:
		return number{}, errors.New("a shift by less than zero")
	case a.i.Sign() == 0:
		return a, nil
	}
	far := !b.i.IsInt64() || b.i.Int64() > maxBits
	switch {
	case left && (far || a.i.BitLen()+int(b.i.Int64()) > maxBits):
		return number{}, errTooLarge
	case left:
		return number{i: new(big.Int).Lsh(a.i, uint(b.i.Int64()))}, nil
	case far:
		return number{i: new(big.Int).Rsh(a.i, maxBits+1)}, nil
	}
	return number{i: new(big.Int).Rsh(a.i, uint(b.i.Int64()))}, nil
}

func divide(a, b number) (number, error) {
	if !b.truth() {
		return number{}, errZero
	}
	if !a.fraction() && !b.fraction() {
		f, _ := new(big.Rat).SetFrac(a.i, b.i).Float64()
		if math.IsInf(f, 0) {
			return number{}, errTooLarge
		}
		return decimal(f), nil
	}
	x, y, err := floatsOf(a, b)
	return decimal(x / y), err
}

func floorDivide(a, b number) (number, error) {
	if !b.truth() {
		return number{}, errZero
	}
	if !a.fraction() && !b.fraction() {
		q, _ := floored(a.i, b.i)
		return number{i: q}, nil
	}
	x, y, err := floatsOf(a, b)
	if err != nil {
		return number{}, err
	}
	// The quotient of what is left when the remainder is taken off is all but whole.
	return decimal(math.Round((x - floatModulo(x, y)) / y)), nil
}

func modulo(a, b number) (number, error) {
	if !b.truth() {
		return number{}, errZero
	}
	if !a.fraction() && !b.fraction() {
		_, m := floored(a.i, b.i)
		return number{i: m}, nil
	}
	x, y, err := floatsOf(a, b)
	return decimal(floatModulo(x, y)), err
}

// floored is the quotient rounded down and the remainder, of the divisor's sign.
func floored(a, b *big.Int) (q, m *big.Int) {
	q, m = new(big.Int).QuoRem(a, b, new(big.Int))
	if m.Sign() != 0 && m.Sign() != b.Sign() {
		q.Sub(q, big.NewInt(1))
		m.Add(m, b)
	}
	return q, m
}

func floatModulo(x, y float64) float64 {
	m := math.Mod(x, y)
	if m != 0 && (m < 0) != (y < 0) {
		m += y
	}
	return m
}

func raise(a, b number) (number, error) {
	if !a.fraction() && !b.fraction() && b.i.Sign() >= 0 {
		if a.i.BitLen() > 1 && (!b.i.IsInt64() || b.i.Int64() > maxBits || int64(a.i.BitLen()-1)*b.i.Int64() > maxBits) {
			return number{}, errTooLarge
		}
		if a.i.BitLen() <= 1 { // -1, 0 and 1 stay small whatever the exponent
			return number{i: new(big.Int).Exp(a.i, big.NewInt(int64(b.i.Bit(0))+2*int64(b.i.Sign())), nil)}, nil
		}
		return bounded(new(big.Int).Exp(a.i, b.i, nil))
	}
	x, y, err := floatsOf(a, b)
	switch {
	case err != nil:
		return number{}, err
	case x == 0 && y < 0:
		return number{}, errZero
	}
	return valued(math.Pow(x, y), x, y)
}

// valued is a function's result: neither too large nor without a value unless its
// operands were so.
func valued(result float64, operands ...float64) (number, error) {
	for _, x := range operands {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return decimal(result), nil
		}
	}
	switch {
	case math.IsNaN(result):
		return number{}, errDomain
	case math.IsInf(result, 0):
		return number{}, errTooLarge
	}
	return decimal(result), nil
}

// numberForm are Python's whole and decimal numbers.
var numberForm = regexp.MustCompile(`^(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+` +
	`|(?:\d(?:_?\d)*)?(?:\.(?:\d(?:_?\d)*)?)?(?:[eE][+-]?\d(?:_?\d)*)?)`)

func parseNumber(text string) (number, error) {
	plain := strings.ReplaceAll(text, "_", "")
	prefixed := len(plain) > 1 && plain[0] == '0' && strings.ContainsRune("xXbBoO", rune(plain[1]))
	if !prefixed && strings.ContainsAny(plain, ".eE") {
		f, err := strconv.ParseFloat(plain, 64)
		if err != nil && !math.IsInf(f, 0) {
			return number{}, errors.New("the number is not understood")
		}
		return decimal(f), nil // 1e999 is infinite, as in Python
	}
	if !prefixed && plain[0] == '0' && strings.Trim(plain, "0") != "" {
		return number{}, errors.New("a whole number does not begin with 0")
	}
	i, ok := new(big.Int).SetString(plain, 0)
	if !ok {
		return number{}, errors.New("the number is not understood")
	}
	return bounded(i)
}

var constants = map[string]float64{
	"math.pi": math.Pi, "math.e": math.E, "math.tau": 2 * math.Pi, "math.inf": math.Inf(1), "math.nan": math.NaN(),
}

// A function takes from least to most numbers.
type function struct {
	least, most int
	call        func(args []number, chance *rand.Rand) (number, error)
}

// functions are those that a formula may use, by their names in Python.
var functions = map[string]function{
	"float": {1, 1, func(a []number, _ *rand.Rand) (number, error) {
		f, err := a[0].float()
		return decimal(f), err
	}},
	"bool":  {1, 1, func(a []number, _ *rand.Rand) (number, error) { return truth(a[0].truth()), nil }},
	"int":   {1, 1, rounding(math.Trunc)},
	"abs":   {1, 1, absolute},
	"round": {1, 2, round},
	"min":   {2, maxArgs, func(a []number, _ *rand.Rand) (number, error) { return extreme(a, -1), nil }},
	"max":   {2, maxArgs, func(a []number, _ *rand.Rand) (number, error) { return extreme(a, 1), nil }},
	"pow":   {2, 2, func(a []number, _ *rand.Rand) (number, error) { return raise(a[0], a[1]) }},

	"math.ceil":  {1, 1, rounding(math.Ceil)},
	"math.floor": {1, 1, rounding(math.Floor)},
	"math.trunc": {1, 1, rounding(math.Trunc)},
	"math.log":   {1, 2, logarithm},

	"random.random": {0, 0, func(_ []number, chance *rand.Rand) (number, error) { return decimal(chance.Float64()), nil }},
	"random.uniform": {2, 2, func(a []number, chance *rand.Rand) (number, error) {
		x, y, err := floatsOf(a[0], a[1])
		return decimal(x + (y-x)*chance.Float64()), err
	}},
	"random.randint": {2, 2, randomInt},
}

func init() {
	for name, f := range map[string]func(float64) float64{
		"exp": math.Exp, "exp2": math.Exp2, "expm1": math.Expm1, "sqrt": math.Sqrt, "cbrt": math.Cbrt, "fabs": math.Abs,
		"log2": math.Log2, "log10": math.Log10, "log1p": math.Log1p, "erf": math.Erf, "erfc": math.Erfc,
		"sin": math.Sin, "cos": math.Cos, "tan": math.Tan, "asin": math.Asin, "acos": math.Acos, "atan": math.Atan,
		"sinh": math.Sinh, "cosh": math.Cosh, "tanh": math.Tanh, "asinh": math.Asinh, "acosh": math.Acosh, "atanh": math.Atanh,
		"degrees": func(x float64) float64 { return x * 180 / math.Pi }, "radians": func(x float64) float64 { return x * math.Pi / 180 },
	} {
		functions["math."+name] = function{1, 1, func(a []number, _ *rand.Rand) (number, error) {
			x, err := a[0].float()
			if err != nil {
				return number{}, err
			}
			if strings.HasPrefix(name, "log") && f(x) == math.Inf(-1) {
				return number{}, errDomain
			}
			return valued(f(x), x)
		}}
	}
	for name, f := range map[string]func(x, y float64) float64{
		"pow": math.Pow, "fmod": math.Mod, "atan2": math.Atan2, "hypot": math.Hypot, "copysign": math.Copysign,
	} {
		functions["math."+name] = function{2, 2, func(a []number, _ *rand.Rand) (number, error) {
			x, y, err := floatsOf(a[0], a[1])
			switch {
			case err != nil:
				return number{}, err
			case name == "pow" && x == 0 && y < 0:
				return number{}, errDomain
			}
			return valued(f(x, y), x, y)
		}}
	}
}

// rounding is a function that makes a whole number of a decimal one.
func rounding(f func(float64) float64) func([]number, *rand.Rand) (number, error) {
	return func(a []number, _ *rand.Rand) (number, error) {
		if !a[0].fraction() {
			return a[0], nil
		}
		if x := a[0].f; math.IsNaN(x) || math.IsInf(x, 0) {
			return infinite(x)
		}
		i, _ := big.NewFloat(f(a[0].f)).Int(nil)
		return number{i: i}, nil
	}
}

// infinite is what becomes of a number that cannot be whole.
func infinite(x float64) (number, error) {
	if math.IsInf(x, 1) {
		return number{}, errTooLarge
	}
	return number{}, errDomain
}

func absolute(a []number, _ *rand.Rand) (number, error) {
	if a[0].fraction() {
		return decimal(math.Abs(a[0].f)), nil
	}
	return number{i: new(big.Int).Abs(a[0].i)}, nil
}

// extreme is the first of the least or greatest.
func extreme(a []number, sign int) number {
	best := a[0]
	for _, x := range a[1:] {
		if x.compare(best) == sign {
			best = x
		}
	}
	return best
}

// round rounds halves to the even side, to a number of decimal places if one is given.
func round(a []number, _ *rand.Rand) (number, error) {
	if len(a) == 1 {
		return rounding(math.RoundToEven)(a, nil)
	}
	if a[1].fraction() {
		return number{}, errWhole
	}
	const most = 400 // places, before or behind the point, of what a float can hold
	n := int64(most)
	if a[1].i.IsInt64() {
		n = max(-most, min(most, a[1].i.Int64()))
	} else if a[1].i.Sign() < 0 {
		n = -most
	}
	switch {
	case !a[0].fraction() && n >= 0:
		return a[0], nil
	case !a[0].fraction():
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
		q, m := floored(a[0].i, unit)
		if c := new(big.Int).Lsh(m, 1).Cmp(unit); c > 0 || c == 0 && q.Bit(0) == 1 {
			q.Add(q, big.NewInt(1))
		}
		return bounded(q.Mul(q, unit))
	case math.IsNaN(a[0].f) || math.IsInf(a[0].f, 0):
		return a[0], nil
	case n >= 0:
		f, err := strconv.ParseFloat(strconv.FormatFloat(a[0].f, 'f', int(n), 64), 64)
		return decimal(f), err
	}
	unit := math.Pow(10, float64(-n))
	if math.IsInf(unit, 0) {
		return decimal(0), nil
	}
	return valued(math.RoundToEven(a[0].f/unit)*unit, a[0].f)
}

// logarithm is to the base e, or to the base that the second number is.
func logarithm(a []number, _ *rand.Rand) (number, error) {
	out := make([]float64, len(a))
	for i := range a {
		x, err := a[i].float()
		switch {
		case err != nil:
			return number{}, err
		case x <= 0:
			return number{}, errDomain
		}
		out[i] = math.Log(x)
	}
	if len(out) == 1 {
		return decimal(out[0]), nil
	}
	return divide(decimal(out[0]), decimal(out[1]))
}

func randomInt(a []number, chance *rand.Rand) (number, error) {
	if a[0].fraction() || a[1].fraction() {
		return number{}, errWhole
	}
	span := new(big.Int).Sub(a[1].i, a[0].i)
	if span.Sign() < 0 || !span.IsInt64() || span.Int64() == math.MaxInt64 {
		return number{}, fmt.Errorf("there is no whole number from %.20s to %.20s to choose", a[0].i, a[1].i)
	}
	return number{i: span.Add(a[0].i, big.NewInt(chance.Int64N(span.Int64()+1)))}, nil
}
