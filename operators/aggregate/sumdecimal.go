package aggregate

import (
	"database/sql"
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/record"
)

// SumDecimal adds decimals, exactly. As in PostgreSQL, NaN among the values makes
// the sum NaN, and so do both infinities; when they leave, so does their effect.
func SumDecimal[V any](value func(V) record.Decimal) Aggregator[V, record.Decimal] {
	return given("SumDecimal", Aggregator[V, record.Decimal]{
		build:  func(int) Accumulator[V, record.Decimal] { return &decimalSum[V]{value: value} },
		remove: true,
		merge:  true,
		schema: "sum-decimal",
	}, value)
}

// SumDecimalNull is SumDecimal over values that can be NULL: those that are do not
// count, and where all are, so is the result.
func SumDecimalNull[V any](value func(V) sql.Null[record.Decimal]) Aggregator[V, sql.Null[record.Decimal]] {
	return given("SumDecimalNull", nullable(value, SumDecimal(identity[record.Decimal])), value)
}

type decimalSum[V any] struct {
	total decimalTotal
	value func(V) record.Decimal
}

func (s *decimalSum[V]) Add(_ *Entries, _ []byte, v *V) error {
	s.total.add(s.value(*v), 1)
	return nil
}

func (s *decimalSum[V]) Remove(_ *Entries, _ []byte, v *V) error {
	s.total.add(s.value(*v), -1)
	return nil
}

func (s *decimalSum[V]) Merge(other Accumulator[V, record.Decimal]) error {
	s.total.merge(&other.(*decimalSum[V]).total)
	return nil
}

func (s *decimalSum[V]) Result(*Entries) (record.Decimal, error) { return s.total.value(), nil }

func (s *decimalSum[V]) Clear(*Entries) error { return nil }

func (s *decimalSum[V]) Reset() { s.total = decimalTotal{} }

func (s *decimalSum[V]) AppendState(dst []byte) []byte { return s.total.append(dst) }

func (s *decimalSum[V]) DecodeState(src []byte) (err error) {
	s.total, err = decodeDecimalTotal(src)
	return err
}

// decimalTotal is the sum of the finite values, and how many others there are:
// what they do to a sum could not be undone.
type decimalTotal struct {
	finite  record.Decimal
	special specials
}

// add adds a value or, with n = -1, takes it out.
func (t *decimalTotal) add(d record.Decimal, n int64) {
	switch {
	case d.IsNaN():
		t.special.nan += n
	case d.IsInfinite() && d.Sign() > 0:
		t.special.plus += n
	case d.IsInfinite():
		t.special.minus += n
	case n > 0:
		t.finite = t.finite.Add(d)
	default:
		t.finite = t.finite.Sub(d)
	}
}

func (t *decimalTotal) merge(o *decimalTotal) {
	t.finite = t.finite.Add(o.finite)
	t.special.merge(o.special)
}

func (t *decimalTotal) value() record.Decimal {
	switch t.special.kind() {
	case specialNaN:
		return record.DecimalNaN
	case specialPlus:
		return record.DecimalInfinity
	case specialMinus:
		return record.DecimalMinusInfinity
	}
	return t.finite
}

func (t *decimalTotal) append(dst []byte) []byte {
	return t.finite.AppendState(t.special.append(dst))
}

func decodeDecimalTotal(src []byte) (t decimalTotal, err error) {
	if src, err = t.special.decode(src); err != nil {
		return t, err
	}
	rest, err := t.finite.DecodeState(src)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("aggregate: decimal sum with %d bytes left over", len(rest))
	}
	return t, err
}

// specials counts the values that are no finite numbers.
type specials struct{ nan, plus, minus int64 }

type special uint8

const (
	specialNone special = iota
	specialNaN
	specialPlus
	specialMinus
)

// kind says what a sum with these values is.
func (s *specials) kind() special {
	switch {
	case s.nan > 0 || s.plus > 0 && s.minus > 0:
		return specialNaN
	case s.plus > 0:
		return specialPlus
	case s.minus > 0:
		return specialMinus
	}
	return specialNone
}

func (s *specials) merge(o specials) {
	s.nan, s.plus, s.minus = s.nan+o.nan, s.plus+o.plus, s.minus+o.minus
}

// append writes a zero byte where there are none.
func (s *specials) append(dst []byte) []byte {
	if *s == (specials{}) {
		return append(dst, 0)
	}
	dst = binary.AppendVarint(append(dst, 1), s.nan)
	return binary.AppendVarint(binary.AppendVarint(dst, s.plus), s.minus)
}

func (s *specials) decode(src []byte) (rest []byte, err error) {
	if len(src) > 0 && src[0] == 0 {
		return src[1:], nil
	}
	if len(src) == 0 {
		return nil, errSum
	}
	src = src[1:]
	for _, n := range []*int64{&s.nan, &s.plus, &s.minus} {
		var size int
		if *n, size = binary.Varint(src); size <= 0 {
			return nil, errSum
		}
		src = src[size:]
	}
	return src, nil
}

var errSum = fmt.Errorf("aggregate: stored sum is cut short")
