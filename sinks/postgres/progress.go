package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// The progress row is the sink's only lock. It is updated first in every sink
// transaction, under the condition that it is still ours and still where we left it:
//
//   - incarnation: the state directory. Another one in the row fences us.
//   - session: this Open. A second process with a copy of the state directory, or one
//     that a frozen process was replaced by, fences us as well.
//   - seq: the last epoch. It may have moved if a COMMIT of ours was lost on its way
//     back; then the epochs are there and are skipped.
//
// seq is NULL from the moment an incarnation takes over to its first (reconciling)
// commit; positions keep saying what the tables hold.

// progressSQL makes the progress table.
func progressSQL(n name) string {
	return "CREATE TABLE " + n.sql() + ` (
	app text NOT NULL,
	target text NOT NULL,
	incarnation text NOT NULL,
	session text NOT NULL,
	seq bigint,
	positions jsonb NOT NULL,
	commit_time timestamptz,
	lease_until timestamptz NOT NULL,
	tables text[] NOT NULL DEFAULT '{}',
	held jsonb NOT NULL DEFAULT '{}',
	PRIMARY KEY (app, target))`
}

// errMoved says that the progress row is not where we left it.
var errMoved = errors.New("progress row has moved")

// statements on the progress row; the first four parameters name us.
const (
	ours = " WHERE app = $1 AND target = $2 AND incarnation = $3 AND session = $4"
	// The division fails unless exactly one row was moved, so that what follows in the
	// same round trip is not run.
	advanceSQL = "WITH moved AS (UPDATE %s SET seq = $5::bigint, positions = $6::jsonb, " +
		"commit_time = $7::timestamptz, lease_until = clock_timestamp() + make_interval(secs => $8::float8)" +
		ours + " AND seq IS NOT DISTINCT FROM $9::bigint RETURNING 1) SELECT 1 / count(*) FROM moved"
	renewSQL = "UPDATE %s SET lease_until = clock_timestamp() + make_interval(secs => $5::float8)" + ours
	// FOR UPDATE waits for a commit of a connection that we lost and that the server
	// still works on.
	readSQL = "SELECT incarnation, session, seq FROM %s WHERE app = $1 AND target = $2 FOR UPDATE"
)

func (w *writer) progressStmt(format string) string { return fmt.Sprintf(format, w.progress.sql()) }

// heldLease is another instance's claim on the progress row.
type heldLease struct {
	incarnation string
	until       time.Time
	left        time.Duration
}

// claim makes the progress row ours, waiting for another incarnation's lease to end.
func (w *writer) claim(ctx context.Context) error {
	var first time.Time
	for {
		held, err := w.tryClaim(ctx)
		switch {
		case err != nil:
			return w.wrap("claiming the progress row", nil, err)
		case held == nil:
			return nil
		case first.IsZero():
			first = held.until
			w.log.Info("waiting for the lease of another instance on the target to end",
				"incarnation", held.incarnation, "left", held.left)
		case held.until.After(first):
			return w.held(held)
		}
		// The lease ends by the server's clock; ask again soon, because a clean stop
		// gives it up early.
		wait := time.NewTimer(min(max(held.left, 10*time.Millisecond), w.cfg.Lease/10+10*time.Millisecond))
		select {
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", w.held(held), context.Cause(ctx))
		case <-wait.C:
		}
	}
}

func (w *writer) held(h *heldLease) error {
	return fmt.Errorf("%w: app %q, target %q belongs to incarnation %s, which renews its lease; "+
		"stop the other instance, or give this app another name", sinks.ErrHeld, w.app, w.target,
		h.incarnation)
}

// tryClaim takes the row if it is free: absent, of our own incarnation, or with a lease
// that has ended.
func (w *writer) tryClaim(ctx context.Context) (*heldLease, error) {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	tab := w.progress.sql()
	tables, taken := w.takeTables(ctx, tx)
	if taken != nil && !errors.Is(taken, errNotLetGo) {
		return nil, taken
	}
	// A living instance may be in a long transaction that holds the row: that is not
	// for us to wait for without a word.
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '5s'"); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO `+tab+`
		(app, target, incarnation, session, positions, lease_until)
		VALUES ($1, $2, $3, '', '{}', '-infinity') ON CONFLICT DO NOTHING`,
		w.app, w.target, w.incarnation); err != nil {
		return nil, err
	}
	var h heldLease
	var seq *int64
	var left float64
	err = tx.QueryRow(ctx, `SELECT incarnation, seq, greatest(lease_until, 'epoch'),
		extract(epoch FROM greatest(lease_until, 'epoch') - clock_timestamp())::float8
		FROM `+tab+` WHERE app = $1 AND target = $2 FOR UPDATE`, w.app, w.target).
		Scan(&h.incarnation, &seq, &h.until, &left)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55P03" {
		return &heldLease{incarnation: "(in a transaction)", left: w.cfg.Lease}, nil
	}
	if err != nil {
		return nil, err
	}
	h.left = time.Duration(left * float64(time.Second))
	if h.incarnation != w.incarnation {
		if h.left > 0 {
			return &h, nil
		}
		seq = nil
	}
	if taken != nil {
		return nil, errors.Join(taken, w.letGo(ctx, tx, tables))
	}
	// What the row says of tables holds as long as it says what was written to them; where it
	// says nothing it has been asked to take them as they are.
	if _, err := tx.Exec(ctx, `UPDATE `+tab+` SET incarnation = $3, session = $4, seq = $5,
		lease_until = clock_timestamp() + make_interval(secs => $6::float8), tables = $7,
		held = CASE WHEN $5::bigint IS NULL THEN '{}' WHEN held = '{}' THEN $8::jsonb ELSE held END
		WHERE app = $1 AND target = $2`,
		w.app, w.target, w.incarnation, w.session, seq, w.cfg.Lease.Seconds(), tables,
		w.heldNow()); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	w.claimed()
	w.setSeq(seq)
	return nil, nil
}

// progressRow is what the row says, if it is still ours.
func (w *writer) progressRow(ctx context.Context) (*int64, error) {
	var incarnation, session string
	var seq *int64
	err := w.conn.QueryRow(ctx, w.progressStmt(readSQL), w.app, w.target).Scan(&incarnation, &session, &seq)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, w.fence("the progress row is gone: the app was dropped, or the database restored; " +
			"restart")
	case err != nil:
		return nil, w.wrap("reading the progress row", nil, err)
	case incarnation != w.incarnation:
		return nil, w.fence("incarnation " + incarnation + " has taken over; stop one of the two")
	case session != w.session:
		return nil, w.fence("another process opened the same state directory, or a copy of it; stop one " +
			"of the two")
	}
	return seq, nil
}

// fence makes a fenced writer of this one, for good.
func (w *writer) fence(why string) error {
	w.fenced = fmt.Errorf("%w: app %q, target %q: %s", sinks.ErrFenced, w.app, w.target, why)
	return w.fenced
}

// renew extends the lease of an idle writer.
func (w *writer) renew(ctx context.Context) error {
	tag, err := w.conn.Exec(ctx, w.progressStmt(renewSQL),
		w.app, w.target, w.incarnation, w.session, w.cfg.Lease.Seconds())
	if err == nil && tag.RowsAffected() == 0 {
		_, err = w.progressRow(ctx)
	}
	return err
}

// release gives the lease up, so that the next instance need not wait.
func (w *writer) release(ctx context.Context) error {
	_, err := w.conn.Exec(ctx, "UPDATE "+w.progress.sql()+" SET lease_until = clock_timestamp()"+ours,
		w.app, w.target, w.incarnation, w.session)
	return err
}

// dropProgress deletes the row, unless an instance is alive.
func (w *writer) dropProgress(ctx context.Context) error {
	tab := w.progress.sql()
	var there bool
	if err := w.conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1) IS NOT NULL",
		tab).Scan(&there); err != nil {
		return w.wrap("looking for the progress table", nil, err)
	}
	if !there {
		return nil
	}
	// Claiming as nobody waits for the lease of whoever holds it.
	err := w.conn.QueryRow(ctx, "SELECT incarnation FROM "+tab+" WHERE app = $1 AND target = $2", w.app,
		w.target).
		Scan(&w.incarnation)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return w.wrap("reading the progress row", nil, err)
	}
	w.incarnation = "dropped " + w.session
	defer w.unclaim()
	if err := w.claim(ctx); err != nil {
		return err
	}
	_, err = w.conn.Exec(ctx, "DELETE FROM "+tab+ours, w.app, w.target, w.incarnation, w.session)
	return w.wrap("deleting the progress row", nil, err)
}

// positionsJSON is the form of positions that readers see: source to X/Y.
func positionsJSON(p record.Positions) ([]byte, error) {
	m := make(map[string]string, len(p))
	for source, at := range p {
		m[source] = record.LSN(at).String()
	}
	return json.Marshal(m)
}
