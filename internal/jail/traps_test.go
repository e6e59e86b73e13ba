package jail

import (
	"testing"

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
