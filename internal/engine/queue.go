package engine

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// A target's queue holds what committed epochs put out for it until the target has
// taken it. It lies in the state database behind all stores, so that it commits
// with the state. The keys of an epoch are
//
//	[queue u32][seq u64][0]                                        the header
//	[queue u32][seq u64][1][output u32][row key]                   a row
//	[queue u32][seq u64][2][tx u32][ordinal u32][path][output u32] an event
//	[queue u32][seq u64][3][output u32][id]                        an event that is delivered again
//
// so rows come by output and key, and events in commit order. The path is encoded as keys
// encode strings: a path that another one begins with comes before it, whatever follows.
// Behind all items are the epochs' entries (queueentry.go), which are all that a start reads.
const (
	itemHeader = iota
	itemRow
	itemEvent
	itemAgain
)

// itemKeyLen is how long the beginning of an item's key is.
const itemKeyLen = 13

// queueHeader describes an epoch in a queue.
type queueHeader struct {
	Positions record.Positions `json:"positions"`
	// CommitTime is in Unix microseconds.
	CommitTime int64 `json:"commit_time"`
	// Fresh are the outputs whose whole content this epoch holds.
	Fresh []uint32 `json:"fresh,omitempty"`
	// Txs are the transactions that the epoch's events refer to by place.
	Txs []queueTx `json:"txs,omitempty"`
	// Staged is the queue, if not 0, that holds what topologies put out before they joined
	// with this epoch; see staged.go.
	Staged uint32 `json:"staged,omitempty"`
}

type queueTx struct {
	Source   string `json:"source"`
	Position uint64 `json:"position"`
	XID      uint32 `json:"xid,omitempty"`
	Snapshot bool   `json:"snapshot,omitempty"`
	Replayed bool   `json:"replayed,omitempty"`
	// Retry is record.Tx.Retry.
	Retry uint64 `json:"retry,omitempty"`
}

// outputRun is one sink node at work.
type outputRun struct {
	id   uint32
	node *topology.Node
	spec *sinks.Spec
	run  *topologyRun
	// letters is the store of what the target has refused of it, and refused the epochs that
	// this was in by key, nil if nothing can be kept. Guarded by targetRun.lettersMu.
	letters uint32
	refused map[string]uint64
}

// groupTargets finds the targets that the topologies write.
func (e *Engine) groupTargets() error {
	byName := map[string]*targetRun{}
	var errs []error
	for _, r := range e.runs {
		for _, n := range r.topology.Nodes() {
			spec, ok := n.Sink.(*sinks.Spec)
			if !ok {
				continue
			}
			name := spec.Target.Name()
			t := byName[name]
			if t == nil {
				queue, err := e.cfg.Dir.QueueID(name)
				if err != nil {
					return err
				}
				t = &targetRun{
					name: name, connector: e.cfg.Targets[name], queue: queue,
					wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
				}
				byName[name] = t
				e.targets = append(e.targets, t)
				if t.connector == nil {
					errs = append(errs, fmt.Errorf("engine: target %q has no connector: give one to "+
						"sinks.NewTarget or Config.BindTarget", name))
				}
			}
			id, err := e.storeID(r, task.OutputStore(n))
			if err != nil {
				return err
			}
			o := outputRun{id: id, node: n, spec: spec.For(t.connector), run: r}
			if err := e.loadRefused(r, &o); err != nil {
				return err
			}
			t.outputs = append(t.outputs, o)
			t.appends.add(o)
		}
	}
	slices.SortFunc(e.targets, func(a, b *targetRun) int { return cmp.Compare(a.queue, b.queue) })
	for _, t := range e.targets {
		slices.SortFunc(t.outputs, func(a, b outputRun) int { return cmp.Compare(a.id, b.id) })
		errs = append(errs, e.loadQueue(t))
	}
	return errors.Join(errs...)
}

// itemKey begins the key of an item.
func itemKey(dst []byte, queue uint32, seq uint64, kind byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst[:0], queue)
	dst = binary.BigEndian.AppendUint64(dst, seq)
	return append(dst, kind)
}

// queueItems bounds the keys of all that waits in a queue.
func queueItems(queue uint32) (lower, upper []byte) {
	return itemKey(nil, queue, 1, itemHeader), state.PrefixEnd(binary.BigEndian.AppendUint32(nil, queue))
}

// enqueue writes the epoch's outputs for a target; nothing where there are none and
// the target does not need to see the epoch. It returns what there is.
func (e *Engine) enqueue(batch state.Batch, t *targetRun, sealed []*task.Ready) (q queued, err error) {
	events := e.eventsOf(t, sealed)
	header := e.queueHeader(t, sealed, events)
	if e.joins != nil {
		return q, e.stage(batch, t, sealed, events, header)
	}
	start := batch.Len()
	q.entry = queueEntry{Before: e.through(), Fresh: header.Fresh, Staged: t.joined}
	for _, o := range events.outputs {
		q.has(o.id)
	}
	seq := e.seq + 1
	wrote := false
	var key []byte
	begin := func() error {
		if wrote {
			return nil
		}
		wrote = true
		value, err := json.Marshal(header)
		if err != nil {
			return err
		}
		return batch.Set(itemKey(nil, t.queue, seq, itemHeader), value)
	}
	if len(header.Fresh) > 0 || len(header.Txs) > 0 {
		// An epoch that begins an output has to be seen even if it is empty: rows that
		// an earlier incarnation left must go.
		if err := begin(); err != nil {
			return q, err
		}
	}
	for _, o := range t.outputs {
		ready := sealed[e.indexOf(o.run)]
		if ready == nil || o.spec.Output.Append {
			continue
		}
		before := q.items
		err := ready.Outputs(o.node, func(out task.Output) error {
			if err := begin(); err != nil {
				return err
			}
			q.items++
			key = binary.BigEndian.AppendUint32(itemKey(key, t.queue, seq, itemRow), o.id)
			return batch.Set(append(key, out.Key...), out.Value)
		})
		if err != nil {
			return q, err
		}
		if q.items > before {
			q.has(o.id)
		}
	}
	err = events.each(func(ev *queuedEvent) error {
		q.items++
		return batch.Set(append(itemKey(key, t.queue, seq, itemEvent), ev.key...), ev.value)
	})
	if err == nil && wrote {
		q.entry.Bytes = int64(batch.Len() - start)
		err = putEntry(batch, t, seq, &q.entry)
	}
	q.bytes = int64(batch.Len() - start)
	return q, err
}

// queueHeader makes the epoch's header.
func (e *Engine) queueHeader(t *targetRun, sealed []*task.Ready, events *epochEvents) *queueHeader {
	h := &queueHeader{Positions: e.frontier(), Txs: events.txs, Staged: t.joined}
	switch {
	case e.epoch.letters:
		h.CommitTime = e.asOf()
	case len(e.epoch.txs) > 0:
		h.CommitTime = e.epoch.commitTime()
	case t.joined != 0:
		h.CommitTime = t.joinedAt
	}
	for _, o := range t.outputs {
		ready := sealed[e.indexOf(o.run)]
		if ready != nil && o.run.fresh && len(ready.Checkpoint.Positions) > 0 {
			h.Fresh = append(h.Fresh, o.id)
		}
	}
	return h
}

// asOf is when the last transaction before a replay was committed, or the last one that is
// replayed where there was none since the start.
func (e *Engine) asOf() (at int64) {
	for _, r := range e.runs {
		at = max(at, r.asOf)
	}
	for _, tx := range e.epoch.txs {
		at = max(at, tx.CommitTime)
	}
	return at
}

func (e *Engine) indexOf(r *topologyRun) int { return slices.Index(e.runs, r) }

// decodeItem turns a queue entry into an item. node names the sink in event ids.
func (t *targetRun) decodeItem(h *queueHeader, kind byte, key, value []byte, item *sinks.Item) error {
	*item = sinks.Item{Columns: item.Columns[:0]}
	if kind == itemRow {
		if len(key) < 4 {
			return fmt.Errorf("%w: row key in the queue of %q", state.ErrCorrupt, t.name)
		}
		item.Output, item.Key = binary.BigEndian.Uint32(key), key[4:]
		o, ok := t.output(item.Output)
		if !ok {
			return errNoOutput
		}
		var err error
		item.Columns, item.Deleted, err = o.spec.Row(value, item.Columns)
		return err
	}
	size, w := binary.Uvarint(value)
	if len(key) < 12 || w <= 0 || len(value)-w < 8 || size > uint64(len(value)-w-8) {
		return fmt.Errorf("%w: event in the queue of %q", state.ErrCorrupt, t.name)
	}
	item.Output = binary.BigEndian.Uint32(key[len(key)-4:])
	o, ok := t.output(item.Output)
	if !ok {
		return errNoOutput
	}
	place := int(binary.BigEndian.Uint32(key))
	if place >= len(h.Txs) {
		return fmt.Errorf("%w: event in the queue of %q names transaction %d of %d",
			state.ErrCorrupt, t.name, place, len(h.Txs))
	}
	tx := &h.Txs[place]
	path, end, err := state.DecodeKeyString(key[8 : len(key)-4])
	if err != nil || len(end) > 0 {
		return fmt.Errorf("%w: place of an event in the queue of %q", state.ErrCorrupt, t.name)
	}
	rest := value[w+int(size):]
	ordinal := binary.BigEndian.Uint32(key[4:])
	at := record.LSN(tx.Position).String()
	if tx.Retry > 0 && ordinal == record.LateOrdinal {
		at = fmt.Sprintf("%s~%d.%d", at, tx.Retry, place)
	}
	item.Event = &sinks.Event{
		ID:  record.EventID(tx.Source, at, o.node.Topology, o.node.Name, ordinal, path),
		Key: value[w : w+int(size)], Value: rest[8:], Time: int64(binary.BigEndian.Uint64(rest)),
		Source: tx.Source, Position: tx.Position, XID: tx.XID, Replayed: tx.Replayed,
	}
	return nil
}

// errNoOutput says that a queue entry belongs to an output that the topologies have
// no more.
var errNoOutput = errors.New("engine: output is gone")

func (t *targetRun) output(id uint32) (*outputRun, bool) {
	for i := range t.outputs {
		if t.outputs[i].id == id {
			return &t.outputs[i], true
		}
	}
	return nil, false
}

// commitTime returns the header's commit time.
func (h *queueHeader) commitTime() time.Time { return time.UnixMicro(h.CommitTime).UTC() }
