package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
)

// Bounds of a trial.
const (
	usualTrial   = time.Minute
	longestTrial = time.Hour
	// againIn is when to try again what has to be undone and could not be.
	againIn = time.Second
)

// A trial is enforcing that is undone at a time, unless somebody confirms it before: who has shut himself out cannot.
// It is kept in memory alone, so a daemon that is killed in one observes again at its next start. It is safe for
// concurrent use.
type trial struct {
	moved chan struct{} // holds one token: until has changed

	mu    sync.Mutex // guards what follows
	until time.Time  // wall time of its end, zero if there is none
	jails []string   // that observe but for it
}

func newTrial() *trial { return &trial{moved: make(chan struct{}, 1)} }

// begin begins a trial, or lets the running one last from now on.
func (t *trial) begin(jails []string, length time.Duration) {
	t.mu.Lock()
	t.until = time.Now().Add(length)
	if len(jails) > 0 {
		t.jails = jails
	}
	t.mu.Unlock()
	select {
	case t.moved <- struct{}{}:
	default: // it is looked at anyway
	}
}

// end ends the trial and says whether there was one, and which jails it was about.
func (t *trial) end() (jails []string, was bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	jails, was = t.jails, !t.until.IsZero()
	t.until, t.jails = time.Time{}, nil
	return jails, was
}

// left is how long it lasts; ok is false if there is none.
func (t *trial) left() (left time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Until(t.until), !t.until.IsZero()
}

// status is nil if there is none.
func (t *trial) status() *control.Trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() {
		return nil
	}
	return &control.Trial{Until: t.until}
}

// runTrials undoes the trials that nobody confirms in time, until ctx ends.
func (d *Daemon) runTrials(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-d.trial.moved:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		left, ok := d.trial.left()
		switch {
		case ok && left > 0:
			timer.Reset(left)
		case ok:
			if err := d.undoOverdue(ctx); err != nil {
				d.log.Error("cannot observe again yet", "err", err)
				timer.Reset(againIn)
			}
		}
	}
}

// heldBack are the jails that observe because a default says so, and where that stands.
func (p *plan) heldBack() (jails []string, at config.Value) {
	at, ok := p.config.Value("DEFAULT", "observe")
	for i := range p.config.Jails {
		c := &p.config.Jails[i]
		v, _ := p.config.Value(c.Name, "observe")
		if ok && c.Jail.Observe && v.File == at.File && v.Line == at.Line {
			jails = append(jails, c.Name)
		}
	}
	return jails, at
}

// observing is the plan with some jails observing, or not.
func (p *plan) observing(jails []string, observe bool) *plan {
	all := slices.Clone(p.config.Jails)
	for i := range all {
		if slices.Contains(jails, all[i].Name) {
			all[i].Jail.Observe = observe
		}
	}
	return p.with(all)
}

// enforce has the jails ban that a default has observe: on trial, for good, or no more.
func (d *Daemon) enforce(ctx context.Context, r control.EnforceRequest) (reply control.EnforceReply, err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	p := d.plan.Load()
	jails, at := p.heldBack()
	_, running := d.trial.left()
	reply.Place = control.Place{Dir: p.config.Dir, File: at.File, Line: at.Line}
	switch {
	case r.Confirm && r.Undo:
		return reply, control.Refuse("", "confirm and undo contradict each other")
	case (r.Confirm || r.Undo) && !running:
		return reply, control.Refuse("bantam enforce begins one", "there is no trial: it is over, or never began")
	case r.Undo:
		return reply, d.undo(ctx)
	case r.Confirm:
		reply.Jails, _ = d.trial.end()
		d.log.Info("enforcing is confirmed", "jails", len(reply.Jails))
		return reply, nil
	case running && r.Seconds >= 0:
		d.trial.begin(nil, trialOf(r.Seconds))
		reply.Trial = d.trial.status()
		return reply, nil
	case running:
		reply.Jails, _ = d.trial.end()
		return reply, nil
	case len(jails) == 0:
		return reply, d.nothingHeld(p)
	}
	next := p.observing(jails, false)
	for _, name := range jails {
		if why := next.whyAside(name); why != nil {
			return reply, control.Refuse("bantam check shows it all; it goes on to observe", "%s could not run: %v", name, why)
		}
	}
	if err := d.openWall(next); err != nil {
		return reply, err
	}
	reply.Jails = jails
	if r.Seconds >= 0 { // before it is put to work, so that half of it is undone, too
		d.trial.begin(jails, trialOf(r.Seconds))
		reply.Trial = d.trial.status()
	}
	if err := d.apply(ctx, next); err != nil {
		return reply, errors.Join(err, d.undo(ctx))
	}
	d.log.Info("enforcing", "jails", len(jails), "trial", reply.Trial != nil)
	return reply, nil
}

// trialOf is how long a trial lasts that is asked for with so many seconds.
func trialOf(s float64) time.Duration {
	if s == 0 {
		return usualTrial
	}
	return min(seconds(min(s, longestTrial.Seconds())), longestTrial)
}

// awaitsSetup reports whether nobody is banned because nothing is configured yet.
func (d *Daemon) awaitsSetup(p *plan) bool {
	return d.options.ObserveUntilSetup && !holdsJails(p.config.Dir)
}

// nothingHeld says why there is nothing to enforce.
func (d *Daemon) nothingHeld(p *plan) error {
	if d.awaitsSetup(p) {
		return control.Refuse("sudo bantam setup asks what to protect and writes one", "there is no configuration yet, and without one all is only observed")
	}
	for i := range p.config.Jails {
		c := &p.config.Jails[i]
		if v, ok := p.config.Value(c.Name, "observe"); ok && c.Jail.Observe {
			return control.Refuse("take that line out and: bantam reload", "the jail %s observes because %s:%d says so of it alone", c.Name, v.File, v.Line)
		}
	}
	return control.Refuse("bantam status shows what it does", "there is nothing to do: every jail enforces already")
}

// undo has the jails of a trial observe again and takes out their bans. The caller holds reloading.
func (d *Daemon) undo(ctx context.Context) error {
	d.trial.mu.Lock()
	jails := d.trial.jails
	d.trial.mu.Unlock()
	if err := d.apply(ctx, d.plan.Load().observing(jails, true)); err != nil {
		return err
	}
	d.trial.end()
	d.log.Warn("enforcing was not confirmed; observing again", "jails", len(jails))
	return nil
}

// undoOverdue is undo, unless somebody has ended or prolonged the trial at the last moment.
func (d *Daemon) undoOverdue(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if left, ok := d.trial.left(); !ok || left > 0 {
		return nil
	}
	return d.undo(ctx)
}

// letGo ends the bans that are carried out, which a daemon that only observes has none of. Their offenders are forgiven.
func (d *Daemon) letGo(ctx context.Context) error {
	bans, err := d.jails.Outlines(ctx)
	if err != nil {
		return err
	}
	var over []bantam.Decision
	for _, b := range bans {
		if b.Observed {
			continue
		}
		ended, err := d.jails.Unban(ctx, b.Jail, b.ID, bantam.CauseOperator)
		if err != nil {
			return err
		}
		over = append(over, ended...)
	}
	return d.carriedOut(ctx, over...)
}
