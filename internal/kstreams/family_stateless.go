package kstreams

import "fmt"

// Stateless operators on streams, in chains, with null keys and values.
var _ = addFamily(&Family{Name: "stateless", Make: func(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, {ID: "r", Op: "stream", Topic: "r"}}}
	at := []string{"l", "r"}
	for i := range g.Between(1, 4) {
		at = append(at, c.addStateless(g, fmt.Sprintf("n%d", i), at)...)
	}
	c.Out = []string{at[len(at)-1], at[len(at)/2+1]}
	if c.Out[0] == c.Out[1] {
		c.Out = c.Out[:1]
	}
	m := StreamMix("l", "r")
	m.NullKeys, m.NullValues = 8, 6
	c.Records = g.Records(m)
	return c
}})

// addStateless adds an operator that reads some of the streams at hand, the last one
// more often, and returns its outputs.
func (c *Case) addStateless(g Gen, id string, at []string) []string {
	from := at[len(at)-1]
	if g.Chance(3) {
		from = Of(g, at...)
	}
	n := Node{ID: id, In: []string{from}}
	out := []string{id}
	n.Op = Of(g, "filter", "map-values", "flat-map", "map", "rekey", "merge", "split", "repartition")
	switch n.Op {
	case "filter":
		n.Fn = drawPredicate(g)
	case "map-values":
		n.Fn = drawValue(g)
	case "flat-map":
		n.Fn = Of(g, "none", "twice", "swap", "chars")
	case "map":
		n.By, n.Fn = drawKey(g), drawValue(g)
	case "rekey":
		n.By = drawKey(g)
	case "merge":
		// The same stream twice would be read in another order by Kafka Streams: it runs
		// a record through all that is below before the next one.
		n.In = []string{"l", "r"}
	case "split":
		n.Branches = []Branch{{Name: "x", Fn: drawPredicate(g)}, {Name: "y", Fn: drawPredicate(g)}}
		out = []string{id + ".x", id + ".y"}
		if g.Chance(2) {
			n.Branches = append(n.Branches, Branch{Name: "z"})
			out = append(out, id+".z")
		}
	}
	c.Nodes = append(c.Nodes, n)
	return out
}

func drawPredicate(g Gen) string {
	return Of(g, "all", "none", "has-value", "key-a", "starts-b", "not-a", "even")
}

func drawValue(g Gen) string { return Of(g, "same", "upper", "first", "with-key", "half", "null-b") }

func drawKey(g Gen) string { return Of(g, "key", "first", "value", "number", "one", "pair") }
