package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/control"
)

// shortEvents are events as a test says them.
func shortEvents(some []control.Event) (out []string) {
	for _, e := range some {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Kind, e.Jail, e.ID, e.Text)))
	}
	return out
}

func TestWhoeverWatchesSeesWhatHappens(t *testing.T) {
	d := running(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := control.NewClient(d.options.Socket)
	all, err := control.Follow(ctx, c, control.Watch, control.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	one, err := control.Follow(ctx, c, control.Watch, control.WatchRequest{Jail: "j1"})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if _, err := control.Follow(ctx, c, control.Watch, control.WatchRequest{Jail: "nope"}); err == nil || err.Error() != `there is no jail "nope"` {
		t.Errorf("a jail that is not there: %v", err)
	}
	id := bantam.AddrID(mustAddr(t, "192.0.2.7"))
	if _, err := control.Call(ctx, c, control.Import, control.ImportRequest{Bans: []control.ImportBan{{ID: id, Jail: "j2", Reason: "a list", Seconds: 60}}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.do(t, "set j1 attempt 192.0.2.8"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := control.Call(ctx, c, control.Unban, control.UnbanRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Call(ctx, c, control.Reload, control.None{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		name string
		from *control.Incoming[control.Event]
		want []string
	}{
		{"all", all, []string{"ban j2 192.0.2.7 a list", "failure j1 192.0.2.8", "failure j1 192.0.2.8", "unban j2 192.0.2.7 operator", "reload"}},
		{"one jail", one, []string{"failure j1 192.0.2.8", "failure j1 192.0.2.8", "reload"}},
	} {
		var got []string
		for range w.want {
			e, err := w.from.Next()
			if err != nil {
				t.Fatalf("%s: behind %q: %v", w.name, got, err)
			}
			got = append(got, shortEvents([]control.Event{e})...)
		}
		if !slices.Equal(got, w.want) && !slices.Equal(sorted(got), sorted(w.want)) {
			t.Errorf("%s:\n%q\nwant\n%q", w.name, got, w.want)
		}
	}
	if _, err := control.Call(ctx, c, control.Stop, control.StopRequest{}); err != nil {
		t.Fatal(err)
	}
	for {
		e, err := one.Next()
		if err != nil {
			t.Fatalf("the daemon stopped without a word: %v", err)
		}
		if e.Kind == control.EventStop {
			break
		}
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// Who does not take what happens loses it, is told how much, and holds nobody up.
func TestASlowWatcherLosesEvents(t *testing.T) {
	var e events
	ctx, cancel := context.WithCancel(t.Context())
	seq, err := e.watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	const more = 77
	for range mostWaiting + more {
		e.tell(control.Event{Kind: control.EventFailure})
	}
	batches := 0
	for some := range seq {
		if batches++; batches == 1 {
			last := some[len(some)-1]
			if len(some) != mostWaiting+1 || last.Kind != control.EventLost || last.Count != more {
				t.Fatalf("%d events, the last %+v", len(some), last)
			}
			e.tell(control.Event{Kind: control.EventBan})
			e.close()
			continue
		}
		if got := shortEvents(some); !slices.Equal(got, []string{"ban", "stop"}) {
			t.Errorf("then %q", got)
		}
	}
	if batches != 2 {
		t.Errorf("%d batches", batches)
	}
	for range mostWatchers - 1 {
		if _, err := e.watch(ctx, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.watch(ctx, ""); err == nil {
		t.Error("there is no end of watchers")
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); e.some.Load(); {
		if time.Now().After(deadline) {
			t.Fatal("watchers that are gone are still told")
		}
	}
}
