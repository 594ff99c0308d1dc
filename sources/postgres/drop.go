package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tailrace/tailrace/sources"
)

// Drop removes the app's slot, once no connection uses it, and the publications that
// Open made. It ends nobody's connection and touches nothing it didn't make.
func (c *connector) Drop(ctx context.Context, req sources.DropRequest) error {
	cfg, err := c.cfg.joining(req.Joins, req.Database).withDefaults(req.App, req.Database)
	if err != nil {
		return fmt.Errorf("%w: %w", err, sources.ErrConfig)
	}
	conn, err := parseURL(cfg.URL)
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
	sl, err := readSlot(ctx, q, cfg.Slot)
	if err != nil {
		return err
	}
	if sl != nil {
		if err := sl.mine(conn.Database); err != nil {
			return err
		}
		if err := lockSlot(ctx, q, cfg, log); err != nil {
			return err
		}
		if _, err := waitInactive(ctx, q, cfg.Slot, cfg.SlotWait, log); err != nil {
			return err
		}
		if err := dropSlot(ctx, q, cfg.Slot); err != nil {
			return err
		}
		log.Info("dropped replication slot", "slot", cfg.Slot)
	}
	version := majorVersion(q.PgConn().ParameterStatus("server_version"))
	pubs, err := readPublications(ctx, q, version, cfg.Publication, cfg.Publication+insertSuffix)
	if err != nil {
		return err
	}
	for _, name := range keys(pubs) {
		if !pubs[name].madeBy(ownComment(req.App, req.Database, cfg.Slot)) {
			continue
		}
		if _, err := q.Exec(ctx, "DROP PUBLICATION IF EXISTS "+ident(name)); err != nil {
			return fmt.Errorf("postgres: drop publication %q: %w", name, err)
		}
		log.Info("dropped publication", "publication", name)
	}
	return nil
}
