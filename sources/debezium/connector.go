package debezium

import (
	"cmp"
	"context"
	"fmt"

	"github.com/tailrace/tailrace/sources"
)

// Topics returns a connector that reads tables from Debezium's topics, for Kafka mode:
//
//	cfg.Bind("shop", debezium.Topics(debezium.Config{Prefix: "shop"}))
//
// Config.Tables says what is known of tables beyond what their records tell; which of them
// are read, the topology says. It contacts nothing.
func Topics(cfg Config) sources.Connector { return &connector{cfg} }

type connector struct{ cfg Config }

// Open implements sources.Connector: topics are read in Kafka mode only.
func (c *connector) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	return nil, fmt.Errorf("%w: debezium: database %q is read from the topics of %q, which needs Kafka mode; "+
		"set Config.Kafka, or bind a connector to the database itself",
		sources.ErrConfig, req.Database, c.cfg.Prefix)
}

// Drop implements sources.Connector: nothing of an app is left in the topics.
func (c *connector) Drop(context.Context, sources.DropRequest) error { return nil }

// Topic implements sources.TopicReader.
func (c *connector) Topic(table string) string {
	if t := c.table(table); t.Topic != "" {
		return t.Topic
	}
	return topicName(c.cfg.Prefix, table)
}

// Undecodable implements sources.UndecodableReader.
func (c *connector) Undecodable() sources.Undecodable { return c.cfg.Undecodable }

// Heartbeats implements sources.HeartbeatReader.
func (c *connector) Heartbeats() (topic string, at func(r *sources.TopicRecord) (int64, error)) {
	if c.cfg.Prefix == "" {
		return "", nil
	}
	lag := cmp.Or(c.cfg.HeartbeatLag, DefaultHeartbeatLag)
	return cmp.Or(c.cfg.HeartbeatPrefix, DefaultHeartbeatPrefix) + "." + c.cfg.Prefix,
		func(r *sources.TopicRecord) (int64, error) {
			d, err := NewDecoder(Config{Tables: []Table{}})
			if err != nil {
				return 0, err
			}
			var ev Event
			if err := d.Decode(&Record{Topic: r.Topic, Key: r.Key, Value: r.Value}, &ev); err != nil {
				return 0, err
			}
			if ev.Kind != Heartbeat || ev.Time == 0 {
				return 0, refuse(ErrMalformed, "a record of the topic of heartbeats is none")
			}
			return ev.Time - lag.Microseconds(), nil
		}
}

// table is what the configuration says of a table.
func (c *connector) table(name string) Table {
	for _, t := range c.cfg.Tables {
		if t.Name == name {
			return t
		}
	}
	return Table{Name: name}
}

// Decoder implements sources.TopicReader.
func (c *connector) Decoder(req sources.TableRequest) (sources.TopicDecoder, error) {
	cfg, t := c.cfg, c.table(req.Name)
	t.Read, t.InsertsOnly = req.Columns, !req.Changes
	cfg.Tables = []Table{t}
	d, err := NewDecoder(cfg)
	if err != nil {
		return nil, err
	}
	return &topicDecoder{decoder: d, events: !req.Changes}, nil
}

// topicDecoder reads the records of one table's topic.
type topicDecoder struct {
	decoder *Decoder
	events  bool
	record  Record
	event   Event
	rows    sources.TopicRows
}

// Decode implements sources.TopicDecoder.
func (d *topicDecoder) Decode(r *sources.TopicRecord) (sources.TopicRows, error) {
	d.decoder.Reset()
	d.record = Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: d.record.Headers[:0], Time: r.Time}
	for _, h := range r.Headers {
		d.record.Headers = append(d.record.Headers, Header(h))
	}
	ev := &d.event
	if err := d.decoder.Decode(&d.record, ev); err != nil {
		return sources.TopicRows{}, err
	}
	d.rows = sources.TopicRows{
		Rows: d.rows.Rows[:0], CommitTime: ev.Source.Time, XID: ev.Source.XID,
		Snapshot: ev.Source.Snapshot != Streamed,
	}
	switch ev.Kind {
	case Row:
		d.rows.Rows = append(d.rows.Rows, ev.Row)
	case Tombstone:
		// Behind a delete it says nothing new, and of a compacted topic it may be all that
		// is left of one. For those who read events it never says anything.
		if !d.events {
			d.rows.Rows = append(d.rows.Rows, ev.Row)
		}
	}
	return d.rows, nil
}
