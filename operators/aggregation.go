package operators

import (
	"errors"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// errTakenTwice says that more rows left a group than it had. The groups' inputs remove
// just what they added, so only a function that changed its mind can do that.
var errTakenTwice = errors.New("more rows leave the group than came into it, so a function " +
	"in front of it gives another result for a row than it gave before; if the function was " +
	"changed, raise the topology's Version, which rebuilds the results; if not, make it depend " +
	"on the row alone")

// aggregation is the running form of Aggregate.
type aggregation[G comparable, V, R any] struct {
	cursor[G]
	node      *topology.Node
	in        groupInput[G, V]
	parts     reusable[V, R]
	keyCodec  state.KeyCodec[G]
	table     *state.Table[G, group[V, R]]
	entries   *aggregate.Entries
	keepEmpty bool
	onClose   bool
	// opened is called for a group that begins, left for one that becomes part of
	// another; nil does nothing.
	opened, left func(key G) error
	// parking holds the groups whose result fails, nil without an error policy.
	parking  *topology.Parking
	result   state.Codec[R]
	encoded  []byte
	inStep   bool
	adding   bool
	visiting visitGroup[G, V]
	prefix   []byte
	from     []byte
	out      []record.Change[G, R]
}

func newAggregation[G comparable, V, R any](
	rt *topology.Runtime, in Grouped[G, V], agg aggregate.Aggregator[V, R],
	keyCodec state.KeyCodec[G], result state.Codec[R], o aggregateOptions,
) (*aggregation[G, V, R], error) {
	a := &aggregation[G, V, R]{
		cursor: newCursor[G](rt), node: rt.Node(), in: in.open(rt, 0),
		parts:    reusable[V, R]{agg: agg},
		keyCodec: keyCodec, keepEmpty: o.keepEmpty && !in.merges, onClose: o.onClose,
	}
	a.visiting = a.visit
	codec := groupCodec(agg, result, &a.inStep)
	a.table = state.NewTable(rt.Env, rt.StoreIDFor(""), keyCodec, codec)
	rt.Register(a.table)
	if agg.UsesEntries() {
		ordered := state.NewOrdered(rt.Env, rt.StoreIDFor("entries"))
		rt.Register(ordered)
		a.entries = aggregate.NewEntries(ordered)
	}
	if m, ok := a.in.(mergingInput[G]); ok {
		m.onMerge(a.merge)
	}
	return a, a.guard(rt, result)
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
	if err := a.gather(s); err != nil {
		return err
	}
	if err := a.retry(s); err != nil {
		return err
	}
	return a.conclude()
}

// gather takes the step's contributions into their groups.
func (a *aggregation[G, V, R]) gather(s *topology.Step) error {
	a.inStep, a.adding = true, true
	err := a.in.each(s, a.visiting)
	a.adding = err != nil
	return err
}

// conclude computes the results of the groups that were touched, but for those that are
// not to be seen before they close.
func (a *aggregation[G, V, R]) conclude() error {
	return a.table.EditTouched(func(key G, g *group[V, R], _ bool) (keep bool, err error) {
		if g.rows < 0 {
			return true, &topology.Failure{Node: a.node, Key: key, Err: errTakenTwice}
		}
		if g.acc == nil || g.rows == 0 && !a.keepEmpty {
			if g.acc != nil {
				a.scope(key)
				err = g.acc.Clear(a.entries)
			}
			a.parts.end(g)
			return false, firstError(err, a.unpark(key))
		}
		if a.onClose && !g.shown {
			return true, nil
		}
		a.scope(key)
		a.at(key)
		if a.parking != nil {
			return true, a.settle(key, g)
		}
		r, err := g.acc.Result(a.entries)
		if g.late != nil {
			a.parts.lates.spend(g.late)
			g.late = a.parts.late()
		}
		*g.value() = r
		if err != nil {
			err = &topology.Failure{Node: a.node, Key: key, Err: err}
		}
		return true, err
	})
}

// visit adds a row to its group or takes it out.
func (a *aggregation[G, V, R]) visit(key G, c *contribution[V]) error {
	g, err := a.edit(key, c.time)
	if err != nil {
		return err
	}
	if c.add {
		g.rows++
		err = g.acc.Add(a.entries, c.id, c.value)
	} else {
		g.rows--
		err = g.acc.Remove(a.entries, c.id, c.value)
	}
	if err != nil {
		return &topology.Failure{Node: a.node, Key: key, Err: err}
	}
	return nil
}

// edit returns a group for changing it, with its entries in scope. One that is not
// there begins empty.
func (a *aggregation[G, V, R]) edit(key G, time int64) (*group[V, R], error) {
	g, existed, err := a.table.Edit(key, time)
	if err != nil {
		return nil, err
	}
	a.scope(key)
	if g.acc == nil {
		g.acc, g.fresh = a.parts.acc(), a.parking != nil
		if a.entries != nil {
			g.late = a.parts.late() // there is no old result to find
		}
	}
	if !existed && a.opened != nil {
		if err := a.opened(key); err != nil {
			return nil, err
		}
	}
	if a.onClose && !g.shown {
		return g, nil // nobody has seen the old result
	}
	if err := g.know(a.entries); err != nil {
		return nil, &topology.Failure{Node: a.node, Key: key, Err: err}
	}
	return g, nil
}

// merge makes a group part of another one, which ends it.
func (a *aggregation[G, V, R]) merge(from, into G, ended, time int64) error {
	f, err := a.edit(from, ended)
	if err != nil {
		return err
	}
	acc, rows := f.acc, f.rows
	f.acc, f.rows = a.parts.acc(), 0
	if a.left != nil {
		if err := a.left(from); err != nil {
			return err
		}
	}
	g, err := a.edit(into, time)
	if err != nil {
		return err
	}
	if a.entries != nil {
		a.from = a.keyCodec.Append(a.from[:0], from)
		if err := a.entries.Move(a.from, a.prefix); err != nil {
			return err
		}
	}
	if g.rows += rows; g.rows == rows {
		a.parts.accs.spend(g.acc)
		g.acc = acc
		return nil
	}
	a.parts.accs.spend(acc)
	if err := g.acc.Merge(acc); err != nil {
		return &topology.Failure{Node: a.node, Key: into, Err: err}
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
	var failed error
	err := a.table.Changes(func(chunk []record.Change[G, group[V, R]]) bool {
		a.out = a.out[:0]
		for i := range chunk {
			c := &chunk[i]
			if a.onClose {
				c.Narrow(a.shown(&c.Old, &c.New))
				if c.Sides == 0 {
					continue
				}
			}
			a.out = append(a.out, record.Change[G, R]{
				Key: c.Key, Old: *c.Old.value(), New: *c.New.value(), Sides: c.Sides, Time: c.Time,
			})
			if a.parking == nil {
				continue
			}
			if failed = a.freeze(); failed != nil {
				return false
			}
		}
		return len(a.out) == 0 || yield(a.out)
	})
	return firstError(err, failed)
}

// shown says which of a group's values are to be seen, where they are on close.
func (a *aggregation[G, V, R]) shown(before, now *group[V, R]) (s record.Sides) {
	if before.shown {
		s |= record.HasOld
	}
	if now.shown {
		s |= record.HasNew
	}
	return s
}

// At returns a group's result before the step and now. A group that was not
// loaded in this step computes it from its state.
func (a *aggregation[G, V, R]) At(key G) (record.Versions[R], error) {
	v, err := a.table.At(key)
	if err != nil {
		return record.Versions[R]{}, err
	}
	if a.onClose {
		v.Narrow(a.shown(&v.Old, &v.New))
	}
	if v.HasNew() && !v.New.bad {
		a.scope(key)
		a.at(key)
		if err := v.New.know(a.entries); err != nil {
			return record.Versions[R]{}, &topology.Failure{Node: a.node, Key: key, Err: err}
		}
	}
	if a.parking != nil {
		return a.frozenAt(key, &v)
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
	a.parts.endStep()
	if a.parking != nil {
		a.parking.EndStep()
	}
	if g, ok := a.in.(gatedInput[V]); ok {
		g.endStep()
	}
}
