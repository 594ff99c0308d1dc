// Package aggregate holds the aggregators that operators.Aggregate applies to each
// group: Count, Sum, Min, Max, Avg, Collect, TopN, ArgMin, ArgMax, Fold and Reduce.
// They combine into one typed result with Combine2, Combine3 and Combine4.
//
// NULL follows SQL: the ...Null forms take sql.Null values, skip those that are
// NULL, and are NULL themselves over nothing but NULLs. They also stand for SQL's
// FILTER (WHERE ...): a function that returns NULL leaves the row out.
//
// Integers are added in 128 bits, decimals and floats exactly, and every result is
// rounded once. So results do not depend on the order of rows, nor on rows that came
// and went.
//
// Over a table an aggregator must take values out as well as add them, in any
// order; all in this package can, Reduce excepted, which is for streams.
package aggregate

import (
	"errors"
	"reflect"
	"strings"
)

// ErrOverflow says that an integer result does not fit its Go type. The state is
// exact all the same: sums are kept in 128 bits.
var ErrOverflow = errors.New("aggregate: result does not fit its type")

// Aggregator turns the values of a group into a result. The zero value is not
// valid; use the functions of this package.
type Aggregator[V, R any] struct {
	build   func(slot int) Accumulator[V, R]
	slots   int // number of entry spaces it uses
	remove  bool
	merge   bool
	schema  string
	problem error
}

// New makes the state of an empty group.
func (a Aggregator[V, R]) New() Accumulator[V, R] { return a.build(0) }

// Schema identifies what is stored; a change rebuilds the state.
func (a Aggregator[V, R]) Schema() string { return a.schema }

// CanRemove reports whether values can be taken out, as a table demands.
func (a Aggregator[V, R]) CanRemove() bool { return a.remove }

// CanMerge reports whether two groups can become one, as session windows demand.
func (a Aggregator[V, R]) CanMerge() bool { return a.merge }

// UsesEntries reports whether the aggregator keeps an entry for each value.
func (a Aggregator[V, R]) UsesEntries() bool { return a.slots > 0 }

// Err is what is wrong with the aggregator, such as a type that cannot be stored.
func (a Aggregator[V, R]) Err() error {
	if a.problem == nil && a.build == nil {
		return errors.New("aggregate: the zero Aggregator was given; use the functions of package aggregate")
	}
	return a.problem
}

// Accumulator is the state of one group. id identifies the value among all of the
// input: the same for Add and Remove of one row.
type Accumulator[V, R any] interface {
	Add(e *Entries, id []byte, v *V) error
	Remove(e *Entries, id []byte, v *V) error
	// Merge takes in the state of a later group, of the same aggregator, that becomes
	// one with this one. The caller moves the entries. other is not used afterwards.
	// It is called only where the aggregator can merge.
	Merge(other Accumulator[V, R]) error
	// Result computes the group's result. It leaves the state as it is.
	Result(e *Entries) (R, error)
	// Clear removes what is left in the entries when the group ends.
	Clear(e *Entries) error
	// AppendState and DecodeState store and load the state. DecodeState gets all of
	// the bytes that AppendState wrote and must not keep them.
	AppendState(dst []byte) []byte
	DecodeState(src []byte) error
}

// EntryStore is an ordered set of entries; state.Ordered is one.
type EntryStore interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	Scan(prefix []byte, reverse bool, fn func(key, value []byte) bool) error
}

// Entries are the ordered entries of one group. Each aggregator of a combination
// has a slot of its own.
type Entries struct {
	store  EntryStore
	base   []byte
	buf    []byte
	prefix []byte
	moved  []byte // by Move: keys and values, one behind the other
	ends   []int
}

// NewEntries makes entries over a store.
func NewEntries(s EntryStore) *Entries { return &Entries{store: s} }

// Scope points the entries at the group with the given encoded key, which must
// stay unchanged until the next call.
func (e *Entries) Scope(group []byte) { e.base = group }

// Set writes the entry under key in a slot.
func (e *Entries) Set(slot int, key, value []byte) error {
	return e.store.Set(e.entry(slot, key), value)
}

// Delete removes the entry under key in a slot.
func (e *Entries) Delete(slot int, key []byte) error { return e.store.Delete(e.entry(slot, key)) }

// Scan visits the entries of a slot in key order, or in reverse. Keys and values
// are valid during the call; entries must not be written meanwhile.
func (e *Entries) Scan(slot int, reverse bool, fn func(key, value []byte) bool) error {
	e.prefix = append(e.prefix[:0], e.entry(slot, nil)...)
	n := len(e.prefix)
	return e.store.Scan(e.prefix, reverse, func(key, value []byte) bool {
		return fn(key[n:], value)
	})
}

// Move puts all entries of a group under another group's key, in all slots.
func (e *Entries) Move(from, to []byte) error {
	e.moved, e.ends = e.moved[:0], e.ends[:0]
	err := e.store.Scan(from, false, func(key, value []byte) bool {
		e.moved = append(e.moved, key[len(from):]...)
		e.ends = append(e.ends, len(e.moved))
		e.moved = append(e.moved, value...)
		e.ends = append(e.ends, len(e.moved))
		return true
	})
	at := 0
	for i := 0; i < len(e.ends) && err == nil; i += 2 {
		key, value := e.moved[at:e.ends[i]], e.moved[e.ends[i]:e.ends[i+1]]
		at = e.ends[i+1]
		if err = e.store.Delete(append(append(e.buf[:0], from...), key...)); err == nil {
			e.buf = append(append(e.buf[:0], to...), key...)
			err = e.store.Set(e.buf, value)
		}
	}
	return err
}

// Clear removes all entries of a slot.
func (e *Entries) Clear(slot int) error {
	var keys [][]byte
	err := e.Scan(slot, false, func(key, _ []byte) bool {
		keys = append(keys, append([]byte(nil), key...))
		return true
	})
	for _, key := range keys {
		err = errors.Join(err, e.Delete(slot, key))
	}
	return err
}

func (e *Entries) entry(slot int, key []byte) []byte {
	e.buf = append(append(append(e.buf[:0], e.base...), byte(slot)), key...)
	return e.buf
}

// typeName names a type in a schema.
func typeName[T any]() string { return reflect.TypeFor[T]().String() }

func schemaOf(parts ...string) string { return strings.Join(parts, ",") }
