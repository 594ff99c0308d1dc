package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/state"
)

// What joining topologies put out for a target is staged in a queue of its own until they
// join, so that the target sees nothing of it before (invariant D2). It holds rows as they
// are by now, and events by commits of the joiner:
//
//	[queue u32][0 u64][1][output u32][row key]   a row
//	[queue u32][n u64][0]                        the header of a commit with events
//	[queue u32][n u64][2]...                     its events, as in any queue
//
// The epoch by which the topologies join names the queue in its header. Its items then
// come from there too, so that nothing has to be copied while the loop stands still; and
// when the target has taken it the queue is dropped. A start drops those that no epoch
// names. They do not count to Limits.QueueBytes: what they hold is what the tables hold.

// stagedInfix parts the name of a target from the number of a staged queue. No target can
// be called so.
const stagedInfix = ":staged:"

// ofStaged returns the target that a queue is of, and whether it is a staged one.
func ofStaged(queue string) (target string, staged bool) {
	target, _, staged = strings.Cut(queue, stagedInfix)
	return target, staged
}

// prepareTargets gives the joiner the targets of its topologies, with staged queues. What
// sources keep for events is frozen until they are queued for good (invariant D1).
func (j *joiner) prepareTargets() error {
	e := j.parent
	for _, t := range e.targets {
		own := &targetRun{name: t.name}
		for _, o := range t.outputs {
			i := slices.Index(j.runs, o.run)
			if i < 0 {
				continue
			}
			o.run = j.sub.runs[i]
			own.outputs = append(own.outputs, o)
			own.appends.add(o)
		}
		if len(own.outputs) == 0 {
			continue
		}
		var err error
		if own.queue, err = e.freeStaged(t); err != nil {
			return err
		}
		t.staged = own.queue
		j.sub.targets = append(j.sub.targets, own)
		if len(own.appends) > 0 {
			e.ackMu.Lock()
			e.keep = e.through()
			e.ackMu.Unlock()
		}
	}
	slices.SortFunc(j.sub.targets, func(a, b *targetRun) int { return int(int64(a.queue) - int64(b.queue)) })
	return nil
}

// freeStaged returns a staged queue of a target that nothing is in.
func (e *Engine) freeStaged(t *targetRun) (uint32, error) {
	for n := 0; ; n++ {
		id, err := e.cfg.Dir.QueueID(t.name + stagedInfix + strconv.Itoa(n))
		if err != nil || !t.awaits(id) {
			return id, err
		}
	}
}

// awaits reports whether an epoch that waits for a target names a staged queue.
func (t *targetRun) awaits(staged uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.pending, func(p pendingEpoch) bool { return p.Staged == staged })
}

// dropOrphans empties the staged queues that no epoch names: their topologies have not
// joined, or the target has taken all of it. Those of targets that this start does not have
// stay: what waits for such a target is not known before it is there again (forgetQueues).
func (e *Engine) dropOrphans() error {
	queues, err := e.cfg.Dir.Queues()
	if err != nil {
		return err
	}
	for name, id := range queues {
		target, staged := ofStaged(name)
		if !staged || !e.hasTarget(target) ||
			slices.ContainsFunc(e.targets, func(t *targetRun) bool { return t.awaits(id) }) {
			continue
		}
		if err := e.dropStaged(id); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) hasTarget(name string) bool {
	return slices.ContainsFunc(e.targets, func(t *targetRun) bool { return t.name == name })
}

func (e *Engine) dropStaged(id uint32) error {
	lower := binary.BigEndian.AppendUint32(nil, id)
	return e.cfg.Dir.DB.DeleteRange(lower, state.PrefixEnd(lower))
}

// stage writes the outputs of joining topologies for a target.
func (e *Engine) stage(
	batch state.Batch, t *targetRun, sealed []*task.Ready, events *epochEvents, header *queueHeader,
) error {
	var key []byte
	for _, o := range t.outputs {
		ready := sealed[e.indexOf(o.run)]
		if o.spec.Output.Append {
			continue
		}
		err := ready.Outputs(o.node, func(out task.Output) error {
			key = binary.BigEndian.AppendUint32(itemKey(key, t.queue, 0, itemRow), o.id)
			key = append(key, out.Key...)
			if out.Value == nil {
				return batch.Delete(key)
			}
			return batch.Set(key, out.Value)
		})
		if err != nil {
			return err
		}
	}
	if len(header.Txs) == 0 {
		return nil
	}
	value, err := json.Marshal(header)
	if err != nil {
		return err
	}
	seq := e.seq + 1
	if err := batch.Set(itemKey(nil, t.queue, seq, itemHeader), value); err != nil {
		return err
	}
	return events.each(func(ev *queuedEvent) error {
		return batch.Set(append(itemKey(key, t.queue, seq, itemEvent), ev.key...), ev.value)
	})
}

// staged walks the rows, or the events, of a staged queue.
func (w *itemWalk) staged(queue uint32, kind byte) error {
	if kind == itemRow {
		return w.items(&queueHeader{}, itemKey(nil, queue, 0, itemRow), itemKey(nil, queue, 0, itemEvent))
	}
	for seq := uint64(1); ; seq++ {
		it, err := w.snap.NewIter(itemKey(nil, queue, seq, itemHeader), state.PrefixEnd(
			binary.BigEndian.AppendUint32(nil, queue)))
		if err != nil {
			return err
		}
		h, ok := &queueHeader{}, it.First()
		if ok {
			seq = binary.BigEndian.Uint64(it.Key()[4:])
			if err = json.Unmarshal(it.Value(), h); err != nil {
				err = fmt.Errorf("%w: header %d of what was staged for %q", state.ErrCorrupt, seq, w.target.name)
			}
		} else {
			err = it.Error()
		}
		if closeErr := it.Close(); err == nil {
			err = closeErr
		}
		if err != nil || !ok {
			return err
		}
		if err := w.items(
			h,
			itemKey(nil, queue, seq, itemEvent),
			itemKey(nil, queue, seq+1, itemHeader),
		); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}
