package state

import "github.com/tailrace/tailrace/record"

// Env is what the typed stores of one task share.
type Env struct {
	// DB is the committed state.
	DB Reader
}

// Store is a typed store as a task sees it. Its writes stay in memory until Flush
// hands them to the epoch's batch.
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

var _ = record.HasOld
