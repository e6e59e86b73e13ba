package daemon

import (
	"context"
	"sync"
	"time"
)

// watch puts the bans back when somebody else has taken them out of the kernel.
func (d *Daemon) watch(ctx context.Context) {
	select {
	case <-d.wall.opened:
	case <-ctx.Done():
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { d.keepRight(ctx, "what stock actions made in the firewall", d.stock.Watch, d.stock.Repair) })
	wg.Go(func() { d.keepRight(ctx, "the table of the bans", d.wall.nft.Load().Watch, d.guard.Resync) })
	wg.Wait()
}

// keepRight repairs something in the kernel each time that watch tells of a foreign change.
func (d *Daemon) keepRight(ctx context.Context, what string, watch func(context.Context, func()) error, repair func(context.Context) error) {
	var turn pace
	err := watch(ctx, func() {
		turn.wait(ctx)
		d.log.Warn("somebody changed the firewall; putting it right", "what", what)
		if err := repair(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("cannot put the bans back", "err", err)
		}
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("foreign changes of the firewall are not noticed any more", "err", err)
	}
}

// How repairs are kept apart: the first is made at once, those that follow it soon wait longer and longer,
// but still less than the second in which bans are to be back.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 800 * time.Millisecond
	calmAfter  = 10 * time.Second
)

// A pace keeps repairs apart, so that two programs which both want the last word do not spend all time on
// it. Its methods are called by one goroutine.
type pace struct {
	last  time.Time // of the last repair
	pause time.Duration
}

// wait waits until the next repair may be made, or ctx ends.
func (p *pace) wait(ctx context.Context) {
	if time.Since(p.last) > calmAfter {
		p.pause = 0
	}
	select {
	case <-time.After(p.pause):
	case <-ctx.Done():
	}
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.last = time.Now()
}
