// Package operators holds the operators of the DSL as functions over typed
// handles: Filter, MapValues, Join, JoinForeignKey, GroupBy, Aggregate and so on,
// one file each.
//
// Operators on tables are delta operators: they turn the net changes of a step
// into net changes of their result, at most one a key, and emit nothing where the
// result stays the same. The functions given to them are called for values that
// hold before the step and for values that hold after it, never for a mixture, and
// must be pure: the same input gives the same output, since an old result is found
// by asking again.
//
// Operators on streams see each record once, in commit order.
package operators

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Handle is a stream or a table; the result has the same shape.
type Handle[K comparable, V any] interface {
	topology.Stream[K, V] | topology.Table[K, V]
}

// handle is a handle of whatever types.
type handle interface {
	Builder() *topology.Builder
	Node() *topology.Node
}

// builderOf returns the builder that the inputs belong to, so that its Build reports those
// that are zero handles. It panics if all are; see topology.Stream.
func builderOf(inputs ...handle) *topology.Builder {
	for _, in := range inputs {
		if in.Node() != nil {
			return in.Builder()
		}
	}
	return topology.Stream[int, int]{}.Builder()
}

// inputName says, in an error about a node without a name, what it reads.
func inputName(n *topology.Node) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf(" of %q", n.Name)
}

// userError marks an error that a user function returned.
func userError(err error) error {
	return fmt.Errorf("%w: %w", topology.ErrUserFunction, err)
}

// cursor remembers the key at work, so that a panic in a user function can be
// reported with the node and the key: operators compute when they are walked, so
// the node that runs may be another one, further down.
type cursor[K comparable] struct {
	key    K
	self   int
	active *int
}

func newCursor[K comparable](rt *topology.Runtime) cursor[K] {
	return cursor[K]{self: rt.Node().ID, active: rt.Active()}
}

// at says that user functions are called for a key now.
func (c *cursor[K]) at(key K) { c.key, *c.active = key, c.self }

// CurrentKey returns the key at work.
func (c *cursor[K]) CurrentKey() any { return c.key }

// recordContext makes the context of a stream record.
func recordContext[K comparable, V any](n *topology.Node, r *record.Record[K, V]) record.Context {
	return record.Context{Node: n.Name, Time: time.UnixMicro(r.Time).UTC(), Tx: r.Tag.Tx}
}

// fanOut is true for a node whose output several nodes read, so that computing it
// once and keeping it pays.
func fanOut(rt *topology.Runtime) bool { return rt.Consumers(rt.Node()) > 1 }

// eachOf calls fn for each item of a walk over chunks, until it fails.
func eachOf[T any](walk func(yield func(chunk []T) bool) error, fn func(item *T) error) error {
	var failed error
	err := walk(func(chunk []T) bool {
		for i := range chunk {
			if failed = fn(&chunk[i]); failed != nil {
				return false
			}
		}
		return true
	})
	return firstError(err, failed)
}

// again is a walk over the records that are to be tried again, where there are some: then
// a step has no others.
func again[T any](items []T, walk func(yield func([]T) bool) error) func(yield func([]T) bool) error {
	if len(items) == 0 {
		return walk
	}
	return func(yield func([]T) bool) error {
		yield(items)
		return nil
	}
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// chunkSize bounds the chunks that operators pass on.
const chunkSize = 1024

// forget empties a buffer of a step, and lets go of it if it has grown large.
func forget[T any](items []T) []T {
	if cap(items) > 4*chunkSize {
		return nil
	}
	clear(items)
	return items[:0]
}

// stored is a store of the node itself as an input of its joins.
type stored[K comparable, V any] struct{ *state.Table[K, V] }

// Step does nothing: the node that keeps the store brings it up to date.
func (stored[K, V]) Step(*topology.Step) error { return nil }
