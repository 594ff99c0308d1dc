package state

import (
	"bytes"
	"encoding/binary"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// spillState says what a table has in scratch space: dirty rows of this epoch, under
// the keys that they have in the DB. What is in memory overrides it.
type spillState struct {
	active bool
	step   bool // rows that were touched in this step are among them
}

// A spilled row is its flags, the number of the step that touched it last, the
// length of what the DB would hold, that, and the value before the step.
type spilledRow struct {
	flags   entryFlags
	step    uint64
	current []byte // time and, if the row is present, value
	old     []byte
}

// spilledHadOld says that the row was there before the step.
const spilledHadOld entryFlags = 1 << 4

func parseSpilled(b []byte) (r spilledRow, err error) {
	if len(b) < 9 {
		return r, errShort
	}
	r.flags, r.step = entryFlags(b[0]), binary.BigEndian.Uint64(b[1:])
	r.current, r.old, err = cutBytes(b[9:])
	if err == nil && len(r.current) < 8 {
		err = errShort
	}
	return r, err
}

// state is what the row's entry would be; its value follows where it is present.
func (r *spilledRow) state() entryState {
	return entryState{
		flags: r.flags & (entryPresent | entryStored),
		time:  int64(binary.BigEndian.Uint64(r.current)),
	}
}

func (r *spilledRow) value() []byte { return r.current[8:] }

// spillAll writes all dirty rows to scratch space and empties the cache. The row
// that was given out for editing stays.
func (c *tableCore) spillAll(s Scratch) error {
	c.env.all().spilled += c.mem.bytes
	order := c.sortDirty()
	for _, o := range order {
		if o.slot+1 == c.edited {
			continue
		}
		c.key = append(appendID(c.key[:0], c.id), o.key(c.arena)...)
		c.val = c.appendSpilled(c.val[:0], o.slot)
		if err := s.Set(c.key, c.val); err != nil {
			return err
		}
		c.spill.active = true
		c.spill.step = c.spill.step || c.rows.at(o.slot).step == uint32(c.step)
	}
	if len(order) == 0 {
		return nil
	}
	touched := c.touched
	c.touched = chunks[touchedSlot]{}
	if c.edited == 0 {
		c.rows.releaseOlds(nil)
	} else {
		e := c.rows.at(c.edited - 1)
		c.touched.add(*touched.at(int(e.touch)))
		c.rows.releaseOlds(&e.touch)
		e.touch = 0
	}
	edited := c.edited
	c.rows.rebuild(func(slot uint32, _ *entryState) bool { return slot+1 == edited })
	c.arena, c.order = nil, nil
	c.mem.settle()
	return failpoint.Hit(failpoint.StateSpill)
}

func (c *tableCore) appendSpilled(dst []byte, slot uint32) []byte {
	e := c.rows.at(slot)
	flags, step := e.flags&(entryPresent|entryStored), uint64(0)
	if e.step == uint32(c.step) {
		step = c.step
		if c.touched.at(int(e.touch)).present {
			flags |= spilledHadOld
		}
	}
	dst = binary.BigEndian.AppendUint64(append(dst, byte(flags)), step)
	start := len(dst)
	dst = appendLengthOf(c.appendRow(dst, slot), start)
	if flags&spilledHadOld != 0 {
		dst = c.rows.appendOld(dst, e.touch)
	}
	return dst
}

// readSpilled fills the entry of a slot from scratch space, where its row may be.
func (c *tableCore) readSpilled(slot uint32) (found bool, err error) {
	val, ok, err := c.env.scratch.Get(c.val[:0], c.key)
	c.val = val
	if err != nil || !ok {
		return false, err
	}
	r, err := parseSpilled(val)
	if err != nil {
		return true, err
	}
	e := c.rows.at(slot)
	used := e.flags
	*e = r.state()
	e.flags |= used
	if e.flags&entryPresent != 0 {
		if err := c.rows.decodeValue(slot, r.value()); err != nil {
			return true, err
		}
	}
	if r.step == c.step {
		had := r.flags&spilledHadOld != 0
		if err := c.rows.addOld(had, r.old); err != nil {
			return true, err
		}
		e.step, e.touch = uint32(c.step), uint32(c.touched.n)
		c.touched.add(touchedSlot{slot, had})
		c.charge(c.oldBytes)
	}
	c.markDirty(e, slot)
	return true, nil
}

// eachSpilled visits all dirty rows in key order, after moving those in memory to
// scratch space too. It sees what was there when it began.
func (c *tableCore) eachSpilled(fn func(key []byte, r *spilledRow) (more bool, err error)) error {
	if err := c.spillAll(c.env.scratch); err != nil {
		return err
	}
	it, err := c.env.scratch.NewIter(idBounds(c.id))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		r, err := parseSpilled(it.Value())
		if err != nil {
			return err
		}
		if more, err := fn(it.Key(), &r); err != nil || !more {
			return err
		}
	}
	return it.Error()
}

// eachSpilledOfStep is eachSpilled for the rows that were touched in this step.
func (c *tableCore) eachSpilledOfStep(fn func(key []byte, r *spilledRow) (more bool, err error)) error {
	return c.eachSpilled(func(key []byte, r *spilledRow) (more bool, err error) {
		if r.step != c.step {
			return true, nil
		}
		return fn(key, r)
	})
}

// editSpilled calls edit with each row of the step in the spare one.
func (c *tableCore) editSpilled(edit func(e *entryState) (keep bool, err error)) error {
	var buf []byte
	return c.eachSpilledOfStep(func(key []byte, r *spilledRow) (bool, error) {
		e, err := c.rows.decodeSpare(key, r)
		if err != nil {
			return false, err
		}
		keep, err := edit(e)
		if err != nil {
			return false, err
		}
		flags := r.flags &^ entryPresent
		if keep {
			flags |= entryPresent
		}
		buf = binary.BigEndian.AppendUint64(append(buf[:0], byte(flags)), r.step)
		start := len(buf)
		buf = binary.BigEndian.AppendUint64(buf, uint64(e.time))
		if keep {
			buf = c.rows.appendSpare(buf)
		}
		buf = append(appendLengthOf(buf, start), r.old...)
		return true, c.env.scratch.Set(key, buf)
	})
}

func (c *tableCore) flushSpilled(b Batch) error {
	return c.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		switch {
		case r.flags&entryPresent != 0:
			return true, b.Set(key, r.current)
		case r.flags&entryStored != 0:
			return true, b.Delete(key)
		}
		return true, nil
	})
}

// scanSpilled walks the current rows in key order where some are in scratch space.
func (c *tableCore) scanSpilled(row func(key, value []byte) (more bool, err error)) error {
	it, err := c.env.DB.NewIter(idBounds(c.id))
	if err != nil {
		return err
	}
	defer it.Close()
	ok, more := it.First(), true
	// upTo hands over the rows of the DB before key, all of them without one.
	upTo := func(key []byte) (err error) {
		for more && err == nil && ok && (key == nil || bytes.Compare(it.Key(), key) < 0) {
			more, err = row(it.Key(), it.Value())
			ok = it.Next()
		}
		return err
	}
	err = c.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		if err := upTo(key); err != nil || !more {
			return false, err
		}
		if ok && bytes.Equal(it.Key(), key) {
			ok = it.Next()
		}
		if r.flags&entryPresent != 0 {
			more, err = row(key, r.current)
		}
		return more, err
	})
	if err == nil {
		err = upTo(nil)
	}
	if err == nil {
		err = it.Error()
	}
	return err
}

// clearSpill forgets what is in scratch space.
func (c *tableCore) clearSpill() error {
	c.spill = spillState{}
	return c.env.scratch.DeleteRange(idBounds(c.id))
}
