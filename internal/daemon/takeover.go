package daemon

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bantam/internal/config"
)

// Another says whether Fail2Ban runs, or another Bantam with this configuration, and its process number. A Fail2Ban that
// bans in another network, as a container's does, is not in the way.
func Another(c *config.Daemon) (who string, pid int) {
	if b, err := os.ReadFile(c.PIDFile); c.PIDFile != "" && err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			if who := serverAt(pid); who != "" {
				return who, pid
			}
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	for _, p := range processes {
		pid, _ := strconv.Atoi(filepath.Base(p)) // it is a number
		if serverAt(pid) == fail2Ban && sameNetwork(p) {
			return fail2Ban, pid
		}
	}
	return "", 0
}

// sameNetwork reports whether a process, by its folder in /proc, may have our network namespace: whoever may not know
// takes it that it has.
func sameNetwork(proc string) bool {
	ours, err := os.Stat("/proc/self/ns/net")
	theirs, err2 := os.Stat(filepath.Join(proc, "ns/net"))
	return err != nil || err2 != nil || os.SameFile(ours, theirs)
}

// LiveBans counts the bans of a Fail2Ban database that run at the wall time now, without changing it. Where there is no
// database there are none.
func LiveBans(ctx context.Context, path string, now time.Time) (n int, err error) {
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return 0, nil
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=ro"}).String())
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	row := db.QueryRowContext(ctx, `SELECT count(*) FROM bips WHERE bantime < 0 OR timeofban + bantime > ?`, now.Unix())
	if err := row.Scan(&n); err != nil {
		return 0, fmt.Errorf("count the bans in %s: %w", path, err)
	}
	return n, nil
}
