package engine

import (
	"context"
	"errors"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// recover undoes an epoch that failed (invariant D6). If it held one transaction only,
// the topology that failed stops right before it: the others go on if the cause is the
// table's shape, and everything stops otherwise. A larger epoch is repeated one
// transaction at a time, so that everything before the failing one is kept.
func (e *Engine) recover(ctx context.Context, cause error) error {
	var f *topology.Failure
	if !errors.As(cause, &f) {
		return cause
	}
	if err := e.settle(); err != nil {
		return err
	}
	alone := len(e.epoch.txs) <= 1
	e.until = nil
	for _, tx := range e.epoch.txs {
		e.until = append(e.until, failedTx{tx.Source, tx.CommitStart})
	}
	for _, r := range e.runs {
		r.task.Rollback()
	}
	e.epoch = epoch{careful: true}
	if alone {
		failing := e.runOf(f.Node)
		if failing == nil || !errors.Is(cause, sources.ErrSchema) {
			return cause
		}
		if err := e.hold(failing, cause); err != nil {
			return err
		}
		e.epoch.careful = false
	} else {
		e.log.Warn("an epoch failed and is repeated one transaction at a time", "error", cause)
	}
	e.closeSessions()
	return e.start(ctx)
}

// reopen opens all sessions anew, as one of them asked for, from what is complete on.
func (e *Engine) reopen(ctx context.Context, cause error) error {
	e.log.Warn("the databases are opened again", "cause", cause)
	if e.closed() {
		if err := e.commitOrRecover(ctx); err != nil {
			return err
		}
	}
	if err := e.settle(); err != nil {
		return err
	}
	e.rewind()
	return e.start(ctx)
}

// hold makes a topology stand still where it is. It fails if no other goes on.
func (e *Engine) hold(r *topologyRun, cause error) error {
	e.ackMu.Lock()
	r.held = cause
	e.ackMu.Unlock()
	var why []error
	for _, other := range e.runs {
		if other.held != nil {
			why = append(why, other.held)
		}
	}
	if len(why) == len(e.runs) {
		return errors.Join(why...)
	}
	e.cfg.Observe.Held(r.name(), cause)
	e.status.held(r.name(), cause)
	e.log.Error("a topology stops before what it cannot read; the others go on",
		"topology", r.name(), "position", r.committed.String(), "error", cause)
	return nil
}

// failedTx names a transaction of an epoch that failed.
type failedTx struct {
	source      string
	commitStart uint64
}

// repeating reports whether some transaction of the epoch that failed has not been
// committed yet.
func (e *Engine) repeating() bool {
	at := e.durable()
	for _, tx := range e.until {
		if tx.commitStart >= at[tx.source] {
			return true
		}
	}
	return false
}

func (e *Engine) runOf(n *topology.Node) *topologyRun {
	for _, r := range e.runs {
		if n != nil && r.name() == n.Topology {
			return r
		}
	}
	return nil
}
