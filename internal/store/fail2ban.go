package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"
)

// peerVersion is the version of Fail2Ban's tables that we write: that of its releases
// from 0.11 on.
const peerVersion = 4

// peerTables are Fail2Ban's tables as its version 4 has them.
const peerTables = `
	CREATE TABLE IF NOT EXISTS fail2banDb (version INTEGER);
	CREATE TABLE IF NOT EXISTS jails (name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
	CREATE INDEX IF NOT EXISTS jails_name ON jails (name);
	CREATE TABLE IF NOT EXISTS logs (
		jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0,
		FOREIGN KEY (jail) REFERENCES jails (name) ON DELETE CASCADE,
		UNIQUE (jail, path), UNIQUE (jail, path, firstlinemd5)
	);
	CREATE INDEX IF NOT EXISTS logs_path ON logs (path);
	CREATE INDEX IF NOT EXISTS logs_jail_path ON logs (jail, path);
	CREATE TABLE IF NOT EXISTS bans (
		jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
		bancount INTEGER NOT NULL DEFAULT 1, data JSON,
		FOREIGN KEY (jail) REFERENCES jails (name)
	);
	CREATE INDEX IF NOT EXISTS bans_ip ON bans (ip);
	CREATE TABLE IF NOT EXISTS bips (
		ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
		bancount INTEGER NOT NULL DEFAULT 1, data JSON,
		PRIMARY KEY (ip, jail), FOREIGN KEY (jail) REFERENCES jails (name)
	);`

// peerIndexes are those of Fail2Ban's indexes that only its own questions need. Keeping
// them would make a ban half as dear again to store, so they are not there while we
// have the file open. A Fail2Ban that finds the file without them, after a crash, works.
var peerIndexes = []struct{ name, on string }{
	{"bans_jail_timeofban_ip", "bans (jail, timeofban)"},
	{"bans_jail_ip", "bans (jail, ip)"},
	{"bips_timeofban", "bips (timeofban)"},
	{"bips_ip", "bips (ip)"},
}

// indexedAtMost is with how many bans the indexes are made when the database is closed:
// more would hold up the stop for longer than they are worth.
const indexedAtMost = 100_000

// peerVersionOf is the version of Fail2Ban's tables, 0 if there are none.
func peerVersionOf(ctx context.Context, db *sql.DB) (version int, err error) {
	if there, err := hasTable(ctx, db, "fail2banDb"); err != nil || !there {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version), 1) FROM fail2banDb`).Scan(&version)
	if err == nil && version > peerVersion {
		err = fmt.Errorf("%w of Fail2Ban: its tables have version %d, this program knows %d", ErrNewerVersion, version, peerVersion)
	}
	return version, err
}

// peerUpgrades bring Fail2Ban's tables from version n+1 to n+2. Version 1 had the logs
// without (jail, path) as a key; until 3 a ban had no length and no count; 4 has the
// last ban of each ID in a table of its own.
var peerUpgrades = []string{
	`CREATE TABLE bantam_logs AS SELECT jail, path, firstlinemd5, lastfilepos FROM logs;
	DROP TABLE logs;
	CREATE TABLE logs (
		jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0,
		FOREIGN KEY (jail) REFERENCES jails (name) ON DELETE CASCADE,
		UNIQUE (jail, path), UNIQUE (jail, path, firstlinemd5)
	);
	INSERT OR REPLACE INTO logs SELECT jail, path, firstlinemd5, lastfilepos FROM bantam_logs;
	DROP TABLE bantam_logs;`,

	`CREATE TABLE bantam_bans AS SELECT jail, ip, timeofban, data FROM bans;
	DROP TABLE bans;
	CREATE TABLE bans (
		jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
		bancount INTEGER NOT NULL DEFAULT 1, data JSON,
		FOREIGN KEY (jail) REFERENCES jails (name)
	);
	INSERT INTO bans SELECT jail, ip, timeofban, -2, 1, data FROM bantam_bans;
	DROP TABLE bantam_bans;`,

	`CREATE TABLE IF NOT EXISTS bips (
		ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
		bancount INTEGER NOT NULL DEFAULT 1, data JSON,
		PRIMARY KEY (ip, jail), FOREIGN KEY (jail) REFERENCES jails (name)
	);
	INSERT OR REPLACE INTO bips (ip, jail, timeofban, bantime, bancount, data)
		SELECT ip, jail, timeofban, bantime, bancount, data FROM bans WHERE ip IS NOT NULL ORDER BY timeofban;`,
}

// upgradePeer brings Fail2Ban's tables to version 4, after a copy of the file was made,
// or makes them. path is "" for a database in memory.
func (s *Store) upgradePeer(ctx context.Context, version int) (err error) {
	if version > 0 && version < peerVersion && s.path != "" {
		copied := setAsideName(s.path, time.Now())
		if err := vacuumInto(ctx, s.db, copied); err != nil {
			return fmt.Errorf("copy it to %s before Fail2Ban's tables are brought to version %d: %w", copied, peerVersion, err)
		}
		s.log.Warn("the tables of Fail2Ban are brought to its newest version; a copy is kept",
			"from", version, "to", peerVersion, "copy", copied)
	}
	tx, err := s.db.BeginTx(calm(ctx), nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make Fail2Ban's tables: %w", err), tx.Rollback())
		}
	}()
	if version > 0 {
		for ; version < peerVersion; version++ {
			if _, err := tx.ExecContext(calm(ctx), peerUpgrades[version-1]); err != nil {
				return fmt.Errorf("bring them to version %d: %w", version+1, err)
			}
		}
	}
	if _, err := tx.ExecContext(calm(ctx), peerTables+`DELETE FROM fail2banDb; INSERT INTO fail2banDb VALUES (4);`); err != nil {
		return err
	}
	for _, index := range peerIndexes {
		if _, err := tx.ExecContext(calm(ctx), `DROP INDEX IF EXISTS `+index.name); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// vacuumInto copies a database, readable by its owner only.
func vacuumInto(ctx context.Context, db *sql.DB, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil { // VACUUM INTO takes an empty file
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// setAsideName is what a copy of the file at path is called, as Fail2Ban calls its own:
// with the time in UTC behind it.
func setAsideName(path string, at time.Time) string {
	return path + "." + at.UTC().Format("20060102-150405")
}

// handBack makes the indexes that Fail2Ban likes to have and notes what its tables look
// like, so that the next start need not compare them. It is done when the file is closed.
func (s *Store) handBack(ctx context.Context) error {
	var bans int
	if err := s.db.QueryRowContext(calm(ctx), `SELECT count(*) FROM bips`).Scan(&bans); err != nil {
		return err
	}
	if bans <= indexedAtMost {
		for _, index := range peerIndexes {
			if _, err := s.db.ExecContext(calm(ctx), `CREATE INDEX IF NOT EXISTS `+index.name+` ON `+index.on); err != nil {
				return err
			}
		}
	}
	looks, err := s.peerLooks(ctx)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(calm(ctx), `UPDATE bantam_meta SET agreed = ?`, looks)
	return err
}

// peerLooks tells Fail2Ban's tables apart from what they were before another program
// added or took away bans.
func (s *Store) peerLooks(ctx context.Context) (looks string, err error) {
	err = s.db.QueryRowContext(calm(ctx), `SELECT (SELECT count(*) FROM bips) || ' ' || (SELECT coalesce(max(rowid), 0) FROM bips) || ' ' ||
		(SELECT coalesce(max(rowid), 0) FROM bans) || ' ' || (SELECT coalesce(sum(lastfilepos), 0) FROM logs)`).Scan(&looks)
	return looks, err
}
