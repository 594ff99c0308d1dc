package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/debezium"
)

// Topics returns a connector that reads tables from topics, for Kafka mode. It contacts
// nothing; the brokers are those of the app.
func Topics(cfg Config) sources.Connector { return &connector{cfg} }

type connector struct{ cfg Config }

// Open implements sources.Connector: topics are read in Kafka mode only.
func (c *connector) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	return nil, fmt.Errorf("%w: sources/kafka: database %q is read from topics, which needs Kafka mode; "+
		"set Config.Kafka, or bind a connector to the database itself", sources.ErrConfig, req.Database)
}

// Drop implements sources.Connector: nothing of an app is left in the topics.
func (c *connector) Drop(context.Context, sources.DropRequest) error { return nil }

// Topic implements sources.TopicReader.
func (c *connector) Topic(table string) string { return c.cfg.topic(table).Topic }

// Start implements sources.StartReader.
func (c *connector) Start(table string) sources.Start { return c.cfg.topic(table).Start }

// Undecodable implements sources.UndecodableReader.
func (c *connector) Undecodable() sources.Undecodable { return c.cfg.Undecodable }

// Decoder implements sources.TopicReader.
func (c *connector) Decoder(req sources.TableRequest) (sources.TopicDecoder, error) {
	t := c.cfg.topic(req.Name)
	keys := req.KeyColumns
	switch {
	case t.Key == Auto && len(keys) > 0:
		t.Key = JSON
	case t.Key == Auto:
		t.Key = Text
	case len(keys) > 0 && t.Key != JSON && t.Key != Registry:
		return nil, fmt.Errorf("%w: sources/kafka: table %s: the key type has the columns %v, and the key is a "+
			"single value (Topic.Key); use a key type that is one, too", sources.ErrConfig, req.Name, keys)
	}
	if len(keys) == 0 {
		keys = []string{t.KeyColumn}
	}
	d, err := debezium.NewDecoder(debezium.Config{Plain: true, Tables: []debezium.Table{{
		Name: req.Name, Topic: t.Topic, Read: req.Columns, KeyColumns: keys, InsertsOnly: !req.Changes,
	}}})
	if err != nil {
		return nil, err
	}
	out := &decoder{rows: d}
	out.key, err = c.form(t.Key, t.Topic)
	var errV error
	out.value, errV = c.form(t.Value, t.Topic)
	out.alone = t.Value != JSON && t.Value != Registry
	if err := errors.Join(err, errV); err != nil {
		return nil, fmt.Errorf("sources/kafka: table %s: %w", req.Name, err)
	}
	return out, nil
}

// decoder reads the records of one table's topic.
type decoder struct {
	rows       *debezium.Decoder
	key, value form
	// alone says that a value is one column.
	alone  bool
	record debezium.Record
	event  debezium.Event
	out    sources.TopicRows
	// json are the key and the value in JSON.
	json [2][]byte
}

// Decode implements sources.TopicDecoder.
func (d *decoder) Decode(r *sources.TopicRecord) (sources.TopicRows, error) {
	d.rows.Reset()
	key, err := d.text(0, d.key, r.Key)
	if err != nil {
		return sources.TopicRows{}, fmt.Errorf("sources/kafka: key: %w", err)
	}
	value, err := d.text(1, d.value, r.Value)
	if err != nil {
		return sources.TopicRows{}, fmt.Errorf("sources/kafka: value: %w", err)
	}
	d.record = debezium.Record{Topic: r.Topic, Key: key, Value: value, Time: r.Time}
	ev := &d.event
	if err := d.rows.Decode(&d.record, ev); err != nil {
		return sources.TopicRows{}, err
	}
	d.out = sources.TopicRows{Rows: d.out.Rows[:0], Headers: r.Headers}
	if ev.Kind == debezium.Row || ev.Kind == debezium.Tombstone {
		d.out.Rows = append(d.out.Rows, ev.Row)
	}
	return d.out, nil
}

// text returns bytes in JSON; nil stays nil.
func (d *decoder) text(side int, f form, b []byte) ([]byte, error) {
	if b == nil || f == nil {
		return b, nil
	}
	dst := d.json[side][:0]
	alone := side == 1 && d.alone
	if alone {
		dst = append(dst, `{"`+ValueColumn+`":`...)
	}
	dst, err := f(dst, b)
	if alone {
		dst = append(dst, '}')
	}
	d.json[side] = dst
	return dst, err
}

// Rows of topics are of tables without a catalog.
var _ sources.StartReader = (*connector)(nil)
