package topology

import (
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// streamLink exchanges records.
type streamLink[K comparable, V any] struct {
	count int
	open  func(rt *Runtime) func(dst []byte, r *record.Record[K, V]) []byte
	// boxes hold the records of a step, by the partition they come from and the one they
	// go to.
	boxes [][][]record.Record[K, V]
	key   state.KeyCodec[K]
	value state.Codec[V]
}

func newStreamLink[K comparable, V any](
	_ *Exchange, count int, open func(rt *Runtime) func(dst []byte, r *record.Record[K, V]) []byte,
) (Link, error) {
	l := &streamLink[K, V]{count: count, open: open, boxes: make([][][]record.Record[K, V], count)}
	for i := range l.boxes {
		l.boxes[i] = make([][]record.Record[K, V], count)
	}
	// In one process nothing is encoded, so that types without a codec do; see Messages.
	l.key, _ = state.KeyCodecOf[K]()
	l.value, _ = state.CodecOf[V]()
	return l, nil
}

func (l *streamLink[K, V]) Writer(rt *Runtime, from Operator) LinkWriter {
	w := &streamWriter[K, V]{
		link: l, from: from.(StreamOutput[K, V]), by: l.open(rt), self: rt.current.ID, active: rt.active,
	}
	if !rt.partition.Apart {
		w.boxes = l.boxes[rt.partition.Index]
	}
	return w
}

func (l *streamLink[K, V]) Reader(rt *Runtime) LinkReader {
	return &streamReader[K, V]{link: l, at: rt.partition.Index}
}

type streamWriter[K comparable, V any] struct {
	link  *streamLink[K, V]
	from  StreamOutput[K, V]
	by    func(dst []byte, r *record.Record[K, V]) []byte // nil: all to the first
	boxes [][]record.Record[K, V]
	buf   []byte
	val   []byte
	// What a user function fails on that says where a record goes; see Runtime.Active.
	key    K
	self   int
	active *int
}

// CurrentKey returns the key at work.
func (w *streamWriter[K, V]) CurrentKey() any { return w.key }

// Step divides the step's records.
func (w *streamWriter[K, V]) Step(*Step) error {
	return w.from.Records(func(chunk []record.Record[K, V]) bool {
		for i := range chunk {
			to := w.to(&chunk[i])
			w.boxes[to] = append(w.boxes[to], chunk[i])
		}
		return true
	})
}

func (w *streamWriter[K, V]) to(r *record.Record[K, V]) int {
	if w.by == nil {
		return 0
	}
	w.key, *w.active = r.Key, w.self
	w.buf = w.by(w.buf[:0], r)
	return PartitionOf(w.buf, w.link.count)
}

// EndStep does nothing: the readers forget.
func (w *streamWriter[K, V]) EndStep() {}

// Messages encodes the step's records.
func (w *streamWriter[K, V]) Messages(_ *Step, yield func(m Message) error) error {
	var failed error
	err := w.from.Records(func(chunk []record.Record[K, V]) bool {
		for i := range chunk {
			r := &chunk[i]
			to := w.to(r)
			w.buf = w.link.key.Append(w.buf[:0], r.Key)
			w.val = w.link.value.Append(appendTag(w.val[:0], &r.Tag, r.Time), &r.Value)
			if failed = yield(Message{to, w.buf, w.val, r.Tag.Seq}); failed != nil {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}

type streamReader[K comparable, V any] struct {
	link *streamLink[K, V]
	at   int
	out  []record.Record[K, V]
	// received says that messages have come, one partition's after another's.
	received bool
}

// Step puts the records of all partitions in order: by transaction, row and place among
// the row's outputs, as if they had never been divided (invariant X4).
func (r *streamReader[K, V]) Step(*Step) error {
	for _, boxes := range r.link.boxes {
		r.out = append(r.out, boxes[r.at]...)
	}
	inOrder := func(a, b record.Record[K, V]) int { return a.Tag.Compare(b.Tag) }
	if !slices.IsSortedFunc(r.out, inOrder) {
		slices.SortStableFunc(r.out, inOrder)
	}
	return nil
}

// Records yields the step's records.
func (r *streamReader[K, V]) Records(yield func([]record.Record[K, V]) bool) error {
	if len(r.out) > 0 {
		yield(r.out)
	}
	return nil
}

// EndStep forgets the step's records.
func (r *streamReader[K, V]) EndStep() {
	for _, boxes := range r.link.boxes {
		boxes[r.at] = forget(boxes[r.at])
	}
	r.out, r.received = forget(r.out), false
}

// Receive puts a message into the box of the first partition.
func (r *streamReader[K, V]) Receive(m Message, tx *record.Tx, seq uint32) (err error) {
	rec := record.Record[K, V]{Tag: record.Tag{Tx: tx, Seq: seq}}
	if rec.Key, _, err = r.link.key.Decode(m.Key); err != nil {
		return err
	}
	rest, err := decodeTag(m.Value, &rec.Tag, &rec.Time)
	if err != nil {
		return err
	}
	if err := r.link.value.Decode(rest, &rec.Value); err != nil {
		return err
	}
	boxes := r.link.boxes[0]
	boxes[r.at] = append(boxes[r.at], rec)
	r.received = true
	return nil
}

// forget empties a buffer of a step, and lets go of it if it has grown large.
func forget[T any](items []T) []T {
	if cap(items) > 4096 {
		return nil
	}
	clear(items)
	return items[:0]
}

// gather shows the records of all partitions in order.
func (typedStream[K, V]) gather(_ *Node, parts []Operator) Operator {
	g := &gatheredStream[K, V]{}
	for _, op := range parts {
		g.parts = append(g.parts, op.(StreamOutput[K, V]))
	}
	return g
}

type gatheredStream[K comparable, V any] struct{ parts []StreamOutput[K, V] }

// Step does nothing: the parts have been run.
func (g *gatheredStream[K, V]) Step(*Step) error { return nil }

// EndStep does nothing.
func (g *gatheredStream[K, V]) EndStep() {}

// Records yields the records of all partitions in order.
func (g *gatheredStream[K, V]) Records(yield func([]record.Record[K, V]) bool) error {
	var all []record.Record[K, V]
	for _, p := range g.parts {
		err := p.Records(func(chunk []record.Record[K, V]) bool {
			all = append(all, chunk...)
			return true
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(all, func(a, b record.Record[K, V]) int { return a.Tag.Compare(b.Tag) })
	if len(all) > 0 {
		yield(all)
	}
	return nil
}
