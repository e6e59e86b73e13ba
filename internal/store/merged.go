package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"bantam"
)

// A Merged is all that is remembered of an ID, for the tags <ipmatches>, <ipfailures> and
// their like for one jail.
type Merged struct {
	Bans     int               // how many bans it is made of; 0 if there are none
	Failures int               // of all of them; a ban that tells none counts as one
	Lines    []string          // the last MaxMatches, oldest first; attacker's text
	User     string            // of the oldest that has one; attacker's text
	Data     map[string]string // named groups; those of older bans win, as in Fail2Ban
}

// Merged puts together the bans of an ID, in one jail, or in all if jail is empty. It reads
// Fail2Ban's table of them, so bans that an operator lifted are not among them, nor those
// that only observe, nor those that Purge has forgotten.
func (s *Store) Merged(ctx context.Context, jail string, id bantam.ID) (m Merged, err error) {
	query, args := `SELECT CAST(data AS BLOB) FROM bans WHERE ip = ?`, []any{id.String()}
	if jail != "" {
		query, args = query+` AND jail = ?`, append(args, jail)
	}
	most := s.MaxMatches()
	var data sql.RawBytes
	err = s.query(ctx, query+` ORDER BY timeofban DESC, rowid DESC`, args, []any{&data}, func() error {
		b := bantam.Ban{Failures: -1}
		readPeerData(&b, data)
		m.Bans++
		if b.Failures < 0 {
			b.Failures = 1
		}
		m.Failures += b.Failures
		if room := most - len(m.Lines); room > 0 {
			m.Lines = slices.Concat(b.Lines[max(0, len(b.Lines)-room):], m.Lines)
		}
		if b.User != "" {
			m.User = b.User
		}
		for key, value := range b.Data {
			if m.Data == nil {
				m.Data = map[string]string{}
			}
			m.Data[key] = value
		}
		return nil
	})
	if err != nil {
		return Merged{}, fmt.Errorf("put together the bans of %s: %w", id, err)
	}
	return m, nil
}
