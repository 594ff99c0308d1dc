package kstreams

import "fmt"

var (
	_ = addFamily(&Family{Name: "table-stateless", Make: makeTableStateless})
	_ = addFamily(&Family{Name: "to-table", Make: makeToTable})
)

// makeTableStateless draws filters and maps of a table's values, with and without
// stores, and the stream of the result's changes.
func makeTableStateless(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "table", Topic: "l"}}}
	last := "l"
	for i := range g.Between(1, 3) {
		last = c.addTableStateless(g, fmt.Sprintf("n%d", i), last)
	}
	c.Out = []string{last}
	m := TableMix("l")
	m.NullKeys = 12
	c.Records = g.Records(m)
	return c
}

// addTableStateless adds an operator on a table and returns its ID.
func (c *Case) addTableStateless(g Gen, id, in string) string {
	n := Node{ID: id, Op: "filter", In: []string{in}, Store: g.Chance(2)}
	n.Fn = Of(g, "all", "none", "key-a", "starts-b", "not-a", "even")
	if g.Chance(2) {
		n.Op, n.Fn = "map-values", drawValue(g)
	}
	c.Nodes = append(c.Nodes, n)
	return id
}

// makeToTable draws a table made of a stream, after operators that change its keys.
func makeToTable(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}}}
	from := "l"
	if g.Chance(2) {
		c.Nodes = append(c.Nodes, Node{ID: "m", Op: "map", In: []string{"l"}, By: drawKey(g), Fn: drawValue(g)})
		from = "m"
	}
	c.Nodes = append(c.Nodes, Node{ID: "t", Op: "to-table", In: []string{from}})
	c.Out = []string{"t"}
	if g.Chance(2) {
		c.Out = []string{c.addTableStateless(g, "n", "t")}
	}
	m := StreamMix("l")
	m.NullKeys, m.NullValues = 10, 4
	c.Records = g.Records(m)
	return c
}
