package operators

import (
	"errors"
	"fmt"
	"time"

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
	onClose   bool
	retention *time.Duration
}

// KeepEmpty keeps a group's row when the last row of the group has left, as Kafka
// Streams does. By default the group's row is deleted, as in SQL. Since rows that
// came and went count, each transaction becomes a step of its own.
func KeepEmpty() AggregateOption { return func(o *aggregateOptions) { o.keepEmpty = true } }

// EmitOnClose gives a window's result once, when the window closes, instead of at each
// change: every window that closes exactly once, also where time jumps past several or
// the app restarts in between, and never again after that. Results of one transaction
// come in order of their windows' closing. It needs windows that close.
func EmitOnClose() AggregateOption { return func(o *aggregateOptions) { o.onClose = true } }

// Retention deletes a window's row, from the result and from the state, when stream time
// has passed the window's closing by d. By default, as in any table, rows of closed
// windows stay. It needs windows that close.
func Retention(d time.Duration) AggregateOption {
	return func(o *aggregateOptions) { o.retention = &d }
}

// NodeVersion numbers the meaning of the node's functions; raising it rebuilds the
// topology's state. Defaults to 0.
func NodeVersion(n int) AggregateOption { return func(o *aggregateOptions) { o.version = n } }

// Aggregate computes one value for each group. Over a table it takes the old value
// of a changed row out of its group and adds the new one; a group changes at most
// once in a step, and its result is computed once, from values that hold together.
// Over a stream it adds records in commit order. Aggregators are in package
// aggregate and combine with Combine2 to Combine4.
//
// A group's row is deleted when its last row leaves (see KeepEmpty); of a stream nothing
// is retracted. A group key that is NULL is a group like any other, and the aggregators
// say what they make of NULL values. Without windows nothing is late, and the order of
// event times does not matter: a group's time is the latest of what it is made of.
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
	problems := append(in.problems[:len(in.problems):len(in.problems)],
		errK, errR, agg.Err(), checkAggregator(in, agg), o.check(in.closes != nil))
	for _, err := range problems {
		if err != nil {
			b.Errorf("topology: aggregate %q: %w", name, err)
		}
	}
	stores := []topology.StoreSpec{{Schema: agg.Schema()}}
	if agg.UsesEntries() {
		stores = append(stores, topology.StoreSpec{Name: "entries", Schema: agg.Schema()})
	}
	stores = append(stores, in.stores...)
	timed := in.merges || o.onClose || o.retention != nil
	if timed {
		stores = append(stores, topology.StoreSpec{Name: "timers", Schema: timerSchema})
	}
	return topology.AddTable[G, R](b, topology.Node{
		Name:    name,
		Kind:    "aggregate",
		Inputs:  in.inputs,
		Needs:   in.needs,
		Divided: topology.DividedByKey,
		Stores:  stores,
		Version: o.version,
		// An empty group that is kept depends on every version: rows that come and go
		// within a step would leave nothing behind.
		PerTransaction: in.closes != nil || o.keepEmpty,
		UsesTime:       in.closes != nil,
		Detail:         in.detail + o.String(),
		// Of a stream each record would have to be taken back from its group.
		TakesPolicy: in.table() != nil && len(in.inputs) == 1 && in.closes == nil && !in.windowed &&
			!timed && !o.keepEmpty,
		HoldsRows: true,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			a, err := newAggregation(rt, in, agg, keyCodec, result, o)
			if err != nil {
				return nil, err
			}
			if forgets, _ := a.in.(expiringInput); timed || forgets != nil {
				return newTimedAggregation(rt, a, in.closes, o, timed, forgets), nil
			}
			return a, nil
		},
	})
}

// check reports options that make no sense for the groups.
func (o *aggregateOptions) check(closes bool) error {
	var errs []error
	if o.onClose && !closes {
		errs = append(errs, errors.New("EmitOnClose was asked for, and no window ever closes; "+
			"use it with Window, or give the windows of WindowBy a Grace"))
	}
	if o.retention != nil && !closes {
		errs = append(errs, errors.New("Retention was asked for, and no window ever closes; "+
			"use it with Window, give the windows of WindowBy a Grace, or use TTL"))
	}
	if o.retention != nil && *o.retention < 0 {
		errs = append(errs, fmt.Errorf("the retention is %v; it must not be negative", *o.retention))
	}
	return errors.Join(errs...)
}

// String prints the options that change results, as describe shows them.
func (o *aggregateOptions) String() (s string) {
	if o.keepEmpty {
		s += " keep-empty"
	}
	if o.onClose {
		s += " on-close"
	}
	if o.retention != nil {
		s += " retention " + o.retention.String()
	}
	return s
}

// checkAggregator reports what the groups ask of the aggregator and it cannot do.
func checkAggregator[G comparable, V, R any](in Grouped[G, V], agg aggregate.Aggregator[V, R]) error {
	if agg.Err() != nil {
		return nil
	}
	if n := in.table(); n != nil && !agg.CanRemove() {
		return fmt.Errorf("%q is a table, so rows leave their groups, and the aggregator cannot "+
			"take a value out; use aggregate.ReduceTable instead of Reduce, or give its Fold a Remove", n.Name)
	}
	if in.merges && !agg.CanMerge() {
		return fmt.Errorf("a record can make two sessions one (%s), and the aggregator cannot merge; "+
			"give its Fold a Merge", in.detail)
	}
	return nil
}

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
