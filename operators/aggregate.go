package operators

import (
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators/aggregate"
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
// the app restarts in between, and never again after that. They are rows of a table, whose
// changes of one transaction ToStream puts out in order of their keys, so windows of one
// key in order of time. It needs windows that close.
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
		Windows:        in.windows,
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
	if o.retention != nil {
		errs = append(errs, checkSpan("retention", *o.retention, 0))
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
