// Package daemon builds the pipeline out of a configuration, keeps it running, and
// owns reload and shutdown. Everything else is its parts.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/filter"
	"bantam/internal/firewall"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/machine"
	"bantam/internal/source"
	"bantam/internal/store"
)

// drain is how long a stop waits for what was decided to be carried out.
const drain = 5 * time.Second

// Options say where things are.
type Options struct {
	// Config is the folder of the configuration, "" for the library alone.
	Config string
	// Find, if not nil, says in place of Config which folder it is. It is asked at the start and at each reload, so
	// that one which has come about since is found.
	Find    func() string
	Library fs.FS
	Socket  string // of the API
	PIDFile string // "" for what the configuration says
	Stderr  io.Writer
	Stdout  io.Writer // where logtarget STDOUT goes; nil for the process' own
	// Override is what counts in place of what fail2ban.conf says.
	Override Override
	// DropPrivileges gives up, for the whole process and for good, what a daemon does not need
	// whose jails run no commands.
	DropPrivileges bool
	// ObserveUntilSetup has all jails observe as long as there is no folder.
	ObserveUntilSetup bool
}

// A Daemon is one configuration at work. New builds it, Run runs it.
type Daemon struct {
	options Options
	log     *slog.Logger
	since   time.Time

	server  *control.Server
	store   *store.Store
	wall    *wall
	guard   *firewall.Guard
	stock   *firewall.Stock // objects of stock actions
	lookup  *lookup.Lookup
	places  *geo.Databases
	machine machine.Machine // whose sessions are looked at
	// administrators are who may administrate it, nil as long as that is not known; inJournal is true if the journal is to
	// be asked who did.
	administrators atomic.Pointer[machine.Administrators]
	inJournal      bool
	logins         jail.Logins // who administrates it
	jails          *jail.Jails
	sources        *source.Sources
	actions        *action.Actions
	database       string
	locked         *os.File // the database's lock
	pidFile        string
	fail2ban       *control.Fail2Ban // nil if nobody is answered there
	telling        telling
	idle           *idle
	live           live
	events         events
	lastBans       map[string]bantam.ID // of each jail, before the start
	service        *service

	privileges atomic.Pointer[string] // for the status

	filters atomic.Pointer[map[string]*filter.Rules]

	reloading sync.Mutex    // one reload or change of the allow list at a time
	judging   chan struct{} // holds a token while lines are judged for somebody
	plan      atomic.Pointer[plan]
	trial     *trial

	stop  context.CancelCauseFunc
	unban atomic.Bool // the stop takes the bans out of the kernel
}

// New checks the configuration, opens the socket, the database and the firewall, and
// puts the bans of the last run back into the kernel. When it fails nothing is
// left open.
func New(ctx context.Context, o Options) (*Daemon, error) {
	d := &Daemon{options: o, since: time.Now(), idle: newIdle(), wall: newWall(), trial: newTrial(), judging: make(chan struct{}, 1)}
	p, err := d.makePlan()
	if err != nil {
		return nil, err
	}
	if len(p.jails) == 1 && len(p.aside) > 0 {
		return nil, noJail(p)
	}
	d.pidFile = cmp.Or(o.PIDFile, p.config.Daemon.PIDFile)
	d.live.added = map[string]*config.Jail{}
	d.plan.Store(p)
	d.filters.Store(&p.filters)
	if d.log, d.live.writes, err = openLog(&p.config.Daemon, cmp.Or[io.Writer](o.Stdout, os.Stdout), o.Stderr); err != nil {
		return nil, err
	}
	d.idle.found = func(f *bantam.Failure, how string) { d.live.writes.found(f, how); d.eventFound(f, how) }
	d.service = newService(d.log, os.Getenv)
	d.tellStart(p)
	for _, a := range p.aside {
		d.log.Error("jail set aside", "jail", a.jail, "err", a.err)
	}
	if err := d.open(ctx, p); err != nil {
		if d.server != nil {
			err = errors.Join(err, d.server.Close())
		}
		if d.fail2ban != nil {
			err = errors.Join(err, d.fail2ban.Close())
		}
		return nil, errors.Join(err, d.close())
	}
	d.handle()
	return d, nil
}

// open opens what a daemon has only one of, and fills the stages.
func (d *Daemon) open(ctx context.Context, p *plan) (err error) {
	if d.server, err = control.Listen(d.options.Socket); err != nil {
		return err
	}
	d.share(p)
	if err = d.openFail2Ban(p); err != nil {
		return err
	}
	if err = alone(p.config.Daemon, d.pidFile); err != nil {
		return err
	}
	if d.database = p.config.Daemon.DBFile; d.database == ":memory:" {
		d.database = ""
	}
	if d.locked, err = lockDatabase(d.database, nil); err != nil {
		return err
	}
	if d.store, err = p.storeConfig(d.database).Open(ctx, part(d.log, "database")); err != nil {
		return &control.Error{Text: err.Error(), Hint: store.Hint(err)}
	}
	if d.locked, err = lockDatabase(d.database, d.locked); err != nil { // it may be a new one
		return err
	}
	d.log.Info("database opened", "path", cmp.Or(d.database, ":memory:"))
	if err := d.openWall(p); err != nil {
		return err
	}
	return d.build(ctx, p)
}

// share lets the group that the configuration names read through the API.
func (d *Daemon) share(p *plan) {
	gid := -1
	var err error
	if name := p.config.Daemon.APIGroup; name != "" {
		gid, err = config.GroupID(name)
	}
	if err == nil {
		err = d.server.Share(gid)
	} else {
		err = errors.Join(err, d.server.Share(-1))
	}
	if err != nil {
		d.log.Error("only root can read through the API", "err", err)
	}
}

// noJail is the error of a configuration of which no jail can run.
func noJail(p *plan) error {
	var errs []error
	for _, a := range p.aside {
		errs = append(errs, fmt.Errorf("[%s] %w", a.jail, a.err))
	}
	return &control.Error{
		Text: fmt.Sprintf("no jail can run:\n%v", errors.Join(errs...)),
		Hint: "bantam check shows all that is wrong, with file and line",
	}
}

// build makes the stages and fills them with what the last run left.
func (d *Daemon) build(ctx context.Context, p *plan) error {
	d.askBy(p)
	allowed, err := d.store.Allowed(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	state := jail.NewState()
	state.Configure(p.jails, now)
	if err := d.store.Counts(ctx, state.Remember); err != nil {
		return err
	}
	seed, err := d.store.Seed(ctx)
	if err != nil {
		return err
	}
	state.Seed(seed)
	d.places = geo.Open(part(d.log, "server"), nil)
	d.usePlaces(p)
	state.UseCountries(countryOf(d.places))
	d.inJournal = d.findLogins(ctx, p)
	state.UseLogins(&d.logins)
	restored, err := d.restore(ctx, p, state, now)
	if err != nil {
		return err
	}
	d.jails = jail.New(state)
	d.lookup = lookup.New(part(d.log, "filter"), net.DefaultResolver)
	d.lookup.UseCommands(d.world(p))
	d.lookup.UsePlaces(d.places)
	d.lookup.Configure(p.ignore...)
	d.lookup.SetAllow(store.Prefixes(allowed))
	d.guard = firewall.NewGuard(part(d.log, "actions"), d.wall)
	if err := d.guard.Configure(ctx, p.blocking(), store.Prefixes(allowed), restored); err != nil {
		return err
	}
	d.actions = action.New(part(d.log, "actions"), map[string]action.Effect{"bantam": d.guard})
	d.stock = firewall.OpenStock(firewall.StockOptions{Log: d.log})
	if err := d.stock.Configure(ctx, p.natives, restored); err != nil {
		d.log.Error("not all objects of the firewall could be made; they are tried again", "err", err)
	}
	d.actions.Assign(d.natives(p))
	if _, err := d.actions.Configure(d.world(p), p.actions, restored); err != nil {
		return err
	}
	d.tellJails(p)
	d.lastBans = map[string]bantam.ID{}
	for _, r := range restored { // the oldest first
		d.tell(r)
		d.lastBans[r.Ban.Jail] = r.Ban.ID
	}
	d.openTelling(ctx, p)
	d.lookup.WhenIgnored(func(f *bantam.Failure) { d.actions.Ignored(f); d.eventIgnored(f) })
	d.sources = source.New(part(d.log, "filter"), d.judge)
	resume, err := d.resume(ctx)
	if err != nil {
		return err
	}
	return d.sources.Configure(p.sources, resume)
}

// restore puts the bans of the last run into the state, and returns them to be carried out. There may be a million;
// what is told of them only the commands of a jail use. Where all only observe nobody is banned for real any more.
func (d *Daemon) restore(ctx context.Context, p *plan, state *jail.State, now time.Time) (restored []bantam.Decision, err error) {
	tells := map[string]bool{}
	for i := range p.actions {
		tells[p.actions[i].Jail] = true
	}
	observes, undone := p.observes(), false
	err = d.store.EachBan(ctx, now, func(b bantam.Ban, n int) {
		if restored == nil {
			restored = make([]bantam.Decision, 0, n)
		}
		if observes && !b.Observed {
			b.Observed, undone = true, true
		}
		if r, ok := state.Restore(b, now); ok {
			if !tells[b.Jail] {
				r.Ban.Lines, r.Ban.User, r.Ban.Data = nil, "", nil
			}
			restored = append(restored, r)
		}
	})
	if undone {
		d.forgetKernel()
	}
	return restored, err
}

// natives are the effects of the jails that have objects of stock actions.
func (d *Daemon) natives(p *plan) map[string]action.Effect {
	effects := map[string]action.Effect{}
	for _, n := range p.natives {
		effects[n.Jail] = d.stock // the queue has the jail's decisions alone
	}
	return effects
}

// judge makes the filter of the jails that share a source.
func (d *Daemon) judge(_ string, jails []string) source.Judge {
	filters := *d.filters.Load()
	rules := make([]*filter.Rules, 0, len(jails))
	for _, name := range jails {
		if r := filters[name]; r != nil {
			rules = append(rules, r)
		}
	}
	return d.noticing(filter.New(rules...), rules)
}

// resume looks up how far each jail had read each source.
func (d *Daemon) resume(ctx context.Context) (func(jail, source string) (bantam.Position, bool), error) {
	positions, err := d.store.Positions(ctx)
	if err != nil {
		return nil, err
	}
	return func(jail, source string) (bantam.Position, bool) {
		p, ok := positions[jail][source]
		return p, ok
	}, nil
}

// Run moves lines to effects until ctx ends or somebody asks for a stop, then drains
// what was already read. It is called once.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, d.stop = context.WithCancelCause(ctx)
	defer d.stop(nil)
	d.writePID()
	failures := make(chan bantam.Failure, 256)
	known := make(chan bantam.Failure, 256)
	awake := make(chan bantam.Failure, 256)
	decisions := make(chan bantam.Decision, 256)
	told := make(chan bantam.Decision, 256)
	stored := make(chan []bantam.Decision, 8)

	// Requests are answered until the last decision is carried out, so that whoever
	// asked for a stop can see when it has happened.
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	var answering errgroup.Group
	answering.Go(func() error { return d.stopOnError(d.server.Run(serving)) })
	answering.Go(func() error { return d.stopOnError(d.serveFail2Ban(serving)) })

	defer keepLean()()
	endLog := d.live.writes.start(drain)
	var g errgroup.Group
	g.Go(func() error { defer close(failures); return d.stopOnError(d.sources.Run(ctx, failures)) })
	g.Go(func() error { d.lookup.Run(failures, known); return nil })
	g.Go(func() error { d.idle.run(known, awake); return nil })
	g.Go(func() error { d.jails.Run(awake, decisions); return nil })
	g.Go(func() error { d.note(decisions, told); return nil })
	g.Go(func() error { d.store.Run(told, stored); return nil })
	g.Go(func() error { d.actions.Run(stored, drain); return nil })
	g.Go(func() error { return d.runTelling(ctx) })
	g.Go(func() error { d.liftRestored(ctx); return nil })
	g.Go(func() error { d.places.Run(ctx); return nil })
	g.Go(func() error { d.purge(ctx); return nil })
	g.Go(func() error { d.watchSessions(ctx); return nil })
	if d.inJournal {
		g.Go(func() error { d.findJournalLogins(ctx); return nil })
	}
	g.Go(func() error { d.watch(ctx); return nil })
	g.Go(func() error { d.runTrials(ctx); return nil })
	g.Go(func() error { d.watchFaults(ctx); return nil })
	g.Go(func() error {
		d.attend(ctx, d.pulse(func() bool { return len(failures) == cap(failures) }))
		return nil
	})
	g.Go(func() error {
		if err := forgetStart(); err != nil {
			d.log.Debug("what the start has used stays in memory", "err", err)
		}
		return nil
	})
	err := g.Wait()
	d.tellStopped()
	d.events.close()
	endLog()
	err = errors.Join(err, d.store.SavePositions(d.jails.Positions()), d.close())
	served()
	return errors.Join(err, answering.Wait())
}

// stopOnError ends the daemon if a part of it cannot go on.
func (d *Daemon) stopOnError(err error) error {
	if err != nil {
		d.stop(err)
	}
	return err
}

// note writes every decision to the log on its way to the store.
func (d *Daemon) note(in <-chan bantam.Decision, out chan<- bantam.Decision) {
	defer close(out)
	for decision := range in {
		d.tell(decision)
		d.eventDecided(&decision)
		out <- decision
	}
}

// storeConfig is what the store needs to know of a plan.
func (p *plan) storeConfig(path string) store.Config {
	return store.Config{
		Path: path, MaxMatches: p.config.Daemon.DBMaxMatches, PurgeAge: p.config.Daemon.DBPurgeAge,
		BanTime: func(name string) time.Duration {
			for _, j := range p.jails {
				if j.Name == name {
					return j.BanTime
				}
			}
			return 10 * time.Minute
		},
	}
}

// purge forgets, once an hour, what is older than dbpurgeage.
func (d *Daemon) purge(ctx context.Context) {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		select {
		case now := <-hourly.C:
			if n, err := d.store.Purge(ctx, now.Add(-d.store.PurgeAge())); err != nil {
				d.log.Warn("cannot purge the database", "err", err)
			} else if n > 0 {
				d.log.Info("old bans forgotten", "bans", n)
			}
		case <-ctx.Done():
			return
		}
	}
}

// writePID says where the daemon is. Nothing depends on the file, so a place that
// cannot be written is only told. Neither a link nor a pipe that somebody has put there is followed or waited for.
func (d *Daemon) writePID() {
	if d.pidFile == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(d.pidFile), 0o755)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(d.pidFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	}
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		d.log.Warn("cannot write the pid file", "err", err)
		d.pidFile = ""
	}
}

// close puts away what New opened, but for the socket. Bans stay in the kernel
// unless the stop was to lift them.
func (d *Daemon) close() error {
	var errs []error
	if d.pidFile != "" {
		if err := os.Remove(d.pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if d.stock != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		end := d.stock.Leave
		if d.unban.Load() {
			end = d.stock.Remove
		}
		errs = append(errs, end(ctx), d.stock.Close())
	}
	if d.unban.Load() {
		errs = append(errs, d.wall.Remove())
	}
	errs = append(errs, d.wall.Close())
	if d.store != nil {
		errs = append(errs, d.store.Close())
		d.log.Info("database closed")
	}
	if d.locked != nil {
		errs = append(errs, d.locked.Close())
	}
	d.log.Info("stopped")
	errs = append(errs, d.live.writes.close())
	return errors.Join(errs...)
}

// prefixes is the allow list as the firewall and lookup want it.
func (d *Daemon) prefixes(ctx context.Context) ([]netip.Prefix, []store.Allowed, error) {
	allowed, err := d.store.Allowed(ctx)
	return store.Prefixes(allowed), allowed, err
}
