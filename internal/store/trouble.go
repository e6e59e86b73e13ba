package store

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// resultOf is SQLite's primary result code of an error, 0 if it is none of SQLite's.
func resultOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isConstraint(err error) bool { return resultOf(err) == sqlite3.SQLITE_CONSTRAINT }

// isDamaged reports whether the file is no database, or not a whole one.
func isDamaged(err error) bool {
	code := resultOf(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}
