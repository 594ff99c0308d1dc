package state

import (
	"fmt"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// Table is a typed key-value store with a write-back cache: decoded values stay
// decoded, a key is read from the DB once and encoded once an epoch, and the value
// that a key had before the step is at hand. A row also keeps the event time of its
// last writer.
//
// It is used by one goroutine at a time. When the budget of its Env is exceeded it
// forgets rows that it can read again, and writes to scratch space what it cannot;
// the methods work the same then.
//
// What has to know K and V is compiled anew for each pair of types, so that is no more
// than the calls for each record need; the rest is the tableCore's.
type Table[K comparable, V any] struct {
	tableCore
	keys KeyCodec[K]
	vals Codec[V]

	index map[K]uint32 // slot by key
	slab  slab[tableEntry[K, V]]
	olds  chunks[V] // what the core's touched slots held before the step

	moved   *tableEntry[K, V] // where the edited value was when the cache was rebuilt
	spare   tableEntry[K, V]  // a row that is read outside of the cache
	changes []record.Change[K, V]
}

type tableEntry[K comparable, V any] struct {
	entryState
	key   K
	value V
}

// NewTable makes the table with the given key prefix over env.DB.
func NewTable[K comparable, V any](env *Env, id uint32, kc KeyCodec[K], vc Codec[V]) *Table[K, V] {
	t := &Table[K, V]{keys: kc, vals: vc, index: map[K]uint32{}}
	var k K
	var v V
	t.init(env, id, t, unsafe.Sizeof(k), unsafe.Sizeof(v), unsafe.Sizeof(tableEntry[K, V]{}))
	return t
}

// Entries is the number of rows in memory.
func (t *Table[K, V]) Entries() int { return len(t.index) }

// resize accounts for a value that has changed.
func (t *Table[K, V]) resize(e *tableEntry[K, V]) {
	if t.vals.Size != nil {
		t.resized(&e.entryState, t.vals.Size(&e.value))
	}
}

// entry returns the cache entry of a key, reading the row if it is not there.
func (t *Table[K, V]) entry(k K) (*tableEntry[K, V], uint32, error) {
	if t.edited != 0 {
		t.takeEdited()
	}
	if t.attention {
		if err := t.attend(); err != nil {
			return nil, 0, err
		}
	}
	if t.keys.Normalize != nil {
		k = t.keys.Normalize(k)
	}
	if s, ok := t.index[k]; ok {
		e := t.slab.at(s)
		e.flags |= entryUsed
		return e, s, nil
	}
	return t.load(k)
}

func (t *Table[K, V]) load(k K) (*tableEntry[K, V], uint32, error) {
	t.key = t.keys.Append(appendID(t.key[:0], t.id), k)
	s := t.slab.take()
	e := t.slab.at(s)
	*e = tableEntry[K, V]{key: k, entryState: entryState{flags: entryUsed}}
	if err := t.find(s); err != nil {
		*e = tableEntry[K, V]{}
		t.slab.give(s)
		return nil, 0, fmt.Errorf("state: store %d, key %v: %w", t.id, k, err)
	}
	t.index[k] = s
	// The encoded key stands for what the key holds beside itself.
	t.charge(t.rowBytes + int64(len(t.key)))
	t.resize(e)
	return e, s, nil
}

// touch marks an entry as written in this step and keeps its value before it.
func (t *Table[K, V]) touch(e *tableEntry[K, V], s uint32) {
	if e.step != uint32(t.step) {
		*t.olds.at(t.olds.take()) = e.value
		t.markTouched(&e.entryState, s)
	}
	if e.flags&entryDirty == 0 {
		t.markDirty(&e.entryState, s)
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
	if e.step == uint32(t.step) {
		if t.touched.at(int(e.touch)).present {
			v.Old, v.Sides = *t.olds.at(int(e.touch)), v.Sides|record.HasOld
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
	t.resize(e)
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
	t.resize(e)
}

// Edit returns the value of a key for changing it in place until the next call on
// the table; an absent key gets a zero value, and existed is false. The value
// before the step is kept as a shallow copy, so what the value points to (slices,
// maps, pointers) must be replaced, not changed. The event time of a row that existed
// never goes back: it is the largest of what its value was made of.
func (t *Table[K, V]) Edit(k K, time int64) (v *V, existed bool, err error) {
	e, s, err := t.entry(k)
	if err != nil {
		return nil, false, err
	}
	t.touch(e, s)
	existed = e.flags&entryPresent != 0
	e.flags |= entryPresent
	if !existed || time > e.time {
		e.time = time
	}
	t.edited = s + 1
	return &e.value, existed, nil
}
