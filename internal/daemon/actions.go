package daemon

import (
	"context"
	"net"
	"os"
	"time"

	"bantam"
	"bantam/internal/action"
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

// restores are decisions that make running bans known to an action that is new.
func restores(bans []bantam.Ban) []bantam.Decision {
	out := make([]bantam.Decision, len(bans))
	for i, b := range bans {
		out[i] = bantam.Decision{Kind: bantam.Restore, Ban: b}
	}
	return out
}
