package task

import (
	"fmt"
	"maps"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Apart makes a task of one sub-topology in one partition. What it exchanges with others
// goes through its driver: Send takes what it writes, Receive what it reads.
type Apart struct {
	Cut       *topology.Cut
	Sub       *topology.SubTopology
	Partition int
	// Partitions returns into how many an exchange divides.
	Partitions func(e *topology.Exchange) int
	// Send takes a message that a step writes to an exchange, in the order of the
	// transactions and the rows within them. It is valid during the call.
	Send func(m Message) error
}

// Message is one of an exchange, with what the reading side has to know of its origin.
type Message struct {
	topology.Message
	Exchange *topology.Exchange
	// Tx is the transaction that it is part of, nil where a step had none.
	Tx *record.Tx
	// Time is the stream time of the node that put it out, the step included.
	Time int64
}

// apart is what a task has besides where it is one sub-topology.
type apart struct {
	*Apart
	nodes   map[int]*topology.Node
	ops     map[int]topology.Operator
	readers map[*topology.Exchange]topology.LinkReader
	// times are the stream times of exchanges that are read, received with this step's.
	times, received map[*topology.Exchange]int64
	running         *topology.Running
}

// startApart makes the running forms of the sub-topology and returns how many ids nodes
// have.
func (t *Task) startApart(cfg Config, rt *topology.Runtime) (ids int, err error) {
	a := &apart{
		Apart: cfg.Apart, nodes: map[int]*topology.Node{}, ops: map[int]topology.Operator{},
		readers: map[*topology.Exchange]topology.LinkReader{},
	}
	t.apart, t.active = a, new(int)
	links := make([]topology.Link, len(a.Cut.Exchanges))
	for i, e := range a.Cut.Exchanges {
		if e.FromSub != a.Sub.Number && e.ToSub != a.Sub.Number {
			continue
		}
		if links[i], err = e.NewLink(a.Partitions(e)); err != nil {
			return 0, err
		}
	}
	if t.schedule, err = rt.StartSub(a.Cut, a.Sub, a.Partition, links, t.active); err != nil {
		return 0, err
	}
	t.ops = make([]topology.Operator, len(t.nodes))
	for _, r := range t.schedule {
		switch {
		case r.Reader != nil:
			a.readers[r.Exchange] = r.Reader
		case r.Writer == nil:
			a.ops[r.Node.ID], a.nodes[r.Node.ID] = r.Operator, a.Cut.Whole(r.Node)
			if r.Node.ID < len(t.ops) {
				t.ops[r.Node.ID] = r.Operator
			}
		default:
			a.nodes[r.Node.ID] = a.Cut.Whole(r.Node)
		}
	}
	t.stores = sortStores(append(rt.Stores(), t.letters.stores()...))
	return a.Cut.Ids(), nil
}

// runs reports whether a node is the task's: all are but where it is one sub-topology.
func (t *Task) runs(n *topology.Node) bool { return t.apart == nil || t.apart.ops[n.ID] != nil }

// exchangeTime names the stream time of an exchange in a checkpoint.
func exchangeTime(e *topology.Exchange) string { return "exchange " + e.Name }

func (a *apart) restore(c Checkpoint) {
	a.times, a.received = map[*topology.Exchange]int64{}, map[*topology.Exchange]int64{}
	for _, e := range a.Sub.Reads {
		a.times[e] = topology.NoTime
		if at, ok := c.StreamTimes[exchangeTime(e)]; ok {
			a.times[e] = at
		}
		a.received[e] = a.times[e]
	}
}

// Receive feeds a message as part of the transaction begun last. Only tasks of one
// sub-topology are given any.
func (t *Task) Receive(m Message) (err error) {
	a := t.apart
	r := a.readers[m.Exchange]
	if r == nil {
		return fmt.Errorf("task: sub-topology %d does not read exchange %q", a.Sub.Number, m.Exchange.Name)
	}
	defer t.catch(m.Exchange.To.ID, &err)
	t.fed, t.pending, *t.active = true, true, m.Exchange.To.ID
	a.received[m.Exchange] = max(a.received[m.Exchange], m.Time)
	return r.Receive(m.Message, t.txs[len(t.txs)-1], t.seq())
}

// run runs what one running form does in a step.
func (a *apart) run(t *Task, r *topology.Running) error {
	if r.Writer == nil {
		return r.Operator.Step(&t.step)
	}
	a.running = r
	defer func() { a.running = nil }()
	m := Message{Exchange: r.Exchange, Time: t.step.After[r.Exchange.From.ID]}
	return r.Writer.Messages(&t.step, func(is topology.Message) error {
		m.Message, m.Tx = is, nil
		if int(is.Seq) < len(t.txs) {
			m.Tx = t.txs[is.Seq]
		}
		return a.Send(m)
	})
}

// at returns the node with an id, or that it is a part of, and its running form at work.
func (a *apart) at(id int) (*topology.Node, topology.Operator) {
	if r := a.running; r != nil && r.Node.ID == id {
		return a.nodes[id], r.Operator
	}
	return a.nodes[id], a.ops[id]
}

// advanceTimes computes the stream times of the step: those of inputs that are exchanged
// have come with the messages.
func (a *apart) advanceTimes(t *Task) {
	for _, n := range a.Sub.Nodes {
		before, after := int64(topology.NoTime), int64(topology.NoTime)
		if n.Source != nil {
			before, after = t.times[n.ID], max(t.times[n.ID], t.moved[n.ID])
			if op, ok := a.ops[n.ID].(topology.SourceOperator); ok {
				after = max(after, op.MaxTime())
			}
		}
		for i := range n.Inputs {
			if e := a.Cut.ExchangeOf(n, i); e != nil {
				before, after = max(before, a.times[e]), max(after, a.received[e])
				continue
			}
			in := a.Cut.Input(n, i).ID
			before, after = max(before, t.step.Before[in]), max(after, t.step.After[in])
		}
		t.step.Before[n.ID], t.step.After[n.ID] = before, after
	}
}

// timeBefore is the stream time of a node before the step that is being fed.
func (a *apart) timeBefore(t *Task, n *topology.Node) int64 {
	at := int64(topology.NoTime)
	if n.Source != nil {
		at = t.times[n.ID]
	}
	for i := range n.Inputs {
		if e := a.Cut.ExchangeOf(n, i); e != nil {
			at = max(at, a.times[e])
		} else {
			at = max(at, a.timeBefore(t, a.Cut.Input(n, i)))
		}
	}
	return at
}

// keepTimes makes the time after the step the time before the next one.
func (a *apart) keepTimes() { maps.Copy(a.times, a.received) }

// note adds the stream times of exchanges to those of a checkpoint.
func (a *apart) note(times map[string]int64) {
	for e, at := range a.times {
		if at != topology.NoTime {
			times[exchangeTime(e)] = at
		}
	}
}
