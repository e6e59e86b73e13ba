package jail

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// value computes a formula for a ban of 600 s after count others.
func value(t *testing.T, text string, count int) (float64, error) {
	t.Helper()
	f, err := ParseFormula(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	x, err := f.compute(&variables{named: true, time: whole(600), count: count, factor: whole(1), chance: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		return 0, err
	}
	return x.float()
}

// The answers are those of Python 3.11.
func TestFormulas(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       float64
	}{
		{"the usual one", "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor", 4800},
		{"a quotient of exponentials", "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)", 600 * math.Exp(3)},
		{"products before sums", "1 + 2 * 3", 7},
		{"a power before its sign", "-2 ** 2", -4},
		{"powers from the right", "2 ** 3 ** 2", 512},
		{"a power with a negative exponent", "2 ** -1", 0.5},
		{"quotients are not whole", "7 / 2", 3.5},
		{"whole quotients are rounded down", "-7 // 2", -4},
		{"remainders have the divisor's sign", "-7 % 3", 2},
		{"and so have those of fractions", "-7.5 % 2", 0.5},
		{"whole quotients of fractions", "-7.5 // 2", -4},
		{"shifts after sums", "1 << 2 + 1", 8},
		{"bits", "6 & 3 | 8 ^ 1", 11},
		{"a complement", "~5", -6},
		{"comparisons in a chain", "1 < 2 < 3 < 3", 0},
		{"what is not computed is not wrong", "1 if True else 1/0", 1},
		{"or takes the first that is not zero", "0 or 5 or 1/0", 5},
		{"and takes the last", "2 and 3", 3},
		{"not binds looser than a comparison", "not 1 == 2", 1},
		{"whole numbers are exact", "(2**200 + 1) % 2**100", 1},
		{"comparisons are exact", "2**53 + 1 > float(2**53)", 1},
		{"halves are rounded to even", "round(2.5) + round(3.5)", 6},
		{"rounded to places", "round(2.675, 2)", 2.67},
		{"rounded to tens", "round(1250, -2)", 1200},
		{"the least and the greatest", "min(3, 1, 2) + max(3, 1.5)", 4},
		{"numbers of every form", "0x10 + 0b11 + 1_000 + .5 + 1e2 + 5.", 1124.5},
		{"a comment and blanks", " 1\t+ 1 # and so on", 2},
		{"what is not a number is not greater", "1 if math.nan > 0 else 2", 2},
		{"a logarithm to a base", "math.log(8, 2)", 3},
	} {
		got, err := value(t, c.text, 3)
		if err != nil || math.Abs(got-c.want) > 1e-9*math.Abs(c.want) {
			t.Errorf("%s: %s is %v, %v; want %v", c.name, c.text, got, err, c.want)
		}
	}
}

func TestFormulasThatCannotBeRead(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "at character 1: it ends where a number should be"},
		{"ban.Time *", "at character 11: it ends where a number should be"},
		{"ban.Time ban.Count", `at character 10: "ban" stands where an operator should be`},
		{"(1", `at character 3: it ends where ")" should be`},
		{"ban.Tme", "at character 1: there is no ban.Tme"},
		{"1 + os.system(1)", "at character 5: there is no os.system"},
		{"[1, 2][0]", "at character 1: '[' has no meaning"},
		{"'1'", `at character 1: '\'' has no meaning`},
		{"é", "at character 1: 'é' has no meaning"},
		{"1 if 2", `at character 7: it ends where "else" should be`},
		{"08", "at character 1: a whole number does not begin with 0"},
		{"10m", "at character 1: the number is not understood"},
		{"min(1)", "at character 1: min cannot take 1 numbers"},
		{"math.exp", `at character 9: it ends where "(" should be`},
		{"ban.Time := 1", "at character 10: ':' has no meaning"},
		{strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), "nested more than 100 deep"},
		{strings.Repeat("-", 200) + "1", "nested more than 100 deep"},
		{strings.Repeat("not ", 200) + "1", "nested more than 100 deep"},
		{strings.Repeat("1+", 600) + "1", "longer than 1000 characters"},
		{"1" + strings.Repeat("0", 998) + "000", "longer than 1000 characters"},
	} {
		if f, err := ParseFormula(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q is read as %v, %v; want %q", c.text, f, err, c.want)
		}
	}
}

func TestFormulasWithoutAValue(t *testing.T) {
	for text, want := range map[string]error{
		"1 / 0": errZero, "1 // 0.0": errZero, "1 % 0": errZero, "0 ** -1": errZero,
		"1.5 << 1": errWhole, "math.sqrt(-1)": errDomain, "math.log(0)": errDomain, "(-8) ** 0.5": errDomain, "int(math.nan)": errDomain,
		"9 ** 9 ** 9 ** 9": errTooLarge, "1 << 10 ** 9": errTooLarge, "2.0 ** 5000": errTooLarge, "math.exp(1000)": errTooLarge,
		"float(2 ** 2000)": errTooLarge, "int(math.inf)": errTooLarge, "2 ** 4000 * 2 ** 4000": errTooLarge, "1 >> -1": nil,
		"random.randint(2, 1)": nil,
	} {
		if x, err := value(t, text, 1); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s is %v, %v; want %v", text, x, err, want)
		}
	}
}

// No text makes a formula that panics, takes long, or bans for less than nothing or
// longer than it may.
func FuzzFormula(f *testing.F) {
	for _, text := range []string{
		"ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor",
		"ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)",
		"9**9**9**9", "1 << 1 << 20 << ban.Count", "-ban.Time ** ban.Count", "ban.Time / 2", "math.nan", "-math.inf", "math.inf",
		"round(1e308, -400) + round(ban.Count, 1<<99)", "random.randint(0, 2**62) % 7 // -3", "not 0 <= ban.Count < 3 or 0x1f & ~1",
		"1_000 if banFactor else .5e-3 # x", "int(1e300)**12 >> 1<<3", "max(1,2,3)-min(.1,2)", "pow(2, 0.5)*math.factorial(3)",
	} {
		f.Add(text, 600, 3)
	}
	f.Fuzz(func(t *testing.T, text string, banTime, count int) {
		formula, err := ParseFormula(text)
		if err != nil {
			return
		}
		c := DefaultConfig("t")
		c.BanTime = time.Duration(1+uint32(banTime)) * time.Second
		c.Increment = Increment{Enabled: true, Formula: formula, MaxTime: 1000 * time.Hour, RndTime: time.Hour}
		rng := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
		begin := time.Now()
		for _, n := range []int{1, 2, 30, count} {
			if d := c.length(n, rng); n >= 1 && (d <= 0 || d > 1001*time.Hour) {
				t.Fatalf("ban number %d lasts %s", n, d)
			}
		}
		c.Increment.MaxTime, c.Increment.RndTime = 0, 0
		if d := c.length(5, rng); d >= 0 && d < c.BanTime {
			t.Fatalf("a repeated ban lasts %s, the first %s", d, c.BanTime)
		}
		if took := time.Since(begin); took > time.Second {
			t.Fatalf("it takes %s", took)
		}
		c.Increment.Factor, c.Increment.Formula = formula, nil
		if err := c.Validate(); err == nil && c.length(1, rng) == 0 {
			t.Fatal("a repeated ban lasts no time")
		}
	})
}
