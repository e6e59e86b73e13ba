package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
)

// carryOut is how long a request waits for the kernel.
const carryOut = 10 * time.Second

// errStop is why the context ends when somebody asks for a stop.
var errStop = errors.New("asked to stop")

// handle says who answers which request.
func (d *Daemon) handle() {
	control.Handle(d.server, control.Ping, d.ping)
	control.Handle(d.server, control.GetStatus, d.status)
	control.Handle(d.server, control.GetBans, d.bans)
	control.Handle(d.server, control.GetHistory, d.history)
	control.Handle(d.server, control.GetFailing, d.failing)
	control.HandleStream(d.server, control.Watch, d.watchEvents)
	control.Handle(d.server, control.Judge, d.judgeLines)
	control.Handle(d.server, control.Import, d.importBans)
	control.Handle(d.server, control.Ban, d.ban)
	control.Handle(d.server, control.Unban, d.lift)
	control.Handle(d.server, control.Why, d.why)
	control.Handle(d.server, control.GetAllow, d.allowed)
	control.Handle(d.server, control.Allow, d.allow)
	control.Handle(d.server, control.Disallow, d.disallow)
	control.Handle(d.server, control.Reload, d.Reload)
	control.Handle(d.server, control.Enforce, d.enforce)
	control.Handle(d.server, control.Stop, d.stopRequest)
	control.Handle(d.server, control.GetChannels, d.channels)
	control.Handle(d.server, control.TestChannel, d.testChannel)
	control.Handle(d.server, control.Letter, d.letter)
	control.Handle(d.server, control.GetReports, d.reported)
	control.Handle(d.server, control.PreviewReport, d.previewReport)
	control.Handle(d.server, control.SendReport, d.sendReport)
}

func (d *Daemon) ping(context.Context, control.None) (control.Pong, error) {
	return control.Pong{Version: bantam.Version, PID: os.Getpid()}, nil
}

// Status is the state of everything.
func (d *Daemon) status(ctx context.Context, _ control.None) (control.Status, error) {
	p := d.plan.Load()
	st := control.Status{
		Version: bantam.Version, PID: os.Getpid(), Since: d.since, Config: p.config.Dir,
		Database: d.database, Memory: residentMemory(), Goroutines: runtime.NumGoroutine(),
		Jails: []control.JailStatus{}, Actions: d.actions.Status(),
	}
	if may := d.privileges.Load(); may != nil {
		st.Privileges = *may
	}
	figures, err := d.jails.Status(ctx)
	if err != nil {
		return st, err
	}
	dropped := map[string]control.Traffic{}
	st.Trial = d.trial.status()
	if nft := d.wall.nft.Load(); nft != nil && !p.observes() {
		st.Firewall = "nftables inet bantam"
		counters, err := nft.Counters()
		if err != nil {
			d.log.Warn("cannot read the counters of the firewall", "err", err)
		}
		for name, c := range counters {
			dropped[name] = control.Traffic{Packets: c.Packets, Bytes: c.Bytes}
		}
	}
	sources := d.sources.Status()
	for _, f := range figures {
		j := control.JailStatus{Status: f, Faults: p.faults(f.Jail), Stamps: p.stamps(f.Jail)}
		for _, s := range sources {
			if slices.Contains(s.Jails, f.Jail) {
				j.Sources = append(j.Sources, s)
			}
		}
		if t, ok := dropped[f.Jail]; ok {
			j.Dropped = &t
		}
		if j.LastBan.IsZero() {
			j.LastBan = d.lastBans[f.Jail]
		}
		j.LastCountry = d.countryOf(j.LastBan)
		st.Jails = append(st.Jails, j)
	}
	for _, a := range p.aside {
		st.Jails = append(st.Jails, control.JailStatus{Status: jail.Status{Jail: a.jail}, Aside: a.err.Error()})
	}
	_, allowed, err := d.prefixes(ctx)
	if err != nil {
		return st, err
	}
	st.Allowed = len(allowed)
	if st.Unsaved, err = d.store.Err(); err != nil {
		st.StoreError = err.Error()
	}
	return st, nil
}

// residentMemory is what the Go runtime has from the system, less what it gave back.
func residentMemory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

func (d *Daemon) bans(ctx context.Context, r control.BansRequest) (control.BansReply, error) {
	bans, err := d.jails.Newest(ctx, r.Jail, r.ID, r.Begin, r.Limit)
	return control.BansReply{Bans: bans}, refuse(err)
}

// why tells everything that is known of an ID.
func (d *Daemon) why(ctx context.Context, r control.WhyRequest) (reply control.WhyReply, err error) {
	if reply.Running, err = d.jails.Bans(ctx, "", r.ID); err != nil {
		return reply, err
	}
	ids := []bantam.ID{r.ID}
	for _, b := range reply.Running {
		if !slices.Contains(ids, b.ID) {
			ids = append(ids, b.ID)
		}
	}
	for _, id := range ids {
		past, err := d.store.History(ctx, id)
		if err != nil {
			return reply, err
		}
		reply.Past = append(reply.Past, past...)
	}
	slices.SortStableFunc(reply.Past, func(a, b bantam.Ban) int { return b.Time.Compare(a.Time) })
	asking, cancel := context.WithTimeout(ctx, askNames)
	defer cancel()
	reply.Ignored = map[string]string{}
	for _, j := range d.plan.Load().jails {
		if by, is := d.lookup.Ignored(asking, j.Name, r.ID); is {
			reply.Ignored[j.Name] = by
		}
	}
	if p, ok := r.ID.Prefix(); ok {
		reply.Place, _ = d.places.Within(p)
	}
	if reply.Standing, err = d.jails.Standing(ctx, r.ID); err != nil {
		return reply, err
	}
	reply.Matches = matches(d.plan.Load(), reply.Running)
	reply.Told = d.told(ctx, r.ID, reply.Running)
	return reply, nil
}

// refuse makes an unknown jail the client's mistake.
func refuse(err error) error {
	var unknown *jail.UnknownJailError
	if errors.As(err, &unknown) {
		return control.Refuse("bantam status lists the jails", "%s", unknown)
	}
	return err
}

func (d *Daemon) ban(ctx context.Context, r control.BanRequest) (control.BanReply, error) {
	var reply control.BanReply
	if _, ok := r.ID.Prefix(); !ok {
		return reply, control.Refuse("write 192.0.2.1, 2001:db8::1 or 192.0.2.0/24", "%q is %s", r.ID, bantam.ErrNotAddress)
	}
	if r.Jail == "" {
		r.Jail = jail.Manual
	}
	if p := d.plan.Load(); p.observes() {
		hint := "bantam enforce has it ban"
		if d.awaitsSetup(p) {
			hint = "sudo bantam setup has it ban"
		}
		return reply, control.Refuse(hint, "this daemon only observes")
	}
	if by, ignored := d.lookup.Ignored(ctx, r.Jail, r.ID); ignored && (!r.Force || by == "allow") {
		hint := "add --force to ban it all the same"
		if by == "allow" {
			hint = "take it off first: bantam allow remove " + r.ID.String()
		}
		return reply, control.Refuse(hint, "%s is never to be banned in %s (by %s)", r.ID, r.Jail, by)
	}
	if why, is := d.administrates(r.Jail, r.ID); is && !r.Force {
		return reply, control.Refuse("add --force to ban it all the same", "%s has %s", r.ID, why)
	}
	decision, ok, err := d.jails.Ban(ctx, r.Jail, r.ID, seconds(r.Seconds), bantam.ByOperator, r.Reason)
	if err != nil {
		return reply, refuse(err)
	}
	if !ok {
		running, err := d.jails.Bans(ctx, r.Jail, r.ID)
		if err != nil || len(running) == 0 {
			return reply, errors.Join(fmt.Errorf("the ban of %s in %s would have ended already", r.ID, r.Jail), err)
		}
		return control.BanReply{Ban: running[0], Already: true}, nil
	}
	reply.Ban = decision.Ban
	return reply, d.carriedOut(ctx, decision)
}

// seconds is a length in seconds as a duration; what is too long for one is for ever.
func seconds(s float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second)
	if s < 0 || s >= most {
		return -1
	}
	return time.Duration(s * float64(time.Second))
}

// carriedOut waits until the kernel has what was decided.
func (d *Daemon) carriedOut(ctx context.Context, decisions ...bantam.Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, carryOut)
	defer cancel()
	if err := d.actions.Settle(ctx, decisions); err != nil {
		return &control.Error{
			Text: fmt.Sprintf("decided and written down, but not carried out yet: %s", err),
			Hint: "it is tried again; bantam status shows what hangs",
		}
	}
	return nil
}

func (d *Daemon) lift(ctx context.Context, r control.UnbanRequest) (control.UnbanReply, error) {
	if r.Country != "" && r.ID.IsZero() && !r.All {
		return d.liftCountry(ctx, r)
	}
	if r.ID.IsZero() != r.All || r.Country != "" {
		return control.UnbanReply{}, control.Refuse("", "say whom to unban, or all, and not both")
	}
	decisions, err := d.liftID(ctx, r.Jail, r.ID)
	if err != nil {
		return control.UnbanReply{}, err
	}
	return control.UnbanReply{Bans: bansOf(decisions)}, d.carriedOut(ctx, decisions...)
}

// liftID decides that the bans of an ID end; zero is all.
func (d *Daemon) liftID(ctx context.Context, jail string, whom bantam.ID) ([]bantam.Decision, error) {
	decisions, err := d.jails.Unban(ctx, jail, whom, bantam.CauseOperator)
	if err != nil {
		return nil, refuse(err)
	}
	// Bans that are over are pardoned with those that run.
	forgiven := []bantam.ID{whom}
	for _, j := range d.plan.Load().jails {
		if id := whom.Widen(j.Prefix4, j.Prefix6); !slices.Contains(forgiven, id) {
			forgiven = append(forgiven, id)
		}
	}
	for _, id := range forgiven {
		if err := d.store.Pardon(ctx, jail, id, time.Now()); err != nil {
			d.log.Warn("earlier bans count again after a restart", "addr", id, "err", err)
		}
	}
	return decisions, nil
}

// liftCountry lifts the bans of a country. A ban of a prefix is where its addresses are, as far as
// they are in one country.
func (d *Daemon) liftCountry(ctx context.Context, r control.UnbanRequest) (control.UnbanReply, error) {
	if err := d.knowsCountries(); err != nil {
		return control.UnbanReply{}, err
	}
	running, err := d.jails.Bans(ctx, r.Jail, bantam.ID{})
	if err != nil {
		return control.UnbanReply{}, refuse(err)
	}
	var decisions []bantam.Decision
	lifted := map[bantam.ID]bool{}
	for i := range running {
		id := running[i].ID
		if _, is := id.Prefix(); !is || lifted[id] || !strings.EqualFold(d.countryOf(id), r.Country) {
			continue
		}
		lifted[id] = true
		more, err := d.liftID(ctx, r.Jail, id)
		decisions = append(decisions, more...)
		if err != nil {
			return control.UnbanReply{Bans: bansOf(decisions)}, err
		}
	}
	return control.UnbanReply{Bans: bansOf(decisions)}, d.carriedOut(ctx, decisions...)
}

func bansOf(decisions []bantam.Decision) []bantam.Ban {
	bans := make([]bantam.Ban, len(decisions))
	for i, decision := range decisions {
		bans[i] = decision.Ban
	}
	return bans
}

func (d *Daemon) allowed(ctx context.Context, _ control.None) (control.AllowReply, error) {
	_, allowed, err := d.prefixes(ctx)
	return control.AllowReply{Allowed: allowed}, err
}

func (d *Daemon) allow(ctx context.Context, r control.AllowRequest) (control.AllowReply, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	for _, id := range r.IDs {
		if _, ok := id.Prefix(); !ok {
			return control.AllowReply{}, control.Refuse("write 192.0.2.1, 2001:db8::1 or 192.0.2.0/24", "%q is %s", id, bantam.ErrNotAddress)
		}
	}
	if err := d.store.Allow(r.IDs, r.Reason, time.Now()); err != nil {
		return control.AllowReply{}, err
	}
	reply, err := d.applyAllow(ctx)
	if err != nil {
		return reply, err
	}
	lifted, err := d.jails.Allow(ctx, r.IDs)
	if err != nil {
		return reply, err
	}
	reply.Lifted, reply.Changed = bansOf(lifted), r.IDs
	return reply, d.carriedOut(ctx, lifted...)
}

func (d *Daemon) disallow(ctx context.Context, r control.AllowRequest) (control.AllowReply, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	removed, err := d.store.Disallow(r.IDs)
	if err != nil {
		return control.AllowReply{}, err
	}
	if len(removed) == 0 {
		var texts []string
		for _, id := range r.IDs {
			texts = append(texts, id.String())
		}
		return control.AllowReply{}, control.Refuse("bantam allow list shows what is", "%s is not on the allow list", strings.Join(texts, ", "))
	}
	reply, err := d.applyAllow(ctx)
	reply.Changed = removed
	return reply, err
}

// applyAllow brings the stored allow list to those who obey it.
func (d *Daemon) applyAllow(ctx context.Context) (control.AllowReply, error) {
	prefixes, allowed, err := d.prefixes(ctx)
	if err != nil {
		return control.AllowReply{}, err
	}
	d.lookup.SetAllow(prefixes)
	return control.AllowReply{Allowed: allowed}, errors.Join(err, d.guard.SetAllow(ctx, prefixes))
}

func (d *Daemon) stopRequest(ctx context.Context, r control.StopRequest) (control.None, error) {
	d.unban.Store(r.Unban)
	d.log.Info("asked to stop", "unban", r.Unban)
	if r.Unban {
		if bans, err := d.jails.Outlines(ctx); err == nil { // else it is stopping already
			d.tellRepealed(bans)
		}
	}
	d.stop(errStop)
	return control.None{}, nil
}

// Reopen opens the log file anew, after somebody has renamed it.
func (d *Daemon) Reopen() {
	_, _ = d.live.writes.flush() // the log says how it went
}

// Reload reads the configuration again and, if nothing in it is wrong, puts it to
// work: jails that stay keep their counts and bans. Otherwise nothing changes.
// A trial of enforcing is over with it.
func (d *Daemon) Reload(ctx context.Context, _ control.None) (reply control.ReloadReply, err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.service.reloading()
	d.log.Info("reloading")
	defer func() {
		if err != nil {
			d.log.Error("not reloaded", "err", err)
		}
		d.service.tell("READY=1", "STATUS="+d.summary(ctx))
	}()
	before := d.plan.Load()
	p, err := d.makePlan()
	if err != nil {
		return reply, unchanged(err.Error())
	}
	var wrong []string
	for _, problem := range p.problems {
		if problem.Warning {
			reply.Warnings = append(reply.Warnings, problem.String())
		} else {
			wrong = append(wrong, problem.String())
		}
	}
	if len(wrong) > 0 {
		return reply, unchanged(strings.Join(wrong, "\n"))
	}
	if err := d.openWall(p); err != nil {
		return reply, err
	}
	if at := p.config.Daemon.DBFile; at != before.config.Daemon.DBFile {
		reply.Warnings = append(reply.Warnings, fmt.Sprintf("the database stays %s until a restart, which opens %s", before.config.Daemon.DBFile, at))
	}
	if at := p.config.Daemon.Socket; at != before.config.Daemon.Socket {
		reply.Warnings = append(reply.Warnings, fmt.Sprintf("fail2ban-client is answered on %q until a restart, then on %q", before.config.Daemon.Socket, at))
	}
	if err := d.apply(ctx, p); err != nil {
		return reply, err
	}
	if p.config.Daemon.APIGroup != before.config.Daemon.APIGroup {
		d.share(p)
	}
	for _, j := range p.jails {
		reply.Jails = append(reply.Jails, j.Name)
	}
	d.trial.end()
	d.relog(&p.config.Daemon)
	d.tellPrivileges(p)
	d.tellReloaded(before, p)
	d.log.Info("reloaded", "jails", len(p.jails))
	d.eventReloaded(p)
	return reply, nil
}

func unchanged(why string) error {
	return control.Refuse("bantam check shows it all; what ran before goes on unchanged", "nothing was reloaded:\n%s", why)
}

// apply puts a plan to work in place of the running one.
func (d *Daemon) apply(ctx context.Context, p *plan) error {
	resume, err := d.resume(ctx)
	if err != nil {
		return err
	}
	bans, err := d.store.Bans(ctx, time.Now())
	if err != nil {
		return err
	}
	prefixes, _, err := d.prefixes(ctx)
	if err != nil {
		return err
	}
	// What blocks from now on has the bans before what blocked until now lets go of them.
	old := d.plan.Load()
	was, is := old.blocking(), p.blocking()
	both := append(slices.Clone(is), newRules(is, was)...)
	if err := d.guard.Configure(ctx, both, prefixes, nil); err != nil {
		return err
	}
	begun := newNatives(old.natives, p.natives)
	if err := d.jails.Repeat(ctx, jailsOf(newRules(was, is))); err != nil {
		return err
	}
	running, err := d.running(ctx, begun)
	if err != nil {
		return err
	}
	if err := d.stock.Configure(ctx, p.natives, running); err != nil {
		d.log.Error("not all objects of the firewall could be made; they are tried again", "err", err)
	}
	d.actions.Assign(d.natives(p))
	fresh, err := d.actions.Configure(d.world(p), p.actions, nil)
	if err != nil {
		return err
	}
	spared, err := d.spared(ctx)
	if err != nil {
		return err
	}
	d.filters.Store(&p.filters)
	d.usePlaces(p)
	d.lookup.Configure(p.ignore...)
	if !old.spares() { // else they are known
		d.findLogins(ctx, p)
	}
	if err := d.jails.Configure(ctx, p.jails, bans); err != nil {
		return err
	}
	d.announce(nil, jailsBeside(old, p))
	d.plan.Store(p)
	d.tellBy(p)
	d.announce(jailsBeside(p, old), nil)
	if err := d.jails.Repeat(ctx, append(fresh, begun...)); err != nil {
		return err
	}
	if len(newRules(is, was)) > 0 {
		if err := d.guard.Configure(ctx, is, prefixes, nil); err != nil {
			return err
		}
	}
	d.store.SetMaxMatches(p.config.Daemon.DBMaxMatches)
	d.store.SetPurgeAge(p.config.Daemon.DBPurgeAge)
	if err := d.sources.Configure(p.sources, resume); err != nil {
		return err
	}
	if !old.observes() && p.observes() {
		if err := d.letGo(ctx); err != nil {
			return err
		}
	}
	return d.liftIgnored(ctx, spared)
}
