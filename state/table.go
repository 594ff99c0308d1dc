package state

import (
	"bytes"
	"encoding/binary"
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
type Table[K comparable, V any] struct {
	env  *Env
	id   uint32
	keys KeyCodec[K]
	vals Codec[V]
	owns func(encoded []byte) bool // nil: all; see Own

	index map[K]uint32 // slot by key
	slab  slab[tableEntry[K, V]]
	// touched are the slots written in this step, in order of first touch, with
	// what they held before. dirty are the slots that differ from the DB.
	touched chunks[touchedRow[V]]
	dirty   []uint32
	step    uint64 // entries have its low half

	mem        account
	rowBytes   int64
	oldBytes   int64 // in mem for one of touched
	dirtyBytes int64 // in mem for one of dirty, and what sorting it takes

	// attention is set when the next call has to do more than its own work: see
	// attend.
	attention bool
	recheck   bool              // ask the budget whether it is exceeded
	edited    uint32            // slot+1 of the value that Edit returned last
	moved     *tableEntry[K, V] // where that value was when the cache was rebuilt
	err       error             // of a call that could not return it
	walking   walkState         // a walk over memory is under way
	spill     spillState        // what is in scratch space
	high      highKey           // the end of what is stored
	ahead     Iter              // stands on a row of the DB that is about to be read
	changes   []record.Change[K, V]
	row       V      // the row that Scan has read
	key, val  []byte // buffers for encoding
	arena     []byte
	order     []flushKey
}

type tableEntry[K comparable, V any] struct {
	key   K
	value V
	time  int64
	step  uint32 // the step that touched it last
	touch uint32 // where in touched, if step is the current one
	heap  uint32 // bytes that key and value hold beside the entry
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
	old     V
}

// NewTable makes the table with the given key prefix over env.DB.
func NewTable[K comparable, V any](env *Env, id uint32, kc KeyCodec[K], vc Codec[V]) *Table[K, V] {
	t := &Table[K, V]{env: env, id: id, keys: kc, vals: vc, index: map[K]uint32{}, step: 1}
	t.mem = newAccount(env.Memory)
	var k K
	t.rowBytes = int64(unsafe.Sizeof(tableEntry[K, V]{})) + 2*int64(unsafe.Sizeof(k)+4)
	t.oldBytes = int64(unsafe.Sizeof(touchedRow[V]{}))
	t.dirtyBytes = int64(unsafe.Sizeof(uint32(0)) + unsafe.Sizeof(flushKey{}) + unsafe.Sizeof(k))
	env.all().stores = append(env.all().stores, t)
	return t
}

// ID is the table's key prefix.
func (t *Table[K, V]) ID() uint32 { return t.id }

// Entries is the number of rows in memory.
func (t *Table[K, V]) Entries() int { return len(t.index) }

// Bytes is the memory that the table takes, roughly.
func (t *Table[K, V]) Bytes() int64 { return t.mem.bytes }

// attend does what the last call left to be done: it takes over an edited value,
// settles the memory account, and relieves it. Every call begins with it, when no
// pointer into the cache is in use.
func (t *Table[K, V]) attend() error {
	t.attention = false
	if t.err != nil {
		t.attention = true
		return t.err
	}
	if t.edited != 0 {
		t.takeEdited()
		t.attention = false
	}
	if (t.mem.due() || t.recheck) && t.mem.settle() {
		t.recheck = false
		return t.env.relieve()
	}
	t.recheck = false
	return nil
}

// takeEdited looks at a value that was given out for editing.
func (t *Table[K, V]) takeEdited() {
	e := t.slab.at(t.edited - 1)
	if t.moved != nil {
		e.value = t.moved.value
		t.moved = nil
	}
	t.edited = 0
	t.resize(e)
}

// resize accounts for a value that has changed.
func (t *Table[K, V]) resize(e *tableEntry[K, V]) {
	if t.vals.Size == nil {
		return
	}
	n := uint32(min(t.vals.Size(&e.value), 1<<31))
	if n != e.heap {
		t.charge(int64(n) - int64(e.heap))
		e.heap = n
	}
}

func (t *Table[K, V]) charge(n int64) {
	if t.mem.add(n) {
		t.attention = true
	}
}

// entry returns the cache entry of a key, reading the row if it is not there.
func (t *Table[K, V]) entry(k K) (*tableEntry[K, V], uint32, error) {
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
	*e = tableEntry[K, V]{key: k, flags: entryUsed}
	fresh, err := t.beyond()
	if err == nil && !fresh {
		err = t.read(e, s)
	}
	if err != nil {
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

// read fills an entry whose encoded key is in t.key.
func (t *Table[K, V]) read(e *tableEntry[K, V], s uint32) error {
	if t.spill.active {
		found, err := t.readSpilled(e, s)
		if found || err != nil {
			return err
		}
	}
	if t.ahead != nil && t.ahead.Valid() && bytes.Equal(t.ahead.Key(), t.key) {
		e.flags |= entryPresent | entryStored
		return t.decode(t.ahead.Value(), &e.time, &e.value)
	}
	val, ok, err := t.env.DB.Get(t.val[:0], t.key)
	t.val = val
	if err != nil || !ok {
		return err
	}
	e.flags |= entryPresent | entryStored
	return t.decode(val, &e.time, &e.value)
}

func (t *Table[K, V]) decode(stored []byte, time *int64, v *V) error {
	if len(stored) < 8 {
		return errShort
	}
	*time = int64(binary.BigEndian.Uint64(stored))
	return t.vals.Decode(stored[8:], v)
}

func (t *Table[K, V]) encode(dst []byte, time int64, v *V) []byte {
	return t.vals.Append(binary.BigEndian.AppendUint64(dst, uint64(time)), v)
}

// touch marks an entry as written in this step and keeps its value before it.
func (t *Table[K, V]) touch(e *tableEntry[K, V], s uint32) {
	if e.step != uint32(t.step) {
		e.step, e.touch = uint32(t.step), uint32(t.touched.n)
		old := t.touched.at(t.touched.take())
		old.slot, old.present, old.old = s, e.flags&entryPresent != 0, e.value
		t.charge(t.oldBytes)
	}
	if e.flags&entryDirty == 0 {
		e.flags |= entryDirty
		t.dirty = append(t.dirty, s)
		t.charge(t.dirtyBytes)
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
		if old := t.touched.at(int(e.touch)); old.present {
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
	t.edited, t.attention = s+1, true
	return &e.value, existed, nil
}
