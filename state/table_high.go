package state

import "bytes"

// highKey is the largest key that a table has ever looked at or that the DB holds for
// it, encoded with the prefix. A key beyond it is neither in the DB nor in scratch
// space, so that rows that come under ascending keys, as most inserts do, need no read.
type highKey struct {
	known bool
	key   []byte
}

// beyond reports that the key in t.key cannot have been stored, and remembers it as
// the largest.
func (t *Table[K, V]) beyond() (bool, error) {
	if !t.high.known {
		if err := t.findHigh(); err != nil {
			return false, err
		}
	}
	if bytes.Compare(t.key, t.high.key) <= 0 {
		return false, nil
	}
	t.high.key = append(t.high.key[:0], t.key...)
	return true, nil
}

// findHigh reads the largest key from the DB; an empty one is below all.
func (t *Table[K, V]) findHigh() error {
	it, err := t.env.DB.NewIter(idBounds(t.id))
	if err != nil {
		return err
	}
	defer it.Close()
	if it.Last() {
		t.high.key = append(t.high.key[:0], it.Key()...)
	}
	t.high.known = it.Error() == nil
	return it.Error()
}
