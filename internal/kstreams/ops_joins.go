package kstreams

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

var (
	_ = addOp("join", buildJoin)
	_ = addOp("join-foreign-key", buildForeignKey)
)

// joins build joins by what their sides are: "table-table", "stream-table",
// "stream-stream".
var joins = map[string]func(b *Build, n *Node) (any, error){}

var (
	_ = addJoin("table-table", buildTableJoin)
	_ = addJoin("stream-table", buildEnrich)
)

// addJoin registers what builds a join of two kinds of sides.
func addJoin(sides string, build func(b *Build, n *Node) (any, error)) bool {
	joins[sides] = build
	return true
}

func buildJoin(b *Build, n *Node) (any, error) {
	if n.Whole != nil {
		return buildWhole(b, n)
	}
	sides := shape(b.Input(n, 0)) + "-" + shape(b.Input(n, 1))
	build := joins[sides]
	if build == nil {
		return nil, fmt.Errorf("no join of %s", sides)
	}
	return build(b, n)
}

func shape(h any) string {
	switch h.(type) {
	case Stream:
		return "stream"
	case Table:
		return "table"
	}
	return fmt.Sprintf("%T", h)
}

func row(l, r Text) Row { return Row{joined(l, r)} }

func buildTableJoin(b *Build, n *Node) (any, error) {
	return joinTables(n, b.Table(n, 0), b.Table(n, 1)), nil
}

func joinTables[K comparable](n *Node, l, r topology.Table[K, Row]) topology.Table[K, Row] {
	switch n.Kind {
	case "left":
		return operators.LeftJoin(n.ID, l, r, func(l, r Row, _ bool) Row { return row(l.V, r.V) })
	case "outer":
		return operators.OuterJoin(n.ID, l, r, func(l Row, _ bool, r Row, _ bool) Row { return row(l.V, r.V) })
	}
	return operators.Join(n.ID, l, r, func(l, r Row) Row { return row(l.V, r.V) })
}

// buildEnrich joins a stream to a table under the record's own key, or with By under
// a key that it computes. A record without a value joins nothing and is dropped.
func buildEnrich(b *Build, n *Node) (any, error) {
	left := n.Kind == "left"
	key := func(_ record.Context, k Text, v Row) (string, bool, error) {
		if n.By != "" {
			k = keyOf(n.By, k, v.V)
		}
		return k.V, k.Valid, nil
	}
	join := func(_ record.Context, _ Text, v, r Row, has bool) (Row, bool, error) {
		return row(v.V, r.V), (has || left) && v.V.Valid, nil
	}
	if table, ok := b.versions[n.In[1]]; ok {
		return buildAsOf(b, n, table, key, join)
	}
	if table, ok := b.globals[n.In[1]]; ok {
		return operators.EnrichGlobalContext(n.ID, b.Stream(n, 0), table, key, join), nil
	}
	return operators.EnrichContext(n.ID, b.Stream(n, 0), b.Table(n, 1), key, join), nil
}

func buildForeignKey(b *Build, n *Node) (any, error) {
	if n.Whole != nil {
		return buildWhole(b, n)
	}
	fk := func(r Row) sql.Null[string] { return keyOf(n.By, Text{}, r.V) }
	l, r := b.Table(n, 0), b.Table(n, 1)
	switch n.Kind {
	case "inner":
		return operators.JoinForeignKeyNull(n.ID, l, r, fk, func(l, r Row) Row { return row(l.V, r.V) }), nil
	case "left":
		return operators.LeftJoinForeignKeyNull(n.ID, l, r, fk,
			func(l, r Row, _ bool) Row { return row(l.V, r.V) }), nil
	}
	return nil, fmt.Errorf("no %s foreign-key join", n.Kind)
}
