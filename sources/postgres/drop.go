package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// Drop removes the app's slot and those of its newcomers, once no connection uses them, and
// the publications that Open made. It ends nobody's connection and touches nothing it didn't
// make. The error is sources.ErrInUse where an app that answers has the slot: within seconds, or
// after Config.SlotWait where it acknowledges nothing and the role may not see its replies
// (pg_read_all_stats).
func (c *connector) Drop(ctx context.Context, req sources.DropRequest) error {
	cfg, err := c.cfg.joining(req.Joins, req.App, req.Database).withDefaults(req.App, req.Database)
	if err != nil {
		return fmt.Errorf("%w: %w", err, sources.ErrConfig)
	}
	conn, err := parseURL(cfg.URL, cfg.silence)
	if err != nil {
		return err
	}
	log := req.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	q, err := connect(ctx, conn)
	if err != nil {
		return err
	}
	defer q.Close(context.WithoutCancel(ctx))
	if err := dropOwn(ctx, q, cfg, log); err != nil {
		return err
	}
	if req.Joins == "" {
		if err := dropNewcomers(ctx, q, cfg, req, log); err != nil {
			return err
		}
	}
	version := majorVersion(q.PgConn().ParameterStatus("server_version"))
	pubs, err := readPublications(ctx, q, version, cfg.Publication, cfg.Publication+insertSuffix)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range keys(pubs) {
		if !pubs[name].madeBy(ownComment(req.App, req.Database, cfg.Slot)) {
			continue
		}
		drop := "DROP PUBLICATION IF EXISTS " + ident(name)
		_, err := q.Exec(ctx, drop)
		switch {
		case sqlState(err) == "42501":
			errs = append(errs, fmt.Errorf("postgres: publication %q belongs to %q; run as that role: %s;: %w",
				name, pubs[name].owner, drop, err))
		case err != nil:
			errs = append(errs, fmt.Errorf("postgres: drop publication %q: %w", name, err))
		default:
			log.Info("dropped publication", "publication", name)
		}
	}
	return errors.Join(errs...)
}

// dropOwn drops the configuration's slot, where it is there and can be ours.
func dropOwn(ctx context.Context, q *pgx.Conn, cfg Config, log *slog.Logger) error {
	sl, err := readSlot(ctx, q, cfg.Slot)
	if err != nil || sl == nil {
		return err
	}
	if err := sl.mine(q.Config().Database); err != nil {
		return err
	}
	if err := awaitEnd(ctx, q, cfg, log); err != nil {
		return err
	}
	if err := dropSlot(ctx, q, cfg.Slot); err != nil {
		return err
	}
	log.Info("dropped replication slot", "slot", cfg.Slot)
	return nil
}

// dropNewcomers drops the slots that the app's newcomers have left, whether the app still
// has these topologies or not.
func dropNewcomers(
	ctx context.Context, q *pgx.Conn, cfg Config, req sources.DropRequest, log *slog.Logger,
) error {
	rows, err := q.Query(ctx, `SELECT slot_name::text FROM pg_replication_slots
		WHERE plugin = 'pgoutput' AND database = current_database() ORDER BY slot_name`)
	if err != nil {
		return fmt.Errorf("postgres: read the slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("postgres: read the slots: %w", err)
	}
	for _, name := range slots {
		if !ofNewcomer(name, req.App, req.Database) {
			continue
		}
		cfg.Slot = name
		if err := dropOwn(ctx, q, cfg, log); err != nil {
			return err
		}
	}
	return nil
}

// lockPatience is how long Drop waits for an app at its first snapshot to end. Its
// connection is idle most of the time, so that the server notices its end at once.
const lockPatience = 5 * time.Second

// awaitEnd waits until nobody uses the slot. The connection of a process that was killed
// is gone within moments, and that of a machine that was lost lingers; but a reader that
// goes on telling the server where it is lives, and would be waited for in vain.
func awaitEnd(ctx context.Context, q *pgx.Conn, cfg Config, log *slog.Logger) error {
	locking := cfg
	locking.SlotWait = min(cfg.SlotWait, lockPatience)
	if err := lockSlot(ctx, q, locking, log); err != nil {
		return err
	}
	pid, told := 0, ""
	var seen witness
	_, err := waitUntilInactive(ctx, q, cfg.Slot, cfg.SlotWait, log, func(s *slot) error {
		var at string
		err := q.QueryRow(ctx, `SELECT coalesce(reply_time::text, '')
			FROM pg_stat_replication WHERE pid = $1`, s.pid).
			Scan(&at)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("postgres: look at the reader of slot %q: %w", cfg.Slot, err)
		}
		answers := false
		if at == "" { // It is not there, or not to be seen without pg_read_all_stats.
			if answers, err = seen.answers(ctx, q, s); err != nil {
				return err
			}
		}
		if answers || pid == s.pid && told != "" && at != told {
			return s.alive(ctx, q)
		}
		pid, told = s.pid, at
		return nil
	})
	return err
}

// witness tells by the slot whether its reader answers: everybody may see how far it has
// confirmed, and what it has confirmed that was written after the first look it cannot have
// said before it ended. A reader that waits, for a target say, confirms nothing.
type witness struct {
	pid int
	// mark is a position of after the first look, at what was confirmed by the last one, moved
	// how many times that had become another one.
	mark, at uint64
	moved    int
}

// movedTimes is how many times a reader that is behind confirms before it is taken to live.
const movedTimes = 3

func (w *witness) answers(ctx context.Context, q *pgx.Conn, s *slot) (bool, error) {
	if w.pid == s.pid {
		if s.confirmed != w.at {
			w.at = s.confirmed
			w.moved++
		}
		return s.confirmed >= w.mark || w.moved >= movedTimes, nil
	}
	*w = witness{pid: s.pid, at: s.confirmed}
	// The commit waits for no standby, which may be what is lost.
	err := q.QueryRow(ctx, `SELECT set_config('synchronous_commit', 'local', true),
		(pg_logical_emit_message(true, 'tailrace-drop', $1) - '0/0')::int8`, s.name).Scan(nil, &w.mark)
	if err != nil {
		return false, fmt.Errorf("postgres: look at the reader of slot %q: %w", s.name, err)
	}
	return false, nil
}

// alive is the error of a slot whose reader answers.
func (s *slot) alive(ctx context.Context, q *pgx.Conn) error {
	var who strings.Builder
	for i, v := range holder(ctx, q, s.pid) {
		fmt.Fprintf(&who, []string{", %v ", "%q"}[i%2], v)
	}
	return fmt.Errorf(
		"postgres: slot %q is in use by a reader that answers (process %d of the server%s): stop the "+
			"app that runs there first, or end its connection: SELECT pg_terminate_backend(%d);: %w",
		s.name,
		s.pid,
		who.String(),
		s.pid,
		sources.ErrInUse,
	)
}
