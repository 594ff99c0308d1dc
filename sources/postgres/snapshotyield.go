package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// yieldAfter is how long a snapshot of which nothing is read keeps the application from
// locking a table.
const yieldAfter = 5 * time.Second

// handOn passes a piece on. While nobody takes it, the application goes first: where one of
// its transactions waits for a table that the snapshot has locked, the session ends, and has
// to be opened again.
//
// Who reads may itself wait for that transaction, and no server knows of it: to create
// the slot of a second database, a server waits for all transactions that are open in any
// of its databases, and an app that opens two reads neither before it has both.
func (s *snapshotter) handOn(ctx context.Context, out chan<- *sources.Batch, b *sources.Batch) error {
	timer := time.NewTimer(yieldAfter)
	defer timer.Stop()
	for lost := false; ; {
		select {
		case out <- b:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		table, err := s.waitedFor(ctx)
		if err != nil && !lost {
			lost = true
			// The readers hold their own locks, and may well come to the end.
			s.o.log.Warn("asking over new connections who waits for the snapshot's tables", "error", err)
		}
		if err != nil {
			table, _ = s.waitedForBeside(ctx) // again the next time
		}
		if table != "" {
			return fmt.Errorf("postgres: a transaction waits to lock table %s, of whose snapshot nothing has been "+
				"read for %s: %w", table, yieldAfter, sources.ErrReopen)
		}
		timer.Reset(yieldAfter)
	}
}

// waitedFor names a table that somebody waits to lock until the snapshot ends, "" if there
// is none.
func (s *snapshotter) waitedFor(ctx context.Context) (string, error) {
	return askWaiting(ctx, s.anchor, `SELECT coalesce(min(relation::regclass::text), '') FROM pg_locks
		WHERE NOT granted AND locktype = 'relation' AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`)
}

// waitedForBeside is waitedFor without the anchor: the readers, which may have come back over
// other connections, are those of the same user and name.
func (s *snapshotter) waitedForBeside(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, yieldAfter)
	defer cancel()
	c, err := connect(ctx, s.o.conn)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	return askWaiting(ctx, c, `SELECT coalesce(min(relation::regclass::text), '') FROM pg_locks
		WHERE NOT granted AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids(pg_locks.pid))
			AND a.usename = current_user AND a.application_name = current_setting('application_name'))`)
}

func askWaiting(ctx context.Context, c *pgx.Conn, sql string) (table string, err error) {
	ctx, cancel := context.WithTimeout(ctx, yieldAfter)
	defer cancel()
	err = c.QueryRow(ctx, sql).Scan(&table)
	if err != nil {
		return "", fmt.Errorf("postgres: look for who waits for the snapshot: %w", err)
	}
	return table, nil
}
