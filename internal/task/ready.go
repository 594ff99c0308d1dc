package task

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Ready is what an epoch asks of the world. Stores, Changelog and Outputs are valid until
// Committed or Rollback, the rest for good.
//
// Direct mode: Stores, Checkpoint and Outputs go into one synced batch; only after
// that may the source be acknowledged and an output leave the process. Kafka mode:
// Changelog, Outputs and Checkpoint.Positions go into one broker transaction; Stores
// are applied only after that has committed, with the changelog's offsets.
type Ready struct {
	// Stores hold the changed pairs; Flush writes those of one. A batch takes the
	// stores of all tasks in ascending order of their ids.
	Stores []state.Store
	// Changelog yields the same changes by store name, for the changelog topics; a
	// nil value deletes.
	Changelog func(yield func(store string, key, value []byte) error) error
	// Outputs yields what a sink put out: rows in key order with one entry a key,
	// events in order of their tags. The slices are valid during the call.
	Outputs func(n *topology.Node, yield func(Output) error) error
	// EventTxs returns the places in Txs of the transactions that have events of a sink, in
	// order.
	EventTxs func(n *topology.Node) []uint32
	// Txs are the epoch's transactions in order.
	Txs []*record.Tx
	// Replayed are those of Txs whose events are taken again; see Checkpoint.Replay.
	Replayed map[*record.Tx]bool
	// Checkpoint must become durable in the same batch as Stores.
	Checkpoint Checkpoint
	// Timers returns the next stream time that a node waits for, by node name. They are
	// derived from Stores, and tell a driver how long a heartbeat can wait; nobody is asked
	// before it is called.
	Timers func() map[string]int64
}

// Output is a row or an event that a sink put out.
type Output struct {
	Node *topology.Node
	// Key and Value are the sink's encoding; a nil Value deletes the row.
	Key, Value []byte
	// Event says that this is an event of a stream; then Seq is its transaction's
	// place in Ready.Txs, and Tag identifies it within that: ordinal and path.
	Event bool
	Seq   uint32
	Tag   []byte
}

// Seal ends the epoch: it runs the step that is due and returns what has to be
// made durable. Transactions may not be open.
func (t *Task) Seal() (*Ready, error) {
	if err := t.Step(); err != nil {
		return nil, err
	}
	times := make(map[string]int64)
	for i, n := range t.nodes {
		if n.Source != nil && t.times[i] != topology.NoTime {
			times[n.Name] = t.times[i]
		}
	}
	if t.apart != nil {
		t.apart.note(times)
	}
	return &Ready{
		Stores:    t.stores,
		Changelog: t.changelog,
		Outputs:   t.outputs.each,
		EventTxs:  t.outputs.eventTxs,
		Txs:       t.txs,
		Replayed:  t.replayed,
		Checkpoint: Checkpoint{
			Positions: t.positions.Clone(), StreamTimes: times, Replay: t.replay.Clone(),
			Cut: t.cut != nil && !t.cut.resume,
		},
		Timers: t.timers,
	}, nil
}

// Checkpoint returns a copy of that of the last commit.
func (t *Task) Checkpoint() Checkpoint {
	return Checkpoint{
		Positions: t.committed.Positions.Clone(), StreamTimes: maps.Clone(t.committed.StreamTimes),
		Replay: t.committed.Replay.Clone(), Cut: t.committed.Cut,
	}
}

// Committed says that what Seal returned is in the database as the stores read it, and
// will be durable or the task is not used again.
func (t *Task) Committed(c Checkpoint) {
	for _, s := range t.stores {
		s.Committed()
	}
	t.outputs.reset()
	t.committed = c
	t.txs, t.stepped, t.pending, t.replayed = nil, 0, false, nil
}

func (t *Task) changelog(yield func(store string, key, value []byte) error) error {
	for _, s := range t.stores {
		if err := s.Flush(changelogBatch{store: t.names[s.ID()], yield: yield}); err != nil {
			return err
		}
	}
	return nil
}

// changelogBatch shows a store's flush as changelog records: without the prefix.
type changelogBatch struct {
	store string
	yield func(store string, key, value []byte) error
}

func (b changelogBatch) Set(key, value []byte) error { return b.yield(b.store, key[4:], value) }
func (b changelogBatch) Delete(key []byte) error     { return b.yield(b.store, key[4:], nil) }
func (b changelogBatch) Len() int                    { return 0 }
func (b changelogBatch) Close() error                { return nil }

// sortStores orders stores by key prefix, so that a flush is one ascending run.
func sortStores(stores []state.Store) []state.Store {
	return slices.SortedFunc(slices.Values(stores), func(a, b state.Store) int {
		return cmp.Compare(a.ID(), b.ID())
	})
}

// outputs collects what sinks put out in ordered stores of which nothing is ever
// committed: they net by key, sort, and spill with the rest of the epoch.
type outputs struct {
	env     *state.Env
	storeID func(store string) uint32
	stores  map[*topology.Node]*state.Ordered
	events  map[*topology.Node]*eventTxs
	key     []byte
	value   []byte
}

// OutputStore is the name of the store that a sink's outputs of an epoch are kept in.
// Nothing is committed under its id; it is distinct all the same, since what spills
// lies in one scratch space by id.
func OutputStore(n *topology.Node) string { return OutputPrefix + n.Name }

// OutputPrefix begins the names of OutputStore, and of no other store.
const OutputPrefix = "output:"

// eventTxs are the transactions of an epoch that have events of a sink, by their places.
type eventTxs struct {
	known map[uint32]struct{}
	last  uint32 // is known if any is: events mostly come a transaction after another
}

func (t *eventTxs) add(seq uint32) {
	if len(t.known) > 0 && t.last == seq {
		return
	}
	t.known[seq], t.last = struct{}{}, seq
}

func newOutputs(env *state.Env, storeID func(string) uint32) *outputs {
	return &outputs{
		env: env, storeID: storeID, stores: map[*topology.Node]*state.Ordered{},
		events: map[*topology.Node]*eventTxs{},
	}
}

func (o *outputs) store(n *topology.Node) *state.Ordered {
	s, ok := o.stores[n]
	if !ok {
		s = state.NewOrdered(o.env, o.storeID(OutputStore(n)))
		o.stores[n] = s
	}
	return s
}

// Upsert takes a row; see topology.Outputs.
func (o *outputs) Upsert(n *topology.Node, key, value []byte) error {
	if value == nil {
		return o.store(n).Delete(key)
	}
	return o.store(n).Set(key, value)
}

// Append takes an event; see topology.Outputs.
func (o *outputs) Append(n *topology.Node, tag record.Tag, key, value []byte) error {
	txs, ok := o.events[n]
	if !ok {
		txs = &eventTxs{known: map[uint32]struct{}{}}
		o.events[n] = txs
	}
	txs.add(tag.Seq)
	o.key = binary.BigEndian.AppendUint32(o.key[:0], tag.Seq)
	o.key = binary.BigEndian.AppendUint32(o.key, tag.Ordinal)
	o.key = append(o.key, tag.Path...)
	o.value = binary.AppendUvarint(o.value[:0], uint64(len(key)))
	o.value = append(append(o.value, key...), value...)
	return o.store(n).Set(o.key, o.value)
}

func (o *outputs) each(n *topology.Node, yield func(Output) error) error {
	store, ok := o.stores[n]
	if !ok {
		return nil
	}
	_, events := o.events[n]
	var failed error
	err := store.Dirty(func(key, value []byte, deleted bool) bool {
		out := Output{Node: n, Key: key, Value: value}
		if deleted {
			out.Value = nil
		}
		if events {
			size, w := binary.Uvarint(value)
			out.Event, out.Seq, out.Tag = true, binary.BigEndian.Uint32(key), key[4:]
			out.Key, out.Value = value[w:w+int(size)], value[w+int(size):]
		}
		failed = yield(out)
		return failed == nil
	})
	if err != nil {
		return err
	}
	return failed
}

func (o *outputs) eventTxs(n *topology.Node) []uint32 {
	txs, ok := o.events[n]
	if !ok {
		return nil
	}
	return slices.Sorted(maps.Keys(txs.known))
}

func (o *outputs) reset() {
	for _, txs := range o.events {
		clear(txs.known)
	}
	for _, s := range o.stores {
		s.Rollback()
	}
}
