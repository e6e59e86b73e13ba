package daemon

import (
	"context"
	"net"
	"os"
	"slices"
	"time"

	"bantam/internal/action"
	"bantam/internal/firewall"
)

// world is what actions may ask about beyond a decision.
func (d *Daemon) world(p *plan) *action.World {
	return &action.World{
		Log:      d.log,
		History:  d.store,
		Counts:   d.counts,
		Resolver: net.DefaultResolver,
		NoIPv6:   !hasIPv6(p.config.Daemon.AllowIPv6),
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

// newRules are the jails that now have a rule and had none.
func newRules(before, now []firewall.Rule) (jails []string) {
	for _, r := range now {
		if !slices.ContainsFunc(before, func(b firewall.Rule) bool { return b.Jail == r.Jail }) {
			jails = append(jails, r.Jail)
		}
	}
	return jails
}
