package daemon

import (
	"errors"
	"fmt"
	"io/fs"

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

	aside    []aside
	problems []config.Problem // config's and those found here

	// compiled are the filters made ready, by all that they are made of: jails whose
	// filters are alike share the expressions.
	compiled map[string]*compiled
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

// makePlan reads and checks the configuration in dir, "" for the library alone.
// The error is of the kind that stops everything; what concerns one jail is in the
// plan.
func makePlan(dir string, library fs.FS) (*plan, error) {
	cfg, err := config.Load(dir, library)
	if err != nil {
		return nil, err
	}
	return checked(cfg, map[string]*compiled{}), nil
}

// checked is the plan of a configuration; made are filters that another plan compiled.
func checked(cfg *config.Config, made map[string]*compiled) *plan {
	p := &plan{config: cfg, filters: map[string]*filter.Rules{}, problems: cfg.Problems, compiled: made}
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
	manual.BanTime = -1
	p.jails = append(p.jails, manual)
	p.jails[len(p.jails)-1].Observe = p.observes()
	p.rules = append(p.rules, firewall.Rule{Jail: jail.Manual})
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
		key := "ignoreip"
		if c.Lookup.IgnoreCommand != "" {
			key = "ignorecommand"
		}
		return refuse(key, "write addresses and prefixes into ignoreip", err)
	}
	blocks, err := blockingRule(c)
	if err != nil {
		hint := ""
		if errors.Is(err, errUnbuilt) {
			hint = "write banaction = bantam into [DEFAULT] of jail.local, or action = bantam into the jail"
		}
		return refuse("action", hint, err)
	}
	if blocks != nil {
		p.rules = append(p.rules, *blocks)
	}
	p.jails = append(p.jails, c.Jail)
	p.filters[c.Name] = made.rules.For(c.Name)
	made.jails = append(made.jails, c.Name)
	p.sources = append(p.sources, c.Source)
	p.ignore = append(p.ignore, ignore)
	return nil
}

// errUnbuilt is wrapped by the error of an action that is not Bantam's own.
var errUnbuilt = errors.New("is not built yet")

// blockingRule is what the jail's actions block, nil if it has none.
func blockingRule(c config.Jail) (rule *firewall.Rule, err error) {
	for _, a := range c.Actions {
		if a.Name != "bantam" {
			return nil, fmt.Errorf("%q %w", a.Name, errUnbuilt)
		}
		if rule != nil {
			return nil, errors.New("bantam is named twice; give one of them all the ports")
		}
		r, err := firewall.ParseRule(c.Name, a.Params)
		if err != nil {
			return nil, err
		}
		rule = &r
	}
	return rule, nil
}

// Check reads and checks the configuration in dir, "" for the library alone, as
// the daemon would, and returns all that is wrong with it. The error is of the kind
// that keeps the daemon from starting at all.
func Check(dir string, library fs.FS) (cfg *config.Config, problems []config.Problem, err error) {
	p, err := makePlan(dir, library)
	if err != nil {
		return nil, nil, err
	}
	return p.config, p.problems, nil
}
