package kstreams

import (
	"fmt"
	"slices"
)

// Chains of two and three operators on tables and on streams.
var (
	_ = addFamily(&Family{Name: "chain-tables", Make: makeTableChain, Known: chainTimes})
	_ = addFamily(&Family{Name: "chain-streams", Make: makeStreamChain})
	_ = addFamily(&Family{Name: "chain-windows", Make: makeWindowChain})
)

// chainTimes: what foreignKeyTimes and needlessTimes explain, further down.
var chainTimes = []Known{
	{Name: "time of a foreign-key result", Explains: onlyTimes("join-foreign-key")},
	{Name: "needless output", Explains: onlyTimes("aggregate")},
	{Name: "group of an intermediate value", Explains: intermediateGroups},
}

// onlyTimes explains differences of nothing but times in cases with an operator.
func onlyTimes(op string) func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
	return func(c *Case, _ *Diff, kafka, tailrace *Result) bool {
		return c.has(op) && sameValues(c, kafka, tailrace)
	}
}

func (c *Case) has(op string) bool {
	return slices.ContainsFunc(c.Nodes, func(n Node) bool { return n.Op == op })
}

// intermediateGroups explains empty groups that only Kafka Streams has: an aggregate
// tells the next one of a value between the old and the new one, and the group that
// this falls into stays.
func intermediateGroups(c *Case, _ *Diff, kafka, tailrace *Result) bool {
	n := c.Node(c.Out[0])
	if n.Op != "aggregate" || c.Node(n.In[0]).Op == "table" {
		return false
	}
	there := map[string]bool{}
	less := &Result{Error: kafka.Error}
	for i, step := range kafka.Steps {
		if i < len(tailrace.Steps) {
			for _, o := range tailrace.Steps[i] {
				there[*o.Key] = true
			}
		}
		var kept []Output
		for _, o := range step {
			if there[*o.Key] {
				kept = append(kept, o)
			}
		}
		less.Steps = append(less.Steps, kept)
		for _, o := range step[max(0, len(step)-1):] {
			if !there[*o.Key] && *o.Value != initial(n.Fn) {
				return false
			}
		}
	}
	return sameValues(c, less, tailrace)
}

// makeTableChain draws two or three operators one after another, each
// join with a table of its own.
func makeTableChain(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}}}
	last, twice := "l", false
	for i := range g.Between(2, 3) {
		n := Node{ID: fmt.Sprintf("n%d", i), In: []string{last}}
		switch g.IntN(4) {
		case 0:
			last = c.addTableStateless(g, n.ID, last)
			continue
		case 1:
			n.Op, n.By, n.Fn = "aggregate", Of(g, "first", "key", "one"), Of(g, "count", "sum", "sorted")
			if twice = c.has("aggregate"); twice {
				n.Fn = Of(g, "count", "sum") // what is sorted can't be taken out of what is sorted
			}
		case 2:
			n.Op, n.Kind, n.By = "join-foreign-key", Of(g, "inner", "left"), "first"
		default:
			n.Op, n.Kind = "join", Of(g, "inner", "left", "outer")
		}
		if n.Op != "aggregate" {
			right := fmt.Sprintf("t%d", i)
			c.Nodes = append(c.Nodes, Node{ID: right, Op: "table", Topic: right})
			n.In = append(n.In, right)
		}
		c.Nodes = append(c.Nodes, n)
		if last = n.ID; twice {
			break // what comes after would see the groups of intermediate values
		}
	}
	c.Out = []string{last}
	c.drawRecords(g, TableMix())
	return c
}

// drawRecords draws input for all of the case's sources.
func (c *Case) drawRecords(g Gen, m Mix) {
	for i := range c.Nodes {
		if t := c.Nodes[i].Topic; t != "" {
			m.Topics = append(m.Topics, t)
		}
	}
	if m.Keys == nil {
		m.Keys = []string{"a", "b", "c"}
	}
	c.Records = g.Records(m)
}

// makeStreamChain draws a stream that is joined to a table, or mapped, and then
// aggregated or made a table.
func makeStreamChain(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "table", Topic: "r"}}}
	j := Node{ID: "j", Op: "join", Kind: Of(g, "inner", "left"), In: []string{"l", "r"}}
	m := Node{ID: "m", Op: "map", In: []string{"l"}, By: drawKey(g), Fn: drawValue(g)}
	end := Node{ID: "e", Op: "aggregate", By: Of(g, "", "first"), Fn: Of(g, "count", "concat", "sum")}
	if g.Chance(3) {
		end = Node{ID: "e", Op: "to-table"}
	}
	switch g.IntN(3) {
	case 0:
		end.In = []string{"j"}
		c.Nodes = append(c.Nodes, j, end)
	case 1:
		j.In[0], end.In = "m", []string{"j"}
		c.Nodes = append(c.Nodes, m, j, end)
	default:
		m.In, end.In = []string{"j"}, []string{"m"}
		c.Nodes = append(c.Nodes, j, m, end)
	}
	c.Out = []string{"e"}
	mix := TableMix()
	mix.NullKeys = 12
	c.drawRecords(g, mix)
	return c
}

// makeWindowChain draws windows behind joins, and streams and tables behind windows, of
// records that are in time: what comes late has families of its own.
func makeWindowChain(g Gen) *Case {
	w := &Window{Kind: Of(g, "tumbling", "hopping"), Size: Of[int64](g, 6, 10), Advance: 2, Grace: 8}
	within := &Window{Kind: "join", Before: g.Between(2, 8), After: g.Between(2, 8), Grace: 8}
	c := &Case{Nodes: []Node{
		{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: Of(g, "stream", "table"), Topic: "r"},
	}}
	add := func(n Node) { c.Nodes = append(c.Nodes, n) }
	m := Mix{Late: 4, Back: 2}
	if c.Nodes[1].Op == "stream" {
		add(Node{ID: "j", Op: "join", Kind: "inner", In: []string{"l", "r"}, Window: within})
	} else {
		add(Node{ID: "j", Op: "join", Kind: Of(g, "inner", "left"), In: []string{"l", "r"}})
		m.NullValues = 6
	}
	ways := 4
	if c.Nodes[1].Op == "stream" {
		ways = 3 // several pairs of one record are one change of a window here
	}
	switch g.IntN(ways) {
	case 0:
		add(Node{ID: "o", Op: "to-table", In: []string{"j"}})
	case 1:
		add(Node{ID: "o", Op: "aggregate", In: []string{"j"}, By: Of(g, "", "first"), Fn: Of(g, "count", "concat")})
	case 2:
		add(Node{ID: "o", Op: "aggregate", In: []string{"j"}, Fn: Of(g, "count", "concat"), Window: w})
	default:
		add(Node{ID: "a", Op: "aggregate", In: []string{"j"}, Fn: "count", Window: w})
		add(Node{ID: "s", Op: "to-stream", In: []string{"a"}})
		add(Node{ID: "o", Op: "aggregate", In: []string{"s"}, By: Of(g, "first", ""), Fn: Of(g, "concat", "sum")})
	}
	c.Out = []string{"o"}
	if g.Chance(4) && c.has("to-table") {
		c.Out = []string{c.addTableStateless(g, "f", "o")}
	}
	c.drawRecords(g, m)
	if w.Kind == "tumbling" {
		w.Advance = 0
	}
	return c
}
