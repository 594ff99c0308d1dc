package task

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// cut is what a task has besides where its topology runs in partitions: the same running
// forms once a partition, and exchanges between them. A step runs stage by stage, and in
// a stage one partition after another, so that it does the same whatever their number.
type cut struct {
	count   int
	cut     *topology.Cut
	sources []topology.Operator // by node; they divide rows
	ops     []map[int]topology.Operator
	nodes   map[int]*topology.Node
	readers map[*topology.Exchange][]topology.LinkReader
	encoded bool
	mail    Mail
	// part is the partition at work, running what of it is.
	part    int
	running *topology.Running
	// resume says that the state is that of the topology run whole; see begin.
	resume bool
	failed error
}

// startCut makes the running forms of all partitions and returns how many ids nodes have.
func (t *Task) startCut(cfg Config, whole *topology.Runtime) (ids int, err error) {
	plan, err := cfg.Topology.Cut()
	if err != nil {
		return 0, err
	}
	if n, err := topology.HasParked(cfg.Topology, whole); n != nil {
		return 0, errors.Join(
			err,
			fmt.Errorf("task: topology %q cannot run in partitions: keys are parked at %q by "+
				"an error policy that has been taken away; run it whole until they have changed or were replayed",
				cfg.Topology.Name(), n.Name),
		)
	}
	c := &cut{
		count: cfg.Partitions, cut: plan, encoded: cfg.Encoded, mail: cfg.Mail, nodes: map[int]*topology.Node{},
		readers: map[*topology.Exchange][]topology.LinkReader{},
		sources: make([]topology.Operator, len(t.nodes)),
	}
	t.cut, t.active = c, new(int)
	for _, n := range plan.Nodes {
		c.nodes[n.ID] = plan.Whole(n)
	}
	links := make([]topology.Link, len(plan.Exchanges))
	for i, e := range plan.Exchanges {
		if links[i], err = e.NewLink(c.count); err != nil {
			return 0, err
		}
	}
	stores := make([][]state.Store, 0, c.count)
	for i := range c.count {
		rt := *whole
		rt.Env = cfg.Env.Partition(uint32(i))
		all, err := rt.StartCut(plan, topology.Partition{Index: i, Count: c.count}, links, t.active)
		if err != nil {
			return 0, err
		}
		t.schedule = append(t.schedule, all...)
		stores = append(stores, rt.Stores())
		c.ops = append(c.ops, map[int]topology.Operator{})
		for _, r := range all {
			switch {
			case r.Reader != nil:
				c.readers[r.Exchange] = append(c.readers[r.Exchange], r.Reader)
			case r.Writer == nil:
				c.ops[i][r.Node.ID] = r.Operator
			}
		}
	}
	slices.SortStableFunc(t.schedule, func(a, b topology.Running) int { return cmp.Compare(a.Stage, b.Stage) })
	t.stores = sortStores(append(mergeStores(cfg.Env, stores), t.letters.stores()...))
	c.gather(t)
	return plan.Ids(), nil
}

// gather shows the partitions' outputs, and what sources and views are, as one.
func (c *cut) gather(t *Task) {
	t.ops = make([]topology.Operator, len(t.nodes))
	for i, n := range t.nodes {
		parts := make([]topology.Operator, c.count)
		for p := range parts {
			parts[p] = c.ops[p][i]
		}
		if t.ops[i] = c.cut.Gather(n, parts); t.ops[i] == nil {
			t.ops[i] = &gatheredSink{parts}
		}
		if n.Source != nil {
			c.sources[i] = newDividedSource(c, n, parts)
		}
	}
}

// restore prepares for state with the given checkpoint.
func (c *cut) restore(at Checkpoint) {
	c.resume, c.failed = !at.Cut && len(at.Positions) > 0, nil
}

// run runs what one running form does in a step.
func (c *cut) run(t *Task, r *topology.Running) error {
	c.part, c.running = r.Partition, r
	defer func() { c.running = nil }()
	switch {
	case c.mail != nil && r.Exchange != nil && r.Exchange.Table:
		return c.post(t, r)
	case r.Writer == nil || !c.encoded:
		return r.Operator.Step(&t.step)
	}
	readers := c.readers[r.Exchange]
	return r.Writer.Messages(&t.step, func(m topology.Message) error {
		var tx *record.Tx
		if len(t.txs) > 0 { // none is where parts resume
			tx = t.txs[m.Seq]
		}
		return readers[m.Partition].Receive(m, tx, m.Seq)
	})
}

// at returns the node with an id, or that it is a part of, and its running form at work.
func (c *cut) at(id int) (*topology.Node, topology.Operator) {
	if r := c.running; r != nil && r.Writer != nil && r.Node.ID == id {
		return c.nodes[id], r.Operator
	}
	return c.nodes[id], c.ops[c.part][id]
}

// begin makes of state that the topology run whole has left what the parts of its nodes
// keep besides: they exchange what they know, as a step does. It is repeated until an
// epoch with it is committed.
func (c *cut) begin(t *Task) {
	if !c.resume {
		return
	}
	c.resume = false
	for i := range t.schedule {
		if c.failed = c.resumeOne(t, &t.schedule[i]); c.failed != nil {
			break
		}
	}
	t.endStep()
}

func (c *cut) resumeOne(t *Task, r *topology.Running) (err error) {
	defer t.catch(r.Node.ID, &err)
	*t.active = r.Node.ID
	if r.Exchange != nil {
		e := r.Exchange
		_, resumes := c.ops[r.Partition][e.From.ID].(topology.Resumer)
		if resumes && c.cut.Whole(e.From) == c.cut.Whole(e.To) {
			return c.run(t, r)
		}
		return nil
	}
	if op, ok := r.Operator.(topology.Resumer); ok {
		c.part = r.Partition
		return op.Resume()
	}
	return nil
}

// gatheredSink shows what the partitions of a sink have written.
type gatheredSink struct{ parts []topology.Operator }

// Step does nothing: the parts have been run.
func (g *gatheredSink) Step(*topology.Step) error { return nil }

// EndStep does nothing.
func (g *gatheredSink) EndStep() {}

// dirty is the running form of a view; see view.Changed.
type dirty interface {
	Dirty(fn func(key, value []byte, deleted bool) bool) error
}

// Dirty names the rows that all partitions have written since the last commit, in order
// of their keys.
func (g *gatheredSink) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	var parts []pairs
	for _, op := range g.parts {
		if v, ok := op.(dirty); ok {
			parts = append(parts, v.Dirty)
		}
	}
	return mergePairs(parts, fn)
}
