package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
)

// deliverBytes is about how much one Apply delivers; an epoch is never split.
const deliverBytes = 8 << 20

// readQueue returns the epochs that wait, up to a bound, and the snapshot that their
// items read from, which the caller closes. What items fail with is left in unreadable.
func (e *Engine) readQueue(
	t *targetRun, first bool, unreadable *error,
) ([]sinks.Epoch, state.Snapshot, error) {
	waiting := t.waiting()
	snap := e.cfg.Dir.DB.NewSnapshot()
	var epochs []sinks.Epoch
	for _, p := range waiting {
		h, err := e.readHeader(snap, t, p.seq)
		if err != nil {
			snap.Close()
			return nil, nil, storage(err)
		}
		if first && len(epochs) == 0 && t.misses(h) {
			snap.Close()
			return nil, nil, fmt.Errorf("%w: it holds no progress of this state directory, and what it took "+
				"before is no longer queued; restore the target's progress table, or remove the state "+
				"directory so that everything is delivered anew", errLostProgress)
		}
		epochs = append(epochs, sinks.Epoch{
			Seq: p.seq, Positions: h.Positions, CommitTime: h.commitTime(),
			Reconcile: len(h.Fresh) > 0, Fresh: h.Fresh, Items: noting(unreadable, e.items(snap, t, p.seq, h)),
			SetAside: e.asideOf(t, p.seq, h),
		})
		if len(h.Fresh) > 0 {
			break
		}
	}
	return epochs, snap, nil
}

// noting keeps the error of a walk.
func noting(
	failed *error, walk func(func(sinks.Item) bool) error,
) func(func(sinks.Item) bool) error {
	return func(yield func(sinks.Item) bool) error {
		err := walk(yield)
		*failed = err
		return err
	}
}

// waiting returns the oldest epochs that wait, up to deliverBytes.
func (t *targetRun) waiting() []pendingEpoch {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(t.pending) && size < deliverBytes {
		size += t.pending[n].bytes
		n++
	}
	return slices.Clone(t.pending[:n])
}

// misses reports whether rows are lost to a target without progress that gets this
// epoch first: rows of a table output that it does not hold as a whole, if anything
// was delivered before.
func (t *targetRun) misses(h *queueHeader) bool {
	for _, o := range t.outputs {
		if o.spec.Output.Append || slices.Contains(h.Fresh, o.id) {
			continue
		}
		if len(h.Fresh) == 0 || t.delivered > 0 {
			return true
		}
	}
	return false
}

func (e *Engine) readHeader(r state.Reader, t *targetRun, seq uint64) (*queueHeader, error) {
	value, ok, err := r.Get(nil, itemKey(nil, t.queue, seq, itemHeader))
	if err != nil {
		return nil, err
	}
	h := &queueHeader{}
	if !ok || json.Unmarshal(value, h) != nil {
		return nil, fmt.Errorf("%w: header of epoch %d in the queue of %q", state.ErrCorrupt, seq, t.name)
	}
	return h, nil
}

// items walks one epoch of a queue, holding each event back until it is known
// whether it is the last of its transaction.
func (e *Engine) items(
	snap state.Reader, t *targetRun, seq uint64, h *queueHeader,
) func(func(sinks.Item) bool) error {
	return func(yield func(sinks.Item) bool) error {
		w := &itemWalk{snap: snap, target: t, yield: yield}
		err := w.epoch(h, t.queue, seq)
		if errors.Is(err, errStopItems) {
			return nil
		}
		return err
	}
}

// itemWalk is a walk over items.
type itemWalk struct {
	snap   state.Reader
	target *targetRun
	yield  func(sinks.Item) bool
	item   sinks.Item
	held   *heldEvent
}

// epoch walks one epoch: its rows, and its events; of each, what was staged comes first.
func (w *itemWalk) epoch(h *queueHeader, queue uint32, seq uint64) error {
	for _, kind := range []byte{itemRow, itemEvent, itemAgain} {
		if h.Staged != 0 && kind != itemAgain {
			if err := w.staged(h.Staged, kind); err != nil {
				return err
			}
		}
		if err := w.items(h, itemKey(nil, queue, seq, kind), itemKey(nil, queue, seq, kind+1)); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

// items walks the items of one epoch that lie between two keys.
func (w *itemWalk) items(h *queueHeader, lower, upper []byte) error {
	it, err := w.snap.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		kind, rest := it.Key()[12], it.Key()[13:]
		switch kind {
		case itemEvent:
			w.held, err = w.target.nextEvent(h, rest, it.Value(), w.held, w.yield)
		case itemAgain:
			err = w.target.decodeAgain(rest, it.Value(), &w.item)
		default:
			err = w.target.decodeItem(h, kind, rest, it.Value(), &w.item)
		}
		if err == nil && kind != itemEvent && !w.yield(w.item) {
			err = errStopItems
		}
		if err != nil && !errors.Is(err, errNoOutput) {
			return err
		}
	}
	return it.Error()
}

// flush yields the event that is held, which is the last of its transaction.
func (w *itemWalk) flush() error {
	held := w.held
	w.held = nil
	if held == nil {
		return nil
	}
	held.item.Event.Last = true
	if !w.yield(held.item) {
		return errStopItems
	}
	return nil
}

// heldEvent is an event of which the successor is not known yet.
type heldEvent struct {
	item       sinks.Item
	tx         uint32
	key, value []byte
}

var errStopItems = errors.New("engine: items are not wanted any more")

func (t *targetRun) nextEvent(
	h *queueHeader, key, value []byte, held *heldEvent, yield func(sinks.Item) bool,
) (*heldEvent, error) {
	next := &heldEvent{key: bytes.Clone(key), value: bytes.Clone(value)}
	if err := t.decodeItem(h, itemEvent, next.key, next.value, &next.item); err != nil {
		return held, err
	}
	next.tx = binary.BigEndian.Uint32(key)
	if held != nil {
		held.item.Event.Last = held.tx != next.tx
		if !yield(held.item) {
			return nil, errStopItems
		}
	}
	return next, nil
}
