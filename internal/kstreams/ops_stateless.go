package kstreams

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

var (
	_ = addOp("filter", buildFilter)
	_ = addOp("map-values", buildMapValues)
	_ = addOp("flat-map", buildFlatMap)
	_ = addOp("map", buildMap)
	_ = addOp("rekey", buildRekey)
	_ = addOp("merge", buildMerge)
	_ = addOp("split", buildSplit)
	_ = addOp("repartition", buildRepartition)
	_ = addOp("to-table", buildToTable)
	_ = addOp("to-stream", buildToStream)
)

// plain is the part of a table's key that functions see.
func plain[K comparable](k K) Text {
	switch k := any(k).(type) {
	case string:
		return text(k)
	case Windowed:
		return text(k.Key)
	}
	panic(fmt.Errorf("a key of type %T", k))
}

func buildFilter(b *Build, n *Node) (any, error) {
	switch in := b.Input(n, 0).(type) {
	case Stream:
		return operators.Filter(in, func(k Text, r Row) bool { return test(n.Fn, k, r.V) }), nil
	case Table:
		return filterTable(in, n.Fn), nil
	case WindowedTable:
		return filterTable(in, n.Fn), nil
	}
	return nil, fmt.Errorf("no filter on %T", b.Input(n, 0))
}

func filterTable[K comparable](in topology.Table[K, Row], fn string) topology.Table[K, Row] {
	return operators.Filter(in, func(k K, r Row) bool { return test(fn, plain(k), r.V) })
}

func buildMapValues(b *Build, n *Node) (any, error) {
	switch in := b.Input(n, 0).(type) {
	case Stream:
		return operators.MapStreamValues(in, func(k Text, r Row) Row { return Row{valueOf(n.Fn, k, r.V)} }), nil
	case Table:
		return mapTable(in, n.Fn), nil
	case WindowedTable:
		return mapTable(in, n.Fn), nil
	}
	return nil, fmt.Errorf("no map-values on %T", b.Input(n, 0))
}

// mapTable drops rows whose value becomes null: in Kafka Streams that is no row.
func mapTable[K comparable](in topology.Table[K, Row], fn string) topology.Table[K, Row] {
	mapped := operators.MapValues(in, func(k K, r Row) Row { return Row{valueOf(fn, plain(k), r.V)} })
	return operators.Filter(mapped, func(_ K, r Row) bool { return r.V.Valid })
}

func buildFlatMap(b *Build, n *Node) (any, error) {
	return operators.FlatMap(b.Stream(n, 0), func(k Text, r Row, emit func(Text, Row)) {
		flat(n.Fn, k, r.V, func(key, value Text) { emit(key, Row{value}) })
	}), nil
}

func buildMap(b *Build, n *Node) (any, error) {
	return operators.Map(b.Stream(n, 0), func(k Text, r Row) (Text, Row) {
		return keyOf(n.By, k, r.V), Row{valueOf(n.Fn, k, r.V)}
	}), nil
}

func buildRekey(b *Build, n *Node) (any, error) {
	return operators.Rekey(b.Stream(n, 0), func(k Text, r Row) Text { return keyOf(n.By, k, r.V) }), nil
}

func buildMerge(b *Build, n *Node) (any, error) {
	in := make([]Stream, len(n.In))
	for i := range in {
		in[i] = b.Stream(n, i)
	}
	return operators.Merge(in...), nil
}

func buildSplit(b *Build, n *Node) (any, error) {
	var branches []operators.Branch[Text, Row]
	for _, br := range n.Branches {
		branch := operators.Branch[Text, Row]{Name: br.Name}
		if br.Fn != "" {
			branch.When = func(k Text, r Row) bool { return test(br.Fn, k, r.V) }
		}
		branches = append(branches, branch)
	}
	for name, s := range operators.Split(b.Stream(n, 0), branches...) {
		b.Set(n.ID+"."+name, s)
	}
	return nil, nil
}

// buildRepartition does what a repartition can be seen to do: null keys are dropped.
func buildRepartition(b *Build, n *Node) (any, error) {
	return operators.Filter(b.Stream(n, 0), func(k Text, _ Row) bool { return k.Valid }), nil
}

// buildToTable hides rows without a value, which in Kafka Streams are no rows.
func buildToTable(b *Build, n *Node) (any, error) {
	if n.History > 0 {
		return nil, fmt.Errorf("there are no versioned tables")
	}
	all := operators.ToTable(n.ID, Keyed(b.Stream(n, 0)))
	return operators.Filter(all, func(_ string, r Row) bool { return r.V.Valid }), nil
}

func buildToStream(b *Build, n *Node) (any, error) {
	switch in := b.Input(n, 0).(type) {
	case Table:
		return tableStream(n.ID, in, text), nil
	case WindowedTable:
		return tableStream(n.ID, in, func(w Windowed) Text {
			return text(fmt.Sprintf("%s@%d-%d", w.Key, w.Window.Start, w.Window.End))
		}), nil
	}
	return nil, fmt.Errorf("no to-stream on %T", b.Input(n, 0))
}

// tableStream makes a tombstone of a row that is gone: a record without a value.
func tableStream[K comparable](id string, in topology.Table[K, Row], key func(K) Text) Stream {
	return operators.Map(operators.ToStream(id, in), func(k K, c record.Change[K, Row]) (Text, Row) {
		if c.HasNew() {
			return key(k), c.New
		}
		return key(k), Row{}
	})
}
