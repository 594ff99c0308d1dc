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
//	seal -> one synced batch {checkpoints, state, queues} -> views, targets -> acknowledge
//
// Targets are woken once the views show the epoch; one that is at work already may take it
// before. The sync overlaps with the computing of the next epoch (inflight.go), nothing else does.
// Whatever crash comes, the state is never ahead of what is durable, the source is
// never told to forget what is not, and no target sees what the state does not hold
// (invariants D1, D2).
func (e *Engine) commit(ctx context.Context) error {
	if e.snapshotPending() {
		return nil
	}
	pending := false
	for _, r := range e.runs {
		pending = pending || !r.joining && r.task.Pending()
	}
	if !pending && !e.hasFreshSnapshot() {
		// Nothing for any topology: only positions moved, which need not be durable
		// each time.
		if len(e.epoch.txs) == 0 {
			return nil
		}
		// What is shown below is at or after what is under way.
		if err := e.settle(); err != nil {
			return err
		}
		if time.Since(e.quietAt) >= e.limits.IdleCommit {
			e.quietAt = time.Now()
			return e.writeCommit(ctx)
		}
		for _, r := range e.runs {
			r.task.Skip()
		}
		e.moved = true
		e.epoch = epoch{careful: e.epoch.careful && e.repeating()}
		return e.showFrontier()
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

// showFrontier shows positions that moved without any change, once there is something that
// they are of.
func (e *Engine) showFrontier() error {
	at := e.frontier()
	if e.seq == 0 || len(at) == 0 {
		return nil
	}
	if err := e.cfg.Host.Advance(at); err != nil {
		return fmt.Errorf("engine: views: %w", err)
	}
	e.noteShown(at, e.takeFed(), time.Time{})
	e.joiner.follow(at)
	return nil
}

// writeCommit seals the epoch and hands it to the disk. Unless something depends on it
// at once, the loop goes on with the next epoch meanwhile.
func (e *Engine) writeCommit(ctx context.Context) error {
	if e.failed != nil {
		return e.failed
	}
	if err := e.waitForRoom(ctx); err != nil {
		return err
	}
	f := &inflight{
		seq: e.seq + 1, sealed: make([]*task.Ready, len(e.runs)), epoch: e.epoch, snapshot: e.hasFreshSnapshot(),
	}
	for i, r := range e.runs {
		if r.held != nil || r.joining {
			continue
		}
		ready, err := r.task.Seal()
		if err != nil {
			return err
		}
		f.sealed[i] = ready
	}
	f.computed, f.frontier = time.Now(), e.frontier()
	f.batch = e.cfg.Dir.DB.NewBatch()
	queued, err := e.fill(f.batch, f.sealed)
	if err == nil {
		// One commit is under way at most, and each is shown before the next is applied.
		err = e.settle()
	}
	if err == nil {
		err = hit(failpoint.BatchSync, failpoint.SnapshotSwitch, f.snapshot)
	}
	if err == nil {
		err = e.collect()
	}
	if err != nil {
		return errors.Join(err, f.batch.Close())
	}
	f.queued, f.fed = queued, e.takeFed()
	f.handOver(e.cfg.Dir.DB)
	e.inflight = f
	e.seq, e.moved = f.seq, false
	for i, r := range e.runs {
		if f.sealed[i] != nil {
			r.task.Committed(f.sealed[i].Checkpoint)
			r.noted = len(f.sealed[i].Checkpoint.Positions) > 0
			r.fresh = r.fresh && !r.noted
			r.publishedNoted = r.noted
		}
	}
	atOnce := f.snapshot || e.epoch.careful || e.limits.OneTransaction
	e.epoch = epoch{careful: e.epoch.careful}
	if atOnce {
		err = e.settle()
		e.epoch.careful = e.epoch.careful && e.repeating()
	}
	return err
}

// collect reads what watchers of views are to be told, as long as the stores know it.
func (e *Engine) collect() error {
	if err := e.cfg.Host.Collect(e.changed); err != nil {
		return fmt.Errorf("engine: views: %w", err)
	}
	return nil
}

// finish lets the world know of a commit that is durable.
func (e *Engine) finish(f *inflight) error {
	e.before = e.through()
	// A worker that has just drained its queue acknowledges on its own. It must not
	// see the new position without the epoch that now waits before it (invariant D1).
	e.noteQueued(f)
	e.ackMu.Lock()
	for i, r := range e.runs {
		if ready := f.sealed[i]; ready != nil {
			r.committed, r.replay = ready.Checkpoint.Positions, ready.Checkpoint.Replay
			r.unbegun = r.unbegun && len(r.committed) == 0 // what it begins with is queued
			if n := len(ready.Txs); n > 0 && !f.epoch.letters {
				r.asOf = ready.Txs[n-1].CommitTime
			}
		}
	}
	e.ackMu.Unlock()
	e.joiner.follow(e.durable())
	// Who reads a view that lacks what a parked key would have has to be told so.
	e.noteDegraded()
	if err := e.publish(f.moment, &f.epoch); err != nil {
		return err
	}
	e.observe(f)
	if f.snapshot {
		for _, d := range e.databases {
			d.snapshot.complete()
		}
	}
	e.wakeTargets(f.queued)
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
func (e *Engine) fill(batch state.Batch, sealed []*task.Ready) (filled []queued, err error) {
	if e.joins == nil {
		if err := batch.Set(seqKey, binary.BigEndian.AppendUint64(nil, e.seq+1)); err != nil {
			return nil, err
		}
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
			Cut: c.Cut, Joining: e.joins != nil,
		})
		if err != nil {
			return nil, err
		}
		if err := batch.Set(checkpointKey(e.runs[i].name()), value); err != nil {
			return nil, err
		}
	}
	for _, i := range order {
		if err := e.putPublished(batch, e.runs[i], sealed[i]); err != nil {
			return nil, err
		}
	}
	for _, i := range order {
		if err := e.noteShapes(batch, e.runs[i], sealed[i]); err != nil {
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
	filled = make([]queued, len(e.targets))
	for i, t := range e.targets {
		if filled[i], err = e.enqueue(batch, t, sealed); err != nil {
			return nil, err
		}
	}
	return filled, nil
}

// publish shows a committed state to readers. Before every topology has its snapshots
// there is nothing to show.
func (e *Engine) publish(moment state.Snapshot, of *epoch) error {
	for _, r := range e.runs {
		for _, d := range e.databases {
			if _, ok := r.committed[d.name]; !ok && r.held == nil && !r.joining && r.reads(d.name) {
				e.cfg.Host.Discard()
				return moment.Close()
			}
		}
	}
	held := map[string]view.Standing{}
	for _, r := range e.runs {
		if r.held != nil || r.joining {
			held[r.name()] = view.Standing{Positions: r.committed, AsOf: r.asOf}
		}
	}
	err := e.cfg.Host.Publish(view.Commit{
		Seq: e.seq, Positions: e.durable(), Held: held, AsOf: of.commitTime(), Snapshot: moment,
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

func (e *Engine) observe(f *inflight) {
	s := EpochStats{
		Rows: f.epoch.rows, Commit: time.Since(f.computed), Positions: f.frontier,
	}
	if n := len(f.epoch.txs); n > 0 && !f.epoch.letters {
		s.Transactions = n
		s.Compute = f.computed.Sub(f.epoch.started)
		s.CommitTime = time.UnixMicro(f.epoch.commitTime())
		s.Snapshot = f.epoch.txs[n-1].Snapshot
	}
	for i, r := range e.runs {
		if f.sealed[i] != nil {
			for node, at := range f.sealed[i].Checkpoint.StreamTimes {
				e.cfg.Observe.StreamTime(r.name(), node, time.UnixMicro(at))
			}
		}
	}
	e.noteShown(f.frontier, f.fed, s.CommitTime)
	e.cfg.Observe.Epoch(s)
	e.status.progress()
}
