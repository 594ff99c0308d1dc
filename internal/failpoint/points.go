package failpoint

import "slices"

// The crash points. Each is hit at exactly one kind of place; the comment says what
// is durable when it is reached.
const (
	// Received: a whole transaction has been received, nothing of it applied (DP1).
	Received = "dp1-received"
	// MidTransaction: a piece of a large transaction is applied, and more is to come (DP2).
	MidTransaction = "dp2-mid-transaction"
	// StateSpill: a store has moved what a transaction wrote to scratch space (DP2).
	StateSpill = "dp2-spill"
	// StateIngest: the sorted tables of a large commit are written, and not yet the
	// database's (DP2).
	StateIngest = "dp2-ingest"
	// StateIngested: they are the database's, and nobody else knows it yet (DP2).
	StateIngested = "dp2-ingested"
	// BatchSync: the state batch is built, its synced commit not yet asked for (DP3).
	BatchSync = "dp3-batch-sync"
	// BatchApplied: the state batch can be read, and is not known to be durable (DP3).
	BatchApplied = "dp3-batch-applied"
	// BeforeAck: the state batch is durable, the slot not yet acknowledged (DP4).
	BeforeAck = "dp4-before-ack"
	// AfterAck: the acknowledgement has been sent (DP5).
	AfterAck = "dp5-after-ack"
	// AfterAckServer: as AfterAck; the suite kills the server instead, before the
	// slot is persisted (DP6).
	AfterAckServer = "dp6-after-ack-server"
	// SinkApplied: the target has the epochs, the queue is not yet trimmed (DP7).
	SinkApplied = "dp7-sink-applied"
	// SinkCommit: rows and progress are written in the sink's transaction and its
	// COMMIT is about to be sent: with SinkCommitted the two ends of an unknown
	// outcome (DP8).
	SinkCommit = "dp8-sink-commit"
	// SinkCommitted: COMMIT was answered, nothing here knows it yet (DP8).
	SinkCommitted = "dp8-sink-committed"
	// SnapshotTable: a table of the snapshot is complete (DP9).
	SnapshotTable = "dp9-snapshot-table"
	// SnapshotRows: a table of the snapshot is partly read (DP9).
	SnapshotRows = "dp9-snapshot-rows"
	// SnapshotSwitch: the snapshot is complete, its commit not yet made (DP9).
	SnapshotSwitch = "dp9-snapshot-switch"
	// SnapshotDone: the snapshot is durable, streaming has not begun (DP9).
	SnapshotDone = "dp9-snapshot-done"
	// SlotCreated: the slot exists, there is no checkpoint yet (DP10).
	SlotCreated = "dp10-slot-created"
	// Reconnect: about to start replication again after a lost connection (DP11).
	Reconnect = "dp11-reconnect"
	// SinkReconcile: a reconciling sink transaction has staged its rows and not yet
	// deleted what is not staged (DP12).
	SinkReconcile = "dp12-sink-reconcile"
	// FileWritten: the file sink's events are written and synced, the new length is
	// not yet recorded.
	FileWritten = "file-written"
	// FileTorn: part of what an Apply of the file sink writes is in the file.
	FileTorn = "file-torn"
	// JoinerSync: the batch of topologies that are on their way to the others is built, its
	// commit not yet asked for.
	JoinerSync = "joiner-sync"
	// Joining: topologies are where the others are, the commit by which they join is not
	// yet built.
	Joining = "joining"
)

// points are the names that a specification may use, so that a misspelt one is an
// error instead of a run that tests nothing.
var points = []string{
	Received, MidTransaction, StateSpill, StateIngest, StateIngested, BatchSync, BatchApplied,
	BeforeAck, AfterAck, AfterAckServer, SinkApplied, SinkCommit, SinkCommitted, SnapshotTable,
	SnapshotRows, SnapshotSwitch, SnapshotDone, SlotCreated, Reconnect, SinkReconcile,
	FileWritten, FileTorn, JoinerSync, Joining,
}

// Points returns the names of all crash points.
func Points() []string { return append([]string(nil), points...) }

// The crash points of dead letters that are tried again.
const (
	// Replaying: nodes have had theirs again, what comes of it is not yet being committed.
	Replaying = "replaying"
	// ReplayingRefused: a target's are about to be queued again.
	ReplayingRefused = "replaying-refused"
)

var replayPoints = []string{Replaying, ReplayingRefused}

// The crash points of Kafka mode, numbered as CP1 to CP19 of the design.
const (
	// KafkaPolled is after records were polled and computed, before the transaction.
	KafkaPolled = "cp1-polled"
	// KafkaProducing is after the records of a task, which need not be the last.
	KafkaProducing = "cp2-producing"
	// KafkaProduced is after all records of a transaction were handed to the client.
	KafkaProduced = "cp3-produced"
	// KafkaCommitted is after the transaction has committed, before anything is on the disk.
	KafkaCommitted = "cp9-committed"
	// KafkaApplied is after the state is on the disk.
	KafkaApplied = "cp11-applied"
	// KafkaAssigned is between an assignment and the end of the restoring.
	KafkaAssigned = "cp14-assigned"
	// KafkaClosing is amid a graceful end.
	KafkaClosing = "cp19-closing"
)

var kafkaPoints = []string{
	KafkaPolled, KafkaProducing, KafkaProduced, KafkaCommitted, KafkaApplied, KafkaAssigned,
	KafkaClosing,
}

// known reports whether a specification may use a name.
func known(name string) bool {
	return slices.Contains(slices.Concat(points, replayPoints, kafkaPoints), name)
}

// KafkaPoints returns the names of the crash points of Kafka mode.
func KafkaPoints() []string { return append([]string(nil), kafkaPoints...) }
