package view

import (
	"bytes"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Store is what a view's rows and index entries are written to; state.Ordered is
// one.
type Store interface {
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Writer applies changes to a view's stores. It is for the running form of the
// view's node and is used by one goroutine.
type Writer[K comparable, V any] struct {
	view     *View[K, V]
	rows     Store
	indexes  []Store
	key      []byte
	value    []byte
	old, new []byte
}

// NewWriter makes a writer on the stores that View.Stores names, in that order.
func NewWriter[K comparable, V any](v *View[K, V], stores ...Store) (*Writer[K, V], error) {
	if len(stores) != 1+len(v.indexes) {
		return nil, fmt.Errorf("view: %q keeps %d stores, not %d", v.core.name, 1+len(v.indexes), len(stores))
	}
	return &Writer[K, V]{view: v, rows: stores[0], indexes: stores[1:]}, nil
}

// Apply writes one change: the row, and the index entries that it moves. The old
// value must be what the view holds.
func (w *Writer[K, V]) Apply(c *record.Change[K, V]) error {
	w.key = w.view.keys.Append(w.key[:0], c.Key)
	for i := range w.indexes {
		if err := w.applyIndex(i, c); err != nil {
			return err
		}
	}
	if !c.HasNew() {
		return w.rows.Delete(w.key)
	}
	w.value = w.view.values.Append(w.value[:0], &c.New)
	return w.rows.Set(w.key, w.value)
}

// applyIndex moves the entry of one index: (index value, row key) without a value.
func (w *Writer[K, V]) applyIndex(i int, c *record.Change[K, V]) error {
	entry := w.view.indexes[i].entry
	if c.HasOld() {
		w.old = append(entry(w.old[:0], c.Key, &c.Old), w.key...)
	}
	if c.HasNew() {
		w.new = append(entry(w.new[:0], c.Key, &c.New), w.key...)
	}
	if c.HasOld() && c.HasNew() && bytes.Equal(w.old, w.new) {
		return nil
	}
	if c.HasOld() {
		if err := w.indexes[i].Delete(w.old); err != nil {
			return err
		}
	}
	if c.HasNew() {
		return w.indexes[i].Set(w.new, nil)
	}
	return nil
}

// Schemas returns a fingerprint of what each of the view's stores holds.
func (v *View[K, V]) Schemas() []string {
	s := []string{v.core.key.String() + " " + v.values.Fingerprint}
	for i := range v.indexes {
		s = append(s, v.core.indexes[i].value.String()+" "+v.core.key.String())
	}
	return s
}

var _ Store = (*state.Ordered)(nil)
