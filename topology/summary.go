package topology

import (
	"slices"
	"strconv"
)

// Summary is what data can tell of a topology. A driver keeps it beside the state, so
// that a later form of the topology can be compared with the one that made the state.
type Summary struct {
	Name    string        `json:"name"`
	Version int           `json:"version"`
	Hash    string        `json:"hash"`
	Nodes   []NodeSummary `json:"nodes"`
}

// NodeSummary is a node of a Summary.
type NodeSummary struct {
	Name string `json:"name"`
	// Unnamed says that the name was made up.
	Unnamed bool   `json:"unnamed,omitempty"`
	Kind    Kind   `json:"kind"`
	Detail  string `json:"detail,omitempty"`
	// Output is the type of what it puts out, "-" for a sink.
	Output  string         `json:"output"`
	Inputs  []string       `json:"inputs,omitempty"`
	Version int            `json:"version,omitempty"`
	Hash    string         `json:"hash"`
	Stores  []StoreSummary `json:"stores,omitempty"`
	// Database is what a source reads from, "" for other nodes.
	Database string `json:"database,omitempty"`
	Sink     bool   `json:"sink,omitempty"`
	// PerTransaction is Node.PerTransaction.
	PerTransaction bool `json:"per_transaction,omitempty"`
	// Once names sources upstream whose records cannot be read again; see Node.Once.
	Once []string `json:"once,omitempty"`
	// SubTopology numbers, from 1, the parts of the topology that share nothing.
	SubTopology int `json:"sub_topology"`
}

// StoreSummary is a store of a NodeSummary, by its full name.
type StoreSummary struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
}

// Summary returns the summary of the topology.
func (t *Topology) Summary() *Summary {
	s := &Summary{Name: t.name, Version: t.version, Hash: hexHash(t.Hash())}
	parts := t.subTopologies()
	once := make([][]string, len(t.nodes))
	for i, n := range t.nodes {
		shape := NodeSummary{
			Name: n.Name, Unnamed: n.Unnamed, Kind: n.Kind, Detail: n.Detail, Output: n.output(),
			Version: n.Version, Hash: hexHash(n.hash), Sink: n.Shape == ShapeNone,
			PerTransaction: n.PerTransaction, SubTopology: parts[i],
		}
		if n.Source != nil {
			shape.Database = n.Source.Input().Database
		}
		for _, in := range n.Inputs {
			shape.Inputs = append(shape.Inputs, in.Name)
			shape.Once = append(shape.Once, once[in.ID]...)
			if in.Once {
				shape.Once = append(shape.Once, in.Name)
			}
		}
		slices.Sort(shape.Once)
		shape.Once = slices.Compact(shape.Once)
		once[i] = shape.Once
		for _, store := range n.Stores {
			shape.Stores = append(shape.Stores, StoreSummary{Name: n.StoreName(store.Name), Schema: store.Schema})
		}
		s.Nodes = append(s.Nodes, shape)
	}
	return s
}

func hexHash(h uint64) string { return strconv.FormatUint(h, 16) }

// subTopologies numbers the connected parts of the graph in the order of their first
// nodes: what can run without handing records from one to the other. (Nothing is
// re-partitioned in direct mode, so exchanges cut nothing.)
func (t *Topology) subTopologies() []int {
	root := make([]int, len(t.nodes)) // of a node's part, the least id
	for i, n := range t.nodes {
		root[i] = i
		for _, in := range n.Inputs {
			from, to := root[i], root[in.ID]
			if from < to {
				from, to = to, from
			}
			for j := range i + 1 {
				if root[j] == from {
					root[j] = to
				}
			}
		}
	}
	numbers := map[int]int{}
	out := make([]int, len(t.nodes))
	for i := range t.nodes {
		if numbers[root[i]] == 0 {
			numbers[root[i]] = len(numbers) + 1
		}
		out[i] = numbers[root[i]]
	}
	return out
}
