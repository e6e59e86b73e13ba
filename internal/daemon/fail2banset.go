package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/filter"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/source"
)

// set answers what begins with set.
func (d *Daemon) set(ctx context.Context, w words) (any, error) {
	name, err := w.at(1)
	if err != nil {
		return nil, err
	}
	if done, err := d.setGlobal(name, w); done || err != nil {
		if err != nil {
			return nil, err
		}
		if v, ok := d.global(name); ok && name != "thread" {
			return v, nil
		}
		if name == "thread" {
			return nil, nil
		}
		return w.at(2)
	}
	option, err := w.at(2)
	if err != nil {
		return nil, err
	}
	if _, err := d.jail(name); err != nil {
		return nil, err
	}
	switch option {
	case "idle":
		return d.setIdle(name, w)
	case "attempt":
		return d.attempt(ctx, name, w)
	case "banip":
		return d.banByHand(ctx, name, w.from(3))
	case "unbanip":
		return d.unbanByHand(ctx, name, w.from(3))
	case "addaction", "action":
		return d.setAction(ctx, name, option, w)
	}
	return d.setOption(ctx, name, option, w)
}

// setGlobal changes what concerns the whole daemon; done is false if there is no such name.
func (d *Daemon) setGlobal(name string, w words) (done bool, err error) {
	switch name {
	case "loglevel", "logtarget", "syslogsocket", "allowipv6", "dbfile", "dbmaxmatches", "dbpurgeage":
	case "thread":
		if len(w.list) < 3 {
			return true, errFewWords
		}
		if _, ok := w.list[2].(control.Dict); !ok {
			return true, &control.Exception{Class: "builtins.AttributeError", Args: control.Tuple{"'str' object has no attribute 'items'"}}
		}
		return true, nil
	default:
		return false, nil
	}
	text, err := w.at(2)
	if err != nil {
		return true, err
	}
	switch name {
	case "loglevel":
		if err := d.live.writes.setLevel(text); err != nil {
			return true, valueError("%s", err)
		}
	case "logtarget":
		if err := d.live.writes.setTarget(text); err != nil {
			return true, control.Invalid("Failed to change log target")
		}
	case "syslogsocket":
		if info, err := os.Stat(text); text != "auto" && (err != nil || info.Mode().Type() != os.ModeSocket) {
			return true, control.Invalid(fmt.Sprintf("%s is no socket", control.Repr(text)))
		}
		d.live.writes.setSyslog(text)
		d.changeDaemon(func(c *config.Daemon) { c.SyslogSocket = text })
	case "dbfile":
		if text != d.database && (d.database != "" || !strings.EqualFold(text, "none") && text != ":memory:") {
			return true, &control.Exception{Class: "builtins.RuntimeError", Args: control.Tuple{"Cannot change database when there are jails present"}}
		}
	case "dbmaxmatches":
		n, err := toInt(text)
		if err != nil {
			return true, err
		}
		d.changeDaemon(func(c *config.Daemon) { c.DBMaxMatches = n })
	case "dbpurgeage":
		age, err := toSeconds(text)
		if err != nil {
			return true, err
		}
		d.changeDaemon(func(c *config.Daemon) { c.DBPurgeAge = age })
	}
	return true, nil
}

// changeDaemon changes what the plan says of the whole daemon.
func (d *Daemon) changeDaemon(f func(*config.Daemon)) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	p := *d.plan.Load()
	c := *p.config
	f(&c.Daemon)
	p.config = &c
	d.plan.Store(&p)
}

// toInt reads a number as the original does.
func toInt(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
		return 0, valueError("invalid literal for int() with base 10: %s", control.Repr(text))
	}
	return n, nil
}

// toSeconds reads a time.
func toSeconds(text string) (time.Duration, error) {
	f, err := config.TimeValue(text)
	if err != nil {
		return 0, valueError("%s", err)
	}
	if f < 0 {
		return -time.Second, nil
	}
	if d := seconds(f); d > 0 || f == 0 {
		return d, nil
	}
	return 0, valueError("the time is longer than 292 years")
}

// toBool reads a truth value as the original does: what is not true is false.
func toBool(text string) bool {
	return slices.Contains([]string{"1", "on", "true", "yes"}, strings.ToLower(text))
}

func (d *Daemon) setIdle(name string, w words) (any, error) {
	word, err := w.at(3)
	if err != nil {
		return nil, err
	}
	switch word {
	case "on":
		d.idle.rest(name)
	case "off":
		d.idle.wake(name)
	default:
		return nil, control.Invalid("Invalid idle option, must be 'on' or 'off'")
	}
	return d.idle.resting(name), nil
}

// attempt counts failures that no log tells of.
func (d *Daemon) attempt(ctx context.Context, name string, w words) (any, error) {
	word, err := w.at(3)
	if err != nil {
		return nil, err
	}
	id, err := bantam.ParsePrefix(word)
	if err != nil {
		return nil, valueError("%s", err)
	}
	now := time.Now()
	lines := w.from(4)
	f := bantam.Failure{Jail: name, ID: id, Time: now, Read: now, Lines: lines, Country: d.lookup.Country(id)}
	if by, is := d.lookup.IgnoredFailure(ctx, &f); is {
		lookup.Tell(d.log, &f, by)
		return 0, nil
	}
	for i := range max(1, len(lines)) {
		if len(lines) > 0 {
			f.Lines = lines[i : i+1 : i+1]
		}
		if err := d.idle.tell(ctx, f); err != nil {
			return nil, err
		}
	}
	return 1, nil
}

// banByHand bans all that are named, or nobody if one of them cannot be.
func (d *Daemon) banByHand(ctx context.Context, name string, who []string) (any, error) {
	force := len(who) > 0 && who[0] == "--force"
	if force {
		who = who[1:]
	}
	ids := make([]bantam.ID, len(who))
	for i, word := range who {
		id, err := bantam.ParsePrefix(word)
		if err != nil {
			return nil, valueError("%s", err)
		}
		if by, is := d.lookup.Ignored(ctx, name, id); is && (!force || by == "allow") {
			return nil, valueError("%s is never to be banned in %s (by %s); set %s banip --force overrules ignoreip", id, name, by, name)
		}
		if why, is := d.administrates(name, id); is && !force {
			return nil, valueError("%s has %s; set %s banip --force bans it all the same", id, why, name)
		}
		ids[i] = id
	}
	var made []bantam.Decision
	n := 0
	for _, id := range ids {
		decision, ok, err := d.jails.Ban(ctx, name, id, 0, bantam.ByOperator, "")
		if err != nil {
			return nil, err
		}
		if ok {
			made = append(made, decision)
		}
		if ok && decision.Kind == bantam.Start {
			n++
		}
	}
	return n, d.carriedOut(ctx, made...)
}

func (d *Daemon) unbanByHand(ctx context.Context, name string, who []string) (any, error) {
	report := len(who) > 0 && who[0] == "--report-absent"
	if report {
		who = who[1:]
	}
	total := 0
	var absent []string
	for _, word := range who {
		n, err := d.lifted(ctx, name, word)
		if err != nil {
			return nil, err
		}
		if total += n; n == 0 {
			absent = append(absent, word)
		}
	}
	if report && len(absent) > 0 {
		return nil, valueError("not banned: %s", control.Repr(absent))
	}
	return total, nil
}

// mayCommand reports whether who asks may set commands for the shell.
func (d *Daemon) mayCommand(w words) bool {
	return w.peer.UID == 0 && d.plan.Load().config.Daemon.RuntimeCommands
}

// errCommands keeps commands for the shell from coming through the socket.
var errCommands = control.Invalid("commands are not set through the socket: write them into the configuration and reload, or let root do it with runtimecommands = yes in fail2ban.local")

// setAction adds an action, or changes a command of one. What came through the socket would
// run as root, so that only root may, and only if the configuration says so.
func (d *Daemon) setAction(ctx context.Context, name, option string, w words) (any, error) {
	title, err := w.at(3)
	if err != nil {
		return nil, err
	}
	c, err := d.jail(name)
	if err != nil {
		return nil, err
	}
	_, missing := actionOf(c, title)
	switch {
	case option == "addaction" && missing == nil:
		return nil, valueError("Action %s already exists", title)
	case option == "action" && missing != nil:
		return nil, missing
	case !d.mayCommand(w):
		return nil, errCommands
	case option == "addaction" && len(w.list) > 4:
		return nil, control.Invalid("a Python action cannot be added through the socket: name it in the jail's action and reload")
	case option == "addaction":
		return title, d.change(ctx, name, func(c *config.Jail) error {
			c.Actions = append(c.Actions, action.Config{
				Jail: name, Name: title, Title: title, Kind: action.Shell, Timeout: time.Minute,
				Params: map[string]string{"name": name}, Properties: map[string]string{"name": name, "actname": title},
			})
			return nil
		})
	}
	if len(w.list) < 5 {
		return nil, errFewWords
	}
	pairs := control.List{w.list[4:]}
	if w.is(0, "multi-set") {
		list, ok := w.list[4].(control.List)
		if !ok {
			return nil, valueError("a list of properties is missing")
		}
		pairs = list
	}
	err = d.change(ctx, name, func(c *config.Jail) error { return setProperties(c, title, pairs) })
	if err != nil || w.is(0, "multi-set") {
		return true, err
	}
	return w.at(5)
}

// setProperties changes commands of an action, or its timeout: pairs are names and values.
func setProperties(c *config.Jail, title string, pairs control.List) error {
	at, err := actionOf(c, title)
	if err != nil {
		return err
	}
	a := &c.Actions[at]
	for _, pair := range pairs {
		list, ok := pair.(control.List)
		if !ok || len(list) < 2 {
			return errFewWords
		}
		property, value := control.Str(list[0]), control.Str(list[1])
		if a.Kind != action.Shell {
			return control.Invalid("only shell actions have commands to set")
		}
		if property == "timeout" {
			if a.Timeout, err = toSeconds(value); err != nil || a.Timeout <= 0 {
				return valueError("the timeout must be more than zero, not %s", value)
			}
			continue
		}
		known := false
		for _, commands := range []*action.Commands{&a.Any, &a.Inet4, &a.Inet6} {
			for option, command := range commands.ByOption() {
				if option == property {
					*command, known = value, true
				}
			}
		}
		if !known {
			return control.Invalid(fmt.Sprintf("%s is no command of an action: write parameters into the configuration and reload", control.Repr(property)))
		}
	}
	return nil
}

// setOption changes an option of a jail and answers what get would.
func (d *Daemon) setOption(ctx context.Context, name, option string, w words) (any, error) {
	shows, edit, err := d.edit(option, w)
	if err != nil {
		return nil, err
	}
	if name == jail.Manual {
		return nil, errManual
	}
	if option == "ignorecommand" && len(w.from(3)) > 0 && strings.TrimSpace(w.from(3)[0]) != "" && !d.mayCommand(w) {
		return nil, errCommands
	}
	if err := d.change(ctx, name, edit); err != nil {
		return nil, err
	}
	if shows == "" {
		return nil, nil
	}
	c, err := d.jail(name)
	if err != nil {
		return nil, err
	}
	v, _ := d.option(c, shows)
	return v, nil
}

// edit is how an option is changed, and what get shows of it afterwards.
func (d *Daemon) edit(option string, w words) (shows string, edit func(*config.Jail) error, err error) {
	known := func(option string) bool {
		_, ok := d.option(&config.Jail{}, option)
		return ok && option != "actions" && option != "logpath" && option != "failregex" && option != "ignoreregex" &&
			option != "journalmatch" && option != "ignoreip"
	}
	switch option {
	case "addignoreip", "delignoreip", "addlogpath", "dellogpath", "addjournalmatch", "deljournalmatch",
		"addfailregex", "delfailregex", "addignoreregex", "delignoreregex", "delaction":
	default:
		if !known(option) {
			return "", nil, control.Invalid(fmt.Sprintf("Invalid command %s (no set action or not yet implemented)", control.Repr(option)))
		}
	}
	text, err := w.at(3)
	if err != nil {
		return "", nil, err
	}
	switch option {
	case "addignoreip", "delignoreip":
		return "ignoreip", func(c *config.Jail) error {
			return amend(&c.Lookup.IgnoreIP, option == "addignoreip", w.from(3), sameID, valueError("list.remove(x): x not in list"))
		}, nil
	case "addlogpath":
		word := "head"
		if len(w.list) > 4 {
			word, _ = w.at(4)
		}
		return "logpath", func(c *config.Jail) error { return addLog(c, text, word) }, nil
	case "dellogpath":
		return "logpath", func(c *config.Jail) error { dropLog(c, text); return nil }, nil
	case "addjournalmatch", "deljournalmatch":
		return "journalmatch", func(c *config.Jail) error {
			if d.reads(c.Name, c) != journalBackend {
				return nil // there is no journal to match
			}
			groups := config.MatchGroups(w.from(3))
			return amend(&c.Source.JournalMatch, option == "addjournalmatch", groups, slices.Equal[[]string], valueError("Match not found"))
		}, nil
	case "addfailregex":
		return "failregex", func(c *config.Jail) error {
			c.Filter.Failregex = append(c.Filter.Failregex, text)
			return checkRegex(c.Filter, text, filter.Config{Failregex: []string{text}, Prefregex: c.Filter.Prefregex})
		}, nil
	case "addignoreregex":
		return "ignoreregex", func(c *config.Jail) error {
			c.Filter.Ignoreregex = append(c.Filter.Ignoreregex, text)
			return checkRegex(c.Filter, text, filter.Config{Ignoreregex: []string{text}})
		}, nil
	case "delfailregex", "delignoreregex":
		n, err := toInt(text)
		shows = strings.TrimPrefix(option, "del")
		return shows, func(c *config.Jail) error { d.dropRegex(c, shows, n); return nil }, err
	case "delaction":
		return "", func(c *config.Jail) error {
			at, err := actionOf(c, text)
			if err == nil {
				c.Actions = slices.Delete(c.Actions, at, at+1)
			}
			return err
		}, nil
	}
	return option, func(c *config.Jail) error { return editValue(c, option, text) }, nil
}

// checkRegex says what is wrong with an expression, in the original's words as far as they go.
func checkRegex(of filter.Config, text string, alone filter.Config) error {
	alone.MaxLines, alone.UseDNS = of.MaxLines, of.UseDNS
	_, err := filter.Compile(alone)
	if err == nil {
		return nil
	}
	const class = "fail2ban.server.failregex.RegexException"
	reason := err.Error()
	if strings.Contains(reason, "nothing in it says who failed") {
		return &control.Exception{Class: class, Args: control.Tuple{fmt.Sprintf("No failure-id group in '%s'", text)}}
	}
	if _, cut, ok := strings.Cut(reason, ": "); ok {
		reason = cut
	}
	if at := strings.LastIndex(reason, ": in "); at >= 0 {
		reason = reason[:at]
	}
	return &control.Exception{Class: class, Args: control.Tuple{fmt.Sprintf("Unable to compile regular expression '%s':\n%s", text, reason)}}
}

func (d *Daemon) dropRegex(c *config.Jail, which string, n int) {
	list := &c.Filter.Failregex
	if which == "ignoreregex" {
		list = &c.Filter.Ignoreregex
	}
	if n < 0 {
		n += len(*list) // from the end
	}
	if n < 0 || n >= len(*list) {
		d.log.Error("there is no such expression", "jail", c.Name, "option", which, "index", n)
		return
	}
	*list = slices.Delete(*list, n, n+1)
}

// amend adds what a list lacks, or takes out what it must have.
func amend[T any](list *[]T, add bool, things []T, same func(a, b T) bool, missing error) error {
	for _, thing := range things {
		at := slices.IndexFunc(*list, func(t T) bool { return same(t, thing) })
		switch {
		case add && at < 0:
			*list = append(*list, thing)
		case !add && at < 0:
			return missing
		case !add:
			*list = slices.Delete(*list, at, at+1)
		}
	}
	return nil
}

func sameID(a, b string) bool { return a == b || idOf(a) == idOf(b) }

// literal is a path as a pattern that fits nothing else.
var literal = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

func addLog(c *config.Jail, path, word string) error {
	if word != "head" && word != "tail" {
		return valueError("File option must be 'head' or 'tail'")
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		var system interface{ Error() string } = os.ErrNotExist
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			system = errors.Unwrap(err)
			return control.Invalid(fmt.Sprintf("%s: %s", control.Repr(path), system))
		}
		return &control.Exception{Class: "builtins.FileNotFoundError", Args: control.Tuple{2, "No such file or directory", path}}
	}
	if slices.Contains(logFiles(c), path) {
		return nil
	}
	c.Source.Paths = append(c.Source.Paths, source.Path{Pattern: literal.Replace(path), Tail: word == "tail"})
	return nil
}

// dropLog takes a file away, also if a pattern found it.
func dropLog(c *config.Jail, path string) {
	var rest []source.Path
	for _, p := range c.Source.Paths {
		fits, err := filepath.Match(p.Pattern, path)
		if p.Pattern == path {
			continue
		}
		if err != nil || !fits {
			rest = append(rest, p)
			continue
		}
		files, _ := filepath.Glob(p.Pattern) // the pattern is well formed
		for _, f := range files {
			if f != path {
				rest = append(rest, source.Path{Pattern: literal.Replace(f), Tail: p.Tail})
			}
		}
	}
	c.Source.Paths = rest
}

// editValue changes an option that is one value.
func editValue(c *config.Jail, option, text string) error {
	switch option {
	case "ignoreself":
		c.Lookup.IgnoreSelf = toBool(text)
	case "ignorecommand":
		c.Lookup.IgnoreCommand = text
	case "ignorecache":
		cache, _, err := config.IgnoreCache(text)
		if err != nil {
			return valueError("ignorecache: %s", err)
		}
		c.Lookup.IgnoreCache = cache
	case "prefregex":
		c.Filter.Prefregex = text
		if text != "" {
			return checkRegex(c.Filter, text, filter.Config{Prefregex: text})
		}
	case "logencoding":
		before := c.Filter.LogEncoding
		if c.Filter.LogEncoding = text; text == "auto" {
			return nil
		}
		if _, err := filter.Compile(filter.Config{LogEncoding: text}); err != nil {
			c.Filter.LogEncoding = before
			return &control.Exception{Class: "builtins.LookupError", Args: control.Tuple{"unknown encoding: " + text}}
		}
	case "logtimezone":
		c.Filter.LogTimezone = text
		if _, err := filter.Compile(filter.Config{LogTimezone: text}); err != nil {
			return valueError("Unknown or unsupported time zone: %s", control.Repr(text))
		}
	case "usedns":
		if c.Filter.UseDNS = strings.ToLower(text); !slices.Contains([]string{"yes", "warn", "no", "raw"}, c.Filter.UseDNS) {
			c.Filter.UseDNS = "no"
		}
	case "datepattern":
		c.Filter.DatePattern = nil
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				c.Filter.DatePattern = append(c.Filter.DatePattern, line)
			}
		}
	case "findtime", "bantime":
		length, err := toSeconds(text)
		switch {
		case err != nil:
			return err
		case option == "bantime" && length >= 0:
			length = length.Truncate(time.Second)
			fallthrough
		case option == "bantime":
			c.Jail.BanTime = length
		default:
			c.Jail.FindTime, c.Source.FindTime = length, length
		}
		if err := c.Jail.Validate(); err != nil {
			return valueError("%s", err)
		}
	case "maxretry", "maxmatches", "maxlines":
		n, err := toInt(text)
		if err != nil {
			return err
		}
		switch option {
		case "maxretry":
			c.Jail.MaxRetry = n
		case "maxmatches":
			c.Jail.MaxMatches = n
		case "maxlines":
			if n < 1 {
				return valueError("maxlines must be integer greater than zero")
			}
			c.Filter.MaxLines = n
		}
	default:
		return editGrowth(c, strings.TrimPrefix(option, "bantime."), text)
	}
	return nil
}

// editGrowth changes an option of bantime.increment; an empty text takes it away.
func editGrowth(c *config.Jail, option, text string) (err error) {
	i := &c.Jail.Increment
	text = strings.TrimSpace(text)
	formula := func(to **jail.Formula) error {
		if *to = nil; text == "" {
			return nil
		}
		*to, err = jail.ParseFormula(text)
		return err
	}
	length := func(to *time.Duration) error {
		if *to = 0; text == "" {
			return nil
		}
		*to, err = toSeconds(text)
		return err
	}
	switch option {
	case "increment":
		i.Enabled = toBool(text)
	case "overalljails":
		i.OverallJails = toBool(text)
	case "factor":
		err = formula(&i.Factor)
	case "formula":
		err = formula(&i.Formula)
	case "maxtime":
		err = length(&i.MaxTime)
	case "rndtime":
		err = length(&i.RndTime)
	case "multipliers":
		i.Multipliers = nil
		for word := range strings.FieldsSeq(text) {
			n, err := toInt(word)
			if err != nil {
				return err
			}
			i.Multipliers = append(i.Multipliers, n)
		}
	default:
		return valueError("there is no option bantime.%s", option)
	}
	return err
}

// multiSet does for a list what set does for one; only a configuration's stream has it.
func (d *Daemon) multiSet(ctx context.Context, w words) (any, error) {
	name, err := w.at(1)
	if err != nil {
		return nil, err
	}
	option, err := w.at(2)
	if err != nil {
		return nil, err
	}
	if len(w.list) < 4 {
		return nil, errFewWords
	}
	if option == "action" {
		if len(w.list) < 5 {
			return nil, errFewWords
		}
		return d.setAction(ctx, name, option, w)
	}
	list, ok := w.list[3].(control.List)
	if !ok || option != "addfailregex" && option != "addignoreregex" {
		return nil, control.Invalid(fmt.Sprintf("Invalid command %s (no set action or not yet implemented)", control.Repr(option)))
	}
	err = d.change(ctx, name, func(c *config.Jail) error {
		for _, text := range list {
			_, edit, err := d.edit(option, words{list: control.List{"set", name, option, text}})
			if err == nil {
				err = edit(c)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return true, err
}
