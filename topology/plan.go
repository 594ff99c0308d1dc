package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what a start does with a part of the state.
type Action string

// The actions of a plan.
const (
	// ActionKeep goes on from the state as it is.
	ActionKeep Action = "keep"
	// ActionCreate begins with nothing: a snapshot fills it.
	ActionCreate Action = "create"
	// ActionRebuild drops the state and fills it again from a new snapshot; what a
	// table sink wrote is reconciled with that.
	ActionRebuild Action = "rebuild"
	// ActionDrop removes state that nothing has a use for any more.
	ActionDrop Action = "drop"
)

// Plan says what a start does with the state of one topology.
type Plan struct {
	Topology string `json:"topology"`
	Action   Action `json:"action"`
	// Reasons say why it is not kept, a change each.
	Reasons []string `json:"reasons,omitempty"`
	// Version and Was are the topology's version now and when the state was made.
	Version int `json:"version"`
	Was     int `json:"was"`
	// SubTopologies counts the parts that share nothing. In direct mode no records
	// leave the process between nodes, so there are no internal topics.
	SubTopologies int `json:"sub_topologies"`
	// Nodes are the topology's nodes in order, and behind them those that only the
	// state has.
	Nodes []NodePlan `json:"nodes"`
	// Bytes is what all stores take, 0 where it was not asked for.
	Bytes int64 `json:"bytes"`
}

// NodePlan says what a start does with one node.
type NodePlan struct {
	NodeSummary
	Action Action `json:"action"`
	// Change says how the node differs from what made the state, "" if it does not.
	Change string `json:"change,omitempty"`
	// Lost says that what the node knows from streams will be gone: their records
	// cannot be read again.
	Lost   bool        `json:"lost,omitempty"`
	Stores []StorePlan `json:"stores,omitempty"`
}

// StorePlan is a store with its size as it is now.
type StorePlan struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// NewPlan compares a topology with the summary of what made the state. Of a topology
// that has no state yet stored is nil, of state whose topology is gone now is.
//
// The unit of rebuilding is the topology: where one node differs all of its stores
// are filled again, since they stand at one position. Plan.Reasons name the cause.
func NewPlan(now, stored *Summary) *Plan {
	switch {
	case now == nil:
		p := planOf(stored, ActionDrop)
		for i := range p.Nodes {
			p.Nodes[i].Lost = p.Nodes[i].loses()
		}
		return p
	case stored == nil:
		return planOf(now, ActionCreate)
	case stored.Hash == now.Hash:
		return planOf(now, ActionKeep)
	}
	p := planOf(now, ActionRebuild)
	if len(stored.Nodes) == 0 {
		p.Reasons = []string{"a release made the state that did not note of what"}
		return p
	}
	p.Was = stored.Version
	if now.Version != stored.Version {
		p.Reasons = append(p.Reasons, fmt.Sprintf("version %d is now %d", stored.Version, now.Version))
	}
	d := newDifference(now, stored)
	for i := range p.Nodes {
		n := &p.Nodes[i]
		was := d.was[i]
		switch {
		case was == nil:
			n.Action, n.Change = ActionCreate, "new"
		default:
			n.Change = d.change(&n.NodeSummary, was)
			n.Lost = was.loses()
			if len(n.Stores) == 0 && (!n.Sink || n.Kind == "sink-stream") {
				n.Action = ActionKeep // it has nothing to fill
			}
		}
	}
	for _, was := range d.gone {
		n := nodePlan(was, ActionDrop)
		n.Change, n.Lost = "gone", was.loses()
		p.Nodes = append(p.Nodes, n)
	}
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Change != "" && !strings.HasPrefix(n.Change, inputChanged) {
			p.Reasons = append(p.Reasons, fmt.Sprintf("%s: %s", n.Name, n.Change))
		}
	}
	if len(p.Reasons) == 0 {
		p.Reasons = []string{"the order of its nodes has changed"}
	}
	return p
}

// loses reports whether dropping the node's state loses what cannot be had again.
func (n *NodeSummary) loses() bool { return len(n.Stores) > 0 && len(n.Once) > 0 }

func planOf(s *Summary, a Action) *Plan {
	p := &Plan{Topology: s.Name, Action: a, Version: s.Version, Was: s.Version}
	for _, n := range s.Nodes {
		p.Nodes = append(p.Nodes, nodePlan(n, a))
		p.SubTopologies = max(p.SubTopologies, n.SubTopology)
	}
	return p
}

func nodePlan(n NodeSummary, a Action) NodePlan {
	out := NodePlan{NodeSummary: n, Action: a}
	for _, s := range n.Stores {
		out.Stores = append(out.Stores, StorePlan{Name: s.Name})
	}
	return out
}

// difference pairs the nodes of two summaries.
type difference struct {
	was  []*NodeSummary          // by place in the new summary, nil for a new node
	gone []NodeSummary           // those of the old one without a partner
	same map[string]*NodeSummary // new nodes by name
}

// newDifference pairs nodes by their names, and those whose names were made up by
// their hashes.
func newDifference(now, stored *Summary) *difference {
	d := &difference{was: make([]*NodeSummary, len(now.Nodes)), same: map[string]*NodeSummary{}}
	left := slices.Clone(stored.Nodes)
	for i := range now.Nodes {
		n := &now.Nodes[i]
		d.same[n.Name] = n
		at := slices.IndexFunc(left, func(was NodeSummary) bool {
			if n.Unnamed || was.Unnamed {
				return n.Unnamed && was.Unnamed && was.Hash == n.Hash
			}
			return was.Name == n.Name && (was.Kind == n.Kind || !was.Sink && !n.Sink)
		})
		if at >= 0 {
			was := left[at]
			d.was[i] = &was
			left = slices.Delete(left, at, at+1)
		}
	}
	d.gone = left
	return d
}

const inputChanged = "because of "

// change says how a node differs from what it was, "" if it does not.
func (d *difference) change(n, was *NodeSummary) string {
	if n.Hash == was.Hash {
		return ""
	}
	var changes []string
	note := func(what string, was, is any) {
		if was != is {
			changes = append(changes, fmt.Sprintf("%s %v is now %v", what, was, is))
		}
	}
	note("version", was.Version, n.Version)
	note("kind", was.Kind, n.Kind)
	note("option", orNone(was.Detail), orNone(n.Detail))
	note("output", was.Output, n.Output)
	note("database", orNone(was.Database), orNone(n.Database))
	if !slices.Equal(was.Stores, n.Stores) {
		changes = append(changes, "what it stores has another form")
	}
	if !slices.Equal(d.named(was.Inputs), d.named(n.Inputs)) {
		changes = append(changes, fmt.Sprintf("input %s is now %s", strings.Join(was.Inputs, ", "),
			strings.Join(n.Inputs, ", ")))
	}
	if len(changes) > 0 {
		return strings.Join(changes, "; ")
	}
	return inputChanged + strings.Join(n.Inputs, ", ")
}

// named leaves names that were made up out of account: they change where another node
// is inserted.
func (d *difference) named(names []string) []string {
	out := slices.Clone(names)
	for i, name := range out {
		if strings.Contains(name, "#") {
			out[i] = "#"
		}
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
