package aggregate

import "github.com/tailrace/tailrace/state"

// EntryStore is an ordered set of entries; state.Ordered is one.
type EntryStore interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	ScanRange(lower, upper []byte, reverse bool, fn func(key, value []byte) bool) error
}

// pieceBytes bounds what is read at once of a group that is moved or removed.
const pieceBytes = 64 << 10

// Entries are the ordered entries of one group. Each aggregator of a combination
// has a slot of its own.
type Entries struct {
	store  EntryStore
	base   []byte
	buf    []byte
	prefix []byte
	lower  []byte
	upper  []byte
	// read are the keys, without prefix, and values of the last Read, one behind the
	// other.
	read  []byte
	ends  []int
	limit int // of entries; 0: none
	most  int // of bytes, but for the last entry's; 0: no limit
	visit func(key, value []byte) bool
}

// NewEntries makes entries over a store.
func NewEntries(s EntryStore) *Entries {
	e := &Entries{store: s}
	e.visit = e.keep // made once: a function for each walk would be an allocation
	return e
}

// Scope points the entries at the group with the given encoded key, which must
// stay unchanged until the next call.
func (e *Entries) Scope(group []byte) { e.base = group }

// Set writes the entry under key in a slot.
func (e *Entries) Set(slot int, key, value []byte) error {
	return e.store.Set(e.entry(slot, key), value)
}

// Delete removes the entry under key in a slot.
func (e *Entries) Delete(slot int, key []byte) error { return e.store.Delete(e.entry(slot, key)) }

// Read reads the first entries of a slot in key order, limit of them at most (0: all),
// and returns how many there are. Key and Value give them until the next Read.
func (e *Entries) Read(slot, limit int) (n int, err error) {
	e.begin(e.entry(slot, nil))
	return e.readOn(limit, 0)
}

// begin begins a walk over what has a prefix.
func (e *Entries) begin(prefix []byte) {
	e.prefix = append(e.prefix[:0], prefix...)
	e.lower = append(e.lower[:0], prefix...)
	e.upper = state.AppendPrefixEnd(e.upper[:0], prefix)
}

// readOn reads what comes next in the walk.
func (e *Entries) readOn(limit, most int) (n int, err error) {
	e.read, e.ends, e.limit, e.most = e.read[:0], e.ends[:0], limit, most
	err = e.store.ScanRange(e.lower, e.upper, false, e.visit)
	return len(e.ends) / 2, err
}

func (e *Entries) keep(key, value []byte) bool {
	e.read = append(e.read, key[len(e.prefix):]...)
	e.ends = append(e.ends, len(e.read))
	e.read = append(e.read, value...)
	e.ends = append(e.ends, len(e.read))
	return len(e.ends) != 2*e.limit && (e.most == 0 || len(e.read) < e.most)
}

// each calls fn for the entries under a prefix, a piece after the other: between them
// the store may move what fn writes out of memory. It does not pass over what fn has
// removed.
func (e *Entries) each(prefix []byte, fn func(key, value []byte) error) error {
	e.begin(prefix)
	for {
		n, err := e.readOn(0, pieceBytes)
		if err != nil || n == 0 {
			return err
		}
		for i := range n {
			if err := fn(e.Key(i), e.Value(i)); err != nil {
				return err
			}
		}
		e.lower = append(append(e.lower[:len(e.prefix)], e.Key(n-1)...), 0)
	}
}

// Key is the key of the i-th entry that was read.
func (e *Entries) Key(i int) []byte { return e.part(2 * i) }

// Value is the value of the i-th entry that was read.
func (e *Entries) Value(i int) []byte { return e.part(2*i + 1) }

func (e *Entries) part(i int) []byte {
	from := 0
	if i > 0 {
		from = e.ends[i-1]
	}
	return e.read[from:e.ends[i]]
}

// Move puts all entries of a group under another group's key, in all slots.
func (e *Entries) Move(from, to []byte) error {
	return e.each(from, func(key, value []byte) error {
		e.buf = append(append(e.buf[:0], from...), key...)
		if err := e.store.Delete(e.buf); err != nil {
			return err
		}
		e.buf = append(append(e.buf[:0], to...), key...)
		return e.store.Set(e.buf, value)
	})
}

// Clear removes all entries of a slot.
func (e *Entries) Clear(slot int) error {
	return e.each(e.entry(slot, nil), func(key, _ []byte) error { return e.Delete(slot, key) })
}

func (e *Entries) entry(slot int, key []byte) []byte {
	e.buf = append(append(append(e.buf[:0], e.base...), byte(slot)), key...)
	return e.buf
}
