package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/firewall"
	"bantam/internal/store"
	"bantam/internal/whois"
)

// world is what actions may ask about beyond a decision.
func (d *Daemon) world(p *plan) *action.World {
	return &action.World{
		Log:      d.log,
		History:  history{d.store},
		Counts:   d.counts,
		Resolver: resolver,
		Place:    d.places.Place,
		Whois:    d.lookupNetwork,
		Contacts: func(ctx context.Context, addr netip.Addr) ([]string, error) {
			return d.contacts(ctx, addr, []string{whois.DNS, whois.RDAP, whois.WHOIS})
		},
		NoIPv6: !hasIPv6(p.config.Daemon.AllowIPv6),
		BanTime: func(name string) time.Duration {
			for _, j := range d.plan.Load().jails {
				if j.Name == name {
					return j.BanTime
				}
			}
			return 0
		},
	}
}

// history tells actions of earlier bans.
type history struct{ store *store.Store }

func (h history) Past(ctx context.Context, jail string, id bantam.ID) (lines []string, failures int, err error) {
	m, err := h.store.Merged(ctx, jail, id)
	return m.Lines, m.Failures, err
}

// hasIPv6 is what allowipv6 comes to on this machine.
func hasIPv6(allow string) bool {
	if allow != "auto" {
		return allow == "yes"
	}
	_, err := os.Stat("/proc/net/if_inet6") // there unless the kernel has none
	return err == nil
}

// counts are a jail's figures.
func (d *Daemon) counts(ctx context.Context, name string) (action.Counts, error) {
	figures, err := d.jails.Status(ctx)
	for _, f := range figures {
		if f.Jail == name {
			return action.Counts{Banned: uint64(f.Banned), BannedTotal: f.Bans, Found: uint64(f.Failing), FoundTotal: f.Failures}, err
		}
	}
	return action.Counts{}, err
}

// newRules are the rules of jails that had none before.
func newRules(before, now []firewall.Rule) (rules []firewall.Rule) {
	for _, r := range now {
		if !slices.ContainsFunc(before, func(b firewall.Rule) bool { return b.Jail == r.Jail }) {
			rules = append(rules, r)
		}
	}
	return rules
}

func jailsOf(rules []firewall.Rule) (jails []string) {
	for _, r := range rules {
		jails = append(jails, r.Jail)
	}
	return jails
}

// newNatives are the jails with an action that they did not have before, or not so.
func newNatives(before, now []firewall.Native) (jails []string) {
	for _, n := range now {
		same := func(b firewall.Native) bool { return reflect.DeepEqual(b, n) }
		if !slices.ContainsFunc(before, same) && !slices.Contains(jails, n.Jail) {
			jails = append(jails, n.Jail)
		}
	}
	return jails
}

// running are the bans of some jails that run now, as decisions.
func (d *Daemon) running(ctx context.Context, jails []string) (out []bantam.Decision, err error) {
	if len(jails) == 0 {
		return nil, nil
	}
	bans, err := d.jails.Bans(ctx, "", bantam.ID{})
	if err != nil {
		return nil, err
	}
	for _, b := range bans {
		if slices.Contains(jails, b.Jail) {
			out = append(out, bantam.Decision{Kind: bantam.Restore, Ban: b, At: time.Now()})
		}
	}
	return out, nil
}

// resolver asks for names as Go does by itself, and breaks off when whoever asks gives up. Go's own lookups of texts and of
// an address's names look at the deadline alone: a stop would wait for a name server that is silent.
var resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = conn.Close() }) // ctx ends with the question; it may be closed already
	}
	return conn, err
}}
