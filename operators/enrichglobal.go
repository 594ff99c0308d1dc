package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

const enrichGlobalKind = "enrich-global"

// EnrichGlobal joins each record of a stream to the row of a global table under a key
// taken from the record's key and value (INNER JOIN: a record without a row is dropped,
// and counted as no-row; LeftEnrichGlobal keeps it). Since every member of a scaled-out
// app holds the whole table, the stream need not be partitioned by that key.
//
// The table has no times: a record meets the row that is there, whatever its event
// time. In direct mode that is the row as of the record's own transaction, as for
// Enrich; so each transaction becomes a step of its own. A later change of the row does
// not touch records that have gone out.
//
// Nothing is retracted when a row is deleted; records keep their order, and none is
// late. EnrichGlobalContext knows keys that are NULL, which join nothing.
func EnrichGlobal[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.GlobalTable[F, R],
	key func(K, V) F, joiner func(V, R) O,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("EnrichGlobal", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrich(name, enrichGlobalKind, events, table.Table(),
		func(_ record.Context, k K, v V) (F, bool, error) { return key(k, v), true, nil },
		onlyWithRow[K](joiner), true)
}

// LeftEnrichGlobal is EnrichGlobal that keeps records without a row (LEFT JOIN); the
// joiner is told whether there is one.
func LeftEnrichGlobal[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.GlobalTable[F, R],
	key func(K, V) F, joiner func(v V, r R, hasRow bool) O,
) topology.Stream[K, O] {
	given(builderOf(events, table), named("LeftEnrichGlobal", name),
		function{"key", key}, function{"joiner", joiner})
	return EnrichGlobalContext(name, events, table,
		func(_ record.Context, k K, v V) (F, bool, error) { return key(k, v), true, nil },
		func(_ record.Context, _ K, v V, r R, has bool) (O, bool, error) {
			return joiner(v, r, has), true, nil
		})
}

// EnrichGlobalContext is the general form of EnrichGlobal: the key may be missing (NULL joins nothing),
// the joiner decides whether the record goes on, and both are told the record's context
// and may fail.
func EnrichGlobalContext[K comparable, V any, F comparable, R, O any](
	name string, events topology.Stream[K, V], table topology.GlobalTable[F, R],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
	joiner func(ctx record.Context, k K, v V, r R, hasRow bool) (o O, emit bool, err error),
) topology.Stream[K, O] {
	given(builderOf(events, table), named("EnrichGlobalContext", name),
		function{"key", key}, function{"joiner", joiner})
	return addEnrich(name, enrichGlobalKind, events, table.Table(), key, joiner, false)
}
