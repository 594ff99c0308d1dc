package topology

import (
	"fmt"
	"log/slog"
	"math"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Operator is the running form of a node. A task runs one step at a time: it
// feeds the sources, then calls Step on every node in topological order, then
// EndStep on all of them. An operator owns no goroutine, clock or I/O; it reads
// the stores it registered.
type Operator interface {
	// Step consumes what the inputs put out in this step, updates the operator's
	// stores and makes its own output available. Outputs of inputs are complete
	// when it is called (invariant T4).
	Step(s *Step) error
	// EndStep forgets the step's output and the old values it kept.
	EndStep()
}

// TableOutput is what the running form of a table node offers its consumers.
//
// Changes and At agree: the keys that Changes yields are exactly those for which
// At gives an old and a new value that differ. Joins rely on it to visit each key
// once (invariant T2 of ARCHITECTURE.md).
type TableOutput[K comparable, V any] interface {
	Operator
	// Changes yields the step's net changes, at most one a key, in chunks that are
	// valid until the next one. It may be walked more than once.
	Changes(yield func([]record.Change[K, V]) bool) error
	// At returns the value of a key before the step and now. It may be called once
	// the node's own Step has been.
	At(key K) (record.Versions[V], error)
}

// EventOutput is a TableOutput that also shows each row event as it is fed: what a
// table that keeps versions reads, since a net change hides rows that came and went
// within the step.
type EventOutput[K comparable, V any] interface {
	TableOutput[K, V]
	// OnEvent has fn called for each row event from then on, before the node's Step and
	// after the event has been applied. The change is valid during the call; its old side
	// is not set.
	OnEvent(fn func(c *record.Change[K, V]) error)
}

// StreamOutput is what the running form of a stream node offers its consumers.
type StreamOutput[K comparable, V any] interface {
	Operator
	// Records yields the step's records in order of their tags, in chunks that are
	// valid until the next one. It may be walked more than once.
	Records(yield func([]record.Record[K, V]) bool) error
}

// SourceOperator is the running form of a source node.
type SourceOperator interface {
	Operator
	// Feed hands over rows of one transaction and one relation, in log order.
	// Within a step it may be called any number of times.
	Feed(tx *record.Tx, seq uint32, rows []record.Row) error
	// MaxTime is the largest event time fed in this step, NoTime if none was.
	MaxTime() int64
}

// Prober is a SourceOperator that can tell whether it can use rows, without taking them.
type Prober interface {
	SourceOperator
	// Probe returns the error that Feed would have with rows of one transaction and one
	// relation, as far as it comes of decoding them.
	Probe(tx *record.Tx, rows []record.Row) error
}

// Replayer is a SourceOperator whose rows are events. When state is rebuilt from a new
// snapshot, the events that were committed before it and not taken yet are fed again.
type Replayer interface {
	SourceOperator
	// FeedReplayed is Feed for rows of a transaction that the snapshot covers: they
	// are events, and change no stored row.
	FeedReplayed(tx *record.Tx, seq uint32, rows []record.Row) error
	// SnapshotOnce says that rows of a snapshot are events at the first start only.
	SnapshotOnce() bool
}

// DividedSource is a SourceOperator that can hold a part of the rows, where the topology
// is cut. Rows come to it in the order of the log.
type DividedSource interface {
	SourceOperator
	// Route says which partitions a row is for. What it returns is valid until the next
	// call.
	Route(row *record.Row) (RowRoute, error)
	// MoveOut takes a row away that moves to another partition, by an update of its key,
	// and returns what MoveIn of that partition is to be given.
	MoveOut(tx *record.Tx, row *record.Row) (moved any, err error)
	MoveIn(tx *record.Tx, seq uint32, row *record.Row, moved any) error
}

// RowRoute says which partitions a row is for.
type RowRoute struct {
	// Every says that it is for all, as TRUNCATE is.
	Every bool
	// From and To are what its key before and after the event is divided by.
	From, To []byte
}

// MessageOperator is the running form of a source of logical messages.
type MessageOperator interface {
	Operator
	FeedMessage(tx *record.Tx, seq uint32, m record.Message) error
	// Division is what a message is divided by.
	Division(m *record.Message) []byte
}

// TimedOperator is the running form of a node that acts when stream time reaches a
// point, such as the close of a window: in its Step, on whatever is due at
// Step.After of the node. Between steps it tells what it waits for, so that a
// heartbeat runs a step only where something falls due.
type TimedOperator interface {
	Operator
	// NextTimer is the earliest stream time it waits for, in Unix microseconds; ok is
	// false if it waits for none. It may be called between steps only.
	NextTimer() (at int64, ok bool)
}

// Resumer is the running form of a part of a node (Node.Parts) that keeps what a node
// that runs whole need not: after a start with the state of such a one it is called once,
// stage by stage and before anything is fed, to make that up.
type Resumer interface {
	Operator
	Resume() error
}

// Step is one unit of computation: the whole source transactions whose rows were
// fed.
type Step struct {
	// Txs are the step's transactions in order; a heartbeat is one, too.
	Txs []*record.Tx
	// Before and After are stream time by node id, in Unix microseconds: the
	// largest event time of all sources that lead to the node, without this step's
	// rows and with them. NoTime where nothing has been seen.
	Before, After []int64
	// FirstSeq is the place of Txs[0] in the epoch.
	FirstSeq uint32
}

// Seq returns the place in the epoch of one of the step's transactions.
func (s *Step) Seq(tx *record.Tx) uint32 {
	for i, t := range s.Txs {
		if t == tx {
			return s.FirstSeq + uint32(i)
		}
	}
	return s.FirstSeq
}

// NoTime is the stream time of a node that has seen no event.
const NoTime = math.MinInt64

// Runtime is what the running forms of one task are built with.
type Runtime struct {
	Env    *state.Env
	Logger *slog.Logger
	// StoreID returns the id of a store: its key prefix.
	StoreID func(store string) uint32
	// Time returns the stream time of a node before the step that is being fed.
	Time func(n *Node) int64
	// Outputs takes what sinks put out.
	Outputs Outputs
	// Letters takes inputs that error policies set aside.
	Letters Letters
	// HasStore says whether there is a store of that name already; nil says never.
	HasStore func(store string) bool
	// Drop counts records that a rule drops, such as late ones.
	Drop func(n *Node, reason string, count int)

	ops       map[*Node]Operator
	consumers map[*Node]int
	stores    []state.Store
	parkings  []ParkingControl
	current   *Node
	active    *int
	// Of a topology that is cut: which partition this is, how inputs are found, and the
	// readers of exchanges.
	partition Partition
	cut       *Cut
	readers   map[edge]Operator
}

// Outputs takes what the sinks of a task put out during an epoch. The slices are
// copied. Of several calls for one node and key in an epoch the last one counts.
type Outputs interface {
	// Upsert says that the row under key now is value; a nil value deletes it.
	Upsert(n *Node, key, value []byte) error
	// Append adds an event of a stream.
	Append(n *Node, tag record.Tag, key, value []byte) error
}

// Start makes the running forms of all nodes of t, in order.
func (rt *Runtime) Start(t *Topology) ([]Operator, error) {
	rt.ops = make(map[*Node]Operator, len(t.nodes))
	rt.consumers = make(map[*Node]int, len(t.nodes))
	rt.active = new(int)
	for _, n := range t.nodes {
		for _, in := range n.Inputs {
			rt.consumers[in]++
		}
	}
	ops := make([]Operator, len(t.nodes))
	for i, n := range t.nodes {
		op, err := rt.make(n)
		if err != nil {
			return nil, err
		}
		ops[i] = op
	}
	return ops, nil
}

// make makes the running form of a node.
func (rt *Runtime) make(n *Node) (Operator, error) {
	rt.current = n
	op, err := n.New(rt)
	if err != nil {
		return nil, fmt.Errorf("topology: %s %q: %w", n.Kind, n.Name, err)
	}
	rt.ops[n] = op
	return op, nil
}

// Stores returns the stores that the running forms registered.
func (rt *Runtime) Stores() []state.Store { return rt.stores }

// Parkings returns the parkings that the running forms have.
func (rt *Runtime) Parkings() []ParkingControl { return rt.parkings }

// Consumers returns how many nodes read n.
func (rt *Runtime) Consumers(n *Node) int { return rt.consumers[n] }

// Register adds a store of the node that is being made.
func (rt *Runtime) Register(s state.Store) { rt.stores = append(rt.stores, s) }

// StoreIDFor returns the id of one of the current node's stores.
func (rt *Runtime) StoreIDFor(store string) uint32 { return rt.StoreID(rt.current.StoreName(store)) }

// Active points to the id of the node whose code is at work. A driver sets it
// before it calls a node; an operator that calls user functions sets it before each,
// since it may do so when another node walks its output.
func (rt *Runtime) Active() *int { return rt.active }

// Node returns the node whose running form is being made.
func (rt *Runtime) Node() *Node { return rt.current }

// TableInput returns the running form of the current node's i-th input, a table.
func TableInput[K comparable, V any](rt *Runtime, i int) TableOutput[K, V] {
	return rt.input(i).(TableOutput[K, V])
}

// StreamInput returns the running form of the current node's i-th input, a stream.
func StreamInput[K comparable, V any](rt *Runtime, i int) StreamOutput[K, V] {
	return rt.input(i).(StreamOutput[K, V])
}

// input is the running form of the current node's i-th input, or the reader of the
// exchange that lies between.
func (rt *Runtime) input(i int) Operator {
	if rt.cut == nil {
		return rt.ops[rt.current.Inputs[i]]
	}
	if r, ok := rt.readers[edge{rt.current, i}]; ok {
		return r
	}
	return rt.ops[rt.cut.input(rt.current, i)]
}
