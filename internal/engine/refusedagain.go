package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
)

// replayRefused queues again what targets have refused, those that wanted names by their
// ids, all for nil: in an epoch of its own. Rows of which newer ones wait already are left,
// since these are tried anyway. It runs in the loop, between two epochs.
func (e *Engine) replayRefused(wanted func(id string) bool) (tried int, err error) {
	if err := e.settle(); err != nil {
		return 0, err
	}
	for _, t := range e.targets {
		n, err := e.replayTarget(t, wanted)
		if tried += n; err != nil {
			return tried, err
		}
	}
	return tried, nil
}

func (e *Engine) replayTarget(t *targetRun, wanted func(id string) bool) (int, error) {
	t.lettersMu.Lock()
	defer t.lettersMu.Unlock()
	again, err := e.refusedWanted(t, wanted)
	if err != nil || len(again) == 0 {
		return 0, err
	}
	for k := range again {
		waits, err := e.waitsInQueue(t, k)
		if err != nil {
			return 0, err
		}
		if waits {
			delete(again, k)
		}
	}
	if len(again) == 0 {
		return 0, nil
	}
	h := &queueHeader{Positions: e.frontier()}
	for _, o := range t.outputs {
		h.CommitTime = max(h.CommitTime, o.run.asOf)
	}
	for _, l := range again {
		h.CommitTime = max(h.CommitTime, l.CommitTime)
	}
	return len(again), e.queueAgain(t, h, again)
}

// refusedWanted reads what is to be replayed or dropped. t.lettersMu is held.
func (e *Engine) refusedWanted(
	t *targetRun, wanted func(id string) bool,
) (map[refusedKey]*refusedLetter, error) {
	out := map[refusedKey]*refusedLetter{}
	for i := range t.outputs {
		o := &t.outputs[i]
		if len(o.refused) == 0 {
			continue
		}
		err := e.eachRefused(o, func(key []byte, l *refusedLetter) {
			if wanted == nil || wanted(l.ID) {
				out[refusedKey{o.id, string(key)}] = l
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// waitsInQueue reports whether an epoch waits that has the key, or the whole output.
func (e *Engine) waitsInQueue(t *targetRun, k refusedKey) (bool, error) {
	t.mu.Lock()
	pending := slices.Clone(t.pending)
	t.mu.Unlock()
	o, _ := t.output(k.output)
	for _, p := range pending {
		if p.seq <= o.refused[k.key] {
			continue // this one was refused
		}
		if p.begins(k.output) {
			return true, nil
		}
		if !p.brings(k.output) {
			continue
		}
		kind := byte(itemRow)
		if o.spec.Output.Append {
			kind = itemAgain
		}
		_, ok, err := e.cfg.Dir.DB.Get(nil, t.queuedKey(p.seq, kind, k))
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

func (t *targetRun) queuedKey(seq uint64, kind byte, k refusedKey) []byte {
	return append(binary.BigEndian.AppendUint32(itemKey(nil, t.queue, seq, kind), k.output), k.key...)
}

// queueAgain makes an epoch of what was refused, which commits by itself.
func (e *Engine) queueAgain(t *targetRun, h *queueHeader, again map[refusedKey]*refusedLetter) error {
	seq := e.seq + 1
	items := map[string][]byte{}
	for k, l := range again {
		if l.Event == nil {
			items[string(t.queuedKey(seq, itemRow, k))] = l.Row
			continue
		}
		event := *l.Event
		event.Replayed = true
		value, err := json.Marshal(&event)
		if err != nil {
			return err
		}
		items[string(t.queuedKey(seq, itemAgain, k))] = value
	}
	header, err := json.Marshal(h)
	if err != nil {
		return err
	}
	items[string(itemKey(nil, t.queue, seq, itemHeader))] = header
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	err = b.Set(seqKey, binary.BigEndian.AppendUint64(nil, seq))
	var bytes int64
	for _, key := range slices.Sorted(maps.Keys(items)) {
		if err == nil {
			err = b.Set([]byte(key), items[key])
		}
		bytes += int64(len(key) + len(items[key]))
	}
	entry := queueEntry{Bytes: bytes, Before: e.through()}
	for k := range again {
		if i, ok := slices.BinarySearch(entry.Outputs, k.output); !ok {
			entry.Outputs = slices.Insert(entry.Outputs, i, k.output)
		}
	}
	if err == nil {
		err = putEntry(b, t, seq, &entry)
	}
	if err == nil {
		err = failpoint.Hit(failpoint.ReplayingRefused)
	}
	if err == nil {
		err = e.cfg.Dir.DB.Commit(b, true)
	}
	if err != nil {
		return err
	}
	e.seq = seq
	t.mu.Lock()
	t.pending = append(t.pending, pendingEpoch{seq: seq, bytes: bytes, queueEntry: entry})
	t.mu.Unlock()
	e.cfg.Observe.Emitted(t.name, len(again))
	e.cfg.Observe.Queued(t.name, t.size.Add(bytes))
	signal(t.wake)
	return nil
}

// dropRefused removes what is kept of what targets have refused.
func (e *Engine) dropRefused(wanted func(id string) bool) (n int, err error) {
	for _, t := range e.targets {
		dropped, err := e.dropRefusedOf(t, wanted)
		if n += dropped; err != nil {
			return n, err
		}
		if dropped > 0 {
			e.noteRefusedKeys(t)
		}
	}
	return n, nil
}

func (e *Engine) dropRefusedOf(t *targetRun, wanted func(id string) bool) (int, error) {
	t.lettersMu.Lock()
	defer t.lettersMu.Unlock()
	gone, err := e.refusedWanted(t, wanted)
	if err != nil || len(gone) == 0 {
		return 0, err
	}
	b := e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	for _, k := range slices.SortedFunc(maps.Keys(gone), t.byStore) {
		o, _ := t.output(k.output)
		if err := b.Delete(append(binary.BigEndian.AppendUint32(nil, o.letters), k.key...)); err != nil {
			return 0, err
		}
	}
	if err := e.cfg.Dir.DB.Commit(b, true); err != nil {
		return 0, err
	}
	for k := range gone {
		o, _ := t.output(k.output)
		delete(o.refused, k.key)
	}
	return len(gone), nil
}

// decodeAgain turns an event that is delivered again into an item.
func (t *targetRun) decodeAgain(key, value []byte, item *sinks.Item) error {
	if len(key) < 4 {
		return errors.Join(state.ErrCorrupt, errors.New("engine: event that is delivered again"))
	}
	*item = sinks.Item{Columns: item.Columns[:0], Output: binary.BigEndian.Uint32(key), Event: &sinks.Event{}}
	if _, ok := t.output(item.Output); !ok {
		return errNoOutput
	}
	if err := json.Unmarshal(value, item.Event); err != nil {
		return errors.Join(state.ErrCorrupt, err)
	}
	return nil
}
