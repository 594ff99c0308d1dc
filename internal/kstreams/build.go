package kstreams

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// Row is the value of every stream and table. A null value is a record of a stream
// with nothing in it; a row of a table always has a value.
type Row struct{ V Text }

// Stream, Table and WindowedTable are what nodes are on Tailrace. A key of a stream
// may be null.
type (
	Stream        = topology.Stream[Text, Row]
	Table         = topology.Table[string, Row]
	Windowed      = windows.Windowed[string]
	WindowedTable = topology.Table[Windowed, Row]
)

// Build is a case's topology in the making.
type Build struct {
	Case  *Case
	b     *topology.Builder
	db    *sources.Database
	nodes map[string]any
	feeds map[string]func(tx *topologytest.Tx, in *Input) // by topic
	// versions are the nodes that are versioned, or global, tables.
	versions map[string]operators.VersionedTable[string, Row]
	globals  map[string]topology.GlobalTable[string, Row]
}

// event is a row of the append-only table behind a stream.
type event struct {
	K sql.Null[string]
	V sql.Null[string]
}

// ops build nodes, by Op. They return a Stream, a Table or a WindowedTable, and may
// set further nodes.
var ops = map[string]func(b *Build, n *Node) (any, error){}

// addOp registers what builds a node; its result is for a package variable.
func addOp(op string, build func(b *Build, n *Node) (any, error)) bool {
	if ops[op] != nil {
		panic("kstreams: op " + op + " is added twice")
	}
	ops[op] = build
	return true
}

func newBuild(c *Case) (*Build, error) {
	b := &Build{
		Case: c, b: topology.New("case"), db: sources.NewDatabase("db", nil), nodes: map[string]any{},
		feeds:    map[string]func(*topologytest.Tx, *Input){},
		versions: map[string]operators.VersionedTable[string, Row]{},
		globals:  map[string]topology.GlobalTable[string, Row]{},
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		build := ops[n.Op]
		if build == nil {
			return nil, fmt.Errorf("kstreams: no op is called %q", n.Op)
		}
		h, err := build(b, n)
		if err != nil {
			return nil, fmt.Errorf("kstreams: node %q: %w", n.ID, err)
		}
		b.Set(n.ID, h)
	}
	return b, nil
}

// Set gives a node its handle.
func (b *Build) Set(id string, handle any) {
	if handle != nil {
		b.nodes[id] = handle
	}
}

// Input returns the handle of a node's i-th input.
func (b *Build) Input(n *Node, i int) any {
	if i >= len(n.In) || b.nodes[n.In[i]] == nil {
		panic(fmt.Errorf("kstreams: node %q has no input %d", n.ID, i))
	}
	return b.nodes[n.In[i]]
}

// Stream returns a node's i-th input, which must be a stream.
func (b *Build) Stream(n *Node, i int) Stream { return b.Input(n, i).(Stream) }

// Table returns a node's i-th input, which must be a table of plain keys.
func (b *Build) Table(n *Node, i int) Table { return b.Input(n, i).(Table) }

// Keyed returns the records of a stream that have a key, for operators that drop
// others in Kafka Streams and would keep them here (groups, tables).
func Keyed(s Stream) topology.Stream[string, Row] {
	return operators.Rekey(operators.Filter(s, func(k Text, _ Row) bool { return k.Valid }),
		func(k Text, _ Row) string { return k.V })
}

// Nullable is the way back from Keyed.
func Nullable(s topology.Stream[string, Row]) Stream {
	return operators.Rekey(s, func(k string, _ Row) Text { return text(k) })
}

// Valued returns the records of a stream that have a value.
func Valued[K comparable](s topology.Stream[K, Row]) topology.Stream[K, Row] {
	return operators.Filter(s, func(_ K, r Row) bool { return r.V.Valid })
}

// Ticks turns a case's time into a duration.
func Ticks(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

var (
	_ = addOp("stream", buildStream)
	_ = addOp("table", buildTable)
	_ = addOp("global", buildGlobal)
)

func buildStream(b *Build, n *Node) (any, error) {
	events := sources.Stream[sources.NoKey, event](b.b, b.db, "public."+n.Topic)
	b.feeds[n.Topic] = func(tx *topologytest.Tx, in *Input) {
		topologytest.Emit(tx, events, sources.NoKey{}, event{K: textOf(in.Key), V: textOf(in.Value)})
	}
	return operators.Map(events, func(_ sources.NoKey, e event) (Text, Row) { return e.K, Row{e.V} }), nil
}

func buildTable(b *Build, n *Node) (any, error) {
	if n.History > 0 {
		return buildVersioned(b, n)
	}
	table := sources.Table[string, Row](b.b, b.db, "public."+n.Topic)
	b.feedTable(n.Topic, table)
	return table, nil
}

// buildGlobal builds a global table.
func buildGlobal(b *Build, n *Node) (any, error) {
	table := sources.GlobalTable[string, Row](b.b, b.db, "public."+n.Topic)
	b.globals[n.ID] = table
	b.feedTable(n.Topic, table.Table())
	return table.Table(), nil
}

func (b *Build) feedTable(topic string, table Table) {
	rows := map[string]bool{}
	b.feeds[topic] = func(tx *topologytest.Tx, in *Input) {
		switch {
		case in.Key == nil: // Kafka Streams drops it, and a row of a database has a key
		case in.Value != nil:
			topologytest.Upsert(tx, table, *in.Key, Row{text(*in.Value)})
			rows[*in.Key] = true
		case rows[*in.Key]:
			topologytest.Delete(tx, table, *in.Key)
			rows[*in.Key] = false
		}
	}
}

func textOf(s *string) Text {
	if s == nil {
		return Text{}
	}
	return text(*s)
}

func pointerTo(t Text) *string {
	if !t.Valid {
		return nil
	}
	return &t.V
}
