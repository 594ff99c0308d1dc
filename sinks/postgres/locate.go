package postgres

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/sinks"
)

// Bounds of looking for the row that a target refuses: time, and rows that are tried at
// once.
const (
	locateTime = 5 * time.Second
	locateRows = 1000
)

// locate finds out which epoch and which row of it the target refuses, in a transaction
// that is never committed. What it does not find in time stays open.
func (w *writer) locate(ctx context.Context, epochs []sinks.Epoch, cause error) {
	l := &locator{w: w, t: &transaction{w: w, batch: &pgconn.Batch{}, advance: -1}}
	if !errors.As(cause, &l.refused) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, locateTime)
	defer cancel()
	defer w.disconnect()
	if w.connect(ctx) != nil {
		return
	}
	for _, c := range w.chunks {
		c.reset()
	}
	if l.run(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", "SET CONSTRAINTS ALL DEFERRED") != nil {
		return
	}
	for _, e := range epochs {
		found, err := l.epoch(ctx, e)
		if found {
			l.refused.Positions = e.Positions.Clone()
		}
		if found || err != nil {
			return
		}
	}
}

type locator struct {
	w       *writer
	t       *transaction
	refused *RejectedError
}

func (l *locator) run(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		l.t.queue(nil, sql)
	}
	return l.t.send(ctx)
}

// epoch reports whether it is this epoch that is refused.
func (l *locator) epoch(ctx context.Context, e sinks.Epoch) (found bool, err error) {
	var items []sinks.Item
	failed := e.Items(func(it sinks.Item) bool {
		if items = append(items, cloneItem(it)); len(items) == locateRows {
			found, err = l.rows(ctx, items)
			items = items[:0]
		}
		return !found && err == nil
	})
	if found || err != nil || failed != nil {
		return found, errors.Join(err, failed)
	}
	if found, err = l.rows(ctx, items); found || err != nil {
		return found, err
	}
	// A constraint that is deferred speaks of the whole epoch.
	err = l.run(ctx, "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED")
	if errors.Is(err, sinks.ErrRejected) {
		return true, nil
	}
	return false, err
}

// rows reports whether one of the rows is refused, and notes which. Where two rows exclude
// each other none is to blame.
func (l *locator) rows(ctx context.Context, items []sinks.Item) (found bool, err error) {
	if err := l.run(ctx, "SAVEPOINT tailrace"); err != nil {
		return false, err
	}
	if err = l.apply(ctx, items...); err == nil {
		return false, l.run(ctx, "RELEASE SAVEPOINT tailrace")
	}
	if !errors.Is(err, sinks.ErrRejected) {
		return false, err
	}
	if err := l.run(ctx, "ROLLBACK TO SAVEPOINT tailrace"); err != nil || excludes(l.refused.Code) {
		return true, err
	}
	for _, it := range items {
		if err = l.apply(ctx, it); err == nil {
			continue
		}
		if errors.Is(err, sinks.ErrRejected) {
			l.refused.Key, err = l.key(it)
		}
		return true, err
	}
	return true, nil
}

func (l *locator) apply(ctx context.Context, items ...sinks.Item) error {
	for _, it := range items {
		if err := l.t.put(ctx, it); err != nil {
			return err
		}
	}
	return l.t.flush(ctx)
}

// key is the key of a row as text, the id of an event.
func (l *locator) key(it sinks.Item) ([]string, error) {
	if it.Event != nil {
		return []string{it.Event.ID}, nil
	}
	i, err := l.w.tableOf(it)
	if err != nil {
		return nil, err
	}
	var key []string
	for _, column := range it.Columns[:l.w.tables[i].keyLen] {
		if column == nil {
			key = append(key, "NULL")
			continue
		}
		key = append(key, string(column))
	}
	return key, nil
}

// excludes reports whether an error is about two rows.
func excludes(code string) bool { return code == "23505" || code == "23P01" }

func cloneItem(it sinks.Item) sinks.Item {
	out := it
	out.Key, out.Columns = bytes.Clone(it.Key), nil
	for _, c := range it.Columns {
		out.Columns = append(out.Columns, bytes.Clone(c))
	}
	if it.Event != nil {
		e := *it.Event
		e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
		out.Event = &e
	}
	return out
}
