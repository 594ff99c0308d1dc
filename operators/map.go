package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Map computes a new key and a new value for each record of a stream.
//
// One record comes of each, in the same order and at the same event time, so nothing is
// late. Records are facts: nothing is retracted or deleted. NULL in keys and values is
// for f to judge.
func Map[K comparable, V any, K2 comparable, V2 any](
	in topology.Stream[K, V], f func(K, V) (K2, V2),
) topology.Stream[K2, V2] {
	given(in.Builder(), reading("Map", in), function{"f", f})
	return addStateless(in, "map", func(_ record.Context, k K, v V, emit func(K2, V2)) error {
		emit(f(k, v))
		return nil
	}, false, topology.DividedOtherwise)
}

// MapContext is Map with a function that is told the record's context and may
// fail.
func MapContext[K comparable, V any, K2 comparable, V2 any](
	in topology.Stream[K, V], f func(record.Context, K, V) (K2, V2, error),
) topology.Stream[K2, V2] {
	given(in.Builder(), reading("MapContext", in), function{"f", f})
	return addStateless(in, "map", func(ctx record.Context, k K, v V, emit func(K2, V2)) error {
		k2, v2, err := f(ctx, k, v)
		if err == nil {
			emit(k2, v2)
		}
		return err
	}, false, topology.DividedOtherwise)
}

// MapStreamValues computes a new value for each record of a stream; keys stay.
// For tables there is MapValues.
//
// For order, time and NULL see Map.
func MapStreamValues[K comparable, V, R any](
	in topology.Stream[K, V], f func(K, V) R,
) topology.Stream[K, R] {
	given(in.Builder(), reading("MapStreamValues", in), function{"f", f})
	return addStateless(in, "map-values", func(_ record.Context, k K, v V, emit func(K, R)) error {
		emit(k, f(k, v))
		return nil
	}, false, topology.DividedAsInputs)
}

// Rekey gives each record of a stream a new key (selectKey in Kafka Streams).
//
// For order, time and NULL see Map; a new key of type sql.Null may be NULL.
func Rekey[K comparable, V any, K2 comparable](
	in topology.Stream[K, V], key func(K, V) K2,
) topology.Stream[K2, V] {
	given(in.Builder(), reading("Rekey", in), function{"key", key})
	return addStateless(in, "rekey", func(_ record.Context, k K, v V, emit func(K2, V)) error {
		emit(key(k, v), v)
		return nil
	}, false, topology.DividedOtherwise)
}

// FlatMap turns each record of a stream into any number of records, in the order
// in which f emits them.
//
// For time and NULL see Map.
func FlatMap[K comparable, V any, K2 comparable, V2 any](
	in topology.Stream[K, V], f func(k K, v V, emit func(K2, V2)),
) topology.Stream[K2, V2] {
	given(in.Builder(), reading("FlatMap", in), function{"f", f})
	return addStateless(in, "flat-map", func(_ record.Context, k K, v V, emit func(K2, V2)) error {
		f(k, v, emit)
		return nil
	}, true, topology.DividedOtherwise)
}

// FlatMapContext is FlatMap with a function that is told the record's context and
// may fail; what it emitted before it failed is dropped with the epoch.
func FlatMapContext[K comparable, V any, K2 comparable, V2 any](
	in topology.Stream[K, V], f func(ctx record.Context, k K, v V, emit func(K2, V2)) error,
) topology.Stream[K2, V2] {
	given(in.Builder(), reading("FlatMapContext", in), function{"f", f})
	return addStateless(in, "flat-map", f, true, topology.DividedOtherwise)
}

// Peek calls f for each record and passes the stream on. f is called again when
// an epoch is repeated after a crash: use it to look, not to act.
//
// For order, time and NULL see Map.
func Peek[K comparable, V any](
	in topology.Stream[K, V], f func(record.Context, K, V),
) topology.Stream[K, V] {
	given(in.Builder(), reading("Peek", in), function{"f", f})
	return addStateless(in, "peek", func(ctx record.Context, k K, v V, emit func(K, V)) error {
		f(ctx, k, v)
		emit(k, v)
		return nil
	}, false, topology.DividedAsInputs)
}
