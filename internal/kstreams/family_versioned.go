package kstreams

import (
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Versioned tables, in joins of tables, joins with streams, and aggregates.
var (
	_ = addFamily(&Family{Name: "versioned-join-inner", Make: makeVersionedJoin("inner"), Known: versionedKnown})
	_ = addFamily(&Family{Name: "versioned-join-left", Make: makeVersionedJoin("left"), Known: versionedKnown})
	_ = addFamily(&Family{Name: "versioned-join-outer", Make: makeVersionedJoin("outer"), Known: versionedKnown})
	_ = addFamily(&Family{Name: "versioned-stream-inner", Make: makeAsOf("inner", false), Known: asOfKnown})
	_ = addFamily(&Family{Name: "versioned-stream-left", Make: makeAsOf("left", false), Known: asOfKnown})
	_ = addFamily(&Family{Name: "versioned-grace-inner", Make: makeAsOf("inner", true), Known: asOfKnown})
	_ = addFamily(&Family{Name: "versioned-grace-left", Make: makeAsOf("left", true), Known: asOfKnown})
	_ = addFamily(&Family{Name: "versioned-aggregate", Make: makeVersionedAggregate, Known: []Known{
		{Name: "needless output", Explains: onlyTimes("aggregate")}, deletionForgotten,
	}})
	_ = addFamily(&Family{Name: "versioned-foreign-key", Make: makeVersionedForeignKey, Known: []Known{
		{Name: "time of a foreign-key result", Explains: onlyTimes("join-foreign-key")},
	}})

	versionedKnown = []Known{deletionForgotten}
	asOfKnown      = []Known{deletionForgottenAsOf}
)

// buildVersioned builds a table with history. A tombstone of a row that is not there is
// a version in Kafka Streams; a database says so with a row that comes and goes.
func buildVersioned(b *Build, n *Node) (any, error) {
	table := sources.Table[string, Row](b.b, b.db, "public."+n.Topic)
	rows := map[string]bool{}
	b.feeds[n.Topic] = func(tx *topologytest.Tx, in *Input) {
		if in.Key == nil {
			return
		}
		if in.Value != nil || !rows[*in.Key] {
			topologytest.Upsert(tx, table, *in.Key, Row{textOf(in.Value)})
		}
		if rows[*in.Key] = in.Value != nil; in.Value == nil {
			topologytest.Delete(tx, table, *in.Key)
		}
	}
	v := operators.Versioned("versions-"+n.ID, table, Ticks(n.History))
	b.versions[n.ID] = v
	return v.Table, nil
}

// buildAsOf joins a stream to a versioned table.
func buildAsOf(
	b *Build, n *Node, table operators.VersionedTable[string, Row],
	key func(ctx record.Context, k Text, v Row) (string, bool, error),
	join func(ctx record.Context, k Text, v, r Row, has bool) (Row, bool, error),
) (any, error) {
	var opts []operators.AsOfOption
	if n.Grace != nil {
		opts = append(opts, operators.WaitForRows(Ticks(*n.Grace)))
	}
	return operators.EnrichAsOfContext(n.ID, b.Stream(n, 0), table, key, join, opts...), nil
}

// history draws a retention that some rows are older than, or none.
func (g Gen) history() int64 { return Of(g, g.Between(1, 12), g.Between(5, 40), 1000) }

func versionedMix(topics ...string) Mix {
	m := TableMix(topics...)
	m.Late, m.Back, m.Keys = 3, 20, []string{"a", "b", "c"}
	return m
}

func makeVersionedJoin(kind string) func(g Gen) *Case {
	return func(g Gen) *Case {
		l, r := Node{ID: "l", Op: "table", Topic: "l"}, Node{ID: "r", Op: "table", Topic: "r"}
		which := g.IntN(3)
		if which != 1 {
			l.History = g.history()
		}
		if which != 0 {
			r.History = g.history()
		}
		j := Node{ID: "j", Op: "join", Kind: kind, In: []string{"l", "r"}}
		return &Case{Nodes: []Node{l, r, j}, Out: []string{"j"}, Records: g.Records(versionedMix("l", "r"))}
	}
}

func makeAsOf(kind string, grace bool) func(g Gen) *Case {
	return func(g Gen) *Case {
		r := Node{ID: "r", Op: "table", Topic: "r", History: g.history()}
		j := Node{ID: "j", Op: "join", Kind: kind, In: []string{"l", "r"}}
		m := versionedMix("l", "r")
		if grace {
			j.Grace = new(int64)
			*j.Grace = g.Between(1, int(min(r.History, 15)))
		} else {
			m.NullKeys = 12 // with grace Kafka Streams crashes on one
		}
		c := &Case{
			Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}, r, j}, Out: []string{"j"}, Records: g.Records(m),
		}
		for i := range c.Records {
			// Kafka Streams lets time pass on a record without a value, but releases
			// nothing before the next one.
			if in := &c.Records[i]; grace && in.Topic == "l" && in.Value == nil {
				in.Value = pointer("c4")
			}
		}
		return c
	}
}

func makeVersionedAggregate(g Gen) *Case {
	return &Case{
		Nodes: []Node{
			{ID: "l", Op: "table", Topic: "l", History: g.history()},
			{ID: "a", Op: "aggregate", In: []string{"l"}, By: Of(g, "first", "key", "one"),
				Fn: Of(g, "count", "sum", "sorted")},
		},
		Out: []string{"a"}, Records: g.Records(versionedMix("l")),
	}
}

func makeVersionedForeignKey(g Gen) *Case {
	c := makeForeignKey(Of(g, "inner", "left"))(g)
	which := g.IntN(3)
	if which != 1 {
		c.Nodes[0].History = g.history()
	}
	if which != 0 {
		c.Nodes[1].History = g.history()
	}
	return c
}
