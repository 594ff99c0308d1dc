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
	// Reset makes the state that of an empty group, for a group that begins.
	Reset()
	// AppendState and DecodeState store and load the state. DecodeState gets all of
	// the bytes that AppendState wrote and must not keep them.
	AppendState(dst []byte) []byte
	DecodeState(src []byte) error
}

// typeName names a type in a schema.
func typeName[T any]() string { return reflect.TypeFor[T]().String() }

func schemaOf(parts ...string) string { return strings.Join(parts, ",") }
