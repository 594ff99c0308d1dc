package kstreams

import (
	"slices"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/windows"
)

// Records of a stream without those that repeat. Kafka Streams has no such operator
// (KIP-655); there it is a processor with a window store, as tutorials have it.
var (
	_ = addOp("deduplicate", buildDeduplicate)
	_ = addFamily(&Family{Name: "deduplicate", Make: makeDeduplicate})
)

func makeDeduplicate(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}}}
	at := "l"
	if g.Chance(3) {
		at = c.addStateless(g, "n", []string{"l"})[0]
		if c.Nodes[1].Op == "merge" {
			c.Nodes = slices.Insert(c.Nodes, 1, Node{ID: "r", Op: "stream", Topic: "r"})
		}
	}
	n := Node{ID: "d", Op: "deduplicate", In: []string{at}, Window: drawJoinWindow(g)}
	if !g.Chance(3) {
		n.By = drawKey(g)
	}
	c.Nodes, c.Out = append(c.Nodes, n), []string{"d"}
	topics := []string{"l"}
	if c.Node("r") != nil {
		topics = append(topics, "r")
	}
	m := StreamMix(topics...)
	m.NullKeys, m.NullValues, m.Jump = 12, 8, 30
	m.Back = int(n.Window.Before+n.Window.After+n.Window.Grace) + 5
	c.Records = g.Records(m)
	return c
}

func buildDeduplicate(b *Build, n *Node) (any, error) {
	w := windows.Within(0).Before(Ticks(n.Window.Before)).After(Ticks(n.Window.After)).
		Grace(Ticks(n.Window.Grace))
	if n.By == "" {
		return operators.DeduplicateByKey(n.ID, b.Stream(n, 0), w), nil
	}
	return operators.Deduplicate(n.ID, b.Stream(n, 0),
		func(k Text, r Row) Text { return keyOf(n.By, k, r.V) }, w), nil
}
