package aggregate

import (
	"database/sql"
	"math"
)

// Float is the floats that SumFloat adds.
type Float interface{ ~float32 | ~float64 }

// SumFloat adds floats without any rounding and rounds the sum once, to the nearest
// float64. So it does not depend on the order of rows, and what was added and taken
// out again leaves no trace. NaN and infinities count as long as they are there. A
// sum beyond the range of float64 is an infinity; a sum of 0 is never -0.
func SumFloat[V any, F Float](value func(V) F) Aggregator[V, float64] {
	return given("SumFloat", Aggregator[V, float64]{
		build:  func(int) Accumulator[V, float64] { return &floatSum[V, F]{value: value} },
		remove: true,
		merge:  true,
		schema: "sum-float",
	}, value)
}

// SumFloatNull is SumFloat over values that can be NULL: those that are do not
// count, and where all are, so is the result.
func SumFloatNull[V any, F Float](value func(V) sql.Null[F]) Aggregator[V, sql.Null[float64]] {
	return given("SumFloatNull", nullable(value, SumFloat(identity[F])), value)
}

type floatSum[V any, F Float] struct {
	total floatTotal
	value func(V) F
}

func (s *floatSum[V, F]) Add(_ *Entries, _ []byte, v *V) error {
	s.total.add(float64(s.value(*v)))
	return nil
}

func (s *floatSum[V, F]) Remove(_ *Entries, _ []byte, v *V) error {
	s.total.remove(float64(s.value(*v)))
	return nil
}

func (s *floatSum[V, F]) Merge(other Accumulator[V, float64]) error {
	s.total.merge(&other.(*floatSum[V, F]).total)
	return nil
}

func (s *floatSum[V, F]) Result(*Entries) (float64, error) { return s.total.value(0), nil }

func (s *floatSum[V, F]) Clear(*Entries) error { return nil }

func (s *floatSum[V, F]) Reset() { s.total.reset() }

func (s *floatSum[V, F]) AppendState(dst []byte) []byte { return s.total.append(dst) }

func (s *floatSum[V, F]) DecodeState(src []byte) error { return s.total.decode(src) }

// floatTotal is an exact sum of floats.
type floatTotal struct {
	sum     exactFloat
	special specials
}

func (t *floatTotal) add(f float64) { t.count(f, 1) }

func (t *floatTotal) remove(f float64) { t.count(f, -1) }

func (t *floatTotal) count(f float64, n int64) {
	switch {
	case math.IsNaN(f):
		t.special.nan += n
	case math.IsInf(f, 1):
		t.special.plus += n
	case math.IsInf(f, -1):
		t.special.minus += n
	case n > 0:
		t.sum.add(f)
	default:
		t.sum.add(-f)
	}
}

func (t *floatTotal) merge(o *floatTotal) {
	t.sum.merge(&o.sum)
	t.special.merge(o.special)
}

// value returns the sum divided by 2^shift, rounded.
func (t *floatTotal) value(shift int) float64 {
	switch t.special.kind() {
	case specialNaN:
		return math.NaN()
	case specialPlus:
		return math.Inf(1)
	case specialMinus:
		return math.Inf(-1)
	}
	return t.sum.round(shift)
}

func (t *floatTotal) reset() {
	t.sum, t.special = exactFloat{limbs: t.sum.limbs[:0]}, specials{}
}

func (t *floatTotal) append(dst []byte) []byte { return t.sum.append(t.special.append(dst)) }

func (t *floatTotal) decode(src []byte) (err error) {
	if src, err = t.special.decode(src); err != nil {
		return err
	}
	return t.sum.decode(src)
}
