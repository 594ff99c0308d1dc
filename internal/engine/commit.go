package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/view"
)

// commit ends the epoch. This is the one place that orders things:
//
//	seal -> one synced batch {checkpoints, state, queues} -> views -> targets -> acknowledge
//
// Whatever crash comes, the state is never ahead of what is durable, the source is
// never told to forget what is not, and no target sees what the state does not hold
// (invariants D1, D2).
func (e *Engine) commit(ctx context.Context) error {
	if e.snapshotPending() {
		return nil
	}
	pending := false
	for _, r := range e.runs {
		pending = pending || r.task.Pending()
	}
	if !pending && !e.hasFreshSnapshot() {
		// Nothing for any topology: only positions moved, which need not be durable
		// each time.
		if len(e.epoch.txs) == 0 {
			return nil
		}
		if time.Since(e.quietAt) >= e.limits.IdleCommit {
			e.quietAt = time.Now()
			return e.writeCommit(ctx)
		}
		for _, r := range e.runs {
			r.task.Skip()
		}
		e.epoch = epoch{careful: e.epoch.careful && e.repeating()}
		return e.advanceQuietly()
	}
	return e.writeCommit(ctx)
}

// snapshotPending reports whether a topology over several databases has the
// snapshots of some of them only. The epoch then goes on until it has them all,
// since its outputs cannot show one database without the other.
func (e *Engine) snapshotPending() bool {
	for _, r := range e.runs {
		if r.held != nil || !r.fresh {
			continue
		}
		has, lacks := false, false
		for _, d := range e.databases {
			if r.reads(d.name) {
				_, ok := r.task.Positions()[d.name]
				has, lacks = has || ok, lacks || !ok
			}
		}
		if has && lacks {
			return true
		}
	}
	return false
}

// hasFreshSnapshot reports whether the epoch holds a snapshot: of empty tables it
// has no rows, and must be remembered all the same.
func (e *Engine) hasFreshSnapshot() bool {
	return slices.ContainsFunc(e.epoch.txs, func(tx *record.Tx) bool { return tx.Snapshot })
}

// advanceQuietly shows positions that moved without any change.
func (e *Engine) advanceQuietly() error {
	if e.seq == 0 || len(e.frontier()) == 0 {
		return nil
	}
	return e.cfg.Host.Advance(e.frontier())
}

// writeCommit makes the epoch durable and then lets the world know.
func (e *Engine) writeCommit(ctx context.Context) error {
	if err := e.waitForRoom(ctx); err != nil {
		return err
	}
	sealed := make([]*task.Ready, len(e.runs))
	for i, r := range e.runs {
		if r.held != nil {
			continue
		}
		ready, err := r.task.Seal()
		if err != nil {
			return err
		}
		sealed[i] = ready
	}
	computed := time.Now()
	batch := e.cfg.Dir.DB.NewBatch()
	defer batch.Close()
	queued, err := e.fill(batch, sealed)
	if err != nil {
		return err
	}
	snapshot := e.hasFreshSnapshot()
	if err := hit(failpoint.BatchSync, failpoint.SnapshotSwitch, snapshot); err != nil {
		return err
	}
	if err := e.cfg.Dir.DB.Commit(batch, true); err != nil {
		return fmt.Errorf("engine: commit: %w", err)
	}
	if err := hit(failpoint.BeforeAck, failpoint.SnapshotDone, snapshot); err != nil {
		return err
	}
	e.seq++
	e.before = e.through()
	// A worker that has just drained its queue acknowledges on its own. It must not
	// see the new position without the epoch that now waits before it (invariant D1).
	e.noteQueued(queued)
	e.ackMu.Lock()
	for i, r := range e.runs {
		if sealed[i] != nil {
			r.committed, r.replay = sealed[i].Checkpoint.Positions, sealed[i].Checkpoint.Replay
			r.fresh = r.fresh && len(r.committed) == 0
			r.noted = len(r.committed) > 0
			if n := len(sealed[i].Txs); n > 0 {
				r.asOf = sealed[i].Txs[n-1].CommitTime
			}
		}
	}
	e.ackMu.Unlock()
	if err := e.publish(e.changed); err != nil {
		return err
	}
	for i, r := range e.runs {
		if sealed[i] != nil {
			r.task.Committed(sealed[i].Checkpoint)
		}
	}
	e.observe(computed)
	e.epoch = epoch{careful: e.epoch.careful && e.repeating()}
	e.wakeTargets(queued)
	if err := e.forgetRemoved(); err != nil {
		return err
	}
	e.acknowledge()
	return hit(failpoint.AfterAck, failpoint.AfterAckServer, true)
}

// hit passes a crash point, and a second one where it applies.
func hit(always, also string, applies bool) error {
	err := failpoint.Hit(always)
	if applies {
		err = errors.Join(err, failpoint.Hit(also))
	}
	return err
}

// fill writes the epoch into a batch in ascending key order (invariant S3): the
// engine's own space, then all stores, then the queues.
func (e *Engine) fill(batch state.Batch, sealed []*task.Ready) (queued []int64, err error) {
	if err := batch.Set(seqKey, binary.BigEndian.AppendUint64(nil, e.seq+1)); err != nil {
		return nil, err
	}
	var stores []state.Store
	order := make([]int, 0, len(e.runs))
	for i := range e.runs {
		if sealed[i] != nil {
			order = append(order, i)
			stores = append(stores, sealed[i].Stores...)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(e.runs[a].name(), e.runs[b].name()) })
	for _, i := range order {
		c := sealed[i].Checkpoint
		if len(c.Positions) == 0 {
			continue
		}
		value, err := json.Marshal(checkpoint{
			Hash: e.runs[i].hash, Positions: c.Positions, StreamTimes: c.StreamTimes, Replay: c.Replay,
		})
		if err != nil {
			return nil, err
		}
		if err := batch.Set(checkpointKey(e.runs[i].name()), value); err != nil {
			return nil, err
		}
	}
	for _, i := range order {
		if err := e.note(batch, e.runs[i], sealed[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(stores, func(a, b state.Store) int { return cmp.Compare(a.ID(), b.ID()) })
	for _, s := range stores {
		if err := s.Flush(batch); err != nil {
			return nil, err
		}
	}
	queued = make([]int64, len(e.targets))
	for i, t := range e.targets {
		before := batch.Len()
		if err := e.enqueue(batch, t, sealed); err != nil {
			return nil, err
		}
		queued[i] = int64(batch.Len() - before)
	}
	return queued, nil
}

// frontier is how far the views are complete, by source: the least of the
// topologies that go on.
func (e *Engine) frontier() record.Positions {
	out := record.Positions{}
	for _, r := range e.runs {
		if r.held != nil {
			continue
		}
		for name, at := range r.task.Positions() {
			if p, ok := out[name]; !ok || at < p {
				out[name] = at
			}
		}
	}
	return out
}

// durable is the frontier as of the last commit.
func (e *Engine) durable() record.Positions {
	out := record.Positions{}
	for _, r := range e.runs {
		if r.held != nil {
			continue
		}
		for name, at := range r.committed {
			if p, ok := out[name]; !ok || at < p {
				out[name] = at
			}
		}
	}
	return out
}

// through is what could be acknowledged as of the last commit: the frontier, less the
// events that are still to be taken again.
func (e *Engine) through() record.Positions {
	out := e.durable()
	for _, r := range e.runs {
		for name, at := range r.replay {
			if p, ok := out[name]; ok {
				out[name] = min(p, at)
			}
		}
	}
	return out
}

// publish shows the committed state to readers. Before every topology has its
// snapshots there is nothing to show.
func (e *Engine) publish(changed func(view.Port) view.Changed) error {
	for _, r := range e.runs {
		for _, d := range e.databases {
			if _, ok := r.committed[d.name]; !ok && r.held == nil && r.reads(d.name) {
				return nil
			}
		}
	}
	var asOf int64
	if n := len(e.epoch.txs); n > 0 {
		asOf = e.epoch.txs[n-1].CommitTime
	}
	held := map[string]view.Standing{}
	for _, r := range e.runs {
		if r.held != nil {
			held[r.name()] = view.Standing{Positions: r.committed, AsOf: r.asOf}
		}
	}
	err := e.cfg.Host.Publish(view.Commit{
		Seq: e.seq, Positions: e.durable(), Held: held, AsOf: asOf,
		Snapshot: e.cfg.Dir.DB.NewSnapshot(), Changes: changed,
	})
	if err != nil {
		return fmt.Errorf("engine: views: %w", err)
	}
	e.status.ready()
	return nil
}

// changed finds the running form of a view.
func (e *Engine) changed(p view.Port) view.Changed {
	for _, r := range e.runs {
		if r.name() != p.Topology() {
			continue
		}
		for _, n := range r.topology.Nodes() {
			if port, ok := n.Sink.(view.Port); ok && port == p {
				return r.task.Operators()[n.ID].(view.Changed)
			}
		}
	}
	return nil
}

func (e *Engine) observe(computed time.Time) {
	s := EpochStats{
		Transactions: len(e.epoch.txs), Rows: e.epoch.rows, Commit: time.Since(computed),
		Positions: e.frontier(),
	}
	if n := len(e.epoch.txs); n > 0 {
		s.Compute = computed.Sub(e.epoch.started)
		s.CommitTime = time.UnixMicro(e.epoch.txs[n-1].CommitTime)
		s.Snapshot = e.epoch.txs[n-1].Snapshot
	}
	e.cfg.Observe.Epoch(s)
	e.status.progress()
}

// acknowledge lets each source forget what every topology holds durably and every
// append-only target has taken (invariant D1). It is called by the loop and by the
// workers of targets.
func (e *Engine) acknowledge() {
	e.ackMu.Lock()
	defer e.ackMu.Unlock()
	for _, d := range e.databases {
		at := uint64(0)
		for i, r := range d.runs {
			if p := r.done(d.name); i == 0 || p < at {
				at = p
			}
		}
		for _, t := range e.targets {
			if t.appends {
				at = min(at, t.deliveredTo(d.name, at))
			}
		}
		if d.session != nil && at > d.acked {
			d.acked = at
			d.session.Ack(at)
		}
	}
}
