package state

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
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

// spillAll writes all dirty rows to scratch space and empties the cache. The row
// that was given out for editing stays.
func (t *Table[K, V]) spillAll(s Scratch) error {
	t.env.all().spilled += t.mem.bytes
	order := t.sortDirty()
	for _, o := range order {
		if o.slot+1 == t.edited {
			continue
		}
		e := t.slab.at(o.slot)
		t.key = append(appendID(t.key[:0], t.id), o.key(t.arena)...)
		t.val = t.appendSpilled(t.val[:0], e)
		if err := s.Set(t.key, t.val); err != nil {
			return err
		}
		t.spill.active = true
		t.spill.step = t.spill.step || e.step == uint32(t.step)
	}
	if len(order) == 0 {
		return nil
	}
	touched := t.touched
	t.touched = chunks[touchedRow[V]]{}
	if t.edited != 0 {
		e := t.slab.at(t.edited - 1)
		t.touched.add(*touched.at(int(e.touch)))
		e.touch = 0
	}
	edited := t.edited
	t.rebuild(func(s uint32, _ *tableEntry[K, V]) bool { return s+1 == edited })
	t.arena, t.order = nil, nil
	t.mem.settle()
	return failpoint.Hit(failpoint.StateSpill)
}

func (t *Table[K, V]) appendSpilled(dst []byte, e *tableEntry[K, V]) []byte {
	flags, step := e.flags&(entryPresent|entryStored), uint64(0)
	var old *touchedRow[V]
	if e.step == uint32(t.step) {
		step, old = t.step, t.touched.at(int(e.touch))
		if old.present {
			flags |= spilledHadOld
		}
	}
	dst = binary.BigEndian.AppendUint64(append(dst, byte(flags)), step)
	start := len(dst)
	if flags&entryPresent != 0 {
		dst = t.encode(dst, e.time, &e.value)
	} else {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.time))
	}
	dst = appendLengthOf(dst, start)
	if flags&spilledHadOld != 0 {
		dst = t.vals.Append(dst, &old.old)
	}
	return dst
}

// decodeCurrent reads the current side of a spilled row.
func (t *Table[K, V]) decodeCurrent(r *spilledRow, time *int64, v *V) error {
	if r.flags&entryPresent != 0 {
		return t.decode(r.current, time, v)
	}
	*time = int64(binary.BigEndian.Uint64(r.current))
	return nil
}

// readSpilled fills an entry from scratch space, where its row may be.
func (t *Table[K, V]) readSpilled(e *tableEntry[K, V], s uint32) (found bool, err error) {
	val, ok, err := t.env.scratch.Get(t.val[:0], t.key)
	t.val = val
	if err != nil || !ok {
		return false, err
	}
	r, err := parseSpilled(val)
	if err == nil {
		err = t.decodeCurrent(&r, &e.time, &e.value)
	}
	old := touchedRow[V]{slot: s, present: r.flags&spilledHadOld != 0}
	if err == nil && old.present {
		err = t.vals.Decode(r.old, &old.old)
	}
	if err != nil {
		return true, err
	}
	e.flags |= r.flags&(entryPresent|entryStored) | entryDirty
	t.dirty = append(t.dirty, s)
	t.charge(t.dirtyBytes)
	if r.step == t.step {
		e.step, e.touch = uint32(t.step), uint32(t.touched.n)
		t.touched.add(old)
		t.charge(t.oldBytes)
	}
	return true, nil
}

// eachSpilled visits all dirty rows in key order, after moving those in memory to
// scratch space too. It sees what was there when it began.
func (t *Table[K, V]) eachSpilled(fn func(key []byte, r *spilledRow) (more bool, err error)) error {
	if err := t.spillAll(t.env.scratch); err != nil {
		return err
	}
	it, err := t.env.scratch.NewIter(idBounds(t.id))
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

func (t *Table[K, V]) decodeKey(key []byte) (K, error) {
	k, rest, err := t.keys.Decode(key[4:])
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	if err != nil {
		return k, fmt.Errorf("state: store %d, key %x: %w", t.id, key, err)
	}
	return k, nil
}

func (t *Table[K, V]) editSpilled(fn func(k K, v *V, existed bool) (bool, error)) error {
	e := new(tableEntry[K, V])
	var buf []byte
	return t.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		if r.step != t.step {
			return true, nil
		}
		k, err := t.decodeKey(key)
		if err != nil {
			return false, err
		}
		*e = tableEntry[K, V]{}
		if err := t.decodeCurrent(r, &e.time, &e.value); err != nil {
			return false, err
		}
		keep, err := fn(k, &e.value, r.flags&entryPresent != 0)
		if err != nil {
			return false, err
		}
		flags := r.flags &^ entryPresent
		if keep {
			flags |= entryPresent
		}
		buf = binary.BigEndian.AppendUint64(append(buf[:0], byte(flags)), r.step)
		start := len(buf)
		if keep {
			buf = t.encode(buf, e.time, &e.value)
		} else {
			buf = binary.BigEndian.AppendUint64(buf, uint64(e.time))
		}
		buf = append(appendLengthOf(buf, start), r.old...)
		return true, t.env.scratch.Set(key, buf)
	})
}

func (t *Table[K, V]) changesSpilled(yield func([]record.Change[K, V]) bool) error {
	out := t.takeChunk()
	defer func() { t.changes = out }()
	stopped := false
	err := t.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		if r.step != t.step {
			return true, nil
		}
		k, err := t.decodeKey(key)
		if err != nil {
			return false, err
		}
		out = append(out, record.Change[K, V]{Key: k})
		c := &out[len(out)-1]
		if err := t.decodeCurrent(r, &c.Time, &c.New); err != nil {
			return false, err
		}
		had := r.flags&spilledHadOld != 0
		if had {
			if err := t.vals.Decode(r.old, &c.Old); err != nil {
				return false, err
			}
		}
		if !t.isNet(c, had, r.flags&entryPresent != 0) {
			out = out[:len(out)-1]
		}
		if len(out) < changesChunk {
			return true, nil
		}
		stopped = !yield(out)
		clear(out)
		out = out[:0]
		return !stopped, nil
	})
	if err == nil && !stopped && len(out) > 0 {
		yield(out)
	}
	clear(out)
	return err
}

func (t *Table[K, V]) flushSpilled(b Batch) error {
	return t.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		switch {
		case r.flags&entryPresent != 0:
			return true, b.Set(key, r.current)
		case r.flags&entryStored != 0:
			return true, b.Delete(key)
		}
		return true, nil
	})
}

func (t *Table[K, V]) scanSpilled(fn func(k K, v *V) bool) error {
	it, err := t.env.DB.NewIter(idBounds(t.id))
	if err != nil {
		return err
	}
	defer it.Close()
	ok, more := it.First(), true
	// upTo hands over the rows of the DB before key, all of them without one.
	upTo := func(key []byte) (err error) {
		for more && err == nil && ok && (key == nil || bytes.Compare(it.Key(), key) < 0) {
			more, err = t.scanStored(it.Key(), it.Value(), fn)
			ok = it.Next()
		}
		return err
	}
	err = t.eachSpilled(func(key []byte, r *spilledRow) (bool, error) {
		if err := upTo(key); err != nil || !more {
			return false, err
		}
		if ok && bytes.Equal(it.Key(), key) {
			ok = it.Next()
		}
		if r.flags&entryPresent != 0 {
			more, err = t.scanStored(key, r.current, fn)
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
func (t *Table[K, V]) clearSpill() error {
	t.spill = spillState{}
	return t.env.scratch.DeleteRange(idBounds(t.id))
}
