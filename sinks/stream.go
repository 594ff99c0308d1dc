package sinks

import (
	"encoding/binary"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/topology"
)

// KindStream is the kind of the nodes that Stream makes.
const KindStream topology.Kind = "sink-stream"

// Stream writes a stream's records to a target as events, in commit order, each
// with an id that stays the same whatever crashes: the source, the position of the
// transaction, the node, the row's ordinal and the index among that row's outputs.
// Key and value are JSON (see serde.JSON).
//
// option is the connector's own, at most one, and OnError.
func Stream[K comparable, V any](in topology.Stream[K, V], target *Target, name string, option ...Option) {
	b := in.Builder()
	if target == nil {
		b.Errorf("topology: sink-stream %q: no target was given; make one with sinks.NewTarget", name)
		target = NewTarget("none", nil)
	} else if err := topology.CheckName(target.Name()); err != nil {
		b.Errorf("topology: target %q: %w", target.Name(), err)
	}
	keys, err := serde.JSONOf[K]()
	if err != nil {
		b.Errorf("topology: sink-stream %q: key: %w", name, err)
	}
	values, err := serde.JSONOf[V]()
	if err != nil {
		b.Errorf("topology: sink-stream %q: value: %w", name, err)
	}
	own, policy := splitOptions(b, name, option)
	topology.Add(b, topology.Node{
		Name:    target.Name() + "/" + name,
		Kind:    KindStream,
		OnError: policy,
		Inputs:  []*topology.Node{in.Node()},
		Needs:   topology.Needs(1, topology.Any()),
		Sink: &Spec{
			Target: target,
			Output: Output{Name: name, Append: true, Options: own},
		},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &streamSink[K, V]{
				node: rt.Node(), in: topology.StreamInput[K, V](rt, 0), out: rt.Outputs,
				keys: keys, values: values,
			}, nil
		},
	})
}

type streamSink[K comparable, V any] struct {
	node       *topology.Node
	in         topology.StreamOutput[K, V]
	out        topology.Outputs
	keys       *serde.JSON[K]
	values     *serde.JSON[V]
	key, value []byte
}

// EndStep does nothing: the outputs are kept for the epoch.
func (s *streamSink[K, V]) EndStep() {}

// Step puts out the step's records. The value is the event time, eight bytes, and
// the JSON.
func (s *streamSink[K, V]) Step(*topology.Step) error {
	var failed error
	err := s.in.Records(func(chunk []record.Record[K, V]) bool {
		for i := range chunk {
			r := &chunk[i]
			s.key = s.keys.Append(s.key[:0], &r.Key, serde.JSONOptions{})
			s.value = binary.BigEndian.AppendUint64(s.value[:0], uint64(r.Time))
			s.value = s.values.Append(s.value, &r.Value, serde.JSONOptions{})
			if failed = s.out.Append(s.node, r.Tag, s.key, s.value); failed != nil {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}
