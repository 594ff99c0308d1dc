package topology

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrParks says why a table with an error policy cannot run in partitions.
var ErrParks = errors.New(
	"its error policy parks keys, which only a topology that runs whole can; take the " +
		"policy away, or set no partitions",
)

// Cut is a topology cut at its exchanges into sub-topologies, each of which can run as a
// task for each partition: in one process by a driver that runs them stage by stage, or
// scaled out, with a topic between any two that an exchange lies between.
type Cut struct {
	Topology *Topology
	// Nodes are what runs in each partition, each after what it reads: the topology's
	// nodes, but for those that run in parts on both sides of an exchange. The last part
	// of such a node has its id and gives its output; the others have ids from the number
	// of the topology's nodes on.
	Nodes []*Node
	// SubTopologies are in order of their first nodes.
	SubTopologies []*SubTopology
	// Exchanges are in order of the nodes that read them.
	Exchanges []*Exchange

	stands  map[*Node]*Node // the part that gives the output of a node in parts
	links   map[edge]*Exchange
	stages  map[*Node]int
	subs    map[*Node]int
	divided map[*Node]dividedBy // outputs
	parted  map[*Node]*Node
	source  dividedBy       // of the outputs of sources
	kept    map[*Node]*Node // what keeps tables behind an exchange, by table
	instead map[edge]*Node  // the kept table that a node reads
	next    int             // id, after those of all nodes and parts
}

// dividedBy says by what the output of a node is divided.
type dividedBy uint8

const (
	byNothing dividedBy = iota // that could be known: each key is anywhere
	byKeys                     // its keys, encoded as this package does
	byTopics                   // its keys, encoded as the topics have them that it is from
)

// SubTopology is what runs without an exchange in between.
type SubTopology struct {
	// Number counts from 1.
	Number int
	Nodes  []*Node
	// Global says that it is a global table, which all sub-topologies hold.
	Global bool
	// Reads and Writes are the exchanges that feed it and that it feeds.
	Reads, Writes []*Exchange
}

// edge is one input of a node.
type edge struct {
	node  *Node
	input int
}

// Cut cuts the topology at its exchanges. The error names every node that can run in one
// partition only.
func (t *Topology) Cut() (*Cut, error) { return t.cut(byKeys) }

// CutForTopics is Cut for a driver whose sub-topologies are tasks of their own, apart from
// each other: sources are divided as their topics are, so what is divided so is exchanged
// where it meets what comes from an exchange.
func (t *Topology) CutForTopics() (*Cut, error) {
	c, err := t.cut(byTopics)
	if err != nil {
		return nil, err
	}
	return c, c.checkApart()
}

func (t *Topology) cut(source dividedBy) (*Cut, error) {
	c := &Cut{
		Topology: t, stands: map[*Node]*Node{}, links: map[edge]*Exchange{}, stages: map[*Node]int{},
		subs: map[*Node]int{}, divided: map[*Node]dividedBy{}, parted: map[*Node]*Node{}, source: source,
		kept: map[*Node]*Node{}, instead: map[edge]*Node{},
	}
	var errs []error
	for _, n := range t.nodes {
		if n.Parks() {
			errs = append(errs, fmt.Errorf("topology %q: %s %q cannot run in partitions: %w", t.name, n.Kind, n.Name,
				ErrParks))
		}
	}
	for _, n := range c.expand() {
		if err := c.place(n); err != nil {
			errs = append(errs, fmt.Errorf("topology %q: %s %q cannot run in partitions: %w",
				t.name, n.Kind, n.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, &BuildError{Topology: t.name, Errs: errs}
	}
	c.number()
	return c, nil
}

// expand lists the nodes, with the parts of those that run in parts.
func (c *Cut) expand() (nodes []*Node) {
	c.next = len(c.Topology.nodes)
	for _, n := range c.Topology.nodes {
		if n.Parts == nil {
			nodes = append(nodes, n)
			continue
		}
		parts := n.Parts()
		for i, p := range parts {
			c.addPart(p, n)
			if i == len(parts)-1 {
				p.ID, c.next = n.ID, c.next-1
			}
			nodes = append(nodes, p)
		}
		c.stands[n] = parts[len(parts)-1]
	}
	return nodes
}

// addPart makes a node a part of another one.
func (c *Cut) addPart(p, of *Node) {
	p.Topology, p.Name, p.Kind, p.ID = of.Topology, of.Name, of.Kind, c.next
	c.next++
	c.parted[p] = of
}

// Ids is how many ids nodes and parts of nodes have.
func (c *Cut) Ids() int { return c.next }

// input is what a node reads as its i-th input.
func (c *Cut) input(n *Node, i int) *Node {
	if k, ok := c.instead[edge{n, i}]; ok {
		return k
	}
	if p, ok := c.stands[n.Inputs[i]]; ok {
		return p
	}
	return n.Inputs[i]
}

// place decides how a node's inputs come to it, and in which stage it runs.
func (c *Cut) place(n *Node) error {
	if len(n.Inputs) > 0 && len(n.Needs) != len(n.Inputs) {
		return errors.New("it does not say how its inputs have to be divided; its author has to set Node.Needs")
	}
	meets := c.meets(n)
	for i, need := range n.Needs {
		up := c.input(n, i)
		if up.Global {
			continue // it is in every partition
		}
		if meets && need.kind == needKey && c.divided[up] == byTopics {
			if up.Shape == ShapeTable {
				if err := c.keep(up); err != nil {
					return err
				}
				up = c.kept[up]
				c.instead[edge{n, i}] = up
			} else {
				need = Anew()
			}
		}
		c.stages[n] = max(c.stages[n], c.stages[up])
		link, err := c.linkOf(up, need)
		switch {
		case err != nil:
			return err
		case link != nil:
			c.links[edge{n, i}] = &Exchange{
				From: up, To: n, Input: i, Key: up.Key, Value: up.Value, Table: up.Shape == ShapeTable,
				ToOne: need.kind == needOne, link: link,
			}
			c.stages[n] = max(c.stages[n], c.stages[up]+1)
		}
	}
	c.divided[n] = c.dividedAs(n)
	c.Nodes = append(c.Nodes, n)
	return c.checkTypes(n)
}

// keep places a node that keeps a table behind an exchange, once.
func (c *Cut) keep(of *Node) error {
	if c.kept[of] != nil {
		return nil
	}
	if of.typed == nil {
		return fmt.Errorf("its input %q was not made by AddTable", of.Name)
	}
	k := of.typed.kept(of)
	c.kept[of] = k
	c.addPart(k, c.Whole(of))
	return c.place(k)
}

// meets reports whether an input of a node comes divided by encoded keys, so that all that
// have to be divided by key must.
func (c *Cut) meets(n *Node) bool {
	if c.parted[n] != nil {
		return true // parts see one table, in one order
	}
	for i, need := range n.Needs {
		switch up := c.input(n, i); {
		case up.Global, need.kind == needNothing:
		case need.kind != needKey, c.divided[up] != byTopics:
			return true
		}
	}
	return false
}

// dividedAs says how a node's output is divided, once its inputs are placed.
func (c *Cut) dividedAs(n *Node) dividedBy {
	if n.Divided == DividedOtherwise {
		return byNothing
	}
	if n.Source != nil {
		return c.source
	}
	out, first := byNothing, true
	for i, need := range n.Needs {
		up := c.input(n, i)
		in := c.divided[up]
		switch {
		case up.Global, n.Divided == DividedByKey && need.kind == needNothing:
			continue
		case c.links[edge{n, i}] == nil:
		case n.Divided == DividedAsInputs && need.kind >= needOther:
			in = byNothing
		default:
			in = byKeys
		}
		if !first && in != out {
			return byNothing
		}
		out, first = in, false
	}
	if first {
		return c.source // all there is are global tables
	}
	return out
}

// linkOf says how an exchange is made that an input needs; nil if it needs none.
func (c *Cut) linkOf(up *Node, need Need) (func(*Exchange, int) (Link, error), error) {
	switch {
	case need.kind == needUnknown:
		return nil, fmt.Errorf("it does not say how its input %q has to be divided", up.Name)
	case need.kind == needNothing, need.kind == needKey && c.divided[up] != byNothing:
		return nil, nil
	case up.typed == nil:
		return nil, fmt.Errorf("its input %q was not made by AddStream or AddTable", up.Name)
	case need.kind == needOther:
		return need.link, nil
	case need.kind == needOne && up.Shape == ShapeTable:
		return nil, fmt.Errorf("it needs all of its input %q in one partition, which is a table; %s",
			up.Name, RunWhole)
	case need.kind == needOne:
		return up.typed.oneLink, nil
	}
	return up.typed.keyLink, nil
}

// RunWhole is the remedy where a node cannot run in partitions. One partition is none: a
// topology that is cut has the same parts whatever their number.
const RunWhole = "run the topology whole: in direct mode, without Partitions"

// checkTypes makes the exchanges once, to see that their types will do.
func (c *Cut) checkTypes(n *Node) error {
	if n.Unpartitioned != "" {
		return errors.New(n.Unpartitioned)
	}
	for i := range n.Inputs {
		if e := c.links[edge{n, i}]; e != nil {
			if _, err := e.link(e, 1); err != nil {
				return fmt.Errorf("input %q: %w", e.From.Name, err)
			}
		}
	}
	return nil
}

// number finds the sub-topologies, the parts of the graph between exchanges, and names
// the exchanges.
func (c *Cut) number() {
	root := map[*Node]*Node{}
	find := func(n *Node) *Node {
		for root[n] != n {
			n = root[n]
		}
		return n
	}
	for _, n := range c.Nodes {
		root[n] = n
	}
	for _, n := range c.Nodes {
		for i := range n.Inputs {
			if up := c.input(n, i); c.links[edge{n, i}] == nil && !up.Global {
				root[find(up)] = find(n)
			}
		}
	}
	numbers := map[*Node]*SubTopology{}
	for _, n := range c.Nodes {
		s := numbers[find(n)]
		if s == nil {
			s = &SubTopology{Number: len(c.SubTopologies) + 1, Global: n.Global}
			numbers[find(n)] = s
			c.SubTopologies = append(c.SubTopologies, s)
		}
		s.Nodes = append(s.Nodes, n)
		c.subs[n] = s.Number
	}
	c.nameExchanges()
}

func (c *Cut) nameExchanges() {
	count := map[string]int{} // of exchanges by the node that reads them
	for e := range c.links {
		count[e.node.Name]++
	}
	taken := map[string]int{}
	for _, n := range c.Nodes {
		for i := range n.Inputs {
			e := c.links[edge{n, i}]
			if e == nil {
				continue
			}
			e.Name = n.Name
			if count[n.Name] > 1 {
				taken[n.Name]++
				e.Name += "-" + strconv.Itoa(taken[n.Name])
			}
			e.FromSub, e.ToSub = c.subs[e.From], c.subs[n]
			c.Exchanges = append(c.Exchanges, e)
			from, to := c.SubTopologies[e.FromSub-1], c.SubTopologies[e.ToSub-1]
			from.Writes, to.Reads = append(from.Writes, e), append(to.Reads, e)
		}
	}
}

// Stages is the number of stages: how many exchanges lie one behind the other, and one.
// A step runs stage by stage, each in all partitions.
func (c *Cut) Stages() int {
	stages := 0
	for _, s := range c.stages {
		stages = max(stages, s+1)
	}
	return max(stages, 1)
}

// Stage is the stage that a node, or part of a node, of Nodes runs in.
func (c *Cut) Stage(n *Node) int { return c.stages[n] }

// Whole returns the node that a node of Nodes is, or is a part of.
func (c *Cut) Whole(n *Node) *Node {
	if whole, ok := c.parted[n]; ok {
		return whole
	}
	return n
}

// Gather shows what a node puts out in all partitions as one; nil for one without output.
func (c *Cut) Gather(n *Node, parts []Operator) Operator {
	if n.typed == nil {
		return nil
	}
	return n.typed.gather(n, parts)
}
