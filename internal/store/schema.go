package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrNewerVersion is wrapped by Open's error for a file that a later release of Bantam,
// or of Fail2Ban, wrote.
var ErrNewerVersion = errors.New("the database was written by a newer version")

// migrations bring a database from one version to the next; version n is what
// the first n of them make. They are never changed once released, only added to.
//
// Times are microseconds of Unix time, an end of 0 means never. Fail2Ban's own
// tables, in fail2ban.go, have other names, so both programs' live in one file.
var migrations = []string{
	`CREATE TABLE bantam_ban (
		jail     TEXT    NOT NULL,
		id       TEXT    NOT NULL,
		time     INTEGER NOT NULL, -- event time of the last failure, or of the order
		until    INTEGER NOT NULL,
		failures INTEGER NOT NULL,
		count    INTEGER NOT NULL,
		made_by  TEXT    NOT NULL,
		reason   TEXT    NOT NULL,
		user     TEXT    NOT NULL,
		observed INTEGER NOT NULL,
		lines    TEXT,             -- JSON list
		data     TEXT,             -- JSON object
		ended    INTEGER,          -- wall time; NULL while it runs
		cause    TEXT,             -- why it ended
		PRIMARY KEY (jail, id, time)
	) WITHOUT ROWID;
	CREATE INDEX bantam_ban_running ON bantam_ban (until) WHERE ended IS NULL;
	CREATE INDEX bantam_ban_ended ON bantam_ban (ended) WHERE ended IS NOT NULL;
	CREATE INDEX bantam_ban_id ON bantam_ban (id);

	CREATE TABLE bantam_position (
		jail   TEXT    NOT NULL,
		source TEXT    NOT NULL,
		mark   TEXT    NOT NULL,
		offset INTEGER NOT NULL,
		time   INTEGER NOT NULL,
		PRIMARY KEY (jail, source)
	) WITHOUT ROWID;

	CREATE TABLE bantam_allow (
		prefix TEXT    NOT NULL PRIMARY KEY,
		reason TEXT    NOT NULL,
		added  INTEGER NOT NULL
	) WITHOUT ROWID;`,

	// forgiven is when an operator lifted this ban or a later one of its ID, wall time:
	// it counts as an earlier one no more. seed is what chance is made of.
	`ALTER TABLE bantam_ban ADD COLUMN forgiven INTEGER;
	UPDATE bantam_ban SET forgiven = (SELECT max(p.ended) FROM bantam_ban AS p
		WHERE p.jail = bantam_ban.jail AND p.id = bantam_ban.id AND p.time >= bantam_ban.time AND p.cause IN ('operator', 'allowed'));
	ALTER TABLE bantam_meta ADD COLUMN seed BLOB;`,

	// mirrored is 1 since Fail2Ban's tables hold what ours do; agreed is what they looked
	// like when the database was last closed. The index by ID is Fail2Ban's bans_ip now.
	`ALTER TABLE bantam_meta ADD COLUMN mirrored INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE bantam_meta ADD COLUMN agreed TEXT;
	DROP INDEX bantam_ban_id;`,

	// What is still to be told, one row for each reader, and what those who tell it keep.
	// news is the last number. It begins at the time in microseconds, so that a number, of
	// which keys of letters are made, does not come again when the database is made anew.
	`ALTER TABLE bantam_meta ADD COLUMN news INTEGER NOT NULL DEFAULT 0;
	UPDATE bantam_meta SET news = unixepoch() * 1000000;
	CREATE TABLE bantam_news (
		reader TEXT    NOT NULL,
		number INTEGER NOT NULL,
		jail   TEXT    NOT NULL, -- with id and time the key of the ban
		id     TEXT    NOT NULL,
		time   INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		kind   TEXT    NOT NULL,
		at     INTEGER NOT NULL, -- wall time of the decision
		cause  TEXT    NOT NULL,
		PRIMARY KEY (reader, number)
	) WITHOUT ROWID;
	CREATE TABLE bantam_letter (
		number  INTEGER PRIMARY KEY,
		key     TEXT    NOT NULL UNIQUE,
		channel TEXT    NOT NULL,
		about   TEXT    NOT NULL,
		made    INTEGER NOT NULL,
		due     INTEGER NOT NULL,
		tries   INTEGER NOT NULL,
		err     TEXT    NOT NULL,
		failed  INTEGER NOT NULL,
		body    BLOB    NOT NULL -- last, so that the others are read without it
	);
	CREATE TABLE bantam_note (
		owner TEXT    NOT NULL,
		key   TEXT    NOT NULL,
		at    INTEGER NOT NULL,
		value BLOB    NOT NULL,
		PRIMARY KEY (owner, key)
	);`,

	// Bans by when they began, for those who ask about the past.
	`CREATE INDEX bantam_ban_time ON bantam_ban (time, jail, id);`,
}

// versionOf is the version of our own tables, 0 if there are none.
func versionOf(ctx context.Context, db *sql.DB) (version int, err error) {
	if there, err := hasTable(ctx, db, "bantam_meta"); err != nil || !there {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT version FROM bantam_meta`).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err == nil && version > len(migrations) {
		err = fmt.Errorf("%w: it has version %d, this program knows %d", ErrNewerVersion, version, len(migrations))
	}
	return version, err
}

// hasTable reports whether the database has a table of that name.
func hasTable(ctx context.Context, db *sql.DB, name string) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`, name).Scan(&n)
	return n > 0, err
}

// migrate brings our own tables to the newest version, each step in a transaction.
func migrate(ctx context.Context, db *sql.DB) error {
	version, err := versionOf(ctx, db)
	if err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if version == 0 {
			_, err = tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS bantam_meta (version INTEGER NOT NULL);
				DELETE FROM bantam_meta; INSERT INTO bantam_meta VALUES (0)`)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, migrations[version])
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE bantam_meta SET version = ?`, version+1)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("bring it to version %d: %w", version+1, err), tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}
