package view

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/tailrace/tailrace/state"
)

// View is the handle of a view: the latest value of each key of a table, read at
// committed moments only. It is made by sinks.View and becomes readable when an
// app runs the topology. It is safe for concurrent use. Values are copies: they
// stay as they are, and changing one changes nothing else.
type View[K comparable, V any] struct {
	core    *core
	keys    state.KeyCodec[K]
	values  state.Codec[V]
	indexes []Indexed[K, V]
}

// New makes an unbound view. It is for authors of sinks; users call sinks.View.
// The error holds everything that is wrong: key and value types that cannot be
// stored, indexes that cannot be kept or share a name. The view returned beside an
// error is never bound.
func New[K comparable, V any](topology, name string, indexes ...Indexed[K, V]) (*View[K, V], error) {
	v := &View[K, V]{indexes: indexes}
	v.core = &core{
		self: v, topology: topology, name: name,
		key: reflect.TypeFor[K](), value: reflect.TypeFor[V](), divide: divideOf[K](),
	}
	var keyErr, valueErr error
	v.keys, keyErr = state.KeyCodecOf[K]()
	v.values, valueErr = state.CodecOf[V]()
	errs := []error{keyErr, valueErr}
	if keyErr == nil && valueErr == nil {
		var err error
		v.core.text, err = rowTextOf(v.keys, v.values)
		errs = append(errs, err)
	}
	seen := map[string]bool{}
	for _, ix := range indexes {
		errs = append(errs, ix.err)
		if ix.name == "" || seen[ix.name] {
			errs = append(errs,
				fmt.Errorf("view: index name %q is empty or taken; each index of a view needs its own", ix.name))
		}
		seen[ix.name] = true
		v.core.indexes = append(v.core.indexes, ix.core)
	}
	if err := errors.Join(errs...); err != nil {
		return v, err
	}
	return v, nil
}

// divideOf returns what keys are divided by: of a windowed key the key alone, else all.
func divideOf[K comparable]() func(key []byte) []byte {
	var k K
	if p, ok := any(k).(interface{ PartitionKey(encoded []byte) []byte }); ok {
		return p.PartitionKey
	}
	return func(key []byte) []byte { return key }
}

// Topology returns the name of the topology that keeps the view.
func (v *View[K, V]) Topology() string { return v.core.topology }

// Name returns the view's name.
func (v *View[K, V]) Name() string { return v.core.name }

// Stores returns the names of the view's stores; see Port.
func (v *View[K, V]) Stores() []string {
	names := []string{""}
	for _, ix := range v.indexes {
		names = append(names, ix.name)
	}
	return names
}

func (v *View[K, V]) port() *core { return v.core }

// Get returns the value of a key at the current moment. ok is false where the view
// has no such row; the position is given in either case. Errors are ErrNotReady,
// ErrNotBound, ErrClosed, the context's, those of reading the state, and ErrElsewhere where
// the app runs as several members and this one does not have all rows.
func (v *View[K, V]) Get(ctx context.Context, key K) (value V, ok bool, at Position, err error) {
	err = v.read(ctx, func(r Reader[K, V]) error {
		at = r.Position()
		value, ok, err = r.Get(key)
		return err
	})
	return value, ok, at, err
}

// read runs fn on the current moment.
func (v *View[K, V]) read(ctx context.Context, fn func(Reader[K, V]) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := v.core.bound()
	if err != nil {
		return err
	}
	m, err := b.host.acquireFor(v.core.topology)
	if err != nil {
		return err
	}
	defer m.snap.release()
	return fn(Reader[K, V]{view: v, binding: b, m: m})
}

// At returns the view as of a pinned moment.
func (v *View[K, V]) At(m *Moment) Reader[K, V] {
	r := Reader[K, V]{view: v, m: m.m, moment: m}
	r.binding, r.err = v.core.bound()
	if r.err == nil && r.binding.host != m.host {
		r.err = fmt.Errorf("%w: view %q belongs to another app than the moment", ErrPositions, v.core.name)
	}
	if r.err == nil {
		r.err = m.m.shows(v.core.topology)
	}
	return r
}

// Reader is a view as of one moment. It is valid until the moment is closed.
type Reader[K comparable, V any] struct {
	view    *View[K, V]
	binding *binding
	m       *moment
	// moment is nil where the caller of the reader holds the snapshot.
	moment *Moment
	err    error
}

// check fails where the reader cannot be read.
func (r *Reader[K, V]) check() error {
	if r.err == nil && r.moment != nil && r.moment.done.Load() {
		return fmt.Errorf("%w (the Moment has been closed)", ErrClosed)
	}
	return r.err
}

// Position returns the position that the view has at the moment.
func (r Reader[K, V]) Position() Position { return r.m.position(r.view.core.topology) }

// Get returns the value of a key; ok is false where there is no such row.
func (r Reader[K, V]) Get(key K) (value V, ok bool, err error) {
	if err := r.check(); err != nil {
		return value, false, err
	}
	v := r.view
	buf := make([]byte, 0, 64)
	value, ok, err = v.get(r.m.snap, v.keys.Append(append(buf, r.binding.rows...), key))
	if err == nil && !ok && !r.binding.host.complete(r.m, v.core.name) {
		err = fmt.Errorf("%w (view %q)", ErrElsewhere, v.core.name)
	}
	return value, ok, err
}

// get reads and decodes one row.
func (v *View[K, V]) get(snap state.Reader, key []byte) (value V, ok bool, err error) {
	raw, ok, err := snap.Get(nil, key)
	if err != nil || !ok {
		return value, false, err
	}
	if err := v.values.Decode(raw, &value); err != nil {
		return value, false, fmt.Errorf("view: %q: stored value: %w", v.core.name, err)
	}
	return value, true, nil
}
