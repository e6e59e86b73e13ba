package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"bantam"
)

// ErrNoBans is wrapped by ReadBans' error for a file that is no database with bans of Fail2Ban's or Bantam's.
var ErrNoBans = errors.New("no database with bans")

// ReadBans calls f with each ban that runs at the wall time now in a database of Fail2Ban's, of any version, or of
// Bantam's, oldest first. The file is only read, and may be in use. banTime
// is how long a jail bans, for files so old that they do not say.
func ReadBans(ctx context.Context, path string, now time.Time, banTime func(jail string) time.Duration, f func(bantam.Ban) error) (err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(abs); err != nil {
		return err
	}
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String() + "?mode=ro&_pragma=busy_timeout(5000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the bans of %s: %w", path, err)
		}
		err = errors.Join(err, db.Close())
	}()
	db.SetMaxOpenConns(1)
	version, err := peerVersionOf(ctx, db)
	switch {
	case errors.Is(err, ErrNewerVersion):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoBans, err)
	case version == 0:
		return ErrNoBans
	}
	// Until version 3 a ban had no length and no count; 4 has the last ban of each ID in a table of its own.
	table, columns := "bips", "CAST(bantime AS REAL), CAST(bancount AS REAL)"
	if version < 4 {
		table = "bans"
	}
	if version < 3 {
		columns = "-2, 1"
	}
	reader := &Store{banTime: banTime}
	reader.SetMaxMatches(defaultMaxMatches)
	rows, err := db.QueryContext(ctx, `SELECT rowid, CAST(jail AS TEXT), CAST(ip AS TEXT), CAST(timeofban AS REAL), `+columns+`,
		CASE WHEN length(data) <= 1048576 THEN CAST(data AS BLOB) END FROM `+table+` WHERE ip IS NOT NULL ORDER BY timeofban`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r foreign
		var length, count sql.NullFloat64
		if err := rows.Scan(&r.row, &r.jail, &r.ip, &r.at, &length, &count, &r.data); err != nil {
			return err
		}
		if !length.Valid {
			continue // no ban at all
		}
		r.length, r.count = length.Float64, int64(min(max(count.Float64, 1), 1<<30))
		b, ok := reader.foreignBan(&r)
		if !ok || b.Expired(now) {
			continue
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return rows.Err()
}
