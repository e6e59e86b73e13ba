// Package store remembers bans, how far each log was read, and whom the operator
// allowed, across restarts. It is one SQLite file.
//
// A decision is written before anybody acts on it, together with the positions of
// the lines that led to it, so that after a crash at any moment nothing is lost and
// nothing is decided twice. SQLite's write-ahead log is not synced at each commit: a
// crash of the program loses nothing, a power cut may lose the last moments.
//
// If the file cannot be written, bans go on all the same: decisions are held in
// memory, passed on, and written as soon as the file takes them again. Err says so.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"bantam"
)

// maxBatch is how many decisions go into one transaction.
const maxBatch = 4096

// retryEvery is how long the store waits before it tries again to write what it
// holds back.
const retryEvery = 2 * time.Second

// A Store is an open database. It is safe for concurrent use, but for Run, which
// is called once.
type Store struct {
	log *slog.Logger
	db  *sql.DB

	mu      sync.Mutex // guards the rest
	unsaved []bantam.Decision
	err     error
}

// Open opens the database at path, made if it is not there, or one in memory if
// path is empty. The file is readable by its owner only. Errors name the file; one
// that is no database is left as it is.
func Open(ctx context.Context, log *slog.Logger, path string) (*Store, error) {
	dsn := "file::memory:?mode=memory"
	if path != "" {
		if err := prepare(path); err != nil {
			return nil, err
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		dsn = (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String() + "?"
	}
	dsn += "&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	// One connection: SQLite has one writer, and a database in memory belongs to
	// its connection.
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), db.Close())
	}
	return &Store{log: log, db: db}, nil
}

// prepare makes the file with the mode it shall have, and its folder.
func prepare(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the database: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open the database", Path: path, Err: errors.New("not a regular file")}
	}
	return errors.Join(err, f.Close())
}

// Close closes the database. What could not be written is lost then, and told.
func (s *Store) Close() error {
	s.mu.Lock()
	if n := len(s.unsaved); n > 0 {
		s.log.Error("decisions were never written down", "decisions", n, "err", s.err)
	}
	s.mu.Unlock()
	return s.db.Close()
}

// Err is why the database does not take what is written to it, and how many
// decisions are held in memory; nil and 0 when all is well.
func (s *Store) Err() (unsaved int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unsaved), s.err
}

// Run writes decisions, as many as have come in one transaction, and then passes
// them on, until decisions is closed; then it closes stored. It waits for whoever
// reads stored. A write that fails is tried again and holds nothing up.
func (s *Store) Run(decisions <-chan bantam.Decision, stored chan<- []bantam.Decision) {
	defer close(stored)
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case d, ok := <-decisions:
			if !ok {
				s.save(nil)
				return
			}
			batch := []bantam.Decision{d}
			for more := true; more && len(batch) < maxBatch; {
				select {
				case d, ok := <-decisions:
					if more = ok; ok {
						batch = append(batch, d)
					}
				default:
					more = false
				}
			}
			s.save(batch)
			stored <- batch
		case <-retry.C:
			s.save(nil)
		}
	}
}

// save writes what was held back and batch; what cannot be written is held back.
func (s *Store) save(batch []bantam.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved = append(s.unsaved, batch...)
	if len(s.unsaved) == 0 || s.err != nil && batch != nil {
		return // while the file takes nothing, one try each retryEvery is enough
	}
	switch err := s.write(s.unsaved); {
	case err == nil:
		if s.err != nil {
			s.log.Info("the database takes decisions again", "decisions", len(s.unsaved))
		}
		s.unsaved, s.err = nil, nil
	default:
		if s.err == nil {
			s.log.Error("cannot write decisions down; they are carried out and held in memory until it works",
				"decisions", len(s.unsaved), "err", err)
		}
		s.err = err
	}
}

// statements of one transaction, prepared when first needed.
type statements struct {
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

func (st *statements) exec(query string, args ...any) error {
	stmt := st.prepared[query]
	if stmt == nil {
		var err error
		if stmt, err = st.tx.Prepare(query); err != nil {
			return err
		}
		st.prepared[query] = stmt
	}
	_, err := stmt.Exec(args...)
	return err
}

// inTx does f in one transaction.
func (s *Store) inTx(f func(*statements) error) (err error) {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	if err := f(&statements{tx, map[string]*sql.Stmt{}}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *Store) write(decisions []bantam.Decision) error {
	return s.inTx(func(st *statements) error {
		for i := range decisions {
			if err := writeDecision(st, &decisions[i]); err != nil {
				return fmt.Errorf("write the decision on %s in %s: %w", decisions[i].Ban.ID, decisions[i].Ban.Jail, err)
			}
		}
		return nil
	})
}

func writeDecision(st *statements, d *bantam.Decision) error {
	b := &d.Ban
	var err error
	switch d.Kind {
	case bantam.Start:
		// A ban may start again at the second in which it was lifted.
		err = st.exec(`INSERT INTO bantam_ban VALUES (?,?,?,?,?,?,?,?,?,?,?,?,NULL,NULL,NULL)
			ON CONFLICT DO UPDATE SET until = excluded.until, ended = NULL, cause = NULL, forgiven = NULL, observed = excluded.observed, count = excluded.count`,
			b.Jail, b.ID.String(), micros(b.Time), micros(b.End), b.Failures, b.Count, b.By, b.Reason, b.User,
			b.Observed, list(b.Lines), object(b.Data))
	case bantam.Prolong:
		err = st.exec(`UPDATE bantam_ban SET until = ? WHERE jail = ? AND id = ? AND ended IS NULL`,
			micros(b.End), b.Jail, b.ID.String())
	case bantam.End:
		// The bans of a jail that is gone come back with it.
		if d.Cause != bantam.CauseRemoved {
			err = st.exec(`UPDATE bantam_ban SET ended = ?, cause = ? WHERE jail = ? AND id = ? AND ended IS NULL`,
				micros(d.At), d.Cause, b.Jail, b.ID.String())
		}
		if err == nil && (d.Cause == bantam.CauseOperator || d.Cause == bantam.CauseAllowed) {
			err = st.exec(`UPDATE bantam_ban SET forgiven = ? WHERE jail = ? AND id = ? AND forgiven IS NULL`,
				micros(d.At), b.Jail, b.ID.String())
		}
	}
	if err != nil {
		return err
	}
	return writePositions(st, b.Jail, d.Positions)
}

func writePositions(st *statements, jail string, positions []bantam.Position) error {
	for _, p := range positions {
		err := st.exec(`INSERT OR REPLACE INTO bantam_position VALUES (?,?,?,?,?)`,
			jail, p.Source, p.Mark, p.Offset, micros(p.Time))
		if err != nil {
			return err
		}
	}
	return nil
}

// SavePositions writes how far each jail has read, by jail.
func (s *Store) SavePositions(byJail map[string][]bantam.Position) error {
	return s.inTx(func(st *statements) error {
		for jail, positions := range byJail {
			if err := writePositions(st, jail, positions); err != nil {
				return fmt.Errorf("write the positions of %s: %w", jail, err)
			}
		}
		return nil
	})
}

// Positions is how far each jail had read each source: by jail, then by source.
func (s *Store) Positions(ctx context.Context) (map[string]map[string]bantam.Position, error) {
	out := map[string]map[string]bantam.Position{}
	var jail string
	var p bantam.Position
	var at int64
	err := s.query(ctx, `SELECT jail, source, mark, offset, time FROM bantam_position`, nil,
		[]any{&jail, &p.Source, &p.Mark, &p.Offset, &at}, func() error {
			p.Time = fromMicros(at)
			if out[jail] == nil {
				out[jail] = map[string]bantam.Position{}
			}
			out[jail][p.Source] = p
			return nil
		})
	return out, err
}

// Bans is the bans that run at the wall time now, oldest first. Those that ended
// while nobody looked are marked as ended.
func (s *Store) Bans(ctx context.Context, now time.Time) ([]bantam.Ban, error) {
	_, err := s.db.ExecContext(ctx, `UPDATE bantam_ban SET ended = until, cause = ?
		WHERE ended IS NULL AND until != 0 AND until < ?`, bantam.CauseExpired, micros(now))
	if err != nil {
		// A file that cannot be written can still be read.
		s.log.Warn("cannot mark bans as ended", "err", err)
	}
	var out []bantam.Ban
	var b bantam.Ban
	var id string
	var lines, data sql.NullString
	var start, until int64
	err = s.query(ctx, `SELECT jail, id, time, until, failures, count, made_by, reason, user, observed, lines, data
		FROM bantam_ban WHERE ended IS NULL AND (until = 0 OR until >= ?) ORDER BY time, jail, id`, []any{micros(now)},
		[]any{&b.Jail, &id, &start, &until, &b.Failures, &b.Count, &b.By, &b.Reason, &b.User, &b.Observed, &lines, &data},
		func() error {
			ban := b
			ban.Time, ban.End = fromMicros(start), fromMicros(until)
			decode(lines, &ban.Lines)
			decode(data, &ban.Data)
			err := ban.ID.UnmarshalText([]byte(id))
			out = append(out, ban)
			return err
		})
	return out, err
}

// Counts calls f for every ban that is still remembered, running or over, those of one
// ID oldest first, with its Jail, ID, Time, End and Count and nothing else. A Count of 0
// is no ban but a pardon, at the wall time Time: what came before it does not count any
// more. Observed bans are left out.
func (s *Store) Counts(ctx context.Context, f func(bantam.Ban)) error {
	var b, pardon bantam.Ban
	var text string
	var at, until, forgiven int64
	tell := func() {
		if !pardon.Time.IsZero() {
			f(pardon)
		}
		pardon = bantam.Ban{}
	}
	// The order is the table's own. One pardon is for all bans that bear its time.
	err := s.query(ctx, `SELECT jail, id, time, until, count, coalesce(forgiven, 0) FROM bantam_ban WHERE NOT observed
		ORDER BY jail, id, time`, nil, []any{&b.Jail, &text, &at, &until, &b.Count, &forgiven}, func() error {
		b.Time, b.End = fromMicros(at), fromMicros(until)
		if err := b.ID.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		if b.Jail != pardon.Jail || b.ID != pardon.ID || micros(pardon.Time) != forgiven {
			tell()
		}
		f(b)
		if forgiven != 0 {
			pardon = bantam.Ban{Jail: b.Jail, ID: b.ID, Time: fromMicros(forgiven)}
		}
		return nil
	})
	tell()
	return err
}

// Pardon makes bans that are over count as earlier ones no more: those of id, or of all if
// it is zero, in one jail, or in all if jail is empty. Bans that an operator lifts while
// they run are pardoned with the decision.
func (s *Store) Pardon(ctx context.Context, jail string, id bantam.ID, now time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE bantam_ban SET forgiven = ?1
		WHERE forgiven IS NULL AND ended IS NOT NULL AND (?2 = '' OR jail = ?2) AND (?3 = '' OR id = ?3)`,
		micros(now), jail, id.String())
	if err != nil {
		return fmt.Errorf("pardon %s: %w", id, err)
	}
	return nil
}

// Seed is 32 random bytes that are the same as long as the database lives.
func (s *Store) Seed(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh) // never fails
	if _, err := s.db.ExecContext(ctx, `UPDATE bantam_meta SET seed = ? WHERE seed IS NULL`, fresh); err != nil {
		// A file that cannot be written can still be read.
		s.log.Warn("cannot keep the seed of chance", "err", err)
	}
	var kept []byte
	err := s.query(ctx, `SELECT seed FROM bantam_meta`, nil, []any{&kept}, func() error { return nil })
	if len(kept) == 0 {
		kept = fresh
	}
	return kept, err
}

// Purge forgets bans that ended before the wall time before and count as earlier ones no
// more: the last of an ID does until three times its length have passed since it began,
// too. Those still running stay.
func (s *Store) Purge(ctx context.Context, before time.Time) (forgotten int64, err error) {
	res, err := s.db.ExecContext(ctx, `DELETE FROM bantam_ban
		WHERE coalesce(ended, CASE until WHEN 0 THEN NULL ELSE until END) < ?1 AND (
			observed OR forgiven IS NOT NULL OR until = 0 OR time + 3 * (until - time) < ?1 OR EXISTS (
				SELECT 1 FROM bantam_ban AS later WHERE later.jail = bantam_ban.jail AND later.id = bantam_ban.id
					AND later.time > bantam_ban.time AND NOT later.observed))`, micros(before))
	if err != nil {
		return 0, fmt.Errorf("purge the database: %w", err)
	}
	return res.RowsAffected()
}

// An Allowed is a prefix that is never banned.
type Allowed struct {
	Prefix bantam.ID `json:"prefix"`
	Reason string    `json:"reason,omitempty"`
	Added  time.Time `json:"added"` // wall time
}

// Allow remembers that prefixes are never to be banned; known ones get the new
// reason. IDs that are no prefixes are an error.
func (s *Store) Allow(ids []bantam.ID, reason string, now time.Time) error {
	return s.inTx(func(st *statements) error {
		for _, id := range ids {
			if _, ok := id.Prefix(); !ok {
				return fmt.Errorf("allow %q: %w", id, bantam.ErrNotAddress)
			}
			if err := st.exec(`INSERT OR REPLACE INTO bantam_allow VALUES (?,?,?)`, id.String(), reason, micros(now)); err != nil {
				return fmt.Errorf("allow %s: %w", id, err)
			}
		}
		return nil
	})
}

// Disallow takes prefixes off the allow list and returns those that were on it.
func (s *Store) Disallow(ids []bantam.ID) (removed []bantam.ID, err error) {
	for _, id := range ids {
		res, err := s.db.Exec(`DELETE FROM bantam_allow WHERE prefix = ?`, id.String())
		if err != nil {
			return removed, fmt.Errorf("take %s off the allow list: %w", id, err)
		}
		if n, err := res.RowsAffected(); err == nil && n > 0 {
			removed = append(removed, id)
		}
	}
	return removed, nil
}

// Allowed is the allow list, in the order of the prefixes' text.
func (s *Store) Allowed(ctx context.Context) ([]Allowed, error) {
	out := []Allowed{}
	var a Allowed
	var prefix string
	var added int64
	err := s.query(ctx, `SELECT prefix, reason, added FROM bantam_allow ORDER BY prefix`, nil,
		[]any{&prefix, &a.Reason, &added}, func() error {
			a.Added = fromMicros(added)
			if err := a.Prefix.UnmarshalText([]byte(prefix)); err != nil {
				return err
			}
			out = append(out, a)
			return nil
		})
	return out, err
}

// Prefixes is the allow list as prefixes.
func Prefixes(allowed []Allowed) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(allowed))
	for _, a := range allowed {
		if p, ok := a.Prefix.Prefix(); ok {
			out = append(out, p)
		}
	}
	return out
}

// query scans each row of a query into dest and calls row.
func (s *Store) query(ctx context.Context, query string, args, dest []any, row func() error) (err error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read the database: %w", err)
		}
		if err := row(); err != nil {
			return fmt.Errorf("read the database: %w", err)
		}
	}
	return rows.Err()
}

// micros is t in microseconds of Unix time; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// list and object are the JSON of what is there, NULL for nothing. Log lines may
// hold bytes that are no UTF-8; JSON has replacement characters for them.
func list(lines []string) any {
	if len(lines) == 0 {
		return nil
	}
	return encode(lines)
}

func object(data map[string]string) any {
	if len(data) == 0 {
		return nil
	}
	return encode(data)
}

func encode(v any) any {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // cannot happen: the types are plain
		return nil
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// decode reads what list or object wrote. Foreign content leaves v empty: the
// lines behind a ban are no reason to lose it.
func decode[T any](text sql.NullString, v *T) {
	var read T
	if text.Valid && json.Unmarshal([]byte(text.String), &read) == nil {
		*v = read
	}
}
