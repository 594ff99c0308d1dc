package debezium

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// Defaults of Config.
const (
	DefaultHeartbeatPrefix  = "__debezium-heartbeat"
	DefaultMetadataPrefix   = "__"
	DefaultTransactionTopic = "transaction"
	DefaultHeartbeatLag     = time.Minute
)

// Config says what a decoder reads.
type Config struct {
	// Prefix is the connector's topic.prefix. It is needed to find tables by their
	// topics, and the transaction topic.
	Prefix string
	// Tables are the tables to read. Records of others are Ignored. Nil reads every table
	// whose records carry a schema.
	Tables []Table
	// Modes are the connector's, for records without schema.
	Modes Modes
	// HeartbeatPrefix is topic.heartbeat.prefix, default __debezium-heartbeat.
	HeartbeatPrefix string
	// HeartbeatLag is how far the connector may be behind the source: a heartbeat says when it
	// was sent, and moves stream time to that less this. Rows that are later still are late for
	// windows that have closed. Defaults to a minute.
	HeartbeatLag time.Duration
	// TransactionTopic is the whole name of the transaction topic. Default: the prefix and
	// ".transaction".
	TransactionTopic string
	// MetadataPrefix is add.fields.prefix of flattened records, default __.
	MetadataPrefix string
	// Plain says that records are no changes but rows: the value is a row as it is now, null
	// deletes it, and the key is what Table.KeyColumns says. It is for topics of other
	// producers; sources/kafka reads them with it. A row's member that is missing is NULL.
	Plain bool
	// Partial says that a column that is not in a record has kept its value, as with
	// drop.fields.header.name. By default such a record is refused with ErrMissing.
	Partial bool
	// SinglePartition says that all keys of a table lie in one partition, so that both
	// halves of a key change arrive in order: they become one update then, which keeps
	// large values that the connector left out.
	SinglePartition bool
	// Undecodable says what Topics does with records that cannot be decoded. The zero value
	// stops at the first.
	Undecodable sources.Undecodable
	// AcceptLossy are columns, as schema.table.column, that are read although the
	// connector's format loses some of their values: see ErrLossy.
	AcceptLossy []string
}

// Decoder decodes the records of Debezium's topics, in every dialect that carries JSON.
// It keeps what it learns of the tables, and is used by one goroutine.
type Decoder struct {
	cfg    Config
	modes  Modes
	lossy  map[string]bool
	topics map[string]*topic
	// last is the topic of the record before, which mostly is that of the next, too.
	last *topic
	v    values
	meta metadata
	// learned says that a record's key has named a column that was not read before it.
	learned bool
}

// NewDecoder makes a decoder. The error lists all that is wrong with the configuration.
func NewDecoder(cfg Config) (*Decoder, error) {
	modes, err := cfg.Modes.withDefaults()
	errs := []error{err}
	if cfg.HeartbeatPrefix == "" {
		cfg.HeartbeatPrefix = DefaultHeartbeatPrefix
	}
	if cfg.MetadataPrefix == "" {
		cfg.MetadataPrefix = DefaultMetadataPrefix
	}
	if cfg.TransactionTopic == "" && cfg.Prefix != "" {
		cfg.TransactionTopic = cfg.Prefix + "." + DefaultTransactionTopic
	}
	d := &Decoder{cfg: cfg, modes: modes, lossy: map[string]bool{}, topics: map[string]*topic{}}
	for _, name := range cfg.AcceptLossy {
		d.lossy[name] = true
	}
	for i := range cfg.Tables {
		t := &cfg.Tables[i]
		schema, name := t.schemaAndName()
		if schema == "" || name == "" {
			errs = append(errs, fmt.Errorf("debezium: table %q: give the schema, too, as in public.orders", t.Name))
			continue
		}
		at := t.Topic
		if at == "" {
			at = topicName(cfg.Prefix, t.Name)
		}
		d.topicNamed(at).add(t)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

// Topics returns the topics of the tables, and the transaction topic if it has a name.
func (d *Decoder) Topics() []string {
	var names []string
	for name, t := range d.topics {
		if len(t.tables) > 0 {
			names = append(names, name)
		}
	}
	if d.cfg.TransactionTopic != "" {
		names = append(names, d.cfg.TransactionTopic)
	}
	return names
}

// Reset gives up the memory of all events so far: none of them may be looked at again.
func (d *Decoder) Reset() { d.v.reset() }
