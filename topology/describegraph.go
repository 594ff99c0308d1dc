package topology

import (
	"fmt"
	"strings"
)

// Mermaid prints the topology as a Mermaid flowchart, which GitHub and many editors
// draw. Sources and nodes with stores are drums, sinks are flags.
func (t *Topology) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, n := range t.nodes {
		open, end := "[", "]"
		switch {
		case n.Shape == ShapeNone:
			open, end = ">", "]"
		case n.Kind.isSource() || len(n.Stores) > 0:
			open, end = "[(", ")]"
		}
		fmt.Fprintf(&b, "  n%d%s\"%s<br/>%s\"%s\n", n.ID, open, mermaidText(n.Name), mermaidText(n.label()), end)
	}
	for _, n := range t.nodes {
		for _, in := range n.Inputs {
			// A thick arrow is a table, a thin one a stream.
			arrow := "-->"
			if in.Shape == ShapeTable {
				arrow = "==>"
			}
			fmt.Fprintf(&b, "  n%d %s n%d\n", in.ID, arrow, n.ID)
		}
	}
	return b.String()
}

var mermaidEscapes = strings.NewReplacer(`"`, "#quot;", "#", "#35;", "<", "#lt;", ">", "#gt;", "\n", " ")

func mermaidText(s string) string { return mermaidEscapes.Replace(s) }

// DOT prints the topology in Graphviz's language.
func (t *Topology) DOT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n  rankdir=LR;\n  node [shape=box];\n", t.name)
	for _, n := range t.nodes {
		shape := ""
		switch {
		case n.Shape == ShapeNone:
			shape = ", shape=cds"
		case n.Kind.isSource() || len(n.Stores) > 0:
			shape = ", shape=cylinder"
		}
		fmt.Fprintf(&b, "  n%d [label=%s%s];\n", n.ID, dotText(n.Name, n.label()), shape)
	}
	for _, n := range t.nodes {
		for _, in := range n.Inputs {
			style := ""
			if in.Shape == ShapeTable {
				style = " [style=bold]"
			}
			fmt.Fprintf(&b, "  n%d -> n%d%s;\n", in.ID, n.ID, style)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ")

// dotText is a label of two lines.
func dotText(first, second string) string {
	return `"` + dotEscapes.Replace(first) + `\n` + dotEscapes.Replace(second) + `"`
}
