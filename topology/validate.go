package topology

import "fmt"

// validate checks the graph as a whole.
func (t *Topology) validate() []error {
	var errs []error
	if len(t.nodes) == 0 {
		return []error{fmt.Errorf("topology %q: is empty; add a source, operators and a sink", t.name)}
	}
	used := map[*Node]bool{}
	for _, n := range t.nodes {
		for _, in := range n.Inputs {
			used[in] = true
		}
	}
	for _, n := range t.nodes {
		if n.Shape != ShapeNone && !used[n] && n.Kind.isSource() {
			errs = append(errs, fmt.Errorf("topology %q: nothing reads %s %q; "+
				"remove it or give it an operator or a sink", t.name, n.Kind, n.Name))
		}
		if n.New == nil {
			errs = append(errs, fmt.Errorf("topology %q: %s %q has no running form; its author left Node.New empty",
				t.name, n.Kind, n.Name))
		}
	}
	return errs
}
