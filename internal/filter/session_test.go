package filter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

// sessionRules know the lines of the table in detection.md 4.7: "s1 bad a" is a
// failure, "s1 conn IP" no failure with an address, "s1 bye" no failure and the
// end, "s1 ok a" a granted access. Each may have an address behind it.
func sessionRules(t testing.TB) *Rules {
	const addr = `(?: <ADDR>)?$`
	return mustCompile(t, undated(
		`^<F-MLFID>\w+</F-MLFID> bad(?: <F-USER>[a-z]\w*</F-USER>)?`+addr,
		`^<F-MLFID>\w+</F-MLFID> <F-NOFAIL>conn</F-NOFAIL>`+addr,
		`^<F-MLFID>\w+</F-MLFID> <F-NOFAIL><F-MLFFORGET>bye</F-MLFFORGET></F-NOFAIL>`+addr,
		`^<F-MLFID>\w+</F-MLFID> <F-MLFGAINED>ok</F-MLFGAINED> <F-USER>[a-z]\w*</F-USER>`+addr,
	))
}

func TestSessions(t *testing.T) {
	const ip, ip2 = "192.0.2.1", "192.0.2.2"
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // the address after each line that fails, and the number of its lines
	}{
		{
			"two failures after a connect, none after the end",
			[]string{"s conn " + ip, "s bad a", "s bad a", "s bye", "s bad a"},
			[]string{"2: 192.0.2.1 from 2", "3: 192.0.2.1 from 1"},
		},
		{
			"failures that wait for their address are one",
			[]string{"s bad a", "s bad a", "s conn " + ip},
			[]string{"3: 192.0.2.1 from 3"},
		},
		{
			"the last line brings the address",
			[]string{"s bad a", "s bye " + ip},
			[]string{"2: 192.0.2.1 from 2"},
		},
		{
			"a session that ends without address is nobody's",
			[]string{"s bad a", "s bye", "s conn " + ip},
			nil,
		},
		{
			"access granted forgives what waits",
			[]string{"s bad a", "s ok a " + ip, "s bye " + ip},
			nil,
		},
		{
			"access granted to another user forgives nothing",
			[]string{"s bad a", "s ok b " + ip, "s bye " + ip},
			[]string{"2: 192.0.2.1 from 1", "3: 192.0.2.1 from 1"},
		},
		{
			"a second user granted access is a failure",
			[]string{"s conn " + ip, "s ok a", "s ok b"},
			[]string{"3: 192.0.2.1 from 3"},
		},
		{
			"two users make the end a failure too",
			[]string{"s conn " + ip, "s bad a", "s bad b", "s bye " + ip},
			[]string{"2: 192.0.2.1 from 2", "3: 192.0.2.1 from 1", "4: 192.0.2.1 from 1"},
		},
		{
			"the last address counts",
			[]string{"s conn " + ip, "s bad a " + ip2, "s bad a"},
			[]string{"2: 192.0.2.2 from 2", "3: 192.0.2.2 from 1"},
		},
		{
			"sessions do not mix",
			[]string{"s conn " + ip, "r conn " + ip2, "s bad a", "r bad a"},
			[]string{"3: 192.0.2.1 from 2", "4: 192.0.2.2 from 2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := New(sessionRules(t))
			var got []string
			for i, line := range c.lines {
				for _, fl := range judgeText(f, line) {
					got = append(got, fmt.Sprintf("%d: %s from %d", i+1, fl.ID, len(fl.Lines)))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s\ngot  %q\nwant %q", strings.Join(c.lines, "; "), got, c.want)
			}
		})
	}
}

// NOFAIL lines of one attempt come with the failure they belong to.
func TestSessionLines(t *testing.T) {
	f := New(sessionRules(t))
	judgeText(f, "s conn 192.0.2.1")
	fs := judgeText(f, "s bad a")
	if len(fs) != 1 || !slices.Equal(fs[0].Lines, []string{"s conn 192.0.2.1", "s bad a"}) || fs[0].User != "a" {
		t.Errorf("got %+v", fs)
	}
}

func TestSessionsAreForgotten(t *testing.T) {
	at := func(f *Filter, after time.Duration, text string) int {
		return len(f.Judge(&bantam.Line{Text: []byte(text), Read: noon.Add(after), Live: true}, nil))
	}
	t.Run("300 seconds after their first line", func(t *testing.T) {
		f := New(sessionRules(t))
		at(f, 0, "s conn 192.0.2.1")
		if n := at(f, 300*time.Second, "s bad a"); n != 1 {
			t.Errorf("%d failures in time, want 1", n)
		}
		if n := at(f, 301*time.Second, "s bad a"); n != 0 {
			t.Errorf("%d failures too late, want 0", n)
		}
	})
	t.Run("the oldest when there are more than 100", func(t *testing.T) {
		f := New(sessionRules(t))
		for i := range maxSessions + 1 {
			at(f, 0, fmt.Sprintf("s%d conn 192.0.2.1", i))
		}
		if n := at(f, 0, "s1 bad a"); n != 1 {
			t.Errorf("%d failures of the second session, want 1", n)
		}
		if n := at(f, 0, "s0 bad a"); n != 0 {
			t.Errorf("%d failures of the forgotten session, want 0", n)
		}
	})
}

// One attempt may be told in several ways; that is one failure. The same way again,
// or another address, is another attempt.
func TestAttempts(t *testing.T) {
	f := New(mustCompile(t, undated(
		`^<F-MLFID>\w+</F-MLFID> <F-MLFATTEMPT>invalid</F-MLFATTEMPT> <ADDR>$`,
		`^<F-MLFID>\w+</F-MLFID> <F-MLFATTEMPT>failed</F-MLFATTEMPT> <ADDR>$`,
		`^<F-MLFID>\w+</F-MLFID> kicked <ADDR>$`,
		`^<F-MLFID>\w+</F-MLFID> locked$`,
		`^<F-MLFID>\w+</F-MLFID> <F-MLFATTEMPT>failed</F-MLFATTEMPT> somehow$`,
	)))
	for i, c := range []struct {
		line string
		want string
	}{
		{"s invalid 192.0.2.1", "192.0.2.1"},
		{"s failed 192.0.2.1", ""},
		{"s failed 192.0.2.1", "192.0.2.1"},
		{"s invalid 192.0.2.1", ""},
		{"s kicked 192.0.2.1", "192.0.2.1"},
		{"s failed 192.0.2.2", "192.0.2.2"},
		{"r failed 192.0.2.2", "192.0.2.2"},
		{"q locked", ""},
		{"q failed 192.0.2.3", "192.0.2.3"},
		{"q invalid 192.0.2.3", ""},
		{"q failed somehow", "192.0.2.3"},
		{"q invalid 192.0.2.3", ""},
		{"q invalid 192.0.2.3", "192.0.2.3"},
		{"q failed somehow", ""},
	} {
		if got := who(judgeText(f, c.line)); got != c.want {
			t.Errorf("line %d, %q: got %q, want %q", i+1, c.line, got, c.want)
		}
	}
}
