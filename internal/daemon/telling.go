package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/notify"
	"bantam/internal/outbox"
	"bantam/internal/report"
	"bantam/internal/smtp"
	"bantam/internal/store"
	"bantam/internal/whois"
)

// askHostname is how long the machine's own whole name may be looked for, where somebody is told of bans.
const askHostname = time.Second

// telling is what tells operators and the world of bans. Nothing of it stands in a ban's way: it
// reads what the store has kept.
type telling struct {
	box     *outbox.Outbox
	desk    *notify.Desk
	reports *report.Desk
	whois   atomic.Pointer[asker]
}

// An asker asks about networks.
type asker struct {
	zone string
	*whois.Client
}

// askBy has networks asked about as a plan says.
func (d *Daemon) askBy(p *plan) {
	if now := d.telling.whois.Load(); now != nil && now.zone == p.config.Daemon.AbuseZone {
		return // it remembers answers
	}
	c := whois.Config{Zone: p.config.Daemon.AbuseZone, Resolver: resolver, Cache: whoisCache{d.store}, Log: part(d.log, "whois")}
	d.telling.whois.Store(&asker{c.Zone, whois.New(c)})
}

// lookupNetwork and contacts ask about the network of an address.
func (d *Daemon) lookupNetwork(ctx context.Context, addr netip.Addr) (whois.Answer, error) {
	return d.telling.whois.Load().Lookup(ctx, addr)
}

func (d *Daemon) contacts(ctx context.Context, addr netip.Addr, ways []string) ([]string, error) {
	return d.telling.whois.Load().Contacts(ctx, addr, ways)
}

// openTelling makes what tells of bans, without a channel.
func (d *Daemon) openTelling(ctx context.Context, p *plan) {
	t := &d.telling
	world := d.world(p)
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	// Where nobody is told nobody waits for a name server; who is told from a reload on hears the short name.
	if tell, reports := p.config.Channels(); len(tell)+len(reports) > 0 {
		asking, cancel := context.WithTimeout(ctx, askHostname)
		defer cancel()
		host = world.Hostname(asking)
	}
	t.box = outbox.New(part(d.log, "outbox"), d.store)
	t.desk = notify.New(part(d.log, "notify"), t.box, notify.World{Host: host, Values: world.Values, Place: d.places.Place, Whois: d.lookupNetwork})
	t.reports = report.New(part(d.log, "report"), t.box, report.World{
		Host: host, Values: d.guarded(world), Whois: d.lookupNetwork, Contacts: d.contacts, Spoofable: d.spoofable,
		Bans:      d.store.History,
		Transport: func(c smtp.Config) (smtp.Transport, error) { return c.Open(part(d.log, "report")) },
	})
	d.store.WhenNews(func() { t.desk.Wake(); t.reports.Wake() })
	d.tellBy(p)
}

// tellBy has bans told by the channels of a plan. What cannot be told is no reason not to ban.
func (d *Daemon) tellBy(p *plan) {
	t := &d.telling
	d.askBy(p)
	tell, reports := p.config.Channels()
	if err := t.desk.Configure(tell); err != nil {
		d.log.Error("operators are not told of bans as configured", "err", err)
	}
	if err := t.reports.Configure(reports); err != nil {
		d.log.Error("bans are not reported as configured", "err", err)
	}
	readers, senders := t.desk.Readers(), t.desk.Senders()
	maps.Copy(readers, t.reports.Readers())
	maps.Copy(senders, t.reports.Senders())
	d.store.Follow(readers)
	t.box.Configure(senders)
}

// runTelling tells of jails that start, of bans until ctx ends, and then of jails that stop, for at most drain.
func (d *Daemon) runTelling(ctx context.Context) error {
	t := &d.telling
	sending, sent := context.WithCancel(context.WithoutCancel(ctx))
	defer sent()
	var g errgroup.Group
	g.Go(func() error { return t.box.Run(sending) })
	g.Go(func() error { return t.desk.Run(ctx) })
	g.Go(func() error { return t.reports.Run(ctx) })
	d.announce(jailsBeside(d.plan.Load(), nil), nil)
	<-ctx.Done()
	if t.desk.Wants(notify.OnStop) {
		d.announce(nil, jailsBeside(d.plan.Load(), nil))
		t.flush(drain)
	}
	sent()
	return g.Wait()
}

// announce tells of jails that have started and stopped.
func (d *Daemon) announce(started, stopped []string) {
	if t := &d.telling; len(started) > 0 && t.desk.Wants(notify.OnStart) || len(stopped) > 0 && t.desk.Wants(notify.OnStop) {
		t.desk.Announce(started, stopped)
	}
}

// jailsBeside are the jails of a plan that another, which may be nil, has not; but for that of bans by hand.
func jailsBeside(p, other *plan) (names []string) {
	for _, j := range p.jails {
		if j.Name != jail.Manual && (other == nil || !other.runs(j.Name)) {
			names = append(names, j.Name)
		}
	}
	return names
}

// flush waits until no letter waits to be delivered, for at most so long.
func (t *telling) flush(most time.Duration) {
	over := time.NewTimer(most)
	defer over.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for slices.ContainsFunc(t.box.Queue(), func(l outbox.Letter) bool { return !l.Failed && l.Tries == 0 }) {
		select {
		case <-look.C:
		case <-over.C:
			return
		}
	}
}

// spoofable reports whether attackers of a jail may have written a false address: what it guards is
// reached by UDP alone.
func (d *Daemon) spoofable(name string) bool {
	v, ok := d.plan.Load().config.Value(name, "protocol")
	return ok && strings.EqualFold(strings.TrimSpace(v.Text), "udp") || d.guards(name, "protocol") == "udp"
}

// guards is what the actions of a jail say of the ports and protocols that it guards, "" if they do not say
// the same.
func (d *Daemon) guards(name, param string) (said string) {
	for _, j := range d.plan.Load().config.Jails {
		if j.Name != name {
			continue
		}
		for i := range j.Actions {
			v := strings.ToLower(strings.TrimSpace(j.Actions[i].Params[param]))
			if v != "" && said != "" && v != said {
				return ""
			}
			said = cmp.Or(said, v)
		}
	}
	return said
}

// allPorts are how jails say that they guard all.
var allPorts = []string{"0:65535", "1:65535"}

// guarded knows beside the tags of a decision which port and protocol its jail guards.
func (d *Daemon) guarded(world *action.World) func(context.Context, *bantam.Decision) func(string) (string, bool) {
	return func(ctx context.Context, decision *bantam.Decision) func(string) (string, bool) {
		value := world.Values(ctx, decision)
		return func(tag string) (string, bool) {
			if tag != "port" && tag != "protocol" {
				return value(tag)
			}
			v := d.guards(decision.Ban.Jail, tag)
			return v, v != "" && !slices.Contains(allPorts, v)
		}
	}
}

// whoisCache keeps answers about networks in the database.
type whoisCache struct{ store *store.Store }

const whoisNotes = "whois"

func (c whoisCache) Note(ctx context.Context, key string) ([]byte, time.Time, error) {
	return c.store.Note(ctx, whoisNotes, key)
}

func (c whoisCache) SetNote(ctx context.Context, key string, value []byte) error {
	return c.store.Commit(ctx, whoisNotes, outbox.Batch{Notes: map[string][]byte{key: value}})
}

func (d *Daemon) channels(context.Context, control.None) (control.Channels, error) {
	return control.Channels{Channels: d.telling.desk.Channels(), Letters: d.telling.box.Queue()}, nil
}

func (d *Daemon) testChannel(ctx context.Context, r control.ChannelRequest) (none control.None, err error) {
	err = d.telling.desk.Test(ctx, r.Channel)
	if errors.Is(err, notify.ErrNoChannel) {
		return none, control.Refuse(d.channelHint(), "there is no channel %q", r.Channel)
	}
	if err != nil {
		return none, &control.Error{Text: fmt.Sprintf("%s does not deliver: %v", r.Channel, err)}
	}
	return none, nil
}

// channelHint names the channels.
func (d *Daemon) channelHint() string {
	var names []string
	for _, c := range d.telling.desk.Channels() {
		names = append(names, c.Channel)
	}
	if len(names) == 0 {
		return `no jail tells anybody; add a line to its action, as in: action = %(action_)s and below it smtp[to=you@example.org, relay=…]`
	}
	return "there are " + strings.Join(names, ", ")
}

func (d *Daemon) letter(ctx context.Context, r control.LetterRequest) (none control.None, err error) {
	do := d.telling.box.Retry
	if r.Drop {
		do = d.telling.box.Drop
	}
	err = do(ctx, r.Key)
	if errors.Is(err, outbox.ErrNoLetter) || errors.Is(err, outbox.ErrNoChannel) {
		return none, control.Refuse("bantam notify queue shows what waits", "%v", err)
	}
	return none, err
}

func (d *Daemon) reported(ctx context.Context, _ control.None) (control.Reports, error) {
	sent, err := d.telling.reports.List(ctx)
	return control.Reports{Reports: sent}, err
}

func (d *Daemon) previewReport(ctx context.Context, r control.ReportRequest) (control.ReportPreview, error) {
	text, err := d.telling.reports.Preview(ctx, r.Channel, r.ID)
	return control.ReportPreview{Text: string(text)}, reportError(err)
}

func (d *Daemon) sendReport(ctx context.Context, r control.ReportRequest) (control.ReportReply, error) {
	sent, err := d.telling.reports.Send(ctx, r.Channel, r.ID, r.Force)
	return control.ReportReply{Report: sent}, reportError(err)
}

// reportError says how to go on.
func reportError(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, report.ErrNoChannel):
		hint = `add a line to a jail's action, as in: abuse[from=abuse@example.org]`
	case errors.Is(err, report.ErrNoBan):
		hint = "only what was banned by a jail that reports can be reported; bantam report list shows what was"
	case errors.Is(err, report.ErrHeld):
		hint = "--force sends it all the same"
	case errors.Is(err, report.ErrNoContact):
		hint = "bantam report preview shows what is known of its network"
	default:
		return err
	}
	return control.Refuse(hint, "%v", err)
}

// tellProblems are what would keep messages and reports from going out, as far as this machine knows without asking anybody.
func tellProblems(c *config.Config) (problems []config.Problem) {
	doubt := func(channel string, jails []string, text, hint string) {
		p := config.Problem{Jail: jails[0], Key: "action", Text: channel + ": " + text, Hint: hint, Warning: true}
		if v, ok := c.Value(jails[0], "action"); ok {
			p.File, p.Line = v.File, v.Line
		}
		problems = append(problems, p)
	}
	ready := func(channel string, jails []string, via smtp.Config) {
		if err := via.Check(); err != nil {
			doubt(channel, jails, err.Error(), "what is to be sent waits until then; bantam notify queue shows it")
		}
	}
	tell, reports := c.Channels()
	for _, n := range tell {
		if n.Mail.Kind == "" {
			continue
		}
		ready(n.Channel, n.Jails, n.Mail)
		if at := slices.IndexFunc(n.To, local); at >= 0 && n.Mail.Kind != smtp.MTA {
			doubt(n.Channel, n.Jails, fmt.Sprintf("nobody outside this machine can deliver mail to %q", n.To[at]), "write destemail = you@example.org in [DEFAULT], or to=you@example.org")
		}
	}
	for _, r := range reports {
		if r.Kind == report.Abuse {
			ready(r.Channel, r.Jails, r.Via)
			if local(r.From) {
				doubt(r.Channel, r.Jails, fmt.Sprintf("no abuse desk can answer %q", r.From), "write sender = abuse@example.org in [DEFAULT], or from=abuse@example.org")
			}
		}
	}
	return problems
}

// local reports whether a mail address means somebody of the machine that reads it.
func local(address string) bool {
	a, err := smtp.Address(address)
	if err != nil {
		return false // which config has told
	}
	_, host, _ := strings.Cut(a.Address, "@")
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasPrefix(host, "localhost.")
}
