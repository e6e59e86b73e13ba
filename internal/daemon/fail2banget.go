package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/source"
)

// get answers what begins with get.
func (d *Daemon) get(ctx context.Context, w words) (any, error) {
	name, err := w.at(1)
	if err != nil {
		return nil, err
	}
	if v, ok := d.global(name); ok {
		return v, nil
	}
	option, err := w.at(2)
	if err != nil {
		return nil, err
	}
	c, err := d.jail(name)
	if err != nil {
		return nil, err
	}
	switch option {
	case "banned":
		return d.isBanned(ctx, name, w.from(3))
	case "banip":
		if w.is(3, "--with-time") {
			return d.bannedUntil(ctx, name)
		}
		bans, err := d.byEnd(ctx, name)
		return idsOf(bans), err
	case "action", "actionproperties", "actionmethods":
		return getAction(c, option, w)
	}
	if v, ok := d.option(c, option); ok {
		return v, nil
	}
	return nil, control.Invalid("Invalid command (no get action or not yet implemented)")
}

// global is what concerns the whole daemon; ok is false if there is no such name.
func (d *Daemon) global(name string) (v any, ok bool) {
	c := d.plan.Load().config.Daemon
	switch name {
	case "loglevel":
		return d.live.writes.levelName(), true
	case "logtarget":
		return d.live.writes.targetName(), true
	case "syslogsocket":
		return cmp.Or(c.SyslogSocket, "auto"), true
	case "thread":
		return control.Dict{{Key: "stacksize", Value: 0}}, true
	case "dbfile", "dbmaxmatches", "dbpurgeage":
		switch {
		case d.database == "":
			return nil, true
		case name == "dbfile":
			return d.database, true
		case name == "dbmaxmatches":
			return c.DBMaxMatches, true
		}
		return secondsOf(c.DBPurgeAge), true
	}
	return nil, false
}

// secondsOf is a time as the original has it: whole seconds as a whole number.
func secondsOf(d time.Duration) any {
	if d%time.Second == 0 {
		return int64(d / time.Second)
	}
	return d.Seconds()
}

// option is an option of a jail; ok is false if there is none of that name.
func (d *Daemon) option(c *config.Jail, name string) (v any, ok bool) {
	switch name {
	case "logpath":
		return logFiles(c), true
	case "logencoding":
		if e := c.Filter.LogEncoding; e != "" && e != "auto" {
			return e, true
		}
		return "UTF-8", true
	case "journalmatch":
		matches := control.List{}
		if d.reads(c.Name, c) == journalBackend {
			for _, group := range c.Source.JournalMatch {
				matches = append(matches, group)
			}
		}
		return matches, true
	case "ignoreip":
		return ignored(c), true
	case "ignoreself":
		return c.Lookup.IgnoreSelf, true
	case "ignorecommand":
		return c.Lookup.IgnoreCommand, true
	case "ignorecache":
		if cache := &c.Lookup.IgnoreCache; cache.Key != "" {
			return control.List{cache.Key, cache.MaxCount, secondsOf(cache.MaxTime)}, true
		}
		return nil, true
	case "usedns":
		return cmp.Or(c.Filter.UseDNS, "warn"), true
	case "prefregex":
		return c.Filter.Prefregex, true
	case "failregex":
		return c.Filter.Failregex, true
	case "ignoreregex":
		return c.Filter.Ignoreregex, true
	case "maxlines":
		return max(1, c.Filter.MaxLines), true
	case "datepattern":
		switch pattern := strings.Join(c.Filter.DatePattern, "\n"); pattern {
		case "":
			return control.Tuple{nil, DateName(nil)}, true
		case "EPOCH":
			return control.Tuple{nil, "Epoch"}, true
		case "TAI64N":
			return control.Tuple{nil, pattern}, true
		default:
			return control.Tuple{pattern, DateName(c.Filter.DatePattern)}, true
		}
	case "logtimezone":
		return textOrNone(c.Filter.LogTimezone), true
	case "findtime":
		return secondsOf(c.Jail.FindTime), true
	case "bantime":
		if c.Jail.BanTime < 0 {
			return -1, true
		}
		return secondsOf(c.Jail.BanTime), true
	case "maxretry":
		return c.Jail.MaxRetry, true
	case "maxmatches":
		return c.Jail.MaxMatches, true
	case "actions":
		return c.ActionNames(), true
	}
	if option, ok := strings.CutPrefix(name, "bantime."); ok {
		return growth(c, option), true
	}
	return nil, false
}

func textOrNone(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// growth is an option of bantime.increment; None for what is not set.
func growth(c *config.Jail, option string) any {
	i := c.Jail.Increment
	switch {
	case option == "increment" && i.Enabled, option == "overalljails" && i.OverallJails:
		return true
	case option == "factor" && i.Factor != nil:
		return i.Factor.String()
	case option == "formula" && i.Formula != nil:
		return i.Formula.String()
	case option == "multipliers" && len(i.Multipliers) > 0:
		parts := make([]string, len(i.Multipliers))
		for k, m := range i.Multipliers {
			parts[k] = strconv.Itoa(m)
		}
		return strings.Join(parts, " ")
	case option == "maxtime" && i.MaxTime != 0:
		return secondsOf(i.MaxTime)
	case option == "rndtime" && i.RndTime != 0:
		return secondsOf(i.RndTime)
	}
	return nil
}

// ignored are the words of ignoreip, single addresses last, in their canonical form.
func ignored(c *config.Jail) []string {
	out, single := []string{}, []string(nil)
	for _, word := range c.Lookup.IgnoreIP {
		id, err := bantam.ParsePrefix(word)
		p, _ := id.Prefix()
		switch {
		case err != nil:
			out = append(out, word)
		case p.IsSingleIP():
			single = append(single, id.String())
		default:
			out = append(out, id.String())
		}
	}
	return append(out, single...)
}

// journalBackend is what the original calls a jail's source when it is the journal.
const journalBackend = "systemd"

// reads is by what means a jail gets its lines, in the original's word.
func (d *Daemon) reads(name string, c *config.Jail) string {
	how := c.Source.Backend
	if how != source.Polling { // which of the others it is shows when it is at work
		for _, s := range d.sources.Status() {
			if slices.Contains(s.Jails, name) {
				how = s.Backend
			}
		}
	}
	switch how {
	case source.Systemd:
		return journalBackend
	case source.Polling:
		return "polling"
	}
	return "pyinotify"
}

// logFiles are the files that a jail reads, those that are not there yet included.
func logFiles(c *config.Jail) []string {
	out := []string{}
	for _, p := range c.Source.Paths {
		files, err := filepath.Glob(p.Pattern)
		if err != nil || len(files) == 0 {
			files = []string{p.Pattern}
		}
		for _, f := range files {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// journalMatches is what a jail reads of the journal, as journalctl takes it.
func journalMatches(c *config.Jail) string {
	groups := make([]string, len(c.Source.JournalMatch))
	for i, g := range c.Source.JournalMatch {
		groups[i] = strings.Join(g, " ")
	}
	return strings.Join(groups, " + ")
}

func idsOf(bans []bantam.Ban) []string {
	out := make([]string, len(bans))
	for i, b := range bans {
		out[i] = b.ID.String()
	}
	return out
}

// bansIn are the running bans of a jail, also of one that does not run yet. Who asks through Fail2Ban's socket knows
// nothing of bans that are held back: nobody is banned by them.
func (d *Daemon) bansIn(ctx context.Context, name string) ([]bantam.Ban, error) {
	if !d.plan.Load().runs(name) {
		return nil, nil
	}
	bans, err := d.jails.Bans(ctx, name, bantam.ID{})
	return slices.DeleteFunc(bans, func(b bantam.Ban) bool { return b.Held() }), err
}

func (d *Daemon) bannedIn(ctx context.Context, name string) ([]string, error) {
	bans, err := d.bansIn(ctx, name)
	return idsOf(bans), err
}

// byEnd are the running bans of a jail, the first to end first.
func (d *Daemon) byEnd(ctx context.Context, name string) ([]bantam.Ban, error) {
	bans, err := d.bansIn(ctx, name)
	slices.SortStableFunc(bans, func(a, b bantam.Ban) int {
		if a.Permanent() || b.Permanent() {
			return cmp.Compare(boolInt(a.Permanent()), boolInt(b.Permanent()))
		}
		return a.End.Compare(b.End)
	})
	return bans, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bannedUntil are the running bans with their times.
func (d *Daemon) bannedUntil(ctx context.Context, name string) (any, error) {
	bans, err := d.byEnd(ctx, name)
	lines := make([]string, len(bans))
	for i, b := range bans {
		length, end := int64(-1), "9999-12-31 23:59:59"
		if !b.Permanent() {
			length = int64(math.Round(b.End.Sub(b.Time).Seconds()))
			end = b.End.Local().Format(time.DateTime)
		}
		lines[i] = fmt.Sprintf("%s \t%s + %d = %s", b.ID, b.Time.Local().Format(time.DateTime), length, end)
	}
	return lines, err
}

// idOf is what a word names: an address, a prefix, or a text.
func idOf(word string) bantam.ID {
	id, err := bantam.ParsePrefix(word)
	if err != nil {
		return bantam.TextID(word)
	}
	return id
}

// isBanned is who is banned in a jail: the list, or 1 and 0 for those asked about.
func (d *Daemon) isBanned(ctx context.Context, name string, about []string) (any, error) {
	bans, err := d.bansIn(ctx, name)
	if err != nil || len(about) == 0 {
		return idsOf(bans), err
	}
	out := make(control.List, len(about))
	for i, word := range about {
		id := idOf(word)
		out[i] = boolInt(slices.ContainsFunc(bans, func(b bantam.Ban) bool { return b.ID == id }))
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return out, nil
}

// banned is who is banned in each jail, or in which jails each of some is.
func (d *Daemon) banned(ctx context.Context, w words) (any, error) {
	figures, err := d.jails.Status(ctx)
	if err != nil {
		return nil, err
	}
	names := d.jailNames(figures)
	about := w.from(1)
	in := make([]control.List, len(about))
	out := control.List{}
	for _, name := range names {
		bans, err := d.bansIn(ctx, name)
		if err != nil {
			return nil, err
		}
		for i, word := range about {
			id := idOf(word)
			if slices.ContainsFunc(bans, func(b bantam.Ban) bool { return b.ID == id }) {
				in[i] = append(in[i], name)
			}
		}
		out = append(out, control.Dict{{Key: name, Value: idsOf(bans)}})
	}
	if len(about) == 0 {
		return out, nil
	}
	out = nil
	for _, jails := range in {
		out = append(out, jails)
	}
	return out, nil
}

// getAction answers what concerns one action.
func getAction(c *config.Jail, what string, w words) (any, error) {
	name, err := w.at(3)
	if err != nil {
		return nil, err
	}
	at, err := actionOf(c, name)
	if err != nil {
		return nil, err
	}
	properties := propertiesOf(&c.Actions[at])
	switch what {
	case "actionproperties":
		return slices.Sorted(maps.Keys(properties)), nil
	case "actionmethods":
		return []string{}, nil // nothing of an action can be called
	}
	property, err := w.at(4)
	if err != nil {
		return nil, err
	}
	v, ok := properties[property]
	if !ok {
		return nil, &control.Exception{
			Class: "builtins.AttributeError",
			Args:  control.Tuple{fmt.Sprintf("'CommandAction' object has no attribute %s", control.Repr(property))},
		}
	}
	return v, nil
}

// propertiesOf are what there is to know of an action: its commands with all tags replaced that
// are not about a ban, its timeout, its parameters.
func propertiesOf(a *action.Config) map[string]any {
	out := map[string]any{}
	for key, v := range a.Params {
		out[key] = v
	}
	for key, v := range a.Properties {
		out[key] = v
	}
	if a.Kind == action.Shell {
		for option, command := range a.Any.ByOption() {
			out[option] = *command
		}
		out["timeout"] = secondsOf(a.Timeout)
	}
	return out
}

func actionOf(c *config.Jail, name string) (int, error) {
	at := slices.Index(c.ActionNames(), name)
	if at < 0 {
		return 0, &control.Exception{Class: "builtins.KeyError", Args: control.Tuple{"Invalid Action name: " + name}}
	}
	return at, nil
}

// dateNames are what the codes of a date pattern are called.
var dateNames = map[byte]string{
	'Y': "Year", 'y': "Year2", 'm': "Month", 'd': "Day", 'H': "24hour", 'I': "12hour", 'M': "Minute", 'S': "Second",
	'f': "Microseconds", 'b': "MON", 'B': "MONTH", 'a': "DAY", 'A': "DAYNAME", 'p': "AMPM", 'z': "Zone offset",
	'Z': "Zone name", 'j': "Yearday", 'U': "Yearweek", 'W': "Yearweek", 'w': "Weekday",
}

var dateCode = regexp.MustCompile(`%(Ex)?([A-Za-z%])`)

// DateName is a date pattern in words, as people are shown it.
func DateName(patterns []string) string {
	if len(patterns) != 1 || patterns[0] == "{^LN-BEG}" || strings.Contains(patterns[0], "{D") {
		return "Default Detectors"
	}
	return dateCode.ReplaceAllStringFunc(patterns[0], func(code string) string {
		if name := dateNames[code[len(code)-1]]; name != "" {
			return code[1:len(code)-1] + name
		}
		return code
	})
}

// lookupWait is how long a name that is to be unbanned is asked for.
const lookupWait = 5 * time.Second

// lifted ends the bans that a word names in one jail, or in all: an address, a prefix, a
// banned text, or else a host name, whose addresses are meant.
func (d *Daemon) lifted(ctx context.Context, name, word string) (int, error) {
	if word == "" {
		return 0, nil
	}
	id := idOf(word)
	reply, err := d.lift(ctx, control.UnbanRequest{Jail: name, ID: id})
	n := len(reply.Bans)
	if _, isPrefix := id.Prefix(); err != nil || isPrefix || n > 0 {
		return n, err
	}
	asking, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(asking, "ip", word)
	if err != nil {
		return 0, nil // it is no name either
	}
	for _, a := range addrs {
		reply, err := d.lift(ctx, control.UnbanRequest{Jail: name, ID: bantam.AddrID(a.Unmap())})
		if err != nil {
			return n, err
		}
		n += len(reply.Bans)
	}
	return n, nil
}

func (d *Daemon) unbanEverywhere(ctx context.Context, w words) (any, error) {
	if len(w.list) == 1 {
		return nil, errInvalid
	}
	if len(w.list) == 2 && w.is(1, "--all") {
		reply, err := d.lift(ctx, control.UnbanRequest{All: true})
		return len(reply.Bans), err
	}
	total := 0
	for _, word := range w.from(1) {
		n, err := d.lifted(ctx, "", word)
		if err != nil {
			return nil, err
		}
		total += n
	}
	return total, nil
}
