package state

// cost is what an entry takes of the budget, beside its old value.
func (t *Table[K, V]) cost(e *tableEntry[K, V]) int64 {
	t.key = t.keys.Append(appendID(t.key[:0], t.id), e.key)
	return t.rowBytes + int64(len(t.key)) + int64(e.heap)
}

// relieve gives memory back: first rows that the DB has, then, where there is
// scratch space, the dirty ones.
func (t *Table[K, V]) relieve() error {
	if t.walking == walkSlots {
		return nil
	}
	clean := len(t.index) - len(t.dirty)
	if clean >= len(t.dirty) {
		t.evict(t.mem.bytes / 2)
		if t.env.Memory.Used() <= t.env.Memory.limit*3/4 {
			return nil
		}
	}
	s, err := t.env.openScratch()
	switch {
	case err != nil:
		return err
	case s != nil && t.walking == walkNone:
		return t.spillAll(s)
	}
	if clean > len(t.index)/8 { // evicting copies what stays
		t.evict(0)
	}
	return nil
}

// evict lets go of rows that the DB has: those that were not read since the last
// time, and of the others those that go beyond room. Dirty rows stay.
func (t *Table[K, V]) evict(room int64) {
	t.rebuild(func(_ uint32, e *tableEntry[K, V]) bool {
		if e.flags&entryDirty != 0 {
			return true
		}
		if e.flags&entryUsed == 0 || room <= 0 {
			return false
		}
		room -= t.rowBytes + int64(e.heap)
		return true
	})
	t.mem.settle()
}

// rebuild moves the entries that keep chooses, all touched ones among them, to a new
// cache in which there are no holes. It never changes a value in the old one, so
// pointers into it stay readable; where one was given out for editing, moved
// remembers it.
func (t *Table[K, V]) rebuild(keep func(s uint32, e *tableEntry[K, V]) bool) {
	old, index, edited := t.slab, t.index, t.edited
	t.slab = slab[tableEntry[K, V]]{}
	t.index = make(map[K]uint32, len(index)/4)
	t.dirty = t.dirty[:0]
	t.mem.bytes = int64(t.touched.n) * t.oldBytes
	for i := range old.next {
		from := old.at(i)
		if s, ok := index[from.key]; !ok || s != i || !keep(i, from) {
			continue
		}
		s := t.slab.take()
		e := t.slab.at(s)
		*e = *from
		e.flags &^= entryUsed
		t.index[e.key] = s
		t.mem.bytes += t.cost(e)
		if e.step == uint32(t.step) {
			t.touched.at(int(e.touch)).slot = s
		}
		if e.flags&entryDirty != 0 {
			t.dirty = append(t.dirty, s)
			t.mem.bytes += t.dirtyBytes
		}
		if edited == i+1 {
			t.edited = s + 1
			if t.moved == nil {
				t.moved = from
			}
		}
	}
}

// release gives the memory back when the table is no longer used.
func (t *Table[K, V]) release() error {
	t.mem.add(-t.mem.bytes)
	t.mem.settle()
	t.index, t.slab, t.dirty = nil, slab[tableEntry[K, V]]{}, nil
	t.touched = chunks[touchedRow[V]]{}
	return nil
}
