package pyre

import (
	"bytes"
	"errors"
	"testing"
)

// Where there is only a budget, it is kept, also by searches that begin at many places
// and end soon at each.
func TestBudgetIsKept(t *testing.T) {
	const size = 8000
	for _, c := range []struct{ name, pattern, turn string }{
		{"a short search from each line", `(?m)^(\s+)[a-z]\1z`, "\n"},
		{"a long search", `^(a*)*\1b`, "a"},
		{"comparing is most of the work", `(a+)x\1+y`, "aaaaaaaax"},
		{"characters that must be decoded", `(?m)^(\s*)[a-z]\1z`, "\n\u2003"},
	} {
		re := mustCompile(t, c.pattern)
		text := bytes.Repeat([]byte(c.turn), size/len(c.turn))
		_, err := re.Search(text, nil)
		if err != nil && !errors.Is(err, ErrBudget) {
			t.Errorf("%s: %v", c.name, err)
		}
		budget := re.allowance + 16*size
		if steps := re.Steps(text); steps > budget+2*size {
			t.Errorf("%s: %d steps, of a budget of %d", c.name, steps, budget)
		} else if errors.Is(err, ErrBudget) != (steps > budget) {
			t.Errorf("%s: error %v after %d steps, of a budget of %d", c.name, err, steps, budget)
		}
	}
}

// What a pattern without back-references takes grows as the text does.
func TestStepsAreLinear(t *testing.T) {
	for _, c := range []struct{ name, pattern, turn string }{
		{"nested loops", `^(?:a+)+$`, "a"},
		{"loops of all but one character", `^(?:[^"]*|"[^"]*")*x`, `"`},
		{"loops beside each other", `^\s*\S*\s*\S*\s*\S* : x`, " a "},
		{"lazy loops", `.*?a.*?b.*?c`, "a b"},
		{"a run in a look-ahead from everywhere", `(?=.*x)a`, "a"},
		{"a run in a look-ahead that holds", `\w(?=\w*z)-`, "zz"},
		{"a lazy run in a look-ahead that holds", `\w(?=\w*?z)-`, "az"},
		{"characters beyond ASCII", `(\w+\s*)+;`, "\u00e9\u4e2d "},
		{"words of an alternation", `(?:\w|one|two|three|[0-9a-f]+)*;`, "one2"},
	} {
		re := mustCompile(t, c.pattern)
		steps := func(turns int) float64 {
			text := append(bytes.Repeat([]byte(c.turn), turns), '!')
			return float64(re.Steps(text)) / float64(len(text))
		}
		if few, many := steps(2000), steps(16_000); many > 1.5*few+2 || many > 100 {
			t.Errorf("%s: %.1f steps a byte, but %.1f in a text eight times as long", c.name, few, many)
		}
	}
}

// A run that comes to where one has been before ends between characters.
func TestRememberedRunsEndBetweenCharacters(t *testing.T) {
	re := mustCompile(t, `((.{,}.|(^\W|)ı*µ){,2}?�)`)
	for _, text := range []string{"\u00a0É中µ-\x1d\u00a0İ\u00a0BKb", ".a.c😀aİa\n"} {
		if spans, err := re.remembering([]byte(text)); spans != nil || err != nil {
			t.Errorf("%q: spans %v, error %v; Python finds nothing", text, spans, err)
		}
	}
}
