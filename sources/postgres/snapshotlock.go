package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockWait bounds each wait for a lock in the snapshot's transactions. It is shorter
// than the server's usual deadlock_timeout, so that it is we who step back and never an
// application's transaction that is cancelled.
const lockWait = 200 * time.Millisecond

// savepoint is what the snapshot's transactions go back to when they give up locks.
const savepoint = "tailrace_locks"

// lockTables takes ACCESS SHARE locks on all tables, for the anchor and for each
// reader. It names a table that was rewritten meanwhile.
//
// Each of them holds all its locks before the first row is read. A reader that
// asked for one only when it comes to a table would wait behind a TRUNCATE that waits
// for the anchor or another reader, and these wait for nobody that the server knows
// of: it sees no deadlock, and nothing ever goes on. Where one cannot have a lock soon,
// all give up theirs and try again later, and the application goes first.
func (s *snapshotter) lockTables(ctx context.Context) (rewritten string, err error) {
	for range s.o.cfg.SnapshotParallelism {
		c, err := connect(ctx, s.o.conn)
		if err != nil {
			return "", err
		}
		s.readers = append(s.readers, c)
		if err := importSnapshot(ctx, c.PgConn(), s.exported[0]); err != nil {
			return "", err
		}
	}
	holders := append([]*pgx.Conn{s.anchor}, s.readers...)
	for _, c := range holders {
		if _, err := c.Exec(ctx, "SAVEPOINT "+savepoint); err != nil {
			return "", fmt.Errorf("postgres: lock the tables: %w", err)
		}
	}
	told := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		table, err := s.tryLocks(ctx, holders)
		if err == nil {
			return s.rewritten(ctx)
		}
		if !lockRefused(err) {
			return "", err
		}
		for _, c := range holders {
			if _, err := c.Exec(ctx, "ROLLBACK TO SAVEPOINT "+savepoint); err != nil {
				return "", fmt.Errorf("postgres: give up the tables' locks: %w", err)
			}
		}
		if time.Since(told) > 10*time.Second {
			s.o.log.Warn(
				"waiting to read a table that a transaction has locked exclusively, or waits to",
				"table",
				table,
			)
			told = time.Now()
		}
		if err := sleep(ctx, pause); err != nil {
			return "", err
		}
	}
}

// tryLocks locks all tables for all holders, or says at which it could not.
func (s *snapshotter) tryLocks(ctx context.Context, holders []*pgx.Conn) (table string, err error) {
	for _, c := range holders {
		if table, err := s.lock(ctx, c.PgConn()); err != nil {
			return table, err
		}
	}
	return "", nil
}

// lock locks all tables in one transaction, by queries that need no more rights than
// the snapshot does.
func (s *snapshotter) lock(ctx context.Context, c *pgconn.PgConn) (table string, err error) {
	var sql strings.Builder
	tables := s.tables()
	for _, t := range tables {
		cols := s.selected(t, t.relation(s.o.plan.publishesGenerated(t), s.o.plan.columnList(t)))
		fmt.Fprintf(&sql, "SELECT %s FROM %s LIMIT 0;", cols.list, t.rows())
	}
	done := 0
	results := c.Exec(ctx, sql.String())
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err != nil {
			break // Close tells it again.
		}
		done++
	}
	if err := results.Close(); err != nil {
		table = "?"
		if done < len(tables) {
			table = tables[done].sql()
		}
		return table, fmt.Errorf("postgres: lock table %s: %w", table, err)
	}
	return "", nil
}

// lockRefused reports whether a lock could not be had in time.
func lockRefused(err error) bool {
	code := sqlState(err)
	return code == "55P03" || code == "40P01"
}

// rewritten names a table whose rows the snapshot does not see any more, "" if there
// is none. The tables are locked.
func (s *snapshotter) rewritten(ctx context.Context) (table string, err error) {
	var oids []int64
	for _, t := range s.tables() {
		oids = append(oids, int64(t.oid))
	}
	// pg_class shows the file of the snapshot's time, the function that of now.
	rows, err := s.anchor.Query(ctx, `SELECT c.oid::regclass::text FROM unnest($1::int8[]) AS o(oid),
		LATERAL (SELECT relid FROM pg_partition_tree(o.oid::oid::regclass) UNION SELECT o.oid::oid) AS p(relid)
		JOIN pg_class c ON c.oid = p.relid WHERE c.relkind = 'r'
		AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid) LIMIT 1`, oids)
	if err != nil {
		return "", fmt.Errorf("postgres: check the tables' files: %w", err)
	}
	for rows.Next() {
		if err := rows.Scan(&table); err != nil {
			return "", fmt.Errorf("postgres: check the tables' files: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("postgres: check the tables' files: %w", err)
	}
	return table, nil
}

// closeReaders closes the readers' connections that no reader has taken.
func (s *snapshotter) closeReaders(ctx context.Context) {
	for _, c := range s.readers {
		c.Close(context.WithoutCancel(ctx))
	}
	s.readers = nil
}
