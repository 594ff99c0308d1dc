package dev

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// table is a table of the shop: the columns of internal/shop's.
type table struct {
	name    string
	columns []debezium.Column
}

func key(name, typ string) debezium.Column {
	return debezium.Column{Column: record.Column{Name: name, Type: typ, TypeMod: -1, Key: true, NotNull: true}}
}

func column(name, typ string) debezium.Column {
	return debezium.Column{Column: record.Column{Name: name, Type: typ, TypeMod: -1}}
}

// The tables, in the order of their numbers.
const (
	customers = iota
	products
	orders
	orderLines
	outbox
)

var tables = []table{
	{"customers", []debezium.Column{key("id", "bigint"), column("name", "text"), column("city", "text")}},
	{"products", []debezium.Column{key("id", "bigint"), column("name", "text"), column("cents", "bigint")}},
	{"orders", []debezium.Column{
		key("id", "bigint"), column("customer_id", "bigint"), column("status", "text"), column("cents", "bigint"),
		column("placed_at", "timestamp with time zone"), column("note", "text"),
	}},
	{"order_lines", []debezium.Column{
		key("order_id", "bigint"), key("line", "integer"), column("product_id", "bigint"),
		column("quantity", "integer"), column("cents", "bigint"),
	}},
	{"outbox", []debezium.Column{
		key("id", "uuid"), column("kind", "text"), column("order_id", "bigint"), column("customer_id", "bigint"),
		column("payload", "jsonb"), column("written_at", "timestamp with time zone"),
	}},
}

// change is a change of a row: its values, nil for NULL. Of a deleted row they are the key's.
type change struct {
	table  int
	op     byte // r, c, u or d
	values []any
}

// topics writes changes as Debezium does.
type topics struct {
	prefix   string
	encoders []*debezium.Encoder
	lsn      uint64
	xid      uint32
}

func newTopics(prefix string) (*topics, error) {
	t := &topics{prefix: prefix, lsn: 1 << 24, xid: 700}
	for _, table := range tables {
		enc, err := debezium.NewEncoder(debezium.EncoderConfig{
			Prefix: prefix, Schemas: true, DB: "shop",
			Table: debezium.Table{Name: "public." + table.name, Columns: table.columns},
		})
		if err != nil {
			return nil, err
		}
		t.encoders = append(t.encoders, enc)
	}
	return t, nil
}

func (t *topics) name(i int) string { return t.prefix + ".public." + tables[i].name }

func (t *topics) names() (names []string) {
	for i := range tables {
		names = append(names, t.name(i))
	}
	return names
}

// records are those of a transaction.
func (t *topics) records(changes []change, now time.Time) (out []*kgo.Record, err error) {
	t.xid++
	for _, c := range changes {
		row := make(record.Tuple, len(tables[c.table].columns))
		for i, v := range c.values {
			if v == nil {
				continue
			}
			text := fmt.Sprint(v)
			if at, ok := v.(time.Time); ok {
				text = at.UTC().Format("2006-01-02 15:04:05.999999+00")
			}
			row[i] = record.Value{Kind: record.Text, Data: []byte(text)}
		}
		t.lsn += 56
		change := debezium.EncodedChange{Op: c.op, After: row, Time: now.UnixMicro(), Source: debezium.Source{
			Time: now.UnixMicro(), XID: t.xid, LSN: t.lsn,
		}}
		r := &kgo.Record{Topic: t.name(c.table), Timestamp: now}
		switch c.op {
		case 'd':
			change.Before, change.After = row, nil
		case 'r':
			change.Source.Snapshot = debezium.InSnapshot
		}
		if r.Key, err = t.encoders[c.table].AppendKey(nil, row); err != nil {
			return nil, err
		}
		if r.Value, err = t.encoders[c.table].AppendValue(nil, &change); err != nil {
			return nil, err
		}
		out = append(out, r)
		if c.op == 'd' {
			out = append(out, &kgo.Record{Topic: r.Topic, Key: r.Key, Timestamp: now})
		}
	}
	return out, nil
}
