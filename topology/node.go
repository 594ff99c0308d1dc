package topology

import (
	"hash/fnv"
	"reflect"
	"strconv"
)

// Kind is the kind of a node, as describe prints it.
type Kind string

// The kinds of source nodes. Operators and sinks name their own kinds.
const (
	KindSourceTable    Kind = "source-table"
	KindSourceStream   Kind = "source-stream"
	KindSourceEvents   Kind = "source-events"
	KindSourceMessages Kind = "source-messages"
)

func (k Kind) isSource() bool {
	switch k {
	case KindSourceTable, KindSourceStream, KindSourceEvents, KindSourceMessages:
		return true
	}
	return false
}

// Shape says whether a node's output is a stream, a table or nothing.
type Shape uint8

// The shapes of a node's output.
const (
	ShapeNone Shape = iota
	ShapeStream
	ShapeTable
)

// Node is one operator of a topology: what it is called, what it reads, what it
// keeps and how to make its running form. Nodes are immutable once built.
type Node struct {
	ID       int
	Topology string
	Name     string
	Kind     Kind
	Shape    Shape
	// Inputs are the nodes it reads, in the order its running form expects.
	Inputs []*Node
	// Key and Value are the Go types of its output.
	Key, Value reflect.Type
	// Stores are the stores it keeps, by name within the node.
	Stores []StoreSpec
	// Version numbers the meaning of the node's user functions; raising it
	// rebuilds the node's state.
	Version int
	// PerTransaction says that the node's result depends on every version or on
	// stream time, so that each transaction is a step of its own.
	PerTransaction bool
	// UsesTime says that the node's result depends on stream time, so that an idle
	// source has to make it pass.
	UsesTime bool
	// Global says of a source table that every member of a scaled-out app holds all of
	// it. Only nodes that say ReadsGlobal may read it: others would compute the same once
	// a member.
	Global, ReadsGlobal bool
	// Needs says how each input has to be divided where the topology is cut; Divided how
	// the output then is. See Topology.Cut.
	Needs   []Need
	Divided Division
	// Unpartitioned says why the node cannot run in partitions, and what to do instead;
	// "" if it can.
	Unpartitioned string
	// Parts makes the nodes that take the node's place where the topology is cut, each
	// after its inputs, the one that gives the output last: for operators that work on
	// both sides of an exchange. They share the node's name. Nil where New will do.
	Parts func() []*Node
	// NeedsName says that the user has to name the node: it keeps state or needs an
	// internal topic when it is scaled out.
	NeedsName bool
	// Windows is the windows.Definition of the windows in the output's keys, nil if there
	// are none.
	Windows any
	// Detail is what describe prints behind the name, such as a window.
	Detail string
	// Source is set on source nodes: what to read.
	Source Source
	// Once says of a source that its records cannot be read again: what state they
	// have built up is lost with the state.
	Once bool
	// TakesPolicy says that the running form follows OnError. HoldsRows says of a table
	// that it holds rows of its input back as well, under their own keys.
	TakesPolicy, HoldsRows bool
	// OnError is the node's error policy, nil for Stop.
	OnError ErrorPolicy
	// Sink is set on sink nodes: where the output goes. Drivers know its types.
	Sink any
	// New makes the running form, once a task.
	New func(rt *Runtime) (Operator, error)
	// Inspect makes a look at the output for test drivers; AddStream and AddTable
	// set it.
	Inspect func() *Inspector
	// Unnamed says that the user gave no name and Name was made up.
	Unnamed bool

	typed typedNode // of nodes with an output
	hash  uint64
}

// Source says what a source node reads.
type Source interface {
	// Input names the database and what of it is read.
	Input() Input
	// HeartbeatTime is the event time up to which the source is complete when its
	// database's log says that the time is at, both in Unix microseconds; NoTime if a
	// heartbeat says nothing about it.
	HeartbeatTime(at int64) int64
}

// Fingerprinter is a Node.Source or Node.Sink of which more counts for the node's hash
// than its names: what is mapped to which column, say.
type Fingerprinter interface {
	// Fingerprint is the same for what can go on with the other's state and outputs.
	Fingerprint() string
}

// Input is what a source node reads: a table or a kind of logical messages.
type Input struct {
	Database string
	// Table is schema.table, Messages a message prefix; one of them is set.
	Table, Messages string
}

// StoreSpec describes a store that a node keeps.
type StoreSpec struct {
	// Name is the store's name in the node: "" for the only one.
	Name string
	// Schema is the fingerprint of what is stored; a change rebuilds the state.
	Schema string
}

// StoreName returns the full name of one of the node's stores.
func (n *Node) StoreName(store string) string {
	if store == "" {
		return n.Name
	}
	return n.Name + "/" + store
}

// StoreNames are the full names of the node's stores, with those in which its error
// policy parks keys.
func (n *Node) StoreNames() []string {
	names := make([]string, 0, len(n.Stores)+2)
	for _, s := range n.Stores {
		names = append(names, n.StoreName(s.Name))
	}
	if n.Parks() {
		for _, part := range n.parkedParts() {
			names = append(names, ParkedStore(n.Name, part))
		}
	}
	return names
}

// Hash identifies what the node computes as far as data can tell: its kind, name,
// types, stores, options, source and inputs. User functions are outside of it; that
// is what Version is for. So are names that were made up, which change when another
// node is inserted. The hash is stable across processes and releases.
func (n *Node) Hash() uint64 { return n.hash }

func (n *Node) computeHash() uint64 {
	h := fnv.New64a()
	put := func(s string) { h.Write([]byte(s)); h.Write([]byte{0}) }
	put(string(n.Kind))
	if n.Unnamed {
		put("")
	} else {
		put(n.Name)
	}
	if n.Source != nil {
		in := n.Source.Input()
		put(in.Database)
		put(in.Table)
		put(in.Messages)
	}
	for _, end := range []any{n.Source, n.Sink} {
		if f, ok := end.(Fingerprinter); ok {
			put(f.Fingerprint())
		}
	}
	put(typeName(n.Key))
	put(typeName(n.Value))
	put(strconv.Itoa(n.Version))
	put(n.Detail)
	for _, s := range n.Stores {
		put(s.Name)
		put(s.Schema)
	}
	for _, in := range n.Inputs {
		if in != nil {
			put(strconv.FormatUint(in.hash, 16))
		}
	}
	return h.Sum64()
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "-"
	}
	return t.String()
}

// Topology is a checked graph of nodes, in topological order.
type Topology struct {
	name    string
	version int
	nodes   []*Node
}

// Name returns the topology's name.
func (t *Topology) Name() string { return t.name }

// Nodes returns the nodes, each after its inputs. The slice must not be changed.
func (t *Topology) Nodes() []*Node { return t.nodes }

// PerTransaction reports whether each transaction must be a step of its own.
func (t *Topology) PerTransaction() bool {
	for _, n := range t.nodes {
		if n.PerTransaction {
			return true
		}
	}
	return false
}

// Hash identifies the topology; see Node.Hash.
func (t *Topology) Hash() uint64 {
	h := fnv.New64a()
	h.Write([]byte(t.name + "\x00" + strconv.Itoa(t.version)))
	for _, n := range t.nodes {
		h.Write([]byte(strconv.FormatUint(n.Hash(), 16)))
	}
	return h.Sum64()
}
