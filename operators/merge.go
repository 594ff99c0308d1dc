package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Merge joins streams into one, in commit order: by transaction, row and place
// among the outputs of a row; of records that tie, the earlier argument's first. It
// panics if it is given no stream.
//
// Records are facts, not retracted or deleted; NULL in keys and values is passed on, and
// nothing is late: event times do not matter.
func Merge[K comparable, V any](streams ...topology.Stream[K, V]) topology.Stream[K, V] {
	inputs := make([]*topology.Node, len(streams))
	handles := make([]handle, len(streams))
	for i, s := range streams {
		inputs[i], handles[i] = s.Node(), s
	}
	return topology.AddStream[K, V](builderOf(handles...), topology.Node{
		Kind:   "merge",
		Inputs: inputs,
		Needs:  topology.Needs(len(inputs), topology.Any()),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			m := &merge[K, V]{}
			for i := range inputs {
				m.in = append(m.in, topology.StreamInput[K, V](rt, i))
			}
			return m, nil
		},
	})
}

type merge[K comparable, V any] struct {
	records[K, V]
	in    []topology.StreamOutput[K, V]
	paths paths
}

// Step gathers the inputs' records and puts them in order.
func (m *merge[K, V]) Step(*topology.Step) error {
	for i, in := range m.in {
		number := []byte{byte(i >> 8), byte(i)}
		err := in.Records(func(chunk []record.Record[K, V]) bool {
			for _, r := range chunk {
				// The input's number makes paths of merged streams distinct, so that
				// event ids are, and stays out of the way of the order.
				r.Tag.Path = m.paths.join(r.Tag.Path, number)
				m.out = append(m.out, r)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	inOrder(m.out)
	return nil
}
