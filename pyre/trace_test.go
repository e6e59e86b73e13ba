package pyre

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// asSearch is what a Tracer of the rule should find in text; ok is false for an overrun.
func (r *Rule) asSearch(text []byte) (outer, inner []int, ok bool) {
	begin := 0
	if r.Within != nil {
		var err error
		if outer, err = r.Within.Search(text, nil); err != nil || outer == nil {
			return nil, nil, err == nil
		}
		begin = outer[2*r.Group]
	}
	inner, err := r.Regexp.Search(text[begin:], nil)
	if inner == nil {
		outer = nil
	}
	return outer, inner, err == nil
}

// sameAsSearch compares a tracer, which may be nil, with Search, line by line, and returns
// how many it could tell.
func sameAsSearch(t *testing.T, tracer *Tracer, r Rule, lines ...[]byte) (told int) {
	t.Helper()
	if tracer == nil {
		return 0
	}
	for _, line := range lines {
		text := append(slices.Clone(line), '\n')
		outer, inner, ok := tracer.Search(text, nil, nil)
		if !ok {
			continue
		}
		told++
		wantOuter, wantInner, within := r.asSearch(text)
		if within && (!slices.Equal(inner, wantInner) || !slices.Equal(outer, wantOuter)) {
			t.Errorf("%v within %v in %q: traced %v %v, searched %v %v", r.Regexp, r.Within, text, outer, inner, wantOuter, wantInner)
		}
	}
	return told
}

func TestTracer(t *testing.T) {
	for _, c := range []struct{ name, within, pattern, line string }{
		{"groups", ``, `^(?P<user>\S+) from (?P<ip>\d+(?:\.\d+){3})`, "root from 192.0.2.7 port 22"},
		{"anywhere", ``, `(?P<a>b+)c`, "xxabbbcbbc"},
		{"as few as lead on", ``, `^(.*?)b(.*)c$`, "aabbcbc"},
		{"the first alternative that leads on", ``, `^(a|ab)(c|bcd)(d*)$`, "abcd"},
		{"the last turn of a loop", ``, `^(?:(a)|b)*$`, "abab"},
		{"a condition", ``, `^(x )?(?P<u>\S+|(?(1)(?:(?! from ).)*?|[^:]+)) from (\d+)$`, "x a b from c from 7"},
		{"a look-ahead behind the match", ``, `^a(?=.*z)`, "abcz"},
		{"a look-ahead that fails behind the match", ``, `^a(?=.*z)|^ab`, "abcy"},
		{"where words end", ``, `\bfoo\b(.)`, "food foo!"},
		{"the end", ``, `a$`, "ba"},
		{"the very end", ``, `a\n\Z`, "ba"},
		{"nothing", ``, `^x`, "ba"},
		{"a counted repeat", ``, `^(a{2,3}){1,2}?(a*)$`, "aaaaaaa"},
		{"within", `^\S+ (?P<content>.+)$`, `^b(?P<x>.)`, "aa bc"},
		{"a word begins with the text within", `^a(?P<content>.+)$`, `\bb(?P<x>.)`, "abc"},
		{"within, the longer head", `^(?:a )?(?P<content>.+)$`, `^(a )?b`, "a b"},
		{"within, the head that matches is final", `^(a|ab)(?P<content>.+)$`, `^c`, "abc"},
		{"within, a head with a look-ahead", `^(?:a(?= .*9)|x) (?P<content>.+)$`, `^(b)`, "a b 89"},
		{"within, a head with a look-ahead that fails", `^(?:a(?= .*9)|x) (?P<content>.+)$`, `^(b)`, "a b 8"},
		{"within, nothing left", `^ab(?P<content>.+)$`, `^c`, "ab"},
		{"within, anywhere", `^a(?P<content>.+)$`, `(c+)`, "abbccb"},
	} {
		r := Rule{Regexp: mustCompile(t, c.pattern)}
		if c.within != "" {
			r.Within = mustCompile(t, c.within)
			r.Group = slices.Index(r.Within.names, "content")
		}
		tracer := NewTracer(r)
		for range 2 { // with states that are new, and with those that are there
			if sameAsSearch(t, tracer, r, []byte(c.line)) == 0 {
				t.Errorf("%s: %v within %v in %q cannot be told", c.name, r.Regexp, r.Within, c.line)
			}
		}
	}
}

func TestTracerLeavesToSearch(t *testing.T) {
	tracer := NewTracer(Rule{Regexp: mustCompile(t, `^(.*)a`)})
	for name, text := range map[string]string{
		"characters beyond ASCII": "éa\n", "two lines": "a\na\n", "no line feed": "a", "nothing": "",
		"a long line": strings.Repeat("a", maxTraceText) + "\n",
	} {
		if _, _, ok := tracer.Search([]byte(text), nil, nil); ok {
			t.Errorf("%s: told", name)
		}
	}
	for _, pattern := range []string{`(a)\1`, `(?<=a)b`, `(?>a*)b`, `a*+b`, `(?=(a))a`, `(a?)*b`, `(?m)^a`} {
		if NewTracer(Rule{Regexp: mustCompile(t, pattern)}) != nil {
			t.Errorf("%s has a tracer", pattern)
		}
	}
}

// Patterns that make ever new states keep within the memory.
func TestTracerIsBounded(t *testing.T) {
	r := Rule{Regexp: mustCompile(t, `^(?:.*a.{12}|(b)*.*?a.{9}c)$`)}
	tracer := NewTracer(r)
	told := 0
	for i := range 30_000 {
		line := []byte(strings.Repeat("b", 30))
		for j := range line {
			if (i*7919+j*j*31)>>(j%13)&1 == 1 {
				line[j] = 'a'
			}
		}
		told += sameAsSearch(t, tracer, r, line)
		if tracer.memory > maxTraceMemory {
			t.Fatalf("%d bytes", tracer.memory)
		}
	}
	if told == 0 || tracer.full == 0 {
		t.Errorf("%d lines told, %d times full", told, tracer.full)
	}
}

// What a tracer finds is what Search finds, whatever the patterns and the line.
func FuzzTracer(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed.pattern, `(?:\S+\s+)?x?`, []byte(seed.text))
	}
	f.Add(`^Failed (?:(?P<no>publickey)|\S+) for (?P<i>inv )?(?P<u>(?P<c>\S+)|(?(i)(?:(?! from ).)*?|[^:]+)) from (\d+)`,
		`(?:\S+\s+)?(?:a: )?`, []byte("host a: Failed password for inv x y from 7"))
	f.Fuzz(func(t *testing.T, pattern, head string, line []byte) {
		if len(pattern) > 200 || len(head) > 100 || len(line) > 300 {
			return
		}
		re, err := Compile(pattern, 0)
		if err != nil {
			return
		}
		re.allowance = 100_000
		rules := []Rule{{Regexp: re}}
		if w, err := Compile(`^(?:`+head+`)(?P<content>.+)$`, 0); err == nil {
			w.allowance = 100_000
			rules = append(rules, Rule{Regexp: re, Within: w, Group: slices.Index(w.names, "content")})
		}
		for _, r := range rules {
			sameAsSearch(t, NewTracer(r), r, line, bytes.ToUpper(line), line[len(line)/2:], line)
		}
	})
}
