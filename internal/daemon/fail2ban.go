package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/jail"
)

// fail2banVersion is what Fail2Ban's socket answers as the version: the one whose
// behaviour this is.
const fail2banVersion = "1.1.2"

// Whose is a command that only Bantam's server knows: it answers with Bantam's version. A
// client that leaves the reading of the configuration to the server has to know.
const Whose = "bantam-version"

// Override is what the command line sets in place of fail2ban.conf. What is empty
// overrides nothing. It holds through reloads.
type Override struct {
	Fail2BanSocket, LogLevel, LogTarget, SyslogSocket string
}

func (o Override) apply(c *config.Daemon) {
	for _, v := range []struct {
		to   *string
		from string
	}{{&c.Socket, o.Fail2BanSocket}, {&c.LogLevel, o.LogLevel}, {&c.LogTarget, o.LogTarget}, {&c.SyslogSocket, o.SyslogSocket}} {
		if v.from != "" {
			*v.to = v.from
		}
	}
}

// openFail2Ban opens Fail2Ban's socket, if the configuration names one. Whoever answers
// there would fight for the same bans, so that is refused.
func (d *Daemon) openFail2Ban(p *plan) (err error) {
	if p.config.Daemon.Socket == "" || p.config.Daemon.Socket == d.options.Socket {
		return nil
	}
	if d.fail2ban, err = control.ListenFail2Ban(p.config.Daemon.Socket); err != nil {
		return err
	}
	d.fail2ban.Log = func(reason string) { d.log.Error("trouble on Fail2Ban's socket", "err", reason) }
	return nil
}

// serveFail2Ban answers on Fail2Ban's socket until ctx ends.
func (d *Daemon) serveFail2Ban(ctx context.Context) error {
	if d.fail2ban == nil {
		return nil
	}
	return d.fail2ban.Run(ctx, d.answer)
}

// shown is how much of a command the log shows.
const shown = 300

// answer is what a command on Fail2Ban's socket comes to.
func (d *Daemon) answer(ctx context.Context, peer control.Peer, command control.List) (any, error) {
	payload, err := d.command(ctx, peer, command)
	if err != nil {
		text := control.Repr(command)
		if len(text) > shown {
			text = text[:shown] + "…"
		}
		err = inPython(err)
		d.log.Error("command has failed", "command", text, "err", err)
	}
	return payload, err
}

// inPython makes the exceptions of errors that a client tells apart.
func inPython(err error) error {
	var unknown *jail.UnknownJailError
	if errors.As(err, &unknown) {
		return control.NoSuchJail(unknown.Jail)
	}
	return err
}

// words are the words of a command.
type words struct {
	list control.List
	peer control.Peer
}

// errFewWords is the exception of a command that ends too early.
var errFewWords = &control.Exception{Class: "builtins.IndexError", Args: control.Tuple{"list index out of range"}}

// at is a word as text.
func (w words) at(i int) (string, error) {
	if i >= len(w.list) {
		return "", errFewWords
	}
	if b, ok := w.list[i].(control.Bytes); ok {
		return control.Repr(b), nil // bytes are no word
	}
	return control.Str(w.list[i]), nil
}

// is reports whether the word at i is there and is text.
func (w words) is(i int, text string) bool { return i < len(w.list) && w.list[i] == text }

// from is the words from i on.
func (w words) from(i int) []string {
	var out []string
	for ; i < len(w.list); i++ {
		word, _ := w.at(i) // it is there
		out = append(out, word)
	}
	return out
}

var errInvalid = control.Invalid("Invalid command")

// command does what a command says (spec/server.md 1.6).
func (d *Daemon) command(ctx context.Context, peer control.Peer, list control.List) (any, error) {
	w := words{list, peer}
	if len(list) == 0 {
		return nil, errInvalid
	}
	name, _ := list[0].(string)
	switch name {
	case "ping":
		return "pong", nil
	case "version":
		return fail2banVersion, nil
	case Whose:
		return bantam.Version, nil
	case "server-status":
		return "Server ready", nil
	case "echo":
		return list[1:], nil
	case "sleep":
		return nil, d.sleep(ctx, w)
	case "config-error":
		text, err := w.at(1)
		if err == nil {
			d.log.Error("a client tells of a configuration error", "text", text)
		}
		return nil, err
	case "status":
		return d.fail2banStatus(ctx, w)
	case "stats", "statistic", "statistics":
		return d.stats(ctx)
	case "flushlogs":
		return d.flushLogs(), nil
	case "banned":
		return d.banned(ctx, w)
	case "unban":
		return d.unbanEverywhere(ctx, w)
	case "add":
		return d.addJail(w)
	case "start":
		return nil, d.startJail(ctx, w)
	case "stop":
		return nil, d.stopJail(ctx, w)
	case "reload":
		return d.fail2banReload(ctx, w)
	case "server-stream":
		_, err := d.Reload(ctx, control.None{})
		return nil, err
	case "get":
		return d.get(ctx, w)
	case "set":
		return d.set(ctx, w)
	case "multi-set":
		return d.multiSet(ctx, w)
	}
	return nil, errInvalid
}

// longestSleep bounds what sleep holds a connection for.
const longestSleep = time.Hour

func (d *Daemon) sleep(ctx context.Context, w words) error {
	text, err := w.at(1)
	if err != nil {
		return err
	}
	f, err := config.Seconds(text)
	if err != nil || f < 0 {
		return valueError("could not convert string to float: %s", control.Repr(text))
	}
	wait := time.NewTimer(seconds(min(f, longestSleep.Seconds())))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return nil
}

func valueError(format string, args ...any) error {
	return &control.Exception{Class: "builtins.ValueError", Args: control.Tuple{fmt.Sprintf(format, args...)}}
}

// jailNames are the jails of the plan and those that were added and not started, sorted. The
// jail of manual bans is shown while it has any, so that counts agree with a configuration
// that does not know it.
func (d *Daemon) jailNames(figures []jail.Status) []string {
	var names []string
	for _, f := range figures {
		if f.Jail != jail.Manual || f.Banned > 0 {
			names = append(names, f.Jail)
		}
	}
	d.live.mu.Lock()
	for name := range d.live.added {
		names = append(names, name)
	}
	d.live.mu.Unlock()
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *Daemon) fail2banStatus(ctx context.Context, w words) (any, error) {
	figures, err := d.jails.Status(ctx)
	if err != nil {
		return nil, err
	}
	if len(w.list) > 3 {
		return nil, control.Invalid("Invalid command (no status)")
	}
	flavour := "basic"
	if len(w.list) > 2 {
		flavour, _ = w.at(2)
	}
	names := d.jailNames(figures)
	all := control.List{control.Tuple{"Number of jail", len(names)}, control.Tuple{"Jail list", strings.Join(names, ", ")}}
	if len(w.list) == 1 {
		return all, nil
	}
	if w.is(1, "--all") {
		jails := control.Dict{}
		for _, name := range names {
			st, err := d.jailStatus(ctx, figures, name, flavour)
			if err != nil {
				return nil, err
			}
			jails = append(jails, control.Entry{Key: name, Value: st})
		}
		return append(all, jails), nil
	}
	name, _ := w.at(1) // it is there
	return d.jailStatus(ctx, figures, name, flavour)
}

// jailStatus is one jail in a flavour of the status.
func (d *Daemon) jailStatus(ctx context.Context, figures []jail.Status, name, flavour string) (any, error) {
	c, err := d.jail(name)
	if err != nil {
		return nil, err
	}
	var f jail.Status
	if at := slices.IndexFunc(figures, func(f jail.Status) bool { return f.Jail == name }); at >= 0 {
		f = figures[at]
	}
	if flavour == "stats" {
		return d.statsOf(c, f), nil
	}
	filter := control.List{
		control.Tuple{"Currently failed", f.Failing},
		control.Tuple{"Total failed", int64(f.Failures)},
	}
	if d.reads(name, c) == journalBackend {
		filter = append(filter, control.Tuple{"Journal matches", journalMatches(c)})
	} else {
		filter = append(filter, control.Tuple{"File list", logFiles(c)})
	}
	actions := control.List{control.Tuple{"Currently banned", f.Banned}, control.Tuple{"Total banned", int64(f.Bans)}}
	switch flavour {
	case "short":
	default:
		if flavour != "basic" && flavour != "cymru" {
			d.log.Warn("unknown flavour of a status; taken as basic", "jail", name, "flavour", flavour)
		}
		ids, err := d.bannedIn(ctx, name)
		if err != nil {
			return nil, err
		}
		actions = append(actions, control.Tuple{"Banned IP list", ids})
		if flavour == "cymru" { // the service is not asked: see docs/differences.md
			for _, list := range []string{"ASN", "Country", "RIR"} {
				actions = append(actions, control.Tuple{"Banned " + list + " list", []string{"error"}})
			}
		}
	}
	return control.List{control.Tuple{"Filter", filter}, control.Tuple{"Actions", actions}}, nil
}

func (d *Daemon) stats(ctx context.Context) (any, error) {
	figures, err := d.jails.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := control.Dict{}
	for _, name := range d.jailNames(figures) {
		st, err := d.jailStatus(ctx, figures, name, "stats")
		if err != nil {
			return nil, err
		}
		out = append(out, control.Entry{Key: name, Value: st})
	}
	return out, nil
}

func (d *Daemon) statsOf(c *config.Jail, f jail.Status) any {
	return control.List{
		d.reads(c.Name, c),
		control.Tuple{f.Failing, int64(f.Failures)},
		control.Tuple{f.Banned, int64(f.Bans)},
	}
}

// flushLogs opens the log file anew, as after a rotation.
func (d *Daemon) flushLogs() string {
	rolled, _ := d.live.writes.flush() // the log says how it went
	if rolled {
		return "rolled over"
	}
	return "flushed"
}

// fail2banReload is the reload of one jail or of all. The list of commands that the
// original's client sends along is not looked at: the configuration is read here, checked,
// and put to work as a whole or not at all.
func (d *Daemon) fail2banReload(ctx context.Context, w words) (any, error) {
	name, err := w.at(1)
	if err != nil {
		return nil, err
	}
	var options []string
	if len(w.list) > 2 {
		if list, ok := w.list[2].(control.List); ok {
			options = words{list: list}.from(0)
		}
	}
	if slices.Contains(options, "--unban") {
		if err := d.unbanJail(ctx, name); err != nil {
			return nil, err
		}
	}
	if name == "--all" {
		d.live.mu.Lock()
		clear(d.live.added)
		d.live.mu.Unlock()
		d.idle.wakeAll()
		if _, err := d.Reload(ctx, control.None{}); err != nil {
			return nil, err
		}
		return "OK", nil
	}
	return "OK", d.reloadJail(ctx, name, slices.Contains(options, "--if-exists"))
}

// unbanJail lifts the bans of a jail, or of all.
func (d *Daemon) unbanJail(ctx context.Context, name string) error {
	if name == "--all" {
		name = ""
	} else if _, err := d.jail(name); err != nil {
		return nil // reloading it says so
	}
	_, err := d.lift(ctx, control.UnbanRequest{Jail: name, All: true})
	return err
}
