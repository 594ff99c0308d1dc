package kstreams

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/topology"
)

// Several streams into one aggregate, over keys and over windows.
var (
	_ = addOp("cogroup", buildCogroup)

	_ = addFamily(&Family{Name: "cogroup", Make: makeCogroup})
	_ = addFamily(&Family{Name: "cogroup-windowed", Make: makeWindowedCogroup, Known: cogroupKnown})
)

func buildCogroup(b *Build, n *Node) (any, error) {
	in := make([]operators.Grouped[string, Row], len(n.In))
	for i := range in {
		records := Keyed(b.Stream(n, i))
		if n.Window == nil || n.Window.Kind == "sliding" {
			records = Valued(records)
		}
		in[i] = operators.GroupByKey(records)
	}
	add := func(i int) func(folded, Row) folded {
		return func(s folded, r Row) folded {
			if !s.Has {
				s = folded{Agg: initial(n.Fns[0]), Has: true}
			}
			return folded{Agg: add(n.Fns[i], s.Agg, r.V), Has: true}
		}
	}
	if len(in) == 2 {
		f := aggregate.Cogroup2(add(0), add(1))
		f.Merge = merge(n.Fns[0])
		return aggregateCogroup(n, operators.Cogroup2(in[0], in[1]), aggregate.Custom(f))
	}
	if len(in) == 3 {
		f := aggregate.Cogroup3(add(0), add(1), add(2))
		f.Merge = merge(n.Fns[0])
		return aggregateCogroup(n, operators.Cogroup3(in[0], in[1], in[2]), aggregate.Custom(f))
	}
	return nil, fmt.Errorf("a cogroup of %d", len(in))
}

func aggregateCogroup[V any](
	n *Node, groups operators.Grouped[string, V], agg aggregate.Aggregator[V, folded],
) (any, error) {
	if n.Window == nil {
		return unfold(operators.Aggregate(n.ID, groups, agg)), nil
	}
	return unfold(operators.Aggregate(n.ID, operators.Window(groups, definition(n.Window)), agg)), nil
}

func unfold[K comparable](in topology.Table[K, folded]) topology.Table[K, Row] {
	return operators.MapValues(in, func(_ K, s folded) Row { return Row{text(s.Agg)} })
}

func makeCogroup(g Gen) *Case {
	c := &Case{Out: []string{"g"}}
	n := Node{ID: "g", Op: "cogroup"}
	for _, topic := range []string{"l", "r", "s"}[:g.Between(2, 3)] {
		c.Nodes = append(c.Nodes, Node{ID: topic, Op: "stream", Topic: topic})
		n.In = append(n.In, topic)
		n.Fns = append(n.Fns, Of(g, "concat", "sorted", "last"))
	}
	if g.Chance(3) {
		for i := range n.Fns {
			n.Fns[i] = Of(g, "count", "sum")
		}
	}
	c.Nodes = append(c.Nodes, n)
	m := StreamMix(n.In...)
	m.NullKeys, m.NullValues = 12, 8
	c.Records = g.Records(m)
	return c
}

func makeWindowedCogroup(g Gen) *Case {
	c := makeCogroup(g)
	n := &c.Nodes[len(c.Nodes)-1]
	n.Retention = 1000
	n.Window = &Window{
		Kind: Of(g, "tumbling", "hopping"), Size: Of[int64](g, 5, 10, 16), Grace: Of[int64](g, 0, 3, 12),
	}
	if n.Window.Kind == "hopping" {
		n.Window.Advance = n.Window.Size / 2
	}
	m := StreamMix(n.In...)
	m.Back, m.Jump = int(n.Window.Size+n.Window.Grace)+5, 40
	if g.Chance(2) {
		m.Back = max(1, int(n.Window.Grace)) // little is late
	}
	c.Records = g.Records(m)
	return c
}

// cogroupKnown: each input of a windowed cogroup has a stream time of its own in Kafka
// Streams, so that what is late for one is not for another.
var cogroupKnown = []Known{{
	Name: "windowed cogroup",
	Explains: func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		wrong := newWindowModel(c, c.Node("g"))
		wrong.timeOf = map[string]int64{}
		return Compare(c, modelWindows(c, c.Node("g")), tailrace) == nil && Compare(c, wrong.run(), kafka) == nil
	},
}}
