package state

import "bytes"

// clearSpillRows is the number of uncommitted rows from which Clear moves them to
// scratch space, so that it need not keep a list of their keys.
const clearSpillRows = 1 << 14

// Own says which rows are the table's, by their encoded keys, where others share its id:
// Clear leaves those of others alone. By default all are.
func (c *tableCore) Own(owns func(encoded []byte) bool) { c.owns = owns }

// Clear deletes all rows, in key order, in bounded memory whatever their number. It
// calls deleted, unless that is nil, after each row, which must not write to the table.
func (t *Table[K, V]) Clear(time int64, deleted func(k K) error) error {
	return t.eachKey(func(key []byte) error {
		k, err := t.decodeKey(key)
		if err != nil {
			return err
		}
		if deleted == nil {
			return t.Delete(k, time)
		}
		v, err := t.Get(k)
		if err != nil || v == nil {
			return err
		}
		if err := t.Delete(k, time); err != nil {
			return err
		}
		return deleted(k)
	})
}

// eachKey calls fn, which may delete the row, with all keys that the table may hold, as
// the DB holds them, in order, some of them more than once.
func (c *tableCore) eachKey(fn func(key []byte) error) error {
	if err := c.attend(); err != nil {
		return err
	}
	if len(c.dirty) > clearSpillRows && c.walking == walkNone {
		s, err := c.env.openScratch()
		if err == nil && s != nil {
			err = c.spillAll(s)
		}
		if err != nil {
			return err
		}
	}
	at := tableCursor{order: c.sortDirty(), arena: c.arena, prefix: appendID(nil, c.id)}
	c.order, c.arena = nil, nil // a spill on the way must not overwrite them
	defer at.close()
	var err error
	if c.spill.active {
		if at.scratch, err = c.env.scratch.NewIter(idBounds(c.id)); err != nil {
			return err
		}
	}
	if at.db, err = c.env.DB.NewIter(idBounds(c.id)); err != nil {
		return err
	}
	c.ahead = at.db
	defer func() { c.ahead = nil }()
	for key := at.first(); key != nil; key = at.next() {
		if c.owns != nil && !c.owns(key[len(at.prefix):]) {
			continue
		}
		if err := fn(key); err != nil {
			return err
		}
	}
	return at.error()
}

// tableCursor walks all keys that a table may hold, with the prefix, in order. It sees
// those that were there when it was made, some of them more than once.
type tableCursor struct {
	order       []flushKey // of the rows in memory
	arena       []byte
	scratch, db Iter
	prefix, key []byte
	ok          [2]bool // scratch and db stand on a key
	at          int     // where the last key came from: 0 and 1 the iterators, 2 memory
}

func (c *tableCursor) first() []byte {
	c.ok = [2]bool{c.scratch != nil && c.scratch.First(), c.db.First()}
	return c.least()
}

func (c *tableCursor) next() []byte {
	switch c.at {
	case 0:
		c.ok[0] = c.scratch.Next()
	case 1:
		c.ok[1] = c.db.Next()
	default:
		c.order = c.order[1:]
	}
	return c.least()
}

// least returns the first of the keys that come next, nil at the end.
func (c *tableCursor) least() (key []byte) {
	if c.ok[0] {
		c.at, key = 0, c.scratch.Key()
	}
	if c.ok[1] && (key == nil || bytes.Compare(c.db.Key(), key) < 0) {
		c.at, key = 1, c.db.Key()
	}
	if len(c.order) > 0 {
		c.key = append(append(c.key[:0], c.prefix...), c.order[0].key(c.arena)...)
		if key == nil || bytes.Compare(c.key, key) < 0 {
			c.at, key = 2, c.key
		}
	}
	return key
}

func (c *tableCursor) error() error {
	if c.scratch != nil {
		if err := c.scratch.Error(); err != nil {
			return err
		}
	}
	return c.db.Error()
}

func (c *tableCursor) close() {
	for _, it := range []Iter{c.scratch, c.db} {
		if it != nil {
			_ = it.Close() // error has told
		}
	}
}
