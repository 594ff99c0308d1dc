package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/sinks"
)

// A table is written by one target alone: the progress rows list what each writes. Between
// targets of one app tables may move: each lets go of what it writes no more when it is
// opened, in whatever order that is.

// takeTables returns the full names of our tables, and an error if another app or target writes
// one of them: two writers would each delete what the other wrote. With errNotLetGo the names
// are good. Claims come one after the other, so that no two take one table.
func (w *writer) takeTables(ctx context.Context, tx pgx.Tx) ([]string, error) {
	if len(w.tables) == 0 {
		return []string{}, nil // to drop the progress
	}
	names := make([]string, len(w.tables))
	for i, t := range w.tables {
		names[i] = t.name.sql()
	}
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", int64(createLock)+1); err != nil {
		return nil, err
	}
	var tables []string
	err := tx.QueryRow(ctx, `SELECT coalesce(array_agg(DISTINCT n.nspname || '.' || c.relname), '{}')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = ANY ($1::text[]::pg_catalog.regclass[])`, names).Scan(&tables)
	if err != nil {
		return nil, err
	}
	if len(tables) < len(w.tables) {
		return nil, fmt.Errorf("%w: target %q: two outputs write one table of %v; give each a table of its own",
			sinks.ErrTableTaken, w.target, tables)
	}
	if err := w.takenElsewhere(ctx, tx, tables); err != nil {
		return nil, err
	}
	return tables, w.takenTable(ctx, tx, tables)
}

// takenElsewhere looks into progress tables of our name in other schemas: an app that finds
// another one by its search_path may write our tables all the same.
func (w *writer) takenElsewhere(ctx context.Context, tx pgx.Tx, tables []string) error {
	rows, err := tx.Query(ctx, `SELECT n.nspname::text, c.relname::text
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = $1 AND c.relkind = 'r' AND c.oid <> pg_catalog.to_regclass($2)
		AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
		AND (SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
			AND a.attname IN ('app', 'target', 'tables', 'lease_until') AND NOT a.attisdropped) = 4
		ORDER BY 1`, w.progress.table, w.progress.sql())
	if err != nil {
		return err
	}
	others, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Schema, Table string }])
	if err != nil {
		return err
	}
	for _, o := range others {
		other := name{o.Schema, o.Table}
		var table, app, target string
		err := tx.QueryRow(ctx, `SELECT t, app, target FROM `+other.sql()+` p, unnest(p.tables) t
			WHERE t = ANY ($1) AND (app, target) <> ($2, $3) ORDER BY 1, 2, 3 LIMIT 1`, tables, w.app, w.target).
			Scan(&table, &app, &target)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: table %s belongs to app %q, target %q, whose progress is in %s: give this output "+
			"another table; or, where the other writes it no more, drop that app, or run: DELETE FROM %[4]s "+
			"WHERE app = %[5]s AND target = %[6]s", sinks.ErrTableTaken, table, app, target, other.sql(),
			literal(app), literal(target))
	}
	return nil
}

// errNotLetGo: another target of this app has not been opened yet since it left a table to us.
var errNotLetGo = errors.New("it still stands for another target of this app, which lets go of it when it " +
	"is opened")

// claims are the sessions of this process that hold a progress row, by claimKey: from a claim
// until the writer is closed.
var claims sync.Map

func claimKey(app, target string) string { return app + "\x00" + target }

func (w *writer) claimed() { claims.Store(claimKey(w.app, w.target), w.session) }

// unclaim says that this session writes no more.
func (w *writer) unclaim() { claims.CompareAndDelete(claimKey(w.app, w.target), w.session) }

// takenTable returns an error if one of our tables is somebody else's: ErrTableTaken, or of a
// target of this app that is yet to claim its row anew, and with it what it writes now,
// errNotLetGo.
func (w *writer) takenTable(ctx context.Context, tx pgx.Tx, tables []string) error {
	rows, err := tx.Query(ctx, `SELECT t, app, target, session FROM `+w.progress.sql()+` p, unnest(p.tables) t
		WHERE t = ANY ($1) AND (app, target) <> ($2, $3) ORDER BY 1, 2, 3`, tables, w.app, w.target)
	if err != nil {
		return err
	}
	var table, app, target, session string
	var later error
	_, err = pgx.ForEachRow(rows, []any{&table, &app, &target, &session}, func() error {
		remedy := fmt.Sprintf("run: DELETE FROM %s WHERE app = %s AND target = %s", w.progress.sql(), literal(app),
			literal(target))
		if app != w.app {
			return fmt.Errorf("%w: table %s belongs to app %q, target %q, and app %q, target %q would write it as "+
				"well: give this output another table; or, where the other writes it no more, drop that app, or %s",
				sinks.ErrTableTaken, table, app, target, w.app, w.target, remedy)
		}
		holder, claimed := claims.Load(claimKey(app, target))
		switch {
		case claimed && holder == session:
			return fmt.Errorf("%w: targets %q and %q of this app would both write table %s: give one of the "+
				"outputs another table", sinks.ErrTableTaken, target, w.target, table)
		case !claimed && slices.Contains(w.appTargets, target):
			later = fmt.Errorf("table %s: %w; where target %q is in another database by now, %s", table,
				errNotLetGo, target, remedy)
			return nil
		}
		// It is a target no more, or was claimed in another place.
		return fmt.Errorf("%w: table %s belongs to target %q of this app, and target %q would write it as well: "+
			"give this output another table; or, where the other writes it no more, %s", sinks.ErrTableTaken,
			table, target, w.target, remedy)
	})
	if err != nil {
		return err
	}
	return later
}

// letGo takes tables that we write no more out of our row, ahead of a claim that has to wait:
// two targets may each wait for what the other has written so far. Whoever held the row is
// fenced, since what it writes may be another's from now on.
func (w *writer) letGo(ctx context.Context, tx pgx.Tx, tables []string) error {
	if _, err := tx.Exec(ctx, `UPDATE `+w.progress.sql()+` p SET session = '',
		tables = ARRAY(SELECT t FROM unnest(p.tables) t WHERE t = ANY ($3)) WHERE app = $1 AND target = $2`,
		w.app, w.target, tables); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
