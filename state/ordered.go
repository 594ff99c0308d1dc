package state

import "bytes"

// Ordered is a store of byte keys in byte order, with values, for indexes: what is
// written goes to an overlay, and reads see the overlay merged with the DB. Keys are
// given without the store's prefix. It is used by one goroutine at a time.
type Ordered struct {
	env     *Env
	id      uint32
	overlay skiplist
	buf     []byte
	// iter stands over the store's range of the DB as of the last commit; it is
	// made when a scan needs it.
	iter Iter
}

// NewOrdered makes the ordered store with the given key prefix over env.DB.
func NewOrdered(env *Env, id uint32) *Ordered { return &Ordered{env: env, id: id} }

// ID is the store's key prefix.
func (o *Ordered) ID() uint32 { return o.id }

// Entries is the number of uncommitted writes in memory.
func (o *Ordered) Entries() int { return o.overlay.len() }

// Bytes is the memory that uncommitted writes take, roughly.
func (o *Ordered) Bytes() int64 { return int64(len(o.overlay.bytes)) + 80*int64(len(o.overlay.nodes)) }

// Set writes the value of a key.
func (o *Ordered) Set(key, value []byte) error {
	o.overlay.set(key, value, false)
	return nil
}

// Delete removes a key.
func (o *Ordered) Delete(key []byte) error {
	o.overlay.set(key, nil, true)
	return nil
}

// Get appends the value of a key to dst; ok is false, and dst unchanged, where the
// key is absent.
func (o *Ordered) Get(dst, key []byte) ([]byte, bool, error) {
	if i := o.overlay.find(key); i != 0 {
		if o.overlay.nodes[i].deleted {
			return dst, false, nil
		}
		return append(dst, o.overlay.value(i)...), true, nil
	}
	o.buf = append(appendID(o.buf[:0], o.id), key...)
	return o.env.DB.Get(dst, o.buf)
}

// Scan calls fn for all keys that begin with prefix, in ascending or with reverse in
// descending order, until it returns false. Key and value are valid during the call;
// the store must not be modified in it.
func (o *Ordered) Scan(prefix []byte, reverse bool, fn func(key, value []byte) bool) error {
	return o.ScanRange(prefix, after(prefix), reverse, fn)
}

// after returns the first key that follows all keys with a prefix, nil if there is
// none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			upper := bytes.Clone(prefix[:i+1])
			upper[i]++
			return upper
		}
	}
	return nil
}

// ScanRange is Scan over lower <= key < upper; a nil bound is open.
func (o *Ordered) ScanRange(lower, upper []byte, reverse bool, fn func(key, value []byte) bool) error {
	if err := o.open(); err != nil {
		return err
	}
	if reverse {
		return o.descend(lower, upper, fn)
	}
	return o.ascend(lower, upper, fn)
}

func (o *Ordered) open() (err error) {
	if o.iter == nil {
		o.iter, err = o.env.DB.NewIter(idBounds(o.id))
	}
	return err
}

func (o *Ordered) ascend(lower, upper []byte, fn func(key, value []byte) bool) error {
	l, it := &o.overlay, o.iter
	i := l.seek(lower, nil)
	o.buf = append(appendID(o.buf[:0], o.id), lower...)
	ok := it.SeekGE(o.buf)
	for {
		var key []byte
		if ok {
			if key = it.Key()[4:]; upper != nil && bytes.Compare(key, upper) >= 0 {
				ok = false
			}
		}
		if i != 0 && upper != nil && bytes.Compare(l.key(i), upper) >= 0 {
			i = 0
		}
		switch c := mergeOrder(ok, i != 0, func() int { return bytes.Compare(l.key(i), key) }); {
		case !ok && i == 0:
			return it.Error()
		case c <= 0:
			if !l.nodes[i].deleted && !fn(l.key(i), l.value(i)) {
				return nil
			}
			i = l.nodes[i].next[0]
			if c == 0 {
				ok = it.Next()
			}
		default:
			if !fn(key, it.Value()) {
				return nil
			}
			ok = it.Next()
		}
	}
}

func (o *Ordered) descend(lower, upper []byte, fn func(key, value []byte) bool) error {
	l, it := &o.overlay, o.iter
	i := l.last(upper)
	var ok bool
	if upper == nil {
		ok = it.Last()
	} else {
		o.buf = append(appendID(o.buf[:0], o.id), upper...)
		ok = it.SeekLT(o.buf)
	}
	for {
		var key []byte
		if ok {
			if key = it.Key()[4:]; bytes.Compare(key, lower) < 0 {
				ok = false
			}
		}
		if i != 0 && bytes.Compare(l.key(i), lower) < 0 {
			i = 0
		}
		switch c := mergeOrder(ok, i != 0, func() int { return bytes.Compare(key, l.key(i)) }); {
		case !ok && i == 0:
			return it.Error()
		case c <= 0:
			if !l.nodes[i].deleted && !fn(l.key(i), l.value(i)) {
				return nil
			}
			i = l.nodes[i].prev
			if c == 0 {
				ok = it.Prev()
			}
		default:
			if !fn(key, it.Value()) {
				return nil
			}
			ok = it.Prev()
		}
	}
}

// mergeOrder says whose turn it is: below 0 the overlay's, above 0 the DB's, 0 both
// stand on one key.
func mergeOrder(db, overlay bool, compare func() int) int {
	switch {
	case !db:
		return -1
	case !overlay:
		return 1
	}
	return compare()
}

// Dirty calls fn for all uncommitted writes in key order until it returns false.
func (o *Ordered) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	l := &o.overlay
	for i := l.seek(nil, nil); i != 0; i = l.nodes[i].next[0] {
		if !fn(l.key(i), l.value(i), l.nodes[i].deleted) {
			break
		}
	}
	return nil
}

// EndStep does nothing: the store keeps no old values.
func (o *Ordered) EndStep() {}

// Flush writes all changes since the last commit in ascending key order.
func (o *Ordered) Flush(b Batch) (err error) {
	walkErr := o.Dirty(func(key, value []byte, deleted bool) bool {
		o.buf = append(appendID(o.buf[:0], o.id), key...)
		if deleted {
			err = b.Delete(o.buf)
		} else {
			err = b.Set(o.buf, value)
		}
		return err == nil
	})
	if err == nil {
		err = walkErr
	}
	return err
}

// Committed says that the flushed batch is durable.
func (o *Ordered) Committed() { o.Rollback() }

// Rollback drops everything written since the last commit.
func (o *Ordered) Rollback() {
	o.overlay.reset()
	if o.iter != nil {
		o.iter.Close()
		o.iter = nil
	}
}
