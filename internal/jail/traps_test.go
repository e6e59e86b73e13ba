package jail

import (
	"testing"
	"time"

	"bantam"
)

// The traps of detection.md 10 that are the count's. Fail2Ban's count is kept on purpose:
// operators know their findtime and maxretry by it.

func TestTrap48_RateEstimateInsteadOfWindow(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry = 5 })
	who := id(t, "192.0.2.7")
	for _, at := range []float64{0, 0, 0, 590} {
		if d, ok := s.Fail(fail(who, at)); ok {
			t.Fatalf("the failure at %g s decides %+v", at, d)
		}
	}
	// Only two failures are within the last 600 s.
	if d, ok := s.Fail(fail(who, 610)); !ok || d.Kind != bantam.Start {
		t.Errorf("the failure at 610 s decides %+v, %v; want a ban", d, ok)
	}
}

func TestTrap49_SlowAttackersAreNeverBanned(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry = 5 })
	who := id(t, "192.0.2.7")
	for at := 0.0; at <= 3600; at += 200 {
		if d, ok := s.Fail(fail(who, at)); ok {
			t.Fatalf("the failure at %g s decides %+v", at, d)
		}
	}
}

func TestTrap50_ABanTellsOfTheFirstFailure(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry = 2 })
	who := id(t, "192.0.2.7")
	first, second := fail(who, 0), fail(who, 1)
	first.User, first.Lines = "a", []string{"line of a"}
	second.User, second.Lines = "b", []string{"line of b"}
	s.Fail(first)
	d, ok := s.Fail(second)
	if !ok || d.Ban.User != "a" || len(d.Ban.Lines) != 2 {
		t.Errorf("the ban is %+v, %v; want user a and both lines", d.Ban, ok)
	}
}

func TestTrap51_FirstRepeatUsesMultiplierIndexOne(t *testing.T) {
	s := newState(growing(func(c *Config) {
		c.Increment.Multipliers, c.Increment.RndTime, c.Increment.MaxTime = []int{1, 5, 30, 60}, 10*time.Minute, 50*time.Minute
	}))
	got := lengths(t, s, 3)
	if got[0] != 600 {
		t.Errorf("the first ban lasts %g s, want bantime and nothing random", got[0])
	}
	for _, l := range got[1:] { // 3000 s, and 18000 s cut to as much
		if l <= 3000 || l >= 3600 {
			t.Errorf("a repeated ban lasts %g s, want 3000 s and up to 600 s more, beyond maxtime", l)
		}
	}
}
