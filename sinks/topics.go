package sinks

import (
	"context"
	"time"
)

// TopicWriter is a Connector whose outputs are topics of a Kafka cluster: in Kafka mode
// their records are written in the same transactions as everything else.
type TopicWriter interface {
	Connector
	// Encoder makes what turns items into records, and reports everything that is wrong
	// with the outputs.
	Encoder(req OpenRequest) (TopicEncoder, error)
}

// TopicEncoder turns what sinks put out into records. It is used by one goroutine.
type TopicEncoder interface {
	// Prepare checks the topics, and creates what may be created. cluster is the id of the
	// cluster that the app runs on, which has to be theirs.
	Prepare(ctx context.Context, cluster string) error
	// Encode makes the record of a row or an event. at is its transaction's commit time.
	Encode(item *Item, at time.Time) (TopicRecord, error)
}

// TopicRecord is a record to be written; the key decides on its partition.
type TopicRecord struct {
	Topic string
	// Key and Value are new for each record; a nil value deletes the key.
	Key, Value []byte
	Headers    []TopicHeader
	Time       time.Time
}

// TopicHeader is a header of a record.
type TopicHeader struct {
	Key   string
	Value []byte
}
