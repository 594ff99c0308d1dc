package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Foreach calls f for each record of a stream, in commit order, and ends there. It runs
// before the epoch is durable, so f is called again for the same record when an epoch
// is repeated after a crash, and nothing that f does is undone: use a sink where that
// matters. An error stops the topology at the transaction.
//
// Nothing is retracted and nothing is late; records with NULL in key or value are
// records like any other.
func Foreach[K comparable, V any](in topology.Stream[K, V], f func(record.Context, K, V) error) {
	given(in.Builder(), reading("Foreach", in), function{"f", f})
	topology.Add(in.Builder(), topology.Node{
		Kind:        "foreach",
		Inputs:      []*topology.Node{in.Node()},
		Needs:       topology.Needs(1, topology.One()), // commit order
		TakesPolicy: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &stateless[K, V, K, V]{
				cursor: newCursor[K](rt), node: rt.Node(), in: topology.StreamInput[K, V](rt, 0),
				f:     func(ctx record.Context, k K, v V, _ func(K, V)) error { return f(ctx, k, v) },
				guard: topology.NewGuard(rt),
			}, nil
		},
	})
}
