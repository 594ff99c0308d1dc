package state

import (
	"bytes"
	"encoding/binary"
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
func (c *tableCore) sortDirty() []flushKey {
	arena, order := c.arena[:0], c.order[:0]
	for _, s := range c.dirty {
		from := len(arena)
		arena = c.rows.appendKey(arena, s)
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
	c.arena, c.order = arena, order
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
func (c *tableCore) Flush(b Batch) error {
	if err := c.attend(); err != nil {
		return err
	}
	if c.spill.active {
		return c.flushSpilled(b)
	}
	for _, o := range c.sortDirty() {
		e := c.rows.at(o.slot)
		c.key = append(appendID(c.key[:0], c.id), o.key(c.arena)...)
		switch {
		case e.flags&entryPresent != 0:
			c.val = c.appendRow(c.val[:0], o.slot)
			if err := b.Set(c.key, c.val); err != nil {
				return err
			}
		case e.flags&entryStored != 0:
			if err := b.Delete(c.key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Committed says that the flushed batch is on its way to the disk and can be read; see Store.
func (c *tableCore) Committed() {
	c.EndStep()
	for _, s := range c.dirty {
		e := c.rows.at(s)
		e.flags &^= entryDirty | entryStored
		if e.flags&entryPresent != 0 {
			e.flags |= entryStored
		}
	}
	c.endEpoch()
}

// Rollback drops everything written since the last commit.
func (c *tableCore) Rollback() {
	c.EndStep()
	for _, s := range c.dirty {
		c.charge(-c.cost(c.rows.at(s), s))
		c.rows.drop(s)
	}
	c.endEpoch()
}

// endEpoch empties what belongs to one epoch.
func (c *tableCore) endEpoch() {
	c.charge(-int64(len(c.dirty)) * c.dirtyBytes)
	if len(c.dirty) > 4*slabChunk {
		c.dirty, c.arena, c.order = nil, nil, nil
	}
	c.dirty = c.dirty[:0]
	if c.spill.active {
		if err := c.clearSpill(); err != nil && c.err == nil {
			c.err = err
			c.attention = true
		}
	}
	if sparse(c.rows.slots(), c.rows.count()) {
		c.rows.rebuild(func(uint32, *entryState) bool { return true })
	}
	// Now that its rows are clean the budget may have them.
	c.attention, c.recheck, c.env.all().patience = true, true, 0
}

// Scan calls fn for all current rows in key order until it returns false. The value
// is valid during the call and must not be modified; fn must not call the table.
func (t *Table[K, V]) Scan(fn func(k K, v *V) bool) error {
	cached := func(slot uint32) (more bool) {
		e := t.slab.at(slot)
		return fn(e.key, &e.value)
	}
	stored := func(key, value []byte) (more bool, err error) {
		k, err := t.decodeKey(key)
		if err != nil {
			return false, err
		}
		if err := t.vals.Decode(value, &t.spare.value); err != nil {
			return false, t.corrupt(key, err)
		}
		return fn(k, &t.spare.value), nil
	}
	return t.scan(cached, stored)
}

// scan walks the current rows in key order: cached is given those that are in memory,
// stored the keys, as the DB holds them, and values of the others.
func (c *tableCore) scan(cached func(slot uint32) bool, stored func(key, value []byte) (bool, error)) error {
	if err := c.attend(); err != nil {
		return err
	}
	row := func(key, value []byte) (more bool, err error) {
		if len(value) < 8 {
			return false, c.corrupt(key, errShort)
		}
		return stored(key, value[8:])
	}
	if c.spill.active {
		return c.scanSpilled(row)
	}
	defer c.endWalk(c.walk(walkSlots))
	it, err := c.env.DB.NewIter(idBounds(c.id))
	if err != nil {
		return err
	}
	defer it.Close()
	order := c.sortDirty()
	for ok := it.First(); ok || len(order) > 0; {
		cmp := mergeOrder(ok, len(order) > 0, func() int {
			return bytes.Compare(order[0].key(c.arena), it.Key()[4:])
		})
		if cmp > 0 {
			if more, err := row(it.Key(), it.Value()); err != nil || !more {
				return err
			}
			ok = it.Next()
			continue
		}
		s := order[0].slot
		order = order[1:]
		if c.rows.at(s).flags&entryPresent != 0 && !cached(s) {
			return nil
		}
		if cmp == 0 {
			ok = it.Next()
		}
	}
	return it.Error()
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
