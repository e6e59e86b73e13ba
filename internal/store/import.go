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
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String() + "?mode=ro&_pragma=busy_timeout(5000)&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)"
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
	version, table, err := tableOfBans(ctx, db)
	if err != nil {
		return err
	}
	columns := "CAST(bantime AS REAL), CAST(bancount AS REAL)"
	if version < 3 { // a ban had no length and no count
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

// tableOfBans is the version of Fail2Ban's tables, and which of them has the last ban of each ID. A file that somebody
// made to be read may have a view without end under their names, or columns that are worked out to gigabytes: only
// tables that hold what they show are read.
func tableOfBans(ctx context.Context, db *sql.DB) (version int, table string, err error) {
	err = plainTable(ctx, db, "fail2banDb", "version")
	if err == nil {
		var odd bool
		err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM fail2banDb WHERE typeof(version) NOT IN ('integer', 'null'))`).Scan(&odd)
		if err == nil && odd {
			err = errors.New("its version is no number")
		}
	}
	if err == nil {
		version, err = peerVersionOf(ctx, db)
	}
	if table = "bips"; version < 4 { // which had it first
		table = "bans"
	}
	wanted := []string{"ip", "jail", "timeofban", "data"}
	if version >= 3 {
		wanted = append(wanted, "bantime", "bancount")
	}
	if err == nil {
		err = plainTable(ctx, db, table, wanted...)
	}
	if err != nil && !errors.Is(err, ErrNewerVersion) {
		err = fmt.Errorf("%w: %w", ErrNoBans, err)
	}
	return version, table, err
}

// plainTable returns an error unless a table of that name is kept in the file with these columns, none of which is
// worked out when it is read (sqlite.org/schematab.html, sqlite.org/gencol.html).
func plainTable(ctx context.Context, db *sql.DB, name string, columns ...string) error {
	var kept bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? AND rootpage > 0)`, name).Scan(&kept); err != nil {
		return err
	}
	if !kept {
		return fmt.Errorf("it has no table %s", name)
	}
	for _, column := range columns {
		var there bool
		if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?) WHERE name = ? COLLATE NOCASE AND hidden = 0)`, name, column).Scan(&there); err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("its table %s has no column %s", name, column)
		}
	}
	return nil
}
