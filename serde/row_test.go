package serde

import (
	"database/sql"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

type order struct {
	ID         int64
	Status     string
	Note       *string
	CreatedAt  time.Time
	Total      record.Decimal
	CustomerID sql.Null[int32]
}

var orders = &record.Relation{Schema: "public", Name: "orders", Columns: []record.Column{
	{Name: "id", Type: "bigint", Key: true, NotNull: true},
	{Name: "status", Type: "text"},
	{Name: "note", Type: "character varying(20)"},
	{Name: "created_at", Type: "timestamp with time zone"},
	{Name: "total", Type: "numeric(10,2)"},
	{Name: "customer_id", Type: "integer"},
}}

func text(values ...string) record.Tuple {
	var t record.Tuple
	for _, v := range values {
		if v == "NULL" {
			t = append(t, record.Value{Kind: record.Null})
			continue
		}
		t = append(t, record.Value{Kind: record.Text, Data: []byte(v)})
	}
	return t
}

func TestDecodeRow(t *testing.T) {
	p, err := PlanOf[order]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Bind(orders)
	if err != nil {
		t.Fatal(err)
	}
	var o order
	if err := b.Decode(&o, text("42", "paid", "x", "2024-02-29 12:34:56.5+00", "12.50", "NULL")); err != nil {
		t.Fatal(err)
	}
	j, err := JSONOf[order]()
	if err != nil {
		t.Fatal(err)
	}
	got := string(j.Append(nil, &o, JSONOptions{}))
	want := `{"id":42,"status":"paid","note":"x","created_at":"2024-02-29T12:34:56.5Z","total":12.5,"customer_id":null}`
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func BenchmarkDecodeSixColumns(b *testing.B) {
	p, _ := PlanOf[order]()
	bd, err := p.Bind(orders)
	if err != nil {
		b.Fatal(err)
	}
	row := text("1234567", "paid", "a note of some words", "2024-02-29 12:34:56.123456+00", "12345.67", "4711")
	var o order
	b.ReportAllocs()
	for b.Loop() {
		if err := bd.Decode(&o, row); err != nil {
			b.Fatal(err)
		}
	}
}
