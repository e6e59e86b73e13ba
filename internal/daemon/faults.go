package daemon

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"bantam/internal/control"
	"bantam/internal/filter"
)

// How often the expressions are asked for faults, and how long one that was told is not
// told again: a hostile line can be sent as often as its sender likes.
const (
	faultsAsked = time.Minute
	faultsTold  = time.Hour
)

// watchFaults tells of expressions that could not be trusted, until ctx ends.
func (d *Daemon) watchFaults(ctx context.Context) {
	tick := time.NewTicker(faultsAsked)
	defer tick.Stop()
	told := faultLog{}
	for {
		select {
		case now := <-tick.C:
			told.tell(d.log, d.plan.Load(), now)
		case <-ctx.Done():
			return
		}
	}
}

// A faultLog remembers which faults were told. Jails with the same expressions share
// their faults, which are told once for all of them.
type faultLog map[*compiled]*[2]toldFault

// toldFault is what was told of one kind of fault.
type toldFault struct {
	count map[string]uint64 // by option, until when it was told
	at    time.Time         // wall time
}

// faultKinds are the kinds of fault: what is told of each, and its count.
var faultKinds = [2]struct {
	text  string
	count func(filter.Fault) uint64
}{
	{"an expression took too many steps and was no match", func(f filter.Fault) uint64 { return f.Overruns }},
	{"a match was nearly missed: an error in Bantam, please report it", func(f filter.Fault) uint64 { return f.Misses }},
}

// tell logs the faults that were not told yet, but those of a kind that was told less than an
// hour ago: they are counted the next time. now is wall time.
func (l faultLog) tell(log *slog.Logger, p *plan, now time.Time) {
	running := map[*compiled]bool{}
	for _, c := range p.compiled {
		if len(c.jails) == 0 {
			continue
		}
		faults := c.rules.Faults()
		if len(faults) == 0 {
			continue
		}
		running[c] = true
		if l[c] == nil {
			l[c] = &[2]toldFault{}
		}
		for i, kind := range faultKinds {
			told := &l[c][i]
			if !told.at.IsZero() && now.Sub(told.at) < faultsTold {
				continue
			}
			var options []string
			grown, count := uint64(0), map[string]uint64{}
			for _, f := range faults {
				n := kind.count(f)
				if count[f.Option] = n; n > told.count[f.Option] {
					grown += n - told.count[f.Option]
					options = append(options, f.Option)
				}
			}
			if grown == 0 {
				continue
			}
			told.count, told.at = count, now
			log.Warn(kind.text, "jail", c.jails[0], "jails", len(c.jails), "option", strings.Join(options, ", "), "count", grown)
		}
	}
	for c := range l {
		if !running[c] {
			delete(l, c) // of a plan that was replaced
		}
	}
}

// faults are those of a jail, for its status.
func (p *plan) faults(jail string) (out []control.Fault) {
	rules := p.filters[jail]
	if rules == nil {
		return nil
	}
	for _, f := range rules.Faults() {
		out = append(out, control.Fault(f))
	}
	return out
}

// stamps are those of a jail, for its status.
func (p *plan) stamps(jail string) *control.Stamps {
	rules := p.filters[jail]
	if rules == nil {
		return nil
	}
	s := rules.Stamps()
	if s.Undated+s.Skewed == 0 {
		return nil
	}
	return &control.Stamps{Undated: s.Undated, Skewed: s.Skewed, Skew: s.Skew.Seconds()}
}
