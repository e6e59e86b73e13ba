package daemon

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// spare is how many bytes of garbage may lie around where much is kept. Where little is, it may
// be as many bytes as are kept, as Go has it.
const spare = 32 << 20

// keepLean has the garbage collector come the more often, in proportion, the more is kept: a million offenders
// are to take their own room, not twice that. What they are kept in has few pointers, so that a
// collection costs little. It ends when the function it returns is called.
func keepLean() (end func()) {
	var over atomic.Bool
	before := debug.SetGCPercent(100)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := 100
	var afterEach func(*[16]byte)
	afterEach = func(cycle *[16]byte) {
		if over.Load() {
			return
		}
		metrics.Read(live)
		want := 100
		if kept := live[0].Value.Uint64(); kept > spare {
			want = max(10, int(100*spare/kept))
		}
		// To set it stops the world for a moment.
		if want < percent*9/10 || want > percent*11/10 || want == 100 && percent != 100 {
			debug.SetGCPercent(want)
			percent = want
		}
		runtime.SetFinalizer(cycle, afterEach)
	}
	runtime.SetFinalizer(new([16]byte), afterEach)
	return func() {
		over.Store(true)
		debug.SetGCPercent(before)
	}
}
