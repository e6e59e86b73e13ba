package cli

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/source"
)

// dumpStream prints the configuration as the list of commands that would set it, a Python
// list a line.
func (c *client) dumpStream() bool {
	cfg, err := config.Load(c.folder, c.library)
	if err != nil {
		c.say("ERROR", err.Error())
		return false
	}
	for _, p := range cfg.Problems {
		level := "ERROR"
		if p.Warning {
			level = "WARNING"
		}
		c.say(level, p.String())
	}
	for _, command := range stream(cfg) {
		c.printf("%s\n", printed(control.Repr(command)))
	}
	return true
}

// stream is a configuration as commands (spec/server.md 1.8).
func stream(cfg *config.Config) []control.List {
	var out []control.List
	add := func(words ...any) { out = append(out, words) }
	d := cfg.Daemon
	add("set", "syslogsocket", d.SyslogSocket)
	add("set", "loglevel", d.LogLevel)
	add("set", "logtarget", d.LogTarget)
	add("set", "allowipv6", d.AllowIPv6)
	add("set", "dbfile", d.DBFile)
	add("set", "dbmaxmatches", d.DBMaxMatches)
	add("set", "dbpurgeage", inSeconds(d.DBPurgeAge))
	var started []string
	for i := range cfg.Jails {
		j := &cfg.Jails[i]
		if j.Err != nil {
			add("config-error", "Jail '"+j.Name+"' skipped, because of wrong configuration: "+j.Err.Error())
			continue
		}
		out = append(out, jailStream(cfg, j)...)
		started = append(started, j.Name)
	}
	for _, name := range started {
		add("start", name)
	}
	return out
}

func inSeconds(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(int64(d/time.Second), 10)
}

// jailStream is one jail as commands.
func jailStream(cfg *config.Config, j *config.Jail) []control.List {
	var out []control.List
	set := func(words ...any) { out = append(out, append(control.List{"set", j.Name}, words...)) }
	regexes := func(option string, list []string) {
		switch len(list) {
		case 0:
		case 1:
			set(option, list[0])
		default:
			out = append(out, control.List{"multi-set", j.Name, option, list})
		}
	}
	out = append(out, control.List{"add", j.Name, backendWord(j.Source.Backend)})
	f := j.Filter
	set("usedns", f.UseDNS)
	if f.MaxLines > 1 {
		set("maxlines", f.MaxLines)
	}
	if f.Prefregex != "" {
		set("prefregex", f.Prefregex)
	}
	regexes("addignoreregex", f.Ignoreregex)
	regexes("addfailregex", f.Failregex)
	for _, pattern := range f.DatePattern {
		set("datepattern", pattern)
	}
	for _, group := range j.Source.JournalMatch {
		set(append(control.List{"addjournalmatch"}, wordList(group)...)...)
	}
	set("maxretry", j.Jail.MaxRetry)
	set("maxmatches", j.Jail.MaxMatches)
	set("findtime", inSeconds(j.Jail.FindTime))
	set("bantime", inSeconds(j.Jail.BanTime))
	for _, option := range []string{"increment", "factor", "formula", "multipliers", "maxtime", "rndtime", "overalljails"} {
		if v, ok := cfg.Value(j.Name, "bantime."+option); ok {
			switch option {
			case "increment":
				set("bantime."+option, j.Jail.Increment.Enabled)
			case "overalljails":
				set("bantime."+option, j.Jail.Increment.OverallJails)
			default:
				set("bantime."+option, v.Text)
			}
		}
	}
	set("ignorecommand", j.Lookup.IgnoreCommand)
	if _, ok := cfg.Value(j.Name, "ignoreself"); ok {
		set("ignoreself", j.Lookup.IgnoreSelf)
	}
	if len(j.Lookup.IgnoreIP) > 0 {
		set(append(control.List{"addignoreip"}, wordList(j.Lookup.IgnoreIP)...)...)
	}
	if v, ok := cfg.Value(j.Name, "ignorecache"); ok && v.Text != "" {
		set("ignorecache", v.Text)
	}
	if f.LogTimezone != "" {
		set("logtimezone", f.LogTimezone)
	}
	if f.LogEncoding != "" {
		set("logencoding", f.LogEncoding)
	}
	for _, p := range j.Source.Paths {
		word := "head"
		if p.Tail {
			word = "tail"
		}
		files, _ := filepath.Glob(p.Pattern) // config has refused patterns that are wrong
		for _, name := range files {
			set("addlogpath", name, word)
		}
	}
	names := j.ActionNames()
	for i := range j.Actions {
		set("addaction", names[i])
		a, properties := &j.Actions[i], control.List{}
		for option, command := range a.Any.ByOption() {
			if *command != "" {
				properties = append(properties, control.List{option, *command})
			}
		}
		given := maps.Clone(a.Params)
		maps.Copy(given, a.Properties)
		for _, key := range slices.Sorted(maps.Keys(given)) {
			properties = append(properties, control.List{key, given[key]})
		}
		out = append(out, control.List{"multi-set", j.Name, "action", names[i], properties})
	}
	return out
}

func backendWord(backend string) string {
	if backend == source.Inotify {
		return "pyinotify"
	}
	return backend
}
