package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/sinks"
)

// carefulRows is how many rows are tried at once where some are refused.
const carefulRows = 1000

// mayLeaveOut reports whether an error policy can decide about what was refused.
func mayLeaveOut(epochs []sinks.Epoch, err error) bool {
	return errors.Is(err, sinks.ErrRejected) &&
		slices.ContainsFunc(epochs, func(e sinks.Epoch) bool { return e.SetAside != nil })
}

// applyCarefully writes epochs of which the target refuses rows, a transaction each, and asks
// the error policy about each row that is refused.
func (w *writer) applyCarefully(ctx context.Context, epochs []sinks.Epoch) error {
	for _, e := range epochs {
		if err := w.connect(ctx); err != nil {
			return err
		}
		c := &careful{
			w: w, e: e, t: &transaction{w: w, batch: &pgconn.Batch{}, advance: -1},
		}
		if err := c.epoch(ctx); err != nil {
			return c.stopped(err)
		}
	}
	return nil
}

// careful writes one epoch. Rows are tried many at once behind a savepoint, and where
// some are refused in halves, until each that is refused stands alone.
type careful struct {
	w *writer
	t *transaction
	e sinks.Epoch
	// later are rows that others of the epoch may stand in the way of: they are tried again
	// after those.
	later []sinks.Item
	// last says that nothing of the epoch comes after.
	last bool
	// key is that of a row which the policy stops at.
	key []string
}

// stopped says where it was that the policy stops.
func (c *careful) stopped(err error) error {
	var refused *RejectedError
	if errors.As(err, &refused) {
		refused.Positions, refused.Key = c.e.Positions.Clone(), c.key
	}
	return err
}

func (c *careful) run(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		c.t.queue(nil, sql)
	}
	return c.t.send(ctx)
}

func (c *careful) epoch(ctx context.Context) error {
	for _, chunk := range c.w.chunks {
		chunk.reset()
	}
	if err := c.t.begin(c.e); err != nil {
		return err
	}
	if err := c.t.send(ctx); err != nil {
		return err
	}
	if c.e.Reconcile {
		if err := c.sweep(ctx); err != nil {
			return err
		}
	}
	if err := c.each(ctx, c.rows); err != nil {
		return err
	}
	if err := c.again(ctx); err != nil {
		return err
	}
	// A constraint that is deferred speaks of the whole epoch: nobody can say which row it is.
	if err := c.run(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return err
	}
	if c.e.SetAside != nil {
		if err := c.e.SetAside.Keep(); err != nil {
			return err
		}
	}
	if err := c.t.commit(ctx); err != nil {
		return err
	}
	c.w.seq, c.w.has = c.e.Seq, true
	return nil
}

// each hands the epoch's items to f, some at a time.
func (c *careful) each(ctx context.Context, f func(context.Context, []sinks.Item) error) error {
	var items []sinks.Item
	var failed error
	err := c.e.Items(func(it sinks.Item) bool {
		if items = append(items, cloneItem(it)); len(items) == carefulRows {
			failed = f(ctx, items)
			items = nil
		}
		return failed == nil
	})
	if failed == nil {
		failed = err
	}
	if failed != nil || len(items) == 0 {
		return failed
	}
	return f(ctx, items)
}

// rows writes rows but for those that are refused.
func (c *careful) rows(ctx context.Context, items []sinks.Item) error {
	return c.halves(ctx, items, c.write, c.refused)
}

// halves does something with items behind a savepoint, with each half where it is
// refused, and tells of each item that is refused alone.
func (c *careful) halves(
	ctx context.Context, items []sinks.Item,
	do func(context.Context, []sinks.Item) error, refused func(sinks.Item, error) error,
) error {
	if err := c.run(ctx, "SAVEPOINT tailrace"); err != nil {
		return err
	}
	err := do(ctx, items)
	if err == nil {
		return c.run(ctx, "RELEASE SAVEPOINT tailrace")
	}
	if !errors.Is(err, sinks.ErrRejected) {
		return err
	}
	if err := c.run(ctx, "ROLLBACK TO SAVEPOINT tailrace", "RELEASE SAVEPOINT tailrace"); err != nil {
		return err
	}
	if len(items) == 1 {
		return refused(items[0], err)
	}
	half := len(items) / 2
	if err := c.halves(ctx, items[:half], do, refused); err != nil {
		return err
	}
	return c.halves(ctx, items[half:], do, refused)
}

func (c *careful) write(ctx context.Context, items []sinks.Item) error {
	for _, it := range items {
		if err := c.t.put(ctx, it); err != nil {
			return err
		}
	}
	return c.t.flush(ctx)
}

// again tries rows again that others stood in the way of, as long as that helps.
func (c *careful) again(ctx context.Context) error {
	for before := 0; len(c.later) > 0 && !c.last; {
		before = len(c.later)
		items := c.later
		c.later = nil
		if err := c.rows(ctx, items); err != nil {
			return err
		}
		c.last = len(c.later) == before
	}
	items := c.later
	c.later = nil
	if len(items) == 0 {
		return nil
	}
	return c.rows(ctx, items)
}

// refused asks the policy about a row that is refused alone.
func (c *careful) refused(it sinks.Item, err error) error {
	var refused *RejectedError
	if errors.As(err, &refused) && dependsOnOthers(refused.Code) && !c.last {
		c.later = append(c.later, it)
		return nil
	}
	if c.e.SetAside != nil && c.e.SetAside.Refused(it, err) {
		return nil
	}
	l := &locator{w: c.w}
	var keyErr error
	if c.key, keyErr = l.key(it); keyErr != nil {
		return keyErr
	}
	return err
}

// dependsOnOthers reports whether an error can go away by what else is written.
func dependsOnOthers(code string) bool { return excludes(code) || code == "23503" || code == "P0001" }

// sweep removes what the tables of fresh outputs hold beside the epoch's keys.
func (c *careful) sweep(ctx context.Context) error {
	stages := make([]bool, len(c.w.tables))
	for i, tab := range c.w.tables {
		if tab.events || !c.e.Whole(tab.id) {
			continue
		}
		stages[i] = true
		if _, err := c.w.conn.Exec(ctx, tab.keyStageSQL()); err != nil {
			return c.w.wrap("making a staging table", tab, err)
		}
	}
	stage := func(ctx context.Context, items []sinks.Item) error {
		return c.halves(ctx, items, c.stageKeys(stages),
			// No row can have a key that the table cannot even hold.
			func(sinks.Item, error) error { return nil })
	}
	if err := c.each(ctx, stage); err != nil {
		return err
	}
	for i, tab := range c.w.tables {
		if !stages[i] {
			continue
		}
		for _, sql := range []string{"ANALYZE " + tab.stage(), tab.sweepSQL(), "DROP TABLE " + tab.stage()} {
			if _, err := c.w.conn.Exec(ctx, sql); err != nil {
				return c.w.wrap("reconciling", tab, err)
			}
		}
	}
	return nil
}

// stageKeys makes what copies the keys of items into the staging tables.
func (c *careful) stageKeys(stages []bool) func(context.Context, []sinks.Item) error {
	return func(ctx context.Context, items []sinks.Item) error {
		loaders := map[int]*loader{}
		for _, it := range items {
			i, err := c.w.tableOf(it)
			if err != nil {
				return err
			}
			if !stages[i] || it.Deleted {
				continue
			}
			tab := c.w.tables[i]
			if loaders[i] == nil {
				loaders[i] = &loader{table: tab, sql: tab.copyKeysSQL()}
			}
			loaders[i].put(it.Columns[:tab.keyLen])
		}
		for i := range c.w.tables {
			if l := loaders[i]; l != nil {
				if err := l.flush(ctx, c.t); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
