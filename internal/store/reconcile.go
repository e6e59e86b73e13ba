package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"bantam"
)

// atOnce is how many rows are held in memory while tables are compared.
const atOnce = 4096

// Bounds of what is taken from Fail2Ban's tables, which any script may have written.
const (
	longestName = 4096    // bytes of a jail's name and of an ID
	longestData = 1 << 20 // bytes of the lines and fields of a ban
	latestTime  = 1 << 40 // seconds of Unix time, and of a length; more is for ever
)

// reconcile makes the tables of both programs tell the same. They are written in one
// transaction, so whatever differs was done by Fail2Ban after we closed the file, and its
// tables are right: a ban that only they have was made, one that they lack was lifted, a
// place in a log that differs was reached. docs/design/0004-database.md has the reasons.
//
// Where the tables were never the same (mirrored is false) nothing is taken for lifted:
// each gets what it lacks.
func (s *Store) reconcile(ctx context.Context, mirrored bool, now time.Time) (err error) {
	var changes struct{ taken, history, lifted, positions int64 }
	err = s.inTx(func(st *statements) error {
		var err error
		if changes.taken, err = s.takeLast(ctx, st); err != nil {
			return fmt.Errorf("take over Fail2Ban's bans: %w", err)
		}
		if changes.history, err = s.takeHistory(ctx, st, now); err != nil {
			return fmt.Errorf("take over Fail2Ban's earlier bans: %w", err)
		}
		// A newer ban of an ID takes the place of the one that ran.
		err = st.exec(`UPDATE bantam_ban SET cause = ?1, ended = CASE WHEN until BETWEEN 1 AND ?2 THEN until ELSE ?2 END
			WHERE ended IS NULL AND NOT observed AND EXISTS (SELECT 1 FROM bips
				WHERE bips.ip = bantam_ban.id AND bips.jail = bantam_ban.jail AND bips.timeofban * 1000000 - 500000 > bantam_ban.time)`,
			bantam.CauseExpired, micros(now))
		if err == nil && mirrored {
			changes.lifted, err = st.count(`UPDATE bantam_ban SET forgiven = ?2,
				cause = CASE WHEN ended IS NOT NULL THEN cause WHEN until BETWEEN 1 AND ?2 THEN ?3 ELSE ?1 END,
				ended = CASE WHEN ended IS NOT NULL THEN ended WHEN until BETWEEN 1 AND ?2 THEN until ELSE ?2 END
				WHERE forgiven IS NULL AND NOT observed AND NOT EXISTS (SELECT 1 FROM bips
					WHERE bips.ip = bantam_ban.id AND bips.jail = bantam_ban.jail)`,
				bantam.CauseOperator, micros(now), bantam.CauseExpired)
		}
		if err != nil {
			return fmt.Errorf("compare the bans with Fail2Ban's: %w", err)
		}
		if changes.positions, err = takePositions(ctx, st, mirrored); err != nil {
			return fmt.Errorf("take over Fail2Ban's positions: %w", err)
		}
		if !mirrored {
			if err := mirrorAll(ctx, st); err != nil {
				return fmt.Errorf("fill Fail2Ban's tables: %w", err)
			}
		}
		return st.exec(`UPDATE bantam_meta SET mirrored = 1, agreed = NULL`)
	})
	if err != nil {
		return err
	}
	if c := changes; c.taken+c.history+c.lifted+c.positions > 0 {
		s.log.Info("taken over from Fail2Ban", "bans", c.taken, "earlier", c.history, "lifted", c.lifted, "positions", c.positions)
	}
	return nil
}

// A foreign is a row of Fail2Ban's bans or bips.
type foreign struct {
	row        int64
	jail, ip   string
	at, length float64 // seconds
	count      int64
	data       []byte
	ours       sql.NullInt64
	forgiven   bool
}

// foreignColumns are read in whatever type a script has written them.
const foreignColumns = `f.rowid, CAST(f.jail AS TEXT), CAST(f.ip AS TEXT), CAST(f.timeofban AS REAL), CAST(f.bantime AS REAL),
	CAST(f.bancount AS INTEGER), CASE WHEN length(f.data) <= 1048576 THEN CAST(f.data AS BLOB) END`

// ourRow joins the ban of ours that a row of Fail2Ban's is: it has the time in whole seconds.
const ourRow = `LEFT JOIN bantam_ban AS m ON m.jail = f.jail AND m.id = f.ip AND NOT m.observed
	AND m.time BETWEEN f.timeofban * 1000000 - 500000 AND f.timeofban * 1000000 + 500000`

// foreigners tells f of the rows of a query in the order of their rowid, some at a time.
// The query has foreignColumns, ours and forgiven, and takes the last rowid and a number.
func foreigners(ctx context.Context, st *statements, query string, f func(*foreign) error) error {
	last := int64(math.MinInt64)
	for {
		var some []foreign
		err := st.query(ctx, query, []any{last, atOnce}, func(rows *sql.Rows) error {
			var r foreign
			var ip sql.NullString
			if err := rows.Scan(&r.row, &r.jail, &ip, &r.at, &r.length, &r.count, &r.data, &r.ours, &r.forgiven); err != nil {
				return err
			}
			r.ip = ip.String
			some = append(some, r)
			return nil
		})
		if err != nil {
			return err
		}
		for i := range some {
			if err := f(&some[i]); err != nil {
				return err
			}
		}
		if len(some) < atOnce {
			return nil
		}
		last = some[len(some)-1].row
	}
}

// ban is what the row says, false if that is no ban.
func (s *Store) foreignBan(r *foreign) (b bantam.Ban, ok bool) {
	if r.jail == "" || len(r.jail) > longestName || len(r.ip) > longestName || !(r.at > 0 && r.at < latestTime) || math.IsNaN(r.length) {
		return b, false
	}
	if err := b.ID.UnmarshalText([]byte(r.ip)); err != nil || b.ID.IsZero() {
		return b, false
	}
	b.Jail, b.Time = r.jail, time.UnixMicro(int64(math.Round(r.at*1e6)))
	b.Count = int(min(max(r.count, 1), 1<<30))
	length := r.length
	if length == peerUnknown {
		length = s.banTime(b.Jail).Seconds()
	}
	if length >= 0 && length < latestTime {
		b.End = time.UnixMicro(b.Time.UnixMicro() + int64(math.Round(length*1e6)))
	}
	readPeerData(&b, r.data)
	b.Lines = b.Lines[max(0, len(b.Lines)-s.MaxMatches()):]
	b.By = bantam.ByFailures
	if b.Failures == 0 && len(b.Lines) == 0 {
		b.By = bantam.ByOperator
	}
	return b, true
}

// canonical writes the ID of a row of Fail2Ban's as we do, if it is another text: it would
// not be found when the ban is lifted.
func canonical(st *statements, r *foreign, id bantam.ID) error {
	text := id.String()
	if text == r.ip {
		return nil
	}
	for _, table := range []string{"bips", "bans"} {
		if err := st.exec(`UPDATE OR REPLACE `+table+` SET ip = ? WHERE ip = ? AND jail = ?`, text, r.ip, r.jail); err != nil {
			return err
		}
	}
	return nil
}

// takeLast takes over Fail2Ban's last bans of each ID: those that we do not have, those
// that we took for lifted, and other ends of those that we have.
func (s *Store) takeLast(ctx context.Context, st *statements) (taken int64, err error) {
	err = foreigners(ctx, st, `SELECT `+foreignColumns+`, m.time, m.forgiven IS NOT NULL FROM bips AS f `+ourRow+`
		WHERE f.rowid > ?1 AND (m.time IS NULL OR m.forgiven IS NOT NULL
			OR f.bantime != -2 AND abs(CASE m.until WHEN 0 THEN -1 ELSE (m.until - m.time) / 1e6 END - f.bantime) > 1)
		ORDER BY f.rowid LIMIT ?2`, func(r *foreign) error {
		b, ok := s.foreignBan(r)
		if !ok {
			return nil
		}
		if err := canonical(st, r, b.ID); err != nil {
			return err
		}
		taken++
		if !r.ours.Valid {
			return s.takeBan(st, &b, nil, nil)
		}
		if r.forgiven {
			return st.exec(`UPDATE bantam_ban SET until = ?, ended = NULL, cause = NULL, forgiven = NULL WHERE jail = ? AND id = ? AND time = ?`,
				micros(b.End), b.Jail, b.ID.String(), r.ours.Int64)
		}
		return st.exec(`UPDATE bantam_ban SET until = ? WHERE jail = ? AND id = ? AND time = ?`,
			micros(b.End), b.Jail, b.ID.String(), r.ours.Int64)
	})
	return taken, err
}

// takeHistory takes over Fail2Ban's earlier bans, which are over.
func (s *Store) takeHistory(ctx context.Context, st *statements, now time.Time) (taken int64, err error) {
	err = foreigners(ctx, st, `SELECT `+foreignColumns+`, m.time, 0 FROM bans AS f `+ourRow+`
		WHERE f.rowid > ?1 AND m.time IS NULL ORDER BY f.rowid LIMIT ?2`, func(r *foreign) error {
		b, ok := s.foreignBan(r)
		if !ok {
			return nil
		}
		if err := canonical(st, r, b.ID); err != nil {
			return err
		}
		ended := b.End
		if b.Permanent() || ended.After(now) {
			ended = now // a later one took its place
		}
		taken++
		return s.takeBan(st, &b, micros(ended), bantam.CauseExpired)
	})
	return taken, err
}

// takeBan writes a ban into our own table unless it is there.
func (s *Store) takeBan(st *statements, b *bantam.Ban, ended, cause any) error {
	if err := st.knowJail(b.Jail); err != nil {
		return err
	}
	return st.exec(`INSERT OR IGNORE INTO bantam_ban VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL)`,
		b.Jail, b.ID.String(), micros(b.Time), micros(b.End), b.Failures, b.Count, b.By, b.Reason, b.User, b.Observed,
		text(jsonList(b.Lines)), object(b.Data), ended, cause)
}

// takePositions takes over the places in logs that Fail2Ban has reached. Where the tables
// were never the same, ours stay.
func takePositions(ctx context.Context, st *statements, mirrored bool) (taken int64, err error) {
	type key struct{ jail, source string }
	ours := map[key]bantam.Position{}
	err = st.query(ctx, `SELECT jail, source, mark, offset FROM bantam_position`, nil, func(rows *sql.Rows) error {
		var k key
		var p bantam.Position
		err := rows.Scan(&k.jail, &k.source, &p.Mark, &p.Offset)
		p.Source = k.source
		ours[k] = p
		return err
	})
	if err != nil {
		return 0, err
	}
	changed := map[key]bantam.Position{}
	err = st.query(ctx, `SELECT CAST(jail AS TEXT), CAST(path AS TEXT), CAST(coalesce(firstlinemd5, '') AS TEXT), CAST(lastfilepos AS REAL) FROM logs
		WHERE path IS NOT NULL AND length(jail) <= 4096 AND length(path) <= 4096 AND length(coalesce(firstlinemd5, '')) <= 4096`, nil,
		func(rows *sql.Rows) error {
			var k key
			var l peerLog
			var offset sql.NullFloat64
			if err := rows.Scan(&k.jail, &l.path, &l.mark, &offset); err != nil {
				return err
			}
			l.offset = offset.Float64
			p := l.position()
			k.source = p.Source
			old, have := ours[k]
			same := have && p.Offset == old.Offset && (p.Mark == old.Mark || p.Source == "journal")
			if !same && (mirrored || !have) {
				changed[k] = p
			}
			return nil
		})
	if err != nil {
		return 0, err
	}
	for k, p := range changed {
		if err := st.exec(`INSERT OR REPLACE INTO bantam_position VALUES (?,?,?,?,0)`, k.jail, p.Source, p.Mark, p.Offset); err != nil {
			return 0, err
		}
	}
	return int64(len(changed)), nil
}

// mirrorAll writes into Fail2Ban's tables what only ours have.
func mirrorAll(ctx context.Context, st *statements) error {
	if err := st.exec(`INSERT OR IGNORE INTO jails (name, enabled)
		SELECT jail, 1 FROM bantam_ban UNION SELECT jail, 1 FROM bantam_position`); err != nil {
		return err
	}
	last := bantam.Ban{Time: time.UnixMicro(math.MinInt64)}
	for {
		var some []bantam.Ban
		err := st.query(ctx, `SELECT jail, id, time, until, failures, count, made_by, reason, user, observed, lines, data FROM bantam_ban
			WHERE (jail, id, time) > (?, ?, ?) AND NOT observed AND forgiven IS NULL ORDER BY jail, id, time LIMIT ?`,
			[]any{last.Jail, last.ID.String(), last.Time.UnixMicro(), atOnce}, func(rows *sql.Rows) error {
				b, err := scanBan(rows)
				some = append(some, b)
				return err
			})
		if err != nil {
			return err
		}
		for i := range some {
			b := &some[i]
			values := []any{b.Jail, b.ID.String(), peerTime(b.Time), peerLength(b), b.Count, peerData(b, jsonList(b.Lines))}
			err := st.exec(`INSERT INTO bans (jail, ip, timeofban, bantime, bancount, data) SELECT ?1, ?2, ?3, ?4, ?5, ?6
				WHERE NOT EXISTS (SELECT 1 FROM bans WHERE ip = ?2 AND jail = ?1 AND CAST(round(timeofban) AS INTEGER) = ?3)`, values...)
			if err == nil {
				err = st.exec(insertLast1Newer, values...)
			}
			if err != nil {
				return err
			}
		}
		if len(some) < atOnce {
			break
		}
		last = some[len(some)-1]
	}
	var positions []bantam.Position
	var jails []string
	err := st.query(ctx, `SELECT jail, source, mark, offset, time FROM bantam_position`, nil, func(rows *sql.Rows) error {
		var jail string
		var p bantam.Position
		var at int64
		err := rows.Scan(&jail, &p.Source, &p.Mark, &p.Offset, &at)
		p.Time = fromMicros(at)
		jails, positions = append(jails, jail), append(positions, p)
		return err
	})
	for i, p := range positions {
		if err == nil {
			err = writePosition(st, jails[i], p)
		}
	}
	return err
}

// insertLast1Newer leaves a newer ban of the ID alone.
const insertLast1Newer = `INSERT INTO bips (jail, ip, timeofban, bantime, bancount, data) VALUES (?,?,?,?,?,?)
	ON CONFLICT (ip, jail) DO UPDATE SET timeofban = excluded.timeofban, bantime = excluded.bantime, bancount = excluded.bancount, data = excluded.data
	WHERE excluded.timeofban >= timeofban`
