package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sources"
)

// logger returns a logger that can be used.
func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Kept implements sources.Keeper: what the slot has been told, if the publication's
// comment shows that the app got beyond its first start. Of a publication that is not
// ours nothing can be told, and a slot beside it counts as one that was used, unless the
// state directory knows better.
func (c *connector) Kept(ctx context.Context, req sources.KeptRequest) (uint64, bool, error) {
	cfg, err := c.cfg.withDefaults(req.App, req.Database)
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", err, sources.ErrConfig)
	}
	conn, err := parseURL(cfg.URL, cfg.silence)
	if err != nil {
		return 0, false, err
	}
	q, err := connect(ctx, conn)
	if err != nil {
		return 0, false, err
	}
	defer q.Close(context.WithoutCancel(ctx))
	sl, err := readSlot(ctx, q, cfg.Slot)
	if err != nil {
		return 0, false, err
	}
	version := majorVersion(q.PgConn().ParameterStatus("server_version"))
	pubs, err := readPublications(ctx, q, version, cfg.Publication)
	if err != nil {
		return 0, false, err
	}
	main, comment := pubs[cfg.Publication], ownComment(req.App, req.Database, cfg.Slot)
	started := main != nil && main.comment == comment+startedMark
	// Where the publication belongs to another role the mark cannot be made, and its absence tells nothing.
	unmarked := main != nil && main.owned && main.comment == comment
	switch {
	case sl == nil && started:
		return 0, false, fmt.Errorf("postgres: slot %q is not there, and there is no state: the app ran before, "+
			"and the events since cannot be had any more; bring the state directory back, or, to begin as if for "+
			"the first time: DROP PUBLICATION IF EXISTS %s, %s;: %w", cfg.Slot, ident(cfg.Publication),
			ident(cfg.Publication+insertSuffix), ErrSlotMissing)
	case sl == nil, req.Begun && !started, unmarked:
		return 0, false, nil
	case main == nil:
		return 0, false, fmt.Errorf("postgres: there is no state, and slot %q is there without its publication "+
			"%s: the events that it holds cannot be read; bring the state directory back, or, to begin as if for "+
			"the first time: SELECT pg_drop_replication_slot(%s);: %w", cfg.Slot, ident(cfg.Publication),
			literal(cfg.Slot), ErrPublicationMissing)
	}
	return keptBy(ctx, q, cfg, conn.Database, logger(req.Logger))
}

// keptBy reads what a slot of ours has been told, once nobody uses it.
func keptBy(
	ctx context.Context, q *pgx.Conn, cfg Config, database string, log *slog.Logger,
) (uint64, bool, error) {
	sl, err := waitInactive(ctx, q, cfg.Slot, cfg.SlotWait, log)
	if err != nil {
		return 0, false, err
	}
	if sl == nil {
		return 0, false, nil
	}
	if err := sl.mine(database); err != nil {
		return 0, false, err
	}
	if err := sl.resumable(sl.confirmed); err != nil {
		return 0, false, fmt.Errorf("postgres: the app has no state, and its events are lost: %w", err)
	}
	return sl.confirmed, true, nil
}
