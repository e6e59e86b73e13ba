package jail

import (
	"testing"
	"time"

	"bantam"
)

func TestRunningBansAreToldOnceMore(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := NewState()
	s.Configure([]Config{DefaultConfig("a"), DefaultConfig("b")}, now)
	id := func(text string) bantam.ID {
		id, err := bantam.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var last bantam.Decision
	for _, jail := range []string{"a", "b"} {
		for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
			d, ok, err := s.Ban(jail, id(addr), time.Hour, bantam.ByOperator, "", now)
			if err != nil || !ok {
				t.Fatal(err)
			}
			last = d
		}
	}
	if _, err := s.Unban("a", id("192.0.2.1"), bantam.CauseOperator, now); err != nil {
		t.Fatal(err)
	}
	got := s.repeat([]string{"a", "gone"}, now)
	if len(got) != 1 || got[0].Kind != bantam.Restore || got[0].Cause != Repeated || got[0].Ban.ID != id("192.0.2.2") || got[0].Ban.Jail != "a" {
		t.Fatalf("told are %+v", got)
	}
	if got[0].Seq <= last.Seq {
		t.Errorf("it is number %d, after %d", got[0].Seq, last.Seq)
	}
}
