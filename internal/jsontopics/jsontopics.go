// Package jsontopics reads tables from topics of JSON objects, for tests of Kafka mode: the
// key is the text of the column "key", strings hold no escapes, a record without a value
// deletes.
package jsontopics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// Source reads each table from the topic that the prefix and its name make.
func Source(prefix string) sources.Connector { return &connector{prefix: prefix} }

// With is Source with a policy for records that cannot be decoded.
func With(prefix string, policy sources.Undecodable) sources.Connector {
	return &connector{prefix, policy}
}

type connector struct {
	prefix      string
	undecodable sources.Undecodable
}

// Undecodable implements sources.UndecodableReader.
func (c *connector) Undecodable() sources.Undecodable { return c.undecodable }

// Open implements sources.Connector; it is not for direct mode.
func (c *connector) Open(context.Context, sources.OpenRequest) (sources.Session, error) {
	return nil, sources.ErrConfig
}

// Drop implements sources.Connector.
func (c *connector) Drop(context.Context, sources.DropRequest) error { return nil }

// Topic implements sources.TopicReader.
func (c *connector) Topic(table string) string { return c.prefix + table }

// Decoder implements sources.TopicReader.
func (c *connector) Decoder(req sources.TableRequest) (sources.TopicDecoder, error) {
	schema, name, _ := strings.Cut(req.Name, ".")
	rel := &record.Relation{Schema: schema, Name: name}
	rel.Columns = append(rel.Columns, record.Column{Name: "key", Key: true})
	for _, column := range req.Columns {
		rel.Columns = append(rel.Columns, record.Column{Name: column})
	}
	return &decoder{rel}, nil
}

type decoder struct{ rel *record.Relation }

// Decode implements sources.TopicDecoder.
func (d *decoder) Decode(r *sources.TopicRecord) (sources.TopicRows, error) {
	row := record.Row{Rel: d.rel, Op: record.Insert}
	row.New = append(row.New, record.Value{Kind: record.Text, Data: r.Key})
	if r.Value == nil {
		row.Op, row.OldKind, row.Old, row.New = record.Delete, record.OldKey, row.New, nil
		return sources.TopicRows{Rows: []record.Row{row}}, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(r.Value, &values); err != nil {
		return sources.TopicRows{}, fmt.Errorf("%w: %w", sources.ErrDecode, err)
	}
	for _, c := range d.rel.Columns[1:] {
		text := values[c.Name]
		if len(text) > 1 && text[0] == '"' {
			text = text[1 : len(text)-1]
		}
		row.New = append(row.New, record.Value{Kind: record.Text, Data: text})
	}
	return sources.TopicRows{Rows: []record.Row{row}}, nil
}
