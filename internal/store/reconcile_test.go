package store

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

// raw opens a file as another program does, and does something in it.
func raw(t testing.TB, file string, statements ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", file+"?_pragma=journal_mode(MEMORY)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// peerFile is a file of Fail2Ban's of an older version, with two bans of one address and
// one of another, made at the seconds a, b and c.
func peerFile(t testing.TB, version int, a, b, c int64) string {
	file := path(t)
	logsKey, more, values := "UNIQUE(jail, path)", "", func(string) string { return "" }
	if version == 1 {
		logsKey = "UNIQUE(jail, path, firstlinemd5)"
	}
	if version > 2 {
		more = ", bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1"
		values = func(count string) string { return ", 600, " + count }
	}
	data := `, '{"matches": ["one", ["", "date", " two"]], "failures": 3, "user": "x"}'`
	raw(t, file, `CREATE TABLE fail2banDb(version INTEGER)`, fmt.Sprintf(`INSERT INTO fail2banDb VALUES (%d)`, version),
		`CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1)`, `INSERT INTO jails VALUES ('sshd', 1)`,
		`CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0, FOREIGN KEY(jail) REFERENCES jails(name) ON DELETE CASCADE, `+logsKey+`)`,
		`INSERT INTO logs VALUES ('sshd', '/var/log/auth.log', 'ab', 17), ('sshd', 'systemd-journal', '2025', 1700000000.25)`,
		`CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL`+more+`, data JSON, FOREIGN KEY(jail) REFERENCES jails(name))`,
		fmt.Sprintf(`INSERT INTO bans VALUES ('sshd', '192.0.2.1', %d%s%s)`, a, values("1"), data),
		fmt.Sprintf(`INSERT INTO bans VALUES ('sshd', '192.0.2.1', %d%s%s)`, b, values("2"), data),
		fmt.Sprintf(`INSERT INTO bans VALUES ('sshd', '2001:DB8:0::2', %d%s%s)`, c, values("1"), data))
	if version > 3 {
		raw(t, file, `CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail))`,
			`INSERT OR REPLACE INTO bips (ip, jail, timeofban, bantime, bancount, data) SELECT ip, jail, timeofban, bantime, bancount, data FROM bans`)
	}
	return file
}

// Files of each version that Fail2Ban's tables ever had are taken over, the older ones
// after a copy was made.
func TestFilesOfEachVersionOfFail2Ban(t *testing.T) {
	for version := 1; version <= 4; version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			at := time.Now().Truncate(time.Second)
			file := peerFile(t, version, at.Unix()-5000, at.Unix()-100, at.Unix()-50)
			s, err := Config{Path: file, MaxMatches: 10, BanTime: func(string) time.Duration { return 10 * time.Minute }}.Open(t.Context(), testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, b := range running(t, s, at) {
				got = append(got, fmt.Sprintf("%s from %v for %v, %d failures, %q, user %s", b.ID, b.Time.Sub(at), b.End.Sub(b.Time), b.Failures, b.Lines, b.User))
			}
			const want = `192.0.2.1 from -1m40s for 10m0s, 3 failures, ["one" "date two"], user x` + "\n" +
				`2001:db8::2 from -50s for 10m0s, 3 failures, ["one" "date two"], user x`
			if text := strings.Join(got, "\n"); text != want {
				t.Errorf("there run\n%s\nwant\n%s", text, want)
			}
			history := 0
			if err := s.Counts(t.Context(), func(bantam.Ban) { history++ }); err != nil || history != 3 {
				t.Errorf("%d bans are remembered, %v", history, err)
			}
			positions, err := s.Positions(t.Context())
			if p := positions["sshd"]["/var/log/auth.log"]; err != nil || p.Offset != 17 || p.Mark != "ab" {
				t.Errorf("position %+v, %v", p, err)
			}
			if p := positions["sshd"]["journal"]; p.Offset != 1700000000250000 || p.Mark != "" {
				t.Errorf("position in the journal %+v", p)
			}
			agree(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			copies, _ := filepath.Glob(file + ".2*")
			if (len(copies) == 1) != (version < 4) {
				t.Errorf("the copies are %v", copies)
			}
			for _, c := range copies {
				if v, err := peerVersionOfFile(t, c); err != nil || v != version || fileMode(t, c) != 0o600 {
					t.Errorf("the copy has version %d, mode %o, %v", v, fileMode(t, c), err)
				}
			}
			if len(running(t, open(t, file), at)) != 2 {
				t.Error("opened again it has other bans")
			}
		})
	}
}

func peerVersionOfFile(t *testing.T, file string) (int, error) {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return peerVersionOf(t.Context(), db)
}

// What Fail2Ban did while we did not run counts when we start again.
func TestChangesOfFail2BanAreTakenOver(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	for _, c := range []struct{ name, change, want string }{
		{"nothing", ``, "1 for 3600 s, 2 for 3600 s, 3 for ever"},
		{"it made a ban", `INSERT INTO bans VALUES ('sshd', '192.0.0.9', NOW, 60, 1, '{}'); INSERT INTO bips VALUES ('192.0.0.9', 'sshd', NOW, 60, 1, '{}')`, "1 for 3600 s, 2 for 3600 s, 3 for ever, 9 for 60 s"},
		{"it lifted one", `DELETE FROM bips WHERE ip = '192.0.0.2'; DELETE FROM bans WHERE ip = '192.0.0.2'`, "1 for 3600 s, 3 for ever"},
		{"it banned one anew", `INSERT INTO bans VALUES ('sshd', '192.0.0.1', NOW + 1, 7200, 2, '{}'); REPLACE INTO bips VALUES ('192.0.0.1', 'sshd', NOW + 1, 7200, 2, '{}')`, "2 for 3600 s, 3 for ever, 1 for 7200 s"},
		{"somebody changed an end", `UPDATE bips SET bantime = 1800.5 WHERE ip = '192.0.0.2'`, "1 for 3600 s, 2 for 1800.5 s, 3 for ever"},
		{"somebody made one for ever", `UPDATE bips SET bantime = -1 WHERE ip = '192.0.0.2'`, "1 for 3600 s, 2 for ever, 3 for ever"},
		{"it lifted all", `DELETE FROM bips; DELETE FROM bans`, ""},
		{
			"rubbish", `INSERT INTO bips VALUES ('', 'sshd', NOW, 60, 1, '{}'), ('192.0.0.7', 'sshd', 'never', 60, 1, 7), ('192.0.0.8', 'sshd', -5, 60, 1, '{}'), ('192.0.0.5', 'sshd', 9e99, 60, 1, '{}');
			INSERT INTO bans VALUES ('sshd', NULL, NOW, 60, 1, NULL), ('sshd', '192.0.0.6', x'00ff', 'x', 'y', 'z'); INSERT INTO logs VALUES ('sshd', NULL, NULL, NULL), ('sshd', '/x', NULL, 'far')`,
			"1 for 3600 s, 2 for 3600 s, 3 for ever",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := path(t)
			s, err := Open(t.Context(), testLog(t), file)
			if err != nil {
				t.Fatal(err)
			}
			var decisions []bantam.Decision
			for i := 1; i <= 3; i++ {
				b := ban(i)
				b.Time, b.End = at, at.Add(time.Hour)
				if i == 3 {
					b.End = time.Time{}
				}
				decisions = append(decisions, bantam.Decision{
					Kind: bantam.Start, Ban: b, At: at,
					Positions: []bantam.Position{{Source: "/log", Mark: "ab", Offset: 17, Time: at}},
				})
			}
			do(s, decisions...)
			agree(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if c.change != "" {
				raw(t, file, strings.ReplaceAll(c.change, "NOW", fmt.Sprint(at.Unix())))
			}
			s = open(t, file)
			var got []string
			for _, b := range running(t, s, at) {
				p, _ := b.ID.Prefix()
				length := "ever"
				if !b.Permanent() {
					length = fmt.Sprintf("%g s", b.End.Sub(b.Time).Seconds())
				}
				got = append(got, fmt.Sprintf("%d for %s", p.Addr().As4()[3], length))
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("there run %q, want %q", text, c.want)
			}
			agree(t, s)
		})
	}
}

// Places in logs that Fail2Ban has reached are gone on from; ours are kept where it has not moved.
func TestPositionsOfFail2BanAreTakenOver(t *testing.T) {
	file := path(t)
	s, err := Open(t.Context(), testLog(t), file)
	if err != nil {
		t.Fatal(err)
	}
	journal := bantam.Position{Source: "journal", Mark: "s=cursor;i=1", Offset: 1700000000123456, Time: now}
	err = s.SavePositions(map[string][]bantam.Position{"sshd": {
		{Source: "/a", Mark: "ab", Offset: 17, Time: now}, {Source: "/b", Mark: "ab", Offset: 17, Time: now}, {Source: "/c", Mark: "ab", Offset: 17, Time: now}, journal,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, file, `UPDATE logs SET lastfilepos = 20 WHERE path = '/a'`, `UPDATE logs SET lastfilepos = 5, firstlinemd5 = 'cd' WHERE path = '/b'`,
		`INSERT INTO logs VALUES ('sshd', '/d', 'ef', 1)`)
	positions, err := open(t, file).Positions(t.Context())
	var got []string
	for _, p := range positions["sshd"] {
		got = append(got, fmt.Sprintf("%s %s %d", p.Source, p.Mark, p.Offset))
	}
	slices.Sort(got)
	if text := strings.Join(got, ", "); err != nil || text != "/a ab 20, /b cd 5, /c ab 17, /d ef 1, journal s=cursor;i=1 1700000000123456" {
		t.Errorf("the positions are %s, %v", text, err)
	}
}

// agree fails unless Fail2Ban's tables say of every ban what ours do.
func agree(t *testing.T, s *Store) {
	t.Helper()
	for what, query := range map[string]string{
		"in ours only": `SELECT jail || ' ' || id FROM bantam_ban WHERE NOT observed AND forgiven IS NULL AND NOT EXISTS (SELECT 1 FROM bips WHERE ip = id AND bips.jail = bantam_ban.jail)`,
		"last in theirs only": `SELECT jail || ' ' || ip FROM bips WHERE ip != '' AND typeof(timeofban) = 'integer' AND timeofban > 0 AND NOT EXISTS (SELECT 1 FROM bantam_ban AS m WHERE m.jail = bips.jail AND m.id = ip
			AND NOT observed AND forgiven IS NULL AND count = bancount AND CAST(round(time / 1e6) AS INTEGER) = timeofban AND abs(CASE until WHEN 0 THEN -1 ELSE (until - time) / 1e6 END - bantime) < 0.001)`,
		"earlier in theirs only": `SELECT jail || ' ' || ip FROM bans WHERE ip != '' AND typeof(timeofban) = 'integer' AND timeofban > 0 AND NOT EXISTS (SELECT 1 FROM bantam_ban AS m WHERE m.jail = bans.jail AND m.id = ip
			AND NOT observed AND forgiven IS NULL AND CAST(round(time / 1e6) AS INTEGER) = timeofban)`,
		"twice in theirs":       `SELECT jail || ' ' || ip FROM bans WHERE ip IS NOT NULL GROUP BY jail, ip, timeofban HAVING count(*) > 1`,
		"of an unknown jail":    `SELECT jail FROM bips WHERE jail NOT IN (SELECT name FROM jails) UNION SELECT jail FROM bans WHERE jail NOT IN (SELECT name FROM jails)`,
		"positions that differ": `SELECT jail || ' ' || source FROM bantam_position WHERE source LIKE '/%' AND NOT EXISTS (SELECT 1 FROM logs WHERE logs.jail = bantam_position.jail AND path = source AND (typeof(lastfilepos) = 'text' OR lastfilepos = offset AND firstlinemd5 = mark))`,
	} {
		var row string
		err := s.query(t.Context(), query, nil, []any{&row}, func() error { t.Errorf("%s: %s", what, row); return nil })
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// Whatever is decided, both programs' tables tell the same, at any time and after a restart.
func TestBothTablesAgreeOnAnyHistory(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	for range 3 {
		file := path(t)
		s, err := Open(t.Context(), slog.New(slog.DiscardHandler), file)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-time.Hour).Truncate(time.Second)
		last := map[int]bantam.Ban{} // those that run
		for range 5 {
			var decisions []bantam.Decision
			for range rng.IntN(60) {
				at = at.Add(time.Duration(1+rng.IntN(3)) * time.Second)
				n := rng.IntN(20)
				b, runs := last[n]
				d := bantam.Decision{At: at}
				switch k := rng.IntN(6); {
				case !runs:
					b = ban(n)
					b.Jail, b.Time, b.End, b.Count, b.Observed = fmt.Sprintf("jail%d", n%3), at.Add(time.Duration(rng.IntN(1000))*time.Millisecond), at.Add(time.Hour), 1+rng.IntN(9), n == 19
					if rng.IntN(5) == 0 {
						b.End = time.Time{}
					}
					d.Kind, last[n] = bantam.Start, b
				case k == 0 && !b.Permanent():
					b.End = b.End.Add(time.Minute)
					d.Kind, last[n] = bantam.Prolong, b
				default:
					d.Kind, d.Cause = bantam.End, []string{bantam.CauseExpired, bantam.CauseOperator, bantam.CauseAllowed, bantam.CauseExpired, bantam.CauseExpired}[k%5]
					delete(last, n)
				}
				d.Ban = b
				d.Positions = []bantam.Position{{Source: "/log", Mark: "ab", Offset: int64(at.Unix()), Time: at}}
				decisions = append(decisions, d)
			}
			do(s, decisions...)
			if rng.IntN(3) == 0 {
				id := ban(rng.IntN(20)).ID
				if err := s.Pardon(t.Context(), "", id, at); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(3) == 0 {
				if _, err := s.Purge(t.Context(), at.Add(-30*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			agree(t, s)
			before := fmt.Sprint(running(t, s, at))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(2) == 0 { // as Fail2Ban leaves it, though it changed nothing
				raw(t, file, `UPDATE jails SET enabled = 0`)
			}
			if s, err = Open(t.Context(), slog.New(slog.DiscardHandler), file); err != nil {
				t.Fatal(err)
			}
			if after := fmt.Sprint(running(t, s, at)); after != before {
				t.Fatalf("seed %d: after a restart there run\n%s\nbefore\n%s", seed, after, before)
			}
			agree(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What Fail2Ban stores of a ban is read as it was written, whatever is in the lines.
func FuzzDataOfFail2Ban(f *testing.F) {
	f.Add("a line", "x", []byte(`{"matches": [["", "date", " rest"], "b"], "failures": 3, "user": "x", "ip4": "192.0.2.1"}`))
	f.Add("\xff\x00\u2028<\"\\\n", "é", []byte(`{"matches": {}, "failures": -1e999, "user": ["x"]}`))
	f.Fuzz(func(t *testing.T, line, user string, data []byte) {
		b := ban(1)
		b.Lines, b.User, b.Data = []string{line, user}, user, map[string]string{"k": line}
		var read bantam.Ban
		readPeerData(&read, peerData(&b, jsonList(b.Lines)))
		valid := func(s string) string { return string(bytes.ToValidUTF8([]byte(s), nil)) }
		if line == valid(line) && user == valid(user) {
			if !slices.Equal(read.Lines, b.Lines) || read.User != user || read.Data["k"] != line || read.Failures != b.Failures {
				t.Errorf("%+v was read as %+v", b, read)
			}
		} else if len(read.Lines) != 2 {
			t.Errorf("%+v was read as %+v", b, read)
		}
		readPeerData(&read, data)
	})
}
