package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// inflight is a commit on its way to the disk. While it is, the loop computes the next
// epoch: the batch is applied and synced by a goroutine of its own, and nobody but the
// typed stores sees anything of it before it is durable (invariant D2). There is one at
// most.
type inflight struct {
	seq      uint64
	sealed   []*task.Ready
	queued   []queued
	epoch    epoch
	computed time.Time
	frontier record.Positions
	snapshot bool // it holds the snapshot of a database
	fed      []int64

	batch state.Batch
	// moment is the state right after this commit (invariant V1).
	moment state.Snapshot
	// applied is closed once the batch can be read, or failed to be; done once it is
	// durable. err says why it is not, and applyErr why it cannot be read.
	applied, done chan struct{}
	applyErr, err error
}

// handOver gives a batch to the disk.
func (f *inflight) handOver(db state.DB) {
	f.applied, f.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(f.done)
		durable, err := db.Apply(f.batch)
		if err == nil {
			f.moment = db.NewSnapshot()
		}
		f.applyErr = err
		close(f.applied)
		if err == nil {
			err = failpoint.Hit(failpoint.BatchApplied)
			err = errors.Join(err, durable())
		}
		f.err = err
	}()
}

// settle waits until the commit under way is durable, and lets the world know.
func (e *Engine) settle() error {
	f := e.inflight
	if f == nil {
		return nil
	}
	<-f.done
	e.inflight = nil
	err := f.err
	if err != nil {
		err = fmt.Errorf("engine: commit: %w", err)
	} else {
		err = hit(failpoint.BeforeAck, failpoint.SnapshotDone, f.snapshot)
	}
	if err == nil {
		return errors.Join(e.finish(f), f.batch.Close())
	}
	e.failed = err
	e.cfg.Host.Discard()
	if f.moment != nil {
		err = errors.Join(err, f.moment.Close())
	}
	return errors.Join(err, f.batch.Close())
}

// settled lets the world know of a commit that has become durable meanwhile. It never
// waits.
func (e *Engine) settled() error {
	if e.inflight == nil {
		return nil
	}
	select {
	case <-e.inflight.done:
		return e.settle()
	default:
		return nil
	}
}

// underWay is closed once the commit under way is durable; nil, which is never ready,
// without one.
func (e *Engine) underWay() <-chan struct{} {
	if e.inflight == nil {
		return nil
	}
	return e.inflight.done
}

// stores is the database as the typed stores read it: with all that has been sealed,
// although it may not be applied yet. Only the loop uses it.
type stores struct{ e *Engine }

func (s stores) Get(dst, key []byte) ([]byte, bool, error) {
	if err := s.e.awaitApplied(); err != nil {
		return dst, false, err
	}
	return s.e.cfg.Dir.DB.Get(dst, key)
}

func (s stores) NewIter(lower, upper []byte) (state.Iter, error) {
	if err := s.e.awaitApplied(); err != nil {
		return nil, err
	}
	return s.e.cfg.Dir.DB.NewIter(lower, upper)
}

func (e *Engine) awaitApplied() error {
	if e.inflight == nil {
		return e.failed
	}
	<-e.inflight.applied
	return e.inflight.applyErr
}
