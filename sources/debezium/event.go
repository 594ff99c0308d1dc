package debezium

import (
	"github.com/tailrace/tailrace/record"
)

// Record is a record of a Kafka topic. A nil Value is a tombstone.
type Record struct {
	Topic      string
	Key, Value []byte
	Headers    []Header
	// Time is the record's timestamp in Unix microseconds.
	Time int64
}

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Kind says what a record is.
type Kind uint8

// The kinds of records.
const (
	// Row is a change of a row, or a truncate.
	Row Kind = iota + 1
	// Tombstone follows a delete so that compaction removes its key. It is a delete of
	// its own: of a compacted topic it may be all that is left. Where rows are events it
	// says nothing new.
	Tombstone
	// Begin and End bound a transaction.
	Begin
	End
	// Heartbeat says that the connector is alive: time passes.
	Heartbeat
	// Message is a logical decoding message.
	Message
	// Ignored is what nobody asked for: another table, a schema change, the first half of
	// a key change under Config.SinglePartition.
	Ignored
)

// Event is what a record says. Its bytes lie in the record or in the decoder, and are
// valid as long as both: until the decoder's Reset.
type Event struct {
	Kind Kind
	// Row is the row event of Row and Tombstone. The decoder does not set its Ordinal.
	// Old has the key columns (record.OldKey) of a delete; of an update only where the
	// key changed. All of it is there under record.IdentityFull.
	Row record.Row
	// Moved are the key columns of the other half of a key change: of the new key in a
	// delete, of the old one in an insert. nil otherwise.
	Moved record.Tuple
	// Unavailable says that a column of Row.New is record.Unchanged.
	Unavailable bool
	// Source says where in the source the record is from, as far as it tells.
	Source Source
	// Tx places the record in its transaction, as far as the connector tells.
	Tx Tx
	// Boundary describes Begin and End.
	Boundary Boundary
	// Message is the content of Message.
	Message record.Message
	// Time is the connector's clock in Unix microseconds, 0 where the record has none.
	Time int64
}

// Source is the source block of a record.
type Source struct {
	Version, Connector, Name, DB, Schema, Table []byte
	// Time is the commit time, of a snapshot row the time it was read, in Unix
	// microseconds.
	Time     int64
	Snapshot Snapshot
	// XID is the transaction's id, 0 where the record has none.
	XID uint32
	// LSN is the row's own position. Within a transaction it rises, but for the rows of
	// one COPY, which share it; it does not from one transaction to the next.
	LSN uint64
	// CommitLSN is where the transaction before this one ended, 0 where unknown.
	CommitLSN uint64
	Origin    []byte
	OriginLSN uint64
	// Raw is the block itself, for the members that other databases' connectors add.
	// nil where the record has none.
	Raw []byte
}

// Snapshot says whether and where in a snapshot a row lies.
type Snapshot uint8

// The places of a row in a snapshot.
const (
	Streamed Snapshot = iota
	InSnapshot
	FirstInSnapshot
	FirstInTable
	LastInTable
	LastInSnapshot
	Incremental
)

// Tx is a record's transaction block.
type Tx struct {
	// ID is the id as it stands there: of PostgreSQL the transaction's id and the record's
	// own position, so it differs from record to record. XID is the part that does not.
	ID  []byte
	XID uint32
	// TotalOrder counts the transaction's records from 1, CollectionOrder those of the
	// table; 0 where the record has no block. After a restart of the connector they begin
	// at 1 again.
	TotalOrder, CollectionOrder int64
}

// Boundary is a record of the transaction topic.
type Boundary struct {
	// Count is the number of records in the transaction, of an End. Rows of tables that
	// the connector leaves out, tombstones, and what it sent before a restart are not in
	// it; a key change counts twice.
	Count int64
	// Collections are the counts by table. The slice is reused.
	Collections []Collection
	// Time is the commit time in Unix microseconds.
	Time int64
}

// Collection is a table's share in a transaction.
type Collection struct {
	// Name is schema.table.
	Name  []byte
	Count int64
}

func (ev *Event) reset() {
	*ev = Event{Boundary: Boundary{Collections: ev.Boundary.Collections[:0]}}
}
