package filter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bantam"
)

// several is undated, judging so many lines together.
func several(n int, fail ...string) Config {
	c := undated(fail...)
	c.MaxLines = n
	return c
}

// story judges lines one by one and tells of each failure after which line it came,
// who it was and which lines prove it.
func story(f *Filter, lines ...string) []string {
	var out []string
	for i, line := range lines {
		for _, fl := range judgeText(f, line) {
			out = append(out, fmt.Sprintf("%d: %s by %s", i+1, who([]bantam.Failure{fl}), strings.Join(fl.Lines, "|")))
		}
	}
	return out
}

func TestSeveralLines(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		lines  []string
		want   []string
	}{
		{
			"the lines between are skipped",
			several(5, `^a \d+<SKIPLINES>b <HOST>$`),
			[]string{"a 1", "n", "b 1.1.1.1"},
			[]string{"3: 1.1.1.1 by a 1|b 1.1.1.1"},
		},
		{
			"there need be none",
			several(5, `^a \d+<SKIPLINES>b <HOST>$`),
			[]string{"a 1", "b 1.1.1.1"},
			[]string{"2: 1.1.1.1 by a 1|b 1.1.1.1"},
		},
		{
			"as many as maxlines hold",
			several(5, `^a<SKIPLINES>b <HOST>$`),
			[]string{"a", "n", "n", "n", "b 1.1.1.1", "a", "n", "n", "n", "n", "b 1.1.1.1"},
			[]string{"5: 1.1.1.1 by a|b 1.1.1.1"},
		},
		{
			"with maxlines 1 nothing can be skipped",
			several(1, `^a<SKIPLINES>b <HOST>$`),
			[]string{"a", "b 1.1.1.1"},
			nil,
		},
		{
			"what matched is used up",
			several(5, `^a<SKIPLINES>b <HOST>$`),
			[]string{"a", "b 1.1.1.1", "b 1.1.1.1"},
			[]string{"2: 1.1.1.1 by a|b 1.1.1.1"},
		},
		{
			"skipped twice, with a reference from line to line of the text",
			several(6, `^a<SKIPLINES>n<SKIPLINES>b <HOST>$`),
			[]string{"a", "m", "n", "m", "b 1.1.1.1", "a", "n", "b 1.1.1.2"},
			[]string{"5: 1.1.1.1 by a|n|b 1.1.1.1", "8: 1.1.1.2 by a|n|b 1.1.1.2"},
		},
		{
			"a match that begins with a line end begins behind it",
			several(5, `\nb <HOST>$`),
			[]string{"a", "b 1.1.1.1", "c", "b 1.1.1.2"},
			[]string{"2: 1.1.1.1 by b 1.1.1.1", "4: 1.1.1.2 by b 1.1.1.2"},
		},
		{
			"a match that only looks ahead uses its line up",
			several(5, `^b <HOST><SKIPLINES>x`),
			[]string{"b 1.1.1.1", "n", "x", "x"},
			[]string{"3: 1.1.1.1 by b 1.1.1.1|x"},
		},
		{
			"the first match ends it for this line",
			several(5, `^a <HOST>$`, `^b <HOST>$`),
			[]string{"a 1.1.1.1", "b 1.1.1.2"},
			[]string{"1: 1.1.1.1 by a 1.1.1.1", "2: 1.1.1.2 by b 1.1.1.2"},
		},
		{
			"a match that names nobody is used up, and the next is tried on the rest",
			several(5, `^a(?: <HOST>)?`, `^b <HOST>$`),
			[]string{"a!", "a 1.1.1.1"},
			[]string{"2: 1.1.1.1 by a 1.1.1.1"},
		},
		{
			"content of several lines",
			func() Config {
				c := several(5, `^a<SKIPLINES>b <HOST>$`)
				c.Prefregex = `^P <F-CONTENT>(?:.|\n)+\d</F-CONTENT>$`
				return c
			}(),
			[]string{"P a", "n", "b 1.1.1.1", "b 1.1.1.1"},
			[]string{"3: 1.1.1.1 by P a|b 1.1.1.1"},
		},
		{
			"a session told in blocks",
			several(3, `^<F-MLFID>s\d</F-MLFID> <F-NOFAIL>c</F-NOFAIL><SKIPLINES>from <HOST>$`, `^<F-MLFID>s\d</F-MLFID> bad$`),
			[]string{"s1 c", "n", "from 1.1.1.1", "s1 bad"},
			[]string{"4: 1.1.1.1 by s1 c|from 1.1.1.1|s1 bad"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := story(New(mustCompile(t, c.config)), c.lines...); !slices.Equal(got, c.want) {
				t.Errorf("%s\ngot  %q\nwant %q", strings.Join(c.lines, "; "), got, c.want)
			}
		})
	}
}

func TestTrap37_OnlyFailregexMatchesAtEachLine(t *testing.T) {
	for ignore, want := range map[string][]string{
		`^b`:   {"3: 1.1.1.1 by a 1|b 1.1.1.1"}, // the start of what matched is meant
		`\nb`:  nil,
		`^a`:   nil,
		`^n`:   {"3: 1.1.1.1 by a 1|b 1.1.1.1"}, // skipped, so not looked at
		`\nn`:  {"3: 1.1.1.1 by a 1|b 1.1.1.1"},
		`1\n$`: nil,
	} {
		c := several(10, `^a \d+<SKIPLINES>b <HOST>$`)
		c.Ignoreregex = []string{ignore}
		if got := story(New(mustCompile(t, c)), "a 1", "n", "b 1.1.1.1"); !slices.Equal(got, want) {
			t.Errorf("ignoreregex %s: got %q, want %q", ignore, got, want)
		}
	}
	// What is ignored is used up, too.
	c := several(10, `^a<SKIPLINES>b <HOST>$`)
	c.Ignoreregex = []string{`\nb 1`}
	if got, want := story(New(mustCompile(t, c)), "a", "b 1.1.1.1", "b 2.2.2.2"), []string(nil); !slices.Equal(got, want) {
		t.Errorf("the line of an ignored failure made another: %q", got)
	}
}

func TestTrap38_UnmatchedLinesWaitForTheirOwnFailure(t *testing.T) {
	f := New(mustCompile(t, several(5, `^a \d+<SKIPLINES>b <HOST>$`, `^x \d+<SKIPLINES>y <HOST>$`)))
	got := story(f, "a 1", "x 9", "b 1.1.1.1", "y 2.2.2.2")
	want := []string{"3: 1.1.1.1 by a 1|b 1.1.1.1", "4: 2.2.2.2 by x 9|y 2.2.2.2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// However long lines are, a bounded part of them waits.
func TestWaitingLinesAreBounded(t *testing.T) {
	f := New(mustCompile(t, several(1000, `^a<SKIPLINES>b <HOST>$`)))
	for range 100 {
		judgeText(f, strings.Repeat("x", maxHeld/10))
	}
	size := 0
	for _, l := range f.views[0].jails[0].recent.lines {
		size += len(l.text) + len(l.logged)
	}
	if size > 2*maxHeld {
		t.Errorf("%d bytes wait, want at most %d", size, 2*maxHeld)
	}
	judgeText(f, strings.Repeat("x", 2*maxHeld))
	if n := len(f.views[0].jails[0].recent.lines); n != 1 {
		t.Errorf("%d lines wait behind a huge one, want it alone", n)
	}
	if got := story(f, "a", "b 1.1.1.1"); len(got) != 1 {
		t.Errorf("after huge lines: got %q, want one failure", got)
	}
}
