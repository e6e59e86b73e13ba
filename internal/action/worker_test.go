package action

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

// firewall is a worker's effect that is a list, and fails as a test says.
type firewall struct {
	held  map[bantam.ID]bool
	did   []string
	fails func(d *bantam.Decision) error
	again []bantam.Decision
}

func (f *firewall) Start(context.Context) error { return nil }
func (f *firewall) Do(_ context.Context, d *bantam.Decision) (bool, error) {
	if f.fails != nil {
		if err := f.fails(d); err != nil {
			return true, err
		}
	}
	f.did = append(f.did, fmt.Sprintf("%s %s", d.Kind, d.Ban.ID))
	f.held[d.Ban.ID] = d.Kind != bantam.End
	return false, nil
}

func (f *firewall) Again() []bantam.Decision {
	again := f.again
	f.again = nil
	return again
}
func (f *firewall) Reload(context.Context) error { return nil }
func (f *firewall) Lift(context.Context) error   { return nil }
func (f *firewall) Stop(context.Context) error   { return nil }

// working is a worker at work on it within a bubble.
func working(t *testing.T, f *firewall) *worker {
	w := newWorker(quiet(), Config{Jail: "sshd", Title: "act"}, f, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go w.run(ctx)
	t.Cleanup(func() { cancel(); <-w.ended })
	return w
}

func TestWhatFailsRestsLongerAndLongerUntilItsBanEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		begin := time.Now()
		bad := about(bantam.Start, "192.0.2.1").Ban.ID
		f := &firewall{held: map[bantam.ID]bool{}, fails: func(d *bantam.Decision) error {
			if d.Ban.ID == bad && d.Kind != bantam.End {
				tries = append(tries, time.Since(begin))
				return errors.New("no")
			}
			return nil
		}}
		w := working(t, f)
		w.add(about(bantam.Start, "192.0.2.1"))
		time.Sleep(time.Minute)
		synctest.Wait()
		s := time.Second
		if want := []time.Duration{0, s, 3 * s, 7 * s, 15 * s, 31 * s}; !slices.Equal(tries, want) {
			t.Errorf("it is tried after %v, want %v", tries, want)
		}
		if st := w.status(); st.Failing != 1 || st.Err != "no" || st.GaveUp != 0 {
			t.Errorf("the status is %+v", st)
		}
		n := len(tries)
		w.add(about(bantam.End, "192.0.2.1"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(tries) != n || w.status().Failing != 0 || !slices.Equal(f.did, []string{"end 192.0.2.1"}) {
			t.Errorf("%d more tries after the end, %+v, it did %q", len(tries)-n, w.status(), f.did)
		}
	})
}

func TestAnUnbanThatNeverWorksIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		f := &firewall{held: map[bantam.ID]bool{}, fails: func(d *bantam.Decision) error {
			if d.Kind == bantam.End {
				tries++
				return errors.New("not there")
			}
			return nil
		}}
		w := working(t, f)
		w.add(about(bantam.Start, "192.0.2.1"))
		w.add(about(bantam.End, "192.0.2.1"))
		w.add(about(bantam.Start, "192.0.2.1")) // waits for its turn
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if st := w.status(); tries != maxUnbans || st.Failing != 0 || st.GaveUp != 1 {
			t.Errorf("%d tries, %+v", tries, st)
		}
		if want := []string{"start 192.0.2.1", "start 192.0.2.1"}; !slices.Equal(f.did, want) {
			t.Errorf("it did %q, want %q", f.did, want)
		}
	})
}

func TestAProlongationOfABanThatRestsIsWhatIsTriedNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		works := false
		var end time.Time
		f := &firewall{held: map[bantam.ID]bool{}, fails: func(d *bantam.Decision) error {
			if end = d.Ban.End; !works {
				return errors.New("no")
			}
			return nil
		}}
		w := working(t, f)
		w.add(about(bantam.Start, "192.0.2.1"))
		synctest.Wait()
		longer := about(bantam.Prolong, "192.0.2.1", func(b *bantam.Ban) { b.End = b.End.Add(time.Hour) })
		works = true
		w.add(longer)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(f.did, []string{"start 192.0.2.1"}) || !end.Equal(longer.Ban.End) {
			t.Errorf("it did %q until %s", f.did, end)
		}
	})
}

func TestWhatAnEffectHasLostIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &firewall{held: map[bantam.ID]bool{}}
		w := working(t, f)
		f.again = []bantam.Decision{about(bantam.Restore, "192.0.2.1"), about(bantam.Restore, "192.0.2.2")}
		w.add(about(bantam.Start, "192.0.2.3"))
		synctest.Wait()
		slices.Sort(f.did)
		if want := []string{"restore 192.0.2.1", "restore 192.0.2.2", "start 192.0.2.3"}; !slices.Equal(f.did, want) {
			t.Errorf("it did %q", f.did)
		}
	})
}

// However decisions come, and whatever fails in between, what is banned in the end is what the last
// decisions say.
func TestWorkersEndAtTheLastState(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			f := &firewall{held: map[bantam.ID]bool{}}
			chance := rand.New(rand.NewPCG(seed, r.Uint64())) // of the worker's goroutine
			f.fails = func(*bantam.Decision) error {
				if chance.IntN(3) == 0 {
					return errors.New("no")
				}
				return nil
			}
			w := newWorker(quiet(), Config{}, f, nil)
			w.compactAt = 1 + r.IntN(20)
			ctx, cancel := context.WithCancel(t.Context())
			want := map[bantam.ID]bool{}
			hold := r.IntN(50)
			for i := range 100 {
				if i == hold { // what came before has waited
					go w.run(ctx)
				}
				d := about(bantam.Start, fmt.Sprintf("192.0.2.%d", r.IntN(5)))
				if banned := want[d.Ban.ID]; banned {
					d.Kind = []bantam.Kind{bantam.Prolong, bantam.End}[r.IntN(2)]
				}
				want[d.Ban.ID] = d.Kind != bantam.End
				d.Seq = uint64(i + 1)
				w.add(d)
				if r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
				}
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			maps.DeleteFunc(want, func(_ bantam.ID, on bool) bool { return !on })
			maps.DeleteFunc(f.held, func(_ bantam.ID, on bool) bool { return !on })
			if st := w.status(); !maps.Equal(f.held, want) || st.Failing > 0 || st.Pending > 0 {
				t.Errorf("banned are %v, want %v; %+v", f.held, want, st)
			}
			cancel()
			<-w.ended
		})
	}
}

func TestALongQueueKeepsEveryLastState(t *testing.T) {
	var long []bantam.Decision
	add := func(kinds ...bantam.Kind) {
		for _, k := range kinds {
			long = append(long, about(k, fmt.Sprintf("192.0.2.%d", len(kinds))))
		}
	}
	add(bantam.Start)                                                            // 1
	add(bantam.Start, bantam.Prolong)                                            // 2: begins longer
	add(bantam.Start, bantam.End, bantam.Start)                                  // 3
	add(bantam.End, bantam.Start, bantam.End, bantam.Start)                      // 4
	add(bantam.End, bantam.Start, bantam.Prolong, bantam.End, bantam.End)        // 5
	add(bantam.Start, bantam.End, bantam.Start, bantam.End, bantam.Start, "end") // 6
	var got []string
	for _, d := range overtaken(long) {
		got = append(got, string(d.Kind)+d.Ban.ID.String()[8:])
	}
	want := []string{"start1", "start2", "end3", "start3", "end4", "start4", "end5", "end6"}
	if !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func TestWhoAttacksNowDoesNotWaitForRestoredBans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &firewall{held: map[bantam.ID]bool{}}
		var running []bantam.Decision
		for i := range 200 {
			running = append(running, about(bantam.Restore, fmt.Sprintf("198.51.100.%d", i)))
		}
		w := newWorker(quiet(), Config{}, f, running)
		w.add(about(bantam.Start, "192.0.2.1"), about(bantam.End, "198.51.100.150"))
		if st := w.status(); st.Pending != 202 || st.Failing != 0 || st.Err != "" {
			t.Errorf("the status is %+v", st)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go w.run(ctx)
		synctest.Wait()
		if at := slices.Index(f.did, "start 192.0.2.1"); at < 0 || at > 2 {
			t.Errorf("the new ban is number %d", at)
		}
		if slices.Contains(f.did, "restore 198.51.100.150") || len(f.did) != 201 || f.did[0] != "restore 198.51.100.0" || f.did[200] != "restore 198.51.100.199" {
			t.Errorf("it did %q", f.did)
		}
		cancel()
		<-w.ended
	})
}
