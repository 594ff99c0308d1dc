package state

// cost is what an entry takes of the budget, beside its old value.
func (c *tableCore) cost(e *entryState, slot uint32) int64 {
	c.key = c.rows.appendKey(appendID(c.key[:0], c.id), slot)
	return c.rowBytes + int64(len(c.key)) + int64(e.heap)
}

// relieve gives memory back: first rows that the DB has, then, where there is
// scratch space, the dirty ones.
func (c *tableCore) relieve() error {
	if c.walking == walkSlots {
		return nil
	}
	all := c.rows.count()
	clean := all - len(c.dirty)
	if clean >= len(c.dirty) {
		c.evict(c.mem.bytes / 2)
		if c.env.Memory.Used() <= c.env.Memory.limit*3/4 {
			return nil
		}
		all = c.rows.count()
	}
	s, err := c.env.openScratch()
	switch {
	case err != nil:
		return err
	case s != nil && c.walking == walkNone:
		return c.spillAll(s)
	}
	if clean > all/8 { // evicting copies what stays
		c.evict(0)
	}
	return nil
}

// evict lets go of rows that the DB has: those that were not read since the last
// time, and of the others those that go beyond room. Dirty rows stay.
func (c *tableCore) evict(room int64) {
	c.rows.rebuild(func(_ uint32, e *entryState) bool {
		if e.flags&entryDirty != 0 {
			return true
		}
		if e.flags&entryUsed == 0 || room <= 0 {
			return false
		}
		room -= c.rowBytes + int64(e.heap)
		return true
	})
	c.mem.settle()
}

// emptied says that the cache begins anew; what is touched stays.
func (c *tableCore) emptied() {
	c.dirty = c.dirty[:0]
	c.mem.bytes = int64(c.touched.n) * c.oldBytes
}

// entered says that an entry has come into the new cache.
func (c *tableCore) entered(e *entryState, slot uint32) {
	e.flags &^= entryUsed
	c.mem.bytes += c.cost(e, slot)
	if e.step == uint32(c.step) {
		c.touched.at(int(e.touch)).slot = slot
	}
	if e.flags&entryDirty != 0 {
		c.dirty = append(c.dirty, slot)
		c.mem.bytes += c.dirtyBytes
	}
}

// release gives the memory back when the table is no longer used.
func (c *tableCore) release() error {
	c.mem.add(-c.mem.bytes)
	c.mem.settle()
	c.dirty, c.touched = nil, chunks[touchedSlot]{}
	c.rows.releaseRows()
	return nil
}
