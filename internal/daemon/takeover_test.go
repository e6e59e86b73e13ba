package daemon

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLiveBansAreCountedAndNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?.sqlite3")
	now := time.Unix(1_790_000_000, 0)
	if n, err := LiveBans(t.Context(), path, now); n != 0 || err != nil {
		t.Errorf("without a file: %d, %v", n, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("counting has made the file: %v", err)
	}
	plain := filepath.Join(filepath.Dir(path), "plain")
	db, err := sql.Open("sqlite", plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail))`,
		`INSERT INTO bips VALUES ('192.0.2.1', 'sshd', 1789999000, 1001, 1, '{}'), ('192.0.2.2', 'sshd', 1789999000, 1000, 1, '{}'), ('192.0.2.3', 'sshd', 1, -1, 1, '{}')`,
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Close(), os.Rename(plain, path)); err != nil {
		t.Fatal(err)
	}
	if n, err := LiveBans(t.Context(), path, now); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := os.WriteFile(path, []byte("no database at all, and long enough to be none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LiveBans(t.Context(), path, now); err == nil {
		t.Error("of what is no database it says nothing")
	}
}
