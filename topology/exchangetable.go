package topology

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// boxLimit is how many changes of a step an exchange keeps. Of a larger step, as of a
// giant transaction, readers walk what the writers have to take once more each, so that
// memory is bounded.
const boxLimit = 1 << 16

// tableLink exchanges net changes.
type tableLink[K comparable, V any] struct {
	count int
	open  func(rt *Runtime) func(dst []byte, k K, v *V) []byte
	// boxes hold the changes of a step by the partition they go to, in order of the
	// partitions they come from. kept counts them; over boxLimit the boxes are not used.
	boxes   [][]record.Change[K, V]
	kept    int
	writers []*tableWriter[K, V]
	key     state.KeyCodec[K]
	value   state.Codec[V]
}

func newTableLink[K comparable, V any](
	_ *Exchange, count int, open func(rt *Runtime) func(dst []byte, k K, v *V) []byte,
) (Link, error) {
	l := &tableLink[K, V]{
		count: count, open: open, boxes: make([][]record.Change[K, V], count),
	}
	l.key, _ = state.KeyCodecOf[K]()
	l.value, _ = state.CodecOf[V]() // see newStreamLink
	return l, nil
}

func (l *tableLink[K, V]) Writer(rt *Runtime, from Operator) LinkWriter {
	w := &tableWriter[K, V]{
		link: l, from: from.(TableOutput[K, V]), by: l.open(rt), self: rt.current.ID, active: rt.active,
	}
	l.writers = append(l.writers, w)
	return w
}

func (l *tableLink[K, V]) Reader(rt *Runtime) LinkReader {
	return &tableReader[K, V]{link: l, at: rt.partition.Index}
}

type tableWriter[K comparable, V any] struct {
	link *tableLink[K, V]
	from TableOutput[K, V]
	by   func(dst []byte, k K, v *V) []byte
	buf  []byte
	val  []byte
	// See streamWriter.
	key    K
	self   int
	active *int
}

// CurrentKey returns the key at work.
func (w *tableWriter[K, V]) CurrentKey() any { return w.key }

// Step divides the step's changes.
func (w *tableWriter[K, V]) Step(*Step) error {
	l := w.link
	if l.kept > boxLimit {
		return nil
	}
	return w.each(func(to int, c *record.Change[K, V]) bool {
		l.boxes[to] = append(l.boxes[to], *c)
		l.kept++
		return l.kept <= boxLimit
	})
}

// each yields where the sides of each change go: together, or the old value to one
// partition and the new one to another.
func (w *tableWriter[K, V]) each(yield func(to int, c *record.Change[K, V]) bool) error {
	return w.from.Changes(func(chunk []record.Change[K, V]) bool {
		for i := range chunk {
			if !w.divide(&chunk[i], yield) {
				return false
			}
		}
		return true
	})
}

func (w *tableWriter[K, V]) divide(c *record.Change[K, V], yield func(int, *record.Change[K, V]) bool) bool {
	w.key, *w.active = c.Key, w.self
	from, to := -1, -1
	if c.HasOld() {
		w.buf = w.by(w.buf[:0], c.Key, &c.Old)
		from = PartitionOf(w.buf, w.link.count)
	}
	if c.HasNew() {
		w.buf = w.by(w.buf[:0], c.Key, &c.New)
		to = PartitionOf(w.buf, w.link.count)
	}
	switch {
	case from == to || from < 0:
		return yield(to, c)
	case to < 0:
		return yield(from, c)
	}
	older, newer := *c, *c
	older.Narrow(record.HasOld)
	newer.Narrow(record.HasNew)
	return yield(from, &older) && yield(to, &newer)
}

// EndStep does nothing: the readers forget.
func (w *tableWriter[K, V]) EndStep() {}

// Messages encodes the step's changes.
func (w *tableWriter[K, V]) Messages(s *Step, yield func(m Message) error) error {
	var failed error
	last := s.FirstSeq + uint32(max(len(s.Txs), 1)) - 1
	err := w.each(func(to int, c *record.Change[K, V]) bool {
		w.buf = w.link.key.Append(w.buf[:0], c.Key)
		w.val = w.link.appendChange(w.val[:0], c)
		failed = yield(Message{to, w.buf, w.val, last})
		return failed == nil
	})
	if err != nil {
		return err
	}
	return failed
}

// appendChange encodes which values there are, the time, and the values, the old one
// with its length.
func (l *tableLink[K, V]) appendChange(dst []byte, c *record.Change[K, V]) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, byte(c.Sides)), uint64(c.Time))
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if c.HasOld() {
		dst = l.value.Append(dst, &c.Old)
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	if c.HasNew() {
		dst = l.value.Append(dst, &c.New)
	}
	return dst
}

func (l *tableLink[K, V]) decodeChange(src []byte, c *record.Change[K, V]) error {
	if len(src) < 13 || uint64(len(src)-13) < uint64(binary.BigEndian.Uint32(src[9:])) {
		return fmt.Errorf("%w: exchanged change of %d bytes", state.ErrCorrupt, len(src))
	}
	c.Sides, c.Time = record.Sides(src[0]), int64(binary.BigEndian.Uint64(src[1:]))
	size := binary.BigEndian.Uint32(src[9:])
	older, newer := src[13:13+size], src[13+size:]
	if c.HasOld() {
		if err := l.value.Decode(older, &c.Old); err != nil {
			return err
		}
	}
	if c.HasNew() {
		return l.value.Decode(newer, &c.New)
	}
	return nil
}

type tableReader[K comparable, V any] struct {
	link *tableLink[K, V]
	at   int
	out  []record.Change[K, V]
}

// Step does nothing: the writers have filled the box.
func (r *tableReader[K, V]) Step(*Step) error { return nil }

// Changes yields what came to the partition.
func (r *tableReader[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	if r.link.kept <= boxLimit {
		if box := r.link.boxes[r.at]; len(box) > 0 {
			yield(box)
		}
		return nil
	}
	const chunkSize = 1024
	more := true
	for _, w := range r.link.writers {
		err := w.each(func(to int, c *record.Change[K, V]) bool {
			if to != r.at {
				return true
			}
			if r.out = append(r.out, *c); len(r.out) == chunkSize {
				more = yield(r.out)
				clear(r.out)
				r.out = r.out[:0]
			}
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	if len(r.out) > 0 {
		yield(r.out)
		clear(r.out)
		r.out = r.out[:0]
	}
	return nil
}

// errNoLookUp says that a running form looks up what it declared to walk only.
var errNoLookUp = errors.New("topology: a table that was exchanged can be walked, not looked up")

// At fails: see TableBy.
func (r *tableReader[K, V]) At(K) (record.Versions[V], error) {
	return record.Versions[V]{}, errNoLookUp
}

// EndStep forgets the step's changes.
func (r *tableReader[K, V]) EndStep() {
	r.link.boxes[r.at], r.link.kept = forget(r.link.boxes[r.at]), 0
	r.out = r.out[:0]
}

// Receive puts a message into the partition's box.
func (r *tableReader[K, V]) Receive(m Message, _ *record.Tx, _ uint32) (err error) {
	var c record.Change[K, V]
	if c.Key, _, err = r.link.key.Decode(m.Key); err != nil {
		return err
	}
	if err := r.link.decodeChange(m.Value, &c); err != nil {
		return err
	}
	r.link.boxes[r.at] = append(r.link.boxes[r.at], c)
	return nil
}

// gather shows the changes of all partitions, and looks keys up where they are.
func (typedTable[K, V]) gather(n *Node, parts []Operator) Operator {
	g := &gatheredTable[K, V]{}
	for _, op := range parts {
		g.parts = append(g.parts, op.(TableOutput[K, V]))
	}
	if n.Global {
		g.parts = g.parts[:1] // all of it is in each partition
	}
	g.divider, g.err = DividerOf[K]()
	return g
}

type gatheredTable[K comparable, V any] struct {
	parts   []TableOutput[K, V]
	divider Divider[K]
	err     error
	buf     []byte
}

// Step does nothing: the parts have been run.
func (g *gatheredTable[K, V]) Step(*Step) error { return nil }

// EndStep does nothing.
func (g *gatheredTable[K, V]) EndStep() {}

// Changes yields the changes of one partition after another.
func (g *gatheredTable[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	more := true
	for _, p := range g.parts {
		err := p.Changes(func(chunk []record.Change[K, V]) bool {
			more = yield(chunk)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// At asks the partition of the key.
func (g *gatheredTable[K, V]) At(key K) (record.Versions[V], error) {
	if g.err != nil {
		return record.Versions[V]{}, g.err
	}
	g.buf = g.divider.Append(g.buf[:0], key)
	return g.parts[PartitionOf(g.divider.Part(g.buf), len(g.parts))].At(key)
}
