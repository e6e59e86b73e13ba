package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"bantam/internal/filter"
	"bantam/internal/tag"
)

// filterOptions are the options of a filter that are obeyed; all others are
// vocabulary for them. A jail that sets one of them replaces the filter's.
var filterOptions = []string{"usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch", "json"}

// A combined filter is the options of a filter after all substitution.
// It is shared by the jails that ask for the same and does not change.
type combined struct {
	opts map[string]*Value // texts are final
	used map[string]bool   // tags that some option refers to
}

// LoadFilter reads the filter name of a tree that holds a filter.d folder, such
// as the library, as a jail with default options would get it. params are what a
// jail would write in the brackets: mode, logtype and the filter's own.
// The error is a *Problem if a file is to blame.
func LoadFilter(fsys fs.FS, name string, params map[string]string) (filter.Config, error) {
	t := newTree("", fsys, "")
	basics := map[string]string{"enabled": "true", "backend": "auto", "filter": name}
	c, err := t.filter(name, paramList(params), basics)
	if err != nil {
		return filter.Config{}, err
	}
	out, _, err := filterConfig(name, c.get)
	return out, err
}

// filter reads and combines a filter (detection.md 2.3): parameters over [Init]
// over [Definition], then tags. basics are the jail's own enabled, backend and
// filter, which a filter can refer to.
func (t *tree) filter(name string, params []param, basics map[string]string) (*combined, error) {
	id := fmt.Sprintf("%q %q %q", name, params, basics)
	if c := t.combined[id]; c != nil {
		return c, nil
	}
	places, err := t.layered("filter.d/" + name)
	if errors.Is(err, errNone) {
		return nil, &Problem{Key: "filter", Text: fmt.Sprintf("there is no filter %s", quote(name)), Hint: t.filterHint(name)}
	}
	if err != nil {
		return nil, err
	}
	s, err := t.load(places)
	if err != nil {
		return nil, err
	}
	if s.sections["Definition"] == nil {
		t.warn(&Problem{File: t.label(places[0]), Text: "the filter has no [Definition]", Hint: "failregex and the other options belong under it"})
	}
	t.misspelt(s, filterOptions)
	c, err := combine(s, params, basics, ofFilter)
	if err == nil {
		t.combined[id] = c
	}
	return c, err
}

// misspelt warns of options that nothing refers to and that are spelt almost as one that is
// obeyed. Others may be vocabulary that an expression no longer uses.
func (t *tree) misspelt(s *set, options []string) {
	def := s.sections["Definition"]
	if def == nil {
		return
	}
	var used map[string]bool
	for _, key := range def.keys {
		v := def.opts[key]
		if slices.Contains(options, key) || nearest(key, options) == "" {
			continue
		}
		if used == nil {
			used = s.references()
		}
		if !used[key] && !used[strings.ToLower(key)] {
			p := unknownKey(v, options)
			t.warn(&p)
		}
	}
}

func (t *tree) filterHint(name string) string {
	if strings.TrimRightFunc(name, isSpace) != name {
		return "no blank may stand before the bracket"
	}
	if stem, ok := strings.CutSuffix(name, ".conf"); ok {
		return "write " + printable(stem) + " without .conf"
	}
	if guess := nearest(name, t.filterNames()); guess != "" {
		return "did you mean " + printable(guess) + "?"
	}
	return "put it into filter.d/" + printable(name) + ".conf"
}

// filterNames are the filters of the folder and of the library, perhaps twice.
func (t *tree) filterNames() []string {
	var names []string
	for _, lib := range []bool{false, true} {
		found, _ := t.list(lib, "filter.d", ".conf") // names are for hints only
		for _, p := range found {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(p.name, "filter.d/"), ".conf"))
		}
	}
	return names
}

// combiner is the state of combining one filter.
type combiner struct {
	set        *set
	definition scope
	init       scope
	opts       map[string]*Value // before tags
	params     map[string]*Value // by lower-case key
	fixed      map[string]bool   // options with a variant per family: their tags stay
}

// A vocabulary is what is particular to filters, or to actions, when they are combined.
type vocabulary struct {
	obeyed []string // options that are obeyed, also from [DEFAULT]
	later  []string // tags that stay, for whoever runs the action
	action bool
}

var ofFilter = vocabulary{obeyed: filterOptions}

func combine(s *set, params []param, basics map[string]string, voc vocabulary) (*combined, error) {
	c := combiner{set: s, opts: map[string]*Value{}, params: map[string]*Value{}, fixed: map[string]bool{}}
	for key, text := range basics {
		c.params[key] = &Value{Text: text, key: key}
	}
	given := map[string]*Value{}
	for _, p := range params {
		v := &Value{Text: p.value, key: p.key}
		given[p.key] = v
		c.params[strings.ToLower(p.key)] = v
	}
	def, init := s.sections["Definition"], s.sections["Init"]
	if def == nil {
		def = newSection("Definition", 0)
	}
	if init == nil {
		init = newSection("Init", 0)
	}
	if v := c.params["logtype"]; !voc.action && (v == nil || v.Text == "") && def.opts["logtype"] == nil {
		logtype := "file"
		if strings.HasPrefix(strings.ToLower(basics["backend"]), "systemd") {
			logtype = "journal"
		}
		v := &Value{Text: logtype, key: "logtype"}
		given["logtype"], c.params["logtype"] = v, v
	}
	c.init = scope{set: s, section: "Init"}
	// [Init] is stronger than [Definition] for references too, but only for
	// options that could be found without it.
	visible := maps.Clone(c.params)
	for _, key := range init.keys {
		text, err := c.init.expand(init.opts[key])
		if err != nil {
			return nil, err
		}
		v := *init.opts[key]
		v.Text = text
		c.opts[key] = &v
		if visible[key] == nil && s.raw("Definition", key) != nil {
			visible[key] = &v
		}
	}
	c.definition = scope{set: s, section: "Definition", params: visible}
	for _, key := range append(slices.Clone(def.keys), voc.obeyed...) {
		// What is obeyed may stand in [DEFAULT] as well, as the common files have it.
		from := s.raw("Definition", key)
		if from == nil || def.opts[key] == nil && c.opts[key] != nil {
			continue
		}
		text, err := c.definition.expand(from)
		if err != nil {
			return nil, err
		}
		if c.opts[key] == nil {
			v := *from
			v.Text = text
			c.opts[key] = &v
		}
	}
	for _, tag := range voc.later {
		c.fixed[tag] = true
	}
	if voc.action {
		c.override(params)
	}
	for key := range c.opts {
		if base, _, ok := strings.Cut(key, "?"); ok {
			c.fixed[base] = true
		}
	}
	for key, v := range given {
		c.opts[key] = v
		if low := strings.ToLower(key); low != key {
			c.opts[low] = v
		}
	}
	return c.replace()
}

// replace puts the values of the tags in.
func (c *combiner) replace() (*combined, error) {
	out := &combined{opts: map[string]*Value{}, used: map[string]bool{}}
	for _, key := range slices.Sorted(maps.Keys(c.opts)) {
		v := c.opts[key]
		var failed error
		text, err := tag.Replace(key, v.Text, func(name string) (string, bool) {
			text, ok, err := c.tag(name)
			out.used[strings.ToLower(name)] = true
			if err != nil && failed == nil {
				failed = err
			}
			return text, ok
		})
		if failed != nil {
			return nil, failed
		}
		if err != nil {
			return nil, problemAt(v, err.Error(), "the definitions of the tags go round in a circle")
		}
		w := *v
		w.Text = text
		out.opts[key] = &w
	}
	return out, nil
}

// tag is what a tag stands for before its own tags are replaced.
func (c *combiner) tag(tag string) (text string, ok bool, err error) {
	if c.fixed[tag] {
		return "", false, nil
	}
	if v := c.opts[tag]; v != nil {
		return v.Text, true, nil
	}
	key := strings.ToLower(tag)
	_, opt, isPath := strings.Cut(key, "/")
	if !isPath {
		if v := c.params[key]; v != nil {
			return v.Text, true, nil
		}
		return expanded(&c.definition, c.set.raw("Definition", key))
	}
	section, _, _ := strings.Cut(tag, "/") // its case counts
	switch section {
	case "default":
		return expanded(&c.definition, c.set.defaults.opts[opt])
	case "known":
		return c.known(opt)
	}
	if c.set.sections[section] == nil {
		return "", false, nil
	}
	return expanded(&scope{set: c.set, section: section, params: c.params}, c.set.raw(section, opt))
}

// known is what an option was before a parameter, or else a later file, replaced it.
func (c *combiner) known(opt string) (text string, ok bool, err error) {
	if c.params[opt] == nil {
		for _, sc := range []*scope{&c.init, &c.definition} {
			if v := c.set.known[sc.section][opt]; v != nil {
				return expanded(sc, v)
			}
		}
	}
	if sec := c.set.sections["Init"]; sec != nil && sec.opts[opt] != nil {
		return expanded(&c.init, sec.opts[opt])
	}
	return expanded(&c.definition, c.set.raw("Definition", opt))
}

func expanded(sc *scope, v *Value) (text string, ok bool, err error) {
	if v == nil {
		return "", false, nil
	}
	text, err = sc.expand(v)
	return text, err == nil, err
}

// filterConfig makes a filter's Config of its final options; get gives each with
// the place it comes from, or nil. Errors are *Problems.
func filterConfig(name string, get func(key string) (*Value, string, error)) (filter.Config, []*Problem, error) {
	out := filter.Config{Name: name, UseDNS: "warn"}
	var warnings []*Problem
	var text [8]string
	var at [8]*Value
	for i, key := range filterOptions {
		var err error
		if at[i], text[i], err = get(key); err != nil {
			return out, nil, err
		}
	}
	for i, key := range filterOptions {
		v, text := at[i], text[i]
		if v == nil {
			continue
		}
		switch key {
		case "usedns":
			switch word := strings.ToLower(trim(text)); word {
			case "yes", "warn", "no", "raw":
				out.UseDNS = word
			default:
				out.UseDNS = "no"
				warnings = append(warnings, problemAt(v, fmt.Sprintf("%s is none of yes, warn, no and raw: taken as no", quote(text)), commentHint(text, v)))
			}
		case "prefregex":
			out.Prefregex = text
		case "failregex":
			out.Failregex = lines(text)
		case "ignoreregex":
			out.Ignoreregex = lines(text)
		case "datepattern":
			out.DatePattern = lines(text)
		case "json":
			out.JSON = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || isSpace(r) })
		case "maxlines":
			n, err := integer(text)
			if err == nil && n < 1 {
				err = fmt.Errorf("%d is less than 1", n)
			}
			if err != nil {
				return out, nil, problemAt(v, err.Error(), commentHint(text, v))
			}
			out.MaxLines = n
		}
	}
	return out, warnings, nil
}

// commentHint says what is wrong with a value that seems to end in a comment, or
// whose end was cut off as one.
func commentHint(text string, v *Value) string {
	switch {
	case strings.Contains(text, "#"):
		return "\"#\" starts a comment only at the start of a line: put it on a line of its own"
	case v != nil && v.cut:
		return "a \";\" behind a blank starts a comment, even inside quotes"
	}
	return ""
}
