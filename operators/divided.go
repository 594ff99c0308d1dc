package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// byLookUp divides events by the key that they look up, so that they come to the
// partition of the row. Events that look up nothing, and those that the function for the
// key fails on, go where an empty key does: there it fails again, as part of the node.
func byLookUp[K comparable, V any, F comparable](
	kind topology.Kind, key func(ctx record.Context, k K, v V) (f F, ok bool, err error),
) topology.Need {
	if kind == enrichGlobalKind {
		return topology.Any()
	}
	return topology.StreamBy(func(rt *topology.Runtime) func([]byte, *record.Record[K, V]) []byte {
		node := rt.Node()
		d, err := topology.DividerOf[F]()
		if err != nil {
			return nil // all of it is in one partition, as the table is
		}
		return func(dst []byte, r *record.Record[K, V]) []byte { return lookUpKey(dst, node, r, key, &d) }
	})
}

func lookUpKey[K comparable, V any, F comparable](
	dst []byte, node *topology.Node, r *record.Record[K, V],
	key func(ctx record.Context, k K, v V) (f F, ok bool, err error), d *topology.Divider[F],
) (out []byte) {
	defer func() {
		if recover() != nil { // it does again, where the event is looked up
			out = dst[:0]
		}
	}()
	f, ok, err := key(recordContext(node, r), r.Key, r.Value)
	if !ok || err != nil {
		return dst[:0]
	}
	return d.Of(dst, f)
}

func enrichDivision(kind topology.Kind) topology.Division {
	if kind == enrichGlobalKind {
		return topology.DividedAsInputs
	}
	return topology.DividedOtherwise
}
