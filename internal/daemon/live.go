package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/jail"
)

// live is what was changed since the configuration was read and is not in the plan.
type live struct {
	mu     sync.Mutex              // guards added
	added  map[string]*config.Jail // jails that were added and not started
	writes *logWriter
}

// errManual refuses to change what has no configuration.
var errManual = control.Invalid("the jail of the bans made by hand has no options to change")

// jail is a jail's configuration as it stands. It is not to be changed.
func (d *Daemon) jail(name string) (*config.Jail, error) {
	p := d.plan.Load()
	for i := range p.config.Jails {
		c := &p.config.Jails[i]
		switch {
		case c.Name != name:
		case p.runs(name):
			return c, nil
		default:
			return nil, control.Invalid(fmt.Sprintf("the jail %s is set aside: %s", control.Repr(name), p.whyAside(name)))
		}
	}
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	if c := d.live.added[name]; c != nil {
		return c, nil
	}
	if name == jail.Manual {
		c := &config.Jail{Name: name, Jail: jail.DefaultConfig(name)}
		c.Jail.BanTime = -time.Second
		return c, nil
	}
	return nil, control.NoSuchJail(name)
}

// runs reports whether a jail of the plan was not set aside.
func (p *plan) runs(name string) bool {
	return slices.ContainsFunc(p.jails, func(c jail.Config) bool { return c.Name == name })
}

func (p *plan) whyAside(name string) error {
	for _, a := range p.aside {
		if a.jail == name {
			return a.err
		}
	}
	return nil
}

// change changes one jail while it runs: f gets a copy of its configuration, which is
// checked as if it stood in the files, and takes the place of the old one if nothing is
// wrong with it. What the jail does not change goes on undisturbed.
func (d *Daemon) change(ctx context.Context, name string, f func(*config.Jail) error) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	c, err := d.jail(name)
	if err != nil {
		return err
	}
	next := clone(c)
	if err := f(next); err != nil {
		return err
	}
	d.live.mu.Lock()
	added := d.live.added[name] != nil
	d.live.mu.Unlock()
	switch {
	case added: // what is wrong with it is said when it is started
		if err := checkAlone(d.plan.Load(), next); err != nil {
			return err
		}
		d.live.mu.Lock()
		d.live.added[name] = next
		d.live.mu.Unlock()
		return nil
	case name == jail.Manual:
		return errManual
	}
	old := d.plan.Load()
	jails := slices.Clone(old.config.Jails)
	jails[slices.IndexFunc(jails, func(j config.Jail) bool { return j.Name == name })] = *next
	p := old.with(jails)
	if !p.runs(name) {
		return p.whyAside(name)
	}
	return d.swap(ctx, old, p, c, next)
}

// checkAlone says what is wrong with a jail's own values.
func checkAlone(p *plan, c *config.Jail) error {
	next := p.with([]config.Jail{*c})
	return next.whyAside(c.Name)
}

// swap puts a plan to work that differs from the running one in one jail.
func (d *Daemon) swap(ctx context.Context, old, p *plan, was, is *config.Jail) (err error) {
	if err := d.openWall(p); err != nil {
		return err
	}
	if !reflect.DeepEqual(was.Actions, is.Actions) || old.observes() != p.observes() {
		return d.apply(ctx, p)
	}
	if !reflect.DeepEqual(was.Lookup, is.Lookup) {
		spared, err := d.spared(ctx)
		if err != nil {
			return err
		}
		d.lookup.Configure(p.ignore...)
		defer func() {
			if err == nil {
				err = d.liftIgnored(ctx, spared)
			}
		}()
	}
	if !reflect.DeepEqual(was.Jail, is.Jail) {
		if err := d.jails.Configure(ctx, p.jails, nil); err != nil {
			return err
		}
	}
	if reflect.DeepEqual(was.Filter, is.Filter) && reflect.DeepEqual(was.Source, is.Source) {
		p.filters = old.filters
		d.plan.Store(p)
		return nil
	}
	resume, err := d.resume(ctx)
	if err != nil {
		return err
	}
	d.filters.Store(&p.filters)
	d.plan.Store(p)
	return d.sources.Configure(p.sources, resume)
}

// setJails puts other jails to work, as a reload does. The caller holds reloading.
func (d *Daemon) setJails(ctx context.Context, jails []config.Jail) error {
	p := d.plan.Load().with(jails)
	if err := d.openWall(p); err != nil {
		return err
	}
	return d.apply(ctx, p)
}

// with is the plan of other jails in the same configuration. Filters that are the same
// are not compiled again.
func (p *plan) with(jails []config.Jail) *plan {
	cfg := *p.config
	cfg.Jails = jails
	cfg.Problems = nil
	made := map[string]*compiled{}
	for key, c := range p.compiled {
		if len(c.jails) > 0 {
			made[key] = &compiled{rules: c.rules}
		}
	}
	next := checked(&cfg, made, p.known)
	next.problems = append(slices.Clip(p.problems), next.problems...)
	return next
}

// clone is a copy whose lists and maps may be changed.
func clone(c *config.Jail) *config.Jail {
	n := *c
	n.Filter.Failregex = slices.Clone(c.Filter.Failregex)
	n.Filter.Ignoreregex = slices.Clone(c.Filter.Ignoreregex)
	n.Filter.DatePattern = slices.Clone(c.Filter.DatePattern)
	n.Source.Paths = slices.Clone(c.Source.Paths)
	n.Source.JournalMatch = slices.Clone(c.Source.JournalMatch)
	n.Lookup.IgnoreIP = slices.Clone(c.Lookup.IgnoreIP)
	n.Actions = slices.Clone(c.Actions)
	return &n
}

// addJail makes a jail that is not at work before it is started.
func (d *Daemon) addJail(w words) (any, error) {
	name, err := w.at(1)
	if err != nil {
		return nil, err
	}
	if name == "--all" {
		return nil, control.Invalid("Reserved name '--all'")
	}
	if _, err := d.jail(name); err == nil {
		return nil, &control.Exception{Class: "fail2ban.exceptions.DuplicateJailException", Args: control.Tuple{name}}
	}
	c := &config.Jail{Name: name, Jail: jail.DefaultConfig(name)}
	c.Jail.MaxRetry, c.Jail.PurgeAge = 3, d.plan.Load().config.Daemon.DBPurgeAge
	c.Filter.Jail, c.Filter.UseDNS = name, "warn"
	c.Lookup.Jail, c.Lookup.IgnoreSelf = name, true
	c.Source.Jail, c.Source.FindTime, c.Source.Backend = name, c.Jail.FindTime, "auto"
	if len(w.list) > 2 {
		c.Source.Backend, _ = w.at(2)
	}
	if err := checkAlone(d.plan.Load(), c); err != nil {
		return nil, err
	}
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	d.live.added[name] = c
	return name, nil
}

// startJail puts an added jail to work, and wakes an idle one.
func (d *Daemon) startJail(ctx context.Context, w words) error {
	name, err := w.at(1)
	if err != nil {
		return err
	}
	if _, err := d.jail(name); err != nil {
		return err
	}
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.live.mu.Lock()
	added := d.live.added[name]
	d.live.mu.Unlock()
	if added == nil {
		d.idle.wake(name)
		return nil
	}
	if err := d.setJails(ctx, append(slices.Clip(d.plan.Load().config.Jails), *added)); err != nil {
		return err
	}
	d.live.mu.Lock()
	delete(d.live.added, name)
	d.live.mu.Unlock()
	return nil
}

// stopJail ends a jail and its bans, all jails, or the daemon.
func (d *Daemon) stopJail(ctx context.Context, w words) error {
	if len(w.list) == 1 {
		if _, err := d.stopRequest(ctx, control.StopRequest{Unban: true}); err != nil {
			return err
		}
		<-ctx.Done() // when all is put away and the socket is gone
		return nil
	}
	name, _ := w.at(1) // it is there
	if name != "--all" {
		if _, err := d.jail(name); err != nil {
			return err
		}
		if name == jail.Manual {
			return errManual
		}
	}
	d.reloading.Lock()
	defer d.reloading.Unlock()
	gone := func(n string) bool { return name == "--all" || n == name }
	d.live.mu.Lock()
	for n := range d.live.added {
		if gone(n) {
			delete(d.live.added, n)
		}
	}
	d.live.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(d.plan.Load().config.Jails), func(c config.Jail) bool { return gone(c.Name) })
	if err := d.setJails(ctx, rest); err != nil {
		return err
	}
	if name == "--all" {
		d.idle.wakeAll()
	} else {
		d.idle.wake(name) // what was held is nobody's now
	}
	return nil
}

// reloadJail reads one jail's section again. With create, one that does not run yet may begin to.
func (d *Daemon) reloadJail(ctx context.Context, name string, create bool) (err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if _, known := d.jail(name); known != nil && !create {
		return known
	}
	fresh, err := config.Load(d.plan.Load().config.Dir, d.options.Library)
	if err != nil {
		return unchanged(err.Error())
	}
	jails := slices.DeleteFunc(slices.Clone(d.plan.Load().config.Jails), func(c config.Jail) bool { return c.Name == name })
	if at := slices.IndexFunc(fresh.Jails, func(c config.Jail) bool { return c.Name == name }); at >= 0 {
		jails = append(jails, fresh.Jails[at])
		if why := d.plan.Load().with(jails).whyAside(name); why != nil {
			return unchanged(why.Error())
		}
	} else if _, known := d.jail(name); known != nil {
		return known
	}
	d.live.mu.Lock()
	delete(d.live.added, name)
	d.live.mu.Unlock()
	d.idle.wake(name)
	if err := d.setJails(ctx, jails); err != nil {
		return err
	}
	d.log.Info("reloaded", "jail", name)
	return nil
}
