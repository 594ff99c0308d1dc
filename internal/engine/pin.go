package engine

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/view"
)

// ErrEnded says that the engine does not run any more.
var ErrEnded = errors.New("engine: not running")

// pin asks for the views exactly as of a position of one database: neither a
// transaction less nor one more. While the position is not known yet the loop stands
// still between two transactions.
type pin struct {
	ctx      context.Context
	database string
	at       uint64
	done     chan pinned

	// known is false for a hold until the loop, which alone uses it, has stood still for it
	// and resolve has brought its position; paused is closed once the loop stands still.
	known   bool
	paused  chan struct{}
	resolve chan uint64

	// act is what is to be done between two epochs instead, by the loop: failed is what
	// came of it, fatal ends the engine.
	act func(ctx context.Context) (failed, fatal error)
	// begun is taken by the loop, or by who has asked and does not wait any longer.
	begun atomic.Bool
}

type pinned struct {
	moment *view.Moment
	err    error
}

// Hold is an engine that stands still between two transactions, until At or
// Release.
type Hold struct {
	engine *Engine
	pin    *pin
	cancel context.CancelFunc
}

// Hold stops the engine at the next boundary between transactions, so that a position
// of the database that is chosen from now on is at or after all that the views
// show. Release it; sources and readers of views go on meanwhile.
func (e *Engine) Hold(ctx context.Context, database string) (*Hold, error) {
	ctx, cancel := context.WithCancel(ctx)
	h := &Hold{engine: e, cancel: cancel, pin: &pin{
		ctx: ctx, database: database, done: make(chan pinned, 1),
		paused: make(chan struct{}), resolve: make(chan uint64, 1),
	}}
	if err := e.ask(ctx, h.pin); err != nil {
		cancel()
		return nil, err
	}
	select {
	case <-h.pin.paused:
		return h, nil
	case <-ctx.Done():
		err := ctx.Err()
		cancel()
		return nil, err
	case <-e.ended:
		cancel()
		return nil, ErrEnded
	}
}

// At lets the engine go on, and returns the views as of the position once they have
// reached it: they hold every transaction whose commit record begins before it, and
// no other. The caller closes the moment. It may be called once.
func (h *Hold) At(at uint64) (*view.Moment, error) {
	h.pin.resolve <- at
	return h.engine.answer(h.pin)
}

// Release lets the engine go on. It may be called at any time, and again.
func (h *Hold) Release() { h.cancel() }

func (e *Engine) ask(ctx context.Context, p *pin) error {
	select {
	case e.pins <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return ErrEnded
	}
}

func (e *Engine) answer(p *pin) (*view.Moment, error) {
	select {
	case r := <-p.done:
		return r.moment, r.err
	case <-e.ended:
		p.discard()
		return nil, ErrEnded
	case <-p.ctx.Done():
		// The loop may pin all the same.
		go func() {
			select {
			case r := <-p.done:
				r.close()
			case <-e.ended:
				p.discard()
			}
		}()
		return nil, p.ctx.Err()
	}
}

// discard lets go of a moment that the loop pinned before it ended.
func (p *pin) discard() {
	select {
	case r := <-p.done:
		r.close()
	default:
	}
}

func (r pinned) close() {
	if r.moment != nil {
		r.moment.Close()
	}
}

// cutBefore ends the epoch before a transaction that lies behind a position that
// somebody waits for.
func (e *Engine) cutBefore(ctx context.Context, d *databaseRun, tx *record.Tx) error {
	e.collectPins(ctx)
	var hit bool
	for _, p := range e.due {
		hit = hit || p.database == d.name && tx.CommitStart >= p.at
	}
	if !hit {
		return nil
	}
	session := d.session
	if err := e.commitOrRecover(ctx); err != nil || d.session != session {
		return err
	}
	if err := e.settle(); err != nil {
		return err
	}
	e.pinWhere(func(p *pin) bool { return p.database == d.name && tx.CommitStart >= p.at })
	return nil
}

// resolvePins answers those whose position has been reached.
func (e *Engine) resolvePins(ctx context.Context) error {
	if !e.closed() {
		return nil
	}
	e.collectPins(ctx)
	if len(e.due) == 0 {
		return nil
	}
	if err := e.settle(); err != nil {
		return err
	}
	if err := e.runActs(ctx); err != nil {
		return err
	}
	frontier := e.frontier()
	e.pinWhere(func(p *pin) bool { return p.act == nil && frontier[p.database] >= p.at })
	return nil
}

// collectPins takes what has been asked for, and stands still for those who choose
// their position now. No transaction is open.
func (e *Engine) collectPins(ctx context.Context) {
	for {
		select {
		case p := <-e.pins:
			e.due = append(e.due, p)
			continue
		default:
		}
		break
	}
	for _, p := range e.due {
		if p.known {
			continue
		}
		close(p.paused)
		p.known = true
		select {
		case p.at = <-p.resolve:
		case <-p.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// pinWhere answers those whose position has been reached, or who do not wait any more.
func (e *Engine) pinWhere(reached func(*pin) bool) {
	rest := e.due[:0]
	for _, p := range e.due {
		if p.act != nil || p.ctx.Err() == nil && !reached(p) {
			rest = append(rest, p)
			continue
		}
		m, err := e.cfg.Host.At(p.ctx)
		p.done <- pinned{m, err}
	}
	e.due = rest
}
