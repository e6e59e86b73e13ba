package action

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

// effect is one whose answers a test gives.
type effect struct {
	did    []uint64
	answer func(call int) (retry bool, err error)
	calls  int
}

func (e *effect) Do(_ context.Context, ds []bantam.Decision) (bool, error) {
	e.calls++
	if e.answer != nil {
		if retry, err := e.answer(e.calls); err != nil {
			return retry, err
		}
	}
	for _, d := range ds {
		e.did = append(e.did, d.Seq)
	}
	return false, nil
}

func decision(seq uint64, kind bantam.Kind, last byte) bantam.Decision {
	return bantam.Decision{Seq: seq, Kind: kind, Ban: bantam.Ban{Jail: "sshd", ID: bantam.AddrID(netip.AddrFrom4([4]byte{192, 0, 2, last}))}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestDecisionsAreCarriedOutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &effect{}
		a := New(quiet(), map[string]Effect{"e": e})
		stored := make(chan []bantam.Decision)
		go a.Run(stored, time.Second)
		observed := decision(2, bantam.Start, 2)
		observed.Ban.Observed = true
		stored <- []bantam.Decision{decision(1, bantam.Start, 1), observed}
		stored <- []bantam.Decision{decision(3, bantam.End, 1)}
		if err := a.Wait(t.Context(), 3); err != nil {
			t.Error(err)
		}
		if len(e.did) != 2 || e.did[0] != 1 || e.did[1] != 3 {
			t.Errorf("carried out %v", e.did)
		}
		close(stored)
	})
}

func TestWhatFailsIsTriedAgainAndDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		slow := &effect{answer: func(call int) (bool, error) {
			if call < 4 {
				return true, broken
			}
			return false, nil
		}}
		quick := &effect{}
		a := New(quiet(), map[string]Effect{"slow": slow, "quick": quick})
		stored := make(chan []bantam.Decision)
		go a.Run(stored, time.Second)
		stored <- []bantam.Decision{decision(1, bantam.Start, 1)}
		stored <- []bantam.Decision{decision(2, bantam.Start, 2)}
		synctest.Wait()
		if len(quick.did) != 2 {
			t.Errorf("the quick one did %v", quick.did)
		}
		impatient, cancel := context.WithTimeout(t.Context(), firstRetry/2)
		defer cancel()
		if err := a.Wait(impatient, 2); !errors.Is(err, broken) || !strings.Contains(err.Error(), "slow") {
			t.Errorf("who cannot wait is told %v", err)
		}
		if st := a.Status(); st[1].Err != "broken" || st[1].Pending == 0 || st[0].Err != "" {
			t.Errorf("status %+v", st)
		}
		if err := a.Wait(t.Context(), 2); err != nil {
			t.Error(err)
		}
		if len(slow.did) != 2 || slow.did[0] != 1 {
			t.Errorf("the slow one did %v", slow.did)
		}
		close(stored)
	})
}

func TestWhatCannotWorkIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &effect{answer: func(int) (bool, error) { return false, errors.New("never") }}
		a := New(quiet(), map[string]Effect{"e": e})
		stored := make(chan []bantam.Decision)
		go a.Run(stored, time.Second)
		stored <- []bantam.Decision{decision(1, bantam.Start, 1)}
		if err := a.Wait(t.Context(), 1); err != nil || e.calls != 1 {
			t.Errorf("%d calls, %v", e.calls, err)
		}
		close(stored)
	})
}

func TestAStopWaitsForNoHangingEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &effect{answer: func(int) (bool, error) { return true, errors.New("never") }}
		a := New(quiet(), map[string]Effect{"e": e})
		stored := make(chan []bantam.Decision, 1)
		stored <- []bantam.Decision{decision(1, bantam.Start, 1)}
		close(stored)
		begin := time.Now()
		a.Run(stored, time.Second)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the stop took %s", took)
		}
		if err := a.Wait(t.Context(), 1); !errors.Is(err, ErrStopped) {
			t.Errorf("waiting afterwards: %v", err)
		}
	})
}

func TestALongQueueDropsWhatWasOvertaken(t *testing.T) {
	var long []bantam.Decision
	for i := range uint64(compactAt) {
		long = append(long, decision(i, []bantam.Kind{bantam.Start, bantam.End}[i%2], byte(i/2%100)))
	}
	short := compact(long)
	if len(short) != 100 || short[99].Seq != compactAt-1 {
		t.Fatalf("%d left, the last is %d", len(short), short[len(short)-1].Seq)
	}
	for _, d := range short {
		if d.Kind != bantam.End {
			t.Fatalf("%v is left of a ban that ended", d)
		}
	}
}

// A jail's own effect gets its decisions alone; when it fails nobody waits for it whom it does
// not concern, and another can take over what it has still to do.
func TestAJailsOwnEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &effect{answer: func(int) (bool, error) { return true, errors.New("no such chain") }}
		all, web := &effect{}, &effect{}
		a := New(quiet(), map[string]Effect{"all": all})
		a.Assign(map[string]Effect{"sshd": broken, "web": web})
		stored := make(chan []bantam.Decision)
		over := make(chan struct{})
		go func() { a.Run(stored, time.Second); close(over) }()
		other := decision(2, bantam.Start, 2)
		other.Ban.Jail = "web"
		stored <- []bantam.Decision{decision(1, bantam.Start, 1), other}
		if err := a.Settle(t.Context(), []bantam.Decision{other}); err != nil {
			t.Error(err)
		}
		if len(all.did) != 2 || len(web.did) != 1 || web.did[0] != 2 {
			t.Errorf("all %v, web %v", all.did, web.did)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.Settle(ctx, []bantam.Decision{decision(1, bantam.Start, 1)}); err == nil || !strings.Contains(err.Error(), "no such chain") {
			t.Errorf("settled with %v", err)
		}
		mended := &effect{}
		a.Assign(map[string]Effect{"sshd": mended})
		if err := a.Settle(t.Context(), []bantam.Decision{decision(1, bantam.Start, 1)}); err != nil {
			t.Error(err)
		}
		stored <- []bantam.Decision{decision(3, bantam.End, 1)}
		close(stored)
		<-over
		if len(mended.did) != 2 || len(web.did) != 1 {
			t.Errorf("mended %v, web %v", mended.did, web.did)
		}
	})
}
