package ruleset

import "context"

func (r *Ruleset) readLegacy(ctx context.Context) error { return nil }
