package topology

// Running is a running form of one partition, in its place in the stages of a step.
type Running struct {
	// Node is a node of Cut.Nodes; of a link, the node that it is read by.
	Node      *Node
	Partition int
	Stage     int
	Operator  Operator
	// Writer and Reader are set for the ends of an exchange. Operator is the same.
	Exchange *Exchange
	Writer   LinkWriter
	Reader   LinkReader
}

// StartCut makes the running forms of one partition, in order. links are those of
// c.Exchanges, shared by all partitions; active is what Active returns.
func (rt *Runtime) StartCut(c *Cut, p Partition, links []Link, active *int) ([]Running, error) {
	return rt.startCut(c, c.Nodes, p, links, active)
}

// StartSub is StartCut for one sub-topology in one partition, as a task of its own. Of
// links those of the exchanges that it reads or writes are used.
func (rt *Runtime) StartSub(
	c *Cut, s *SubTopology, partition int, links []Link, active *int,
) ([]Running, error) {
	return rt.startCut(c, s.Nodes, Partition{Index: partition, Apart: true}, links, active)
}

func (rt *Runtime) startCut(
	c *Cut, nodes []*Node, p Partition, links []Link, active *int,
) ([]Running, error) {
	rt.ops, rt.consumers = map[*Node]Operator{}, map[*Node]int{}
	rt.cut, rt.partition, rt.readers, rt.active = c, p, map[edge]Operator{}, active
	for _, n := range c.Nodes {
		for i := range n.Inputs {
			rt.consumers[c.input(n, i)]++
		}
	}
	var all []Running
	for _, n := range nodes {
		for i, e := range c.Exchanges {
			if e.To == n {
				rt.current = n
				r := links[i].Reader(rt)
				rt.readers[edge{n, e.Input}] = r
				all = append(all, Running{n, p.Index, c.stages[n], r, e, nil, r})
			}
		}
		op, err := rt.make(n)
		if err != nil {
			return nil, err
		}
		all = append(all, Running{Node: n, Partition: p.Index, Stage: c.stages[n], Operator: op})
		for i, e := range c.Exchanges {
			if e.From == n {
				rt.current = e.To // routes are the reading node's
				w := links[i].Writer(rt, op)
				all = append(all, Running{e.To, p.Index, c.stages[n], w, e, w, nil})
			}
		}
	}
	return all, nil
}
