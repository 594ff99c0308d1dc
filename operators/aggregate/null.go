package aggregate

import (
	"database/sql"
	"encoding/binary"
	"fmt"
)

// CountNotNull counts the values that are not NULL: COUNT(column).
func CountNotNull[V, T any](value func(V) sql.Null[T]) Aggregator[V, int64] {
	return given("CountNotNull", counting("count-not-null", func(v V) bool { return value(v).Valid }), value)
}

// nullable makes an aggregator skip NULLs, and be NULL over nothing but NULLs.
func nullable[V, T, R any](value func(V) sql.Null[T], inner Aggregator[T, R]) Aggregator[V, sql.Null[R]] {
	return Aggregator[V, sql.Null[R]]{
		build: func(slot int) Accumulator[V, sql.Null[R]] {
			return &nulls[V, T, R]{value: value, inner: inner.build(slot)}
		},
		slots:   inner.slots,
		remove:  inner.remove,
		merge:   inner.merge,
		schema:  schemaOf("null(", inner.schema, ")"),
		problem: inner.Err(),
	}
}

type nulls[V, T, R any] struct {
	value func(V) sql.Null[T]
	inner Accumulator[T, R]
	n     int64       // values that are not NULL
	item  sql.Null[T] // the value at work, so that it has an address
}

func (a *nulls[V, T, R]) Add(e *Entries, id []byte, v *V) error {
	if a.item = a.value(*v); !a.item.Valid {
		return nil
	}
	a.n++
	return a.inner.Add(e, id, &a.item.V)
}

func (a *nulls[V, T, R]) Remove(e *Entries, id []byte, v *V) error {
	if a.item = a.value(*v); !a.item.Valid {
		return nil
	}
	a.n--
	return a.inner.Remove(e, id, &a.item.V)
}

func (a *nulls[V, T, R]) Merge(other Accumulator[V, sql.Null[R]]) error {
	o := other.(*nulls[V, T, R])
	a.n += o.n
	return a.inner.Merge(o.inner)
}

func (a *nulls[V, T, R]) Result(e *Entries) (out sql.Null[R], err error) {
	if a.n != 0 {
		out.V, err = a.inner.Result(e)
		out.Valid = err == nil
	}
	return out, err
}

func (a *nulls[V, T, R]) Clear(e *Entries) error { return a.inner.Clear(e) }

func (a *nulls[V, T, R]) Reset() {
	a.n = 0
	a.inner.Reset()
}

func (a *nulls[V, T, R]) AppendState(dst []byte) []byte {
	return a.inner.AppendState(binary.AppendVarint(dst, a.n))
}

func (a *nulls[V, T, R]) DecodeState(src []byte) error {
	n, size := binary.Varint(src)
	if size <= 0 {
		return fmt.Errorf("aggregate: nullable aggregate of %d bytes", len(src))
	}
	a.n = n
	return a.inner.DecodeState(src[size:])
}

func identity[T any](v T) T { return v }
