// Package config reads the dialect Bantam is configured in, Fail2Ban's: jail.conf,
// fail2ban.conf, filter.d and action.d with their .local files, includes,
// %(references)s and <tags>. It hands each package its own Config.
//
// A folder's files come first; what the folder lacks is taken from the library.
// Whatever is wrong in one jail sets that jail aside and no other, and is named
// with file, line and a hint. Nothing a file holds makes the package panic, hang
// or take memory without bound: files are at most 4 MiB, values at most 1 MiB,
// and references, includes and tags may be nested only so deep.
//
// Whether an expression compiles, a log exists or an action can be carried out is
// for the packages to say whose business it is.
package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Config is everything that is configured.
type Config struct {
	// Dir is the folder in use, "" for the library alone.
	Dir string
	// Jails are the enabled ones in file order. One that cannot work has Err set.
	Jails []Jail
	// Daemon is what concerns the program itself.
	Daemon Daemon
	// Problems are everything that is wrong, jails' errors and warnings alike.
	Problems []Problem

	jails *set // the merged jail files, for Value
}

// folders are where a configuration is looked for when none is named: the first
// if it holds jails, else the last if it exists.
var folders = []string{"/etc/bantam", "/etc/fail2ban"}

// Find is the folder to use, "" for the library alone. dir is what the user
// named: a folder, "library" for none, or "" to look for one. candidates are the
// folders looked at then, /etc/bantam and /etc/fail2ban if none are given: all but the
// last only count if they hold a jail.conf, a jail.local or settings.
func Find(dir string, candidates ...string) string {
	switch {
	case dir == "library":
		return ""
	case dir != "":
		return dir
	case len(candidates) == 0:
		candidates = folders
	}
	for i, c := range candidates {
		if i == len(candidates)-1 {
			if info, err := os.Stat(c); err == nil && info.IsDir() {
				return c
			}
			break
		}
		for _, name := range []string{"jail.conf", "jail.local", SettingsFile} {
			if _, err := os.Stat(filepath.Join(c, name)); err == nil {
				return c
			}
		}
	}
	return ""
}

// Load reads the configuration of a folder, "" for the library alone; lib is the
// library. Its error, a *Problem, is for what concerns all jails: the folder, the
// jail files or fail2ban.conf cannot be read. Everything else is in the Config.
//
// Nothing is started or changed; it may be called while another Config is in use.
func Load(dir string, lib fs.FS) (*Config, error) {
	if dir != "" {
		if err := checkDir(dir); err != nil {
			return nil, err
		}
	}
	t := newTree(dir, lib, "library/")
	extra := map[string]*Value{
		"fail2ban_version":  {Text: fail2banVersion},
		"fail2ban_confpath": {Text: dir},
	}
	jails, err := t.jails()
	if err != nil {
		return nil, err
	}
	c := &Config{Dir: dir, jails: jails}
	var problems []Problem
	if c.Daemon, problems, err = t.daemon(extra); err != nil {
		return nil, err
	}
	for _, name := range jails.order {
		j, more, ok := readJail(t, jails, name, extra)
		problems = append(problems, more...)
		if ok {
			c.Jails = append(c.Jails, j)
		}
		if len(c.Jails) > maxJails {
			return nil, &Problem{Text: fmt.Sprintf("more than %d jails are enabled", maxJails), Hint: "enabled = true in [DEFAULT] enables every section"}
		}
	}
	for i := range c.Jails {
		c.Jails[i].Jail.PurgeAge = c.Daemon.DBPurgeAge
	}
	problems = append(problems, c.placeless()...)
	problems = append(problems, c.unknown()...)
	c.Problems = onceEach(append(t.problems, problems...))
	return c, nil
}

// Bounds of what one configuration may come to.
const (
	maxJails   = 20_000
	maxUnknown = 100 // options named as unknown
)

// fail2banVersion is the version whose behaviour this is, for %(fail2ban_version)s.
const fail2banVersion = "1.1.2"

// jails reads the jail files with the library's below them.
func (t *tree) jails() (*set, error) {
	conf, local, err := t.candidates(false, "jail")
	if err != nil {
		return nil, err
	}
	t.whole = t.exists(place{false, "jail.conf"})
	libConf, libLocal, err := t.candidates(true, "jail")
	if err != nil {
		return nil, err
	}
	below := append(libConf, libLocal...)
	t.esmithIn = t.esmith()
	if !t.whole {
		return t.layers(append(below, conf...), local)
	}
	s, err := t.layers(conf, local)
	if err != nil {
		return nil, err
	}
	lib, err := t.load(below)
	if err != nil {
		return nil, err
	}
	s.fill(lib)
	return s, nil
}

// layers merges jail files, with what an SME Server's databases come to between the two.
func (t *tree) layers(conf, local []place) (*set, error) {
	r := reading{tree: t, set: newSet()}
	for _, p := range conf {
		if err := r.file(p, nil); err != nil {
			return nil, err
		}
	}
	if t.esmithIn != nil {
		r.set.add(t.esmithIn.file)
	}
	for _, p := range local {
		if err := r.file(p, nil); err != nil {
			return nil, err
		}
	}
	if t.esmithIn != nil {
		t.esmithIn.scale(r.set)
	}
	return r.set, nil
}

// ownJail are the options that make a jail stand by itself.
var ownJail = []string{"logpath", "journalmatch", "filter", "failregex"}

// fill puts the library's sections below jails that the files name and say too
// little of to work. It enables none, and the library's [DEFAULT] serves
// references only.
func (s *set) fill(lib *set) {
	s.spare = lib.defaults
	for name, own := range s.sections {
		from := lib.sections[name]
		if from == nil || slices.ContainsFunc(ownJail, func(k string) bool { return own.opts[k] != nil }) {
			continue
		}
		for _, key := range from.keys {
			if own.opts[key] == nil && key != "enabled" {
				own.set(key, from.opts[key])
			}
		}
	}
}

// references are the options that some value of the set refers to.
func (s *set) references() map[string]bool {
	used := map[string]bool{}
	note := func(sec *section) {
		for _, v := range sec.opts {
			references(v.Text, func(key string) { used[key] = true })
		}
	}
	note(s.defaults)
	for _, sec := range s.sections {
		note(sec)
	}
	for _, m := range s.known {
		for _, v := range m {
			references(v.Text, func(key string) { used[key] = true })
		}
	}
	return used
}

// unknown are warnings for options of [DEFAULT] and of enabled jails that nothing reads.
func (c *Config) unknown() []Problem {
	used := c.jails.references()
	names := append(keyNames(jailKeys), "port", "protocol", "banaction", "mode", "chain", "destemail", "sender")
	var out []Problem
	check := func(jail string, sec *section) {
		for _, key := range sec.keys {
			base, _, _ := strings.Cut(key, "?")
			if knownJailKey(base) || used[key] || len(out) == maxUnknown {
				continue
			}
			p := unknownKey(sec.opts[key], names)
			p.Jail = jail
			out = append(out, p)
		}
	}
	check("", c.jails.defaults)
	for _, j := range c.Jails {
		check(j.Name, c.jails.sections[j.Name])
	}
	return out
}

// onceEach drops problems that several jails share because they inherit a value:
// the first is kept, without its jail.
func onceEach(problems []Problem) []Problem {
	first := map[Problem]int{}
	var out []Problem
	for _, p := range problems {
		key := p
		key.Jail = ""
		if p.File == "" {
			key = p
		}
		at, seen := first[key]
		switch {
		case !seen:
			first[key] = len(out)
			out = append(out, p)
		case out[at].Jail != p.Jail:
			out[at].Jail = ""
		}
	}
	return out
}

// Value is the option of a jail as the files give it, references unreplaced, and
// where it stands; ok is false if no file has it.
func (c *Config) Value(jail, key string) (v Value, ok bool) {
	found := c.jails.raw(jail, strings.ToLower(key))
	if found == nil {
		return Value{}, false
	}
	return *found, true
}
