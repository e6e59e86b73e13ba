package jail

import (
	"testing"

	"bantam"
)

// A clock that is set forward or back ends each ban once, when the clock says so, and
// keeps nobody from being banned: failures are counted by their own stamps.
func TestAClockThatJumps(t *testing.T) {
	const hour, day = 3600.0, 24 * 3600.0
	tests := []struct {
		name  string
		jump  float64 // of the clock, and so of the stamps, ten seconds after the ban
		ended bool    // the ban, right after the jump
	}{
		{"a second back", -1, false},
		{"an hour back", -hour, false},
		{"a year back", -365 * day, false},
		{"a second on", 1, false},
		{"two hours on", 2 * hour, true},
		{"a year on", 365 * day, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newState()
			first, second := id(t, "192.0.2.7"), id(t, "192.0.2.8")
			attack := func(who bantam.ID, seconds float64) (d bantam.Decision, ok bool) {
				for range 3 {
					if d, ok = s.Fail(fail(who, seconds)); ok {
						return d, ok
					}
				}
				return d, ok
			}
			if _, ok := attack(first, 0); !ok {
				t.Fatal("the first is not banned")
			}
			now := 10 + tt.jump
			if got := s.Expire(at(now)); len(got) > 0 != tt.ended {
				t.Errorf("the jump ends %d bans", len(got))
			}
			s.Sweep(at(now))
			d, ok := attack(second, now)
			if !ok || d.Kind != bantam.Start || !d.Ban.End.Equal(at(now+hour)) {
				t.Errorf("after the jump the second is banned: %v, by %s until %s", ok, d.Kind, d.Ban.End)
			}
			if got := s.Expire(at(now + 1)); len(got) > 0 {
				t.Errorf("%d bans end again, or at once", len(got))
			}
			// The clock is right again: what is over by it ends, and once.
			late := max(now, 10) + 2*hour
			want := 2
			if tt.ended {
				want = 1
			}
			if got := s.Expire(at(late)); len(got) != want {
				t.Errorf("%d bans end at last, want %d", len(got), want)
			}
			if left := bans(t, s); len(left) > 0 {
				t.Errorf("%d bans never end", len(left))
			}
			if _, ok := attack(first, late+day); !ok {
				t.Error("the first is not banned again")
			}
		})
	}
}
