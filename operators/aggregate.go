package operators

import (
	"fmt"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// AggregateOption changes one Aggregate.
type AggregateOption func(*aggregateOptions)

type aggregateOptions struct {
	keepEmpty bool
	version   int
}

// KeepEmpty keeps a group's row when the last row of the group has left, as Kafka
// Streams does. By default the group's row is deleted, as in SQL. Since rows that
// came and went count, each transaction becomes a step of its own.
func KeepEmpty() AggregateOption { return func(o *aggregateOptions) { o.keepEmpty = true } }

// NodeVersion numbers the meaning of the node's functions; raising it rebuilds the
// topology's state. Defaults to 0.
func NodeVersion(n int) AggregateOption { return func(o *aggregateOptions) { o.version = n } }

// Aggregate computes one value for each group. Over a table it takes the old value
// of a changed row out of its group and adds the new one; a group changes at most
// once in a step, and its result is computed once, from values that hold together.
// Over a stream it adds records in commit order. Aggregators are in package
// aggregate and combine with Combine2 to Combine4.
func Aggregate[G comparable, V, R any](
	name string, in Grouped[G, V], agg aggregate.Aggregator[V, R], opts ...AggregateOption,
) topology.Table[G, R] {
	var o aggregateOptions
	for _, opt := range opts {
		opt(&o)
	}
	b := in.b
	if b == nil {
		b = topology.Table[G, R]{}.Builder()
	}
	keyCodec, errK := state.KeyCodecOf[G]()
	result, errR := state.CodecOf[R]()
	for _, err := range append(in.problems, errK, errR, agg.Err(), checkRemove(in, agg)) {
		if err != nil {
			b.Errorf("topology: aggregate %q: %w", name, err)
		}
	}
	stores := []topology.StoreSpec{{Schema: agg.Schema()}}
	if agg.UsesEntries() {
		stores = append(stores, topology.StoreSpec{Name: "entries", Schema: agg.Schema()})
	}
	detail := in.detail
	if o.keepEmpty {
		detail += " keep-empty"
	}
	return topology.AddTable[G, R](b, topology.Node{
		Name:    name,
		Kind:    "aggregate",
		Inputs:  []*topology.Node{in.input},
		Stores:  stores,
		Version: o.version,
		// An empty group that is kept depends on every version: rows that come and go
		// within a step would leave nothing behind.
		PerTransaction: in.detail != "" || o.keepEmpty,
		UsesTime:       in.detail != "",
		Detail:         detail,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return newAggregation(rt, in, agg, keyCodec, result, o.keepEmpty), nil
		},
	})
}

func checkRemove[G comparable, V, R any](in Grouped[G, V], agg aggregate.Aggregator[V, R]) error {
	if agg.Err() == nil && in.input != nil && in.input.Shape == topology.ShapeTable && !agg.CanRemove() {
		return fmt.Errorf("%q is a table, so rows leave their groups, and the aggregator cannot "+
			"take a value out; give it a Remove", in.input.Name)
	}
	return nil
}

type aggregation[G comparable, V, R any] struct {
	cursor[G]
	node      *topology.Node
	in        groupInput[G, V]
	agg       aggregate.Aggregator[V, R]
	keyCodec  state.KeyCodec[G]
	table     *state.Table[G, group[V, R]]
	entries   *aggregate.Entries
	keepEmpty bool
	inStep    bool
	adding    bool
	prefix    []byte
	out       []record.Change[G, R]
}

func newAggregation[G comparable, V, R any](
	rt *topology.Runtime, in Grouped[G, V], agg aggregate.Aggregator[V, R],
	keyCodec state.KeyCodec[G], result state.Codec[R], keepEmpty bool,
) *aggregation[G, V, R] {
	a := &aggregation[G, V, R]{
		cursor: newCursor[G](rt), node: rt.Node(), in: in.open(rt), agg: agg,
		keyCodec: keyCodec, keepEmpty: keepEmpty,
	}
	codec := groupCodec(agg, result, &a.inStep)
	a.table = state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec)
	rt.Register(a.table)
	if agg.UsesEntries() {
		ordered := state.NewOrdered(rt.Env, rt.StoreIDFor("entries"))
		rt.Register(ordered)
		a.entries = aggregate.NewEntries(ordered)
	}
	return a
}

// CurrentKey returns the key of the row at work, or of the group whose result is.
func (a *aggregation[G, V, R]) CurrentKey() any {
	if a.adding {
		return a.in.CurrentKey()
	}
	return a.cursor.CurrentKey()
}

// Step takes the step's contributions into their groups, and then computes the
// result of each group that was touched, once.
func (a *aggregation[G, V, R]) Step(s *topology.Step) error {
	a.inStep, a.adding = true, true
	if err := a.in.each(s, a.visit); err != nil {
		return err
	}
	a.adding = false
	return a.table.EditTouched(func(key G, g *group[V, R], _ bool) (keep bool, err error) {
		if g.acc == nil || g.rows == 0 && !a.keepEmpty {
			if g.acc != nil {
				a.scope(key)
				err = g.acc.Clear(a.entries)
			}
			return false, err
		}
		a.scope(key)
		a.at(key)
		r, err := g.acc.Result(a.entries)
		if g.late != nil {
			g.late = &lateResult[R]{known: true}
		}
		*g.value() = r
		if err != nil {
			err = &topology.Failure{Node: a.node, Key: key, Err: err}
		}
		return true, err
	})
}

// visit adds a row to its group or takes it out.
func (a *aggregation[G, V, R]) visit(key G, id []byte, v *V, add bool, time int64) error {
	g, _, err := a.table.Edit(key, time)
	if err != nil {
		return err
	}
	a.scope(key)
	if g.acc == nil {
		g.acc = a.agg.New()
		if a.entries != nil {
			g.late = &lateResult[R]{known: true} // there is no old result to find
		}
	}
	if err := g.know(a.entries); err != nil {
		return &topology.Failure{Node: a.node, Key: key, Err: err}
	}
	if add {
		g.rows++
		err = g.acc.Add(a.entries, id, v)
	} else {
		g.rows--
		err = g.acc.Remove(a.entries, id, v)
	}
	if err != nil {
		return &topology.Failure{Node: a.node, Key: key, Err: err}
	}
	return nil
}

// scope points the entries at a group.
func (a *aggregation[G, V, R]) scope(key G) {
	if a.entries != nil {
		a.prefix = a.keyCodec.Append(a.prefix[:0], key)
		a.entries.Scope(a.prefix)
	}
}

// Changes yields the groups whose results changed.
func (a *aggregation[G, V, R]) Changes(yield func([]record.Change[G, R]) bool) error {
	return a.table.Changes(func(chunk []record.Change[G, group[V, R]]) bool {
		a.out = a.out[:0]
		for i := range chunk {
			c := &chunk[i]
			a.out = append(a.out, record.Change[G, R]{
				Key: c.Key, Old: *c.Old.value(), New: *c.New.value(), Sides: c.Sides, Time: c.Time,
			})
		}
		return yield(a.out)
	})
}

// At returns a group's result before the step and now. A group that was not
// loaded in this step computes it from its state.
func (a *aggregation[G, V, R]) At(key G) (record.Versions[R], error) {
	v, err := a.table.At(key)
	if err != nil {
		return record.Versions[R]{}, err
	}
	if v.HasNew() {
		a.scope(key)
		a.at(key)
		if err := v.New.know(a.entries); err != nil {
			return record.Versions[R]{}, &topology.Failure{Node: a.node, Key: key, Err: err}
		}
	}
	return record.Versions[R]{
		Old: *v.Old.value(), New: *v.New.value(), Sides: v.Sides, Time: v.Time,
	}, nil
}

// EndStep forgets the step's old values.
func (a *aggregation[G, V, R]) EndStep() {
	clear(a.out)
	a.out = a.out[:0]
	a.inStep = false
	a.table.EndStep()
}
