package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/record"
)

// Table is a typed key-value store with a write-back cache: decoded values stay
// decoded, each key is read from the DB once and encoded once an epoch, and the
// value that a key had before the step is at hand. A row also keeps the event time
// of its last writer. It is used by one goroutine at a time.
type Table[K comparable, V any] struct {
	env  *Env
	id   uint32
	keys KeyCodec[K]
	vals Codec[V]

	index map[K]uint32 // slot by key
	slab  slab[tableEntry[K, V]]
	// touched are the slots written in this step, in order of first touch, with
	// what they held before. dirty are the slots that differ from the DB.
	touched []touchedRow[V]
	dirty   []uint32
	step    uint32

	changes    []record.Change[K, V]
	key, val   []byte // scratch for encoding
	flushArena []byte
	flushOrder []flushKey
	live       int
}

type tableEntry[K comparable, V any] struct {
	key   K
	value V
	time  int64
	step  uint32 // the step that touched it last
	touch uint32 // where in touched, if step is the current one
	flags entryFlags
}

type entryFlags uint8

const (
	entryPresent entryFlags = 1 << iota // the row exists now
	entryStored                         // the row exists in the DB
	entryDirty                          // in the dirty list
	entryUsed                           // read since the cache last looked for room
)

type touchedRow[V any] struct {
	slot    uint32
	present bool
	time    int64
	old     V
}

// NewTable makes the table with the given key prefix over env.DB.
func NewTable[K comparable, V any](env *Env, id uint32, kc KeyCodec[K], vc Codec[V]) *Table[K, V] {
	return &Table[K, V]{env: env, id: id, keys: kc, vals: vc, index: map[K]uint32{}, step: 1}
}

// ID is the table's key prefix.
func (t *Table[K, V]) ID() uint32 { return t.id }

// Entries is the number of rows in memory.
func (t *Table[K, V]) Entries() int { return t.live }

// Bytes is the memory that the rows in memory take, roughly.
func (t *Table[K, V]) Bytes() int64 { return int64(t.live) * int64(slotBytes[K, V]()) }

func slotBytes[K comparable, V any]() int { return 64 }

// entry returns the cache entry of a key, reading the row if it is not there.
func (t *Table[K, V]) entry(k K) (*tableEntry[K, V], uint32, error) {
	if t.keys.Normalize != nil {
		k = t.keys.Normalize(k)
	}
	if s, ok := t.index[k]; ok {
		return t.slab.at(s), s, nil
	}
	t.key = t.keys.Append(appendID(t.key[:0], t.id), k)
	val, ok, err := t.env.DB.Get(t.val[:0], t.key)
	if err != nil {
		return nil, 0, err
	}
	t.val = val
	s := t.slab.take()
	e := t.slab.at(s)
	*e = tableEntry[K, V]{key: k}
	if ok {
		if err := t.decode(val, e); err != nil {
			t.slab.give(s)
			return nil, 0, fmt.Errorf("state: store %d, key %v: %w", t.id, k, err)
		}
		e.flags = entryPresent | entryStored
	}
	t.index[k] = s
	t.live++
	return e, s, nil
}

func (t *Table[K, V]) decode(stored []byte, e *tableEntry[K, V]) error {
	if len(stored) < 8 {
		return errShort
	}
	e.time = int64(binary.BigEndian.Uint64(stored))
	return t.vals.Decode(stored[8:], &e.value)
}

func (t *Table[K, V]) encode(dst []byte, e *tableEntry[K, V]) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.time))
	return t.vals.Append(dst, &e.value)
}

// touch marks an entry as written in this step and keeps its value before it.
func (t *Table[K, V]) touch(e *tableEntry[K, V], s uint32) {
	if e.step != t.step {
		e.step, e.touch = t.step, uint32(len(t.touched))
		t.touched = append(t.touched, touchedRow[V]{s, e.flags&entryPresent != 0, e.time, e.value})
	}
	if e.flags&entryDirty == 0 {
		e.flags |= entryDirty
		t.dirty = append(t.dirty, s)
	}
}

// Get returns the current value of a key, nil if there is none. The pointer is valid
// until the next call on the table; what it points to must not be modified.
func (t *Table[K, V]) Get(k K) (*V, error) {
	e, _, err := t.entry(k)
	if err != nil || e.flags&entryPresent == 0 {
		return nil, err
	}
	return &e.value, nil
}

// At returns the value of a key before the step and now. Time is that of the newer
// one, or of the deletion.
func (t *Table[K, V]) At(k K) (v record.Versions[V], err error) {
	e, _, err := t.entry(k)
	if err != nil {
		return v, err
	}
	v.Time = e.time
	if e.flags&entryPresent != 0 {
		v.New, v.Sides = e.value, record.HasNew
	}
	if e.step == t.step {
		if old := &t.touched[e.touch]; old.present {
			v.Old, v.Sides = old.old, v.Sides|record.HasOld
		}
	} else if e.flags&entryPresent != 0 {
		v.Old, v.Sides = e.value, v.Sides|record.HasOld
	}
	return v, nil
}

// Put sets the value of a key and the event time of its row in Unix microseconds.
func (t *Table[K, V]) Put(k K, v V, time int64) error {
	e, s, err := t.entry(k)
	if err != nil {
		return err
	}
	t.touch(e, s)
	e.value, e.time = v, time
	e.flags |= entryPresent
	return nil
}

// Delete removes a key; removing one that is absent is no change.
func (t *Table[K, V]) Delete(k K, time int64) error {
	e, s, err := t.entry(k)
	if err != nil || e.flags&entryPresent == 0 {
		return err
	}
	t.touch(e, s)
	t.erase(e)
	e.time = time
	return nil
}

func (t *Table[K, V]) erase(e *tableEntry[K, V]) {
	var zero V
	e.value = zero
	e.flags &^= entryPresent
}

// Edit returns the value of a key for changing it in place until the next call on
// the table; an absent key gets a zero value, and existed is false. The value
// before the step is kept as a shallow copy, so what the value points to (slices,
// maps, pointers) must be replaced, not changed.
func (t *Table[K, V]) Edit(k K, time int64) (v *V, existed bool, err error) {
	e, s, err := t.entry(k)
	if err != nil {
		return nil, false, err
	}
	t.touch(e, s)
	existed = e.flags&entryPresent != 0
	e.flags |= entryPresent
	e.time = time
	return &e.value, existed, nil
}

// EditTouched calls fn for every key written in this step, once, in the order in
// which they were first written (any fixed order once the step has outgrown
// memory). fn may change *v in place as with Edit; if it returns false the key is
// deleted. fn must not call the table.
func (t *Table[K, V]) EditTouched(fn func(k K, v *V, existed bool) (keep bool, err error)) error {
	for i := range t.touched {
		e := t.slab.at(t.touched[i].slot)
		keep, err := fn(e.key, &e.value, e.flags&entryPresent != 0)
		if err != nil {
			return err
		}
		if keep {
			e.flags |= entryPresent
		} else {
			t.erase(e)
		}
	}
	return nil
}

// changesChunk is the largest number of changes handed over at once.
const changesChunk = 1024

// Changes yields the net changes of the step: the keys whose value now differs from
// the one before the step. A chunk is valid until the next one; the walk may be
// repeated.
func (t *Table[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	out := t.changes[:0]
	for i := range t.touched {
		old := &t.touched[i]
		e := t.slab.at(old.slot)
		present := e.flags&entryPresent != 0
		if !present && !old.present {
			continue
		}
		if present && old.present && t.vals.Equal(&old.old, &e.value) {
			continue
		}
		out = append(out, record.Change[K, V]{Key: e.key, Old: old.old, New: e.value, Time: e.time})
		c := &out[len(out)-1]
		if present {
			c.Sides |= record.HasNew
		}
		if old.present {
			c.Sides |= record.HasOld
		}
		if len(out) == changesChunk {
			if !yield(out) {
				t.changes = out[:0]
				return nil
			}
			out = out[:0]
		}
	}
	if len(out) > 0 {
		yield(out)
	}
	t.changes = out[:0]
	return nil
}

// EndStep forgets the values before the step.
func (t *Table[K, V]) EndStep() {
	clear(t.touched)
	t.touched = t.touched[:0]
	clear(t.changes[:cap(t.changes)])
	t.step++
}

type flushKey struct {
	head     uint64 // the first eight bytes, so that most comparisons end there
	from, to uint32
	slot     uint32
}

// sortDirty encodes the keys of all dirty rows and sorts them.
func (t *Table[K, V]) sortDirty() []flushKey {
	arena, order := t.flushArena[:0], t.flushOrder[:0]
	for _, s := range t.dirty {
		from := len(arena)
		arena = t.keys.Append(arena, t.slab.at(s).key)
		order = append(order, flushKey{keyHead(arena[from:]), uint32(from), uint32(len(arena)), s})
	}
	slices.SortFunc(order, func(a, b flushKey) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		return bytes.Compare(arena[a.from:a.to], arena[b.from:b.to])
	})
	t.flushArena, t.flushOrder = arena, order
	return order
}

func keyHead(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var head [8]byte
	copy(head[:], key)
	return binary.BigEndian.Uint64(head[:])
}

// Flush writes all changes since the last commit in ascending key order.
func (t *Table[K, V]) Flush(b Batch) error {
	for _, o := range t.sortDirty() {
		e := t.slab.at(o.slot)
		t.key = append(appendID(t.key[:0], t.id), t.flushArena[o.from:o.to]...)
		switch {
		case e.flags&entryPresent != 0:
			t.val = t.encode(t.val[:0], e)
			if err := b.Set(t.key, t.val); err != nil {
				return err
			}
		case e.flags&entryStored != 0:
			if err := b.Delete(t.key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Committed says that the flushed batch is durable.
func (t *Table[K, V]) Committed() {
	t.EndStep()
	for _, s := range t.dirty {
		e := t.slab.at(s)
		e.flags &^= entryDirty | entryStored
		if e.flags&entryPresent != 0 {
			e.flags |= entryStored
		}
	}
	t.dirty = t.dirty[:0]
}

// Rollback drops everything written since the last commit.
func (t *Table[K, V]) Rollback() {
	t.EndStep()
	for _, s := range t.dirty {
		t.drop(s)
	}
	t.dirty = t.dirty[:0]
}

// drop takes an entry out of the cache.
func (t *Table[K, V]) drop(s uint32) {
	e := t.slab.at(s)
	delete(t.index, e.key)
	*e = tableEntry[K, V]{}
	t.slab.give(s)
	t.live--
}

// Scan calls fn for all current rows in key order until it returns false. The value
// is valid during the call and must not be modified; fn must not call the table.
func (t *Table[K, V]) Scan(fn func(k K, v *V) bool) error {
	it, err := t.env.DB.NewIter(idBounds(t.id))
	if err != nil {
		return err
	}
	defer it.Close()
	order := t.sortDirty()
	var e tableEntry[K, V]
	for ok := it.First(); ; {
		var c int
		switch {
		case len(order) == 0 && !ok:
			return it.Error()
		case len(order) == 0:
			c = 1
		case !ok:
			c = -1
		default:
			c = bytes.Compare(t.flushArena[order[0].from:order[0].to], it.Key()[4:])
		}
		if c <= 0 {
			d := t.slab.at(order[0].slot)
			order = order[1:]
			if d.flags&entryPresent != 0 && !fn(d.key, &d.value) {
				return nil
			}
			if c == 0 {
				ok = it.Next()
			}
			continue
		}
		k, _, err := t.keys.Decode(it.Key()[4:])
		if err == nil {
			err = t.decode(it.Value(), &e)
		}
		if err != nil {
			return fmt.Errorf("state: store %d, key %x: %w", t.id, it.Key(), err)
		}
		if !fn(k, &e.value) {
			return nil
		}
		ok = it.Next()
	}
}
