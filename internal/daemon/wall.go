package daemon

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"sync/atomic"

	"bantam/internal/control"
	"bantam/internal/firewall"
)

// A wall is the firewall, which a daemon that only observes opens when it begins to ban. Until then it is as one
// that holds nothing and wants nothing. It is safe for concurrent use, but for open.
type wall struct {
	nft    atomic.Pointer[firewall.NFTables]
	opened chan struct{} // closed once it is open
}

func newWall() *wall { return &wall{opened: make(chan struct{})} }

// openWall opens the firewall if a plan needs it and it is not open yet. The caller holds reloading, or nothing runs yet.
func (d *Daemon) openWall(p *plan) error {
	if p.observes() || d.wall.nft.Load() != nil {
		return nil
	}
	nft, err := firewall.OpenNFTables(firewall.Options{Log: part(d.log, "actions")})
	if errors.Is(err, firewall.ErrPrivilege) {
		return &control.Error{Text: err.Error(), Hint: "start it as root, or write observe = true to decide without banning"}
	}
	if err != nil {
		return err
	}
	d.wall.nft.Store(nft)
	close(d.wall.opened)
	return nil
}

func (w *wall) Sync(ctx context.Context, rules []firewall.Rule, allow []netip.Prefix, bans iter.Seq[firewall.Element]) error {
	if nft := w.nft.Load(); nft != nil {
		return nft.Sync(ctx, rules, allow, bans)
	}
	return nil
}

func (w *wall) Apply(changes []firewall.Change) error {
	if nft := w.nft.Load(); nft != nil {
		return nft.Apply(changes)
	}
	return nil
}

func (w *wall) SetAllow(allow []netip.Prefix) error {
	if nft := w.nft.Load(); nft != nil {
		return nft.SetAllow(allow)
	}
	return nil
}

func (w *wall) Stands() (bool, error) {
	if nft := w.nft.Load(); nft != nil {
		return nft.Stands()
	}
	return false, nil
}

func (w *wall) Remove() error {
	if nft := w.nft.Load(); nft != nil {
		return nft.Remove()
	}
	return nil
}

func (w *wall) Close() error {
	if nft := w.nft.Load(); nft != nil {
		return nft.Close()
	}
	return nil
}

// forgetKernel takes out of the kernel what a run that was killed has left there, for a daemon that only observes.
func (d *Daemon) forgetKernel() {
	nft, err := firewall.OpenNFTables(firewall.Options{Log: part(d.log, "actions")})
	if err == nil {
		stands := false
		if stands, err = nft.Stands(); err == nil && stands {
			err = nft.Remove()
		}
		err = errors.Join(err, nft.Close())
	}
	if err != nil {
		d.log.Warn("bans of the last run may stay in the kernel until they end, though this one only observes", "err", err)
	}
}
