package aggregate

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Integer is the integers that Sum adds.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// Sum adds integers, exactly: in 128 bits, given as the function's type. A result
// that does not fit is ErrOverflow at the end of the step, never a wrap; use
// SumDecimal for sums beyond 64 bits.
func Sum[V any, N Integer](value func(V) N) Aggregator[V, N] {
	return given("Sum", Aggregator[V, N]{
		build:  func(int) Accumulator[V, N] { return &sum[V, N]{value: value} },
		remove: true,
		merge:  true,
		schema: "sum-int128",
	}, value)
}

// SumNull is Sum over values that can be NULL: those that are do not count, and
// where all are, so is the result.
func SumNull[V any, N Integer](value func(V) sql.Null[N]) Aggregator[V, sql.Null[N]] {
	return given("SumNull", nullable(value, Sum(identity[N])), value)
}

type sum[V any, N Integer] struct {
	total int128
	value func(V) N
}

func (s *sum[V, N]) Add(_ *Entries, _ []byte, v *V) error {
	s.total = s.total.add(int128Of(s.value(*v)))
	return nil
}

func (s *sum[V, N]) Remove(_ *Entries, _ []byte, v *V) error {
	s.total = s.total.sub(int128Of(s.value(*v)))
	return nil
}

func (s *sum[V, N]) Merge(other Accumulator[V, N]) error {
	s.total = s.total.add(other.(*sum[V, N]).total)
	return nil
}

func (s *sum[V, N]) Result(*Entries) (N, error) { return fitInteger[N](s.total) }

func (s *sum[V, N]) Clear(*Entries) error { return nil }

func (s *sum[V, N]) Reset() { s.total = int128{} }

func (s *sum[V, N]) AppendState(dst []byte) []byte { return s.total.append(dst) }

func (s *sum[V, N]) DecodeState(src []byte) (err error) {
	s.total, err = decodeInt128(src)
	return err
}

// int128 is a signed 128-bit integer in two's complement.
type int128 struct {
	hi int64
	lo uint64
}

func int128Of[N Integer](n N) int128 {
	if n < 0 {
		return int128{hi: -1, lo: uint64(int64(n))}
	}
	return int128{lo: uint64(n)}
}

func (a int128) add(b int128) int128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return int128{hi: a.hi + b.hi + int64(carry), lo: lo}
}

func (a int128) sub(b int128) int128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	return int128{hi: a.hi - b.hi - int64(borrow), lo: lo}
}

// int64 returns the value where it fits.
func (a int128) int64() (int64, bool) {
	return int64(a.lo), a.hi == 0 && a.lo <= math.MaxInt64 || a.hi == -1 && a.lo > math.MaxInt64
}

func (a int128) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.hi))
	return binary.BigEndian.AppendUint64(dst, a.lo)
}

func decodeInt128(src []byte) (int128, error) {
	if len(src) != 16 {
		return int128{}, fmt.Errorf("aggregate: 128-bit sum of %d bytes", len(src))
	}
	return int128{hi: int64(binary.BigEndian.Uint64(src)), lo: binary.BigEndian.Uint64(src[8:])}, nil
}

// fitInteger gives a sum as type N.
func fitInteger[N Integer](a int128) (N, error) {
	n := N(a.lo)
	if int128Of(n) != a {
		return 0, fmt.Errorf("%w: a sum does not fit %T; return a wider type, or use SumDecimal", ErrOverflow, n)
	}
	return n, nil
}
