package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/sources"
)

// resnapshot is the snapshot of topologies that the others wait for, unlike those that a
// joiner brings up: they take events again, and these are in the app's own slot alone. The
// snapshot comes through a slot of its own and stands at some X at or after the position
// from which events are taken; the database's own session, which has not been read from
// yet, delivers everything after X too, so each topology simply skips what its position
// covers. A crash before their first commit leaves nothing but a slot of their own, which
// the next start drops.
type resnapshot struct {
	database *databaseRun
	runs     []*topologyRun
	session  sources.Session
}

// openResnapshot opens the snapshot for those of a database, one for all of them, so that
// they stand at one position; nil where there are none.
func (e *Engine) openResnapshot(ctx context.Context, d *databaseRun) (*resnapshot, error) {
	// Where all are new the session itself begins with the snapshot.
	first := d.resume() == 0
	coming := slices.DeleteFunc(d.active(), func(r *topologyRun) bool {
		_, ok := r.committed[d.name]
		return !r.joining && (ok || first)
	})
	if err := e.dropLeft(ctx, d, coming); err != nil {
		return nil, err
	}
	runs := slices.DeleteFunc(coming, func(r *topologyRun) bool { return r.joining })
	if len(runs) == 0 {
		return nil, nil
	}
	for _, r := range runs {
		e.log.Info("a topology takes its snapshot, for which the others wait",
			"topology", r.name(), "database", d.name)
	}
	session, err := e.openOwnSlot(ctx, d, runs, e.ownSlotRequest(d, runs))
	if err != nil {
		return nil, err
	}
	return &resnapshot{d, runs, session}, nil
}

// endResnapshot closes the session of a snapshot and drops its slot.
func (e *Engine) endResnapshot(ctx context.Context, s *resnapshot) {
	// The error of closing a connection that is given up tells nothing.
	_ = s.session.Close()
	e.leaveOwnSlot(ctx, s.database, s.runs)
}

// takeSnapshot feeds the topologies their snapshot and commits it.
func (e *Engine) takeSnapshot(ctx context.Context, s *resnapshot) error {
	for _, r := range s.runs {
		r.snapshotting = true
		defer func() { r.snapshotting = false }()
	}
	for {
		b, err := s.session.Next(ctx)
		if err != nil {
			return &lostSession{s.database.name, err}
		}
		done, err := e.feedSnapshot(s.database, b)
		release(b)
		if err != nil {
			return err
		}
		if done {
			return e.commit(ctx)
		}
	}
}

// feedSnapshot feeds a batch of the snapshot; done says that it has ended.
func (e *Engine) feedSnapshot(d *databaseRun, b *sources.Batch) (done bool, err error) {
	for i := range b.Txs {
		p := &b.Txs[i]
		if !p.Tx.Snapshot {
			return false, fmt.Errorf("engine: database %q: the snapshot did not come first", d.name)
		}
		if err := e.feedPiece(d, p); err != nil || p.Last {
			return p.Last, err
		}
	}
	return false, nil
}
