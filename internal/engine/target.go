package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
)

// targetRun is a target at work: its queue, and a worker that drains it. A slow
// target never blocks processing until its queue is full.
type targetRun struct {
	name      string
	connector sinks.Connector
	queue     uint32
	outputs   []outputRun // by id
	appends   appends
	opened    bool // it could be opened in this run; the worker's own

	wake chan struct{} // an epoch was queued
	room chan struct{} // the queue has shrunk
	size atomic.Int64

	// staged is the queue of what joining topologies put out, 0 if there is none; joined is
	// that of those that join with the epoch at hand. They are the loop's.
	staged, joined uint32
	joinedAt       int64 // the commit time of the last transaction in joined

	// asides are what decides about rows that are refused of epochs which the worker has
	// read and the target has not taken; the worker's own. lettersMu guards what is kept
	// of outputs, and is taken before mu.
	asides    map[uint64]*aside
	lettersMu sync.Mutex

	mu sync.Mutex
	// delivered is the newest epoch that the target has taken.
	delivered uint64
	pending   []pendingEpoch // queued and not delivered
	// searched is for a database the epoch before which none that is pending has anything of
	// it; see deliveredTo.
	searched map[string]uint64
}

// appends are the databases that a target's append-only outputs come from: what it has not
// taken of these is kept there.
type appends map[string]bool

// add adds those of an output.
func (a *appends) add(o outputRun) {
	for _, n := range o.run.topology.Nodes() {
		if !o.spec.Output.Append || n.Source == nil {
			continue
		}
		if *a == nil {
			*a = appends{}
		}
		(*a)[n.Source.Input().Database] = true
	}
}

// pendingEpoch is an epoch that waits.
type pendingEpoch struct {
	seq   uint64
	bytes int64 // with its entry
	queueEntry
}

// queued is what an epoch has put into a target's queue: its bytes, how many rows and
// events, and its entry.
type queued struct {
	bytes int64
	items int
	entry queueEntry
}

// deliveredKey holds the newest epoch that a target has taken. Epochs count from 1.
func deliveredKey(queue uint32) []byte { return itemKey(nil, queue, 0, itemHeader) }

// noteQueued remembers what the last commit queued.
func (e *Engine) noteQueued(f *inflight) {
	for i, t := range e.targets {
		if f.queued[i].bytes == 0 {
			continue
		}
		t.mu.Lock()
		p := pendingEpoch{seq: f.seq, bytes: f.queued[i].bytes, queueEntry: f.queued[i].entry}
		p.Before = e.before // which was not known yet as the entry was written
		t.pending = append(t.pending, p)
		t.joined = 0
		t.mu.Unlock()
		e.cfg.Observe.Emitted(t.name, f.queued[i].items)
		e.cfg.Observe.Queued(t.name, t.size.Add(f.queued[i].bytes))
	}
}

// wakeTargets tells the workers that the last commit queued something.
func (e *Engine) wakeTargets(filled []queued) {
	for i, t := range e.targets {
		if filled[i].bytes != 0 {
			signal(t.wake)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waitForRoom stops the loop while a queue is full; so the sources are not read. What a start
// commits, snapshots that others wait for, goes beyond the bound: nobody makes room yet.
func (e *Engine) waitForRoom(ctx context.Context) error {
	if !e.delivering {
		return nil
	}
	for _, t := range e.targets {
		for t.size.Load() > e.limits.QueueBytes {
			if err := e.settle(); err != nil {
				return err // views and targets need not wait as well
			}
			e.status.waiting(t.name)
			select {
			case <-t.room:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// deliver drains a target's queue until ctx ends. What passes is tried again; it
// returns only what does not.
func (e *Engine) deliver(ctx context.Context, t *targetRun) error {
	pause := time.Duration(0)
	for {
		err := e.drain(ctx, t, &pause)
		if ctx.Err() != nil {
			return nil
		}
		for _, sentinel := range []error{
			sinks.ErrFenced, sinks.ErrHeld, sinks.ErrTargetSchema, sinks.ErrRejected,
			state.ErrCorrupt, errLostProgress, errStorage,
		} {
			if errors.Is(err, sentinel) {
				return err
			}
		}
		if errors.Is(err, sinks.ErrConfig) && !t.opened {
			return err
		}
		if !t.opened {
			err = askedRightly(err)
		}
		pause = min(max(2*pause, 100*time.Millisecond), e.limits.Retry)
		e.log.Warn("the target does not take what is queued; trying again",
			"target", t.name, "error", err, "retry_in", pause)
		e.cfg.Observe.TargetRetry(t.name, err)
		e.status.targetError(t.name, err)
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// errOpening says that a target is not open yet: nothing reaches it, so the app is not ready.
var errOpening = errors.New("engine: the target is being opened; where an instance with another state " +
	"directory has written it, its lease has to end before")

// errStorage says that the queue could not be read or trimmed, which the target is not to
// blame for.
var errStorage = errors.New("engine: the state directory")

func storage(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errStorage, err)
}

// errLostProgress says that a target knows nothing of what it once took, or of more
// than it was ever given: it or the state directory is not what it was.
var errLostProgress = errors.New("engine: the target's progress is not what it was")

// drain opens the target and delivers until an error.
func (e *Engine) drain(ctx context.Context, t *targetRun, pause *time.Duration) (err error) {
	e.status.opening(t.name)
	w, err := t.connector.Open(ctx, e.openTarget(t))
	if err != nil {
		return err
	}
	t.opened = true
	defer func() { err = errors.Join(err, w.Close()) }()
	seq, ok, err := w.Progress(ctx)
	if err != nil {
		return err
	}
	if ok {
		if err := t.checkProgress(seq); err != nil {
			return err
		}
		if err := e.taken(t, seq); err != nil {
			return storage(err)
		}
	}
	e.status.opened(t.name)
	first := !ok
	for {
		var unreadable error
		epochs, snap, err := e.readQueue(t, first, &unreadable)
		if err != nil {
			return err
		}
		if len(epochs) == 0 {
			snap.Close()
			*pause = 0
			e.status.targetError(t.name, nil) // it is open, and holds everything
			select {
			case <-t.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err = w.Apply(ctx, epochs)
		snap.Close()
		if unreadable != nil {
			return storage(unreadable) // whatever the target made of it
		}
		if err != nil {
			return err
		}
		first, *pause = false, 0
		if err := failpoint.Hit(failpoint.SinkApplied); err != nil {
			return err
		}
		last := epochs[len(epochs)-1]
		e.noteRefused(t, epochs)
		e.cfg.Observe.Delivered(t.name, len(epochs), last.CommitTime)
		e.status.targetError(t.name, nil)
		if err := e.taken(t, last.Seq); err != nil {
			return storage(err)
		}
	}
}

// checkProgress compares what a target says it holds with what it was given.
func (t *targetRun) checkProgress(seq uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq < t.delivered {
		return fmt.Errorf("%w: it took epoch %d and now says %d, as after a restore from a backup; "+
			"remove the state directory so that everything is delivered anew",
			errLostProgress, t.delivered, seq)
	}
	newest := t.delivered
	if n := len(t.pending); n > 0 {
		newest = t.pending[n-1].seq
	}
	if seq > newest {
		return fmt.Errorf("%w: it says that it took epoch %d, and the state directory knows of none after "+
			"%d, as after a restore of the directory from a backup; remove the state directory so that "+
			"everything is delivered anew", errLostProgress, seq, newest)
	}
	return nil
}

// taken trims the queue up to and including an epoch that the target holds (invariant D5).
func (e *Engine) taken(t *targetRun, seq uint64) error {
	t.lettersMu.Lock()
	freed, kept, err := e.trim(t, seq)
	t.lettersMu.Unlock()
	if kept {
		e.noteRefusedKeys(t)
	}
	if err != nil || freed == 0 {
		return err
	}
	e.cfg.Observe.Queued(t.name, t.size.Add(-freed))
	signal(t.room)
	if len(t.appends) > 0 {
		e.acknowledge()
	}
	return nil
}

// trim removes epochs from the queue, and what is kept of rows that were refused before and
// are taken with them; kept says that there was or is any. t.lettersMu is held.
func (e *Engine) trim(t *targetRun, seq uint64) (freed int64, kept bool, err error) {
	kept = t.refusedCount() > 0
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	t.mu.Lock()
	n := 0
	for n < len(t.pending) && t.pending[n].seq <= seq {
		n++
	}
	epochs := slices.Clone(t.pending[:n])
	t.mu.Unlock()
	if err := e.releaseRefused(b, t, epochs); err != nil {
		return 0, kept, err
	}
	t.mu.Lock()
	// Ranges that overlap would make each read of the queue slower than the last.
	first := seq
	if len(t.pending) > 0 {
		first = t.pending[0].seq
	}
	var staged []uint32
	var gone []uint64
	for len(t.pending) > 0 && t.pending[0].seq <= seq {
		gone = append(gone, t.pending[0].seq)
		if id := t.pending[0].Staged; id != 0 {
			staged = append(staged, id)
		}
		freed += t.pending[0].bytes
		t.pending = t.pending[1:]
	}
	t.delivered = max(t.delivered, seq)
	t.mu.Unlock()
	maps.DeleteFunc(t.asides, func(of uint64, _ *aside) bool { return of <= seq })
	if freed == 0 {
		return 0, kept, nil
	}
	if err := b.Set(deliveredKey(t.queue), binary.BigEndian.AppendUint64(nil, seq)); err != nil {
		return 0, kept, err
	}
	for _, seq := range gone {
		if err := b.Delete(entryKey(t.queue, seq)); err != nil {
			return 0, kept, err
		}
	}
	if err := e.cfg.Dir.DB.Commit(b, false); err != nil {
		return 0, kept, err
	}
	lower, upper := itemKey(nil, t.queue, first, itemHeader), itemKey(nil, t.queue, seq+1, itemHeader)
	if err := e.cfg.Dir.DB.DeleteRange(lower, upper); err != nil {
		return 0, kept, err
	}
	for _, id := range staged {
		if err := e.dropStaged(id); err != nil {
			return 0, kept, err
		}
	}
	return freed, kept, nil
}
