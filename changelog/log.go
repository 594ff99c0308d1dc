package changelog

import (
	"context"
	"errors"
	"time"
)

// Errors that a Log returns; test with errors.Is.
var (
	// ErrOutOfRange says that a log does not hold the offset that is asked for.
	ErrOutOfRange = errors.New("changelog: offset out of range")
	// ErrRecreated says that a topic is not the one that it was: it has another id.
	ErrRecreated = errors.New("changelog: topic was deleted and created again")
	// ErrNoTopic says that a topic, or a partition of it, does not exist.
	ErrNoTopic = errors.New("changelog: there is no such topic")
)

// Log reads the logs of a cluster. It is safe for concurrent use. It tries again by
// itself, until the context ends, what can pass: a leader that moves, a connection that
// is lost.
type Log interface {
	// Cluster returns the id of the cluster.
	Cluster(ctx context.Context) (string, error)
	// Topics describes topics. Those that do not exist are missing in the result.
	Topics(ctx context.Context, names []string) (map[string]TopicInfo, error)
	// Bounds returns, for each position in order, what its log holds now. Where a position
	// has an Epoch, the end of that epoch is looked up, too.
	Bounds(ctx context.Context, at []Position) ([]Bounds, error)
	// Read reads partitions on from the Next of their positions, which also have their
	// topics' ids.
	Read(ctx context.Context, from []Position) (Reader, error)
}

// TopicInfo describes a topic.
type TopicInfo struct {
	ID         TopicID
	Partitions int32
	// DeleteRetention is its delete.retention.ms, or the default where the settings may
	// not be read.
	DeleteRetention time.Duration
	// Compacted says that its clean-up policy has compact; true where it may not be read.
	Compacted bool
}

// Bounds is what a log holds.
type Bounds struct {
	// Start is the first offset.
	Start int64
	// End is the high watermark: behind the last record, be it committed, part of an open
	// transaction, or a control record.
	End int64
	// EpochEnd is the offset behind the last record of the position's epoch, or of the
	// last epoch before it that the log has; -1 where this is not known. If it is lower
	// than the position, what lay between was cut off and perhaps written anew.
	EpochEnd int64
}

// Reader reads partitions of logs, read_committed. It is used by one goroutine.
type Reader interface {
	// Next returns what was read, waiting for a while at the ends of the logs; then there
	// may be nothing, or chunks without records. Chunks of one partition come in order, and
	// are valid until the next call. Errors are ErrOutOfRange and ErrRecreated, as
	// *PartitionError, and those of the context.
	Next(ctx context.Context) ([]Chunk, error)
	Close()
}

// Chunk is a stretch of a partition.
type Chunk struct {
	Partition
	// Records are the committed records in it, without control records.
	Records []Record
	// Next is the offset behind the stretch: aborted, compacted and control records are
	// behind the reader as well.
	Next int64
	// Epoch is the leader epoch of the last record of the stretch, -1 if unknown.
	Epoch int32
	// Stable is the log's last stable offset when the stretch was read: nothing committed
	// lies before it and at or behind Next once Next has come to it.
	Stable int64
}

// Record is a change of one key.
type Record struct {
	Offset int64
	Key    []byte
	// Value is nil in a tombstone.
	Value []byte
}

// PartitionError is an error of one partition.
type PartitionError struct {
	Partition
	Err error
}

func (e *PartitionError) Error() string { return e.Partition.String() + ": " + e.Err.Error() }
func (e *PartitionError) Unwrap() error { return e.Err }
