package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
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
func (s *session) look(ctx context.Context, c *pgx.Conn, a *altered) bool {
	if a.why == nil {
		var err error
		if a.why, err = becameOther(ctx, c, s.req.Tables, s.relations); err != nil || a.why == nil {
			return false // What cannot be read is looked at the next time.
		}
		if err := c.QueryRow(ctx, "SELECT (pg_current_wal_lsn() - '0/0')::int8").Scan(&a.at); err != nil {
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
	why, err := becameOther(ctx, o.query, o.req.Tables, o.relations())
	if why != nil {
		return fmt.Errorf("%w: try when it is not: %w", errAltered, why)
	}
	return err
}

// becameOther tells why rows that come do not go with those of the tables as they were, nil
// where they do. It wraps no error: what is wrong is for who opens a session to say.
func becameOther(
	ctx context.Context, c *pgx.Conn, reqs []sources.TableRequest, was map[string]*record.Relation,
) (why, err error) {
	tables, err := readTables(ctx, c, reqs)
	if err != nil {
		return nil, err
	}
	for _, req := range reqs {
		old, now := was[req.Name], tables[req.Name]
		if old == nil {
			continue
		}
		if now == nil {
			return fmt.Errorf("table %s is not there any more", req.Name), nil
		}
		if wrong := checkPartitions(now); len(wrong) > 0 {
			return fmt.Errorf("table %s: %s", req.Name, wrong[0].Text), nil
		}
		if err := sources.ShapeOf(old, req).Became(sources.ShapeOf(now.relation(true, nil), req)); err != nil {
			return errors.New(err.Error()), nil
		}
	}
	return nil, nil
}
