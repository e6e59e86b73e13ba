package daemon

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Repairs that follow each other wait longer and longer, but less than a second; after a calm
// time the next is made at once.
func TestRepairsAreKeptApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		var waits []time.Duration
		wait := func() {
			begin := time.Now()
			p.wait(t.Context())
			waits = append(waits, time.Since(begin).Round(time.Millisecond)/time.Millisecond)
		}
		for range 8 {
			wait()
		}
		time.Sleep(calmAfter + time.Second)
		wait()
		if want := []time.Duration{0, 50, 100, 200, 400, 800, 800, 800, 0}; !slices.Equal(waits, want) {
			t.Errorf("repairs wait %v ms, want %v", waits, want)
		}
	})
}
