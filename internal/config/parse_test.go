package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plainFile is a parsed file as sections of options.
func plainFile(f *file) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, s := range append([]*section{f.defaults}, f.sections...) {
		out[s.name] = map[string]string{}
		for k, v := range s.opts {
			out[s.name][k] = v.Text
		}
	}
	return out
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]string // of section s
	}{
		{"a value ends before a blank and a semicolon", "[s]\na = 1 ; x\nb = 1;2\nc = \"x ; y\"", map[string]string{"a": "1", "b": "1;2", "c": "\"x"}},
		{"a number sign starts no comment inside a line", "[s]\na = 1 # x", map[string]string{"a": "1 # x"}},
		{"comments and blank lines do not end a value", "[s]\na = 1\n# note\n\n  2\n", map[string]string{"a": "1\n\n2"}},
		{"a more indented line goes on the value, whatever it looks like", "[s]\na = 1\n b = 2\n [t]", map[string]string{"a": "1\nb = 2\n[t]"}},
		{"options may be indented all alike", "[s]\n  a = 1\n  b = 2\n   3", map[string]string{"a": "1", "b": "2\n3"}},
		{"the first of = and : ends the name", "[s]\na:b = c\nd = e:f", map[string]string{"a": "b = c", "d": "e:f"}},
		{"names are lower-cased", "[s]\nBanTime = 1", map[string]string{"bantime": "1"}},
		{"an empty first line is kept, trailing ones are not", "[s]\na =\n  x\n\n\n", map[string]string{"a": "\nx"}},
		{"a header's name ends at the last bracket", "[s] junk\na = 1", map[string]string{"a": "1"}},
		{"carriage returns end lines too", "[s]\r\na = 1\rb = 2", map[string]string{"a": "1", "b": "2"}},
		{"an empty value is a value", "[s]\na =\nb:", map[string]string{"a": "", "b": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parse("x.conf", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, plainFile(f)["s"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an option twice", "[s]\na = 1\nA = 2", `x.conf:3: a: the option stands in [s] a second time, first in line 2`},
		{"a section twice", "[s]\n[t]\n[s]", `x.conf:3: section [s] stands here a second time, first in line 1`},
		{"a line before any section", "# c\n\na = 1", `x.conf:3: "a = 1" stands before the first [section]`},
		{"neither option nor section", "[s]\nfailregex", `x.conf:2: "failregex" is neither an option nor a section`},
		{"no name", "[s]\n = 1", `x.conf:2: "= 1" has no option name`},
		{"a byte-order mark", "\ufeff[s]\na = 1", `x.conf:1: the file begins with a byte-order mark`},
		{"not UTF-8", "[s]\na = 1\nb = \xff", `x.conf:3: the file is not UTF-8`},
		{"terminal escapes are not passed on", "[s]\n\x1b[31mred", `x.conf:2: "\x1b[31mred" is neither an option nor a section`},
		{"larger than the bound", "[s]\na = " + strings.Repeat("x", maxFile), `x.conf: the file is larger than 4 MiB`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse("x.conf", []byte(tt.text))
			p, ok := err.(*Problem)
			if !ok || p.String() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if ok && p.Hint == "" {
				t.Error("there is no hint")
			}
		})
	}
}

// pythonParser prints what Python's own parser makes of each text of a JSON list:
// its sections, or null for an error.
const pythonParser = `
import configparser, json, sys
out = []
for text in json.load(sys.stdin):
    p = configparser.RawConfigParser(inline_comment_prefixes=';', strict=True)
    try:
        p.read_string(text)
        d = {s: dict(p._sections[s]) for s in p._sections}
        d['DEFAULT'] = dict(p._defaults)
        out.append(d)
    except configparser.Error:
        out.append(None)
json.dump(out, sys.stdout)
`

func TestParseAgreesWithPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: ", err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	texts := make([]string, 5_000)
	for i := range texts {
		texts[i] = randomFile(rnd)
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", pythonParser)
	cmd.Stdin = strings.NewReader(string(in))
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("run python3: %v", err)
	}
	var answers []map[string]map[string]string
	if err := json.Unmarshal(raw, &answers); err != nil {
		t.Fatal(err)
	}
	good := 0
	for i, want := range answers {
		var got map[string]map[string]string
		if f, err := parse("x", []byte(texts[i])); err == nil {
			got = plainFile(f)
			good++
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("file %q: want - got +\n%s", texts[i], diff)
		}
	}
	if good < len(texts)/20 {
		t.Errorf("only %d of %d files were good ones", good, len(texts))
	}
}

// randomFile is a small file of the pieces that parsers differ on.
func randomFile(rnd *rand.Rand) string {
	pieces := []string{
		"[s]", "[t]", "[DEFAULT]", "[a] b]", "[]", "[x", "a", "b", "c", "C", "=", ":", " = ", "=", ";", "#", " ;", " #",
		" ", "\t", "  ", "1", "é", "\u00a0", "\x1c", "\x0b", "\u2028", "]", "%", "\"", ",", "x y",
	}
	var b strings.Builder
	if rnd.IntN(10) > 0 {
		b.WriteString("[s]\n")
	}
	for range rnd.IntN(8) {
		switch rnd.IntN(4) {
		case 0:
			for range rnd.IntN(6) {
				b.WriteString(pieces[rnd.IntN(len(pieces))])
			}
		default:
			fmt.Fprintf(&b, "%*s%s%s", rnd.IntN(3), "", string(rune('a'+rnd.IntN(20))), []string{"=", " = ", ":", " :\t"}[rnd.IntN(4)])
			for range rnd.IntN(4) {
				b.WriteString(pieces[rnd.IntN(len(pieces))])
			}
		}
		b.WriteString([]string{"\n", "\n", "\n", "\n\n", "\n  x\n", "\n \n"}[rnd.IntN(6)])
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"[s]\na = 1\n  b\n", "[DEFAULT]\na: b ; c\n#x\n[t]\n", "a", "[s]\n=", "\r\r\n[x\x1c]\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parse("x", text)
		if err != nil {
			if p, ok := err.(*Problem); !ok || p.Text == "" || strings.ContainsAny(p.String(), "\n\x1b") {
				t.Fatalf("the error is %q", err)
			}
			return
		}
		again, err := parse("x", []byte(printFile(got)))
		if err != nil {
			t.Fatalf("what was printed cannot be read: %v\n%s", err, printFile(got))
		}
		if diff := cmp.Diff(plainFile(got), plainFile(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// printFile writes a file that parses to the same: every further line of a value
// is indented.
func printFile(f *file) string {
	var b strings.Builder
	for _, s := range append([]*section{f.defaults}, f.sections...) {
		fmt.Fprintf(&b, "[%s]\n", s.name)
		for _, k := range slices.Sorted(maps.Keys(s.opts)) {
			fmt.Fprintf(&b, "%s=%s\n", k, strings.ReplaceAll(s.opts[k].Text, "\n", "\n "))
		}
	}
	return b.String()
}
