package state

import "github.com/tailrace/tailrace/record"

// walkState says what a table must not do while a walk is under way.
type walkState uint8

const (
	walkNone walkState = iota
	// walkTouched: the touched rows must stay in memory, in order.
	walkTouched
	// walkSlots: slots must keep their numbers.
	walkSlots
)

// EditTouched calls fn for every key written in this step, once, in the order in
// which they were first written (a step that has outgrown memory: in key order). fn
// may change *v in place as with Edit; if it returns false the key is deleted. fn
// must not call the table.
func (t *Table[K, V]) EditTouched(fn func(k K, v *V, existed bool) (keep bool, err error)) error {
	if err := t.attend(); err != nil {
		return err
	}
	if t.spill.step {
		return t.editSpilled(fn)
	}
	defer t.walk(walkTouched)()
	for i := range t.touched.n {
		s := t.touched.at(i).slot
		e := t.slab.at(s)
		t.edited, t.attention = s+1, true
		keep, err := fn(e.key, &e.value, e.flags&entryPresent != 0)
		if err != nil {
			return err
		}
		t.takeEdited()
		e = t.slab.at(t.touched.at(i).slot)
		if keep {
			e.flags |= entryPresent
		} else {
			t.erase(e)
		}
	}
	return nil
}

// walk begins a walk; the function it returns ends it.
func (t *Table[K, V]) walk(w walkState) func() {
	before := t.walking
	t.walking = max(before, w)
	return func() { t.walking = before }
}

// changesChunk is the largest number of changes handed over at once.
const changesChunk = 1024

// Changes yields the net changes of the step: the keys whose value now differs from
// the one before the step, in the order in which they were first written (a step
// that has outgrown memory: in key order). A chunk is valid until the next one; the
// walk may be repeated. During the walk the table may be read, but not written.
func (t *Table[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	if err := t.attend(); err != nil {
		return err
	}
	if t.spill.step {
		return t.changesSpilled(yield)
	}
	defer t.walk(walkTouched)()
	out := t.takeChunk()
	defer func() { t.changes = out }()
	for i := range t.touched.n {
		old := t.touched.at(i)
		e := t.slab.at(old.slot)
		out = append(out, record.Change[K, V]{Key: e.key, Old: old.old, New: e.value, Time: e.time})
		if !t.isNet(&out[len(out)-1], old.present, e.flags&entryPresent != 0) {
			out = out[:len(out)-1]
		}
		if len(out) == changesChunk {
			if !yield(out) {
				return nil
			}
			clear(out)
			out = out[:0]
		}
	}
	if len(out) > 0 {
		yield(out)
	}
	clear(out)
	return nil
}

// takeChunk takes the buffer for changes, so that a walk inside a walk gets one of
// its own.
func (t *Table[K, V]) takeChunk() []record.Change[K, V] {
	out := t.changes[:0]
	t.changes = nil
	return out
}

// isNet completes a change and reports whether it is one.
func (t *Table[K, V]) isNet(c *record.Change[K, V], had, has bool) bool {
	switch {
	case had && has:
		c.Sides = record.HasOld | record.HasNew
		return !t.vals.Equal(&c.Old, &c.New)
	case had:
		c.Sides = record.HasOld
	case has:
		c.Sides = record.HasNew
	}
	return had != has
}

// EndStep forgets the values before the step.
func (t *Table[K, V]) EndStep() {
	if t.edited != 0 {
		t.takeEdited()
	}
	if t.touched.n > 0 {
		t.charge(-int64(t.touched.n) * t.oldBytes)
		t.touched.reset()
	}
	t.spill.step = false
	// Entries have room for the low half of the number only: when it has gone round,
	// the marks of four thousand million steps ago must not look like new ones.
	if t.step++; uint32(t.step) == 0 {
		t.step++
		for i := range t.slab.next {
			t.slab.at(i).step = 0
		}
	}
}
