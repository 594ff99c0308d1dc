package engine

import (
	"context"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/view"
)

// pin asks for the views exactly as of a position of one database: neither a
// transaction less nor one more.
type pin struct {
	ctx      context.Context
	database string
	at       uint64
	done     chan pinned
}

type pinned struct {
	moment *view.Moment
	err    error
}

// MomentAt returns the views as of a position of a database, for comparing them
// with the database as of the same position. It waits until the position has been
// reached. The caller closes the moment.
//
// The position must be at or after the current one; otherwise the result is the
// current moment, and its position tells.
func (e *Engine) MomentAt(ctx context.Context, database string, at uint64) (*view.Moment, error) {
	p := &pin{ctx: ctx, database: database, at: at, done: make(chan pinned, 1)}
	select {
	case e.pins <- p:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-p.done:
		return r.moment, r.err
	case <-ctx.Done():
		// The loop may pin all the same; it then closes what nobody takes.
		go func() {
			if r := <-p.done; r.moment != nil {
				r.moment.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// cutBefore ends the epoch before a transaction that lies behind a position that
// somebody waits for.
func (e *Engine) cutBefore(ctx context.Context, d *databaseRun, tx *record.Tx) error {
	e.collectPins()
	var hit bool
	for _, p := range e.due {
		hit = hit || p.database == d.name && tx.CommitStart >= p.at
	}
	if !hit {
		return nil
	}
	if err := e.commitOrRecover(ctx); err != nil {
		return err
	}
	return e.pinWhere(func(p *pin) bool { return p.database == d.name && tx.CommitStart >= p.at })
}

// resolvePins answers those whose position has been reached.
func (e *Engine) resolvePins() error {
	e.collectPins()
	if len(e.due) == 0 {
		return nil
	}
	frontier := e.frontier()
	return e.pinWhere(func(p *pin) bool { return frontier[p.database] >= p.at })
}

func (e *Engine) collectPins() {
	for {
		select {
		case p := <-e.pins:
			e.due = append(e.due, p)
		default:
			return
		}
	}
}

func (e *Engine) pinWhere(reached func(*pin) bool) error {
	rest := e.due[:0]
	for _, p := range e.due {
		if p.ctx.Err() == nil && !reached(p) {
			rest = append(rest, p)
			continue
		}
		m, err := e.cfg.Host.At(p.ctx)
		p.done <- pinned{m, err}
	}
	e.due = rest
	return nil
}
