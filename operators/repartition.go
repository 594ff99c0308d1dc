package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Repartition marks a place where the records of a stream are to be divided by their
// keys anew, under a name of its own. In direct mode it passes the stream on as it is,
// at no cost: what needs a division by key, such as an aggregate, brings it about
// itself, and any number of partitions gives the same results in the same order.
//
// Records with a NULL key are passed on, unlike in Kafka Streams; nothing is late,
// retracted or deleted.
func Repartition[K comparable, V any](name string, in topology.Stream[K, V]) topology.Stream[K, V] {
	return topology.AddStream[K, V](in.Builder(), topology.Node{
		Name:      name,
		NeedsName: true,
		Kind:      "repartition",
		Inputs:    []*topology.Node{in.Node()},
		Needs:     topology.Needs(1, topology.Anew()),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &passed[K, V]{in: topology.StreamInput[K, V](rt, 0)}, nil
		},
	})
}

// passed is its input.
type passed[K comparable, V any] struct{ in topology.StreamOutput[K, V] }

// Step does nothing.
func (p *passed[K, V]) Step(*topology.Step) error { return nil }

// EndStep does nothing.
func (p *passed[K, V]) EndStep() {}

// Records yields the input's records.
func (p *passed[K, V]) Records(yield func([]record.Record[K, V]) bool) error {
	return p.in.Records(yield)
}
