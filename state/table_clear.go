package state

import "bytes"

// clearSpillRows is the number of uncommitted rows from which Clear moves them to
// scratch space, so that it need not keep a list of their keys.
const clearSpillRows = 1 << 14

// Own says which rows are the table's, by their encoded keys, where others share its id:
// Clear leaves those of others alone. By default all are.
func (t *Table[K, V]) Own(owns func(encoded []byte) bool) { t.owns = owns }

// Clear deletes all rows, in key order, in bounded memory whatever their number. It
// calls deleted, unless that is nil, after each row, which must not write to the table.
func (t *Table[K, V]) Clear(time int64, deleted func(k K) error) error {
	if err := t.attend(); err != nil {
		return err
	}
	if len(t.dirty) > clearSpillRows && t.walking == walkNone {
		s, err := t.env.openScratch()
		if err == nil && s != nil {
			err = t.spillAll(s)
		}
		if err != nil {
			return err
		}
	}
	c := tableCursor{order: t.sortDirty(), arena: t.arena, prefix: appendID(nil, t.id)}
	t.order, t.arena = nil, nil // a spill on the way must not overwrite them
	defer c.close()
	var err error
	if t.spill.active {
		if c.scratch, err = t.env.scratch.NewIter(idBounds(t.id)); err != nil {
			return err
		}
	}
	if c.db, err = t.env.DB.NewIter(idBounds(t.id)); err != nil {
		return err
	}
	t.ahead = c.db
	defer func() { t.ahead = nil }()
	for key := c.first(); key != nil; key = c.next() {
		if t.owns != nil && !t.owns(key[len(c.prefix):]) {
			continue
		}
		k, err := t.decodeKey(key)
		if err == nil {
			err = t.clear(k, time, deleted)
		}
		if err != nil {
			return err
		}
	}
	return c.error()
}

func (t *Table[K, V]) clear(k K, time int64, deleted func(k K) error) error {
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
