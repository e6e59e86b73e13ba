package config

import (
	"io/fs"
	"slices"
	"strings"
)

// An Option is one option of a jail as it comes out of all the files.
type Option struct {
	Key   string `json:"key"`
	Value string `json:"value"` // with references and, for the filter's, tags replaced
	// File and Line are where the value was written, from 1 on; no file means
	// that no file says anything and the default holds.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Wrong is why the value cannot be made out; Value is then as it was written.
	Wrong string `json:"wrong,omitempty"`
}

// Show is the merged jail name of a folder, "" for the library alone, enabled or not: the
// options that are read, in the order of the manual, then what else the jail's own
// section says and what these refer to. The error, a *Problem, is for files that cannot be
// read and for a jail that does not exist.
func Show(dir string, lib fs.FS, name string) ([]Option, error) {
	t, jails, err := openJails(dir, lib, name)
	if err != nil {
		return nil, err
	}
	j := Jail{Name: name}
	r := &jailReader{tree: t, jail: &j, scope: jailScope(dir, jails, name)}
	r.filter() // what is wrong with it shows below, or is for check to say
	r.actions()
	var out []Option
	shown := map[string]bool{}
	var later []string
	add := func(key string) {
		if shown[key] {
			return
		}
		shown[key] = true
		o, from := r.option(key)
		if from == nil && !hasKey(jailKeys, key) {
			return
		}
		if from != nil {
			references(from.Text, func(key string) { later = append(later, key) })
		}
		out = append(out, o)
	}
	for _, k := range jailKeys {
		add(k.name)
	}
	for _, key := range jails.sections[name].keys {
		add(key)
	}
	for len(later) > 0 && len(out) < maxShown {
		key := later[0]
		later = later[1:]
		add(key)
	}
	for i := range out {
		out[i].Value = hide(out[i].Value, r.literals)
	}
	return out, nil
}

// Names are the jails of a folder, "" for the library alone, enabled or not, and the filters
// that they may name, each sorted. It is for completion: what cannot be read is left out.
func Names(dir string, lib fs.FS) (jails, filters []string) {
	t := newTree(dir, lib, "library/")
	if s, err := t.jails(); err == nil {
		jails = slices.Clone(s.order)
		for name := range s.sections {
			if !slices.Contains(jails, name) {
				jails = append(jails, name)
			}
		}
	}
	filters = t.filterNames()
	slices.Sort(jails)
	slices.Sort(filters)
	return jails, slices.Compact(filters)
}

// maxShown bounds how many options Show follows references to.
const maxShown = 1000

// option is one option as it comes out, and the value it is made from, if there is one.
func (r *jailReader) option(key string) (Option, *Value) {
	o := Option{Key: key}
	v := r.scope.set.raw(r.jail.Name, key)
	switch {
	case v != nil:
		text, err := r.scope.expand(v)
		o.Value, o.File, o.Line = text, v.File, v.Line
		if err != nil {
			o.Value, o.Wrong = v.Text, err.Error()
		}
		return o, v
	case r.combined != nil && slices.Contains(filterOptions, key) && r.combined.opts[key] != nil:
		from := r.combined.opts[key]
		o.Value, o.File, o.Line = from.Text, from.File, from.Line
		return o, from
	}
	for _, k := range jailKeys {
		if k.name == key {
			o.Value = strings.TrimPrefix(strings.TrimPrefix(k.def, "the filter's"), ", else ")
		}
	}
	return o, nil
}

// openJails reads the jail files of a folder in which the jail name must be.
func openJails(dir string, lib fs.FS, name string) (*tree, *set, error) {
	if dir != "" {
		if err := checkDir(dir); err != nil {
			return nil, nil, err
		}
	}
	t := newTree(dir, lib, "library/")
	jails, err := t.jails()
	if err != nil {
		return nil, nil, err
	}
	if jails.sections[name] == nil {
		return nil, nil, notFound{&Problem{Text: "there is no jail " + quote(name), Hint: guessHint(name, jails.order)}}
	}
	return t, jails, nil
}

func jailScope(dir string, jails *set, name string) *scope {
	return &scope{set: jails, section: name, extra: map[string]*Value{
		"fail2ban_version":  {Text: fail2banVersion},
		"fail2ban_confpath": {Text: dir},
	}}
}
