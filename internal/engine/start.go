package engine

import (
	"cmp"
	"context"
	"slices"
)

// start opens all databases and brings new topologies up to the others. Nothing is
// fed, and no state of a topology that has changed is dropped, before all is open.
func (e *Engine) start(ctx context.Context) error {
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
	for _, d := range e.openingOrder() {
		if d.joiningOnly() {
			continue // the joiner opens it, and hands the session over
		}
		if err := e.openSession(ctx, d); err != nil {
			return err
		}
		if d.session == nil {
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
	if err := e.dropChanged(); err != nil {
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
