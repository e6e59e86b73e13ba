// Package doctor looks whether a Bantam really works: the daemon and what it reads, the clock, the database, what the
// kernel does with packets of the banned, who is told, and the configuration. What it finds is ok, wrong, or doubtful,
// each with its cause and a way on.
//
// It changes nothing unless it is asked to: Prove bans an address that belongs to nobody for a moment, Fix carries out
// the few repairs that cannot hurt. A file of the operator's and a rule of another program are never touched. It works
// without a daemon and without privilege, and says what it could not see.
//
// How things are shown is left to the command line. Texts may hold what attackers wrote: they are not fit for a
// terminal as they are.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/machine"
)

// A State is what a look at one thing has found.
type State string

// The states.
const (
	OK       State = "ok"
	Wrong    State = "wrong"    // somebody is not kept out, or not told, or soon will not be
	Doubtful State = "doubtful" // it may be meant so, or could not be seen
)

// Groups of checks, in the order in which they are made and shown.
const (
	Daemon        = "daemon"
	Sources       = "sources"
	Time          = "time"
	Database      = "database"
	Firewall      = "firewall"
	Telling       = "telling"
	Configuration = "configuration"
)

var groups = []string{Daemon, Sources, Time, Database, Firewall, Telling, Configuration}

// A Check is one thing that was looked at, and what came of it.
type Check struct {
	Group string `json:"group"`
	State State  `json:"state"`
	Text  string `json:"text"`
	// Fix is a way on: what the operator can do about it.
	Fix string `json:"fix,omitempty"`
	// Repair is what Fix does about it, or has done, if it can; Repaired says which.
	Repair   string `json:"repair,omitempty"`
	Repaired bool   `json:"repaired,omitempty"`

	repair func(context.Context) error
}

// A Report is everything that was found, by group.
type Report struct {
	Checks   []Check `json:"checks"`
	Wrong    int     `json:"wrong"`
	Doubtful int     `json:"doubtful"`
}

// Options say what to look at.
type Options struct {
	// Config is the folder of the configuration, "" for the library alone. Named is true if the operator named
	// it; otherwise a running daemon's own counts.
	Config  string
	Named   bool
	Library fs.FS
	Socket  string
	// Address is whose ban is to be proved; the zero Addr proves one of each jail and family.
	Address netip.Addr
	// Prove bans a test address for some seconds if there is no ban to prove.
	Prove bool
	// Fix carries out the repairs.
	Fix bool
	// Machine is the one to look at.
	Machine machine.Machine
}

// How long all of it may take, and the daemon's answers: what has not answered by then is told as such.
const (
	patience = time.Minute
	answers  = 10 * time.Second
)

// An examination is one look at everything, in progress.
type examination struct {
	Options
	now    time.Time // wall time
	client *control.Client

	running  bool // the daemon answers
	closed   bool // it does not answer this user
	status   control.Status
	bans     []bantam.Ban
	allowed  []netip.Prefix
	channels control.Channels

	config   *config.Config // nil if it cannot be read
	problems []config.Problem
	wrong    error // why it cannot be read

	// undated and skewed are jails of which it was told that their lines bear no date, or a wrong one.
	undated, skewed map[string]bool

	group  string
	checks []Check
}

func newExamination(o Options) *examination {
	return &examination{
		Options: o, now: time.Now(), client: control.NewClient(o.Socket),
		undated: map[string]bool{}, skewed: map[string]bool{},
	}
}

// Examine looks at everything. What cannot be looked at is a check of its own, so that there is no error. It takes a
// minute at most, and a second or two as a rule.
func Examine(ctx context.Context, o Options) Report {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e := newExamination(o)
	for _, look := range []struct {
		group string
		at    func(context.Context)
	}{
		{Daemon, e.lookAtDaemon},
		{Sources, e.lookAtSources},
		{Time, e.lookAtTime},
		{Database, e.lookAtDatabase},
		{Firewall, e.lookAtFirewall},
		{Telling, e.lookAtTelling},
		{Configuration, e.lookAtConfiguration},
	} {
		e.group = look.group
		look.at(ctx)
	}
	return e.report(ctx)
}

// report repairs what is to be repaired, and counts.
func (e *examination) report(ctx context.Context) Report {
	slices.SortStableFunc(e.checks, func(a, b Check) int {
		return cmp.Compare(slices.Index(groups, a.Group), slices.Index(groups, b.Group))
	})
	r := Report{Checks: e.checks}
	for i := range r.Checks {
		c := &r.Checks[i]
		if e.Fix && c.repair != nil {
			if err := c.repair(ctx); err != nil {
				c.Text += "; --fix could not: " + err.Error()
			} else {
				c.Repaired = true
			}
		}
		switch {
		case c.Repaired:
		case c.State == Wrong:
			r.Wrong++
		case c.State == Doubtful:
			r.Doubtful++
		}
	}
	return r
}

func (e *examination) add(state State, fix, format string, args ...any) *Check {
	e.checks = append(e.checks, Check{Group: e.group, State: state, Fix: fix, Text: fmt.Sprintf(format, args...)})
	return &e.checks[len(e.checks)-1]
}

func (e *examination) ok(format string, args ...any) { e.add(OK, "", format, args...) }

// fault and doubt take the way on first, as control.Refuse does.
func (e *examination) fault(fix, format string, args ...any) *Check {
	return e.add(Wrong, fix, format, args...)
}

func (e *examination) doubt(fix, format string, args ...any) *Check {
	return e.add(Doubtful, fix, format, args...)
}

// unseen tells what could not be looked at; without privilege that is the reason.
func (e *examination) unseen(what string, err error) {
	if isPrivilege(err) {
		e.doubt("sudo bantam doctor", "%s cannot be seen without privilege", what)
		return
	}
	e.doubt("", "%s cannot be seen: %v", what, err)
}

func isPrivilege(err error) bool { return errors.Is(err, fs.ErrPermission) }

// fixes notes on a check what Fix does about it.
func (c *Check) fixes(what string, how func(context.Context) error) { c.Repair, c.repair = what, how }

// lookAtDaemon asks the daemon everything that the others need, and how it is.
func (e *examination) lookAtDaemon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	status, err := control.Call(ctx, e.client, control.GetStatus, control.None{})
	folder := e.Config
	switch refused, is := errors.AsType[*control.Error](err); {
	case err == nil:
		e.running, e.status = true, status
		if !e.Named {
			folder = status.Config
		}
		e.lookAtRunning(ctx)
	case errors.Is(err, control.ErrNotRunning):
		e.lookAtSocket()
	case is:
		e.closed = true
		e.doubt(refused.Hint, "the daemon does not tell: %v", err)
	case ctx.Err() != nil:
		e.fault("sudo systemctl restart bantam; journalctl -u bantam shows what it said last", "the daemon hangs: no answer within %s", answers)
	default:
		e.fault("journalctl -u bantam shows what it says", "the daemon does not answer: %v", err)
	}
	e.config, e.problems, e.wrong = daemon.Check(folder, e.Library)
	e.group = Daemon
	if e.running && e.Named && status.Config != e.Config {
		e.doubt("leave out -c to see what runs", "the daemon runs with %s, and this looks at %s",
			cmp.Or(status.Config, "the library"), cmp.Or(e.Config, "the library"))
	}
	e.lookAtCommands()
	e.lookForOthers()
}
