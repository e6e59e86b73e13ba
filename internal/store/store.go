// Package store remembers bans, how far each log was read, whom the operator allowed, and
// what is still to be told, across restarts. It is one SQLite file.
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
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"bantam"
)

// maxBatch is how many decisions go into one transaction.
const maxBatch = 4096

// retryEvery is how long the store waits before it tries again to write what it
// holds back.
const retryEvery = 2 * time.Second

// A Config says where the database is and what is kept in it.
type Config struct {
	Path       string // "" for one in memory
	MaxMatches int    // log lines kept per ban, the last ones; 0 for none
	// PurgeAge is how long bans that are over are remembered; whoever calls Purge obeys it.
	PurgeAge time.Duration
	// BanTime is how long a jail bans, negative for ever: for bans of old files that do
	// not say. If it is nil they last ten minutes.
	BanTime func(jail string) time.Duration
}

// What is kept unless a Config says otherwise, as in Fail2Ban.
const (
	defaultMaxMatches = 10
	defaultPurgeAge   = 24 * time.Hour
	defaultBanTime    = 10 * time.Minute
)

// openWait is how long Open waits for a file that another program has locked, and
// busyWait how long a write waits later: the ban is carried out after that in any case.
const (
	openWait = 10 * time.Second
	busyWait = 250 * time.Millisecond
	lastWait = 5 * time.Second // at the stop
)

// A Store is an open database. It is safe for concurrent use, but for Run, which
// is called once.
type Store struct {
	log  *slog.Logger
	db   *sql.DB
	path string // "" in memory

	banTime    func(jail string) time.Duration
	maxMatches atomic.Int64
	purgeAge   atomic.Int64

	prepared preparer // used by who has the connection

	followers atomic.Pointer[followers] // nil until Follow is called

	// telling is held while one of those who tell of bans uses the file: there is one connection, first come, first
	// served, and a ban is to wait for one of them at most, not for all.
	telling sync.Mutex

	mu       sync.Mutex // guards the rest
	unsaved  held
	err      error
	maxNews  int64
	whenNews func() // nil for nobody
	// number is that of the last news; numbered, up to which the file has numbers taken.
	number, numbered int64
}

// Open is Config.Open with what Fail2Ban keeps, at path, or in memory if that is empty.
func Open(ctx context.Context, log *slog.Logger, path string) (*Store, error) {
	return Config{Path: path, MaxMatches: defaultMaxMatches, PurgeAge: defaultPurgeAge}.Open(ctx, log)
}

// Open opens the database, made if it is not there. The file is readable by its owner only.
// A file of Fail2Ban's is taken over, of an older version after a copy was made, and what
// Fail2Ban changed since we closed the file counts. One that another program has locked is
// waited for, ten seconds long. Errors name the file.
func (c Config) Open(ctx context.Context, log *slog.Logger) (*Store, error) {
	s := &Store{log: log, banTime: c.BanTime, maxNews: maxNews}
	s.SetMaxMatches(c.MaxMatches)
	s.SetPurgeAge(c.PurgeAge)
	if s.banTime == nil {
		s.banTime = func(string) time.Duration { return defaultBanTime }
	}
	if c.Path != "" {
		if err := prepare(c.Path); err != nil {
			return nil, err
		}
		abs, err := filepath.Abs(c.Path)
		if err != nil {
			return nil, err
		}
		s.path = abs
	}
	err := s.openPatiently(ctx)
	if isDamaged(err) && s.path != "" && looksLikeDatabase(s.path) {
		err = s.replace(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", c.Path, err)
	}
	return s, nil
}

// openPatiently waits for a file that is locked. SQLite does most of the waiting.
func (s *Store) openPatiently(ctx context.Context) error {
	deadline := time.Now().Add(openWait)
	for {
		err := s.open(ctx)
		if !isLocked(err) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %w", ErrLocked, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replace sets a damaged file aside and begins a new one with what can still be read.
func (s *Store) replace(ctx context.Context, why error) error {
	aside, err := setAside(s.path)
	if err != nil {
		return errors.Join(why, err)
	}
	if err := prepare(s.path); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	copied, err := s.salvage(ctx, aside)
	s.log.Error("the database was damaged; it is set aside and a new one begun", "path", s.path, "aside", aside,
		"err", why, "rows", copied)
	if err != nil {
		s.log.Warn("nothing more was saved of the damaged database", "err", err)
	}
	return nil
}

// open opens the file and brings it up to date.
func (s *Store) open(ctx context.Context) (err error) {
	dsn := "file::memory:?mode=memory"
	if s.path != "" {
		dsn = (&url.URL{Scheme: "file", OmitHost: true, Path: s.path}).String() + "?"
	}
	// A checkpoint each 16 MB instead of 4 spares a burst of bans a third of its time.
	dsn += fmt.Sprintf("&_pragma=busy_timeout(%d)&_pragma=synchronous(NORMAL)&_pragma=wal_autocheckpoint(4000)&_txlock=immediate", openWait.Milliseconds())
	if s.db, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	// One connection: SQLite has one writer, and a database in memory belongs to
	// its connection.
	s.db.SetMaxOpenConns(1)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeDB())
		}
	}()
	// Nothing is touched before both versions are known to be ours.
	if _, err := versionOf(ctx, s.db); err != nil {
		return err
	}
	peer, err := peerVersionOf(ctx, s.db)
	if err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	// Fail2Ban takes the file out of write-ahead mode when it opens it.
	var mode string
	if err := s.db.QueryRowContext(calm(ctx), `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(calm(ctx), `PRAGMA journal_mode = WAL`); err != nil {
		return err
	}
	if err := migrate(ctx, s.db); err != nil {
		return err
	}
	if err := s.upgradePeer(ctx, peer); err != nil {
		return err
	}
	if err := s.agree(ctx, peer == peerVersion, mode == "wal"); err != nil {
		return err
	}
	if err := s.db.QueryRowContext(calm(ctx), `SELECT news FROM bantam_meta`).Scan(&s.number); err != nil {
		return err
	}
	_, err = s.db.ExecContext(calm(ctx), fmt.Sprintf(`PRAGMA busy_timeout = %d`, busyWait.Milliseconds()))
	return err
}

// agree makes the tables of both programs agree, unless nobody but us can have changed
// them since they did. there says whether Fail2Ban's were found, ours that the file was
// left in our mode.
func (s *Store) agree(ctx context.Context, there, ours bool) error {
	var mirrored bool
	var agreed sql.NullString
	if err := s.db.QueryRowContext(calm(ctx), `SELECT mirrored, agreed FROM bantam_meta`).Scan(&mirrored, &agreed); err != nil {
		return err
	}
	mirrored = mirrored && there
	if mirrored && ours && agreed.Valid {
		looks, err := s.peerLooks(ctx)
		if err != nil {
			return err
		}
		if looks == agreed.String {
			_, err := s.db.ExecContext(calm(ctx), `UPDATE bantam_meta SET agreed = NULL`)
			return err
		}
	}
	return s.reconcile(ctx, mirrored, time.Now())
}

// Path is where the database is, "" if it is in memory only: what Fail2Ban's socket tells
// as dbfile.
func (s *Store) Path() string { return s.path }

// MaxMatches is how many log lines are kept per ban.
func (s *Store) MaxMatches() int { return int(s.maxMatches.Load()) }

// SetMaxMatches changes how many log lines are kept per ban, from the next one on.
func (s *Store) SetMaxMatches(n int) { s.maxMatches.Store(int64(max(n, 0))) }

// PurgeAge is how long bans that are over are remembered.
func (s *Store) PurgeAge() time.Duration { return time.Duration(s.purgeAge.Load()) }

// SetPurgeAge changes how long bans that are over are remembered, from the next Purge on.
func (s *Store) SetPurgeAge(age time.Duration) { s.purgeAge.Store(int64(max(age, 0))) }

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
	if n := len(s.unsaved.decisions) + s.unsaved.dropped; n > 0 {
		s.log.Error("decisions were never written down", "decisions", n, "err", s.err)
	}
	s.mu.Unlock()
	if s.path != "" {
		// Nothing depends on it.
		if err := s.handBack(context.Background()); err != nil {
			s.log.Warn("the database is not made ready for Fail2Ban", "err", err)
		}
	}
	return s.closeDB()
}

// Err is why the database does not take what is written to it, and how many
// decisions are held in memory; nil and 0 when all is well.
func (s *Store) Err() (unsaved int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.err
	if n := s.unsaved.dropped; n > 0 && err != nil {
		err = fmt.Errorf("%w; memory had no room for %d decisions, which a restart will forget", err, n)
	}
	return len(s.unsaved.decisions), err
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
				// Nothing waits for the last ones any more.
				if _, err := s.db.Exec(fmt.Sprintf(`PRAGMA busy_timeout = %d`, lastWait.Milliseconds())); err != nil {
					s.log.Warn("the last decisions do not wait for the database", "err", err)
				}
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
			s.tellFollowers()
		case <-retry.C:
			if s.save(nil) {
				s.tellFollowers()
			}
		}
	}
}

// save writes what was held back and batch, and reports whether there was anything to write; what cannot be
// written is held back.
func (s *Store) save(batch []bantam.Decision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unsaved.decisions) == 0 && s.err == nil && len(batch) > 0 {
		err := s.write(batch)
		if err == nil {
			return true
		}
		s.err = err
		s.log.Error("cannot write decisions down; they are carried out and held in memory until it works",
			"decisions", len(batch), "err", err)
	}
	s.unsaved.add(batch)
	if s.err == nil || batch != nil {
		return false // while the file takes nothing, one try each retryEvery is enough
	}
	if err := s.write(s.unsaved.decisions); err != nil {
		s.err = err
		return false
	}
	s.log.Info("the database takes decisions again", "decisions", len(s.unsaved.decisions))
	if n := s.unsaved.dropped; n > 0 {
		s.log.Warn("memory had no room for all decisions; these will be forgotten at a restart", "decisions", n)
	}
	s.unsaved, s.err = held{}, nil
	return true
}

// write writes decisions in one transaction. mu is held.
func (s *Store) write(decisions []bantam.Decision) error {
	err := s.inTx(func(st *statements) error { return s.writeDecisions(st, decisions) })
	if err != nil {
		s.numbered = 0 // whatever the file was told it has forgotten
	}
	return err
}

// SavePositions writes how far each jail has read, by jail.
func (s *Store) SavePositions(byJail map[string][]bantam.Position) error {
	return s.inTx(func(st *statements) error {
		for jail, positions := range byJail {
			for _, p := range positions {
				if err := writePosition(st, jail, p); err != nil {
					return fmt.Errorf("write the position of %s in %s: %w", jail, p.Source, err)
				}
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
func (s *Store) Bans(ctx context.Context, now time.Time) (out []bantam.Ban, err error) {
	err = s.EachBan(ctx, now, func(b bantam.Ban, n int) {
		if out == nil {
			out = make([]bantam.Ban, 0, n)
		}
		out = append(out, b)
	})
	slices.SortFunc(out, func(a, b bantam.Ban) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Jail, b.Jail), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return out, err
}

// EachBan calls f for each of Bans, in no order, with how many there are in all. f must not use the store.
func (s *Store) EachBan(ctx context.Context, now time.Time, f func(b bantam.Ban, n int)) error {
	_, err := s.db.ExecContext(calm(ctx), `UPDATE bantam_ban SET ended = until, cause = ?
		WHERE ended IS NULL AND until != 0 AND until < ?`, bantam.CauseExpired, micros(now))
	if err != nil {
		// A file that cannot be written can still be read.
		s.log.Warn("cannot mark bans as ended", "err", err)
	}
	// A ban is large, and there may be a million: a list of them that grew would be copied, and be
	// garbage, many times over.
	const running = ` WHERE ended IS NULL AND (until = 0 OR until >= ?)`
	var n int
	if err := s.db.QueryRowContext(calm(ctx), `SELECT count(*) FROM bantam_ban`+running, micros(now)).Scan(&n); err != nil {
		return fmt.Errorf("count the bans: %w", err)
	}
	// In the order of the table: by an index each row would be looked for in another place of the file.
	rows, err := s.db.QueryContext(calm(ctx), `SELECT jail, id, time, until, failures, count, made_by, reason, user, observed, lines, data
		FROM bantam_ban NOT INDEXED`+running, micros(now))
	if err != nil {
		return fmt.Errorf("read the bans: %w", err)
	}
	if err := eachRow(ctx, rows, func(b bantam.Ban) { f(b, n) }); err != nil {
		return fmt.Errorf("read the bans: %w", err)
	}
	return nil
}

// bansAtOnce is how many bans are handed over together.
const bansAtOnce = 256

// eachRow calls f for the bans of rows, which it closes. They are read on another core than f works on:
// both take as long.
func eachRow(ctx context.Context, rows *sql.Rows, f func(bantam.Ban)) error {
	read := make(chan []bantam.Ban, 4) // a reader that is ahead waits
	var g errgroup.Group
	g.Go(func() (err error) {
		defer close(read)
		defer func() { err = errors.Join(err, rows.Close()) }()
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			batch := make([]bantam.Ban, 0, bansAtOnce)
			for len(batch) < bansAtOnce {
				if more = rows.Next(); !more {
					break
				}
				b, err := scanBan(rows)
				if err != nil {
					return err
				}
				batch = append(batch, b)
			}
			read <- batch
		}
		return rows.Err()
	})
	for batch := range read {
		for i := range batch {
			f(batch[i])
		}
	}
	return g.Wait()
}

// scanBan reads a row of jail, id, time, until, failures, count, made_by, reason, user,
// observed, lines and data, and into first what stands before them.
func scanBan(rows *sql.Rows, first ...any) (b bantam.Ban, err error) {
	var id string
	var lines, data sql.NullString
	var start, until int64
	if err := rows.Scan(append(first, &b.Jail, &id, &start, &until, &b.Failures, &b.Count, &b.By, &b.Reason, &b.User, &b.Observed, &lines, &data)...); err != nil {
		return b, err
	}
	b.Time, b.End = fromMicros(start), fromMicros(until)
	b.Lines, b.Data = readList(lines.String), readObject(data.String)
	return b, b.ID.UnmarshalText([]byte(id))
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
	// Each question is one that an index answers.
	of := func(column string) (where string, args []any) {
		where = "jail IN (SELECT name FROM jails UNION SELECT jail FROM bantam_position)"
		if jail != "" {
			where, args = "jail = ?", append(args, jail)
		}
		if !id.IsZero() {
			where, args = where+" AND "+column+" = ?", append(args, id.String())
		}
		return where, args
	}
	err := s.inTx(func(st *statements) error {
		where, args := of("id")
		err := st.exec(`UPDATE bantam_ban SET forgiven = ? WHERE forgiven IS NULL AND ended IS NOT NULL AND `+where, append([]any{micros(now)}, args...)...)
		where, args = of("ip")
		for _, table := range []string{"bips", "bans"} {
			if err == nil {
				err = st.exec(`DELETE FROM `+table+` WHERE `+where+` AND NOT EXISTS (SELECT 1 FROM bantam_ban AS m
					WHERE m.jail = `+table+`.jail AND m.id = `+table+`.ip AND m.ended IS NULL AND NOT m.observed
						AND CAST(round(m.time / 1e6) AS INTEGER) = timeofban)`, args...)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("pardon %s: %w", id, err)
	}
	return nil
}

// Seed is 32 random bytes that are the same as long as the database lives.
func (s *Store) Seed(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh) // never fails
	if _, err := s.db.ExecContext(calm(ctx), `UPDATE bantam_meta SET seed = ? WHERE seed IS NULL`, fresh); err != nil {
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
// too. Those still running stay, and those of which somebody is still to be told. If the file
// is larger than a gigabyte after that, what is over is forgotten, the oldest first, until it
// is not. Fail2Ban's tables forget the same. Of notes too many or too large the oldest go.
func (s *Store) Purge(ctx context.Context, before time.Time) (forgotten int64, err error) {
	if err := s.purgeNews(ctx); err != nil {
		return 0, fmt.Errorf("purge the news: %w", err)
	}
	oldest, err := s.oldestNews(ctx)
	if err != nil {
		return 0, fmt.Errorf("purge the database: %w", err)
	}
	if !oldest.IsZero() && oldest.Before(before) {
		before = oldest
	}
	return s.purge(ctx, before, maxSize)
}

// maxSize is how much of the disk, in bytes, bans that are over may hold: room for about
// half a million with ten lines each. An attacker chooses how long the lines are.
const maxSize = 1 << 30

// purgeAtOnce is how many bans a purge forgets in one transaction, so that decisions do
// not wait for it.
const purgeAtOnce = 2048

func (s *Store) purge(ctx context.Context, before time.Time, most int64) (forgotten int64, err error) {
	n, err := s.forget(ctx, `(ended < ?1 OR ended IS NULL AND until BETWEEN 1 AND ?1 - 1) AND (
		observed OR forgiven IS NOT NULL OR until = 0 OR time + 3 * (until - time) < ?1 OR EXISTS (
			SELECT 1 FROM bantam_ban AS later WHERE later.jail = bantam_ban.jail AND later.id = bantam_ban.id
				AND later.time > bantam_ban.time AND NOT later.observed))`, micros(before))
	forgotten += n
	for err == nil {
		var size int64
		if err = s.db.QueryRowContext(calm(ctx), `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&size); err != nil || size <= most {
			break
		}
		n, err = s.forgetSome(ctx, `ended IS NOT NULL ORDER BY ended`, nil)
		if forgotten += n; n == 0 {
			break
		}
	}
	if err != nil {
		return forgotten, fmt.Errorf("purge the database: %w", err)
	}
	return forgotten, nil
}

// forget forgets the bans of ours that a condition holds for, some at a time.
func (s *Store) forget(ctx context.Context, where string, args ...any) (forgotten int64, err error) {
	for {
		n, err := s.forgetSome(ctx, where, args)
		if forgotten += n; err != nil || n < purgeAtOnce {
			return forgotten, err
		}
	}
}

func (s *Store) forgetSome(ctx context.Context, where string, args []any) (forgotten int64, err error) {
	type key struct {
		jail, id string
		time     int64
	}
	err = s.inTx(func(st *statements) error {
		var keys []key
		query := fmt.Sprintf(`SELECT jail, id, time FROM bantam_ban WHERE %s LIMIT %d`, where, purgeAtOnce)
		if err := st.query(ctx, query, args, func(rows *sql.Rows) error {
			var k key
			err := rows.Scan(&k.jail, &k.id, &k.time)
			keys = append(keys, k)
			return err
		}); err != nil {
			return err
		}
		for _, k := range keys {
			at := peerTime(fromMicros(k.time))
			for _, table := range []string{"bans", "bips"} {
				if err := st.exec(`DELETE FROM `+table+` WHERE ip = ? AND jail = ? AND CAST(round(timeofban) AS INTEGER) = ?`, k.id, k.jail, at); err != nil {
					return err
				}
			}
			if err := st.exec(`DELETE FROM bantam_ban WHERE jail = ? AND id = ? AND time = ?`, k.jail, k.id, k.time); err != nil {
				return err
			}
		}
		forgotten = int64(len(keys))
		return nil
	})
	return forgotten, err
}

// query scans each row of a query into dest and calls row.
func (s *Store) query(ctx context.Context, query string, args, dest []any, row func() error) (err error) {
	rows, err := s.db.QueryContext(calm(ctx), query, args...)
	if err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
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

// object is the JSON of what is there, NULL for nothing.
func object(data map[string]string) any {
	if len(data) == 0 {
		return nil
	}
	out := []byte{'{'}
	for i, key := range slices.Sorted(maps.Keys(data)) {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendJSON(out, key)
		out = append(out, ": "...)
		out = appendJSON(out, data[key])
	}
	return string(append(out, '}'))
}

// readObject is object backwards. Foreign content is nothing: what stands behind a ban is no reason
// to lose it.
func readObject(text string) map[string]string {
	var data map[string]string
	if text == "" || json.Unmarshal([]byte(text), &data) != nil {
		return nil
	}
	return data
}
