package state

import "sync/atomic"

// Budget is a bound on the memory that stores take for decoded and uncommitted
// data. It is shared by all tasks of a process and safe for concurrent use. Stores
// first let go of what they can read again, then write uncommitted data to scratch
// space; what a single call needs may exceed the bound for a moment.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of so many bytes; 0 or less means no bound.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is the number of bytes in use.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Limit is the bound in bytes, 0 for none.
func (b *Budget) Limit() int64 {
	if b == nil || b.limit < 0 {
		return 0
	}
	return b.limit
}

// add takes n bytes more (or gives back, below zero), and reports whether the
// bound is exceeded.
func (b *Budget) add(n int64) bool {
	if b == nil {
		return false
	}
	return b.used.Add(n) > b.limit && b.limit > 0
}

func (b *Budget) exceeded() bool {
	return b != nil && b.limit > 0 && b.used.Load() > b.limit
}

// Scratch is a throw-away ordered key-value space for uncommitted data that does
// not fit in memory. What is in it need not survive anything.
type Scratch interface {
	Reader
	Set(key, value []byte) error
	// DeleteRange removes lower <= key < upper.
	DeleteRange(lower, upper []byte) error
	Close() error
}

// reliever is a store that can give memory back between calls.
type reliever interface {
	Bytes() int64
	// relieve brings the store's memory down as far as it can; the values that the
	// last call returned stay valid.
	relieve() error
}
