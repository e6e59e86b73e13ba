package jail

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bantam"
)

func TestWhoIsNearestToABan(t *testing.T) {
	s := newState()
	for n, failures := range []int{1, 2, 1, 2} {
		for i := range failures {
			s.Fail(fail(idOf([4]byte{192, 0, 2, byte(n)}), float64(10*n+i)))
		}
	}
	text := fail(bantam.TextID("mallory"), 200)
	text.User = "mal\x1bory"
	s.Fail(text)
	names := func(list []Standing) (out []string) {
		for _, x := range list {
			out = append(out, fmt.Sprintf("%s %d/%d", x.ID, x.Count, x.MaxRetry))
		}
		return out
	}
	want := []string{"192.0.2.3 2/3", "192.0.2.1 2/3", "mallory 1/3", "192.0.2.2 1/3", "192.0.2.0 1/3"}
	for most := range 7 {
		if got := names(s.Nearest(most, at(210))); !slices.Equal(got, want[:min(most, len(want))]) {
			t.Errorf("the nearest %d: %q", most, got)
		}
	}
	// Those whose last failure is findtime old are near to nothing any more.
	if got := names(s.Nearest(9, at(720))); !slices.Equal(got, []string{"mallory 1/3"}) {
		t.Errorf("ten minutes later: %q", got)
	}
	one := s.Standing(bantam.TextID("mallory"), at(210))
	if len(one) != 1 || one[0].User != "mal\x1bory" || one[0].FindTime != 600 || !one[0].Last.Equal(at(200)) {
		t.Errorf("mallory stands at %+v", one)
	}
	if got := s.Standing(idOf([4]byte{192, 0, 2, 99}), at(210)); got != nil {
		t.Errorf("who never failed stands at %+v", got)
	}
}

// Trying says what a failure will do, and changes nothing.
func TestTryingCountsNothing(t *testing.T) {
	s := newState(func(c *Config) { c.Prefix6 = 64; c.Increment.Enabled = true })
	who := id(t, "2001:db8::7")
	for i := range 3 {
		f := fail(who, float64(i))
		for range 5 {
			try, ok := s.Try(f)
			if !ok || try.Before != i || try.Count != i+1 || try.MaxRetry != 3 || try.Banned != nil || try.Old {
				t.Fatalf("failure %d would make %+v", i, try)
			}
		}
		if _, decided := s.Fail(f); decided != (i == 2) {
			t.Fatalf("failure %d decided %t", i, decided)
		}
	}
	try, _ := s.Try(fail(id(t, "2001:db8::8"), 9))
	if try.Banned == nil || try.Banned.ID != id(t, "2001:db8::/64") || len(try.Banned.Lines) == 0 {
		t.Errorf("a neighbour's failure: %+v", try)
	}
	old := fail(id(t, "192.0.2.1"), 0)
	old.Read = at(601)
	if try, _ := s.Try(old); !try.Old {
		t.Error("a failure of more than findtime ago is not old")
	}
	other := old
	other.Jail = "nope"
	if _, ok := s.Try(other); ok {
		t.Error("there is a jail nope")
	}
}

func BenchmarkNearest(b *testing.B) {
	s := newState()
	for n := range 100_000 {
		s.Fail(fail(idOf([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1))
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Nearest(20, at(2))) != 20 {
			b.Fatal("nobody is near")
		}
	}
}

// A ban that is taken over twice is one ban, with the end it had.
func TestABanIsTakenOverWithItsEnd(t *testing.T) {
	s := newState()
	who, end := id(t, "192.0.2.7"), at(3600)
	d, ok, err := s.BanUntil("sshd", who, end, bantam.ByOperator, "taken over", at(1))
	if err != nil || !ok || !d.Ban.End.Equal(end) || d.Ban.Reason != "taken over" {
		t.Fatalf("%+v, %t, %v", d, ok, err)
	}
	for _, again := range []time.Time{end, at(1800)} {
		if _, ok, err := s.BanUntil("sshd", who, again, bantam.ByOperator, "", at(2)); ok || err != nil {
			t.Errorf("until %v: it is decided again (%v)", again, err)
		}
	}
	if d, ok, _ := s.BanUntil("sshd", who, time.Time{}, bantam.ByOperator, "", at(3)); !ok || d.Kind != bantam.Prolong || !d.Ban.Permanent() {
		t.Errorf("for ever: %+v, %t", d, ok)
	}
	if _, _, err := s.BanUntil("nope", who, end, bantam.ByOperator, "", at(1)); err == nil {
		t.Error("there is a jail nope")
	}
}
