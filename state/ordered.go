package state

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// Ordered is a store of byte keys in byte order, with values, for indexes: what is
// written goes to an overlay, and reads see the overlay merged with the DB. Keys are
// given without the store's prefix. It is used by one goroutine at a time. When the
// budget of its Env is exceeded the overlay moves to scratch space.
type Ordered struct {
	env     *Env
	id      uint32
	overlay skiplist
	spilled bool // writes of this epoch are in scratch space
	mem     account
	walking int // scans under way
	undone  uint64
	err     error
	buf     []byte
	upper   []byte // the bound of the scan under way
	// db and scratch stand over the store's range of the DB as of the last commit
	// and of the scratch space as of the last spill. They are made when needed.
	db, scratch Iter
}

// NewOrdered makes the ordered store with the given key prefix over env.DB.
func NewOrdered(env *Env, id uint32) *Ordered {
	o := &Ordered{env: env, id: id, mem: newAccount(env.Memory)}
	env.all().stores = append(env.all().stores, o)
	return o
}

// ID is the store's key prefix.
func (o *Ordered) ID() uint32 { return o.id }

// Entries is the number of uncommitted writes in memory.
func (o *Ordered) Entries() int { return o.overlay.live }

// Bytes is the memory that uncommitted writes take, roughly.
func (o *Ordered) Bytes() int64 { return o.overlay.size() }

// maxOverlay is the largest overlay; positions in it are 32 bits.
const maxOverlay = 3 << 30

// Set writes the value of a key.
func (o *Ordered) Set(key, value []byte) error { return o.write(key, value, false) }

// Delete removes a key.
func (o *Ordered) Delete(key []byte) error { return o.write(key, nil, true) }

func (o *Ordered) write(key, value []byte, deleted bool) error {
	if o.err != nil {
		return o.err
	}
	if o.overlay.bytes.size()+int64(len(key)+len(value)) > maxOverlay {
		return fmt.Errorf("state: store %d: more than %d bytes uncommitted: bound them with Env.Memory and Scratch",
			o.id, maxOverlay)
	}
	before := o.overlay.size()
	o.overlay.set(key, value, deleted)
	if o.mem.add(o.overlay.size()-before) && o.mem.settle() {
		return o.env.relieve()
	}
	return nil
}

// relieve moves the overlay to scratch space.
func (o *Ordered) relieve() error {
	if o.walking > 0 || o.overlay.live == 0 {
		return nil
	}
	s, err := o.env.openScratch()
	if err != nil || s == nil {
		return err
	}
	o.env.all().spilled += o.mem.bytes
	l := &o.overlay
	var val []byte
	for i := l.first(); i != 0; i = l.next(i, 0) {
		o.buf = append(appendID(o.buf[:0], o.id), l.key(i)...)
		val = append(append(val[:0], boolByte(l.deleted(i))), l.value(i)...)
		if err := s.Set(o.buf, val); err != nil {
			return err
		}
	}
	o.spilled = true
	o.clearOverlay()
	return errors.Join(o.closeScratch(), failpoint.Hit(failpoint.StateSpill))
}

// release closes the iterators and gives the memory back when the store is no longer
// used.
func (o *Ordered) release() error {
	o.clearOverlay()
	o.mem.add(-o.mem.bytes)
	o.mem.settle()
	err := o.closeScratch()
	if o.db != nil {
		err = errors.Join(err, o.db.Close())
		o.db = nil
	}
	return err
}

func (o *Ordered) clearOverlay() {
	o.overlay.reset()
	o.mem.add(o.overlay.size() - o.mem.bytes)
	o.mem.settle()
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (o *Ordered) closeScratch() (err error) {
	if o.scratch != nil {
		err = o.scratch.Close()
		o.scratch = nil
	}
	return err
}

// Get appends the value of a key to dst; ok is false, and dst unchanged, where the
// key is absent.
func (o *Ordered) Get(dst, key []byte) (value []byte, ok bool, err error) {
	if o.err != nil {
		return dst, false, o.err
	}
	if i := o.overlay.find(key); i != 0 {
		if o.overlay.deleted(i) {
			return dst, false, nil
		}
		return append(dst, o.overlay.value(i)...), true, nil
	}
	o.buf = append(appendID(o.buf[:0], o.id), key...)
	if o.spilled {
		n := len(dst)
		value, ok, err := o.env.scratch.Get(dst, o.buf)
		switch {
		case err != nil:
			return dst, false, err
		case ok && value[n] == 1:
			return dst, false, nil
		case ok:
			return append(value[:n], value[n+1:]...), true, nil
		}
	}
	return o.env.DB.Get(dst, o.buf)
}

// Scan calls fn for all keys that begin with prefix, in ascending or with reverse in
// descending order, until it returns false. Key and value are valid during the call;
// the store must not be modified in it.
func (o *Ordered) Scan(prefix []byte, reverse bool, fn func(key, value []byte) bool) error {
	upper := o.upper
	if o.walking > 0 {
		upper = nil // a scan outside of this one has its bound there
	}
	upper = AppendPrefixEnd(upper[:0], prefix)
	if upper != nil && o.walking == 0 {
		o.upper = upper
	}
	return o.ScanRange(prefix, upper, reverse, fn)
}

// PrefixEnd returns the first key that follows all keys with a prefix, nil if there
// is none: the upper bound of a walk over the prefix.
func PrefixEnd(prefix []byte) []byte { return AppendPrefixEnd(nil, prefix) }

// AppendPrefixEnd appends PrefixEnd to dst; where there is none it returns nil.
func AppendPrefixEnd(dst, prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			dst = append(dst, prefix[:i+1]...)
			dst[len(dst)-1]++
			return dst
		}
	}
	return nil
}

// ScanRange is Scan over lower <= key < upper; a nil bound is open.
func (o *Ordered) ScanRange(lower, upper []byte, reverse bool, fn func(key, value []byte) bool) error {
	runs, err := o.runs(true)
	if err != nil {
		return err
	}
	return o.merge(runs, lower, upper, reverse, func(key, value []byte, deleted bool) bool {
		return deleted || fn(key, value)
	})
}

// Dirty calls fn for all uncommitted writes in key order until it returns false. The
// store must not be modified in it.
func (o *Ordered) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	runs, err := o.runs(false)
	if err != nil {
		return err
	}
	return o.merge(runs, nil, nil, false, fn)
}

// EndStep does nothing: the store keeps no old values.
func (o *Ordered) EndStep() {}

// Flush writes all changes since the last commit in ascending key order.
func (o *Ordered) Flush(b Batch) (err error) {
	var buf []byte
	walkErr := o.Dirty(func(key, value []byte, deleted bool) bool {
		buf = append(appendID(buf[:0], o.id), key...)
		if deleted {
			err = b.Delete(buf)
		} else {
			err = b.Set(buf, value)
		}
		return err == nil
	})
	if err == nil {
		err = walkErr
	}
	return err
}

// Committed says that the flushed batch is on its way to the disk and can be read; see Store.
func (o *Ordered) Committed() { o.endEpoch() }

// Rollback drops everything written since the last commit.
func (o *Ordered) Rollback() {
	o.undone++
	o.endEpoch()
}

// Rollbacks counts the rollbacks so far: what a user of the store has concluded from
// its contents holds no longer after one.
func (o *Ordered) Rollbacks() uint64 { return o.undone }

func (o *Ordered) endEpoch() {
	o.clearOverlay()
	var errs [3]error
	if o.db != nil {
		errs[0] = o.db.Close()
		o.db = nil
	}
	errs[1] = o.closeScratch()
	if o.spilled {
		errs[2] = o.env.scratch.DeleteRange(idBounds(o.id))
		o.spilled = false
	}
	for _, err := range errs {
		if err != nil && o.err == nil {
			o.err = err
		}
	}
}
