// Package state keeps what a topology remembers: a key-value database on disk or
// in memory, and above it the typed write-back stores that operators use.
//
// Committed data lives in a [DB]. What a running epoch writes lives only in the
// typed stores ([Table], [Ordered]) until the epoch is sealed into a [Batch] that
// also carries the checkpoint; so a crash can leave the state behind the source
// but never ahead of it (invariant S1 of ARCHITECTURE.md).
package state

import "errors"

// Errors that a DB returns; test with errors.Is.
var (
	// ErrLocked says that another process has the state directory open.
	ErrLocked = errors.New("state: directory is in use by another process")
	// ErrMismatch says that a state directory belongs to something else: another
	// app, topology, source system or a newer format. The message says which.
	ErrMismatch = errors.New("state: directory belongs to something else")
	// ErrDiskFull says that the file system has too little room to go on.
	ErrDiskFull = errors.New("state: disk full")
	// ErrCorrupt says that stored bytes fail their checksum or cannot be decoded.
	ErrCorrupt = errors.New("state: corrupt")
)

// Reader reads committed key-value pairs. Implementations are safe for
// concurrent use.
type Reader interface {
	// Get appends the value of key to dst. ok is false, and dst unchanged, where
	// the key is absent.
	Get(dst, key []byte) (value []byte, ok bool, err error)
	// NewIter returns an iterator over lower <= key < upper; a nil bound is open.
	// It sees the data committed when it was made.
	NewIter(lower, upper []byte) (Iter, error)
}

// Iter walks keys in ascending byte order. Its methods report whether it stands
// on a pair; Key and Value are valid until the next move.
type Iter interface {
	First() bool
	Last() bool
	// SeekGE moves to the first key at or after key.
	SeekGE(key []byte) bool
	// SeekLT moves to the last key before key.
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Valid() bool
	Key() []byte
	Value() []byte
	// Error is the first error met; a walk that ended must look at it.
	Error() error
	Close() error
}

// Batch collects the writes of one commit. A batch may be larger than memory: the
// implementation spills, which is why Set and Delete come in ascending key order
// and each key at most once (the task guarantees it).
type Batch interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	// Len is the number of bytes written so far.
	Len() int
	// Close releases a batch; committing it first makes its writes durable.
	Close() error
}

// Snapshot is a Reader of one committed moment.
type Snapshot interface {
	Reader
	Close() error
}

// DB is an ordered key-value database with atomic commits.
type DB interface {
	Reader
	NewBatch() Batch
	// Commit applies all writes of the batch or none. With sync it returns once
	// they would survive a power loss. After an error it is not known which of the
	// two happened: stop, open the DB again and go on from the checkpoint in it.
	Commit(b Batch, sync bool) error
	// Apply is Commit with sync in two halves: it returns once readers see the batch,
	// and durable once it would survive a power loss. durable must be called before the
	// batch is closed; until it has returned, nothing that the batch says may be told
	// to the world. Errors mean what they mean of Commit.
	Apply(b Batch) (durable func() error, err error)
	NewSnapshot() Snapshot
	// DeleteRange removes lower <= key < upper, atomically and durably.
	DeleteRange(lower, upper []byte) error
	Close() error
}
