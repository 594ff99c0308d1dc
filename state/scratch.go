package state

import (
	"bytes"
	"errors"
)

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
// removes it again. It has no log, syncs nothing and compresses nothing. The options'
// cache, memtable and batch size are 8, 4 and 2 MiB by default.
func OpenScratch(dir string, o Options) (Scratch, error) {
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 4 << 20
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 2 << 20
	}
	o = o.withDefaults()
	o.FS = unsyncedFS{o.FS}
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
	return &pebbleScratch{p: p}, nil
}

// pebbleScratch collects ascending writes, as stores make them, in a run, which reads
// apply first. A large run becomes sorted tables without passing through a memtable.
type pebbleScratch struct {
	p    *pebbleDB
	run  Batch
	last []byte // the run's last key
}

func (s *pebbleScratch) Set(key, value []byte) error {
	if s.run != nil && bytes.Compare(key, s.last) <= 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.run == nil {
		s.run = s.p.NewBatch()
	}
	s.last = append(s.last[:0], key...)
	return s.run.Set(key, value)
}

func (s *pebbleScratch) flush() error {
	if s.run == nil {
		return nil
	}
	run := s.run
	s.run = nil
	return errors.Join(s.p.Commit(run, false), run.Close())
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
	var err error
	if s.run != nil {
		err = s.run.Close()
		s.run = nil
	}
	if e := s.p.Close(); err == nil {
		err = e
	}
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
