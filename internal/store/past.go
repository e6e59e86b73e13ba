package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"bantam"
)

// Bounds of what Past reads: each question holds the one connection for some milliseconds, and a ban waits for
// one of them at most.
const (
	pastAtOnce = 4096    // keys in one question
	mostPast   = 1000    // bans in one answer
	mostLooked = 200_000 // keys that are looked at to count those that fit
)

// A PastBan is a ban as it is remembered, with how it ended.
type PastBan struct {
	bantam.Ban
	// Ended is when it ended, wall time; zero while it runs.
	Ended time.Time `json:"ended,omitzero"`
	// Cause is why it ended, one of bantam's causes; empty while it runs.
	Cause string `json:"cause,omitempty"`
}

// A PastKey names a ban that is remembered.
type PastKey struct {
	Time time.Time `json:"time"`
	Jail string    `json:"jail"`
	ID   bantam.ID `json:"id"`
}

// A PastQuery says which bans are wanted; its zero value wants all.
type PastQuery struct {
	Jail string
	// ID wants its own bans, those of what lies inside it, and, of a single address, those of the prefixes
	// around it.
	ID bantam.ID
	// Since and Until bound when the bans began, event time: from Since on, before Until. Zero is no bound.
	Since, Until time.Time
	// Keep chooses among the rest; nil keeps all. It must not use the store.
	Keep func(bantam.ID) bool
	// After is the last ban of the answer before, whose continuation is wanted; the zero key is none.
	After PastKey
	Limit int // at most 1000
}

// A Past is an answer.
type Past struct {
	Bans []PastBan // the newest first
	// Fitting is how many bans fit in all, Least is true if there may be more. The continuation of an answer does not
	// count again: of it Fitting is what it has, and one more if more follows.
	Fitting int
	Least   bool
}

// Past are the bans that are remembered, running ones too, the newest first.
func (s *Store) Past(ctx context.Context, q PastQuery) (p Past, err error) {
	since, at := int64(math.MinInt64), PastKey{}
	if !q.Since.IsZero() {
		since = micros(q.Since)
	}
	before, jail, id := int64(math.MaxInt64), "", ""
	if !q.Until.IsZero() {
		before = micros(q.Until)
	}
	if after := q.After; !after.Time.IsZero() && micros(after.Time) <= before {
		before, jail, id = micros(after.Time), after.Jail, after.ID.String()
	}
	limit := max(1, min(q.Limit, mostPast))
	single := false
	if prefix, ok := q.ID.Prefix(); ok {
		single = prefix.IsSingleIP()
	}
	for looked := 0; ; {
		var found []PastKey
		n := 0
		var us int64
		var text string
		err := s.query(ctx, `SELECT time, jail, id FROM bantam_ban WHERE (time, jail, id) < (?, ?, ?) AND time >= ?
			ORDER BY time DESC, jail DESC, id DESC LIMIT ?`, []any{before, jail, id, since, pastAtOnce},
			[]any{&us, &at.Jail, &text}, func() error {
				n++
				before, jail, id = us, at.Jail, text
				if err := at.ID.UnmarshalText([]byte(text)); err != nil {
					return err
				}
				switch {
				case q.Jail != "" && at.Jail != q.Jail:
				case !q.ID.IsZero() && !q.ID.Contains(at.ID) && !(single && at.ID.Contains(q.ID)):
				case q.Keep != nil && !q.Keep(at.ID):
				default:
					if p.Fitting++; p.Fitting <= limit {
						at.Time = fromMicros(us)
						found = append(found, at)
					}
				}
				return nil
			})
		if err != nil {
			return p, err
		}
		if p.Bans, err = s.pastBans(ctx, p.Bans, found); err != nil {
			return p, err
		}
		if p.Fitting > limit && !q.After.Time.IsZero() {
			p.Fitting, p.Least = limit+1, true
			return p, nil
		}
		if looked += n; n < pastAtOnce {
			return p, nil
		}
		// As long as the answer is not full it is looked for, however many are passed over.
		if looked >= mostLooked && p.Fitting >= limit {
			p.Least = true
			return p, nil
		}
	}
}

// pastBans adds the bans of some keys to a list, but for those that have been forgotten meanwhile.
func (s *Store) pastBans(ctx context.Context, out []PastBan, keys []PastKey) (_ []PastBan, err error) {
	if len(keys) == 0 {
		return out, nil
	}
	stmt, err := s.db.PrepareContext(calm(ctx), `SELECT ended, cause, jail, id, time, until, failures, count, made_by, reason, user, observed, lines, data
		FROM bantam_ban WHERE jail = ? AND id = ? AND time = ?`)
	if err != nil {
		return out, fmt.Errorf("read bans of the past: %w", err)
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()
	for _, key := range keys {
		if out, err = appendPast(ctx, out, stmt, key); err != nil {
			return out, fmt.Errorf("read the ban of %s in %s: %w", key.ID, key.Jail, err)
		}
	}
	return out, nil
}

func appendPast(ctx context.Context, out []PastBan, stmt *sql.Stmt, key PastKey) (_ []PastBan, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	rows, err := stmt.QueryContext(calm(ctx), key.Jail, key.ID.String(), micros(key.Time))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if rows.Next() {
		var b PastBan
		var ended sql.NullInt64
		var cause sql.NullString
		if b.Ban, err = scanBan(rows, &ended, &cause); err != nil {
			return out, err
		}
		b.Ended, b.Cause = fromMicros(ended.Int64), cause.String
		out = append(out, b)
	}
	return out, rows.Err()
}
