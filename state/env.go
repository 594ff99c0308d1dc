package state

import "github.com/tailrace/tailrace/record"

// Env is what the typed stores of one task share. The stores of one Env are used
// by one goroutine at a time.
type Env struct {
	// DB is the committed state.
	DB Reader
	// Memory bounds what all stores of the process keep decoded; nil means no
	// bound.
	Memory *Budget
	// Scratch opens the space that stores write to when an uncommitted epoch
	// outgrows Memory; nil means that they never do, so that such an epoch stays in
	// memory whatever its size.
	Scratch func() (Scratch, error)

	scratch Scratch
	stores  []reliever
}

// Store is a typed store as a task sees it. Its writes stay in memory (or in
// scratch space) until Flush hands them to the epoch's batch.
type Store interface {
	// ID is the store's key prefix in the DB, four big-endian bytes.
	ID() uint32
	// EndStep forgets the old values of the step.
	EndStep()
	// Flush writes all changes since the last commit in ascending key order.
	Flush(b Batch) error
	// Committed says that the flushed batch is durable.
	Committed()
	// Rollback drops everything written since the last commit.
	Rollback()
}

// Versions and changes are the record package's, so that an operator hands on what
// a table yields without conversion.
var (
	_ = record.HasOld
	_ = record.HasNew
)

// appendID appends a store's key prefix.
func appendID(dst []byte, id uint32) []byte {
	return append(dst, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// idBounds returns the half-open key range of a store; the upper bound is nil
// after the last possible id.
func idBounds(id uint32) (lower, upper []byte) {
	lower = appendID(nil, id)
	if id != 1<<32-1 {
		upper = appendID(nil, id+1)
	}
	return lower, upper
}
