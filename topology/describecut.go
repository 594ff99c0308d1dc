package topology

import (
	"fmt"
	"strings"
)

// Describe prints the cut as text: a line for each node, by sub-topology, and one for
// each exchange.
func (c *Cut) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "topology %s in %s, %s, %s\n", c.Topology.name,
		plural(len(c.SubTopologies), "sub-topology", "sub-topologies"),
		plural(len(c.Exchanges), "exchange", "exchanges"), plural(c.Stages(), "stage", "stages"))
	for _, s := range c.SubTopologies {
		fmt.Fprintf(&b, "sub-topology %d%s\n", s.Number, c.globalMark(s))
		rows := make([][]string, 0, len(s.Nodes))
		for _, n := range s.Nodes {
			stage := fmt.Sprintf("stage %d", c.stages[n]+1)
			rows = append(rows, []string{n.Name, c.label(n), n.output(), n.reads(), stage})
		}
		writeColumns(&b, rows)
	}
	if len(c.Exchanges) > 0 {
		b.WriteString("exchanges\n")
	}
	rows := make([][]string, 0, len(c.Exchanges))
	for _, e := range c.Exchanges {
		rows = append(rows, []string{e.Name, fmt.Sprintf("%d -> %d", e.FromSub, e.ToSub), e.what()})
	}
	writeColumns(&b, rows)
	return b.String()
}

func (c *Cut) globalMark(s *SubTopology) string {
	if s.Global {
		return ", in every task"
	}
	return ""
}

// label is a node's, with the part of it that runs here.
func (c *Cut) label(n *Node) string {
	whole := c.Whole(n)
	if whole == n {
		return n.label()
	}
	part, parts := 0, 0
	for _, other := range c.Nodes {
		if c.Whole(other) == whole {
			if parts++; other == n {
				part = parts
			}
		}
	}
	return fmt.Sprintf("%s, part %d of %d", whole.label(), part, parts)
}

// what says what is exchanged.
func (e *Exchange) what() string {
	shape := "Stream"
	if e.Table {
		shape = "Table"
	}
	to := ""
	if e.ToOne {
		to = " to one partition"
	}
	return fmt.Sprintf("%s[%s, %s] of %s%s", shape, typeName(e.Key), typeName(e.Value), e.From.Name, to)
}

// Mermaid prints the cut as a Mermaid flowchart, a box around each sub-topology. Dotted
// arrows are exchanges.
func (c *Cut) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, s := range c.SubTopologies {
		fmt.Fprintf(&b, "  subgraph s%d[\"sub-topology %d\"]\n", s.Number, s.Number)
		for _, n := range s.Nodes {
			fmt.Fprintf(&b, "    n%d[\"%s<br/>%s\"]\n", n.ID, mermaidText(n.Name), mermaidText(c.label(n)))
		}
		b.WriteString("  end\n")
	}
	c.arrows(func(from, to *Node, e *Exchange) {
		switch {
		case e != nil:
			fmt.Fprintf(&b, "  n%d -. %s .-> n%d\n", from.ID, mermaidText(e.Name), to.ID)
		case from.Shape == ShapeTable:
			fmt.Fprintf(&b, "  n%d ==> n%d\n", from.ID, to.ID)
		default:
			fmt.Fprintf(&b, "  n%d --> n%d\n", from.ID, to.ID)
		}
	})
	return b.String()
}

// DOT prints the cut in Graphviz's language, a cluster for each sub-topology. Dashed
// arrows are exchanges.
func (c *Cut) DOT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n  rankdir=LR;\n  node [shape=box];\n", c.Topology.name)
	for _, s := range c.SubTopologies {
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=\"sub-topology %d\";\n", s.Number, s.Number)
		for _, n := range s.Nodes {
			fmt.Fprintf(&b, "    n%d [label=%s];\n", n.ID, dotText(n.Name, c.label(n)))
		}
		b.WriteString("  }\n")
	}
	c.arrows(func(from, to *Node, e *Exchange) {
		switch {
		case e != nil:
			fmt.Fprintf(&b, "  n%d -> n%d [style=dashed, label=%q];\n", from.ID, to.ID, e.Name)
		case from.Shape == ShapeTable:
			fmt.Fprintf(&b, "  n%d -> n%d [style=bold];\n", from.ID, to.ID)
		default:
			fmt.Fprintf(&b, "  n%d -> n%d;\n", from.ID, to.ID)
		}
	})
	b.WriteString("}\n")
	return b.String()
}

func (c *Cut) arrows(draw func(from, to *Node, e *Exchange)) {
	for _, n := range c.Nodes {
		for i := range n.Inputs {
			draw(c.input(n, i), n, c.links[edge{n, i}])
		}
	}
}
