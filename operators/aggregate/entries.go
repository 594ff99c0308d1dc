package aggregate

// EntryStore is an ordered set of entries; state.Ordered is one.
type EntryStore interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	Scan(prefix []byte, reverse bool, fn func(key, value []byte) bool) error
}

// Entries are the ordered entries of one group. Each aggregator of a combination
// has a slot of its own.
type Entries struct {
	store  EntryStore
	base   []byte
	buf    []byte
	prefix []byte
	// read are the keys, without prefix, and values of the last Read, one behind the
	// other.
	read  []byte
	ends  []int
	limit int
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
	e.prefix = append(e.prefix[:0], e.entry(slot, nil)...)
	return e.readPrefix(limit)
}

func (e *Entries) readPrefix(limit int) (n int, err error) {
	e.read, e.ends, e.limit = e.read[:0], e.ends[:0], limit
	err = e.store.Scan(e.prefix, false, e.visit)
	return len(e.ends) / 2, err
}

func (e *Entries) keep(key, value []byte) bool {
	e.read = append(e.read, key[len(e.prefix):]...)
	e.ends = append(e.ends, len(e.read))
	e.read = append(e.read, value...)
	e.ends = append(e.ends, len(e.read))
	return len(e.ends) != 2*e.limit
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
	e.prefix = append(e.prefix[:0], from...)
	n, err := e.readPrefix(0)
	for i := 0; i < n && err == nil; i++ {
		e.buf = append(append(e.buf[:0], from...), e.Key(i)...)
		if err = e.store.Delete(e.buf); err == nil {
			e.buf = append(append(e.buf[:0], to...), e.Key(i)...)
			err = e.store.Set(e.buf, e.Value(i))
		}
	}
	return err
}

// Clear removes all entries of a slot.
func (e *Entries) Clear(slot int) error {
	n, err := e.Read(slot, 0)
	for i := 0; i < n && err == nil; i++ {
		err = e.Delete(slot, e.Key(i))
	}
	return err
}

func (e *Entries) entry(slot int, key []byte) []byte {
	e.buf = append(append(append(e.buf[:0], e.base...), byte(slot)), key...)
	return e.buf
}
