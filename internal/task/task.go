// Package task is the step machine: it runs one topology over the rows it is fed.
// It owns no goroutine, clock, disk or socket; the engine, the test driver and the
// simulator all drive the same task:
//
//	t.Begin(tx); t.Rows(tx, rows); ...; t.End(tx)   // any number of transactions
//	ready, err := t.Seal()                          // the epoch is complete
//	... make ready durable, in the order that its fields say ...
//	t.Committed(ready.Checkpoint)                   // or t.Rollback()
//
// For the same state and the same input a task gives the same output.
package task

import (
	"log/slog"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Config is what a task is made of.
type Config struct {
	Topology *topology.Topology
	Env      *state.Env
	// StoreID returns the key prefix of a store, by its full name.
	StoreID func(store string) uint32
	// HasStore says whether there is a store of that name already; nil says never.
	HasStore func(store string) bool
	// Checkpoint is that of the committed state, the zero value at first.
	Checkpoint Checkpoint
	Logger     *slog.Logger
	// Drop counts records dropped by a rule; nil drops the count.
	Drop func(n *topology.Node, reason string, count int)
	// AfterStep is called at the end of each step, when the outputs of all nodes are
	// still there: for test drivers. Nil does nothing.
	AfterStep func(s *topology.Step) error
	// Partitions cuts the topology at its exchanges and runs it in so many partitions, one
	// after another in each stage. 0 runs it whole; 1 cuts it all the same. Results do not
	// depend on it, and it may be another one for each task.
	Partitions int
	// Encoded passes what is exchanged through its encoding, as between processes: for
	// tests.
	Encoded bool
	// Mail carries exchanged changes of tables between steps; nil hands them over at once. It
	// needs Partitions.
	Mail Mail
	// Apart makes the task one of a sub-topology in one partition; nil does not.
	Apart *Apart
	// OneStep makes each transaction a step of its own even where the topology does
	// not need it: for tests that compare both ways.
	OneStep bool
}

// Checkpoint is what a task needs to know of its past besides the stores. It is
// made durable in the same batch as the state (invariant S2).
type Checkpoint struct {
	// Positions says up to where each source has been processed.
	Positions record.Positions
	// StreamTimes is the stream time of each source node, by name.
	StreamTimes map[string]int64
	// Replay says, for a source whose snapshot replaced lost state, up to where events
	// have been taken: those between there and Positions are still to be taken again.
	Replay record.Positions
	// Cut says that the topology ran in partitions, however many.
	Cut bool
}

// Task runs one topology. It is not safe for concurrent use.
type Task struct {
	topology *topology.Topology
	env      *state.Env
	nodes    []*topology.Node
	// ops are the running forms by node; of a topology that is cut, they show all
	// partitions as one. schedule has all running forms in the order of a step.
	ops      []topology.Operator
	schedule []topology.Running
	cut      *cut   // nil for a topology that is not cut, or not run in partitions here
	apart    *apart // nil for a task that is not of one sub-topology
	stores   []state.Store
	names    map[uint32]string // store names by id
	outputs  *outputs
	letters  *letters
	parkings []topology.ParkingControl
	active   *int                     // the id of the node at work
	byTable  map[topology.Input][]int // indexes of source nodes
	messages map[string][]int         // those of sources of messages, by database
	// byRelation is byTable for the relations met last: sources hand out one
	// description of a table after another.
	byRelation map[*record.Relation][]int
	oneStep    bool
	after      func(s *topology.Step) error

	committed Checkpoint
	positions record.Positions
	replay    record.Positions // see Checkpoint.Replay
	again     bool             // the transaction begun last is replayed
	replayed  map[*record.Tx]bool
	times     []int64 // stream time by node id; only sources' are set
	// moved is how far heartbeats, and for sources of messages every commit of their
	// database, have moved stream time since the last step.
	moved []int64
	// undated is the transaction that a message without one came as, nil if none has.
	undated *record.Tx
	timed   []timedNode

	txs     []*record.Tx // of the epoch
	stepped int          // how many of them a finished step has processed
	step    topology.Step
	fed     bool // since the last step
	pending bool // since the last commit
}

// New makes a task from committed state.
func New(cfg Config) (*Task, error) {
	t := &Task{
		topology: cfg.Topology, env: cfg.Env, nodes: cfg.Topology.Nodes(),
		names: map[uint32]string{}, byTable: map[topology.Input][]int{}, messages: map[string][]int{},
		byRelation: map[*record.Relation][]int{},
		oneStep:    cfg.OneStep || cfg.Topology.PerTransaction(), after: cfg.AfterStep,
	}
	t.outputs = newOutputs(cfg.Env, cfg.StoreID)
	t.letters = newLetters(cfg)
	drop := cfg.Drop
	if drop == nil {
		drop = func(*topology.Node, string, int) {}
	}
	rt := &topology.Runtime{
		Env: cfg.Env, Logger: cfg.Logger, Outputs: t.outputs, Letters: t.letters, Drop: drop,
		Time: t.timeBefore, HasStore: cfg.HasStore,
		StoreID: func(store string) uint32 {
			id := cfg.StoreID(store)
			t.names[id] = store
			return id
		},
	}
	ids := len(t.nodes)
	var err error
	switch {
	case cfg.Apart != nil:
		ids, err = t.startApart(cfg, rt)
	case cfg.Partitions > 0:
		ids, err = t.startCut(cfg, rt)
	default:
		err = t.start(cfg, rt)
	}
	if err != nil {
		return nil, err
	}
	t.parkings = rt.Parkings()
	for _, r := range t.schedule {
		if op, ok := r.Operator.(topology.TimedOperator); ok {
			t.timed = append(t.timed, timedNode{r.Node.ID, r.Node.Name, op})
		}
	}
	for i, n := range t.nodes {
		if n.Source != nil && t.runs(n) {
			in := n.Source.Input()
			t.byTable[in] = append(t.byTable[in], i)
			if in.Messages != "" {
				t.messages[in.Database] = append(t.messages[in.Database], i)
			}
		}
	}
	t.step.Before = make([]int64, ids)
	t.step.After = make([]int64, ids)
	t.restore(cfg.Checkpoint)
	return t, nil
}

// start makes the running forms of a topology that runs whole.
func (t *Task) start(cfg Config, rt *topology.Runtime) (err error) {
	if t.ops, err = rt.Start(cfg.Topology); err != nil {
		return err
	}
	t.stores, t.active = sortStores(append(rt.Stores(), t.letters.stores()...)), rt.Active()
	for i, n := range t.nodes {
		t.schedule = append(t.schedule, topology.Running{Node: n, Operator: t.ops[i]})
	}
	return nil
}

// restore sets the positions and times to those of a checkpoint.
func (t *Task) restore(c Checkpoint) {
	t.committed = c
	t.positions, t.replay = c.Positions.Clone(), c.Replay.Clone()
	t.replayed = nil
	t.times, t.moved = make([]int64, len(t.nodes)), make([]int64, len(t.nodes))
	for i, n := range t.nodes {
		t.times[i], t.moved[i] = topology.NoTime, topology.NoTime
		if at, ok := c.StreamTimes[n.Name]; ok && n.Source != nil {
			t.times[i] = at
		}
	}
	if t.cut != nil {
		t.cut.restore(c)
	}
	if t.apart != nil {
		t.apart.restore(c)
	}
}

// Pending reports whether rows or messages were fed since the last commit.
func (t *Task) Pending() bool { return t.pending }

// Operators returns the running forms, by node id, for drivers that look inside;
// see topology.Inspector.
func (t *Task) Operators() []topology.Operator { return t.ops }

// Positions returns where the task stands, uncommitted transactions included.
func (t *Task) Positions() record.Positions { return t.positions }

// Replay makes the task, which has no position in a source, take the events after
// position again, once it has the source's snapshot.
func (t *Task) Replay(source string, position uint64) {
	t.replay[source] = position
	t.committed.Replay = t.replay.Clone()
}

// Replaying returns where the task stands in taking events again; see
// Checkpoint.Replay.
func (t *Task) Replaying() record.Positions { return t.replay }

// Rollback drops everything since the last commit.
func (t *Task) Rollback() {
	t.endStep()
	for _, s := range t.stores {
		s.Rollback()
	}
	t.outputs.reset()
	t.letters.txs = nil
	t.txs, t.stepped, t.fed, t.pending = nil, 0, false, false
	t.restore(t.committed)
}
