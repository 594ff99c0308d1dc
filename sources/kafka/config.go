// Package kafka reads tables and streams from topics of a Kafka cluster that are written by
// any producer, for Kafka mode. A record is a row as it is now: its value has the columns,
// its key says which row it is, and a record without a value deletes that. (Topics of
// Debezium hold changes instead: sources/debezium reads those.)
//
//	cfg.Bind("shop", kafka.Topics(kafka.Config{Topics: []kafka.Topic{
//		{Table: "public.orders", Topic: "orders"},
//		{Table: "public.clicks", Topic: "clicks", Start: sources.Start{Latest: true}},
//	}}))
//
// What a topic is, the topology says: sources.Table and GlobalTable keep the latest row of
// each key, of a compacted topic; for sources.Stream each record is a fact. docs/topics.md has
// the details.
package kafka

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/tailrace/tailrace/serde/registry"
	"github.com/tailrace/tailrace/sources"
)

// Format says how keys or values are written.
type Format uint8

// The formats of keys and values.
const (
	// Auto is JSON for values and keys of several columns, Text for other keys.
	Auto Format = iota
	// JSON is an object with a member for each column; of a key it may be the value alone.
	// A schema of Kafka Connect in front ("schema", "payload") gives the columns types.
	JSON
	// Text is the value itself, as Kafka's StringSerializer writes it.
	Text
	// Bytes is the value itself; the column is a bytea.
	Bytes
	// Int32 and Int64 are what Kafka's IntegerSerializer and LongSerializer write.
	Int32
	Int64
	// Registry is Avro or JSON Schema with the id of a schema registry in front.
	Registry
)

// Defaults of Topic.
const (
	// DefaultKey is the column that a key of one value is.
	DefaultKey = "key"
	// ValueColumn is the column of a value that is no object: Text, Bytes, Int32 and Int64.
	ValueColumn = "value"
)

// Config says which topics hold the tables of a database.
type Config struct {
	// Topics are the topics that are not as Topic's zero value says. Tables that are not
	// among them lie in the topic that their name without its schema names: public.orders
	// in orders.
	Topics []Topic
	// Key and Value are how keys and values are written where a Topic does not say. Defaults
	// to Auto.
	Key, Value Format
	// Registry gives the schemas for Registry: an *sr.Client is one. Its errors, and those of
	// the way to it, end the member's session, and the next one tries again.
	Registry registry.Source
	// Undecodable says what becomes of records that cannot be decoded. The zero value stops
	// at the first.
	Undecodable sources.Undecodable
}

// Topic is a topic that holds a table. All fields but Table have defaults.
type Topic struct {
	// Table is the name that the topology reads, schema.table.
	Table string
	// Topic is the topic's name. Defaults to Table without its schema.
	Topic string
	// Key and Value are how keys and values are written. Defaults to those of Config.
	Key, Value Format
	// KeyColumn is the column that the key is, where the key type is a single value; the
	// value may have it too, and then the key counts. Defaults to "key".
	KeyColumn string
	// Start is where the topic is begun with as long as the app's group has no offsets in
	// it. Defaults to the beginning, which a table needs.
	Start sources.Start
}

// String says which configuration it is; a registry may carry secrets.
func (c Config) String() string { return fmt.Sprintf("%d topics", len(c.Topics)) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// topic is what the configuration says of a table, with all defaults.
func (c *Config) topic(table string) Topic {
	t := Topic{Table: table}
	for _, other := range c.Topics {
		if other.Table == table {
			t = other
		}
	}
	if t.Topic == "" {
		_, t.Topic, _ = strings.Cut(table, ".")
	}
	if t.KeyColumn == "" {
		t.KeyColumn = DefaultKey
	}
	if t.Key == Auto {
		t.Key = c.Key
	}
	if t.Value == Auto {
		t.Value = c.Value
	}
	if t.Value == Auto {
		t.Value = JSON
	}
	return t
}

// Registry's client is one of franz-go.
var _ registry.Source = (*sr.Client)(nil)
