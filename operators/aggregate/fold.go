package aggregate

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/state"
)

// Fold aggregates with functions of the user's own: A is the state, which must be
// storable (see state.CodecOf), R the result.
type Fold[V, A, R any] struct {
	// Init makes the state of an empty group; nil means the zero value.
	Init func() A
	// Add takes a value in. Required.
	Add func(A, V) A
	// Remove takes a value out again. Required where a table is aggregated; the
	// order of adding and removing must not matter. Nil is for streams.
	Remove func(A, V) A
	// Merge joins the states of two groups that become one, the earlier one first.
	// Required where session windows are aggregated.
	Merge func(earlier, later A) A
	// Result computes the result from the state. Required.
	Result func(A) R
}

// Custom makes an aggregator of a Fold.
func Custom[V, A, R any](f Fold[V, A, R]) Aggregator[V, R] {
	codec, err := state.CodecOf[A]()
	if err != nil {
		err = fmt.Errorf("aggregate: state of a Fold: %w", err)
	}
	if f.Add == nil || f.Result == nil {
		err = errors.Join(err,
			errors.New("aggregate: a Fold needs Add and Result, and a Cogroup all of its adders"))
	}
	return Aggregator[V, R]{
		build: func(int) Accumulator[V, R] {
			a := &fold[V, A, R]{f: f, codec: codec}
			a.Reset()
			return a
		},
		remove:  f.Remove != nil,
		merge:   f.Merge != nil,
		schema:  schemaOf("fold", codec.Fingerprint),
		problem: err,
	}
}

// Reduce combines the values of a stream's group in commit order; the first one
// stands for itself. Sessions that become one are combined, the earlier one first. It
// cannot take values out and so is for streams only.
func Reduce[V any](combine func(acc, v V) V) Aggregator[V, V] {
	type state struct {
		Value V
		Has   bool
	}
	return given("Reduce", Custom(Fold[V, state, V]{
		Add: func(s state, v V) state {
			if s.Has {
				v = combine(s.Value, v)
			}
			return state{Value: v, Has: true}
		},
		Merge: func(earlier, later state) state {
			if !earlier.Has || !later.Has {
				if later.Has {
					return later
				}
				return earlier
			}
			return state{Value: combine(earlier.Value, later.Value), Has: true}
		},
		Result: func(s state) V { return s.Value },
	}), combine)
}

type fold[V, A, R any] struct {
	f     Fold[V, A, R]
	codec state.Codec[A]
	state A
}

func (a *fold[V, A, R]) Add(_ *Entries, _ []byte, v *V) error {
	a.state = a.f.Add(a.state, *v)
	return nil
}

func (a *fold[V, A, R]) Remove(_ *Entries, _ []byte, v *V) error {
	a.state = a.f.Remove(a.state, *v)
	return nil
}

// Merge is called with the earlier group's state in a.
func (a *fold[V, A, R]) Merge(other Accumulator[V, R]) error {
	a.state = a.f.Merge(a.state, other.(*fold[V, A, R]).state)
	return nil
}

func (a *fold[V, A, R]) Result(*Entries) (R, error) { return a.f.Result(a.state), nil }

func (a *fold[V, A, R]) Clear(*Entries) error { return nil }

func (a *fold[V, A, R]) Reset() {
	var none A
	if a.state = none; a.f.Init != nil {
		a.state = a.f.Init()
	}
}

func (a *fold[V, A, R]) AppendState(dst []byte) []byte { return a.codec.Append(dst, &a.state) }

func (a *fold[V, A, R]) DecodeState(src []byte) error { return a.codec.Decode(src, &a.state) }
