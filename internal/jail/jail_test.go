package jail

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

// start runs jails of one jail inside a bubble and returns its two ends.
func start(t *testing.T) (*Jails, chan<- bantam.Failure, <-chan bantam.Decision) {
	t.Helper()
	failures, decisions := make(chan bantam.Failure), make(chan bantam.Decision, 16)
	j := New(slog.New(slog.DiscardHandler), newState(func(c *Config) { c.MaxRetry = 1 }))
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

func TestWhoIsIgnoredIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		failures, decisions := make(chan bantam.Failure), make(chan bantam.Decision, 16)
		go New(slog.New(slog.NewTextHandler(&out, nil)), newState()).Run(failures, decisions)
		now := time.Now()
		failures <- bantam.Failure{Jail: "sshd", Time: now, Read: now}
		failures <- bantam.Failure{Jail: "sshd", ID: id(t, "192.0.2.7"), Time: now, Read: now}
		close(failures)
		for range decisions {
			t.Error("a decision was made")
		}
		if got := out.String(); strings.Count(got, "msg=found") != 1 || !strings.Contains(got, "addr=192.0.2.7") {
			t.Errorf("the log says\n%s", got)
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
