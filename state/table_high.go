package state

import "bytes"

// highKey is the largest key that a table has ever looked at or that the DB holds for
// it, encoded with the prefix. A key beyond it is neither in the DB nor in scratch
// space, so that rows that come under ascending keys, as most inserts do, need no read.
type highKey struct {
	known bool
	key   []byte
}

// beyond reports that the key in c.key cannot have been stored, and remembers it as
// the largest.
func (c *tableCore) beyond() (bool, error) {
	if !c.high.known {
		if err := c.findHigh(); err != nil {
			return false, err
		}
	}
	if bytes.Compare(c.key, c.high.key) <= 0 {
		return false, nil
	}
	c.high.key = append(c.high.key[:0], c.key...)
	return true, nil
}

// findHigh reads the largest key from the DB; an empty one is below all.
func (c *tableCore) findHigh() error {
	it, err := c.env.DB.NewIter(idBounds(c.id))
	if err != nil {
		return err
	}
	defer it.Close()
	if it.Last() {
		c.high.key = append(c.high.key[:0], it.Key()...)
	}
	c.high.known = it.Error() == nil
	return it.Error()
}
