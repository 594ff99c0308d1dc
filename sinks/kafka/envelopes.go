package kafka

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources/debezium"
)

// Format is how the rows of a table are written.
type Format uint8

const (
	// Plain writes a JSON object of the columns, and a tombstone for a deleted row.
	Plain Format = iota
	// Debezium writes Debezium's change envelopes, without schema: u for a row that is
	// there (whether it was before is not known), r where the table is written as a
	// whole, d and then a tombstone for a deleted row. Under before a deleted row has its
	// key only.
	Debezium
	// DebeziumSchema is Debezium with Kafka Connect's schemas in front, which readers
	// need to tell decimals and times from texts and numbers.
	DebeziumSchema
)

// envelopes writes the rows of one output as Debezium's envelopes.
type envelopes struct {
	enc   *debezium.Encoder
	width int
	tuple record.Tuple
}

// setFormat makes what writes the output's rows.
func (o *output) setFormat(target string) error {
	if o.options.Format == Plain {
		return nil
	}
	fail := func(err error) error {
		return fmt.Errorf("%w: sinks/kafka: target %q, output %q: %w", sinks.ErrTargetSchema, target, o.Name, err)
	}
	if o.Append {
		return fail(fmt.Errorf("a stream has no rows; leave Format out"))
	}
	if o.options.Format > DebeziumSchema {
		return fail(fmt.Errorf("there is no format %d", o.options.Format))
	}
	table := debezium.Table{Name: o.Name}
	if !strings.Contains(o.Name, ".") {
		table.Name = "public." + o.Name
	}
	for i, c := range o.Columns {
		table.Columns = append(table.Columns, debezium.Column{Column: record.Column{
			Name: c.Name, Type: c.Type, TypeMod: -1, Key: i < o.KeyLen,
			// A deleted row is written with its key alone, so nothing else is always there.
			NotNull: i < o.KeyLen && !c.Nullable,
		}})
	}
	enc, err := debezium.NewEncoder(debezium.EncoderConfig{
		Prefix: target, Table: table, Modes: o.options.Modes, Schemas: o.options.Format == DebeziumSchema,
	})
	if err != nil {
		return fail(err)
	}
	o.envelopes = &envelopes{enc: enc, width: len(o.Columns), tuple: make(record.Tuple, len(o.Columns))}
	return nil
}

// row makes the record of a row, and the tombstone that follows a deleted one.
func (e *envelopes) row(
	o *output, it *sinks.Item, commit time.Time, whole bool,
) (r, tombstone *kgo.Record, err error) {
	clear(e.tuple)
	for i, text := range it.Columns {
		if i < e.width && text != nil {
			e.tuple[i] = record.Value{Kind: record.Text, Data: text}
		}
	}
	r = &kgo.Record{Topic: o.topic}
	if r.Key, err = e.enc.AppendKey(nil, e.tuple); err != nil {
		return nil, nil, fmt.Errorf("sinks/kafka: topic %s: key: %w", o.topic, err)
	}
	at := commit.UnixMicro()
	c := debezium.EncodedChange{Op: 'u', After: e.tuple, Time: at, Source: debezium.Source{Time: at}}
	switch {
	case it.Deleted:
		c.Op, c.Before, c.After = 'd', e.tuple, nil
		tombstone = &kgo.Record{Topic: o.topic, Key: bytes.Clone(r.Key), Timestamp: commit}
	case whole:
		c.Op, c.Source.Snapshot = 'r', debezium.InSnapshot
	}
	if r.Value, err = e.enc.AppendValue(nil, &c); err != nil {
		return nil, nil, fmt.Errorf("%w: sinks/kafka: topic %s: %w", sinks.ErrRejected, o.topic, err)
	}
	return r, tombstone, nil
}
