package state

import "github.com/cockroachdb/pebble/v2"

// Scratch is a throw-away ordered key-value space for uncommitted data that does
// not fit in memory. Nothing in it needs to survive anything. It is used by one
// goroutine at a time, but its iterators see what was there when they were made.
type Scratch interface {
	Reader
	Set(key, value []byte) error
	// DeleteRange removes lower <= key < upper.
	DeleteRange(lower, upper []byte) error
	Close() error
}

// OpenScratch makes scratch space in a directory, removing what is in it; Close
// removes it again. It has no log and syncs nothing. The options' cache and
// memtable are 8 and 16 MiB by default.
func OpenScratch(dir string, o Options) (Scratch, error) {
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	o = o.withDefaults()
	if err := o.FS.RemoveAll(dir); err != nil && !isNotExist(err) {
		return nil, wrapStorageError(dir, err)
	}
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, wrapStorageError(dir, err)
	}
	p, err := openPebble(dir, o, true)
	if err != nil {
		return nil, err
	}
	return &pebbleScratch{p: p, batch: p.db.NewBatch()}, nil
}

// pebbleScratch collects writes in a batch, which reads apply first.
type pebbleScratch struct {
	p     *pebbleDB
	batch *pebble.Batch
}

const scratchBatchBytes = 1 << 20

func (s *pebbleScratch) Set(key, value []byte) error {
	if err := s.batch.Set(key, value, nil); err != nil {
		return s.p.wrap(err)
	}
	if s.batch.Len() < scratchBatchBytes {
		return nil
	}
	return s.flush()
}

func (s *pebbleScratch) flush() error {
	if s.batch.Empty() {
		return nil
	}
	if err := s.p.checkRoom(s.batch.Len()); err != nil {
		return err
	}
	b := s.batch
	err := s.p.guarded(func() error { return s.p.db.Apply(b, pebble.NoSync) })
	if err != nil {
		return err
	}
	b.Reset()
	return nil
}

func (s *pebbleScratch) DeleteRange(lower, upper []byte) error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.p.DeleteRange(lower, upper)
}

func (s *pebbleScratch) Get(dst, key []byte) ([]byte, bool, error) {
	if err := s.flush(); err != nil {
		return dst, false, err
	}
	return s.p.Get(dst, key)
}

func (s *pebbleScratch) NewIter(lower, upper []byte) (Iter, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	return s.p.NewIter(lower, upper)
}

func (s *pebbleScratch) Close() error {
	err := s.p.Close()
	if e := s.p.opts.FS.RemoveAll(s.p.dir); err == nil && e != nil {
		err = s.p.wrap(e)
	}
	return err
}

// NewMemoryScratch returns scratch space in memory, for tests: it bounds nothing.
func NewMemoryScratch() Scratch { return &memoryScratch{} }

type memoryScratch struct{ memory }

func (s *memoryScratch) Set(key, value []byte) error {
	k, v := append([]byte(nil), key...), append([]byte(nil), value...)
	s.root.Store(s.root.Load().set(k, v, treapPriority(k)))
	return nil
}
