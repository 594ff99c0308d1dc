package view

import (
	"context"
	"fmt"
	"math"
	"reflect"

	"github.com/tailrace/tailrace/state"
)

// Indexed declares a secondary index of a view; make it with [Index].
type Indexed[K comparable, V any] struct {
	name string
	core indexCore
	// entry appends the encoded index value of a row.
	entry func(dst []byte, key K, value *V) []byte
	// encode encodes a value to look up; ok is false for one of another type.
	encode func(value any) (enc []byte, ok bool)
	err    error
}

// Index declares that rows can be looked up by what of gives for them. Several rows
// may have the same value. of must be a function of its arguments alone. The value
// type has to be one that can be a key; sql.Null of one keeps the rows without a
// value under NULL.
func Index[K comparable, V any, I comparable](name string, of func(K, V) I) Indexed[K, V] {
	ix := Indexed[K, V]{name: name}
	codec, err := state.KeyCodecOf[I]()
	if err != nil {
		ix.err = fmt.Errorf("view: index %q: %w", name, err)
		return ix
	}
	if of == nil {
		ix.err = fmt.Errorf("view: index %q has no function; give one that returns the value to look up by", name)
	}
	ix.encode = func(value any) ([]byte, bool) {
		v, ok := asType[I](value)
		return codec.Append(nil, v), ok
	}
	text, err := keyTextOf(codec)
	if err != nil {
		ix.err = fmt.Errorf("view: index %q: %w", name, err)
	}
	ix.core = indexCore{name: name, value: reflect.TypeFor[I](), text: text}
	ix.entry = func(dst []byte, key K, value *V) []byte { return codec.Append(dst, of(key, *value)) }
	return ix
}

// Lookup selects the rows for which an index gives value, in the order of their
// keys. An integer of another type is converted where it fits. Err gives ErrNoIndex
// where no index has the name or the value is of another type.
func (v *View[K, V]) Lookup(ctx context.Context, index string, value any) *Rows[K, V] {
	r := &Rows[K, V]{ctx: ctx, view: v}
	r.index, r.lower, r.fail = v.indexKey(index, value)
	r.upper = state.PrefixEnd(r.lower)
	return r
}

// Lookup is View.Lookup at the reader's moment.
func (r Reader[K, V]) Lookup(ctx context.Context, index string, value any) *Rows[K, V] {
	rows := r.view.Lookup(ctx, index, value)
	rows.reader = &r
	return rows
}

// indexKey returns an index's place and the encoded value to look up in it.
func (v *View[K, V]) indexKey(index string, value any) (int, []byte, error) {
	i, err := v.core.index(index)
	if err != nil {
		return 0, nil, err
	}
	key, ok := v.indexes[i].encode(value)
	if !ok {
		return 0, nil, fmt.Errorf("%w for values of type %T: index %q of view %q holds %s",
			ErrNoIndex, value, index, v.core.name, v.core.indexes[i].value)
	}
	return i, key, nil
}

// asType returns value as an I, converting integers that fit.
func asType[I comparable](value any) (v I, ok bool) {
	if v, ok = value.(I); ok || value == nil {
		return v, ok
	}
	from, to := reflect.ValueOf(value), reflect.ValueOf(&v).Elem()
	switch {
	case from.CanInt() && to.CanInt():
		to.SetInt(from.Int())
		return v, to.Int() == from.Int()
	case from.CanInt() && to.CanUint() && from.Int() >= 0:
		to.SetUint(uint64(from.Int()))
		return v, to.Uint() == uint64(from.Int())
	case from.CanUint() && to.CanUint():
		to.SetUint(from.Uint())
		return v, to.Uint() == from.Uint()
	case from.CanUint() && to.CanInt() && from.Uint() <= math.MaxInt64:
		to.SetInt(int64(from.Uint()))
		return v, to.Int() == int64(from.Uint())
	}
	return v, false
}

// yieldIndexed reads and yields the row that an index entry points to.
func (v *View[K, V]) yieldIndexed(rd Reader[K, V], rowKey []byte, yield func(K, V) bool) (bool, error) {
	key, _, err := v.keys.Decode(rowKey)
	if err != nil {
		return false, fmt.Errorf("view: %q: stored index entry: %w", v.core.name, err)
	}
	value, ok, err := rd.Get(key)
	if err == nil && !ok {
		err = fmt.Errorf("view: %q: %w: an index entry points to no row", v.core.name, state.ErrCorrupt)
	}
	if err != nil {
		return false, err
	}
	return yield(key, value), nil
}
