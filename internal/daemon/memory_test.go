package daemon

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// Garbage may be as much as what is kept while that is little, and a part of it when it is much.
func TestMuchThatIsKeptLeavesLittleGarbage(t *testing.T) {
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := percent()
	becomes := func(ok func(uint64) bool) bool {
		for range 1000 {
			if ok(percent()) {
				return true
			}
			runtime.GC() // the collector itself tells
			runtime.Gosched()
		}
		return false
	}
	end := keepLean()
	defer end()
	kept := make([]byte, 8*spare)
	if !becomes(func(p uint64) bool { return p < 20 }) {
		t.Errorf("with %d MiB kept there may be %d %% of garbage", len(kept)>>20, percent())
	}
	runtime.KeepAlive(kept)
	if kept = nil; !becomes(func(p uint64) bool { return p == 100 }) {
		t.Errorf("with nothing kept there may be %d %% of garbage", percent())
	}
	if end(); percent() != before {
		t.Errorf("at the end it is %d %%, not %d %% as before", percent(), before)
	}
}
