package kstreams

import (
	"fmt"
	"strconv"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/topology"
)

var _ = addOp("aggregate", buildAggregate)

func buildAggregate(b *Build, n *Node) (any, error) {
	if t, ok := b.Input(n, 0).(Table); ok {
		group := func(k string, r Row) Text { return keyOf(n.By, text(k), r.V) }
		if n.AsSQL {
			return aggregateOf(n, operators.GroupBy(t, group))
		}
		// Tailrace keeps a group for NULL, and Kafka Streams does not.
		t = operators.Filter(t, func(k string, r Row) bool { return group(k, r).Valid })
		groups := operators.GroupBy(t, func(k string, r Row) string { return group(k, r).V })
		return aggregateOf(n, groups, operators.KeepEmpty())
	}
	in := b.Stream(n, 0)
	if n.By != "" {
		in = operators.Rekey(in, func(k Text, r Row) Text { return keyOf(n.By, k, r.V) })
	}
	records := Keyed(in)
	if n.Window == nil {
		return aggregateOf(n, operators.GroupByKey(Valued(records)))
	}
	build := aggregates[n.Window.Kind]
	if build == nil {
		return nil, fmt.Errorf("there are no %s windows", n.Window.Kind)
	}
	return build(n, records)
}

// aggregates build windowed aggregates of a stream, by the kind of the windows.
var aggregates = map[string]func(n *Node, in topology.Stream[string, Row]) (any, error){}

// addWindows registers what builds aggregates over a kind of windows.
func addWindows(kind string, build func(n *Node, in topology.Stream[string, Row]) (any, error)) bool {
	aggregates[kind] = build
	return true
}

// aggregateOf aggregates with Tailrace's own aggregator where there is one of that
// meaning, and else with the named functions.
func aggregateOf[G comparable](
	n *Node, in operators.Grouped[G, Row], opts ...operators.AggregateOption,
) (topology.Table[G, Row], error) {
	switch n.Fn {
	case "count":
		return numbers(operators.Aggregate(n.ID, in, aggregate.Count[Row](), opts...)), nil
	case "sum":
		sum := aggregate.Sum(func(r Row) int64 { return number(r.V) })
		return numbers(operators.Aggregate(n.ID, in, sum, opts...)), nil
	}
	return operators.Aggregate(n.ID, in, fold(n), opts...), nil
}

func numbers[G comparable](in topology.Table[G, int64]) topology.Table[G, Row] {
	return operators.MapValues(in, func(_ G, v int64) Row { return Row{text(strconv.FormatInt(v, 10))} })
}

// folded is the state of a fold: reduce has none before the first value.
type folded struct {
	Agg string
	Has bool
}

// fold makes an aggregator of the named functions.
func fold(n *Node) aggregate.Aggregator[Row, Row] {
	f := aggregate.Fold[Row, folded, Row]{
		Init: func() folded { return folded{Agg: initial(n.Fn), Has: n.Kind != "reduce"} },
		Add: func(s folded, r Row) folded {
			if !s.Has {
				return folded{Agg: printed(r.V), Has: true}
			}
			return folded{Agg: add(n.Fn, s.Agg, r.V), Has: true}
		},
		Result: func(s folded) Row { return Row{text(s.Agg)} },
	}
	if n.Fn != "last" {
		f.Merge = merge(n.Fn)
	}
	if n.Fn == "sorted" {
		f.Remove = func(s folded, r Row) folded { return folded{Agg: remove(n.Fn, s.Agg, r.V), Has: true} }
	}
	return aggregate.Custom(f)
}

func merge(fn string) func(a, b folded) folded {
	return func(a, b folded) folded {
		switch {
		case !a.Has:
			return b
		case !b.Has:
			return a
		}
		return folded{Agg: merged(fn, a.Agg, b.Agg), Has: true}
	}
}
