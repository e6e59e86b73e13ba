package config

import (
	"errors"
	"fmt"
	"math"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam/internal/whois"
)

// Daemon is what fail2ban.conf and bantam.conf say about the program itself.
type Daemon struct {
	// Fail2Ban is true when the folder has a fail2ban.conf: then its defaults
	// are Fail2Ban's, and the log is in Fail2Ban's form.
	Fail2Ban     bool
	LogLevel     string // one of Fail2Ban's words, in capitals
	LogTarget    string // a path or one of Fail2Ban's words
	SyslogSocket string // a path or "auto"
	// Socket is where fail2ban-client is answered, "" for nowhere. Bantam's own
	// API has another.
	Socket       string
	PIDFile      string        // "" for none
	DBFile       string        // ":memory:" for no file
	DBMaxMatches int           // log lines kept per ban
	DBPurgeAge   time.Duration // how long bans that are over are remembered
	AllowIPv6    string        // "auto", "yes" or "no"
	// APIGroup is the group, by name or number, that may read through the API; "" for none.
	APIGroup string
	// GeoDB are the files that know where addresses are.
	GeoDB []string
	// AbuseZone is where contacts for complaints are looked up, "" for the usual zone.
	AbuseZone string
	// RuntimeCommands lets root set an action's commands through Fail2Ban's socket.
	RuntimeCommands bool
}

// daemonSet merges the files of the program's options; fail2ban is whether the folder has a fail2ban.conf.
func (t *tree) daemonSet() (s *set, fail2ban bool, err error) {
	conf, local, err := t.candidates(false, "fail2ban")
	if err != nil {
		return nil, false, err
	}
	fail2ban = len(conf)+len(local) > 0
	if !fail2ban {
		if conf, local, err = t.candidates(true, "bantam"); err != nil {
			return nil, false, err
		}
	}
	places := append(conf, local...)
	if conf, local, err = t.candidates(false, "bantam"); err != nil {
		return nil, false, err
	}
	s, err = t.load(append(append(places, conf...), local...))
	return s, fail2ban, err
}

var logLevels = []string{"CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG"}

// daemon reads fail2ban.conf and bantam.conf, the latter over the former, with
// the library's bantam.conf below where the folder has no fail2ban.conf.
func (t *tree) daemon(extra map[string]*Value) (Daemon, []Problem, error) {
	s, fail2ban, err := t.daemonSet()
	if err != nil {
		return Daemon{}, nil, err
	}
	r := daemonReader{scope: &scope{set: s, section: "Definition", extra: extra}}
	d := Daemon{
		Fail2Ban:     fail2ban,
		LogLevel:     strings.ToUpper(r.text("loglevel")),
		LogTarget:    r.text("logtarget"),
		SyslogSocket: r.text("syslogsocket"),
		Socket:       r.text("socket"),
		PIDFile:      r.text("pidfile"),
		DBFile:       r.text("dbfile"),
		DBMaxMatches: 10,
		DBPurgeAge:   24 * time.Hour,
		AllowIPv6:    r.text("allowipv6"),
		APIGroup:     r.text("apigroup"),
		AbuseZone:    r.text("abusezone"),
	}
	var known bool
	if d.RuntimeCommands, known = boolean(r.text("runtimecommands")); !known {
		r.problem("runtimecommands", quote(r.text("runtimecommands"))+" is none of yes and no", "")
	}
	d.GeoDB = r.geodb()
	if _, err := settingsAt(r.text("settings")); err != nil {
		r.problem("settings", err.Error(), "write settings = esmith:/home/e-smith/db/configuration; other settings are for bantam config set")
	}
	if err := (&whois.Config{Zone: d.AbuseZone}).Validate(); err != nil {
		r.problem("abusezone", err.Error(), "")
		d.AbuseZone = ""
	}
	if _, err := GroupID(d.APIGroup); d.APIGroup != "" && err != nil {
		r.problem("apigroup", err.Error(), "until it is there only root reads through the API")
		r.problems[len(r.problems)-1].Warning = true
	}
	if !slices.Contains(logLevels, d.LogLevel) {
		r.problem("loglevel", "unknown level "+quote(d.LogLevel), "use one of "+strings.Join(logLevels, ", "))
		d.LogLevel = "INFO"
	}
	switch on, known := boolean(d.AllowIPv6); {
	case strings.EqualFold(d.AllowIPv6, "auto"):
		d.AllowIPv6 = "auto"
	case !known || d.AllowIPv6 == "":
		r.problem("allowipv6", quote(d.AllowIPv6)+" is none of auto, yes and no", "")
		d.AllowIPv6 = "auto"
	case on:
		d.AllowIPv6 = "yes"
	default:
		d.AllowIPv6 = "no"
	}
	if strings.EqualFold(d.DBFile, "none") || d.DBFile == ":memory:" || d.DBFile == "" {
		d.DBFile = ":memory:"
		r.problem("dbfile", "bans are kept in memory only: a restart forgets them", "")
		r.problems[len(r.problems)-1].Warning = true
	}
	if n, err := integer(r.text("dbmaxmatches")); err == nil && n >= 0 {
		d.DBMaxMatches = n
	} else {
		r.problem("dbmaxmatches", quote(r.text("dbmaxmatches"))+" is not a number of lines", "")
	}
	f, err := seconds(r.text("dbpurgeage"))
	age, fits := duration(f)
	switch {
	case err != nil:
		r.problem("dbpurgeage", err.Error(), unitHint)
	case f > 0 && !fits:
		d.DBPurgeAge = math.MaxInt64
	case f < 0:
		r.problem("dbpurgeage", "the time must not be negative", unitHint)
	default:
		d.DBPurgeAge = age
	}
	r.unknown()
	return d, r.problems, nil
}

// GroupID is the number of a group of this machine, given by name or number.
func GroupID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("there is no group %s", quote(name))
	}
	return strconv.Atoi(g.Gid)
}

type daemonReader struct {
	scope    *scope
	problems []Problem
}

// text is an option or its default; what cannot be made out is reported once and
// gives the default too.
func (r *daemonReader) text(key string) string {
	v := r.scope.set.raw("Definition", key)
	if v != nil {
		text, err := r.scope.expand(v)
		if err == nil {
			return trim(text)
		}
		var p *Problem
		if !errors.As(err, &p) {
			p = problemAt(v, err.Error(), "")
		}
		if !slices.Contains(r.problems, *p) {
			r.problems = append(r.problems, *p)
		}
	}
	for _, k := range daemonKeys {
		if k.name == key {
			return k.def
		}
	}
	return ""
}

func (r *daemonReader) problem(key, text, hint string) {
	v := r.scope.set.raw("Definition", key)
	if v == nil {
		v = &Value{key: key}
	}
	r.problems = append(r.problems, *problemAt(v, text, hint))
}

// unknown warns of options that nothing reads.
func (r *daemonReader) unknown() {
	used := r.scope.set.references()
	for _, name := range []string{defaultName, "Definition"} {
		sec := r.scope.set.sections[name]
		if name == defaultName {
			sec = r.scope.set.defaults
		}
		if sec == nil {
			continue
		}
		for _, key := range sec.keys {
			if !hasKey(daemonKeys, key) && !used[key] {
				r.problems = append(r.problems, unknownKey(sec.opts[key], keyNames(daemonKeys)))
			}
		}
	}
}

// unknownKey is the warning for an option that nothing reads.
func unknownKey(v *Value, names []string) Problem {
	p := problemAt(v, fmt.Sprintf("unknown option %s", quote(v.key)), "nothing reads it")
	if guess := nearest(v.key, names); guess != "" {
		p.Text += "; did you mean " + guess + "?"
	}
	p.Key, p.Warning = "", true
	return *p
}
