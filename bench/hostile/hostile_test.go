// Package hostile tries the engine on lines made to make it slow: for every pattern that
// Fail2Ban's stock filters compile to, and every one of Bantam's own library, lines of 8 kB that
// pump the pattern's loops and break what follows them. It is tests only: one bounds the steps, in any run of the tests; the
// other, make bench-hostile, measures the time.
package hostile

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/pyre"
)

var perPattern = flag.Int("hostile.lines", 0, "lines to time for each pattern; 0 times none")

const (
	lineSize = 8000
	// maxSteps are what a byte of a line may take: more than any pattern's number of ways that
	// are open at once, and than the budget of those that have one, and independent of the length.
	maxSteps = 60
	// maxTime is what a line may take.
	maxTime = 5 * time.Millisecond
)

// each calls try for every pattern, on all cores.
func each(patterns []*pattern, try func(*pattern)) {
	work := make(chan *pattern)
	var g sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for p := range work {
				try(p)
			}
		})
	}
	for _, p := range patterns {
		work <- p
	}
	close(work)
	g.Wait()
}

// A worst is a pattern with its dearest line.
type worst struct {
	*pattern
	line  []byte
	cost  float64
	spent error // the budget was, and how
}

// table is the dearest patterns, the dearest first.
func table(all []worst, unit string) string {
	slices.SortFunc(all, func(a, b worst) int { return cmp.Compare(b.cost, a.cost) })
	var b bytes.Buffer
	for _, w := range all[:min(len(all), 15)] {
		note := ""
		if w.spent != nil {
			note = ", " + w.spent.Error()
		}
		fmt.Fprintf(&b, "\n%10.1f %s  %s%s", w.cost, unit, w.pattern, note)
	}
	return b.String()
}

// However a line is made, the engine takes a bounded number of steps for each of its bytes.
func TestStepsOfHostileLinesAreBounded(t *testing.T) {
	bounded(t, stock(t), boundedLines)
}

// So it does for the filters that it comes with.
func TestStepsOfHostileLinesForTheLibraryAreBounded(t *testing.T) {
	bounded(t, ours(t), libraryLines)
}

// bounded counts the steps for each byte of so many lines for each pattern.
func bounded(t *testing.T, patterns []*pattern, lines int) {
	var (
		mu  sync.Mutex // guards all
		all []worst
	)
	each(patterns, func(p *pattern) {
		re, err := p.compile()
		if err != nil {
			t.Errorf("%s: %v", p, err)
			return
		}
		chance, w := seeded(p), worst{pattern: p}
		for range lines {
			line := p.line(chance, lineSize)
			if perByte := float64(re.Steps(line)) / float64(len(line)); perByte > w.cost {
				w.cost, w.line = perByte, line
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, w)
		if w.cost > maxSteps {
			t.Errorf("%s: %.0f steps a byte, on %.300q", p, w.cost, w.line)
		}
	})
	t.Logf("of %d patterns, the most steps a byte:%s", len(all), table(all, "steps"))
}

// No line takes longer than it may, in CPU time of this thread: the slowest of each pattern
// is timed again, so that an interruption is not taken for the engine.
func TestTimeOfHostileLines(t *testing.T) {
	if *perPattern == 0 {
		t.Skip("make bench-hostile times the lines")
	}
	var (
		mu    sync.Mutex // guards what follows
		all   []worst
		lines int
		spent time.Duration
	)
	each(slices.Concat(stock(t), ours(t)), func(p *pattern) {
		re, err := p.compile()
		if err != nil {
			t.Errorf("%s: %v", p, err)
			return
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		chance, w := seeded(p), worst{pattern: p}
		var sum time.Duration
		for range *perPattern {
			line := p.line(chance, lineSize)
			took, err := timed(re, line)
			for range 4 {
				if took.Seconds()*1e6 <= w.cost {
					break
				}
				again, _ := timed(re, line)
				took = min(took, again)
			}
			sum += took
			if us := took.Seconds() * 1e6; us > w.cost {
				w.cost, w.line, w.spent = us, line, err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		lines += *perPattern
		spent += sum
		all = append(all, w)
		if w.cost > maxTime.Seconds()*1e6 {
			t.Errorf("%s: %.1f ms for a line, %.300q", p, w.cost/1000, w.line)
		}
	})
	t.Logf("%d lines of %d bytes for %d patterns, %v a line; the slowest, of which none may take longer than %v:%s",
		lines, lineSize, len(all), (spent / time.Duration(max(1, lines))).Round(time.Microsecond), maxTime, table(all, "µs"))
}

// timed is the CPU time that a search takes, and whether it ended for want of steps.
func timed(re *pyre.Regexp, line []byte) (time.Duration, error) {
	begin := threadTime()
	_, err := re.Search(line, nil)
	if !errors.Is(err, pyre.ErrBudget) {
		err = nil
	}
	return threadTime() - begin, err
}

// threadTime is the CPU time this thread has had.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}
