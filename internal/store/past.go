package store

import (
	"context"
	"database/sql"

	"bantam"
)

// maxPast is how many lines of earlier bans are told.
const maxPast = 100

// Past is what the remembered bans of an ID come to, running or over, in one jail or, if
// jail is empty, in all: their last lines, oldest first, at most 100, and the failures of all. A ban
// without failures counts as one. Observed bans are left out.
func (s *Store) Past(ctx context.Context, jail string, id bantam.ID) (past []string, failures int, err error) {
	var n int
	var text sql.NullString
	err = s.query(ctx, `SELECT failures, lines FROM bantam_ban
		WHERE id = ? AND (? = '' OR jail = ?) AND NOT observed ORDER BY time`, []any{id.String(), jail, jail},
		[]any{&n, &text}, func() error {
			var own []string
			decode(text, &own)
			past = append(past, own...)
			past = past[max(0, len(past)-maxPast):]
			failures += max(n, 1)
			return nil
		})
	return past, failures, err
}
