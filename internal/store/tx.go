package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A statements is one transaction. Its statements are prepared when first needed, for good: to prepare one takes as long
// as to write a ban, and BEGIN and COMMIT are two of them.
type statements struct {
	store *Store
	conn  *sql.Conn
	jails map[string]bool // which Fail2Ban's tables know
}

// A preparer is the connection as the driver has it, with what was prepared on it.
type preparer struct {
	conn       driver.ConnPrepareContext
	statements map[string]driver.StmtExecContext // by their text
	values     []driver.NamedValue               // scratch
}

// inTx does f in one transaction.
func (s *Store) inTx(f func(*statements) error) (err error) {
	conn, err := s.db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	st := &statements{s, conn, map[string]bool{}}
	if err := st.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	if err = f(st); err == nil {
		err = st.exec(`COMMIT`)
	}
	if err != nil {
		// Some errors have rolled back already, as a full disk's (sqlite.org/lang_transaction.html, 3).
		_ = st.exec(`ROLLBACK`)
	}
	return err
}

// exec goes past database/sql, which looks for a connection, starts a watcher of the transaction and makes a statement
// of each statement anew: a third of the time of a ban that comes alone.
func (st *statements) exec(query string, args ...any) error {
	return st.conn.Raw(func(conn any) error {
		p := &st.store.prepared
		if p.conn != conn { // the first, or one that took the place of a broken one
			*p = preparer{conn: conn.(driver.ConnPrepareContext), statements: map[string]driver.StmtExecContext{}}
		}
		stmt := p.statements[query]
		if stmt == nil {
			fresh, err := p.conn.PrepareContext(context.Background(), query)
			if err != nil {
				return err
			}
			stmt = fresh.(driver.StmtExecContext)
			p.statements[query] = stmt
		}
		p.values = p.values[:0]
		for i, arg := range args {
			value, err := driver.DefaultParameterConverter.ConvertValue(arg)
			if err != nil {
				return err
			}
			p.values = append(p.values, driver.NamedValue{Ordinal: i + 1, Value: value})
		}
		_, err := stmt.ExecContext(context.Background(), p.values)
		clear(p.values)
		return err
	})
}

// count is exec and how many rows it changed.
func (st *statements) count(query string, args ...any) (int64, error) {
	res, err := st.conn.ExecContext(context.Background(), query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query calls row for each row of a query.
func (st *statements) query(ctx context.Context, query string, args []any, row func(*sql.Rows) error) error {
	rows, err := st.conn.QueryContext(calm(ctx), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// calm is ctx for the driver, without its end: a query that is interrupted costs the connection, and with it what was
// prepared on it, which nobody could give back any more. Queries are short, and those that read much look at ctx
// between rows.
func calm(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// closeDB closes the database with all that was prepared on it: SQLite leaves its log beside the file else.
func (s *Store) closeDB() error {
	var errs []error
	if conn, err := s.db.Conn(context.Background()); err == nil {
		errs = append(errs, conn.Raw(func(conn any) error {
			var errs []error
			if s.prepared.conn == conn { // statements of another went with it
				for _, stmt := range s.prepared.statements {
					errs = append(errs, stmt.(driver.Stmt).Close())
				}
			}
			return errors.Join(errs...)
		}), conn.Close())
	}
	s.prepared = preparer{}
	return errors.Join(append(errs, s.db.Close())...)
}
