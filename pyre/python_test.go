package pyre

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var seed = flag.Int("pyre.seed", 1, "of the patterns that Python is asked about")

// answers are what Python's re said about one pattern.
type answers struct {
	Pattern string   `json:"p"`
	Flags   int      `json:"f"`
	Error   *string  `json:"e"`
	At      int      `json:"at"`
	Texts   []answer `json:"t"`
}

// An answer is about one text: the spans of re.search and of re.match.
type answer struct {
	text          []byte
	search, match []int
}

func (a *answer) UnmarshalJSON(b []byte) error {
	var text string
	err := json.Unmarshal(b, &[]any{&text, &a.search, &a.match})
	if err == nil {
		a.text, err = hex.DecodeString(text)
	}
	return err
}

func flagsOf(python int) (f Flags) {
	for bit, flag := range map[int]Flags{2: IgnoreCase, 8: Multiline, 16: DotAll, 64: Verbose, 256: ASCII} {
		if python&bit != 0 {
			f |= flag
		}
	}
	return f
}

// record runs the recorder and hands over its lines.
func record(t *testing.T, in io.Reader, line func(b []byte), args ...string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not there to compare with: ", err)
	}
	if out, err := exec.Command(python, "-c", "import sys; print(sys.version_info[:2] == (3, 11))").Output(); err != nil || strings.TrimSpace(string(out)) != "True" {
		t.Skip("python3 is not Python 3.11, whose answers are wanted")
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"testdata/record.py"}, args...)...)
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line(lines.Bytes())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// Every answer is Python's: the match, the spans of all groups, or the error, whether
// the quick way is taken or the one that remembers.
func TestAnswersArePythons(t *testing.T) {
	patterns, texts := 14_000, 20
	if testing.Short() {
		patterns, texts = 1_000, 5
	}
	pairs, refused, wrong, hits, loose := 0, 0, 0, 0, 0
	tracers, told := 0, 0
	var last *Regexp
	differ := func(format string, args ...any) {
		if wrong++; wrong <= 30 {
			t.Errorf(format, args...)
		}
	}
	record(t, nil, func(b []byte) {
		var a answers
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		re, err := Compile(a.Pattern, flagsOf(a.Flags))
		if a.Error != nil {
			refused++
			pos := a.At
			if pos > 0 {
				pos = len(string([]rune(a.Pattern)[:pos]))
			}
			want := (&Error{Pos: pos, Text: *a.Error}).Error()
			if err == nil || err.Error() != want && !strings.Contains(err.Error(), "not supported") {
				differ("%q flags %d: error %v, Python's is %s", a.Pattern, a.Flags, err, want)
			}
			return
		}
		if err != nil {
			differ("%q flags %d: error %v, Python has none", a.Pattern, a.Flags, err)
			return
		}
		re.allowance = 1 << 40
		rules := []Rule{{Regexp: re}, {Regexp: re, Within: last, Group: 1}, {Regexp: re, Within: last}}
		if last == nil {
			rules = rules[:1]
		} else if len(last.names) < 2 {
			rules = slices.Delete(rules, 1, 2)
		}
		set := NewSet(rules)
		last = re
		traced := Rule{Regexp: re}
		tracer := NewTracer(traced)
		if tracer != nil {
			tracers++
		}
		for _, x := range a.Texts {
			pairs++
			line := bytes.TrimSuffix([]byte(strings.ToValidUTF8(string(x.text), "\ufffd")), []byte("\n"))
			may := set.Candidates(nil, line, nil)
			for i, r := range rules {
				if r.matches(string(line) + "\n") {
					if hits++; !slices.Contains(may, i) {
						differ("%q (within %v, %d) is no candidate in %q", a.Pattern, r.Within, r.Group, line)
					}
				} else if slices.Contains(may, i) {
					loose++
				}
			}
			told += sameAsSearch(t, tracer, traced, line)
			check := func(how string, want []int, find func() ([]int, error)) {
				got, err := find()
				if err != nil || !slices.Equal(got, want) {
					differ("%s %q flags %d in %q: %v %v, Python's is %v", how, a.Pattern, a.Flags, x.text, got, err, want)
				}
			}
			check("search", x.search, func() ([]int, error) { return re.Search(x.text, nil) })
			check("match", x.match, func() ([]int, error) { return re.Match(x.text, nil) })
			if re.linear() != nil {
				check("remembering search", x.search, func() ([]int, error) { return re.remembering(x.text) })
			}
		}
	}, strconv.Itoa(*seed), strconv.Itoa(patterns), strconv.Itoa(texts))
	t.Logf("%d pairs, %d patterns refused, %d differences; of a Set %d candidates matched, %d did not; %d pairs told by %d tracers",
		pairs, refused, wrong, hits, loose, told, tracers)
	if told < pairs/10 {
		t.Errorf("tracers told only %d of %d", told, pairs)
	}
}

// matches is what a rule means.
func (r *Rule) matches(line string) bool {
	if r.Within != nil {
		spans, _ := r.Within.SearchString(line, nil)
		if spans == nil {
			return false
		}
		if lo, hi := spans[2*r.Group], spans[2*r.Group+1]; lo < hi {
			line = line[lo:hi] + "\n"
		}
	}
	spans, _ := r.Regexp.SearchString(line, nil)
	return spans != nil
}

// remembering searches by the linear program alone.
func (re *Regexp) remembering(text []byte) ([]int, error) {
	m := new(machine)
	first := re.start.next(text, 0)
	if first < 0 {
		return nil, nil
	}
	m.prepare(re.linear(), text, 1<<40, true)
	switch re.try(m, re.linear(), first, false) {
	case overLimit:
		return nil, ErrBudget
	case noMatch:
		return nil, nil
	}
	spans := make([]int, len(m.slots))
	for i := 0; i < len(spans); i += 2 {
		spans[i], spans[i+1] = -1, -1
		if m.slots[i] >= 0 && m.slots[i+1] >= 0 {
			spans[i], spans[i+1] = int(m.slots[i]), int(m.slots[i+1])
		}
	}
	return spans, nil
}

// Letters, digits and spaces are Python's, whatever tables Go brings.
func TestCharactersArePythons(t *testing.T) {
	type kind struct{ word, digit, space bool }
	python := make(map[rune]kind)
	record(t, nil, func(b []byte) {
		var r rune
		var k kind
		if err := json.Unmarshal(b, &[]any{&r, &k.word, &k.digit, &k.space}); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		python[r] = k
	}, "characters")
	for r := rune(128); r <= utf8.MaxRune; r++ {
		if got := (kind{isWord(r), isDigit(r), isSpace(r)}); got != python[r] {
			t.Errorf("%U: %+v, Python's is %+v", r, got, python[r])
		}
	}
}
