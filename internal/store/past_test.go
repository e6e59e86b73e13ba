package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bantam"
)

func TestWhatAllBansOfAnIDComeTo(t *testing.T) {
	s := open(t, "")
	start := func(jail string, after time.Duration, failures int, observed bool, lines ...string) {
		b := ban(1)
		b.Jail, b.Time, b.Failures, b.Lines, b.Observed = jail, now.Add(after), failures, lines, observed
		do(s, bantam.Decision{Kind: bantam.Start, Ban: b})
	}
	start("sshd", time.Minute, 5, false, "second")
	start("other", 2*time.Minute, 3, false, "third", "fourth")
	start("sshd", 0, 0, false, "first") // by hand
	start("sshd", 3*time.Minute, 7, true, "observed")
	for _, tt := range []struct {
		name, jail string
		lines      []string
		failures   int
	}{
		{"all jails", "", []string{"first", "second", "third", "fourth"}, 9},
		{"one jail", "sshd", []string{"first", "second"}, 6},
		{"a jail that banned nobody", "none", nil, 0},
	} {
		lines, failures, err := s.Past(t.Context(), tt.jail, ban(1).ID)
		if err != nil || !slices.Equal(lines, tt.lines) || failures != tt.failures {
			t.Errorf("%s: %q, %d, %v", tt.name, lines, failures, err)
		}
	}
	var many []string
	for i := range 2 * maxPast {
		many = append(many, fmt.Sprint(i))
	}
	start("sshd", time.Hour, 1, false, many...)
	if lines, _, err := s.Past(t.Context(), "", ban(1).ID); err != nil || len(lines) != maxPast || lines[maxPast-1] != many[len(many)-1] {
		t.Errorf("%d lines are told, %v", len(lines), err)
	}
}
