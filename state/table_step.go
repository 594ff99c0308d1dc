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

// walk begins a walk and returns what endWalk has to be given.
func (c *tableCore) walk(w walkState) (before walkState) {
	before = c.walking
	c.walking = max(before, w)
	return before
}

func (c *tableCore) endWalk(before walkState) { c.walking = before }

// EditTouched calls fn for every key written in this step, once, in the order in
// which they were first written (a step that has outgrown memory: in key order). fn
// may change *v in place as with Edit; if it returns false the key is deleted. fn
// must not call the table.
func (t *Table[K, V]) EditTouched(fn func(k K, v *V, existed bool) (keep bool, err error)) error {
	if err := t.attend(); err != nil {
		return err
	}
	if t.spill.step {
		return t.editSpilled(func(e *entryState) (keep bool, err error) {
			return fn(t.spare.key, &t.spare.value, e.flags&entryPresent != 0)
		})
	}
	defer t.endWalk(t.walk(walkTouched))
	for i := range t.touched.n {
		s := t.touched.at(i).slot
		e := t.slab.at(s)
		t.edited = s + 1
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
	defer t.endWalk(t.walk(walkTouched))
	w := t.beginChanges(yield)
	for i := 0; i < t.touched.n && !w.stopped; i++ {
		touched := t.touched.at(i)
		e := t.slab.at(touched.slot)
		w.out = append(w.out, record.Change[K, V]{Key: e.key, Old: *t.olds.at(i), New: e.value, Time: e.time})
		w.added(touched.present, e.flags&entryPresent != 0)
	}
	w.end()
	return nil
}

// changesSpilled is Changes where rows of the step are in scratch space.
func (t *Table[K, V]) changesSpilled(yield func([]record.Change[K, V]) bool) error {
	w := t.beginChanges(yield)
	err := t.eachSpilledOfStep(func(key []byte, r *spilledRow) (more bool, err error) {
		e, err := t.decodeSpare(key, r)
		if err != nil {
			return false, err
		}
		w.out = append(w.out, record.Change[K, V]{Key: t.spare.key, New: t.spare.value, Time: e.time})
		had := r.flags&spilledHadOld != 0
		if had {
			if err := t.vals.Decode(r.old, &w.out[len(w.out)-1].Old); err != nil {
				return false, t.corrupt(key, err)
			}
		}
		w.added(had, e.flags&entryPresent != 0)
		return !w.stopped, nil
	})
	if err != nil {
		w.stopped = true
	}
	w.end()
	return err
}

// changesWalk gathers chunks of changes and hands them over.
type changesWalk[K comparable, V any] struct {
	t       *Table[K, V]
	yield   func([]record.Change[K, V]) bool
	out     []record.Change[K, V]
	stopped bool
}

// beginChanges takes the buffer for changes, so that a walk inside a walk gets one of
// its own.
func (t *Table[K, V]) beginChanges(yield func([]record.Change[K, V]) bool) changesWalk[K, V] {
	out := t.changes[:0]
	t.changes = nil
	return changesWalk[K, V]{t: t, yield: yield, out: out}
}

// added completes the last change, which goes if it is none, and hands over a chunk that
// is full.
func (w *changesWalk[K, V]) added(had, has bool) {
	c := &w.out[len(w.out)-1]
	if had {
		c.Sides |= record.HasOld
	}
	if has {
		c.Sides |= record.HasNew
	}
	if had == has && (!had || w.t.vals.Equal(&c.Old, &c.New)) {
		w.out = w.out[:len(w.out)-1]
	}
	if len(w.out) == changesChunk {
		w.stopped = !w.yield(w.out)
		clear(w.out)
		w.out = w.out[:0]
	}
}

func (w *changesWalk[K, V]) end() {
	if !w.stopped && len(w.out) > 0 {
		w.yield(w.out)
	}
	clear(w.out)
	w.t.changes = w.out
}
