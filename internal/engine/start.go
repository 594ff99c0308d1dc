package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// start opens all databases and brings new topologies up to the others. Where a snapshot is
// cut short, all that are not committed yet begin anew, as a joiner's do (bringUp).
func (e *Engine) start(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		err := e.tryStart(ctx)
		var lost *lostSession
		if ctx.Err() != nil || !errors.As(err, &lost) || !lost.again() {
			return err
		}
		pause = min(max(2*pause, 100*time.Millisecond), e.limits.Retry)
		e.log.Warn("a snapshot that the others wait for was cut short, and begins anew",
			"database", lost.database, "error", lost.cause, "retry_in", pause)
		e.status.sourceError(lost.database, lost.cause)
		e.rewind()
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// rewind goes back to the last commit, without sessions.
func (e *Engine) rewind() {
	for _, r := range e.runs {
		r.task.Rollback()
	}
	e.epoch = epoch{careful: e.epoch.careful}
	e.closeSessions()
}

// tryStart is start without another attempt. Nothing is fed, and no state of a topology that
// has changed or is left out is dropped, before all is open; and nothing is opened while a
// target is wrong.
func (e *Engine) tryStart(ctx context.Context) error {
	var snapshots []*resnapshot
	defer func() {
		for _, s := range snapshots {
			e.endResnapshot(ctx, s)
		}
	}()
	for _, d := range e.databases {
		if err := e.findKept(ctx, d); err != nil {
			return err
		}
	}
	e.chooseJoining()
	if err := e.checkTargets(ctx); err != nil {
		return err
	}
	for _, d := range e.openingOrder() {
		if d.joiningOnly() {
			e.status.openedSource(d.name) // as far as the others are concerned
			continue                      // the joiner opens it, and hands the session over
		}
		if err := e.openSession(ctx, d); err != nil {
			return err
		}
		if d.session == nil {
			e.status.openedSource(d.name)
			continue // its topologies are held
		}
		s, err := e.openResnapshot(ctx, d)
		if err != nil {
			return err
		}
		if s != nil {
			snapshots = append(snapshots, s)
		}
	}
	if err := errors.Join(e.dropChanged(), e.dropUndeliverable(), e.forgetRemoved()); err != nil {
		return err
	}
	for len(snapshots) > 0 {
		s := snapshots[0]
		snapshots = snapshots[1:]
		err := e.takeSnapshot(ctx, s)
		e.endResnapshot(ctx, s)
		if err != nil {
			return err
		}
	}
	return e.prepareJoiner()
}

// openingOrder returns the databases, those last that begin with a snapshot: their source
// forgets what it kept for the app before, so that by then all others should be open.
func (e *Engine) openingOrder() []*databaseRun {
	anew := func(d *databaseRun) int {
		if d.resume() == 0 {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(e.databases), func(a, b *databaseRun) int {
		return cmp.Compare(anew(a), anew(b))
	})
}
