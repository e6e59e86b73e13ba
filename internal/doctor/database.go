package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Bounds of what is said of the database's files, in bytes.
const (
	checkedAtMost = 512 << 20 // a look at it takes a second for each 200 MB
	longLog       = 64 << 20
	noRoom        = 16 << 20
	littleRoom    = 256 << 20
)

// lookAtDatabase looks at the file that the daemon uses, or would.
func (e *examination) lookAtDatabase(ctx context.Context) {
	path := e.status.Database
	if !e.running {
		if e.config == nil {
			e.doubt("see below what is wrong with the configuration", "nobody knows where the database is")
			return
		}
		path = e.config.Daemon.DBFile
	}
	if path == "" || path == ":memory:" {
		e.doubt("dbfile = /var/lib/bantam/bantam.db in bantam.conf", "bans are kept in memory only: a restart forgets them")
		return
	}
	if e.status.Unsaved > 0 || e.status.StoreError != "" {
		e.fault("is the disk full, or the file locked by another program?", "the database takes nothing, %d decisions are in memory only: %s", e.status.Unsaved, e.status.StoreError)
	}
	e.lookAtRoom(path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.noDatabase(path)
		return
	case err != nil:
		e.unseen("the database "+path, err)
		return
	}
	if err := e.openDatabase(ctx, path, info.Size()); err != nil {
		if isPrivilege(err) || os.Geteuid() != 0 && !readable(path) {
			e.unseen("what is in the database "+path, fs.ErrPermission)
			return
		}
		e.fault("stop Bantam, move the file away and start it: what can be read is taken over from a damaged file that stays in its place",
			"the database %s is not sound: %v", path, err)
	}
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// noDatabase tells of a file that is not there.
func (e *examination) noDatabase(path string) {
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	switch {
	case e.running:
		e.fault("sudo systemctl restart bantam makes a new one; who takes files away there?", "the database %s is gone while the daemon uses it", path)
	case errors.Is(err, fs.ErrNotExist):
		e.doubt("sudo mkdir -m 0700 "+dir+", as the unit does for its own", "there is no folder %s for the database", dir).
			fixes("makes the folder "+dir, func(context.Context) error { return os.MkdirAll(dir, 0o700) })
	case err != nil:
		e.unseen("the database "+path, err)
	default:
		e.ok("the database %s is made at the first start", path)
	}
}

// lookAtRoom looks how much room there is for it.
func (e *examination) lookAtRoom(path string) {
	free, err := room(filepath.Dir(path))
	if err != nil {
		return // noDatabase says why
	}
	const fix = "df and du show what takes the room; bantam's logs and old bans (dbpurgeage) are small"
	switch text := fmt.Sprintf("%d MB are free for the database in %s", free/1_000_000, filepath.Dir(path)); {
	case free < noRoom:
		e.fault(fix, "%s: soon bans cannot be written", text)
	case free < littleRoom:
		e.doubt(fix, "%s", text)
	}
}

// openDatabase looks through the file without changing it.
func (e *examination) openDatabase(ctx context.Context, path string, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	db, err := open(path, "mode=ro&_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer db.Close()
	version := 0
	if err := db.QueryRowContext(ctx, `SELECT version FROM bantam_meta`).Scan(&version); err != nil && !strings.Contains(err.Error(), "no such table") {
		return err
	}
	looked := "not looked through, it is too large for that"
	if bytes <= checkedAtMost {
		var found string
		if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&found); err != nil {
			return err
		}
		if found != "ok" {
			return fmt.Errorf("%.200s", found)
		}
		looked = "sound"
	}
	schema := fmt.Sprintf("version %d", version)
	if version == 0 {
		schema = "not yet Bantam's"
	}
	free, _ := room(filepath.Dir(path)) // lookAtRoom tells if it is little
	e.ok("the database %s is %s, %s, %.1f MB; %d MB are free", path, looked, schema, float64(bytes)/1e6, free/1_000_000)
	var last sql.NullInt64
	if err := db.QueryRowContext(ctx, `SELECT max(time) FROM bantam_ban`).Scan(&last); err == nil && last.Valid {
		e.lookAtEntries(time.UnixMicro(last.Int64))
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > longLog {
		e.doubt("does a program keep the file open? fuser "+path, "the database's write-ahead log has %d MB", info.Size()/1_000_000).
			fixes("has SQLite write it into the database", func(ctx context.Context) error { return checkpoint(ctx, path) })
	}
	return nil
}

// open opens a database with some parameters of the driver.
func open(path, with string) (*sql.DB, error) {
	return sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String()+"?"+with+"&_pragma=busy_timeout(2000)")
}

// checkpoint writes a database's write-ahead log into it, which SQLite lets anybody do at any time.
func checkpoint(ctx context.Context, path string) error {
	db, err := open(path, "mode=rw")
	if err != nil {
		return err
	}
	defer db.Close()
	var busy, pages, done int
	if err := db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &done); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("another program reads it now")
	}
	return nil
}
