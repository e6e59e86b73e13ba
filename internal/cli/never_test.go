package cli

import (
	"strings"
	"testing"
)

func TestNeverMatches(t *testing.T) {
	for _, c := range []struct{ name, expr, why string }{
		{"nothing matches behind the line end but itself", `^u <HOST>\Z`, `\Z means`},
		{"a group before the end of the text", `^u (?:<HOST>|-)\Z`, `\Z means`},
		{"something behind the end of the line", `^u <HOST>$ x`, `nothing can follow $`},
		{"a dollar sign that was not escaped", `^cost $5 <HOST>`, `nothing can follow $`},
		{"a start in the middle", `u ^<HOST>`, `^ stands behind`},
		{"a start in the middle, in a group", `^a (?:x|^b)(?:^c|^d) <HOST>`, `^ stands behind`},
		{"a start in the middle, the other spelling", `u \A<HOST>`, `\A stands behind`},
		{"a class that leaves nothing", `^u [^\s\S]<HOST>`, `leaves no character`},
		{"an empty negative look-ahead", `^u (?!)<HOST>`, `always fails`},
		{"in one alternative and in the other", `^u$a <HOST>|^v$b <HOST>`, `nothing can follow $`},
		{"behind a tag of a field", `^<F-USER>\S+</F-USER>^ <HOST>`, `^ stands behind`},
		{"several lines", `^a<SKIPLINES>b <HOST>`, `maxlines`},

		{"in one alternative only", `^u$a <HOST>|^v <HOST>`, ""},
		{"an optional part", `^u(?:$x)? <HOST>`, ""},
		{"the line end behind the end of the line", `^u <HOST>$\n`, ""},
		{"white space that may be the line end", `^u <HOST>\s*\Z`, ""},
		{"white space required behind the end of the line", `^u <HOST>$\s`, ""},
		{"the end of the text by itself", `.*\Z`, ""},
		{"a start behind what may be nothing", `\s*^u <HOST>`, ""},
		{"two starts", `^^u <HOST>`, ""},
		{"a start behind a look-ahead", `(?=a)^u <HOST>`, ""},
		{"signs in classes and escaped", `^u [$^] \$ \^ <HOST>$`, ""},
		{"a bracket in a class", `^u []^$] <HOST>`, ""},
		{"a negative look-ahead", `^u (?!$)(?!x) <HOST>`, ""},
		{"a back-reference that may be empty", `^(?P<a>x?)$(?P=a)<HOST>?`, ""},
		{"a condition", `^(?P<a>x)?(?(a)$|y) <HOST>`, ""},
		{"anchors that mean every line", `(?m)^a$\n?^b <HOST>`, ""},
		{"white space that means nothing", `(?x) ^a$ # b
			| <HOST>`, ""},
		{"what is not understood", `^a$(?<x <HOST>`, ""},
		{"what is not closed", `^a$(x`, ""},
		{"nothing", ``, ""},
	} {
		got := neverMatches(c.expr)
		if c.why == "" && got != "" || !strings.Contains(got, c.why) {
			t.Errorf("%s: %s: %q, want %q", c.name, c.expr, got, c.why)
		}
	}
}

func FuzzNeverMatches(f *testing.F) {
	f.Add(`^u (?P<a>[^x])?(?(a)$|\Z)*? <HOST>{2,}(?!)(?=b)\x41[]a]`)
	f.Add(strings.Repeat("(", 200) + strings.Repeat(")*", 200))
	f.Fuzz(func(t *testing.T, expr string) {
		if len(expr) > 10_000 {
			return
		}
		// An alternative that matches anything takes every reproach away.
		if why := neverMatches(expr + "|x"); why != "" && !strings.ContainsAny(expr, "([\\") {
			t.Errorf("%q: %s", expr, why)
		}
	})
}
