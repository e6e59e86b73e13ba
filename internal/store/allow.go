package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"bantam"
)

// An Allowed is a prefix that is never banned.
type Allowed struct {
	Prefix bantam.ID `json:"prefix"`
	Reason string    `json:"reason,omitempty"`
	Added  time.Time `json:"added"` // wall time
}

// Allow remembers that prefixes are never to be banned; known ones get the new
// reason. IDs that are no prefixes are an error.
func (s *Store) Allow(ids []bantam.ID, reason string, now time.Time) error {
	return s.inTx(func(st *statements) error {
		for _, id := range ids {
			if _, ok := id.Prefix(); !ok {
				return fmt.Errorf("allow %q: %w", id, bantam.ErrNotAddress)
			}
			if err := st.exec(`INSERT OR REPLACE INTO bantam_allow VALUES (?,?,?)`, id.String(), reason, micros(now)); err != nil {
				return fmt.Errorf("allow %s: %w", id, err)
			}
		}
		return nil
	})
}

// Disallow takes prefixes off the allow list and returns those that were on it.
func (s *Store) Disallow(ids []bantam.ID) (removed []bantam.ID, err error) {
	for _, id := range ids {
		res, err := s.db.Exec(`DELETE FROM bantam_allow WHERE prefix = ?`, id.String())
		if err != nil {
			return removed, fmt.Errorf("take %s off the allow list: %w", id, err)
		}
		if n, err := res.RowsAffected(); err == nil && n > 0 {
			removed = append(removed, id)
		}
	}
	return removed, nil
}

// Allowed is the allow list, in the order of the prefixes' text.
func (s *Store) Allowed(ctx context.Context) ([]Allowed, error) {
	out := []Allowed{}
	var a Allowed
	var prefix string
	var added int64
	err := s.query(ctx, `SELECT prefix, reason, added FROM bantam_allow ORDER BY prefix`, nil,
		[]any{&prefix, &a.Reason, &added}, func() error {
			a.Added = fromMicros(added)
			if err := a.Prefix.UnmarshalText([]byte(prefix)); err != nil {
				return err
			}
			out = append(out, a)
			return nil
		})
	return out, err
}

// Prefixes is the allow list as prefixes.
func Prefixes(allowed []Allowed) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(allowed))
	for _, a := range allowed {
		if p, ok := a.Prefix.Prefix(); ok {
			out = append(out, p)
		}
	}
	return out
}
