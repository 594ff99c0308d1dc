package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
)

// reconcile makes the tables of the fresh outputs hold exactly the rows of the epoch. An empty table is
// loaded; otherwise the rows are staged, what is not staged is deleted, and what
// differs is written: rows that are right already are not touched.
func (t *transaction) reconcile(ctx context.Context, e sinks.Epoch) error {
	if err := t.flush(ctx); err != nil {
		return err
	}
	loaders, err := t.loaders(ctx, e)
	if err != nil {
		return err
	}
	var failed error
	err = e.Items(func(it sinks.Item) bool {
		failed = t.load(ctx, loaders, it)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	for _, l := range loaders {
		if l != nil {
			if err := l.flush(ctx, t); err != nil {
				return err
			}
		}
	}
	if err := failpoint.Hit(failpoint.SinkReconcile); err != nil {
		return err
	}
	for _, l := range loaders {
		if err := t.merge(ctx, l); err != nil {
			return err
		}
		if l != nil {
			if err := t.holds(ctx, l.table); err != nil {
				return err
			}
		}
	}
	return nil
}

// loaders says for each table where its rows go: into the table, or into a staging
// table; nil for an events table, and for one that goes on from what it holds.
func (t *transaction) loaders(ctx context.Context, e sinks.Epoch) ([]*loader, error) {
	loaders := make([]*loader, len(t.w.tables))
	for i, tab := range t.w.tables {
		if tab.events || !e.Whole(tab.id) {
			continue
		}
		var empty bool
		err := t.w.conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM "+tab.name.sql()+")").Scan(&empty)
		if err != nil {
			return nil, t.w.wrap("looking into the table", tab, err)
		}
		into := tab.name.sql()
		if !empty {
			into = tab.stage()
			if _, err := t.w.conn.Exec(ctx, tab.stageSQL()); err != nil {
				return nil, t.w.wrap("making a staging table", tab, err)
			}
		}
		loaders[i] = &loader{table: tab, sql: tab.copySQL(into), staged: !empty}
	}
	return loaders, nil
}

func (t *transaction) load(ctx context.Context, loaders []*loader, it sinks.Item) error {
	i, err := t.w.tableOf(it)
	if err != nil {
		return err
	}
	l := loaders[i]
	switch {
	case l == nil:
		return t.put(ctx, it)
	case it.Deleted:
		return nil // not there is what a row that does not come means
	}
	l.put(it.Columns)
	if l.full() {
		return l.flush(ctx, t)
	}
	return nil
}

// merge brings a table to what is staged for it.
func (t *transaction) merge(ctx context.Context, l *loader) error {
	if l == nil || !l.staged {
		return nil
	}
	exec := func(sql string) (int64, error) {
		tag, err := t.w.conn.Exec(ctx, sql)
		return tag.RowsAffected(), t.w.wrap("reconciling", l.table, err)
	}
	// Without statistics the planner takes the stage for small and loops over it.
	if _, err := exec("ANALYZE " + l.table.stage()); err != nil {
		return err
	}
	removed, err := exec(l.table.sweepSQL())
	if err != nil {
		return err
	}
	masks, err := t.stagedMasks(ctx, l.table)
	if err != nil {
		return err
	}
	var written int64
	for _, mask := range masks {
		for _, sql := range l.table.upsertSQL(l.table.fromStage(mask), mask) {
			n, err := exec(sql)
			if err != nil {
				return err
			}
			written += n
		}
	}
	t.w.log.Info("table reconciled", "table", l.table.output, "rows", l.rows, "written", written,
		"removed", removed)
	_, err = exec("DROP TABLE " + l.table.stage())
	return err
}

// stagedMasks returns the key masks among the staged rows.
func (t *transaction) stagedMasks(ctx context.Context, tab *table) ([]uint32, error) {
	sql := tab.masksSQL()
	if sql == "" {
		return []uint32{0}, nil
	}
	rows, err := t.w.conn.Query(ctx, sql, pgx.QueryExecModeExec)
	if err != nil {
		return nil, t.w.wrap("reconciling", tab, err)
	}
	defer rows.Close()
	var masks []uint32
	for rows.Next() {
		var m int64
		if err := rows.Scan(&m); err != nil {
			return nil, t.w.wrap("reconciling", tab, err)
		}
		masks = append(masks, uint32(m))
	}
	return masks, t.w.wrap("reconciling", tab, rows.Err())
}
