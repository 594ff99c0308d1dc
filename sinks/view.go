package sinks

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// KindView is the kind of the nodes that View makes.
const KindView topology.Kind = "view"

// View keeps a table as a view that can be read in process, through the handle that
// it returns, and over HTTP. The name is unique in the app. Indexes declare
// secondary keys to look rows up by; adding or removing one rebuilds the view. The
// handle can be read once an app runs the topology. Mistakes are reported by Build.
func View[K comparable, V any](
	in topology.Table[K, V], name string, indexes ...view.Indexed[K, V],
) *view.View[K, V] {
	b := in.Builder()
	v, err := view.New(b.Name(), name, indexes...)
	if err != nil {
		b.Errorf("topology %q: view %q: %w", b.Name(), name, err)
		return v
	}
	n := topology.Node{
		// The prefix lets a view have the name of the table that it shows.
		Name: "view/" + name, Kind: KindView, Inputs: []*topology.Node{in.Node()},
		Needs: topology.Needs(1, topology.Any()),
		Sink:  view.Port(v),
		New:   func(rt *topology.Runtime) (topology.Operator, error) { return newViewOperator(rt, v) },
	}
	for i, schema := range v.Schemas() {
		n.Stores = append(n.Stores, topology.StoreSpec{Name: v.Stores()[i], Schema: schema})
	}
	topology.Add(b, n)
	return v
}

// viewOperator is the running form of a view: it writes the input's changes into
// the view's stores.
type viewOperator[K comparable, V any] struct {
	in   topology.TableOutput[K, V]
	w    *view.Writer[K, V]
	rows *state.Ordered
}

func newViewOperator[K comparable, V any](
	rt *topology.Runtime, v *view.View[K, V],
) (topology.Operator, error) {
	stores := make([]view.Store, 0, 1)
	op := &viewOperator[K, V]{in: topology.TableInput[K, V](rt, 0)}
	for i, name := range v.Stores() {
		s := state.NewOrdered(rt.Env, rt.StoreIDFor(name))
		rt.Register(s)
		stores = append(stores, s)
		if i == 0 {
			op.rows = s
		}
	}
	var err error
	op.w, err = view.NewWriter(v, stores...)
	return op, err
}

// Step writes the step's changes.
func (o *viewOperator[K, V]) Step(*topology.Step) error {
	var failed error
	err := o.in.Changes(func(chunk []record.Change[K, V]) bool {
		for i := range chunk {
			if failed = o.w.Apply(&chunk[i]); failed != nil {
				return false
			}
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return err
}

// EndStep does nothing: a view has no output to forget.
func (o *viewOperator[K, V]) EndStep() {}

// Dirty names the rows written since the last commit; see view.Changed.
func (o *viewOperator[K, V]) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	return o.rows.Dirty(fn)
}
