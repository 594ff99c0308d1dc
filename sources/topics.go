package sources

import (
	"time"

	"github.com/tailrace/tailrace/record"
)

// TopicReader is a Connector of tables whose changes or rows lie in topics of a Kafka cluster: what
// Kafka mode reads. Each record counts as a transaction of its own.
type TopicReader interface {
	Connector
	// Topic returns the name of the topic that holds a table's changes.
	Topic(table string) string
	// Decoder makes the decoder of a table's records. Each is used by one goroutine.
	Decoder(req TableRequest) (TopicDecoder, error)
}

// HeartbeatReader is a TopicReader whose source writes heartbeats to a topic, so that time
// passes where no rows come.
type HeartbeatReader interface {
	TopicReader
	// Heartbeats returns the name of the topic, "" if there is none, and what reads its
	// records: up to when, in Unix microseconds, all rows have been written that were committed.
	Heartbeats() (topic string, at func(r *TopicRecord) (int64, error))
}

// TopicDecoder turns records of one table's topic into rows.
type TopicDecoder interface {
	// Decode reads a record. The rows, and the bytes that they point to, are valid until
	// the next call. A record without meaning for the table, such as the tombstone behind
	// a deletion, gives no rows and no error. An error is an ErrDecode or ErrSchema.
	Decode(r *TopicRecord) (TopicRows, error)
}

// TopicRecord is a record of a topic as the cluster holds it.
type TopicRecord struct {
	Topic     string
	Partition int32
	Offset    int64
	// Time is the record's timestamp in Unix microseconds.
	Time int64
	// Key and Value are nil where the record has none.
	Key, Value []byte
	Headers    []TopicHeader
}

// TopicHeader is a header of a record.
type TopicHeader struct {
	Key   string
	Value []byte
}

// TopicRows is what a record says.
type TopicRows struct {
	Rows []record.Row
	// CommitTime is when the source committed, in Unix microseconds; 0 where the record
	// does not tell, and then its timestamp counts.
	CommitTime int64
	// XID is the source's id of the transaction, 0 if unknown.
	XID uint32
	// Snapshot says that the rows were there before the source's log was read.
	Snapshot bool
	// Headers are what of the record's headers belongs to the rows: the topology sees them
	// as record.Tx.Headers, and events that come of them carry them on.
	Headers []TopicHeader
}

// Start says where a topic is begun with that the app's group has no offsets in. The zero
// value is its beginning.
type Start struct {
	// Latest begins behind what the topic holds then.
	Latest bool
	// Time begins with the first record of each partition whose timestamp is not before it.
	Time time.Time
}

// StartReader is a TopicReader that does not always begin at the beginning. A table has to.
type StartReader interface {
	TopicReader
	// Start says where a table's topic is begun with.
	Start(table string) Start
}
