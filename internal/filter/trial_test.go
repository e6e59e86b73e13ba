package filter

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"bantam"
)

// Several rules in one trial come to what each comes to alone, and lines that were dated
// first and are judged later, by another trial and out of order, to the same.
func TestTrialsOfSeveralRules(t *testing.T) {
	epoch := undated(`^f <HOST>$`)
	epoch.DatePattern = []string{"^EPOCH"}
	rules := []*Rules{
		mustCompile(t, undated(`^f <HOST>$`, `^f 1<ADDR>$`)),
		mustCompile(t, epoch),
		mustCompile(t, Config{Failregex: []string{`^ f <ADDR>$`, `^never <HOST>$`}, Ignoreregex: []string{`1\.1\.1\.2`}}),
	}
	rules = append(rules, rules[0]) // the same once more
	var lines []*bantam.Line
	for i := range 40 {
		for _, format := range []string{"f 1.1.1.%d", "11200000%02d f 1.1.1.2", "Jun 21 16:47:%02d f 1.1.1.2", "2005-06-21 16:47:%02d f 1.1.1.3", "f %d"} {
			lines = append(lines, &bantam.Line{Text: fmt.Appendf(nil, format, i), Read: time.Unix(1_120_000_000, 0)})
		}
	}
	o := TrialOptions{Every: true}
	together, alone := NewTrial(o, rules...), []*Trial{}
	for _, r := range rules {
		alone = append(alone, NewTrial(o, r))
	}
	dater, hits := NewTrial(o, rules...), 0
	var want [][]Outcome
	var stamps [][]Stamp
	for _, line := range lines {
		got := copied(together.Try(line))
		for i, a := range alone {
			if one := copied(a.Try(line)); !reflect.DeepEqual(got[i], one[0]) {
				t.Errorf("%q by rules %d of several: %+v, alone %+v", line.Text, i, got[i], one[0])
			}
			hits += len(got[i].Hits)
		}
		want = append(want, got)
		stamps = append(stamps, dater.Date(line, nil))
	}
	if hits < len(lines) {
		t.Errorf("only %d hits", hits)
	}
	later := NewTrial(o, rules...)
	for i := len(lines) - 1; i >= 0; i-- {
		if got := copied(later.TryDated(lines[i], stamps[i])); !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%q dated before: %+v, want %+v", lines[i].Text, got, want[i])
		}
	}
}

// copied is outcomes that outlive the next line.
func copied(outs []Outcome) []Outcome {
	outs = append([]Outcome(nil), outs...)
	for i := range outs {
		outs[i] = outs[i].Clone()
	}
	return outs
}

func TestAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   bool
	}{
		{"plain expressions", Config{Prefregex: `x<F-CONTENT>.*</F-CONTENT>`, Failregex: []string{`<HOST>`}}, true},
		{"a session in an expression", Config{Failregex: []string{`<HOST>`, `<F-MLFID>x</F-MLFID> <HOST>`}}, false},
		{"a session in prefregex", Config{Prefregex: `<F-MLFID>x</F-MLFID>`, Failregex: []string{`<HOST>`}}, false},
		{"several lines together", Config{MaxLines: 2, Failregex: []string{`<HOST>`}}, false},
		{"one line together", Config{MaxLines: 1, Failregex: []string{`<HOST>`}}, true},
	} {
		if got := mustCompile(t, c.config).Alone(); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// Rules for another jail find the same in its name and share the counts of faults.
func TestRulesForAnotherJail(t *testing.T) {
	one := mustCompile(t, undated(`^f <HOST>$`))
	other := one.For("other")
	if one.Jail() == other.Jail() || other.Jail() != "other" {
		t.Fatalf("the jails are %q and %q", one.Jail(), other.Jail())
	}
	if got := judgeText(New(one, other), "f 1.1.1.1"); len(got) != 2 || got[0].Jail != one.Jail() || got[1].Jail != "other" {
		t.Errorf("it fails as %+v", got)
	}
	one.fail[0].overruns.Add(1)
	if len(other.Faults()) != 1 {
		t.Error("the count is not shared")
	}
}
