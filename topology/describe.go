package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Describe prints the topology as text, a line a node: its name and kind, what it
// puts out, what it reads and what it keeps. The result is stable, so that it can be
// kept in a file and compared.
func (t *Topology) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "topology %s, version %d, hash %016x\n", t.name, t.version, t.Hash())
	if nodes := t.perTransactionNodes(); len(nodes) > 0 {
		fmt.Fprintf(&b, "each transaction is a step of its own, because of %s\n", strings.Join(nodes, ", "))
	} else {
		b.WriteString("transactions that are waiting are computed together\n")
	}
	parts := t.subTopologies()
	count := slices.Max(append(parts, 0))
	fmt.Fprintf(&b, "%s; no internal topics\n", plural(count, "sub-topology", "sub-topologies"))
	rows := make([][]string, 0, len(t.nodes))
	for i, n := range t.nodes {
		row := []string{n.Name, n.label(), n.output(), n.reads(), n.keeps(), n.marks()}
		if count > 1 {
			row = append(row, fmt.Sprintf("sub-topology %d", parts[i]))
		}
		rows = append(rows, row)
	}
	writeColumns(&b, rows)
	return b.String()
}

// perTransactionNodes names the nodes that need a step for each transaction.
func (t *Topology) perTransactionNodes() []string {
	var names []string
	for _, n := range t.nodes {
		if n.PerTransaction {
			names = append(names, n.Name)
		}
	}
	return names
}

// label is the node's kind, with its detail.
func (n *Node) label() string { return labelOf(n.Kind, n.Detail) }

func labelOf(k Kind, detail string) string {
	return strings.TrimSpace(string(k) + " " + strings.TrimSpace(detail))
}

// output is the type of the node's output.
func (n *Node) output() string {
	switch n.Shape {
	case ShapeStream:
		return fmt.Sprintf("Stream[%s, %s]", typeName(n.Key), typeName(n.Value))
	case ShapeTable:
		return fmt.Sprintf("Table[%s, %s]", typeName(n.Key), typeName(n.Value))
	}
	return "-"
}

func (n *Node) reads() string {
	if len(n.Inputs) == 0 {
		return ""
	}
	names := make([]string, len(n.Inputs))
	for i, in := range n.Inputs {
		names[i] = in.Name
	}
	return "<- " + strings.Join(names, ", ")
}

func (n *Node) keeps() string {
	if len(n.Stores) == 0 {
		return ""
	}
	names := make([]string, len(n.Stores))
	for i, s := range n.Stores {
		names[i] = n.StoreName(s.Name)
	}
	return "keeps " + strings.Join(names, ", ")
}

// marks is the version of a node's functions, and whether it needs a step for each
// transaction.
func (n *Node) marks() string {
	var marks []string
	if n.Version != 0 {
		marks = append(marks, fmt.Sprintf("version %d", n.Version))
	}
	if n.PerTransaction {
		marks = append(marks, "per-transaction")
	}
	if n.OnError != nil {
		marks = append(marks, "error-policy")
	}
	return strings.Join(marks, " ")
}

// writeColumns prints rows indented, each column as wide as its widest cell. The
// columns from the fourth on follow each other without padding.
func writeColumns(b *strings.Builder, rows [][]string) {
	const padded = 3
	var widths [padded]int
	for _, row := range rows {
		for i := range padded {
			widths[i] = max(widths[i], len(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i := range padded {
			fmt.Fprintf(&line, "  %-*s", widths[i], row[i])
		}
		for _, cell := range row[padded:] {
			if cell != "" {
				line.WriteString("  " + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
