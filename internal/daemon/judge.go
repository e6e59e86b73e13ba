package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/filter"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/internal/source"
)

// mostJudged is how many lines are judged in one request, askHost how long a host name in them may take, and askHosts
// all that is asked of other machines for them.
const (
	mostJudged = 1000
	askHost    = 3 * time.Second
	askHosts   = 10 * time.Second
)

// A judge says what would become of lines, by a plan. It counts nothing, and asks no ignorecommand.
type judge struct {
	plan   *plan
	lookup *lookup.Lookup
	places *geo.Databases
	// try is what a failure would do; ok is false if its jail does not run.
	try func(context.Context, bantam.Failure) (t jail.Trial, ok bool, err error)
	// resolve is the addresses of a name.
	resolve func(context.Context, string) ([]bantam.ID, error)
}

func (d *Daemon) judgeLines(ctx context.Context, r control.JudgeRequest) (control.JudgeReply, error) {
	select { // the expressions of all jails are made ready for it: once at a time is enough
	case d.judging <- struct{}{}:
	case <-ctx.Done():
		return control.JudgeReply{}, ctx.Err()
	}
	defer func() { <-d.judging }()
	j := judge{d.plan.Load(), d.lookup, d.places, d.jails.Try, resolveHost}
	lines, err := j.lines(ctx, r)
	return control.JudgeReply{Lines: lines, Daemon: true}, err
}

// JudgeLines says what would become of lines by the configuration in dir, "" for the library alone, where no daemon
// runs: nobody has failed or is banned before.
func JudgeLines(ctx context.Context, dir string, library fs.FS, r control.JudgeRequest) (control.JudgeReply, error) {
	p, err := makePlan(dir, library)
	if err != nil {
		return control.JudgeReply{}, err
	}
	quiet := slog.New(slog.DiscardHandler)
	places := geo.Open(quiet, p.config.Daemon.GeoDB)
	rules := lookup.New(quiet, net.DefaultResolver)
	rules.UsePlaces(places)
	rules.Configure(p.ignore...)
	state := jail.NewState()
	state.Configure(p.jails, time.Now())
	j := judge{p, rules, places, func(_ context.Context, f bantam.Failure) (jail.Trial, bool, error) {
		t, ok := state.Try(f)
		return t, ok, nil
	}, resolveHost}
	lines, err := j.lines(ctx, r)
	return control.JudgeReply{Lines: lines}, err
}

func resolveHost(ctx context.Context, host string) (ids []bantam.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, askHost)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, a := range addrs {
		ids = append(ids, bantam.AddrID(a.Unmap().WithZone("")))
	}
	return ids, err
}

// lines judges lines one after the other: what one tells of a session the next ones know.
func (j *judge) lines(ctx context.Context, r control.JudgeRequest) ([]control.JudgedLine, error) {
	if len(r.Lines) > mostJudged {
		return nil, control.Refuse("ask in parts", "%d lines are more than the %d that are judged at once", len(r.Lines), mostJudged)
	}
	for _, name := range r.Jails {
		if !j.plan.runs(name) && j.plan.whyAside(name) == nil {
			return nil, control.Refuse("bantam status lists the jails", "there is no jail %q", name)
		}
	}
	wanted := func(name string) bool {
		return name != jail.Manual && (len(r.Jails) == 0 || slices.Contains(r.Jails, name))
	}
	var jails []*config.Jail
	var rules []*filter.Rules
	for i := range j.plan.config.Jails {
		c := &j.plan.config.Jails[i]
		if f := j.plan.filters[c.Name]; f != nil && wanted(c.Name) {
			jails, rules = append(jails, c), append(rules, f)
		}
	}
	asking, cancel := context.WithTimeout(ctx, askHosts)
	defer cancel()
	trial := filter.NewTrial(filter.TrialOptions{Lines: true, Prefixes: true}, rules...)
	out := []control.JudgedLine{}
	for _, text := range r.Lines {
		if text = strings.TrimRight(text, "\r\n"); len(text) > source.MaxLine {
			text = text[:source.MaxLine]
		}
		one := control.JudgedLine{Line: text, Jails: []control.Judged{}}
		now := time.Now()
		outcomes := trial.Try(&bantam.Line{Text: []byte(text), Read: now, Live: true})
		for i, c := range jails {
			judged, err := j.judge(ctx, asking, c, &outcomes[i], now)
			if err != nil {
				return nil, err
			}
			one.Jails = append(one.Jails, judged)
		}
		for _, a := range j.plan.aside {
			if wanted(a.jail) {
				one.Jails = append(one.Jails, control.Judged{Jail: a.jail, Stage: control.StageAside, Text: a.err.Error()})
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// rule is an expression of a jail's filter; n is its number from 1 on, 0 for the prefregex.
func ruleOf(c *config.Jail, option string, n int) *control.Rule {
	var exprs []string
	switch option {
	case "failregex":
		exprs = c.Filter.Failregex
	case "ignoreregex":
		exprs = c.Filter.Ignoreregex
	default:
		exprs = []string{c.Filter.Prefregex}
	}
	rule := &control.Rule{Option: option}
	if n > 0 {
		rule.Option = fmt.Sprintf("%s %d", option, n)
	}
	if at := max(n, 1) - 1; at < len(exprs) {
		rule.Expression = exprs[at]
	}
	if file, line, ok := c.Place(option, n); ok {
		rule.File, rule.Line = file, line
	}
	return rule
}

// judge is what a jail makes of a line that its filter has judged; asking ends what is asked of other machines.
func (j *judge) judge(ctx, asking context.Context, c *config.Jail, o *filter.Outcome, now time.Time) (out control.Judged, err error) {
	out = control.Judged{Jail: c.Name, Undated: !o.Dated && c.Source.Backend != source.Systemd}
	switch {
	case o.Ignored > 0:
		out.Stage, out.Rule = control.StageIgnoreregex, ruleOf(c, "ignoreregex", o.Ignored)
		return out, nil
	case len(o.Hits) > 0:
	case c.Filter.Prefregex != "" && !o.Prefixed:
		out.Stage, out.Rule = control.StagePrefregex, ruleOf(c, "prefregex", 0)
	default:
		out.Stage, out.Tried = control.StageFailregex, len(c.Filter.Failregex)
	}
	if len(o.Hits) == 0 {
		if out.Undated && !o.Prefixed {
			out.Stage = control.StageDate
		}
		return out, nil
	}
	h := &o.Hits[0]
	out.Rule, out.Host, out.Time = ruleOf(c, "failregex", h.Regex), h.Host, h.Time
	out.User, out.Data = h.Get("user"), h.Data()
	if h.Quiet || h.Waits {
		out.Stage = control.StageSession
		return out, nil
	}
	ids := []bantam.ID{}
	switch id, wrong := bantam.ParsePrefix(h.Host); {
	case h.Host == "":
	case !h.Name && wrong == nil:
		ids = append(ids, id)
	case !h.Name, c.Filter.UseDNS == "raw":
		ids = append(ids, bantam.TextID(h.Host))
	case c.Filter.UseDNS == "no":
	default:
		if ids, err = j.resolve(asking, h.Host); err != nil || len(ids) == 0 {
			out.Stage, out.Text = control.StageName, "it has no address"
			var dns *net.DNSError
			if errors.As(err, &dns) {
				out.Text = dns.Err
			} else if err != nil {
				out.Text = err.Error()
			}
			return out, nil
		}
	}
	if len(ids) == 0 {
		out.Stage = control.StageNobody
		return out, nil
	}
	out.ID = ids[0]
	if prefix, ok := out.ID.Prefix(); ok {
		place, _ := j.places.Within(prefix)
		out.Country = place.Country
	}
	return out, j.follow(ctx, asking, &out, h.Regex, now)
}

// follow says what a failure by a failregex would do.
func (j *judge) follow(ctx, asking context.Context, out *control.Judged, regex int, now time.Time) error {
	asking, cancel := context.WithTimeout(asking, askNames)
	defer cancel()
	by, ignored := j.lookup.Ignored(asking, out.Jail, out.ID)
	f := bantam.Failure{Jail: out.Jail, ID: out.ID, Time: out.Time, Read: now, User: out.User, Regex: regex, Country: out.Country}
	t, ok, err := j.try(ctx, f)
	if err != nil {
		return err
	}
	if ok {
		out.Before, out.Count, out.MaxRetry, out.Again = t.Before, t.Count, t.MaxRetry, t.Again
		out.FindTime, out.BanTime, out.Observe = t.FindTime.Seconds(), t.BanTime.Seconds(), t.Observe
	}
	switch {
	case ignored:
		out.Stage, out.Text = control.StageIgnored, by
	case t.Banned != nil:
		out.Stage, out.End, out.Permanent, out.Observe = control.StageBanned, t.Banned.End, t.Banned.Permanent(), t.Banned.Observed
	case t.Old:
		out.Stage = control.StageOld
	case ok && !t.Again && t.Count >= t.MaxRetry:
		out.Stage = control.StageBans
	default:
		out.Stage = control.StageCounts
	}
	return nil
}

// matches are which expressions the kept lines of bans match, by the rules of now.
func matches(p *plan, bans []bantam.Ban) (out []control.Match) {
	const enough = 20
	for _, b := range bans {
		rules := p.filters[b.Jail]
		at := slices.IndexFunc(p.config.Jails, func(c config.Jail) bool { return c.Name == b.Jail })
		if rules == nil || at < 0 || len(out) >= enough {
			continue
		}
		trial := filter.NewTrial(filter.TrialOptions{}, rules)
		for _, line := range b.Lines {
			o := trial.Try(&bantam.Line{Text: []byte(line), Read: time.Now(), Live: true})[0]
			if len(o.Hits) > 0 && len(out) < enough {
				h := &o.Hits[0]
				out = append(out, control.Match{Jail: b.Jail, Line: line, Rule: *ruleOf(&p.config.Jails[at], "failregex", h.Regex), Data: h.Data()})
			}
		}
	}
	return out
}
