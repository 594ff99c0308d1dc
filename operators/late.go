package operators

import "github.com/tailrace/tailrace/topology"

// lates counts what comes too late for a node in a step.
type lates struct {
	node *topology.Node
	drop func(n *topology.Node, reason string, count int)
	n    int
}

func newLates(rt *topology.Runtime) lates { return lates{node: rt.Node(), drop: rt.Drop} }

// report hands over the count, and begins anew.
func (l *lates) report() {
	if l.n > 0 && l.drop != nil {
		l.drop(l.node, topology.DropLate, l.n)
	}
	l.n = 0
}
