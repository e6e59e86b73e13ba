package pyre

import (
	"slices"
	"testing"
)

var fuzzSeeds = []struct{ pattern, text string }{
	{`^(?P<user>\S+) from (?P<ip>\d+(?:\.\d+){3})(?! port 22)`, "root from 192.0.2.7 port 22"},
	{`(a|aa)+$`, "aaaaaaaaaaaaaaaaaaaaaaaab"},
	{`.*a.{500}`, "aaaa"},
	{`(?:(?:x{0,10}){0,10}){0,10}`, "xxxx"},
	{`(?i)(?P<q>['"])?ſ(?(q)(?P=q)|\b)`, `"S"`},
	{`(?<=a\b)(?>b*)c++[^\W\d]`, "a\xffbc"},
	{`(?x) a # b
	c`, "ac"},
	{`((?:a?)*b?)*c`, "aaab"},
	{`(?s:.)*?\Z`, "\n\n"},
	{`((.{,}.|(^\W|)ı*µ){,2}?�)`, "\u00a0É中µ-\x1d\u00a0İ\u00a0BKb"},
	{`(?=(?:\S*x|\S+?é)*y)\S`, "éxéxx中é"},
}

// Compiling and searching end, whatever the pattern and the text: within the steps
// allowed, at places where characters begin, and the same by either way.
func FuzzSearch(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s.pattern, []byte(s.text), uint8(0))
	}
	f.Fuzz(func(t *testing.T, pattern string, text []byte, flags uint8) {
		if len(pattern) > 200 || len(text) > 500 {
			return
		}
		re, err := Compile(pattern, Flags(flags)&(IgnoreCase|Multiline|DotAll|Verbose|ASCII))
		if err != nil {
			return
		}
		re.allowance = 100_000
		spans, err := re.Search(text, nil)
		if err != nil {
			return
		}
		if spans != nil && len(spans) != 2*len(re.names) {
			t.Fatalf("%q in %q: %d spans for %d groups", pattern, text, len(spans), len(re.names))
		}
		begins := map[int]bool{-1: true}
		for i := 0; i < len(text); {
			begins[i] = true
			_, size := decode(text, i)
			i += size
		}
		begins[len(text)] = true
		for i, at := range spans {
			if !begins[at] || i%2 == 1 && at < spans[i-1] {
				t.Fatalf("%q in %q: spans %v", pattern, text, spans)
			}
		}
		if p := re.linear(); p != nil && !p.budgeted {
			if again, _ := re.remembering(text); !slices.Equal(again, spans) {
				t.Fatalf("%q in %q: %v, but %v with a memory", pattern, text, spans, again)
			}
		}
	})
}
