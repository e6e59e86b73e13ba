package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/filter"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/source"
)

// A Jail is what an enabled jail's section makes of the packages it needs.
type Jail struct {
	Name    string
	Jail    jail.Config
	Filter  filter.Config
	Source  source.Config
	Lookup  lookup.Config
	Actions []action.Config
	// Err is the first *Problem that keeps the jail from working; the other fields
	// are then only as good as they could be made. Nil for a sound jail.
	Err error

	tellings []telling // its actions that tell somebody

	// from are where the options of its filter were written.
	from map[string]*Value
}

// Place is where an option of the jail's filter was written, if a file has it: failregex,
// datepattern and the others, also if it is the filter's and not the jail's. n is which of its
// lines is meant, from 1 on; where references make lines of their own, the
// place is that of the whole option.
func (j *Jail) Place(option string, n int) (file string, line int, ok bool) {
	v := j.from[option]
	if v == nil || v.File == "" {
		return "", 0, false
	}
	count := 1
	switch option {
	case "failregex":
		count = len(j.Filter.Failregex)
	case "ignoreregex":
		count = len(j.Filter.Ignoreregex)
	case "datepattern":
		count = len(j.Filter.DatePattern)
	}
	if n >= 1 && n <= len(v.rows) && count == len(v.rows) {
		return v.File, v.rows[n-1], true
	}
	return v.File, v.Line, true
}

// longName is from where on a jail's name makes names that iptables refuses.
const longName = 26

// jailReader reads one jail.
type jailReader struct {
	tree     *tree
	scope    *scope
	jail     *Jail
	problems []Problem
	literals []string // secrets that are written out

	params   []param   // for the filter, stronger than the jail's own
	combined *combined // the filter, nil without one
}

// readJail reads the section name of the jail files; ok is false if the jail is
// not enabled.
func readJail(t *tree, s *set, name string, extra map[string]*Value) (j Jail, problems []Problem, ok bool) {
	j = Jail{Name: name}
	r := &jailReader{tree: t, jail: &j, scope: &scope{set: s, section: name, extra: extra}}
	if !r.boolean("enabled", false) && j.Err == nil {
		return j, r.problems, false
	}
	if e := t.esmithIn; e != nil && e.aside[name] != nil {
		aside := *e.aside[name]
		r.fail(&aside)
	}
	if j.Err == nil {
		r.name()
		r.filter()
		r.source()
		r.lookup()
		r.where()
		r.count()
		r.actions()
	}
	return j, r.problems, true
}

// fail sets the jail aside.
func (r *jailReader) fail(p *Problem) {
	p.Jail = r.jail.Name
	r.problems = append(r.problems, *p)
	if r.jail.Err == nil {
		r.jail.Err = p
	}
}

// failed is fail for an error that may be a Problem already.
func (r *jailReader) failed(v *Value, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = problemAt(v, err.Error(), "")
	}
	if p.File == "" && v != nil {
		p.File, p.Line, p.Key = v.File, v.Line, v.key
	}
	r.fail(p)
}

func (r *jailReader) warn(p *Problem) {
	p.Jail, p.Warning = r.jail.Name, true
	r.problems = append(r.problems, *p)
}

// get is an option's value with references replaced; v is nil if no file has it
// or it cannot be made out, which sets the jail aside.
func (r *jailReader) get(key string) (v *Value, text string) {
	if v = r.scope.set.raw(r.jail.Name, key); v == nil {
		return nil, ""
	}
	text, err := r.scope.expand(v)
	if err != nil {
		r.failed(v, err)
		return nil, ""
	}
	return v, text
}

func (r *jailReader) boolean(key string, def bool) bool {
	v, text := r.get(key)
	if v == nil {
		return def
	}
	b, known := boolean(text)
	if !known {
		what := fmt.Sprintf("%s is none of yes, true, on, 1, no, false, off and 0: taken as no", quote(text))
		if key == "enabled" {
			what += ", the jail is off"
		}
		r.warn(problemAt(v, what, commentHint(text, v)))
	}
	return b
}

func (r *jailReader) integer(key string, def, least, most int) int {
	v, text := r.get(key)
	if v == nil {
		return def
	}
	n, err := integer(text)
	if err == nil && (n < least || n > most) {
		err = fmt.Errorf("%d is not within %d and %d", n, least, most)
		if most == math.MaxInt32 {
			err = fmt.Errorf("%d is less than %d", n, least)
		}
	}
	if err != nil {
		hint := commentHint(text, v)
		if hint == "" {
			hint = "write a number and nothing else"
		}
		r.fail(problemAt(v, err.Error(), hint))
		return def
	}
	return n
}

// seconds reads a time; ok is false if the option is not there or wrong.
func (r *jailReader) seconds(key string) (v *Value, f float64, ok bool) {
	v, text := r.get(key)
	if v == nil {
		return nil, 0, false
	}
	f, err := seconds(text)
	if err != nil {
		r.fail(problemAt(v, err.Error(), timeHint(text, v)))
		return v, 0, false
	}
	return v, f, true
}

func timeHint(text string, v *Value) string {
	if strings.Contains(text, ";") || v.cut {
		return "only a \";\" behind a blank starts a comment"
	}
	return unitHint
}

func (r *jailReader) name() {
	name := r.jail.Name
	at := &Problem{}
	if s := r.scope.set.sections[name]; s != nil && len(s.keys) > 0 {
		at.File = s.opts[s.keys[0]].File
		at.Line = s.line
	}
	switch {
	case name == "--all", strings.ContainsFunc(name, unicode.IsControl), strings.HasPrefix(name, "-"):
		at.Text, at.Hint = fmt.Sprintf("%s cannot be the name of a jail", quote(name)), "use letters, digits, - and _"
		r.fail(at)
	case len(name) >= longName:
		at.Text = fmt.Sprintf("the name of the jail is longer than %d characters", longName-1)
		at.Hint = "actions that make a firewall chain of it may fail"
		r.warn(at)
	}
}

// count reads what the jail itself needs.
func (r *jailReader) count() {
	c := jail.DefaultConfig(r.jail.Name)
	c.MaxRetry = r.integer("maxretry", 3, 0, math.MaxInt32)
	c.MaxMatches = r.integer("maxmatches", c.MaxMatches, 0, math.MaxInt32)
	c.Prefix4 = r.integer("prefix4", 0, 0, 32)
	c.Prefix6 = r.integer("prefix6", 0, 0, 128)
	c.Observe = r.boolean("observe", false)
	if v, f, ok := r.seconds("findtime"); ok {
		d, fits := duration(f)
		switch {
		case d <= 0 && fits:
			r.fail(problemAt(v, "the time must be more than zero", unitHint))
		case !fits:
			r.fail(problemAt(v, "the time is longer than 292 years", unitHint))
		default:
			c.FindTime = d
		}
	}
	if v, f, ok := r.seconds("bantime"); ok {
		if d, err := banTime(f); err != nil {
			r.fail(problemAt(v, err.Error(), "-1 bans for ever"))
		} else {
			c.BanTime = d
		}
	}
	if v, f, ok := r.seconds("ignorelogins"); ok {
		if d, fits := duration(f); d < 0 || !fits {
			r.fail(problemAt(v, "the time must not be negative, nor longer than 292 years", unitHint))
		} else {
			c.IgnoreLogins = d
		}
	}
	c.Weights, c.Distinct = r.weights(), r.distinct()
	c.CountryBanTime = r.banTimes()
	r.increment(&c)
	r.jail.Jail = c
	r.jail.Source.FindTime = c.FindTime
	if err := c.Validate(); err != nil && r.jail.Err == nil {
		r.failed(nil, err)
	}
}

// filter reads the filter and what the jail sets of its options.
func (r *jailReader) filter() {
	out := &r.jail.Filter
	out.Jail = r.jail.Name
	v, text := r.get("filter")
	var c *combined
	switch {
	case v == nil && r.jail.Err != nil:
		return
	case trim(text) == "":
		p := &Problem{Text: "the jail has no filter", Hint: "name one with filter = NAME"}
		if v != nil {
			p = problemAt(v, p.Text, p.Hint)
		}
		if r.scope.set.raw(r.jail.Name, "failregex") == nil {
			r.warn(p)
		}
	default:
		name, params, err := nameParams(text)
		if err != nil {
			r.fail(problemAt(v, err.Error(), optionHint(text, v)))
			return
		}
		if c, err = r.tree.filter(name, append(params, r.params...), r.basics()); err != nil {
			r.failed(v, err)
			return
		}
		out.Name = name
	}
	if r.combined = c; c != nil {
		r.scope.known = c.opts
	}
	r.jail.from = map[string]*Value{}
	cfg, warnings, err := filterConfig(out.Name, func(key string) (*Value, string, error) {
		if v := r.scope.set.raw(r.jail.Name, key); v != nil {
			text, err := r.scope.expand(v)
			r.jail.from[key] = v
			return v, text, err
		}
		if c != nil && c.opts[key] != nil {
			r.jail.from[key] = c.opts[key]
			return c.opts[key], c.opts[key].Text, nil
		}
		return nil, "", nil
	})
	if err != nil {
		r.failed(nil, err)
		return
	}
	for _, p := range warnings {
		r.warn(p)
	}
	cfg.Jail = r.jail.Name
	if v, text := r.get("logencoding"); text != "" {
		cfg.LogEncoding, r.jail.from["logencoding"] = text, v
	}
	if v, text := r.get("logtimezone"); text != "" {
		cfg.LogTimezone, r.jail.from["logtimezone"] = text, v
	}
	r.jail.Filter = cfg
	if len(cfg.Failregex) == 0 && trim(text) != "" {
		p := &Problem{Text: "the jail has no failregex: nothing will ever match", Hint: "is the filter's mode right?"}
		if v != nil {
			p = problemAt(v, p.Text, p.Hint)
		}
		r.warn(p)
	}
	r.journal(c)
}

// basics are the options of the jail that its filter can refer to.
func (r *jailReader) basics() map[string]string {
	out := map[string]string{"enabled": "true"}
	for _, key := range []string{"backend", "filter"} {
		if v, text := r.get(key); v != nil {
			out[key] = text
		}
	}
	if out["backend"] == "" {
		out["backend"] = source.Auto
	}
	return out
}

// optionHint is the hint for a bad NAME[…].
func optionHint(text string, v *Value) string {
	if v.cut {
		return commentHint("", v)
	}
	return paramHint
}

// journal reads journalmatch, the jail's or else the filter's.
func (r *jailReader) journal(c *combined) {
	v, text := r.get("journalmatch")
	if v == nil && c != nil && c.opts["journalmatch"] != nil {
		v = c.opts["journalmatch"]
		text = v.Text
	}
	if v == nil {
		return
	}
	matches := [][]string{}
	for _, line := range lines(text) {
		words, err := shellWords(line)
		if err != nil {
			r.fail(problemAt(v, err.Error(), ""))
			return
		}
		matches = append(matches, MatchGroups(words)...)
		for _, word := range words {
			if word != "+" && !strings.Contains(word, "=") && !strings.HasPrefix(word, "/") {
				r.fail(problemAt(v, fmt.Sprintf("%s is not FIELD=value", quote(word)), "write it as for journalctl: _SYSTEMD_UNIT=ssh.service"))
				return
			}
		}
	}
	r.jail.Source.JournalMatch = matches
}

// withoutPath are the back ends that read no files.
var withoutPath = map[string]bool{source.Systemd: true, source.Syslog: true, source.Command: true}

// source reads where lines come from.
func (r *jailReader) source() {
	s := &r.jail.Source
	s.Jail, s.Backend = r.jail.Name, source.Auto
	if v, text := r.get("backend"); v != nil {
		r.backend(v, text)
	}
	if s.Backend != source.Auto && s.Backend != source.Systemd ||
		s.Backend == source.Auto && !r.boolean("systemd_if_nologs", true) {
		s.JournalMatch = nil
	}
	r.boolean("skip_if_nologs", false)
	v, text := r.get("logpath")
	if v == nil && withoutPath[s.Backend] {
		v, _ = r.get("backend")
	}
	if v == nil {
		if !withoutPath[s.Backend] && s.JournalMatch == nil && r.jail.Err == nil {
			r.warn(&Problem{Key: "logpath", Text: "the jail reads no log", Hint: "name one with logpath = /var/log/…"})
		}
		return
	}
	if withoutPath[s.Backend] {
		r.valid(v)
		return
	}
	seen := map[string]bool{}
	for _, line := range lines(text) {
		p, problem := r.path(v, line)
		switch {
		case problem != nil:
			r.fail(problem)
		case seen[p.Pattern]:
			r.warn(problemAt(v, fmt.Sprintf("%s stands there twice", quote(p.Pattern)), ""))
		default:
			seen[p.Pattern] = true
			s.Paths = append(s.Paths, p)
		}
	}
	r.valid(v)
}

// valid sets the jail aside if its source cannot work.
func (r *jailReader) valid(v *Value) {
	if r.jail.Err == nil {
		if err := r.jail.Source.Validate(); err != nil {
			r.failed(v, err)
		}
	}
}

// path reads one line of logpath: a path, and perhaps where to start in it.
func (r *jailReader) path(v *Value, line string) (source.Path, *Problem) {
	p := source.Path{Pattern: line}
	if line == source.Stdin {
		return p, nil
	}
	if at := strings.LastIndexByte(line, ' '); at >= 0 {
		word := line[at+1:]
		p.Pattern = strings.TrimRightFunc(line[:at], isSpace)
		switch strings.ToLower(word) {
		case "head":
		case "tail":
			p.Tail = true
		default:
			hint := "one path a line; a path with a blank in it needs the word head or tail behind it"
			switch {
			case strings.Contains(line, "#"):
				hint = commentHint(line, v)
			case strings.ContainsAny(word, "=:") && !strings.HasPrefix(word, "/"), strings.Contains(p.Pattern, " ="):
				hint = "an indented line goes on the value above it: begin an option at the margin"
			}
			return p, problemAt(v, fmt.Sprintf("%s: the word behind the path must be head or tail, not %s", quote(line), quote(word)), hint)
		}
	}
	if !filepath.IsAbs(p.Pattern) {
		hint := "begin it with /"
		if strings.Contains(line, "=") {
			hint = "an indented line goes on the value above it: begin an option at the margin"
		}
		return p, problemAt(v, fmt.Sprintf("the path %s is not absolute", quote(p.Pattern)), hint)
	}
	if _, err := filepath.Match(p.Pattern, ""); err != nil {
		return p, problemAt(v, fmt.Sprintf("the pattern %s cannot be read", quote(p.Pattern)), "is a bracket not closed?")
	}
	return p, nil
}

// fields cuts a list at blanks and commas.
func fields(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || isSpace(r) })
}

// lookup reads who is never banned.
func (r *jailReader) lookup() {
	c := &r.jail.Lookup
	c.Jail = r.jail.Name
	c.IgnoreSelf = r.boolean("ignoreself", true)
	if _, text := r.get("ignorecommand"); text != "" {
		c.IgnoreCommand = text
	}
	r.ignoreCache()
	seen := map[string]bool{}
	for _, word := range append(r.ignored(), r.trusted()...) {
		if !seen[word] {
			seen[word] = true
			c.IgnoreIP = append(c.IgnoreIP, word)
		}
	}
}

// ignored are the words of ignoreip.
func (r *jailReader) ignored() (out []string) {
	v, text := r.get("ignoreip")
	if v == nil {
		return nil
	}
	for _, word := range fields(text) {
		if strings.HasPrefix(word, "#") {
			r.warn(problemAt(v, quote(word)+" is passed over; the words behind it are not", commentHint("#", v)))
			continue
		}
		word, err := r.ignore(v, word)
		if err != nil {
			r.fail(problemAt(v, err.Error(), "write 192.0.2.0/24 or 192.0.2.0/255.255.255.0"))
			continue
		}
		out = append(out, word)
	}
	return out
}

// ignoreCache reads how answers of ignorecommand are kept.
func (r *jailReader) ignoreCache() {
	v, text := r.get("ignorecache")
	if v == nil || trim(text) == "" {
		return
	}
	cache, unknown, err := IgnoreCache(text)
	if err != nil {
		r.fail(problemAt(v, err.Error(), cacheHint))
		return
	}
	for _, key := range unknown {
		r.warn(problemAt(v, "ignorecache has no parameter "+quote(key), cacheHint))
	}
	if trim(r.jail.Lookup.IgnoreCommand) == "" {
		r.warn(problemAt(v, "there is nothing to keep: the jail has no ignorecommand", ""))
	}
	r.jail.Lookup.IgnoreCache = cache
}

const cacheHint = `write key="<ip>", max-count=100, max-time=5m`

// IgnoreCache reads a value of ignorecache: key="…", max-count=N, max-time=T. unknown are
// parameters that it has and nothing reads. An empty text is no cache.
func IgnoreCache(text string) (c lookup.Cache, unknown []string, err error) {
	if text = trim(text); text == "" {
		return lookup.Cache{}, nil, nil
	}
	c = lookup.DefaultCache()
	for rest := text; rest != ""; {
		var p param
		if p, rest, err = oneParam(rest); err != nil {
			return lookup.Cache{}, nil, err
		}
		switch p.key {
		case "key":
			c.Key = p.value
		case "max-count":
			c.MaxCount, err = integer(p.value)
		case "max-time":
			var f float64
			if f, err = seconds(p.value); err == nil {
				var fits bool
				if c.MaxTime, fits = duration(f); !fits {
					err = errors.New("max-time is longer than 292 years")
				}
			}
		default:
			unknown = append(unknown, p.key)
		}
		if err != nil {
			return lookup.Cache{}, nil, fmt.Errorf("%s: %w", p.key, err)
		}
	}
	if c.Key == "" {
		return lookup.Cache{}, nil, errors.New("the key is missing")
	}
	if err := c.Validate(); err != nil {
		return lookup.Cache{}, nil, err
	}
	return c, unknown, nil
}

// ignore checks a word of ignoreip that looks like a prefix. A length that is too
// long means the address alone, as in the original.
func (r *jailReader) ignore(v *Value, word string) (string, error) {
	addr, mask, ok := strings.Cut(word, "/")
	if !ok {
		return word, nil
	}
	a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil {
		return word, nil // a name or file:PATH
	}
	if _, err = bantam.ParsePrefix(word); err == nil {
		return word, nil
	}
	if n, err := strconv.Atoi(mask); err == nil && n > a.BitLen() {
		r.warn(problemAt(v, fmt.Sprintf("%s is longer than an address: taken as %s", quote(word), a), ""))
		return a.String(), nil
	}
	return "", err
}

// checkDir is the Problem of a folder that cannot be used.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case missing(err):
		return &Problem{File: dir, Text: "there is no such folder", Hint: "name another with -c, or -c library for none"}
	case err != nil:
		return &Problem{File: dir, Text: "the folder cannot be read: " + plain(err)}
	case !info.IsDir():
		return &Problem{File: dir, Text: "this is not a folder", Hint: "-c takes the folder that jail.conf is in"}
	}
	f, err := os.Open(dir)
	if err != nil {
		return &Problem{File: dir, Text: "the folder cannot be read: " + plain(err), Hint: "run as root, or make it readable"}
	}
	defer f.Close()
	return nil
}

// plain is an error without the path, which stands in front of it already.
func plain(err error) string {
	if in, ok := err.(*fs.PathError); ok {
		err = in.Err
	}
	return err.Error()
}
