package aggregate

import (
	"fmt"
	"strconv"

	"github.com/tailrace/tailrace/state"
)

// Collect gathers a value of each row into a list: array_agg(value ORDER BY order).
// Rows come in ascending order of the order function, rows that tie in order of
// their keys (of a stream: in commit order, where all come from one source on one way;
// otherwise in an order that is the same at every run). The order may be of any type that
// Min takes; a struct orders by several columns. The list is never nil.
//
// It keeps an entry for each row; a change writes that one alone, and reads the
// group once at the end of the step.
func Collect[V any, O comparable, R any](order func(V) O, value func(V) R) Aggregator[V, []R] {
	return given("Collect", newList("collect", order, value, false, 0), order, value)
}

// CollectDesc is Collect in descending order; rows that tie still come in order of
// their keys.
func CollectDesc[V any, O comparable, R any](order func(V) O, value func(V) R) Aggregator[V, []R] {
	return given("CollectDesc", newList("collect-desc", order, value, true, 0), order, value)
}

// TopN gathers the n rows with the greatest order into a list, greatest first; see
// Collect. It reads n entries a changed group, however large the group is.
func TopN[V any, O comparable, R any](n int, order func(V) O, value func(V) R) Aggregator[V, []R] {
	return given("TopN", limited(n, newList("top-n", order, value, true, n)), order, value)
}

// BottomN gathers the n rows with the smallest order into a list, smallest first;
// see TopN.
func BottomN[V any, O comparable, R any](n int, order func(V) O, value func(V) R) Aggregator[V, []R] {
	return given("BottomN", limited(n, newList("bottom-n", order, value, false, n)), order, value)
}

// ArgMin is the value of the row whose order is the smallest, of rows that tie the
// one with the first key. Over no rows at all it is the zero value.
func ArgMin[V any, O comparable, R any](order func(V) O, value func(V) R) Aggregator[V, R] {
	return given("ArgMin", Map(newList("arg-min", order, value, false, 1), firstOf[R]), order, value)
}

// ArgMax is the value of the row whose order is the greatest, of rows that tie the
// one with the first key. Over no rows at all it is the zero value.
func ArgMax[V any, O comparable, R any](order func(V) O, value func(V) R) Aggregator[V, R] {
	return given("ArgMax", Map(newList("arg-max", order, value, true, 1), firstOf[R]), order, value)
}

func firstOf[R any](list []R) (first R) {
	if len(list) > 0 {
		first = list[0]
	}
	return first
}

func limited[V, R any](n int, a Aggregator[V, []R]) Aggregator[V, []R] {
	if n < 1 && a.problem == nil {
		a.problem = fmt.Errorf("aggregate: a list of %d rows was asked for; it needs at least 1", n)
	}
	return a
}

func newList[V any, O comparable, R any](
	name string, order func(V) O, value func(V) R, desc bool, limit int,
) Aggregator[V, []R] {
	by, problem := orderingOf[O](name)
	codec, err := state.CodecOf[R]()
	if problem == nil && err != nil {
		problem = fmt.Errorf("aggregate: %s: %w", name, err)
	}
	return Aggregator[V, []R]{
		build: func(slot int) Accumulator[V, []R] {
			return &list[V, O, R]{
				slot: slot, desc: desc, limit: limit, order: order, by: by, value: value, codec: codec,
			}
		},
		slots:  1,
		remove: true,
		merge:  true,
		// What is stored does not depend on the limit, but a group that nobody touches keeps
		// the result that was made with it.
		schema:  schemaOf(name, strconv.Itoa(limit), typeName[O](), codec.Fingerprint),
		problem: problem,
	}
}

// list keeps its rows' values as entries under the encoding of their order and
// their ids. It has no state besides.
type list[V any, O comparable, R any] struct {
	slot  int
	desc  bool
	limit int // 0: none
	order func(V) O
	by    ordering[O]
	value func(V) R
	codec state.Codec[R]

	item R // the value at work, so that it has an address
	key  []byte
	buf  []byte
}

func (l *list[V, O, R]) encode(id []byte, v *V) {
	l.key = l.by.append(l.key[:0], l.order(*v))
	if l.desc {
		descending(l.key)
	}
	l.key = append(l.key, id...)
}

func (l *list[V, O, R]) Add(e *Entries, id []byte, v *V) error {
	l.encode(id, v)
	l.item = l.value(*v)
	l.buf = l.codec.Append(l.buf[:0], &l.item)
	return e.Set(l.slot, l.key, l.buf)
}

func (l *list[V, O, R]) Remove(e *Entries, id []byte, v *V) error {
	l.encode(id, v)
	return e.Delete(l.slot, l.key)
}

// Merge does nothing: all that there is to a list is its entries.
func (l *list[V, O, R]) Merge(Accumulator[V, []R]) error { return nil }

func (l *list[V, O, R]) Result(e *Entries) ([]R, error) {
	n, err := e.Read(l.slot, l.limit)
	out := make([]R, n)
	for i := 0; i < n && err == nil; i++ {
		err = l.codec.Decode(e.Value(i), &out[i])
	}
	return out, err
}

func (l *list[V, O, R]) Clear(e *Entries) error { return e.Clear(l.slot) }

// Reset does nothing; see Merge.
func (l *list[V, O, R]) Reset() {}

func (l *list[V, O, R]) AppendState(dst []byte) []byte { return dst }

func (l *list[V, O, R]) DecodeState(src []byte) error {
	if len(src) > 0 {
		return fmt.Errorf("aggregate: list of %d bytes", len(src))
	}
	return nil
}
