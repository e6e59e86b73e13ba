package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"bantam"
)

// Whoever made a database to be read, reading it ends soon, takes little memory and changes nothing.
func TestDatabasesThatMeanHarm(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	const version = `CREATE TABLE fail2banDb (version INTEGER); INSERT INTO fail2banDb VALUES (4);`
	const endless = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT '192.0.2.1' AS ip, 'sshd' AS jail, i AS timeofban, -1 AS bantime, 1 AS bancount, '{}' AS data, i AS rowid FROM n`
	const bips = `CREATE TABLE bips (ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);`
	const row = `INSERT INTO bips VALUES ('192.0.2.1', 'sshd', 1699999990, -1, 1, '{}');`
	for _, c := range []struct {
		name, sql string
		bans      int
		wrong     bool
	}{
		{"a table as it should be", version + bips + row, 1, false},
		{"a view without end in place of the bans", version + `CREATE VIEW bips AS ` + endless, 0, true},
		{"a view without end in place of the version", `CREATE VIEW fail2banDb AS WITH RECURSIVE n(version) AS (SELECT 1 UNION ALL SELECT version FROM n) SELECT version FROM n;` + bips + row, 0, true},
		{
			"a column that is worked out to a gigabyte",
			version + `CREATE TABLE bips (ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data AS (zeroblob(999999999)));
			INSERT INTO bips VALUES ('192.0.2.1', 'sshd', 1699999990, -1, 1);`, 0, true,
		},
		{"a virtual table", version + `CREATE VIRTUAL TABLE bips USING fts5(ip, jail, timeofban, bantime, bancount, data)`, 0, true},
		{"a trigger, which reading does not pull", version + bips + row + `CREATE TRIGGER x AFTER INSERT ON bips BEGIN DELETE FROM bips; END`, 1, false},
		{"blobs of megabytes in every field", version + bips + `INSERT INTO bips VALUES (zeroblob(3000000), zeroblob(3000000), zeroblob(3000000), zeroblob(3000000), 1, zeroblob(3000000));` + row, 1, false},
		{"a name that is SQL", version + bips + `INSERT INTO bips VALUES ('192.0.2.1', 'x''); DROP TABLE bips; --', 1699999990, -1, 1, '{}')`, 1, false},
		{"no columns", version + `CREATE TABLE bips (x)`, 0, true},
		{"a version of tomorrow", `CREATE TABLE fail2banDb (version); INSERT INTO fail2banDb VALUES (9223372036854775807);` + bips, 0, true},
		{"a version of blobs", `CREATE TABLE fail2banDb (version); INSERT INTO fail2banDb VALUES (zeroblob(3000000));` + bips, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f.sqlite3")
			db, err := sql.Open("sqlite", file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(c.sql); err != nil {
				t.Skipf("this SQLite cannot make it: %v", err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			bans := 0
			err = ReadBans(ctx, file, at, func(string) time.Duration { return time.Hour }, func(bantam.Ban) error { bans++; return nil })
			runtime.ReadMemStats(&end)
			if bans != c.bans || (err != nil) != c.wrong || ctx.Err() != nil {
				t.Errorf("%d bans, %v (%v); want %d, an error: %t", bans, err, ctx.Err(), c.bans, c.wrong)
			}
			if c.wrong && !errors.Is(err, ErrNoBans) && !errors.Is(err, ErrNewerVersion) {
				t.Errorf("it says %v", err)
			}
			if n := end.TotalAlloc - start.TotalAlloc; n > 128<<20 {
				t.Errorf("%d MB were taken for it", n>>20)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
				t.Errorf("the file is changed (%v)", err)
			}
		})
	}
}
