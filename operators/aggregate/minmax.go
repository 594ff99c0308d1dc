package aggregate

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
)

// Min is the smallest value of a group. T is any type with an order: integers,
// floats, strings, bool, time.Time, record.Decimal, the civil types of package
// record, [N]byte, and structs of key types, which compare field by field. Floats
// order as in PostgreSQL, NaN above all.
//
// It keeps an entry for each value, so taking out the smallest finds the next one
// without reading the others. Over no values at all, which only KeepEmpty makes
// possible, it is the zero value.
func Min[V any, T comparable](value func(V) T) Aggregator[V, T] {
	return given("Min", newExtremum("min", value, false), value)
}

// Max is the greatest value of a group; see Min.
func Max[V any, T comparable](value func(V) T) Aggregator[V, T] {
	return given("Max", newExtremum("max", value, true), value)
}

// MinNull is Min over values that can be NULL: those that are do not count, and
// where all are, so is the result.
func MinNull[V any, T comparable](value func(V) sql.Null[T]) Aggregator[V, sql.Null[T]] {
	return given("MinNull", nullable(value, Min(identity[T])), value)
}

// MaxNull is Max over values that can be NULL; see MinNull.
func MaxNull[V any, T comparable](value func(V) sql.Null[T]) Aggregator[V, sql.Null[T]] {
	return given("MaxNull", nullable(value, Max(identity[T])), value)
}

func newExtremum[V any, T comparable](name string, value func(V) T, desc bool) Aggregator[V, T] {
	order, err := orderingOf[T](name)
	return Aggregator[V, T]{
		build: func(slot int) Accumulator[V, T] {
			return &extremum[V, T]{slot: slot, desc: desc, value: value, order: order}
		},
		slots:   1,
		remove:  true,
		merge:   true,
		schema:  schemaOf(name, typeName[T]()),
		problem: err,
	}
}

// extremum keeps an entry for each value under its encoding and the row's id, and
// the encoding of the first one at hand. With desc encodings are turned around, so
// the first is always the wanted one.
type extremum[V any, T comparable] struct {
	slot  int
	desc  bool
	value func(V) T
	order ordering[T]

	n     int64  // entries
	known bool   // best is that of the first entry
	best  []byte // encoding of the first entry's value
	key   []byte // scratch
}

// encode makes the entry's key and returns the length of the value's part.
func (m *extremum[V, T]) encode(id []byte, v *V) int {
	m.key = m.order.append(m.key[:0], m.value(*v))
	if m.desc {
		descending(m.key)
	}
	n := len(m.key)
	m.key = append(m.key, id...)
	return n
}

func (m *extremum[V, T]) Add(e *Entries, id []byte, v *V) error {
	n := m.encode(id, v)
	if m.n == 0 || m.known && bytes.Compare(m.key[:n], m.best) < 0 {
		m.best, m.known = append(m.best[:0], m.key[:n]...), true
	}
	m.n++
	return e.Set(m.slot, m.key, nil)
}

func (m *extremum[V, T]) Remove(e *Entries, id []byte, v *V) error {
	n := m.encode(id, v)
	if m.known && bytes.Equal(m.key[:n], m.best) {
		m.known = false
	}
	m.n--
	return e.Delete(m.slot, m.key)
}

// Merge keeps the better of two known bests; of one that is unknown, the entries tell.
func (m *extremum[V, T]) Merge(other Accumulator[V, T]) error {
	o := other.(*extremum[V, T])
	switch {
	case o.n == 0:
		return nil
	case m.n == 0:
		m.best, m.known = append(m.best[:0], o.best...), o.known
	case !o.known:
		m.known = false
	case m.known && bytes.Compare(o.best, m.best) < 0:
		m.best = append(m.best[:0], o.best...)
	}
	m.n += o.n
	return nil
}

func (m *extremum[V, T]) Result(e *Entries) (T, error) {
	var none T
	if m.n == 0 {
		return none, nil
	}
	if !m.known {
		if err := m.find(e); err != nil {
			return none, err
		}
	}
	v, _, err := m.decode(m.best)
	return v, err
}

// find reads the first entry.
func (m *extremum[V, T]) find(e *Entries) error {
	n, err := e.Read(m.slot, 1)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: %d entries are missing", errEntry, m.n)
	}
	key := e.Key(0)
	_, rest, err := m.decode(key)
	if err != nil {
		return err
	}
	m.best, m.known = append(m.best[:0], key[:len(key)-len(rest)]...), true
	return nil
}

func (m *extremum[V, T]) decode(key []byte) (v T, rest []byte, err error) {
	if m.desc {
		m.key = append(m.key[:0], key...)
		descending(m.key)
		key = m.key
	}
	return m.order.decode(key)
}

func (m *extremum[V, T]) Clear(e *Entries) error {
	m.n, m.known = 0, false
	return e.Clear(m.slot)
}

func (m *extremum[V, T]) Reset() { m.n, m.known = 0, false }

func (m *extremum[V, T]) AppendState(dst []byte) []byte {
	dst = binary.AppendVarint(dst, m.n)
	if m.known && m.n > 0 {
		dst = append(dst, m.best...)
	}
	return dst
}

// DecodeState reads the count and, where it is known, the encoding of the best.
func (m *extremum[V, T]) DecodeState(src []byte) error {
	n, size := binary.Varint(src)
	if size <= 0 {
		return fmt.Errorf("aggregate: min or max of %d bytes", len(src))
	}
	m.n, m.known = n, len(src) > size
	m.best = append(m.best[:0], src[size:]...)
	return nil
}
