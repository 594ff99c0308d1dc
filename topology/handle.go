package topology

import "reflect"

// Stream is a typed handle of a stream: facts under keys, never retracted. The zero
// handle is the output of no node: operators and sinks that are given nothing else panic,
// and Build reports those that have another input, too.
type Stream[K comparable, V any] struct {
	b    *Builder
	node *Node
}

// Table is a typed handle of a table: the latest value of each key, with every
// change known by its old and its new value. For the zero handle see Stream.
type Table[K comparable, V any] struct {
	b    *Builder
	node *Node
}

// GlobalTable is a typed handle of a table that every member of a scaled-out app holds
// as a whole, so that records of any partition can be joined to it under any key.
type GlobalTable[K comparable, V any] struct{ table Table[K, V] }

// AddStream adds a node whose output is a stream.
func AddStream[K comparable, V any](b *Builder, n Node) Stream[K, V] {
	n.setStream(typedStream[K, V]{}, reflect.TypeFor[K](), reflect.TypeFor[V]())
	n.Inspect = inspectStream[K, V]
	return Stream[K, V]{b: b, node: Add(b, n)}
}

// AddTable adds a node whose output is a table.
func AddTable[K comparable, V any](b *Builder, n Node) Table[K, V] {
	n.setTable(typedTable[K, V]{}, reflect.TypeFor[K](), reflect.TypeFor[V]())
	n.Inspect = inspectTable[K, V]
	return Table[K, V]{b: b, node: Add(b, n)}
}

// TablePart makes a part of a node, with a table as its output; see Node.Parts.
func TablePart[K comparable, V any](n Node) *Node {
	n.setTable(typedTable[K, V]{}, reflect.TypeFor[K](), reflect.TypeFor[V]())
	return &n
}

func (n *Node) setStream(typed typedNode, key, value reflect.Type) {
	n.Shape, n.Key, n.Value, n.typed = ShapeStream, key, value, typed
}

func (n *Node) setTable(typed typedNode, key, value reflect.Type) {
	n.Shape, n.Key, n.Value, n.typed = ShapeTable, key, value, typed
}

// AddGlobalTable adds a source node whose output is a global table.
func AddGlobalTable[K comparable, V any](b *Builder, n Node) GlobalTable[K, V] {
	n.Global = true
	return GlobalTable[K, V]{table: AddTable[K, V](b, n)}
}

// Table returns the handle by which test drivers write and read the rows. Build refuses
// operators and sinks that are given it.
func (g GlobalTable[K, V]) Table() Table[K, V] { return g.table }

// Node returns the handle's node, nil for the zero handle.
func (g GlobalTable[K, V]) Node() *Node { return g.table.node }

// Builder returns the builder the handle belongs to; see Stream.Builder.
func (g GlobalTable[K, V]) Builder() *Builder { return g.table.Builder() }

// Node returns the handle's node, nil for the zero handle.
func (s Stream[K, V]) Node() *Node { return s.node }

// Builder returns the builder the handle belongs to. It panics on the zero handle, which
// has none, and says which function was called with it and where.
func (s Stream[K, V]) Builder() *Builder { return orPanic(s.b) }

// Node returns the handle's node, nil for the zero handle.
func (t Table[K, V]) Node() *Node { return t.node }

// Builder returns the builder the handle belongs to; see Stream.Builder.
func (t Table[K, V]) Builder() *Builder { return orPanic(t.b) }
