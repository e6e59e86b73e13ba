package daemon

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
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
			want = max(15, int(100*spare/kept))
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

// forgetStart gives back what only the start has used: the heap of reading the configuration, and the
// pages of the program itself.
func forgetStart() error {
	debug.FreeOSMemory()
	return ForgetProgram()
}

// ForgetProgram gives back the pages of the program itself, most of which only the start has used. The kernel keeps
// them as long as it has room for them, and whatever is used again comes back by itself.
func ForgetProgram() error {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	for _, m := range pristine(string(smaps), program) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back pages of the program: %w", errno)
		}
	}
	return nil
}

// A mapping is a piece of the address space.
type mapping struct{ from, to uintptr }

// pristine are the mappings of a file, out of proc_pid_smaps(5), that nobody can write to and nobody
// has: each page of them is as it is in the file.
func pristine(smaps, file string) []mapping {
	var out []mapping
	var m mapping
	wanted := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") { // FROM-TO MODE OFFSET DEVICE INODE FILE
			from, to, _ := strings.Cut(fields[0], "-")
			a, errA := strconv.ParseUint(from, 16, 64)
			b, errB := strconv.ParseUint(to, 16, 64)
			m = mapping{uintptr(a), uintptr(b)}
			wanted = errA == nil && errB == nil && a < b && len(fields) == 6 && fields[5] == file && (fields[1] == "r-xp" || fields[1] == "r--p")
			continue
		}
		if wanted && fields[0] == "Anonymous:" {
			if fields[1] == "0" {
				out = append(out, m)
			}
			wanted = false
		}
	}
	return out
}
