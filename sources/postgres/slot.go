package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// slot is a replication slot as pg_replication_slots shows it.
type slot struct {
	name, plugin, database string
	logical, active        bool
	pid                    int
	restart, confirmed     uint64
	// walStatus is reserved, extended, unreserved or lost, "" if unknown.
	walStatus string
	// reason says why the server invalidated the slot, "" if it did not or doesn't say.
	reason string
	head   uint64
}

// readSlot returns nil if there is no such slot.
func readSlot(ctx context.Context, c *pgx.Conn, name string) (*slot, error) {
	reason := "NULL"
	if majorVersion(c.PgConn().ParameterStatus("server_version")) >= 17 {
		reason = "invalidation_reason"
	}
	s := &slot{name: name}
	var restart, confirmed, head string
	err := c.QueryRow(ctx, `SELECT coalesce(plugin, '')::text, coalesce(database, '')::text, slot_type = 'logical', active,
		coalesce(active_pid, 0), coalesce(restart_lsn, '0/0')::text, coalesce(confirmed_flush_lsn, '0/0')::text,
		coalesce(wal_status, ''), coalesce(`+reason+`, '')::text,
		CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_lsn()::text END
		FROM pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&s.plugin, &s.database, &s.logical, &s.active, &s.pid,
			&restart, &confirmed, &s.walStatus, &s.reason, &head)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: read slot %s: %w", name, err)
	}
	for _, f := range []struct {
		text string
		to   *uint64
	}{{restart, &s.restart}, {confirmed, &s.confirmed}, {head, &s.head}} {
		lsn, err := record.ParseLSN(f.text)
		if err != nil {
			return nil, err
		}
		*f.to = uint64(lsn)
	}
	return s, nil
}

// mine returns an error if the slot cannot be ours.
func (s *slot) mine(database string) error {
	switch {
	case !s.logical:
		return fmt.Errorf(
			"postgres: slot %q is a physical slot: set Config.Slot to another name: %w",
			s.name,
			ErrSlotForeign,
		)
	case s.plugin != "pgoutput":
		return fmt.Errorf(
			"postgres: slot %q is of plugin %q: set Config.Slot to another name: %w",
			s.name,
			s.plugin,
			ErrSlotForeign,
		)
	case s.database != database:
		return fmt.Errorf(
			"postgres: slot %q belongs to database %q, we read %q: set Config.Slot to another name: %w",
			s.name,
			s.database,
			database,
			ErrSlotForeign,
		)
	}
	return nil
}

// beginAnew is the remedy where the state cannot go on with what the server has.
const beginAnew = "run tailrace drop (App.Destroy), remove the state directory and begin with a new " +
	"snapshot (topologies with an Outbox then put out the rows that their tables still hold once more, with " +
	"new ids)"

// again is that remedy where the log we need is gone.
func again(name string) string {
	return fmt.Sprintf(
		"the changes since cannot be had any more: %s; if the slot is still there then: "+
			"SELECT pg_drop_replication_slot(%s);",
		beginAnew, literal(name),
	)
}

// resumable returns an error unless the slot can deliver everything after position.
func (s *slot) resumable(position uint64) error {
	at := record.LSN(position)
	switch {
	case s.walStatus == "lost" || s.restart == 0:
		reason := s.reason
		if reason == "" {
			reason = "see max_slot_wal_keep_size and the server's log"
		}
		return fmt.Errorf(
			"postgres: slot %q was invalidated by the server (%s); the state is at %s; %s: %w",
			s.name,
			reason,
			at,
			again(s.name),
			ErrSlotLost,
		)
	case s.head != 0 && s.head < position:
		return fmt.Errorf(
			"postgres: the state is at %s and the server only at %s: it was restored from a backup or failed"+
				" over to a server that had not received everything; %s: %w",
			at,
			record.LSN(s.head),
			beginAnew,
			sources.ErrWrongSystem,
		)
	case s.confirmed > position:
		return fmt.Errorf(
			"postgres: slot %q has been confirmed up to %s and the state is at %s (another reader used the"+
				" slot, or the state is an old copy); %s: %w",
			s.name,
			record.LSN(s.confirmed),
			at,
			again(s.name),
			ErrSlotAhead,
		)
	}
	return nil
}

func slotMissing(name string, position uint64) error {
	return fmt.Errorf(
		"postgres: slot %q is not there, the state is at %s; the changes since cannot be had any more: %s."+
			" (A promoted standby has the slot only if "+
			"Config.Failover was set before and the standby kept it in step: ALTER SYSTEM SET "+
			"sync_replication_slots = on; ALTER SYSTEM SET hot_standby_feedback = on;): %w",
		name,
		record.LSN(position),
		beginAnew,
		ErrSlotMissing,
	)
}

// inUse is the error of a slot that stays active.
func (s *slot) inUse(waited time.Duration) error {
	return fmt.Errorf(
		"postgres: slot %q is in use by the connection of process %d for more than %s: stop the other"+
			" instance of this app, or end the connection: SELECT pg_terminate_backend(%d);: %w",
		s.name,
		s.pid,
		waited,
		s.pid,
		sources.ErrInUse,
	)
}

// waitInactive returns the slot once no connection uses it, nil if it is gone, and
// ErrInUse after wait. A dead reader's connection lingers until the server notices.
func waitInactive(
	ctx context.Context, c *pgx.Conn, name string, wait time.Duration, log *slog.Logger,
) (*slot, error) {
	return waitUntilInactive(ctx, c, name, wait, log, func(*slot) error { return nil })
}

// waitUntilInactive is waitInactive that ends with the first error of look, which sees the
// slot time and again while it is active.
func waitUntilInactive(
	ctx context.Context, c *pgx.Conn, name string, wait time.Duration, log *slog.Logger,
	look func(*slot) error,
) (*slot, error) {
	said := 0
	deadline := time.Now().Add(wait)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		s, err := readSlot(ctx, c, name)
		if err != nil || s == nil || !s.active {
			return s, err
		}
		if time.Now().After(deadline) {
			return nil, s.inUse(wait)
		}
		if s.pid != said {
			said = s.pid
			log.Warn("the slot is in use: waiting for its reader to end, which is our own predecessor or another "+
				"instance of this app", append([]any{"slot", name, "at_most", wait, "pid", s.pid},
				holder(ctx, c, s.pid)...)...)
		}
		if err := look(s); err != nil {
			return nil, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// waitForSlot is waitInactive of an Open, which tells its observer whom it waits for.
func (o *opening) waitForSlot(ctx context.Context) (*slot, error) {
	said := 0
	look := func(s *slot) error {
		tell, ok := o.req.Observe.(sources.WaitObserver)
		if !ok || s.pid == said {
			return nil
		}
		said = s.pid
		of := ""
		for i, v := range holder(ctx, o.query, s.pid) {
			if i%2 == 1 && v != "" {
				of += fmt.Sprintf(", %s %v", []string{"application_name", "client", "since"}[i/2], v)
			}
		}
		tell.Waiting(fmt.Errorf("postgres: slot %q is in use by the connection of process %d%s: waiting at most %s"+
			" for it to end; it is our own predecessor's or another instance's of this app: %w", s.name, s.pid, of,
			o.cfg.SlotWait, sources.ErrInUse))
		return nil
	}
	return waitUntilInactive(ctx, o.query, o.cfg.Slot, o.cfg.SlotWait, o.log, look)
}

// holder describes a connection for the log.
func holder(ctx context.Context, c *pgx.Conn, pid int) []any {
	var name, from, since string
	err := c.QueryRow(ctx, `SELECT coalesce(application_name, ''), coalesce(client_addr::text || ':' || client_port, ''),
		coalesce(backend_start::text, '') FROM pg_stat_activity WHERE pid = $1`, pid).
		Scan(&name, &from, &since)
	if err != nil {
		return nil // it has ended, or is not ours to see
	}
	return []any{"application_name", name, "client", from, "since", since}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// createSlot makes the slot and exports the snapshot at its consistent point. The
// snapshot lives until the next command on the connection.
func createSlot(
	ctx context.Context,
	c *pgconn.PgConn,
	cfg Config,
) (snapshot string, point uint64, err error) {
	sql := "CREATE_REPLICATION_SLOT " + ident(cfg.Slot) + " LOGICAL pgoutput EXPORT_SNAPSHOT"
	if cfg.Failover {
		sql = "CREATE_REPLICATION_SLOT " + ident(cfg.Slot) + " LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER)"
	}
	res, err := pglogrepl.ParseCreateReplicationSlot(c.Exec(ctx, sql))
	if err != nil {
		return "", 0, fmt.Errorf("postgres: create slot %q: %w", cfg.Slot, err)
	}
	lsn, err := record.ParseLSN(res.ConsistentPoint)
	if err != nil {
		return "", 0, err
	}
	return res.SnapshotName, uint64(lsn), nil
}

// dropSlot removes an inactive slot. One that is not there is no error.
func dropSlot(ctx context.Context, c *pgx.Conn, name string) error {
	_, err := c.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
	if err != nil && sqlState(err) != "42704" {
		return fmt.Errorf("postgres: drop slot %q: %w", name, err)
	}
	return nil
}
