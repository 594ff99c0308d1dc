package topology

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// keptStore is the store of a table that is kept behind an exchange.
const keptStore = "exchanged"

// kept makes the node that keeps a table once more, behind an exchange by its encoded
// keys: for a table that is divided as its topic is and meets what is not.
func (typedTable[K, V]) kept(of *Node) *Node {
	return TablePart[K, V](Node{
		Inputs: []*Node{of}, Needs: Needs(1, Anew()), Stores: []StoreSpec{{Name: keptStore}},
		New: func(rt *Runtime) (Operator, error) {
			key, err := state.KeyCodecOf[K]()
			if err != nil {
				return nil, err
			}
			value, err := state.CodecOf[V]()
			if err != nil {
				return nil, err
			}
			t := &keptTable[K, V]{
				Table: state.NewTable(rt.Env, rt.StoreIDFor(keptStore), key, value), in: TableInput[K, V](rt, 0),
			}
			rt.Register(t.Table)
			return t, nil
		},
	})
}

// kept is not for streams: they are exchanged for each node that reads them.
func (typedStream[K, V]) kept(*Node) *Node { return nil }

// keptTable is the table behind the exchange.
type keptTable[K comparable, V any] struct {
	*state.Table[K, V]
	in TableOutput[K, V]
}

// Step applies what has come. All changes of a row come from one partition, in order.
func (t *keptTable[K, V]) Step(*Step) error {
	var failed error
	err := t.in.Changes(func(chunk []record.Change[K, V]) bool {
		for i := range chunk {
			if c := &chunk[i]; c.HasNew() {
				failed = t.Put(c.Key, c.New, c.Time)
			} else {
				failed = t.Delete(c.Key, c.Time)
			}
			if failed != nil {
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
