package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// altered is that a table has become another one since the session was opened, nil why
// where it has not, and how far the log was by then.
type altered struct {
	why error
	at  uint64
}

// look compares the catalog with what it was when the session was opened, since not every
// change of a table is in the log. Once everything from before has been handed over
// the session ends, and the next one finds the tables as they are. It reports whether the
// session has ended.
func (s *session) look(c *pgx.Conn, a *altered) bool {
	if a.why == nil {
		if a.why = s.compare(c); a.why == nil {
			return false
		}
		if err := c.QueryRow(s.ctx, "SELECT (pg_current_wal_lsn() - '0/0')::int8").Scan(&a.at); err != nil {
			*a = altered{} // again the next time
			return false
		}
	}
	if s.handed.Load() < a.at {
		return false
	}
	s.fail(fmt.Errorf("postgres: %w: %w", sources.ErrReopen, a.why))
	return true
}

// errAltered: see asLooked.
var errAltered = errors.New("postgres: a table is altered again and again while its snapshot begins")

// asLooked reports a table that has become another one since it was looked up: publications
// and slot wait for transactions that were open before, and one of these may have altered
// it. Open then begins again and finds it as it is. The snapshot's tables are locked.
func (o *opening) asLooked(ctx context.Context) error {
	tables, err := readTables(ctx, o.query, o.req.Tables)
	if err != nil {
		return err
	}
	for _, req := range o.req.Tables {
		was, now := o.tables[req.Name], tables[req.Name]
		if was == nil {
			continue
		}
		shape := sources.ShapeOf(was.relation(true, nil), req)
		if now == nil || shape.Became(sources.ShapeOf(now.relation(true, nil), req)) != nil {
			return fmt.Errorf("%w: table %s: try when it is not", errAltered, req.Name)
		}
	}
	return nil
}

// compare returns what a table that was asked for has become, nil where rows that come
// go with those that were there; what cannot be read is none of its business.
func (s *session) compare(c *pgx.Conn) error {
	tables, err := readTables(s.ctx, c, s.req.Tables)
	if err != nil {
		return nil
	}
	for _, req := range s.req.Tables {
		now := tables[req.Name]
		if now == nil {
			return fmt.Errorf("table %s is not there any more", req.Name)
		}
		was := sources.ShapeOf(s.relations[req.Name], req)
		if err := was.Became(sources.ShapeOf(now.relation(true, nil), req)); err != nil {
			return errors.New(err.Error()) // What is wrong is for who opens it to say.
		}
	}
	return nil
}
