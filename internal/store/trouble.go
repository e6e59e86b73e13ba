package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrLocked is wrapped by Open's error for a file that another program kept locked.
var ErrLocked = errors.New("another program keeps it locked")

// errDamaged is wrapped by the error for a file that is no whole database.
var errDamaged = errors.New("the database is damaged")

// checkedAtMost is up to which size, in bytes, a file is looked through for damage before
// it is used: it takes a second for each 200 MB. In larger ones damage shows where it is met.
const checkedAtMost = 32 << 20

// Hint says how to go on after an error of Open.
func Hint(err error) string {
	switch {
	case errors.Is(err, ErrNewerVersion):
		return "start the newer version again, put a copy from before it in its place, or name another file as dbfile"
	case errors.Is(err, ErrLocked):
		return "is Fail2Ban still running on it? stop that first; fuser shows who has the file open"
	case errors.Is(err, os.ErrPermission):
		return "start it as root, or name a file as dbfile that this user may write"
	}
	return "move the file away to start with an empty one, or name another as dbfile"
}

// resultOf is SQLite's primary result code of an error, 0 if it is none of SQLite's.
func resultOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isConstraint(err error) bool { return resultOf(err) == sqlite3.SQLITE_CONSTRAINT }

func isLocked(err error) bool { return resultOf(err) == sqlite3.SQLITE_BUSY }

// isDamaged reports whether the file is no database, or not a whole one.
func isDamaged(err error) bool {
	code := resultOf(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB || errors.Is(err, errDamaged)
}

// check looks through a small file for damage.
func (s *Store) check(ctx context.Context) error {
	info, err := os.Stat(s.path)
	if s.path == "" || err != nil || info.Size() > checkedAtMost {
		return nil
	}
	var found string
	if err := s.db.QueryRowContext(calm(ctx), `PRAGMA quick_check(1)`).Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("%w: %.200s", errDamaged, found)
	}
	return nil
}

// looksLikeDatabase reports whether a damaged file is meant to be a database, by its first
// bytes or its name. Anything else is somebody's file that dbfile names by mistake.
func looksLikeDatabase(path string) bool {
	if slices.Contains([]string{".db", ".sqlite", ".sqlite3"}, strings.ToLower(filepath.Ext(path))) {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 16)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "SQLite format 3\x00"
}

// setAside moves a damaged file out of the way, and what belongs to it.
func setAside(path string) (aside string, err error) {
	aside = setAsideName(path, time.Now())
	if _, err := os.Lstat(aside); err == nil {
		return "", fmt.Errorf("set %s aside: %s is there already", path, aside)
	}
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	for _, more := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Rename(path+more, aside+more); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return aside, nil
}

// salvaged are the tables, and their columns, that are copied out of a damaged file.
var salvaged = []struct{ table, columns, order string }{
	{"bantam_allow", "prefix, reason, added", "prefix"},
	{"bantam_ban", "jail, id, time, until, failures, count, made_by, reason, user, observed, lines, data, ended, cause, forgiven", "jail, id, time"},
	{"bantam_position", "jail, source, mark, offset, time", "jail, source"},
	{"jails", "name, enabled", "rowid"},
	{"bips", "jail, ip, timeofban, bantime, bancount, data", "rowid"},
	{"bans", "jail, ip, timeofban, bantime, bancount, data", "rowid"},
	{"logs", "jail, path, firstlinemd5, lastfilepos", "rowid"},
	{"bantam_news", "reader, number, jail, id, time, until, kind, at, cause", "reader, number"},
	{"bantam_letter", "number, key, channel, about, made, due, tries, err, failed, body", "number"},
	{"bantam_note", "owner, key, at, value", "owner, key"},
}

// salvage copies out of a damaged file what can still be read, from both ends of each
// table up to the damage, and returns how many rows that was.
func (s *Store) salvage(ctx context.Context, aside string) (copied int64, err error) {
	old, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: aside}).String()+"?_pragma=query_only(1)")
	if err != nil {
		return 0, err
	}
	defer old.Close()
	err = s.inTx(func(st *statements) error {
		var seed []byte
		if old.QueryRowContext(ctx, `SELECT seed FROM bantam_meta`).Scan(&seed) == nil && len(seed) > 0 {
			if err := st.exec(`UPDATE bantam_meta SET seed = ?`, seed); err != nil {
				return err
			}
		}
		for _, t := range salvaged {
			n := strings.Count(t.columns, ",") + 1
			insert := `INSERT OR IGNORE INTO ` + t.table + ` (` + t.columns + `) VALUES (?` + strings.Repeat(`,?`, n-1) + `)`
			if t.table == "bans" { // it has no key by which a row is known to be there
				insert = `INSERT INTO bans (` + t.columns + `) SELECT ?1, ?2, ?3, ?4, ?5, ?6
					WHERE NOT EXISTS (SELECT 1 FROM bans WHERE ip = ?2 AND jail = ?1 AND timeofban = ?3)`
			}
			backwards := strings.ReplaceAll(t.order, ",", " DESC,") + " DESC"
			for _, order := range []string{t.order, backwards} {
				n, err := salvageTable(ctx, st, old, `SELECT `+t.columns+` FROM `+t.table+` ORDER BY `+order, insert, n)
				copied += n
				if err == nil {
					break
				}
				if !errors.Is(err, errUnread) {
					return err
				}
			}
		}
		return st.query(ctx, `SELECT max(?, coalesce(max(number), 0)) FROM bantam_news`, []any{s.number},
			func(rows *sql.Rows) error { return rows.Scan(&s.number) })
	})
	if err != nil {
		return 0, err
	}
	return copied, s.reconcile(ctx, false, time.Now())
}

// errUnread is wrapped by salvageTable's error when the table was not read to its end.
var errUnread = errors.New("not read to its end")

func salvageTable(ctx context.Context, st *statements, old *sql.DB, query, insert string, columns int) (copied int64, err error) {
	rows, err := old.QueryContext(ctx, query)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errUnread, err)
	}
	defer rows.Close()
	values, into := make([]any, columns), make([]any, columns)
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return copied, fmt.Errorf("%w: %w", errUnread, err)
		}
		n, err := st.count(insert, values...)
		if err != nil && !isConstraint(err) {
			return copied, err
		}
		copied += n
	}
	if err := rows.Err(); err != nil {
		return copied, fmt.Errorf("%w: %w", errUnread, err)
	}
	return copied, nil
}
