package daemon

import (
	"context"
	"errors"
	"io/fs"

	"bantam/internal/control"
	"bantam/internal/firewall"
)

// Clear takes out of the kernel what daemons that have ended left there: Bantam's own table, and
// the sets, chains and rules of the stock actions that the configuration names. What commands of
// actions have made only a daemon takes back.
//
// Beside another Bantam nothing is touched, and the error is one of a conflict; beside Fail2Ban
// only Bantam's own table is, since the other objects may be Fail2Ban's. A configuration that
// cannot be read does not keep the table. It is no error if there is nothing.
func Clear(ctx context.Context, folder string, library fs.FS) error {
	p, wrong := makePlan(folder, library)
	stock := wrong == nil
	if stock {
		if err := alone(p.config.Daemon, p.config.Daemon.PIDFile); err != nil {
			var refused *control.Error
			if !errors.As(err, &refused) || refused.Hint != wayOn[fail2Ban] {
				return err
			}
			stock = false
		}
	}
	nft, err := firewall.OpenNFTables(firewall.Options{})
	if err != nil {
		if errors.Is(err, firewall.ErrUnsupported) {
			err = nil
		}
	} else {
		err = errors.Join(nft.Remove(), nft.Close())
	}
	if stock && !errors.Is(err, firewall.ErrPrivilege) {
		natives := p.natives
		for i := range natives {
			natives[i].Eager = false // what does not stand is not made
		}
		s := firewall.OpenStock(firewall.StockOptions{})
		err = errors.Join(err, s.Configure(ctx, natives, nil), s.Remove(ctx), s.Close())
	}
	return errors.Join(err, wrong)
}
