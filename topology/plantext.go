package topology

import (
	"fmt"
	"strings"
)

// String prints the plan as text: what happens, why, and a line for each node with
// what is done, what it is, and what it keeps with its bytes.
func (p *Plan) String() string {
	var b strings.Builder
	version := fmt.Sprintf("version %d", p.Version)
	if p.Was != p.Version {
		version = fmt.Sprintf("version %d, was %d", p.Version, p.Was)
	}
	fmt.Fprintf(&b, "topology %s: %s (%s, %s, %s)\n", p.Topology, p.Action, version,
		plural(p.SubTopologies, "sub-topology", "sub-topologies"), ByteSize(p.Bytes))
	for _, r := range p.Reasons {
		fmt.Fprintf(&b, "  because %s\n", r)
	}
	rows := make([][]string, 0, len(p.Nodes))
	for i := range p.Nodes {
		n := &p.Nodes[i]
		rows = append(
			rows,
			[]string{string(n.Action), n.Name, labelOf(n.Kind, n.Detail), n.notes(p.SubTopologies > 1)},
		)
	}
	writeColumns(&b, rows)
	return b.String()
}

// notes is what is worth saying of a node.
func (n *NodePlan) notes(parts bool) string {
	var notes []string
	if parts {
		notes = append(notes, fmt.Sprintf("sub-topology %d", n.SubTopology))
	}
	if n.Version != 0 {
		notes = append(notes, fmt.Sprintf("version %d", n.Version))
	}
	if n.PerTransaction {
		notes = append(notes, "a step for each transaction")
	}
	for _, s := range n.Stores {
		notes = append(notes, fmt.Sprintf("keeps %s: %s", s.Name, ByteSize(s.Bytes)))
	}
	if n.Change != "" {
		notes = append(notes, n.Change)
	}
	if n.Lost {
		notes = append(notes, fmt.Sprintf("LOSES what the records of %s have built up, which cannot be read again",
			strings.Join(n.Once, ", ")))
	}
	return strings.Join(notes, "; ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ByteSize prints a number of bytes in binary units with three digits at least.
func ByteSize(n int64) string {
	const unit = 1024
	if n < 10*unit {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, suffix := range []string{"KiB", "MiB", "GiB"} {
		f /= unit
		if f < 10*unit {
			return fmt.Sprintf("%.0f %s", f, suffix)
		}
	}
	return fmt.Sprintf("%.0f TiB", f/unit)
}
