package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/task"
)

// ReplayDeadLetters has dead letters tried again, those that wanted names by their ids, all
// for nil, between two epochs and as an epoch of its own: either all that comes of it is
// durable or nothing is. Letters of topologies that are held or have no state yet are
// left. An error of a function whose policy stops takes all back, and the engine goes on.
func (e *Engine) ReplayDeadLetters(
	ctx context.Context, wanted func(id string) bool,
) (out task.Replayed, err error) {
	err = e.between(ctx, func(r *topologyRun) (bool, error) {
		got, err := r.task.ReplayLetters(wanted, e.seq+1)
		out.Tried, out.Failed = out.Tried+got.Tried, out.Failed+got.Failed
		if out.Unreadable == nil {
			out.Unreadable = map[string]error{}
		}
		maps.Copy(out.Unreadable, got.Unreadable)
		return got.Tried > 0, err
	}, func() error {
		n, err := e.replayRefused(wanted)
		out.Tried += n
		return err
	})
	if err != nil {
		return task.Replayed{}, err
	}
	return out, nil
}

// DropDeadLetters removes dead letters, those that wanted names by their ids, all for nil,
// and returns how many there were. Parked keys keep the output that they have until a
// later change of them succeeds.
func (e *Engine) DropDeadLetters(ctx context.Context, wanted func(id string) bool) (n int, err error) {
	err = e.between(ctx, func(r *topologyRun) (bool, error) {
		dropped, err := r.task.DropLetters(wanted)
		n += dropped
		return dropped > 0, err
	}, func() error {
		dropped, err := e.dropRefused(wanted)
		n += dropped
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// between has the loop do something with each task between two epochs, and commits what
// comes of it; then, something with what targets have refused.
func (e *Engine) between(
	ctx context.Context, do func(*topologyRun) (did bool, err error), refused func() error,
) error {
	p := &pin{ctx: ctx, known: true, done: make(chan pinned, 1)}
	p.act = func(loop context.Context) (failed, fatal error) {
		if failed, fatal = e.actOn(loop, do); failed == nil && fatal == nil {
			failed = refused()
			fatal = failed
		}
		return failed, fatal
	}
	if err := e.ask(ctx, p); err != nil {
		return err
	}
	select {
	case r := <-p.done:
		return r.err
	case <-ctx.Done():
		if p.begun.CompareAndSwap(false, true) {
			return ctx.Err() // the loop will pass over it
		}
	case <-e.ended:
	}
	// Once the loop has begun it, the caller waits: it reads what the loop writes.
	select {
	case r := <-p.done:
		return r.err
	case <-e.ended:
	}
	select {
	case r := <-p.done:
		return r.err
	default:
		return ErrEnded
	}
}

// actOn runs in the loop. failed is for who has asked, fatal ends the engine.
func (e *Engine) actOn(
	ctx context.Context,
	do func(*topologyRun) (did bool, err error),
) (failed, fatal error) {
	did := false
	for _, r := range e.runs {
		if r.held != nil || r.fresh || r.joining {
			continue
		}
		some, err := do(r)
		if err != nil {
			for _, r := range e.runs {
				r.task.Rollback()
			}
			for _, d := range e.databases {
				d.advance() // which is not made durable each time
			}
			e.epoch = epoch{careful: e.epoch.careful}
			return err, nil
		}
		did = did || some
	}
	if !did {
		for _, r := range e.runs {
			r.task.Skip()
		}
		return nil, nil
	}
	if err := failpoint.Hit(failpoint.Replaying); err != nil {
		return err, err
	}
	e.epoch.letters, e.epoch.started = true, time.Now()
	for _, r := range e.runs {
		e.epoch.txs = append(e.epoch.txs, r.task.Transactions()...)
	}
	if err := e.writeCommit(ctx); err != nil {
		return err, err
	}
	if err := e.settle(); err != nil {
		return err, err
	}
	return nil, nil
}

// keepPositions makes durable where tasks stand, if something is about to be asked of them:
// should that fail they go back to what is durable, and nobody sends them again what held
// nothing for them but moved their positions and times.
func (e *Engine) keepPositions(ctx context.Context) error {
	if !e.moved || !slices.ContainsFunc(e.due, func(p *pin) bool { return p.act != nil }) {
		return nil
	}
	if err := e.writeCommit(ctx); err != nil {
		return err
	}
	return e.settle()
}

// runActs runs what has been asked for between two epochs.
func (e *Engine) runActs(ctx context.Context) error {
	if len(e.epoch.txs) > 0 {
		return nil // the snapshots of some databases wait for those of others
	}
	rest := e.due[:0]
	fatal := e.keepPositions(ctx)
	for _, p := range e.due {
		if p.act == nil || fatal != nil {
			rest = append(rest, p)
			continue
		}
		if !p.begun.CompareAndSwap(false, true) {
			continue // nobody waits for it any more
		}
		var failed error
		failed, fatal = p.act(ctx)
		p.done <- pinned{err: failed}
	}
	e.due = rest
	return fatal
}

// noteDegraded tells of the keys that tables have parked as of the last commit.
func (e *Engine) noteDegraded() {
	degraded := map[string]int{}
	for _, r := range e.runs {
		for n, keys := range r.task.Degraded() {
			if keys > 0 {
				degraded[r.name()+"/"+n.Name] = keys
			}
			e.cfg.Observe.Degraded(r.name(), n.Name, keys)
		}
	}
	e.status.set(func(s *Status) {
		s.Degraded = degraded
	})
}
