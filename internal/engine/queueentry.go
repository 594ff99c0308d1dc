package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// queueEntry is what is kept in memory of an epoch that waits: a start reads the entries of a
// queue and no item. They lie together, behind all items of the queue:
//
//	[queue u32][ff ff ff ff ff ff ff ff][seq u64]
//
// An entry goes with the note that its epoch was delivered, in one batch, and the items after
// that: so items may be left that have none, and are dropped at the next start.
type queueEntry struct {
	// Bytes is the size of the epoch's header and items.
	Bytes int64 `json:"bytes"`
	// Before are positions, at or before the epoch, up to which the sources may be
	// acknowledged while it waits.
	Before record.Positions `json:"before"`
	// Outputs are those that have rows or events in the epoch itself, ascending.
	Outputs []uint32 `json:"outputs,omitempty"`
	// Fresh and Staged are those of queueHeader. What is staged is of outputs in Fresh.
	Fresh  []uint32 `json:"fresh,omitempty"`
	Staged uint32   `json:"staged,omitempty"`
}

// entryKey is the key of an epoch's entry.
func entryKey(queue uint32, seq uint64) []byte {
	key := binary.BigEndian.AppendUint32(nil, queue)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(key, math.MaxUint64), seq)
}

func putEntry(batch state.Batch, t *targetRun, seq uint64, entry *queueEntry) error {
	value, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	return batch.Set(entryKey(t.queue, seq), value)
}

// has notes that there is a row, or there are events, of an output.
func (q *queued) has(output uint32) {
	if i, ok := slices.BinarySearch(q.entry.Outputs, output); !ok {
		q.entry.Outputs = slices.Insert(q.entry.Outputs, i, output)
	}
}

// begins reports whether an output begins with the epoch.
func (p *pendingEpoch) begins(output uint32) bool { return slices.Contains(p.Fresh, output) }

// brings reports whether the epoch has rows or events of an output, or may have: which ones
// were staged is not known.
func (p *pendingEpoch) brings(output uint32) bool {
	_, ok := slices.BinarySearch(p.Outputs, output)
	return ok || p.Staged != 0 && p.begins(output)
}

// loadQueue finds what a queue holds at start.
func (e *Engine) loadQueue(t *targetRun) error {
	db := e.cfg.Dir.DB
	value, ok, err := db.Get(nil, deliveredKey(t.queue))
	if err != nil {
		return err
	}
	if ok && len(value) == 8 {
		t.delivered = binary.BigEndian.Uint64(value)
	}
	it, err := db.NewIter(entryKey(t.queue, t.delivered+1), state.PrefixEnd(
		binary.BigEndian.AppendUint32(nil, t.queue)))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		var entry queueEntry
		if len(it.Key()) != 20 || json.Unmarshal(it.Value(), &entry) != nil {
			return fmt.Errorf("%w: entry in the queue of %q", state.ErrCorrupt, t.name)
		}
		p := pendingEpoch{seq: binary.BigEndian.Uint64(it.Key()[12:]), queueEntry: entry}
		p.bytes = entry.Bytes + int64(len(it.Key())+len(it.Value()))
		t.pending = append(t.pending, p)
		t.size.Add(p.bytes)
	}
	if err := it.Error(); err != nil {
		return err
	}
	return e.dropDelivered(t)
}

// dropDelivered drops items that a process left which ended between two steps of taken.
func (e *Engine) dropDelivered(t *targetRun) error {
	lower, upper := itemKey(nil, t.queue, 1, itemHeader), itemKey(nil, t.queue, t.delivered+1, itemHeader)
	it, err := e.cfg.Dir.DB.NewIter(lower, upper)
	if err != nil {
		return err
	}
	left := it.First()
	if err := it.Error(); err != nil {
		_ = it.Close()
		return err
	}
	if err := it.Close(); err != nil || !left {
		return err
	}
	return e.cfg.Dir.DB.DeleteRange(lower, upper)
}

// deliveredTo limits an acknowledgement to what an append-only target has taken: the
// position before its oldest epoch that is still queued and brings something of a topology
// that reads the database.
func (t *targetRun) deliveredTo(database string, at uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, _ := slices.BinarySearchFunc(t.pending, t.searched[database], func(p pendingEpoch, seq uint64) int {
		if p.seq < seq {
			return -1
		}
		return 1
	})
	if t.searched == nil {
		t.searched = map[string]uint64{}
	}
	for i := from; i < len(t.pending); i++ {
		if t.appendsOf(&t.pending[i], database) {
			t.searched[database] = t.pending[i].seq
			return t.pending[i].Before[database]
		}
	}
	if n := len(t.pending); n > 0 {
		t.searched[database] = t.pending[n-1].seq + 1
	}
	return at
}

// appendsOf reports whether an epoch brings something of an append-only output of a topology
// that reads a database.
func (t *targetRun) appendsOf(p *pendingEpoch, database string) bool {
	return slices.ContainsFunc(t.outputs, func(o outputRun) bool {
		return o.spec.Output.Append && p.brings(o.id) && o.run.reads(database)
	})
}
