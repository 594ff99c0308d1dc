package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
)

// paused is the snapshot of topologies that the others wait for, unlike those that a
// joiner brings up: they take events again, and these are in the app's own slot alone. The
// snapshot comes through a slot of its own and stands at some X at or after the position
// from which events are taken; the database's own session, which has not been read from
// yet, delivers everything after X too, so each topology simply skips what its position
// covers. A crash before the
// newcomer's first commit leaves nothing but an orphaned slot of its own, which the
// next start drops.
type paused struct {
	database *databaseRun
	runs     []*topologyRun
	session  sources.Session
}

// openNewcomers opens the snapshot for the newcomers of a database, one for all of
// them, so that they stand at one position; nil where there are none.
func (e *Engine) openNewcomers(ctx context.Context, d *databaseRun) (*paused, error) {
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
		e.log.Info("a new topology takes its snapshot", "topology", r.name(), "database", d.name)
	}
	session, err := e.openJoining(ctx, d, runs, e.joiningRequest(d, runs))
	if err != nil {
		return nil, err
	}
	return &paused{d, runs, session}, nil
}

// joiningRequest is the request of a session through a slot of topologies' own.
func (e *Engine) joiningRequest(d *databaseRun, runs []*topologyRun) sources.OpenRequest {
	req := e.request(d, NewcomerApp(e.cfg.App, runs[0].name()), runs, 0)
	req.Joins = e.cfg.App
	// What is told of a database's health is what the others see of it.
	req.Observe = e.cfg.Observe.Source(d.name)
	return req
}

// openJoining opens such a session. That there may be a slot is noted before, so that a
// later start drops what this run does not; see dropLeft.
func (e *Engine) openJoining(
	ctx context.Context, d *databaseRun, runs []*topologyRun, req sources.OpenRequest,
) (sources.Session, error) {
	if err := e.retry(ctx, d, func() error { return e.dropJoining(ctx, d, runs) }); err != nil {
		return nil, err
	}
	if err := e.write(joiningKey(d.name, runs[0].name()), nil); err != nil {
		return nil, err
	}
	session, err := e.openRetry(ctx, d, req)
	if err != nil {
		e.leaveSlot(ctx, d, runs)
		return nil, err
	}
	return session, nil
}

// endJoining closes the session of a snapshot and drops its slot.
func (e *Engine) endJoining(ctx context.Context, j *paused) {
	// The error of closing a connection that is given up tells nothing.
	_ = j.session.Close()
	e.leaveSlot(ctx, j.database, j.runs)
}

// leaveSlot drops the slot that such a session had, also where ctx has ended: left behind
// it would hold the source's log. Where that fails the next start does it.
func (e *Engine) leaveSlot(ctx context.Context, d *databaseRun, runs []*topologyRun) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := e.dropJoining(cleanup, d, runs[:1]); err != nil {
		e.log.Warn("the slot of a snapshot is not dropped before the next start, and holds the source's log",
			"topology", runs[0].name(), "database", d.name, "error", err)
	}
}

// dropJoining drops the slots that snapshots of these topologies came through, or
// that an earlier start left.
func (e *Engine) dropJoining(ctx context.Context, d *databaseRun, runs []*topologyRun) error {
	for _, r := range runs {
		if err := e.dropJoiningOf(ctx, d, r.name()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) dropJoiningOf(ctx context.Context, d *databaseRun, topology string) error {
	drop := sources.DropRequest{
		App: NewcomerApp(e.cfg.App, topology), Joins: e.cfg.App, Database: d.name, Logger: e.log,
	}
	if err := d.connector.Drop(ctx, drop); err != nil {
		return fmt.Errorf("engine: drop the slot of topology %q: %w", topology, err)
	}
	return e.remove(joiningKey(d.name, topology))
}

// dropLeft drops the slots that topologies have left which do not come up through one of
// their own now: the app does not have them any more, or they have joined, and the process
// died before it came to that. One that cannot be dropped is tried again at the next start.
func (e *Engine) dropLeft(ctx context.Context, d *databaseRun, coming []*topologyRun) error {
	left, err := LeftSlots(e.cfg.Dir, d.name)
	if err != nil {
		return err
	}
	for _, name := range left {
		if slices.ContainsFunc(coming, func(r *topologyRun) bool { return r.name() == name }) {
			continue
		}
		e.log.Warn("a slot is dropped that a topology came up through", "topology", name, "database", d.name)
		if err := e.dropJoiningOf(ctx, d, name); err != nil {
			e.log.Error("a slot that a topology came up through holds the source's log",
				"topology", name, "database", d.name, "error", err)
		}
	}
	return nil
}

// LeftSlots returns the topologies that a state directory says may have a slot of their own
// in a database, in order.
func LeftSlots(dir *state.Dir, database string) (topologies []string, err error) {
	err = each(dir, joiningKey(database, ""), func(name string, _ []byte) error {
		topologies = append(topologies, name)
		return nil
	})
	return topologies, err
}

// NewcomerApp names the slot of a newcomer's snapshot. Different pairs of names give
// different slots, and never that of the app.
func NewcomerApp(app, topology string) string {
	const most = 40
	name := app + "-join-" + topology
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:most-9] + "-" + hex.EncodeToString(sum[:4])
}

// takeSnapshot feeds newcomers their snapshot and commits it.
func (e *Engine) takeSnapshot(ctx context.Context, j *paused) error {
	for _, r := range j.runs {
		r.snapshotting = true
		defer func() { r.snapshotting = false }()
	}
	for {
		b, err := j.session.Next(ctx)
		if err != nil {
			return err
		}
		done, err := e.feedSnapshot(j.database, b)
		release(b)
		if err != nil {
			return err
		}
		if done {
			return e.commit(ctx)
		}
	}
}

// feedSnapshot feeds a batch of a newcomer's snapshot; done says that it has ended.
func (e *Engine) feedSnapshot(d *databaseRun, b *sources.Batch) (done bool, err error) {
	for i := range b.Txs {
		p := &b.Txs[i]
		if !p.Tx.Snapshot {
			return false, fmt.Errorf("engine: database %q: a newcomer's snapshot did not come first", d.name)
		}
		if err := e.feedPiece(d, p); err != nil || p.Last {
			return p.Last, err
		}
	}
	return false, nil
}
