package aggregate

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"github.com/tailrace/tailrace/record"
)

// Avg is the average of integers as a decimal, rounded as PostgreSQL rounds
// avg(bigint): to at least 16 significant digits. Over no values at all, which only
// KeepEmpty makes possible, it is 0.
func Avg[V any, N Integer](value func(V) N) Aggregator[V, record.Decimal] {
	return given("Avg", newMean("int128", value,
		func() total[N, record.Decimal] { return &integerMean[N]{} }), value)
}

// AvgNull is Avg over values that can be NULL: those that are do not count, and
// where all are, so is the result.
func AvgNull[V any, N Integer](value func(V) sql.Null[N]) Aggregator[V, sql.Null[record.Decimal]] {
	return given("AvgNull", nullable(value, Avg(identity[N])), value)
}

// AvgFloat is the average of floats as the exact sum, rounded, over the count; see
// SumFloat. Over no values at all, which only KeepEmpty makes possible, it is 0.
func AvgFloat[V any, F Float](value func(V) F) Aggregator[V, float64] {
	return given("AvgFloat", newMean("float", value, func() total[F, float64] { return &floatMean[F]{} }), value)
}

// AvgFloatNull is AvgFloat over values that can be NULL; see AvgNull.
func AvgFloatNull[V any, F Float](value func(V) sql.Null[F]) Aggregator[V, sql.Null[float64]] {
	return given("AvgFloatNull", nullable(value, AvgFloat(identity[F])), value)
}

// AvgDecimal is the average of decimals, rounded as PostgreSQL's avg(numeric(p,
// scale)): to at least 16 significant digits, and at least scale digits behind the
// point. Over no values at all, which only KeepEmpty makes possible, it is 0.
func AvgDecimal[V any](scale int32, value func(V) record.Decimal) Aggregator[V, record.Decimal] {
	return given("AvgDecimal", newMean(fmt.Sprintf("decimal %d", scale), value,
		func() total[record.Decimal, record.Decimal] { return &decimalMean{scale: scale} }), value)
}

// AvgDecimalNull is AvgDecimal over values that can be NULL; see AvgNull.
func AvgDecimalNull[V any](
	scale int32, value func(V) sql.Null[record.Decimal],
) Aggregator[V, sql.Null[record.Decimal]] {
	return given("AvgDecimalNull", nullable(value, AvgDecimal(scale, identity[record.Decimal])), value)
}

func newMean[V, T, R any](name string, value func(V) T, empty func() total[T, R]) Aggregator[V, R] {
	return Aggregator[V, R]{
		build:  func(int) Accumulator[V, R] { return &mean[V, T, R]{value: value, total: empty()} },
		remove: true,
		merge:  true,
		schema: schemaOf("avg", name),
	}
}

// total is a sum that values can be taken out of again.
type total[T, R any] interface {
	add(v T)
	remove(v T)
	// merge adds the sum of another total of the same type.
	merge(other total[T, R])
	// over divides the sum by a count, which is not 0.
	over(n int64) R
	reset()
	append(dst []byte) []byte
	decode(src []byte) error
}

type mean[V, T, R any] struct {
	total total[T, R]
	n     int64
	value func(V) T
}

func (m *mean[V, T, R]) Add(_ *Entries, _ []byte, v *V) error {
	m.n++
	m.total.add(m.value(*v))
	return nil
}

func (m *mean[V, T, R]) Remove(_ *Entries, _ []byte, v *V) error {
	m.n--
	m.total.remove(m.value(*v))
	return nil
}

func (m *mean[V, T, R]) Merge(other Accumulator[V, R]) error {
	o := other.(*mean[V, T, R])
	m.n += o.n
	m.total.merge(o.total)
	return nil
}

func (m *mean[V, T, R]) Result(*Entries) (r R, err error) {
	if m.n != 0 {
		r = m.total.over(m.n)
	}
	return r, nil
}

func (m *mean[V, T, R]) Clear(*Entries) error { return nil }

func (m *mean[V, T, R]) Reset() {
	m.n = 0
	m.total.reset()
}

func (m *mean[V, T, R]) AppendState(dst []byte) []byte {
	return m.total.append(binary.AppendVarint(dst, m.n))
}

func (m *mean[V, T, R]) DecodeState(src []byte) error {
	n, size := binary.Varint(src)
	if size <= 0 {
		return fmt.Errorf("aggregate: average of %d bytes", len(src))
	}
	m.n = n
	return m.total.decode(src[size:])
}

type integerMean[N Integer] struct{ sum int128 }

func (m *integerMean[N]) add(n N) { m.sum = m.sum.add(int128Of(n)) }

func (m *integerMean[N]) remove(n N) { m.sum = m.sum.sub(int128Of(n)) }

func (m *integerMean[N]) merge(o total[N, record.Decimal]) {
	m.sum = m.sum.add(o.(*integerMean[N]).sum)
}

func (m *integerMean[N]) over(n int64) record.Decimal { return quotient(m.sum.decimal(), n, 0) }

func (m *integerMean[N]) reset() { m.sum = int128{} }

func (m *integerMean[N]) append(dst []byte) []byte { return m.sum.append(dst) }

func (m *integerMean[N]) decode(src []byte) (err error) {
	m.sum, err = decodeInt128(src)
	return err
}

// decimal returns the value as a decimal.
func (a int128) decimal() record.Decimal {
	if n, ok := a.int64(); ok {
		return record.NewDecimal(n, 0)
	}
	b := new(big.Int).Lsh(big.NewInt(a.hi), 64)
	return record.NewBigDecimal(b.Add(b, new(big.Int).SetUint64(a.lo)), 0)
}

func quotient(sum record.Decimal, n int64, scale int32) record.Decimal {
	q, _ := sum.Quo(record.NewDecimal(n, 0), scale)
	return q
}

type decimalMean struct {
	sum   decimalTotal
	scale int32
}

func (m *decimalMean) add(d record.Decimal) { m.sum.add(d, 1) }

func (m *decimalMean) remove(d record.Decimal) { m.sum.add(d, -1) }

func (m *decimalMean) merge(o total[record.Decimal, record.Decimal]) {
	m.sum.merge(&o.(*decimalMean).sum)
}

func (m *decimalMean) over(n int64) record.Decimal { return quotient(m.sum.value(), n, m.scale) }

func (m *decimalMean) reset() { m.sum = decimalTotal{} }

func (m *decimalMean) append(dst []byte) []byte { return m.sum.append(dst) }

func (m *decimalMean) decode(src []byte) (err error) {
	m.sum, err = decodeDecimalTotal(src)
	return err
}

type floatMean[F Float] struct{ sum floatTotal }

func (m *floatMean[F]) add(f F) { m.sum.add(float64(f)) }

func (m *floatMean[F]) remove(f F) { m.sum.remove(float64(f)) }

func (m *floatMean[F]) merge(o total[F, float64]) { m.sum.merge(&o.(*floatMean[F]).sum) }

// over keeps an average in range where the sum is beyond it.
func (m *floatMean[F]) over(n int64) float64 {
	if sum := m.sum.value(0); !math.IsInf(sum, 0) {
		return sum / float64(n)
	}
	return math.Ldexp(m.sum.value(64)/float64(n), 64)
}

func (m *floatMean[F]) reset() { m.sum.reset() }

func (m *floatMean[F]) append(dst []byte) []byte { return m.sum.append(dst) }

func (m *floatMean[F]) decode(src []byte) error { return m.sum.decode(src) }
