package jail

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

// start runs jails of one jail inside a bubble and returns its two ends.
func start(t *testing.T) (*Jails, chan<- bantam.Failure, <-chan bantam.Decision) {
	t.Helper()
	failures, decisions := make(chan bantam.Failure), make(chan bantam.Decision, 16)
	j := New(newState(func(c *Config) { c.MaxRetry = 1 }))
	go j.Run(failures, decisions)
	return j, failures, decisions
}

func TestBansEndByTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, failures, decisions := start(t)
		now := time.Now()
		failures <- bantam.Failure{Jail: "sshd", ID: id(t, "192.0.2.7"), Time: now, Read: now}
		if d := <-decisions; d.Kind != bantam.Start {
			t.Fatalf("%+v", d)
		}
		d := <-decisions
		if d.Kind != bantam.End || time.Since(now) < time.Hour || time.Since(now) > time.Hour+time.Second {
			t.Errorf("after %s: %+v", time.Since(now), d)
		}
		close(failures)
		if _, more := <-decisions; more {
			t.Error("decisions are not closed")
		}
	})
}

func TestOrdersAreAnsweredAfterTheirDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, failures, decisions := start(t)
		d, ok, err := j.Ban(t.Context(), "sshd", id(t, "192.0.2.7"), time.Minute, bantam.ByOperator, "")
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if got := <-decisions; got.Seq != d.Seq {
			t.Errorf("decision %d, want %d", got.Seq, d.Seq)
		}
		if b, err := j.Bans(t.Context(), "", bantam.ID{}); err != nil || len(b) != 1 {
			t.Errorf("%v, %v", b, err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		close(failures)
		synctest.Wait()
		if _, err := j.Status(canceled); err == nil {
			t.Error("an order after the end is answered")
		}
		if _, err := j.Status(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("an order after the end: %v", err)
		}
	})
}
