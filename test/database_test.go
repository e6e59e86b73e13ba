package test

import (
	"database/sql"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// A daemon that finds Fail2Ban's database has its bans in the kernel from the start, and
// what it bans itself is in Fail2Ban's tables at once.
func TestFail2BansDatabaseIsTakenOver(t *testing.T) {
	h := newHost(t, lifeJail)
	file := filepath.Join(h.dir, "bantam.db")
	db, err := sql.Open("sqlite", file)
	h.check(err)
	defer db.Close()
	for _, statement := range []string{
		`CREATE TABLE fail2banDb(version INTEGER)`, `INSERT INTO fail2banDb VALUES (4)`,
		`CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1)`, `INSERT INTO jails VALUES ('sshd', 1)`,
		`CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0, UNIQUE(jail, path))`,
		`CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON)`,
		`CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail))`,
		fmt.Sprintf(`INSERT INTO bips VALUES ('192.0.2.7', 'sshd', %d, 3600, 2, '{"matches": [], "failures": 5}')`, time.Now().Unix()-60),
	} {
		_, err := db.Exec(statement)
		h.check(err)
	}
	p := h.start().ready()
	if _, there := h.banned("sshd")[netip.MustParsePrefix("192.0.2.7/32")]; !there {
		t.Error("the ban of Fail2Ban is not in the kernel")
	}
	h.log("auth.log", strings.Repeat(failed(address(1)), 5))
	h.until("the attacker is banned", func() bool { return len(h.banned("sshd")) == 2 })
	p.kill()
	var bans int
	h.check(db.QueryRow(`SELECT count(*) FROM bips WHERE timeofban + bantime > ?`, time.Now().Unix()).Scan(&bans))
	if bans != 2 {
		t.Errorf("%d bans run in Fail2Ban's table after a crash", bans)
	}
}
