package serde

import (
	"testing"

	"github.com/tailrace/tailrace/record"
)

func BenchmarkProjectThreeColumns(b *testing.B) {
	p, err := PlanOf[struct {
		ID         int64
		Total      record.Decimal
		CustomerID int32
	}]()
	if err != nil {
		b.Fatal(err)
	}
	bound, err := p.Bind(orders)
	if err != nil {
		b.Fatal(err)
	}
	row := text("1234567", "paid", "a note of some words", "2024-02-29 12:34:56.123456+00", "12345.67", "4711")
	var v struct {
		ID         int64
		Total      record.Decimal
		CustomerID int32
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := bound.Decode(&v, row); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	bound := bindOrders(b)
	row := text("1234567", "paid", "a note of some words", "2024-02-29 12:34:56.123456+00", "12345.67", "4711")
	var v order
	if err := bound.Decode(&v, row); err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.Run("columns", func(b *testing.B) {
		p, err := PlanOf[order]()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			for i := range row {
				buf, _ = p.AppendText(buf[:0], i, &v)
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		j, err := JSONOf[order]()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			buf = j.Append(buf[:0], &v, JSONOptions{})
		}
	})
}

// BenchmarkParse decodes one column of one type.
func BenchmarkParse(b *testing.B) {
	run := func(name string, t func() (decode func() error, err error)) {
		b.Run(name, func(b *testing.B) {
			decode, err := t()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("int8", decoderOf[int64]("bigint", "1234567890"))
	run("timestamptz", decoderOf[record.Instant]("timestamp with time zone", "2024-02-29 12:34:56.123456+00"))
	run("numeric", decoderOf[record.Decimal]("numeric", "12345.67"))
	run(
		"numeric of 40 digits",
		decoderOf[record.Decimal]("numeric", "12345678901234567890.12345678901234567890"),
	)
	run("date", decoderOf[record.Date]("date", "2024-02-29"))
	run("double", decoderOf[float64]("double precision", "12345.678"))
}

func decoderOf[T any](sqlType, literal string) func() (func() error, error) {
	return func() (func() error, error) {
		p, err := ScalarPlan[T]("v")
		if err != nil {
			return nil, err
		}
		bound, err := p.Bind(relationOf(sqlType))
		if err != nil {
			return nil, err
		}
		row, v := text(literal), new(T)
		return func() error { return bound.Decode(v, row) }, nil
	}
}
