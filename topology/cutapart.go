package topology

import "fmt"

// checkApart reports what keeps the sub-topologies from running as tasks of their own.
func (c *Cut) checkApart() error {
	var errs []error
	refuse := func(n *Node, why string) {
		errs = append(errs, fmt.Errorf("topology %q: %s %q cannot run apart from what it reads: %s",
			c.Topology.name, n.Kind, n.Name, why))
	}
	for _, n := range c.Nodes {
		switch sub := c.SubTopologies[c.subs[n]-1]; {
		case n.Global:
			refuse(n, "all of the table is in each task")
		case n.UsesTime && len(sub.Reads) > 0:
			refuse(n, "stream time passes with records that do not come to it")
		case n.PerTransaction && len(n.Inputs) > 1 && len(sub.Reads) > 0:
			refuse(n, "an event could overtake a row that was written before it")
		}
	}
	for _, e := range c.Exchanges {
		if err := e.From.typed.encodes(); err != nil {
			refuse(e.To, fmt.Sprintf("its input %q: %v", e.From.Name, err))
		}
	}
	if len(errs) > 0 {
		return &BuildError{Topology: c.Topology.name, Errs: errs}
	}
	return nil
}

// ByKeys reports whether the output of a node of Nodes is divided by its encoded keys, as
// PartitionOf and the Divider of their type divide: all of a key is where they say.
func (c *Cut) ByKeys(n *Node) bool { return c.divided[n] == byKeys }

// ExchangeOf returns the exchange that lies before a node's i-th input, nil if none does.
func (c *Cut) ExchangeOf(n *Node, i int) *Exchange { return c.links[edge{n, i}] }

// Input returns what a node of Nodes reads as its i-th input: a node of Nodes.
func (c *Cut) Input(n *Node, i int) *Node { return c.input(n, i) }
