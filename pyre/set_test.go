package pyre

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func mustCompile(tb testing.TB, pattern string) *Regexp {
	tb.Helper()
	re, err := Compile(pattern, 0)
	if err != nil {
		tb.Fatalf("%s: %v", pattern, err)
	}
	return re
}

func ruleSet(tb testing.TB, patterns ...string) *Set {
	tb.Helper()
	rules := make([]Rule, len(patterns))
	for i, p := range patterns {
		rules[i].Regexp = mustCompile(tb, p)
	}
	return NewSet(rules)
}

func TestCandidates(t *testing.T) {
	prefix := mustCompile(t, `^\s*sshd\[\d+\]: (?P<content>.+)$`)
	open := mustCompile(t, `^<(?P<content>[^>]+)>`)
	s := NewSet([]Rule{
		{Regexp: mustCompile(t, `^Failed \S+ for .* from (\S+)$`), Within: prefix, Group: 1},
		{Regexp: mustCompile(t, `^Accepted`), Within: prefix, Group: 1},
		{Regexp: mustCompile(t, `closed$`), Within: prefix, Group: 1},
		{Regexp: mustCompile(t, `^warn$`), Within: open, Group: 1},
		{Regexp: mustCompile(t, `user (?=.*auth=0)\S+ gone`)},
	})
	for _, c := range []struct {
		line string
		want []int
	}{
		{" sshd[1]: Failed password for root from 192.0.2.1", []int{0}},
		{" sshd[1]: Failed password for root from 192.0.2.1 ", nil},
		{" sshd[1]: Failed password for root from ::1 closed", []int{2}},
		{" sshd[1]: Accepted", []int{1}},
		{"x sshd[1]: Accepted", nil},
		{"cron[1]: Accepted", nil},
		{"<warn> more", []int{3}},
		{"<warning>", []int{3}}, // where the text ends is not known while reading
		{"user a gone auth=0", []int{4}},
		{"user a gone", nil},
		{"user auth=0", nil},
		{"", nil},
	} {
		for cut := range len(c.line) + 1 {
			if got := s.Candidates(nil, []byte(c.line[:cut]), []byte(c.line[cut:])); !slices.Equal(got, c.want) {
				t.Errorf("%q and %q: candidates %v, not %v", c.line[:cut], c.line[cut:], got, c.want)
			}
		}
	}
}

// Patterns made to have more states than any memory holds cost a bounded amount of
// it, and of work for each line; what matches is a candidate all the same.
func TestSetIsBounded(t *testing.T) {
	var words []string
	for i := range 300 {
		words = append(words, fmt.Sprintf(`.*w%d.{60}x`, i))
	}
	for _, patterns := range [][]string{
		{`(a|aa)+$`, `.*a.{500}`, `(?:(?:(?:x{0,1000}){0,1000}){0,1000})y`},
		{`(?:a?){60}a{60}b`},
		{strings.Repeat(`(?:\S+ )?`, 300) + "end"},
		words,
	} {
		s := ruleSet(t, patterns...)
		if len(s.nfa.nodes) > maxNodes+2*len(patterns) {
			t.Errorf("%.30s…: %d nodes", patterns[0], len(s.nfa.nodes))
		}
		text := bytes.Repeat([]byte("aaw1 w22 xa\xc3\xa9 w299axb "), 400)
		for i := range 60 {
			line := text[i*7%50 : len(text)-i]
			got := s.Candidates(nil, line, nil)
			if s.work > maxLineWork+len(s.nfa.nodes) || s.memory > maxSetMemory {
				t.Fatalf("%.30s…: %d nodes visited, %d bytes held", patterns[0], s.work, s.memory)
			}
			if i%20 > 0 {
				continue
			}
			for i, r := range s.all[:min(len(patterns), 3)] {
				if spans, err := mustCompile(t, patterns[i]).Search(append(line[:len(line):len(line)], '\n'), nil); spans != nil && err == nil && !slices.Contains(got, r) {
					t.Fatalf("%.30s… is no candidate", patterns[i])
				}
			}
		}
	}
}

// A line that leads to no new state allocates nothing.
func TestCandidatesAllocateNothing(t *testing.T) {
	s := ruleSet(t, `^a.*b$`, `c\d+`)
	line, dst := []byte("xyz c12 \xc3\xa9"), make([]int, 0, 2)
	s.Candidates(dst, line, nil)
	if n := testing.AllocsPerRun(100, func() { s.Candidates(dst, line, nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A state from which lines mostly go on to the only match left tells so at once, and not any
// more when they do not.
func TestSetLearnsWhatFollows(t *testing.T) {
	s := ruleSet(t, `^Failed password for \S+ from \d`, `^Invalid user \S+ from \d`, `^x`)
	may := func(line string) []int { return s.Candidates(nil, []byte(line), nil) }
	early := func() bool { return slices.ContainsFunc(s.states, func(st state) bool { return st.early }) }
	for range 2 * trialFirst {
		if got := may("Failed password for root from 7"); !slices.Equal(got, []int{0}) {
			t.Fatal(got)
		}
	}
	if !early() {
		t.Error("nothing was learned from lines that match")
	}
	if got := may("Failed password for root, as far as anybody knows"); !slices.Equal(got, []int{0}) {
		t.Errorf("read on: %v", got)
	}
	for range 200 * trialEvery {
		may("Failed password for root, as far as anybody knows")
	}
	if got := may("Failed password for root, as far as anybody knows"); len(got) > 0 || early() {
		t.Errorf("still %v", got)
	}
	if got := may("Invalid user a from 7"); !slices.Equal(got, []int{1}) {
		t.Error(got)
	}
}

// What matches is a candidate, whatever the patterns, the line and where it is cut.
func FuzzSet(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed.pattern, `^x(.+)`, []byte(seed.text), uint8(3))
	}
	f.Fuzz(func(t *testing.T, pattern, within string, line []byte, cut uint8) {
		if len(pattern) > 200 || len(within) > 100 || len(line) > 300 {
			return
		}
		re, err := Compile(pattern, 0)
		if err != nil {
			return
		}
		rules := []Rule{{Regexp: re}}
		if w, err := Compile(within, 0); err == nil {
			rules = append(rules, Rule{Regexp: re, Within: w, Group: len(w.names) - 1})
		}
		line = bytes.ToValidUTF8(line, []byte("\ufffd"))
		at := 0
		for i := range string(line) {
			if i <= int(cut) {
				at = i
			}
		}
		s := NewSet(rules)
		s.turns = -10 // then what may match is told without reading on
		for range 12 {
			may := s.Candidates(nil, line[:at], line[at:])
			for i, r := range rules {
				if r.matches(string(line)+"\n") && !slices.Contains(may, i) {
					t.Fatalf("%q within %v is no candidate in %q", pattern, r.Within, line)
				}
			}
		}
	})
}

func BenchmarkSet(b *testing.B) {
	prefix := mustCompile(b, `^(?:\s*\S+ )?(?:sshd(?:\[\d+\])?:?\s)?(?P<content>.+)$`)
	var rules []Rule
	for _, p := range []string{`^Failed \S+ for .* from (\S+)`, `^Invalid user .* from \S+`, `^Connection closed by \S+`, `^User .+ not allowed`} {
		rules = append(rules, Rule{Regexp: mustCompile(b, p), Within: prefix, Group: 1})
	}
	for _, c := range []struct {
		name, line string
		rules      []Rule
	}{
		{"anchored, other service", " gate CRON[812]: pam_unix(cron:session): session opened for user root by (uid=0)", rules},
		{"anchored, match", " gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2", rules},
		{"unanchored", `192.0.2.7 - - [] "GET /index.html?a=b HTTP/1.1" 200 512 "-" "curl/8.1.2 and some more of it"`, []Rule{{Regexp: mustCompile(b, `admin\.php`)}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, line, dst := NewSet(c.rules), []byte(c.line), make([]int, 0, 4)
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				dst = s.Candidates(dst[:0], line[:5], line[5:])
			}
		})
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, c := range []struct{ name, pattern, line string }{
		{"head", `^(?:\s*\S+ )?(?:sshd(?:\[\d+\])?:?\s)?(?P<content>.+)$`, " gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n"},
		{"failure", `^Failed \S+ for (?P<user>.*) from (?P<host>\S+)(?: port \d+)?(?: ssh\d*)?$`, "Failed password for root from 192.0.2.7 port 4022 ssh2\n"},
		{"address", `^Failed \S+ for (?P<user>.*) from (?:(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})|\[?(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):))\]?|(?P<dns>[\w\-.^_]*\w))(?: port \d+)?(?: ssh\d*)?$`, "Failed password for root from 192.0.2.7 port 4022 ssh2\n"},
		{"nowhere", `admin\.php`, `192.0.2.7 - - [] "GET /index.html?a=b HTTP/1.1" 200 512 "-" "curl/8.1.2 and some more of it"` + "\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			re, line := mustCompile(b, c.pattern), []byte(c.line)
			spans := make([]int, 0, 16)
			b.ReportAllocs()
			for b.Loop() {
				re.Search(line, spans)
			}
		})
	}
}
