package aggregate

import (
	"encoding/binary"
	"fmt"
)

// Count counts the values of a group: COUNT(*).
func Count[V any]() Aggregator[V, int64] {
	return counting("count", func(V) bool { return true })
}

// CountIf counts the values for which keep is true: COUNT(*) FILTER (WHERE ...).
func CountIf[V any](keep func(V) bool) Aggregator[V, int64] {
	return given("CountIf", counting("count-if", keep), keep)
}

func counting[V any](schema string, keep func(V) bool) Aggregator[V, int64] {
	return Aggregator[V, int64]{
		build:  func(int) Accumulator[V, int64] { return &count[V]{keep: keep} },
		remove: true,
		merge:  true,
		schema: schema,
	}
}

type count[V any] struct {
	n    int64
	keep func(V) bool
}

func (c *count[V]) Add(_ *Entries, _ []byte, v *V) error {
	if c.keep(*v) {
		c.n++
	}
	return nil
}

func (c *count[V]) Remove(_ *Entries, _ []byte, v *V) error {
	if c.keep(*v) {
		c.n--
	}
	return nil
}

func (c *count[V]) Merge(other Accumulator[V, int64]) error {
	c.n += other.(*count[V]).n
	return nil
}

func (c *count[V]) Result(*Entries) (int64, error) { return c.n, nil }

func (c *count[V]) Clear(*Entries) error { return nil }

func (c *count[V]) Reset() { c.n = 0 }

func (c *count[V]) AppendState(dst []byte) []byte { return binary.AppendVarint(dst, c.n) }

func (c *count[V]) DecodeState(src []byte) error {
	n, size := binary.Varint(src)
	if size <= 0 || size != len(src) {
		return fmt.Errorf("aggregate: count of %d bytes", len(src))
	}
	c.n = n
	return nil
}
