package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"bantam"
	"bantam/internal/outbox"
)

var _ outbox.Shelf = (*Store)(nil)

// Bounds of what is kept for those who tell of decisions.
const (
	maxNews      = 200_000  // the last ones, counted over all readers together
	newsAtOnce   = 64       // that News reads: a ban waits that long for the database
	trimEvery    = 1024     // news between two looks for those that are too many
	numbersAhead = 1024     // that are taken at once, so that not each decision writes the last
	maxNotes     = 50_000   // of each owner
	maxNoteBytes = 64 << 20 // of each owner, keys and values
)

const (
	newsColumns = `INSERT INTO bantam_news (reader, number, jail, id, time, until, kind, at, cause) VALUES `
	newsRow     = `(?,?,?,?,?,?,?,?,?)`
	newsWidth   = 9
	putNumber   = `UPDATE bantam_meta SET news = ?`
)

var insertNews, insertNews1 = inserts(newsColumns, newsRow, "")

// followers are who is told of decisions.
type followers struct {
	names  []string            // sorted
	byJail map[string][]string // who is told of a jail's
}

// Follow says which readers, by name, are told of which jails' decisions from now on. It
// takes the place of what was said before, at any time. What was decided stays to be told
// to its reader, unless the reader is no more. Before the first call nobody is told
// anything.
func (s *Store) Follow(readers map[string][]string) {
	f := &followers{names: slices.Sorted(maps.Keys(readers)), byJail: map[string][]string{}}
	for _, reader := range f.names {
		for _, jail := range readers[reader] {
			if !slices.Contains(f.byJail[jail], reader) {
				f.byJail[jail] = append(f.byJail[jail], reader)
			}
		}
	}
	s.followers.Store(f)
	if err := s.inTx(s.dropForeignNews); err != nil {
		// Purge does it again.
		s.log.Warn("cannot forget the news of readers that are no more", "err", err)
	}
}

// WhenNews has f called by Run, after it has passed decisions on, if anybody follows. f must not block. It is
// called before Run.
func (s *Store) WhenNews(f func()) { s.whenNews = f }

func (s *Store) tellFollowers() {
	if f := s.followers.Load(); f != nil && len(f.byJail) > 0 && s.whenNews != nil {
		s.whenNews()
	}
}

// History is every ban of an ID that is remembered, running or over, the newest first; at most the last thousand.
func (s *Store) History(ctx context.Context, id bantam.ID) (out []bantam.Ban, err error) {
	// The index is by jail first, and there are few jails: they are found by going from one to the next in it.
	rows, err := s.db.QueryContext(calm(ctx), `SELECT b.jail, b.id, b.time, b.until, b.failures, b.count, b.made_by, b.reason, b.user, b.observed, b.lines, b.data
		FROM (WITH RECURSIVE names(jail) AS (SELECT min(jail) FROM bantam_ban UNION ALL
				SELECT (SELECT min(jail) FROM bantam_ban WHERE jail > names.jail) FROM names WHERE names.jail IS NOT NULL)
			SELECT jail FROM names WHERE jail IS NOT NULL) AS j JOIN bantam_ban AS b ON b.jail = j.jail AND b.id = ?
		ORDER BY b.time DESC LIMIT 1000`, id.String())
	if err == nil {
		defer rows.Close()
		for rows.Next() && err == nil {
			var b bantam.Ban
			b, err = scanBan(rows)
			out = append(out, b)
		}
		err = errors.Join(err, rows.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("read the bans of %s: %w", id, err)
	}
	return out, nil
}

// dropForeignNews forgets what readers have not read that are no more.
func (s *Store) dropForeignNews(st *statements) error {
	f := s.followers.Load()
	if f == nil {
		return nil
	}
	query, args := `DELETE FROM bantam_news WHERE reader NOT IN (''`, []any{}
	for _, name := range f.names {
		query, args = query+`,?`, append(args, name)
	}
	return st.exec(query+`)`, args...)
}

// writeNews keeps the decisions that somebody follows, to be told: the starts, observed
// ones too, and the ends. It is called with mu held.
func (s *Store) writeNews(st *statements, decisions []bantam.Decision) error {
	f := s.followers.Load()
	if f == nil || len(f.byJail) == 0 {
		return nil
	}
	before := s.number
	values := make([]any, 0, rowsAtOnce*newsWidth)
	for i := range decisions {
		d := &decisions[i]
		readers := f.byJail[d.Ban.Jail]
		if len(readers) == 0 || d.Kind != bantam.Start && d.Kind != bantam.End {
			continue
		}
		s.number++
		id := d.Ban.ID.String()
		for _, reader := range readers {
			values = append(values, reader, s.number, d.Ban.Jail, id, micros(d.Ban.Time), micros(d.Ban.End), string(d.Kind), micros(d.At), d.Cause)
			if len(values) == rowsAtOnce*newsWidth {
				if err := st.exec(insertNews, values...); err != nil {
					return err
				}
				values = values[:0]
			}
		}
	}
	if s.number == before {
		return nil
	}
	for row := range slices.Chunk(values, newsWidth) {
		if err := st.exec(insertNews1, row...); err != nil {
			return err
		}
	}
	if before/trimEvery != s.number/trimEvery {
		if err := s.trimNews(st, f.names); err != nil {
			return err
		}
	}
	if s.number <= s.numbered {
		return nil
	}
	s.numbered = s.number + numbersAhead
	return st.exec(putNumber, s.numbered)
}

// trimNews lets go of the oldest news.
func (s *Store) trimNews(st *statements, readers []string) error {
	for _, reader := range readers {
		n, err := st.count(`DELETE FROM bantam_news WHERE reader = ? AND number <= ?`, reader, s.number-s.maxNews)
		if err != nil {
			return err
		}
		if n > 0 {
			s.log.Error("too much is still to be told; the oldest of it is forgotten", "reader", reader, "decisions", n)
		}
	}
	return nil
}

// News are the decisions that reader has not done with yet, oldest first: at most most of
// them, and never more than 64, so that no ban waits long for the database. It is empty
// when there are none.
// A decision is among them as soon as Run has passed it on, or, while the file cannot be
// written, when it is. Of a ban that Purge has forgotten only the key and the end are told.
func (s *Store) News(ctx context.Context, reader string, most int) (out []bantam.News, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	rows, err := s.db.QueryContext(calm(ctx), `SELECT n.number, n.kind, n.at, n.cause,
			n.jail, n.id, n.time, coalesce(b.until, n.until), coalesce(b.failures, 0), coalesce(b.count, 0), coalesce(b.made_by, ''),
			coalesce(b.reason, ''), coalesce(b.user, ''), coalesce(b.observed, 0), b.lines, b.data
		FROM bantam_news AS n LEFT JOIN bantam_ban AS b ON b.jail = n.jail AND b.id = n.id AND b.time = n.time
		WHERE n.reader = ? ORDER BY n.number LIMIT ?`, reader, max(0, min(most, newsAtOnce)))
	if err == nil {
		defer rows.Close()
		for rows.Next() && err == nil {
			var n bantam.News
			var at int64
			n.Decision.Ban, err = scanBan(rows, &n.Number, &n.Decision.Kind, &at, &n.Decision.Cause)
			n.Decision.At = fromMicros(at)
			out = append(out, n)
		}
		err = errors.Join(err, rows.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("read the news of %s: %w", reader, err)
	}
	return out, nil
}

// oldestNews is the wall time of the oldest decision that somebody is still to be told of,
// zero if there is none.
func (s *Store) oldestNews(ctx context.Context) (oldest time.Time, err error) {
	f := s.followers.Load()
	if f == nil {
		return oldest, nil
	}
	var at int64
	for _, reader := range f.names {
		err := s.query(ctx, `SELECT at FROM bantam_news WHERE reader = ? ORDER BY number LIMIT 1`, []any{reader}, []any{&at}, func() error {
			if t := fromMicros(at); oldest.IsZero() || t.Before(oldest) {
				oldest = t
			}
			return nil
		})
		if err != nil {
			return oldest, err
		}
	}
	return oldest, nil
}

// purgeNews forgets what nobody will read, and of each owner's notes the oldest that are
// too many or too large.
func (s *Store) purgeNews(ctx context.Context) error {
	return s.inTx(func(st *statements) error {
		if err := s.dropForeignNews(st); err != nil {
			return err
		}
		// Bans wait meanwhile, and counting is far quicker than putting all in order.
		full := false
		err := st.query(ctx, `SELECT 1 FROM bantam_note GROUP BY owner HAVING count(*) > ? OR sum(length(key) + length(value)) > ?`,
			[]any{maxNotes, maxNoteBytes}, func(*sql.Rows) error { full = true; return nil })
		if err != nil || !full {
			return err
		}
		n, err := st.count(`DELETE FROM bantam_note WHERE rowid IN (SELECT row FROM (
			SELECT rowid AS row, row_number() OVER w AS n, sum(length(key) + length(value)) OVER w AS size
			FROM bantam_note WINDOW w AS (PARTITION BY owner ORDER BY at DESC, rowid DESC)) WHERE n > ? OR size > ?)`, maxNotes, maxNoteBytes)
		if n > 0 {
			s.log.Warn("too many notes; the oldest are forgotten", "notes", n)
		}
		return err
	})
}

// Commit writes new letters and notes and forgets the news up to b.UpTo, all or nothing. A
// letter whose key is there already is that letter, and stays as it is: a commit may be
// repeated.
func (s *Store) Commit(ctx context.Context, reader string, b outbox.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	err := s.inTx(func(st *statements) error {
		for i := range b.Letters {
			l := &b.Letters[i]
			if err := st.exec(`INSERT INTO bantam_letter (key, channel, about, made, due, tries, err, failed, body)
				VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
				l.Key, l.Channel, l.About, micros(l.Made), micros(l.Due), l.Tries, l.Err, l.Failed, blob(l.Body)); err != nil {
				return fmt.Errorf("write the letter %s to %s: %w", l.Key, l.Channel, err)
			}
		}
		at := micros(time.Now())
		for key, value := range b.Notes {
			var err error
			if value == nil {
				err = st.exec(`DELETE FROM bantam_note WHERE owner = ? AND key = ?`, reader, key)
			} else {
				err = st.exec(`INSERT OR REPLACE INTO bantam_note (owner, key, at, value) VALUES (?,?,?,?)`, reader, key, at, blob(value))
			}
			if err != nil {
				return fmt.Errorf("write the note %q: %w", key, err)
			}
		}
		if b.UpTo == 0 {
			return nil
		}
		return st.exec(`DELETE FROM bantam_news WHERE reader = ? AND number <= ?`, reader, b.UpTo)
	})
	if err != nil {
		return fmt.Errorf("commit what %s tells: %w", reader, err)
	}
	return nil
}

// blob is b as SQLite's blob, empty for nil, which would be NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Note is what owner remembers by key, and since when, wall time; nil for nothing.
func (s *Store) Note(ctx context.Context, owner, key string) (value []byte, at time.Time, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	var us int64
	err = s.db.QueryRowContext(calm(ctx), `SELECT value, at FROM bantam_note WHERE owner = ? AND key = ?`, owner, key).Scan(&value, &us)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the note %q of %s: %w", key, owner, err)
	}
	return blob(value), fromMicros(us), nil // the driver has nil for an empty one
}

// Notes are all that owner remembers, in the order of their keys.
func (s *Store) Notes(ctx context.Context, owner string) (out []outbox.Note, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	var n outbox.Note
	var at int64
	err = s.query(ctx, `SELECT key, value, at FROM bantam_note WHERE owner = ? ORDER BY key`, []any{owner}, []any{&n.Key, &n.Value, &at}, func() error {
		n.At = fromMicros(at)
		out = append(out, n)
		n.Value = nil // the next one gets its own
		return nil
	})
	return out, err
}

// Letters are all that are kept, oldest first, without their bodies.
func (s *Store) Letters(ctx context.Context) (out []outbox.Letter, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	var l outbox.Letter
	var made, due int64
	err = s.query(ctx, `SELECT key, channel, about, length(body), made, due, tries, err, failed FROM bantam_letter ORDER BY made, number`, nil,
		[]any{&l.Key, &l.Channel, &l.About, &l.Size, &made, &due, &l.Tries, &l.Err, &l.Failed}, func() error {
			l.Made, l.Due = fromMicros(made), fromMicros(due)
			out = append(out, l)
			return nil
		})
	return out, err
}

// Body is a letter's. outbox.ErrNoLetter says that there is no such letter.
func (s *Store) Body(ctx context.Context, key string) (body []byte, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	err = s.db.QueryRowContext(calm(ctx), `SELECT body FROM bantam_letter WHERE key = ?`, key).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		err = outbox.ErrNoLetter
	}
	if err != nil {
		return nil, fmt.Errorf("read the letter %s: %w", key, err)
	}
	return body, nil
}

// KeepLetter replaces the letter of the same key, but for its body. It is no error if it is
// there no more.
func (s *Store) KeepLetter(ctx context.Context, l outbox.Letter) error {
	return s.changeLetter(ctx, l.Key, `UPDATE bantam_letter SET channel = ?, about = ?, made = ?, due = ?, tries = ?, err = ?, failed = ? WHERE key = ?`,
		l.Channel, l.About, micros(l.Made), micros(l.Due), l.Tries, l.Err, l.Failed, l.Key)
}

// DropLetter forgets a letter.
func (s *Store) DropLetter(ctx context.Context, key string) error {
	return s.changeLetter(ctx, key, `DELETE FROM bantam_letter WHERE key = ?`, key)
}

func (s *Store) changeLetter(ctx context.Context, key, query string, args ...any) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	if _, err := s.db.ExecContext(calm(ctx), query, args...); err != nil {
		return fmt.Errorf("change the letter %s: %w", key, err)
	}
	return nil
}
