package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/firewall"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/source"
)

// A plan is a configuration that was checked by every package that obeys it and is
// ready to be put to work. Making one touches nothing.
type plan struct {
	config *config.Config

	jails   []jail.Config
	filters map[string]*filter.Rules
	sources []source.Config
	ignore  []*lookup.Rules
	rules   []firewall.Rule
	natives []firewall.Native // actions whose objects we make ourselves
	actions []action.Config   // that are carried out by shell or Python

	aside    []aside
	problems []config.Problem // config's and those found here

	// compiled are the filters made ready, by all that they are made of: jails whose
	// filters are alike share the expressions.
	compiled map[string]*compiled
	// known says by its commands what an action makes in the kernel.
	known map[string]recognized
}

// recognized is what came of looking at an action's commands.
type recognized struct {
	native firewall.Native
	err    error // why it is run as shell
}

// compiled is what came of a filter.
type compiled struct {
	rules *filter.Rules
	err   error
	jails []string // that run with it

	doubts []filter.Doubt // until they are told
}

// compile makes a jail's filter ready, or finds what was made for another jail.
func (p *plan) compile(c filter.Config) *compiled {
	c.Jail = ""
	key := fmt.Sprintf("%#v", c)
	made := p.compiled[key]
	if made == nil {
		made = &compiled{}
		if made.rules, made.err = filter.Compile(c); made.err == nil {
			made.doubts = made.rules.Doubts()
		} else {
			made.doubts = filter.Doubts(c)
		}
		p.compiled[key] = made
	}
	return made
}

// aside is a jail that cannot run, and why.
type aside struct {
	jail string
	err  error
}

// observes reports whether no jail of the plan bans anybody for real.
func (p *plan) observes() bool {
	for _, j := range p.jails {
		if !j.Observe && j.Name != jail.Manual {
			return false
		}
	}
	return len(p.jails) > 1
}

// blocking are the rules of Bantam's own table: where all only observe, none but that of bans by hand.
func (p *plan) blocking() []firewall.Rule {
	if p.observes() {
		return []firewall.Rule{{Jail: jail.Manual, OnDemand: true}}
	}
	return p.rules
}

// makePlan reads and checks the configuration in dir, "" for the library alone.
// The error is of the kind that stops everything; what concerns one jail is in the
// plan.
func makePlan(dir string, library fs.FS) (*plan, error) {
	cfg, err := config.Load(dir, library)
	if err != nil {
		return nil, err
	}
	return checked(cfg, map[string]*compiled{}, map[string]recognized{}), nil
}

// makePlan is the plan of the configuration that is to be used now.
func (d *Daemon) makePlan() (*plan, error) {
	dir := d.options.Config
	if d.options.Find != nil {
		dir = d.options.Find()
	}
	cfg, err := config.Load(dir, d.options.Library)
	if err != nil {
		return nil, err
	}
	if d.options.ObserveUntilSetup && !holdsJails(dir) {
		for i := range cfg.Jails {
			cfg.Jails[i].Jail.Observe = true
		}
	}
	d.options.Override.apply(&cfg.Daemon)
	return checked(cfg, map[string]*compiled{}, map[string]recognized{}), nil
}

// holdsJails reports whether a folder holds a configuration; the folder of a package that is gone may be empty.
func holdsJails(dir string) bool { return dir != "" && config.Find("", dir, "") != "" }

// checked is the plan of a configuration; made are filters that another plan compiled, known
// the actions that it looked at.
func checked(cfg *config.Config, made map[string]*compiled, known map[string]recognized) *plan {
	p := &plan{config: cfg, filters: map[string]*filter.Rules{}, problems: cfg.Problems, compiled: made, known: known}
	p.recognize()
	for _, c := range cfg.Jails {
		err := c.Err
		if err == nil {
			if problem := p.add(c); problem != nil {
				p.problems = append(p.problems, *problem)
				err = problem
			}
		}
		if err != nil {
			p.aside = append(p.aside, aside{c.Name, err})
		}
	}
	manual := jail.DefaultConfig(jail.Manual)
	manual.BanTime = -time.Second
	p.jails = append(p.jails, manual)
	p.jails[len(p.jails)-1].Observe = p.observes()
	p.rules = append(p.rules, firewall.Rule{Jail: jail.Manual, OnDemand: true})
	return p
}

// add checks one jail and adds it to the plan if it can run.
func (p *plan) add(c config.Jail) *config.Problem {
	refuse := func(key, hint string, err error) *config.Problem {
		problem := &config.Problem{Jail: c.Name, Key: key, Text: err.Error(), Hint: hint}
		if v, ok := p.config.Value(c.Name, key); ok {
			problem.File, problem.Line = v.File, v.Line
		}
		return problem
	}
	if c.Name == jail.Manual {
		return refuse("enabled", "give the jail another name", fmt.Errorf("%q is the jail of the bans made by hand", jail.Manual))
	}
	if err := c.Jail.Validate(); err != nil {
		return refuse("enabled", "", err)
	}
	if err := c.Source.Validate(); err != nil {
		return refuse("logpath", "", err)
	}
	made := p.compile(c.Filter)
	for _, d := range made.doubts {
		doubt := refuse("filter", "", fmt.Errorf("%s: this never matches: %s", d.Option, d.Why))
		doubt.Warning = true
		p.problems = append(p.problems, *doubt)
	}
	made.doubts = nil // told
	if made.err != nil {
		return refuse("filter", "", made.err)
	}
	ignore, err := lookup.Compile(c.Lookup)
	if err != nil {
		return refuse("ignoreip", "write addresses and prefixes into ignoreip", err)
	}
	if c.Lookup.IgnoreCommand != "" {
		if err := action.CheckCommand(context.Background(), c.Lookup.IgnoreCommand); err != nil {
			doubt := refuse("ignorecommand", "until it can be run every failure counts, also of those whom it would let off", fmt.Errorf("the command cannot work: %w", err))
			doubt.Warning = true
			p.problems = append(p.problems, *doubt)
		}
	}
	rule, run, wider, err := effects(&c)
	if err != nil {
		return refuse("action", "", err)
	}
	if rule != nil {
		p.rules = append(p.rules, *rule)
	}
	if wider {
		doubt := refuse("action", "give the actions the same ports, or the same protocols", errors.New("its actions bantam become one, which closes the ports of each for the protocols of all"))
		doubt.Warning = true
		p.problems = append(p.problems, *doubt)
	}
	for _, a := range c.Actions {
		if a.Name == bantamAction && a.Kind == action.Native && firewall.Inverts(a.Params) {
			doubt := refuse("action", "name the action that opens the port, such as iptables, in place of bantam", errors.New("its action bantam shuts out, and does not let in as its blocktype or returntype wants"))
			doubt.Warning = true
			p.problems = append(p.problems, *doubt)
		}
	}
	if !c.Jail.Observe {
		for _, a := range run {
			if a.Made {
				p.natives = append(p.natives, p.known[commandsKey(&a)].native)
			} else {
				p.actions = append(p.actions, a)
			}
		}
	}
	p.jails = append(p.jails, c.Jail)
	p.filters[c.Name] = made.rules.For(c.Name)
	made.jails = append(made.jails, c.Name)
	p.sources = append(p.sources, c.Source)
	p.ignore = append(p.ignore, ignore)
	return nil
}

// bantamAction is the native action that blocks by Bantam's own table.
const bantamAction = "bantam"

// effects are what the jail's actions block by Bantam's own table, nil if nothing, and those that are carried
// out by shell or Python. wider is true if the rule closes more than the actions say.
func effects(c *config.Jail) (rule *firewall.Rule, run []action.Config, wider bool, err error) {
	for i := range c.Actions {
		a := &c.Actions[i]
		if a.Kind == action.Native && a.Name != bantamAction && a.Name != action.LogName {
			continue // it tells somebody, which is no effect of the jail's own
		}
		if a.Name != bantamAction || a.Kind != action.Native {
			if err := action.Check(context.Background(), a); err != nil {
				return nil, nil, false, fmt.Errorf("%s: %w", a.Name, err)
			}
			run = append(run, *a)
			continue
		}
		r, err := firewall.ParseRule(c.Name, a.Params)
		if err != nil {
			return nil, nil, false, err
		}
		if rule != nil {
			var more bool
			r, more = unite(*rule, r)
			wider = wider || more
		}
		rule = &r
	}
	return rule, run, wider, nil
}

// recognize finds out which actions make objects in the kernel that we can make ourselves.
// It takes a millisecond or two for each, so all cores do it.
func (p *plan) recognize() {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex // guards known while they do
	known := maps.Clone(p.known)
	for i := range p.config.Jails {
		for k := range p.config.Jails[i].Actions {
			a := &p.config.Jails[i].Actions[k]
			key := commandsKey(a)
			if _, done := p.known[key]; done || a.Kind != action.Shell {
				continue
			}
			g.Go(func() error {
				r := recognizeOne(a)
				mu.Lock()
				defer mu.Unlock()
				known[key] = r
				return nil
			})
		}
	}
	_ = g.Wait() // none of them fails
	p.known = known
	p.settle()
}

// settle says of each action whether its objects are made by ourselves: two that want the same
// object cannot both have it.
func (p *plan) settle() {
	var natives []firewall.Native
	var whose []*action.Config
	for i := range p.config.Jails {
		for k := range p.config.Jails[i].Actions {
			a := &p.config.Jails[i].Actions[k]
			if a.Kind != action.Shell {
				continue
			}
			if r := p.known[commandsKey(a)]; r.err != nil {
				runAsShell(a, r.err)
			} else {
				natives, whose = append(natives, r.native), append(whose, a)
			}
		}
	}
	conflicts := firewall.Conflicts(natives)
	for i, a := range whose {
		runAsShell(a, conflicts[i])
	}
}

// runAsShell writes down that an action is run as shell because of why, or not if that is nil. What
// is so already is left alone: the running plan may share it.
func runAsShell(a *action.Config, why error) {
	made, text := why == nil, ""
	if !made {
		text = why.Error()
	}
	if a.Made != made || a.WhyShell != text {
		a.Made, a.WhyShell = made, text
	}
}

func recognizeOne(a *action.Config) recognized {
	if a.NoRestored {
		return recognized{err: errors.New("it is not for restored bans")}
	}
	inet4, inet6 := firewall.Commands(a.Inet4), firewall.Commands(a.Inet6)
	native, err := firewall.Recognize(a.Jail, a.Title, &inet4, &inet6)
	native.Eager = !a.OnDemand
	return recognized{native, err}
}

// commandsKey is all that recognizing an action depends on.
func commandsKey(a *action.Config) string {
	return fmt.Sprintf("%q %q %t %t %#v %#v", a.Jail, a.Title, a.OnDemand, a.NoRestored, a.Inet4, a.Inet6)
}

// unite makes one rule of two of one jail. wider is true if it closes ports that neither did.
func unite(a, b firewall.Rule) (r firewall.Rule, wider bool) {
	switch {
	case len(a.Protocols) == 0:
		return a, false // all traffic
	case len(b.Protocols) == 0:
		return b, false
	}
	wider = !slices.Equal(a.Ports, b.Ports) && !slices.Equal(a.Protocols, b.Protocols)
	r = firewall.Rule{Jail: a.Jail, Protocols: slices.Clone(a.Protocols)}
	for _, p := range b.Protocols {
		if !slices.Contains(r.Protocols, p) {
			r.Protocols = append(r.Protocols, p)
		}
	}
	if a.Ports != nil && b.Ports != nil {
		r.Ports = slices.Clone(a.Ports)
		for _, p := range b.Ports {
			if !slices.Contains(r.Ports, p) {
				r.Ports = append(r.Ports, p)
			}
		}
	}
	return r, wider
}

// Check reads and checks the configuration in dir, "" for the library alone, as
// the daemon would, and returns all that is wrong with it. The error is of the kind
// that keeps the daemon from starting at all.
func Check(dir string, library fs.FS) (cfg *config.Config, problems []config.Problem, err error) {
	p, err := makePlan(dir, library)
	if err != nil {
		return nil, nil, err
	}
	return p.config, slices.Concat(p.problems, placeProblems(p.config), tellProblems(p.config)), nil
}
