package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Filter keeps the records of a stream, or the rows of a table, for which keep
// returns true.
//
// On a table a row that stops fitting is deleted from the result and one that
// begins to fit is inserted; a change between two rows that do not fit emits
// nothing. (Kafka Streams emits a tombstone for every row that does not fit.)
//
// NULL in keys and values is a value like any other: keep decides. Order and event times
// stay as they are, and nothing is late. Records of a stream are facts, which are not
// retracted.
func Filter[K comparable, V any, H Handle[K, V]](in H, keep func(K, V) bool) H {
	switch h := any(in).(type) {
	case topology.Stream[K, V]:
		given(h.Builder(), reading("Filter", h), function{"keep", keep})
		return any(FilterContext(h, func(_ record.Context, k K, v V) (bool, error) {
			return keep(k, v), nil
		})).(H)
	case topology.Table[K, V]:
		given(h.Builder(), reading("Filter", h), function{"keep", keep})
		return any(filterTable(h, keep)).(H)
	}
	panic("operators: unreachable: Handle is a Stream or a Table")
}

// FilterContext is Filter on a stream with a function that is told the record's
// context and may fail.
func FilterContext[K comparable, V any](
	in topology.Stream[K, V], keep func(record.Context, K, V) (bool, error),
) topology.Stream[K, V] {
	given(in.Builder(), reading("FilterContext", in), function{"keep", keep})
	return addStateless(in, "filter",
		func(ctx record.Context, k K, v V, emit func(K, V)) error {
			ok, err := keep(ctx, k, v)
			if ok && err == nil {
				emit(k, v)
			}
			return err
		}, false, topology.DividedAsInputs)
}

func filterTable[K comparable, V any](
	in topology.Table[K, V], keep func(K, V) bool,
) topology.Table[K, V] {
	return topology.AddTable[K, V](in.Builder(), topology.Node{
		Kind:   "filter",
		Inputs: []*topology.Node{in.Node()},
		Needs:  topology.Needs(1, topology.ByKey()),

		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			g, err := guardedRows(rt, "", topology.TableInput[K, V](rt, 0), func(k K, v, out *V) bool {
				fits := keep(k, *v)
				if fits {
					*out = *v
				}
				return fits
			})
			if g != nil || err != nil {
				return kept(rt, g), err
			}
			f := &tableFilter[K, V]{
				cursor: newCursor[K](rt), in: topology.TableInput[K, V](rt, 0), keepRow: keep,
			}
			f.keep = fanOut(rt)
			return f, nil
		},
	})
}

type tableFilter[K comparable, V any] struct {
	changes[K, V]
	cursor[K]
	in      topology.TableOutput[K, V]
	keepRow func(K, V) bool
}

// Step does nothing: a filter works when its output is walked.
func (f *tableFilter[K, V]) Step(*topology.Step) error { return nil }

// Changes yields the input's changes as seen through the filter.
func (f *tableFilter[K, V]) Changes(yield func([]record.Change[K, V]) bool) error {
	return f.walk(f.compute, yield)
}

func (f *tableFilter[K, V]) compute(yield func([]record.Change[K, V]) bool) error {
	return f.in.Changes(func(chunk []record.Change[K, V]) bool {
		f.out = f.out[:0]
		for i := range chunk {
			c := &chunk[i]
			if sides := f.sides(c.Key, c.Sides, &c.Old, &c.New); sides != 0 {
				f.out = append(f.out, *c)
				f.out[len(f.out)-1].Narrow(sides)
			}
		}
		return len(f.out) == 0 || yield(f.out)
	})
}

// sides returns which of two values exist and fit.
func (f *tableFilter[K, V]) sides(key K, has record.Sides, older, newer *V) record.Sides {
	f.at(key)
	var sides record.Sides
	if has&record.HasOld != 0 && f.keepRow(key, *older) {
		sides |= record.HasOld
	}
	if has&record.HasNew != 0 && f.keepRow(key, *newer) {
		sides |= record.HasNew
	}
	return sides
}

// At looks through the filter.
func (f *tableFilter[K, V]) At(key K) (record.Versions[V], error) {
	v, err := f.in.At(key)
	if err == nil {
		v.Narrow(f.sides(key, v.Sides, &v.Old, &v.New))
	}
	return v, err
}
