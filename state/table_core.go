package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"
)

// tableCore is what a table does without knowing the types of its keys and values: it
// keeps the accounts, reads what is stored, and commits, spills and evicts. What an app
// is made of compiles it once, where it compiles Table for each pair of types; it asks
// its rows about keys and values by their slots, and never where a record would pay for
// the call.
type tableCore struct {
	env  *Env
	id   uint32
	rows tableRows
	owns func(encoded []byte) bool // nil: all; see Own

	// touched are the slots written in this step, in order of first touch. dirty are
	// the slots that differ from the DB.
	touched chunks[touchedSlot]
	dirty   []uint32
	step    uint64 // entries have its low half

	mem        account
	rowBytes   int64
	oldBytes   int64 // in mem for one of touched
	dirtyBytes int64 // in mem for one of dirty, and what sorting it takes

	// attention is set when the next call has to do more than its own work: see
	// attend.
	attention bool
	recheck   bool       // ask the budget whether it is exceeded
	edited    uint32     // slot+1 of the value that Edit returned last
	err       error      // of a call that could not return it
	walking   walkState  // a walk over memory is under way
	spill     spillState // what is in scratch space
	high      highKey    // the end of what is stored
	ahead     Iter       // stands on a row of the DB that is about to be read
	key, val  []byte     // buffers for encoding
	arena     []byte
	order     []flushKey
}

// tableRows are the keys and values of a table's cache, by slot.
type tableRows interface {
	count() int
	// slots is the number of slots that were ever in use.
	slots() uint32
	at(slot uint32) *entryState

	appendKey(dst []byte, slot uint32) []byte
	appendValue(dst []byte, slot uint32) []byte
	decodeValue(slot uint32, encoded []byte) error

	// appendOld encodes what the touched slot with a number held before the step, and
	// addOld adds one to them, which may be none. forgetOlds drops them.
	appendOld(dst []byte, touch uint32) []byte
	addOld(present bool, encoded []byte) error
	forgetOlds()
	// releaseOlds gives their memory back too, except of the one that keep names.
	releaseOlds(keep *uint32)

	// takeEdited looks at the value that was given out for editing.
	takeEdited()
	// drop empties a slot.
	drop(slot uint32)
	// rebuild moves the entries that keep chooses to a new cache; see Table.rebuild.
	rebuild(keep func(slot uint32, e *entryState) bool)
	// releaseRows gives all memory back for good.
	releaseRows()

	// decodeSpare reads a row into the spare one, whose state is returned.
	// appendSpare encodes its value.
	decodeSpare(key []byte, r *spilledRow) (*entryState, error)
	appendSpare(dst []byte) []byte
}

// entryState is what the core knows of an entry.
type entryState struct {
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

type touchedSlot struct {
	slot    uint32
	present bool // before the step
}

func (c *tableCore) init(env *Env, id uint32, rows tableRows, key, value, entry uintptr) {
	c.env, c.id, c.rows, c.step = env, id, rows, 1
	c.mem = newAccount(env.Memory)
	c.rowBytes = int64(entry) + 2*int64(key+4)
	c.oldBytes = int64(unsafe.Sizeof(touchedSlot{}) + value)
	c.dirtyBytes = int64(unsafe.Sizeof(uint32(0)) + unsafe.Sizeof(flushKey{}) + key)
	env.all().stores = append(env.all().stores, c)
}

// ID is the table's key prefix.
func (c *tableCore) ID() uint32 { return c.id }

// Bytes is the memory that the table takes, roughly.
func (c *tableCore) Bytes() int64 { return c.mem.bytes }

// attend does what the last call left to be done: it takes over an edited value,
// settles the memory account, and relieves it. Every call begins with it, when no
// pointer into the cache is in use.
func (c *tableCore) attend() error {
	if c.err != nil {
		return c.err
	}
	if c.edited != 0 {
		c.rows.takeEdited()
	}
	c.attention = false
	if (c.mem.due() || c.recheck) && c.mem.settle() {
		c.recheck = false
		return c.env.relieve()
	}
	c.recheck = false
	return nil
}

// find fills the entry of a slot whose encoded key is in c.key, from where its row is
// stored.
func (c *tableCore) find(slot uint32) error {
	if fresh, err := c.beyond(); fresh || err != nil {
		return err
	}
	if c.spill.active {
		found, err := c.readSpilled(slot)
		if found || err != nil {
			return err
		}
	}
	if c.ahead != nil && c.ahead.Valid() && bytes.Equal(c.ahead.Key(), c.key) {
		return c.fill(slot, c.ahead.Value())
	}
	val, ok, err := c.env.DB.Get(c.val[:0], c.key)
	c.val = val
	if err != nil || !ok {
		return err
	}
	return c.fill(slot, val)
}

// fill sets an entry to a row as the DB holds it.
func (c *tableCore) fill(slot uint32, stored []byte) error {
	if len(stored) < 8 {
		return errShort
	}
	e := c.rows.at(slot)
	e.flags |= entryPresent | entryStored
	e.time = int64(binary.BigEndian.Uint64(stored))
	return c.rows.decodeValue(slot, stored[8:])
}

// appendRow encodes an entry as the DB holds it; of one that is not there the time.
func (c *tableCore) appendRow(dst []byte, slot uint32) []byte {
	e := c.rows.at(slot)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.time))
	if e.flags&entryPresent == 0 {
		return dst
	}
	return c.rows.appendValue(dst, slot)
}

// corrupt says where a row was that can't be read.
func (c *tableCore) corrupt(key []byte, err error) error {
	return fmt.Errorf("state: store %d, key %x: %w", c.id, key, err)
}

// resized accounts for n bytes beside an entry.
func (c *tableCore) resized(e *entryState, n int) {
	if heap := uint32(min(n, 1<<31)); heap != e.heap {
		c.charge(int64(heap) - int64(e.heap))
		e.heap = heap
	}
}

func (c *tableCore) charge(n int64) {
	if c.mem.add(n) {
		c.attention = true
	}
}

// markTouched says that a slot is written for the first time in this step. What it held
// is the last of the old values.
func (c *tableCore) markTouched(e *entryState, slot uint32) {
	e.step, e.touch = uint32(c.step), uint32(c.touched.n)
	c.touched.add(touchedSlot{slot, e.flags&entryPresent != 0})
	c.charge(c.oldBytes)
}

func (c *tableCore) markDirty(e *entryState, slot uint32) {
	e.flags |= entryDirty
	c.dirty = append(c.dirty, slot)
	c.charge(c.dirtyBytes)
}

// EndStep forgets the values before the step.
func (c *tableCore) EndStep() {
	if c.edited != 0 {
		c.rows.takeEdited()
	}
	if c.touched.n > 0 {
		c.charge(-int64(c.touched.n) * c.oldBytes)
		c.touched.reset()
		c.rows.forgetOlds()
	}
	c.spill.step = false
	// Entries have room for the low half of the number only: when it has gone round,
	// the marks of four thousand million steps ago must not look like new ones.
	if c.step++; uint32(c.step) == 0 {
		c.step++
		for i := range c.rows.slots() {
			c.rows.at(i).step = 0
		}
	}
}
