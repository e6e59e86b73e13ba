package pyre

import (
	"strings"
	"testing"
)

func TestFutile(t *testing.T) {
	for _, c := range []struct{ name, expr, why string }{
		{"the end of the text where there is a line feed", `^u x\Z`, `\Z means`},
		{"a group before the end of the text", `^u (?:x|-)\Z`, `\Z means`},
		{"something behind the end of the line", `^u x$ x`, `nothing can follow $`},
		{"a dollar sign that was not escaped", `^cost $5 x`, `nothing can follow $`},
		{"a start in the middle", `u ^x`, `^ or \A stands behind`},
		{"a start in the middle, in a group", `^a (?:x|^b)(?:^c|^d) x`, `stands behind`},
		{"a start in the middle, the other spelling", `u \Ax`, `stands behind`},
		{"a set that leaves nothing", `^u [^\s\S]x`, `leaves no character`},
		{"an empty negative look-ahead", `^u (?!)x`, `always fails`},
		{"in one alternative and in the other", `^u$a x|^v$b x`, `nothing can follow $`},
		{"another line", `^a\n(?:.*\n)*?b x`, `nothing can follow \Z or`},
		{"twice what may be there once", `(?:u$){2}`, ""}, // not followed
		{"behind a group", `^(?P<user>\S+)^ x`, `stands behind`},
		{"at least once", `u(?:$x)+`, `nothing can follow $`},

		{"in one alternative only", `^u$a x|^v x`, ""},
		{"an optional part", `^u(?:$x)? x`, ""},
		{"the line feed behind the end of the line", `^u x$\n`, ""},
		{"white space that may be the line feed", `^u x\s*\Z`, ""},
		{"white space required behind the end of the line", `^u x$\s`, ""},
		{"the end of the text by itself", `(?s).*\Z`, ""},
		{"a start behind what may be nothing", `\s*^u x`, ""},
		{"two starts", `^^u x`, ""},
		{"a start behind a look-ahead", `(?=a)^u x`, ""},
		{"signs in sets and escaped", `^u [$^] \$ \^ x$`, ""},
		{"a negative look-ahead", `^u (?!$)(?!x) x`, ""},
		{"a back-reference that may be empty", `^(?P<a>x?)$(?P=a)x?`, ""},
		{"a condition", `^(?P<a>x)?(?(a)$|y) x`, ""},
		{"anchors that mean every line", `(?m)^a$\n?^b x`, ""},
		{"nothing", ``, ""},
	} {
		re := mustCompile(t, c.expr)
		got := re.Futile()
		if c.why == "" && got != "" || !strings.Contains(got, c.why) {
			t.Errorf("%s: %s: %q, want %q", c.name, c.expr, got, c.why)
		}
	}
}

// What is said to be futile matches no line.
func FuzzFutile(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s.pattern, s.text)
	}
	f.Add(`u$|^x\Z`, "u")
	f.Fuzz(func(t *testing.T, pattern, line string) {
		if len(pattern) > 200 || len(line) > 300 {
			return
		}
		re, err := Compile(pattern, 0)
		if err != nil || re.Futile() == "" {
			return
		}
		line = strings.ReplaceAll(line, "\n", "") + "\n"
		if spans, _ := re.SearchString(line, nil); spans != nil {
			t.Fatalf("%q matches %q, but: %s", pattern, line, re.Futile())
		}
	})
}
