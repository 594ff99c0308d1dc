package view

import (
	"context"
	"fmt"
	"iter"

	"github.com/tailrace/tailrace/state"
)

// Rows are rows to be read. Walk them with All, then look at Err.
type Rows[K comparable, V any] struct {
	ctx     context.Context
	view    *View[K, V]
	reader  *Reader[K, V]
	index   int // -1: the rows themselves
	lower   []byte
	upper   []byte
	reverse bool
	at      Position
	// fail is what is wrong with the request, err what ended the last walk.
	fail, err error
}

// Range selects rows in the order of their keys. All of them are read at one
// moment, which is taken when All is called.
func (v *View[K, V]) Range(ctx context.Context, span Span[K]) *Rows[K, V] {
	r := &Rows[K, V]{ctx: ctx, view: v, index: -1}
	r.lower, r.upper, r.fail = span.bounds(v.keys)
	return r
}

// Range selects rows in the order of their keys at the reader's moment.
func (r Reader[K, V]) Range(ctx context.Context, span Span[K]) *Rows[K, V] {
	rows := r.view.Range(ctx, span)
	rows.reader = &r
	return rows
}

// Reverse makes All walk from the last row to the first. It returns its receiver.
func (r *Rows[K, V]) Reverse() *Rows[K, V] {
	r.reverse = true
	return r
}

// Position returns the position that the rows were read at. It is known once All
// has been called.
func (r *Rows[K, V]) Position() Position { return r.at }

// Err returns the error that ended the last walk, nil where it reached its end or
// the loop was left.
func (r *Rows[K, V]) Err() error { return r.err }

// All walks the rows. The snapshot is held until the loop ends. Walking again reads
// again, at the moment that is current then.
func (r *Rows[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		switch {
		case r.fail != nil:
			r.err = r.fail
		case r.reader != nil:
			r.err = r.walk(*r.reader, yield)
		default:
			r.err = r.view.read(r.ctx, func(rd Reader[K, V]) error { return r.walk(rd, yield) })
		}
	}
}

// ctxEvery is how many rows are read between two looks at the context.
const ctxEvery = 256

func (r *Rows[K, V]) walk(rd Reader[K, V], yield func(K, V) bool) error {
	if err := rd.check(); err != nil {
		return err
	}
	r.at = rd.Position()
	v, n := r.view, 0
	prefix := rd.binding.prefix(r.index)
	return scan(rd.m.snap, prefix, r.lower, r.upper, r.reverse, func(key, value []byte) (bool, error) {
		if n++; n%ctxEvery == 0 && r.ctx.Err() != nil {
			return false, r.ctx.Err()
		}
		if r.index >= 0 {
			return v.yieldIndexed(rd, key[len(r.lower):], yield)
		}
		return v.yieldRow(key, value, yield)
	})
}

// yieldRow decodes and yields a row.
func (v *View[K, V]) yieldRow(key, raw []byte, yield func(K, V) bool) (bool, error) {
	k, _, err := v.keys.Decode(key)
	if err != nil {
		return false, fmt.Errorf("view: %q: stored key: %w", v.core.name, err)
	}
	var value V
	if err := v.values.Decode(raw, &value); err != nil {
		return false, fmt.Errorf("view: %q: stored value: %w", v.core.name, err)
	}
	return yield(k, value), nil
}

// prefix returns the prefix of the rows or of an index.
func (b *binding) prefix(index int) []byte {
	if index < 0 {
		return b.rows
	}
	return b.indexes[index]
}

// scan walks the pairs of a store whose keys, without the store's prefix, are
// lower <= key < upper; a nil bound is open. fn says whether to go on.
func scan(snap state.Reader, prefix, lower, upper []byte, reverse bool,
	fn func(key, value []byte) (bool, error)) (err error) {
	from := append(prefix[:len(prefix):len(prefix)], lower...)
	to := state.PrefixEnd(prefix)
	if upper != nil {
		to = append(prefix[:len(prefix):len(prefix)], upper...)
	}
	it, err := snap.NewIter(from, to)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	first, next := it.First, it.Next
	if reverse {
		first, next = it.Last, it.Prev
	}
	for ok := first(); ok; ok = next() {
		more, err := fn(it.Key()[len(prefix):], it.Value())
		if err != nil || !more {
			return err
		}
	}
	return it.Error()
}
