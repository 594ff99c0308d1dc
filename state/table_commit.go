package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// flushKey is an encoded key in the arena, with its first eight bytes, at which most
// comparisons end.
type flushKey struct {
	head uint64
	from int
	len  uint32
	slot uint32
}

func (k flushKey) key(arena []byte) []byte { return arena[k.from : k.from+int(k.len)] }

// sortDirty encodes the keys of all dirty rows and sorts them.
func (t *Table[K, V]) sortDirty() []flushKey {
	arena, order := t.arena[:0], t.order[:0]
	for _, s := range t.dirty {
		from := len(arena)
		arena = t.keys.Append(arena, t.slab.at(s).key)
		order = append(order, flushKey{keyHead(arena[from:]), from, uint32(len(arena) - from), s})
	}
	slices.SortFunc(order, func(a, b flushKey) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		return bytes.Compare(a.key(arena), b.key(arena))
	})
	t.arena, t.order = arena, order
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
	if err := t.attend(); err != nil {
		return err
	}
	if t.spill.active {
		return t.flushSpilled(b)
	}
	for _, o := range t.sortDirty() {
		e := t.slab.at(o.slot)
		t.key = append(appendID(t.key[:0], t.id), o.key(t.arena)...)
		switch {
		case e.flags&entryPresent != 0:
			t.val = t.encode(t.val[:0], e.time, &e.value)
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

// Committed says that the flushed batch is on its way to the disk and can be read; see Store.
func (t *Table[K, V]) Committed() {
	t.EndStep()
	for _, s := range t.dirty {
		e := t.slab.at(s)
		e.flags &^= entryDirty | entryStored
		if e.flags&entryPresent != 0 {
			e.flags |= entryStored
		}
	}
	t.endEpoch()
}

// Rollback drops everything written since the last commit.
func (t *Table[K, V]) Rollback() {
	t.EndStep()
	for _, s := range t.dirty {
		e := t.slab.at(s)
		delete(t.index, e.key)
		t.charge(-t.cost(e))
		*e = tableEntry[K, V]{}
		t.slab.give(s)
	}
	t.endEpoch()
}

// endEpoch empties what belongs to one epoch.
func (t *Table[K, V]) endEpoch() {
	t.charge(-int64(len(t.dirty)) * t.dirtyBytes)
	if len(t.dirty) > 4*slabChunk {
		t.dirty, t.arena, t.order = nil, nil, nil
	}
	t.dirty = t.dirty[:0]
	if t.spill.active {
		if err := t.clearSpill(); err != nil && t.err == nil {
			t.err = err
			t.attention = true
		}
	}
	if t.slab.sparse(len(t.index)) {
		t.rebuild(func(uint32, *tableEntry[K, V]) bool { return true })
	}
	// Now that its rows are clean the budget may have them.
	t.attention, t.recheck, t.env.all().patience = true, true, 0
}

// Scan calls fn for all current rows in key order until it returns false. The value
// is valid during the call and must not be modified; fn must not call the table.
func (t *Table[K, V]) Scan(fn func(k K, v *V) bool) error {
	if err := t.attend(); err != nil {
		return err
	}
	if t.spill.active {
		return t.scanSpilled(fn)
	}
	defer t.walk(walkSlots)()
	it, err := t.env.DB.NewIter(idBounds(t.id))
	if err != nil {
		return err
	}
	defer it.Close()
	order := t.sortDirty()
	for ok := it.First(); ok || len(order) > 0; {
		c := mergeOrder(ok, len(order) > 0, func() int {
			return bytes.Compare(order[0].key(t.arena), it.Key()[4:])
		})
		if c > 0 {
			if more, err := t.scanStored(it.Key(), it.Value(), fn); err != nil || !more {
				return err
			}
			ok = it.Next()
			continue
		}
		e := t.slab.at(order[0].slot)
		order = order[1:]
		if e.flags&entryPresent != 0 && !fn(e.key, &e.value) {
			return nil
		}
		if c == 0 {
			ok = it.Next()
		}
	}
	return it.Error()
}

// scanStored hands a row as it is in the DB to fn.
func (t *Table[K, V]) scanStored(key, value []byte, fn func(k K, v *V) bool) (more bool, err error) {
	var time int64
	k, err := t.decodeKey(key)
	if err != nil {
		return false, err
	}
	if err := t.decode(value, &time, &t.row); err != nil {
		return false, fmt.Errorf("state: store %d, key %x: %w", t.id, key, err)
	}
	return fn(k, &t.row), nil
}

// mergeOrder says whose turn it is in a merge: below 0 the overlay's, above 0 the
// DB's, 0 that both stand on one key.
func mergeOrder(db, overlay bool, compare func() int) int {
	switch {
	case !db:
		return -1
	case !overlay:
		return 1
	}
	return compare()
}
