package daemon

import (
	"runtime"
	"runtime/metrics"
	"slices"
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

func TestOnlyUnchangedPagesOfTheProgramAreGivenBack(t *testing.T) {
	const smaps = `00400000-00c00000 r-xp 00000000 08:01 1234                              /usr/bin/bantam
Size:               8192 kB
Rss:                7768 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00c00000-01200000 r--p 00800000 08:01 1234                              /usr/bin/bantam
Size:               6144 kB
Anonymous:             4 kB
01200000-01260000 rw-p 00e00000 08:01 1234                              /usr/bin/bantam
Anonymous:             0 kB
01260000-01270000 r--p 00e60000 08:01 1234                              /usr/bin/bantam (deleted)
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 08:01 99                        /lib/libc.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r-xp 00000000 00:00 0                         [vdso]
Anonymous:             0 kB
`
	got := pristine(smaps, "/usr/bin/bantam")
	if want := []mapping{{0x400000, 0xc00000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if err := forgetStart(); err != nil {
		t.Error(err)
	}
}
