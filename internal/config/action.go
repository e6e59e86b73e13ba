package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bantam/internal/action"
	"bantam/internal/tag"
)

// actionOptions are the options of an action that are obeyed; all others are vocabulary
// for them.
var actionOptions = []string{
	"actionstart", "actionstop", "actionflush", "actionreload", "actioncheck", "actionrepair", "actionban",
	"actionprolong", "actionreban", "actionunban", "actionstart_on_demand", "actionrepair_on_unban", "norestored",
}

// ofAction is what is particular to actions; its later tags depend on the ban.
var ofAction = vocabulary{
	obeyed: actionOptions,
	later:  []string{"matches", "ipmatches", "ipjailmatches", "timeout", "bantime"},
	action: true,
}

// defaultTimeout is how long a command may take where the action does not say.
const defaultTimeout = time.Minute

// native are the actions that need no file.
var native = map[string]bool{"bantam": true, action.LogName: true}

// actions reads what a ban does.
func (r *jailReader) actions() {
	v, text := r.get("action")
	if v == nil && r.jail.Err != nil {
		return
	}
	list := entries(text)
	if len(list) == 0 {
		p := &Problem{Key: "action", Text: "the jail has no action: it counts and bans nobody"}
		if v != nil {
			p = problemAt(v, p.Text, "")
		}
		r.warn(p)
		return
	}
	seen := map[string]bool{}
	option := v
	for _, entry := range list {
		v := option.at(entry)
		name, params, err := nameParams(entry)
		if err == nil && trim(name) != name {
			err = fmt.Errorf("there is a blank before the bracket in %s", quote(entry))
		}
		if err != nil {
			p := r.openQuote(v)
			if p == nil {
				p = problemAt(v, err.Error(), optionHint(text, v))
			}
			p.Text = hideAll(p.Text, text)
			r.fail(p)
			continue
		}
		if slices.ContainsFunc(params, param.open) {
			if p := r.openQuote(v); p != nil {
				p.Text = hideAll(p.Text, text)
				r.warn(p)
			}
		}
		c := action.Config{Jail: r.jail.Name, Name: name, Kind: action.Native, Params: map[string]string{}}
		for _, p := range params {
			c.Params[p.key] = p.value
		}
		if c.Params["name"] == "" {
			c.Params["name"] = r.jail.Name
		}
		c.Title = title(c)
		if seen[c.Title] && Tells(name) && !r.tree.hasAction(name) {
			p := problemAt(v, fmt.Sprintf("there are two actions %s: the second tells nobody", quote(c.Title)), "tell them apart with "+printable(name)+"[actname=OTHER]")
			p.Jail = r.jail.Name
			r.problems = append(r.problems, *p)
			continue
		}
		if seen[c.Title] {
			r.fail(problemAt(v, fmt.Sprintf("there are two actions %s", quote(c.Title)), "tell them apart with "+printable(name)+"[actname=OTHER]"))
			continue
		}
		seen[c.Title] = true
		if err := r.define(&c, params); err != nil {
			var p *Problem
			if !errors.As(err, &p) {
				p = problemAt(v, err.Error(), "")
			}
			if p.File == "" {
				p.File, p.Line, p.Key = v.File, v.Line, v.key
			}
			p.Text = hideAll(p.Text, text)
			r.fail(p)
			continue
		}
		switch {
		case c.Kind == action.Native && Tells(c.Name):
			r.tell(&c, v, params)
		case c.Kind == action.Native && c.Name == action.LogName:
			r.unknownParams(v, c.Name, params, action.LogParams)
			for _, p := range params {
				for _, name := range slices.Sorted(maps.Keys(unknownTags(p.value))) {
					r.warn(problemAt(v, fmt.Sprintf("%s: nothing knows the tag <%s>: it stays in the line as it is", c.Name, name), guessTag(name, action.Tags())))
				}
			}
		}
		r.jail.Actions = append(r.jail.Actions, c)
	}
}

// hasAction reports whether there is a file for an action of that name.
func (t *tree) hasAction(name string) bool {
	_, err := t.layered("action.d/" + name)
	return !errors.Is(err, errNone)
}

// unknownParams warns of parameters that a native action does not read.
func (r *jailReader) unknownParams(v *Value, name string, params []param, known []string) {
	var told []string
	for _, p := range params {
		if p.key == "name" || p.key == "actname" || slices.Contains(known, p.key) || slices.Contains(told, p.key) {
			continue
		}
		told = append(told, p.key)
		hint := "it has " + strings.Join(known, ", ")
		if guess := nearest(p.key, known); guess != "" {
			hint = "did you mean " + guess + "?"
		}
		r.warn(problemAt(v, fmt.Sprintf("%s has no parameter %s", name, quote(p.key)), hint))
	}
}

// title is the name by which one jail's actions are told apart.
func title(c action.Config) string {
	file, name := strings.TrimSuffix(c.Name, ".py"), c.Params["name"]
	switch {
	case c.Params["actname"] != "":
		return c.Params["actname"]
	case name == c.Jail:
		return file
	case strings.HasPrefix(name, c.Jail):
		return file + strings.TrimPrefix(name, c.Jail)
	}
	return file + "-" + name
}

// define fills in what the action's file says.
func (r *jailReader) define(c *action.Config, params []param) error {
	if strings.HasSuffix(c.Name, ".py") {
		return r.python(c)
	}
	places, err := r.tree.layered("action.d/" + c.Name)
	switch {
	case errors.Is(err, errNone) && (native[c.Name] || Tells(c.Name)):
		return nil
	case errors.Is(err, errNone):
		return &Problem{Text: fmt.Sprintf("there is no action %s", quote(c.Name)), Hint: r.tree.actionHint(c.Name)}
	case err != nil:
		return err
	}
	s, err := r.tree.load(places)
	if err != nil {
		return err
	}
	if s.sections["Definition"] == nil {
		return &Problem{File: r.tree.label(places[0]), Text: "the action has no [Definition]", Hint: "actionban and the other options belong under it"}
	}
	r.tree.misspelt(s, actionOptions)
	given := slices.Clone(params)
	given = append(given, param{"name", c.Params["name"]}, param{"actname", c.Title})
	combined, err := combine(s, given, nil, ofAction)
	if err != nil {
		return err
	}
	d := definition{reader: r, config: c, opts: combined.opts}
	if err := d.read(); err != nil {
		return err
	}
	d.strangers(s)
	return nil
}

// python finds the file of an action that is a Python class.
func (r *jailReader) python(c *action.Config) error {
	p := place{false, "action.d/" + c.Name}
	if !r.tree.exists(p) {
		return &Problem{Text: fmt.Sprintf("there is no action %s", quote(c.Name)), Hint: "put it into action.d/" + printable(c.Name)}
	}
	file, err := filepath.Abs(r.tree.path(p))
	if err != nil {
		return fmt.Errorf("find action.d/%s: %w", c.Name, err)
	}
	c.Kind, c.Python, c.Timeout = action.Python, file, defaultTimeout
	return nil
}

func (t *tree) actionHint(name string) string {
	if stem, ok := strings.CutSuffix(name, ".conf"); ok {
		return "write " + printable(stem) + " without .conf"
	}
	var names []string
	for _, lib := range []bool{false, true} {
		found, _ := t.list(lib, "action.d", ".conf") // names are for the hint only
		for _, p := range found {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(p.name, "action.d/"), ".conf"))
		}
	}
	for n := range native {
		names = append(names, n)
	}
	for _, of := range []map[string][]string{viaParams, chatParams, reportParams} {
		names = slices.AppendSeq(names, maps.Keys(of))
	}
	if guess := nearest(name, names); guess != "" {
		return "did you mean " + printable(guess) + "?"
	}
	return "put it into action.d/" + printable(name) + ".conf"
}

// override takes out the values for one address family that a parameter without a
// family replaces.
func (c *combiner) override(params []param) {
	for _, p := range params {
		for key := range c.opts {
			if base, _, ok := strings.Cut(key, "?"); ok && (base == p.key || base == strings.ToLower(p.key)) {
				delete(c.opts, key)
			}
		}
	}
	for _, p := range params {
		if strings.Contains(p.key, "?") {
			c.opts[p.key] = &Value{Text: p.value, key: p.key}
		}
	}
}

// A definition is an action's combined options on their way into a Config.
type definition struct {
	reader *jailReader
	config *action.Config
	opts   map[string]*Value
}

func (d *definition) read() error {
	c := d.config
	c.Kind, c.Timeout = action.Shell, defaultTimeout
	c.Properties, c.Places = map[string]string{}, map[string]action.Place{}
	for key, v := range d.opts {
		if strings.Contains(key, "?") {
			c.Families = true
		}
		switch {
		case slices.Contains(actionOptions, key):
			if v.File != "" {
				c.Places[key] = action.Place{File: v.File, Line: v.Line}
			}
		case key != "timeout" && key != "bantime":
			c.Properties[key] = v.Text
		}
	}
	if v := d.opts["timeout"]; v != nil {
		f, err := seconds(v.Text)
		length, fits := duration(f)
		switch {
		case err != nil:
			return problemAt(v, err.Error(), unitHint)
		case length <= 0 && fits:
			return problemAt(v, "a command needs more time than none", unitHint)
		case !fits:
			length = math.MaxInt64
		}
		c.Timeout = length
	}
	c.OnDemand = d.boolean("actionstart_on_demand", c.Families)
	c.RepairOnUnban = d.boolean("actionrepair_on_unban", false)
	c.NoRestored = d.boolean("norestored", false)
	if err := d.commands("", &c.Any); err != nil {
		return err
	}
	if !c.Families {
		c.Inet4, c.Inet6 = c.Any, c.Any
		return nil
	}
	if err := d.commands(action.Inet4, &c.Inet4); err != nil {
		return err
	}
	return d.commands(action.Inet6, &c.Inet6)
}

func (d *definition) boolean(key string, def bool) bool {
	v := d.opts[key]
	if v == nil || trim(v.Text) == "" {
		return def
	}
	b, known := boolean(v.Text)
	if !known {
		d.reader.warn(problemAt(v, fmt.Sprintf("%s is none of yes, true, on, 1, no, false, off and 0: taken as no", quote(v.Text)), commentHint(v.Text, v)))
	}
	return b
}

// value is what a tag or an option stands for when it is about one family.
func (d *definition) value(name, family string) (*Value, bool) {
	if family != "" {
		if v := d.opts[name+"?family="+family]; v != nil {
			return v, true
		}
	}
	v := d.opts[name]
	return v, v != nil
}

// commands puts in what depends on the family, and the time a command may take.
func (d *definition) commands(family string, out *action.Commands) error {
	for key, to := range out.ByOption() {
		v, ok := d.value(key, family)
		if !ok {
			continue
		}
		text, err := tag.Replace(key, v.Text, func(name string) (string, bool) {
			switch name {
			case "timeout":
				return fmt.Sprint(int64(d.config.Timeout / time.Second)), true
			case "matches", "ipmatches", "ipjailmatches", "bantime":
				return "", false
			}
			v, ok := d.value(name, family)
			if !ok {
				return "", false
			}
			return v.Text, true
		})
		if err != nil {
			return problemAt(v, err.Error(), "the definitions of the tags go round in a circle")
		}
		*to = text
	}
	return nil
}
