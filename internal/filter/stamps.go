package filter

import (
	"sync/atomic"
	"time"
)

// Stamps count the lines whose date was not what it should be, since Compile or For: those of a
// service that logs in a form or in a zone that the rules do not know.
type Stamps struct {
	// Undated are the lines without a date that could be read, where there should be one.
	Undated uint64
	// Skewed are the lines that were stamped further than a minute from when they were written, and Skew is how far
	// the last of them was: negative for one that seems old.
	Skewed uint64
	Skew   time.Duration
}

// stamps are Stamps while they are counted, by filters of any number of sources at once.
type stamps struct {
	undated, skewed atomic.Uint64
	skew            atomic.Int64
}

// Stamps are what was counted for the rules' jail. It may be called at any time by any goroutine.
func (r *Rules) Stamps() Stamps {
	return Stamps{r.stamps.undated.Load(), r.stamps.skewed.Load(), time.Duration(r.stamps.skew.Load())}
}

func (v *view) skewed(off time.Duration) {
	for _, j := range v.jails {
		j.stamps.skewed.Add(1)
		j.stamps.skew.Store(int64(off))
	}
}
