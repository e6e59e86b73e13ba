package filter

import (
	"slices"
	"strings"
	"testing"

	"bantam"
)

// The traps of detection.md 10 that are the filter's. Where Bantam does better on
// purpose the test holds that, and docs/differences.md says so.

// withPrefix is undated behind a prefregex.
func withPrefix(prefix string, fail ...string) Config {
	c := undated(fail...)
	c.Prefregex = prefix
	return c
}

// sees checks who is counted for a line.
func sees(t *testing.T, c Config, line, want string) {
	t.Helper()
	if got := who(judgeText(New(mustCompile(t, c)), line)); got != want {
		t.Errorf("%q on %q: got %q, want %q", c.Failregex, line, got, want)
	}
}

// refuses checks that a filter is refused with a message that says so much.
func refuses(t *testing.T, c Config, want ...string) {
	t.Helper()
	_, err := Compile(c)
	if err == nil {
		t.Errorf("%q is accepted", c.Failregex)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

// Ours: it looks like an address and is none.
func TestTrap21_WordsWithAColonAreNobody(t *testing.T) {
	sees(t, undated(`^f <HOST> x$`), "f a:b x", "")
}

// Ours: there is no such address.
func TestTrap22_NumbersOutOfRangeAreNobody(t *testing.T) {
	sees(t, undated(`f <HOST>$`), "f 999.1.1.1", "")
}

// Ours in the first case: 1.2.3.456 is no address.
func TestTrap23_AnUnanchoredHostEndsInTheMiddle(t *testing.T) {
	sees(t, undated(`^f <HOST>`), "f 1.2.3.4567 x", "")
	sees(t, undated(`^f <HOST>`), "f 1.2.3.4.example.net x", "1.2.3.4")
}

// The address is Fail2Ban's; it writes it ::255.255.0.1.
func TestTrap24_AMappedAddressInCapitalsIsCutShort(t *testing.T) {
	sees(t, undated(`^f <HOST>`), "f ::FFFF:1.2.3.4 x", "::ffff:1")
	sees(t, undated(`^f <HOST>`), "f ::ffff:1.2.3.4 x", "1.2.3.4")
}

// Ours: who writes the log could have any address banned with a number that stands for it.
func TestTrap25_ShortNumbersAreNotResolved(t *testing.T) {
	for _, number := range []string{"1.2.3", "12345", "0x7f000001", "0X7F.1", "host.123"} {
		sees(t, undated(`^f <DNS> x$`), "f "+number+" x", "")
	}
	for _, name := range []string{"1.2.3.example", "0xyz", "abc", "123a", "0x"} {
		sees(t, undated(`^f <DNS> x$`), "f "+name+" x", "name "+name)
	}
	raw := undated(`^f <DNS> x$`)
	raw.UseDNS = "raw"
	sees(t, raw, "f 1.2.3 x", "text 1.2.3")
}

func TestTrap26_TheEndOfTheTextIsBehindTheLineEnd(t *testing.T) {
	sees(t, undated(`^u <HOST>\Z`), "u 1.2.3.4", "")
	sees(t, undated(`^u <HOST>$`), "u 1.2.3.4", "1.2.3.4")
	sees(t, undated(`^u <HOST>\n\Z`), "u 1.2.3.4", "1.2.3.4")
}

func TestTrap27_TheDateLeavesAHole(t *testing.T) {
	sees(t, Config{Failregex: []string{`^\[\] f <HOST>$`}}, "[2026-06-04 10:00:00] f 1.2.3.4", "1.2.3.4")
	sees(t, Config{Failregex: []string{`^ h f <HOST>$`}}, "Jun  4 10:00:00 h f 1.2.3.4", "1.2.3.4")
	sees(t, Config{Failregex: []string{`^h f <HOST>$`}}, "Jun  4 10:00:00 h f 1.2.3.4", "")
}

func TestTrap28_NofailAloneIsAFailure(t *testing.T) {
	sees(t, undated(`^<F-NOFAIL>conn</F-NOFAIL> <HOST>$`), "conn 1.1.1.1", "1.1.1.1")
	sees(t, undated(`^<F-MLFID>s</F-MLFID> <F-NOFAIL>conn</F-NOFAIL> <HOST>$`), "s conn 1.1.1.1", "")
}

func TestTrap29_FailuresThatWaitBecomeOne(t *testing.T) {
	got := story(New(sessionRules(t)), "s1 bad a", "s1 bad a", "s1 conn 1.1.1.1")
	if want := []string{"3: 1.1.1.1 by s1 bad a|s1 bad a|s1 conn 1.1.1.1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTrap30_ASecondUserRevokesNofail(t *testing.T) {
	got := story(New(sessionRules(t)), "s1 bad a", "s1 ok b 1.1.1.1")
	if len(got) != 1 || !strings.HasPrefix(got[0], "2: 1.1.1.1 ") {
		t.Errorf("got %q, want one failure at the log-in", got)
	}
	if got := story(New(sessionRules(t)), "s1 bad a", "s1 ok a 1.1.1.1"); got != nil {
		t.Errorf("got %q, want none: it is the same user", got)
	}
}

func TestTrap31_WhatIgnoreregexSeesDependsOnTheNumberOfFailregexes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5} {
		c := withPrefix(`^A <F-CONTENT>.+</F-CONTENT>$`, `^f <HOST>$`)
		for range n - 1 {
			c.Failregex = append(c.Failregex, `never <HOST>`)
		}
		c.Ignoreregex = []string{`^A f`}
		want := "1.1.1.1"
		if n >= 4 {
			want = ""
		}
		sees(t, c, "A f 1.1.1.1", want)
		c.Ignoreregex = []string{`^f`}
		sees(t, c, "A f 1.1.1.1", "")
	}
}

// The name is handed on to be resolved, and it alone.
func TestTrap32_TheFirstMatchWinsEvenIfItYieldsNothing(t *testing.T) {
	c := undated(`f <HOST>`, `g <HOST>`)
	sees(t, c, "f nope.invalid g 5.6.7.8", "name nope.invalid")
	c.UseDNS = "no"
	c.Failregex[0] = `f <DNS>`
	sees(t, c, "f nope.invalid g 5.6.7.8", "")
	sees(t, c, "f! g 5.6.7.8", "5.6.7.8")
}

func TestTrap33_AnAddressOfVersion4BeatsOneOfVersion6(t *testing.T) {
	c := withPrefix(`^A <HOST> <F-CONTENT>.+</F-CONTENT>$`, `^bad <HOST>$`)
	sees(t, c, "A 1.2.3.4 bad ::5", "1.2.3.4")
	sees(t, c, "A 1.2.3.4 bad 5.6.7.8", "5.6.7.8")
	sees(t, c, "A ::5 bad 1.2.3.4", "1.2.3.4")
}

func TestTrap34_AnAlternativeNeedsAnUnderscoreBeforeItsNumber(t *testing.T) {
	judge := func(tag string) bantam.Failure {
		f := New(mustCompile(t, undated(`^u <F-USER>\S*</F-USER> <`+tag+`>\S*</`+tag+`> <HOST>$`)))
		return judgeText(f, "u  B 1.2.3.4")[0]
	}
	if fl := judge("F-ALT_USER1"); fl.User != "" || fl.Data["user1"] != "B" {
		t.Errorf("F-ALT_USER1: user %q, data %v; want no user, user1 B", fl.User, fl.Data)
	}
	if fl := judge("F-ALT_USER_1"); fl.User != "B" {
		t.Errorf("F-ALT_USER_1: user %q, want B", fl.User)
	}
}

// Ours: it is this jail that is refused.
func TestTrap35_ATagWithAHyphenIsNoName(t *testing.T) {
	refuses(t, undated(`<F-A-B>x</F-A-B> <HOST>`), "failregex 1: ", "bad character in group name 'a-b'")
	refuses(t, undated(`<F-1A>x</F-1A> <HOST>`), "failregex 1: ", "bad character in group name '1a'")
}

// Ours: it is this jail that is refused.
func TestTrap36_ATagIsReplacedBehindABackslash(t *testing.T) {
	refuses(t, undated(`^u \<HOST> x`), "failregex 1: unbalanced parenthesis", `in "^u \\<HOST> x"`)
}

// What is an hour old in a running log was written now, by a clock in another zone.
func TestTrap45_OldEntriesCountAsNowInOperation(t *testing.T) {
	line := bantam.Line{Text: []byte("2026-06-15 11:00:00 f 1.2.3.4"), Read: noon, Live: true}
	fs := New(mustCompile(t, Config{Failregex: []string{`f <HOST>$`}})).Judge(&line, nil)
	if len(fs) != 1 || !fs[0].Time.Equal(noon) {
		t.Errorf("got %+v, want a failure of now, %v", fs, noon)
	}
}
