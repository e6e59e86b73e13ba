package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bantam/internal/filter"
)

// A Found is a filter that was read to be tried out.
type Found struct {
	Filter filter.Config
	// Jail is the jail it was read for; empty if it was named itself.
	Jail string
	// File is the first file it was read from: a path, or one of the library.
	File string
	// JournalMatch is what it reads of the journal, each line one alternative.
	JournalMatch []string
	// Options are all of the filter's options after substitution.
	Options map[string]string
}

// ErrNoFilter is wrapped by FindFilter's and FindJail's errors when there is none of that name.
var ErrNoFilter = errors.New("there is none of that name")

// notFound is ErrNoFilter with what the Problem says.
type notFound struct{ *Problem }

func (notFound) Is(err error) bool { return err == ErrNoFilter }
func (n notFound) Unwrap() error   { return n.Problem }

// FindFilter reads the filter name of the folder dir, "" for none, or of the library.
// name may end in .conf or .local, and may be a path: one that lies in some folder filter.d
// is read as a filter of the folder above it, any other with its includes and the .local
// file beside it. params are what a jail would write in the brackets; backend is
// the jail's, empty for auto.
//
// Nothing is started or changed. The error is or wraps a *Problem.
func FindFilter(dir string, lib fs.FS, name string, params map[string]string, backend string) (*Found, error) {
	if dir != "" {
		if err := checkDir(dir); err != nil {
			return nil, err
		}
	}
	t, places, short, err := findPlaces(dir, lib, name)
	if err != nil {
		return nil, err
	}
	s, err := t.load(places)
	if err != nil {
		return nil, err
	}
	if backend == "" {
		backend = "auto"
	}
	c, err := combine(s, paramList(params), map[string]string{"enabled": "true", "backend": backend, "filter": short}, ofFilter)
	if err != nil {
		return nil, err
	}
	out := &Found{File: t.shown(places[0])}
	out.Filter, _, err = filterConfig(short, c.get)
	if err != nil {
		return nil, err
	}
	out.take(c)
	return out, nil
}

// findPlaces are the files of a filter and the tree they lie in.
func findPlaces(dir string, lib fs.FS, name string) (t *tree, places []place, short string, err error) {
	t = newTree(dir, lib, "library/")
	t.whole = t.exists(place{false, "jail.conf"})
	stem := strings.TrimSuffix(strings.TrimSuffix(name, ".conf"), ".local")
	if places, err = t.layered("filter.d/" + stem); err == nil {
		return t, places, stem, nil
	}
	if !errors.Is(err, errNone) {
		return nil, nil, "", err
	}
	none := notFound{&Problem{Key: "filter", Text: fmt.Sprintf("there is no filter %s", quote(name)), Hint: t.filterHint(stem)}}
	if stem == name && !strings.Contains(name, "/") {
		return nil, nil, "", none
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, nil, "", fmt.Errorf("find the filter %s: %w", quote(name), err)
	}
	if at := strings.LastIndex(abs, "/filter.d/"); at >= 0 {
		root, short := abs[:at], abs[at+len("/filter.d/"):]
		short = strings.TrimSuffix(strings.TrimSuffix(short, ".conf"), ".local")
		t = newTree(root, lib, "library/")
		t.whole = true // what was named is meant, not the library's
		if places, err = t.layered("filter.d/" + short); err == nil && !places[0].lib {
			return t, places, short, nil
		}
	}
	for _, file := range []string{abs, abs + ".conf", abs + ".local"} {
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			places = append(places, place{false, file})
			break
		}
	}
	if len(places) == 0 {
		return nil, nil, "", none
	}
	if base, ok := strings.CutSuffix(places[0].name, ".conf"); ok && t.exists(place{false, base + ".local"}) {
		places = append(places, place{false, base + ".local"})
	}
	return t, places, filepath.Base(stem), nil
}

// FindJail reads the filter of a jail as the jail has it, whether the jail is enabled or
// not. params are stronger than the jail's options and its filter's.
//
// Nothing is started or changed. The error is or wraps a *Problem.
func FindJail(dir string, lib fs.FS, name string, params map[string]string, backend string) (*Found, error) {
	t, jails, err := openJails(dir, lib, name)
	if err != nil {
		return nil, err
	}
	sec := jails.sections[name]
	for _, p := range paramList(params) {
		key := strings.ToLower(p.key)
		sec.set(key, &Value{Text: strings.ReplaceAll(p.value, "%", "%%"), key: key})
	}
	if backend != "" {
		sec.set("backend", &Value{Text: backend, key: "backend"})
	}
	j := Jail{Name: name}
	r := &jailReader{tree: t, jail: &j, params: paramList(params), scope: jailScope(dir, jails, name)}
	r.filter()
	if j.Err != nil {
		return nil, j.Err
	}
	out := &Found{Filter: j.Filter, Jail: name}
	if places, err := t.layered("filter.d/" + j.Filter.Name); err == nil && j.Filter.Name != "" {
		out.File = t.shown(places[0])
	}
	if r.combined != nil {
		out.take(r.combined)
	}
	if _, text := r.get("journalmatch"); text != "" {
		out.JournalMatch = lines(text)
	}
	return out, nil
}

func guessHint(name string, names []string) string {
	if guess := nearest(name, names); guess != "" {
		return "did you mean " + printable(guess) + "?"
	}
	return ""
}

// take keeps what a trial shows of the filter's options.
func (f *Found) take(c *combined) {
	f.Options = map[string]string{}
	for key, v := range c.opts {
		f.Options[key] = v.Text
	}
	f.JournalMatch = lines(f.Options["journalmatch"])
}

// get is an option for filterConfig.
func (c *combined) get(key string) (*Value, string, error) {
	v := c.opts[key]
	if v == nil {
		return nil, "", nil
	}
	return v, v.Text, nil
}

// shown is a place as a person finds it.
func (t *tree) shown(p place) string {
	if p.lib {
		return t.label(p)
	}
	return t.path(p)
}

func paramList(params map[string]string) []param {
	out := make([]param, 0, len(params))
	for _, key := range slices.Sorted(maps.Keys(params)) {
		out = append(out, param{key, params[key]})
	}
	return out
}

// NameParams reads NAME[KEY=VALUE, …] as a jail names its filter.
func NameParams(text string) (name string, params map[string]string, err error) {
	name, list, err := nameParams(text)
	if err != nil {
		return "", nil, err
	}
	params = make(map[string]string, len(list))
	for _, p := range list {
		params[p.key] = p.value
	}
	return name, params, nil
}
