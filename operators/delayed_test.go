package operators_test

import (
	"database/sql"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The tests in this file let what is exchanged between partitions arrive in later steps,
// as it does between members in Kafka mode.

// TestRandomTablesDelayed runs the graphs of TestRandomTables. Functions see what they
// are given early and late, but in the end each node equals its recomputation, and each
// change on the way begins where the last one of its key ended (which the driver checks).
func TestRandomTablesDelayed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, h, c := newGraph(t), newHistory(), drawCut(t)
		g.mixed = true
		c.partitions = rapid.SampledFrom([]int{1, 2, 16}).Draw(t, "partitions, delayed")
		d := topologytest.New(t, g.b.MustBuild(),
			append(c.options(), topologytest.Delayed(rapid.Uint64().Draw(t, "seed")))...)
		for range rapid.IntRange(1, 15).Draw(t, "transactions") {
			d.Tx(func(tx *topologytest.Tx) { h.transaction(t, g, tx) })
			switch rapid.IntRange(0, 9).Draw(t, "crash") {
			case 0:
				d.Crash()
			case 1:
				d.Reopen()
			case 2:
				d.Settle()
				g.compare(t, d, newWorld(h.sources))
			}
		}
		d.Settle()
		g.compare(t, d, newWorld(h.sources))
	})
}

type referring struct {
	To      sql.Null[int64]
	Version int64
}

type referred struct{ ID, Version int64 }

// pairOf is a result. Left joins have one without a right row.
type pairOf struct {
	Left  referring
	Right sql.Null[referred]
}

// delayedJoin is a left foreign-key join whose answers come late.
type delayedJoin struct {
	d       *topologytest.Driver
	left    topology.Table[int64, referring]
	right   topology.Table[int64, referred]
	joined  topology.Table[int64, pairOf]
	lefts   map[int64]referring
	rights  map[int64]referred
	version int64
}

func newDelayedJoin(t *rapid.T) *delayedJoin {
	b := topology.New("delayed")
	db := sources.NewDatabase("db", nil)
	j := &delayedJoin{
		left:  sources.Table[int64, referring](b, db, "public.l"),
		right: sources.Table[int64, referred](b, db, "public.r"),
		lefts: map[int64]referring{}, rights: map[int64]referred{},
	}
	j.joined = operators.LeftJoinForeignKeyNull("joined", j.left, j.right,
		func(l referring) sql.Null[int64] { return l.To },
		func(l referring, r referred, has bool) pairOf {
			if has && (!l.To.Valid || r.ID != l.To.V) {
				panic(fmt.Sprintf("%+v is joined with %+v", l, r))
			}
			return pairOf{l, sql.Null[referred]{V: r, Valid: has}}
		})
	j.d = topologytest.New(t, b.MustBuild(), topologytest.CheckEverything(),
		topologytest.Partitions(rapid.SampledFrom([]int{1, 3}).Draw(t, "partitions")),
		topologytest.Delayed(rapid.Uint64().Draw(t, "seed")))
	j.d.Tx(func(tx *topologytest.Tx) {
		for id := range int64(4) {
			j.setRight(tx, id)
		}
	})
	j.d.Settle()
	return j
}

func (j *delayedJoin) setRight(tx *topologytest.Tx, id int64) {
	j.version++
	j.rights[id] = referred{id, j.version}
	topologytest.Upsert(tx, j.right, id, j.rights[id])
}

// one changes one row. No right row is ever deleted, and the last one comes after all.
func (j *delayedJoin) one(t *rapid.T, tx *topologytest.Tx) {
	key := rapid.Int64Range(0, 2).Draw(t, "key")
	_, has := j.lefts[key]
	switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
	case op < 3:
		j.setRight(tx, rapid.Int64Range(0, 3).Draw(t, "right"))
	case op == 3 && has:
		topologytest.Delete(tx, j.left, key)
		delete(j.lefts, key)
	default:
		j.version++
		l := referring{Version: j.version}
		if to := rapid.Int64Range(0, 4).Draw(t, "to"); to < 4 {
			l.To = sql.Null[int64]{V: to, Valid: true}
		}
		topologytest.Upsert(tx, j.left, key, l)
		j.lefts[key] = l
	}
}

// check looks at what came out: a row that refers to another one is never seen without
// it, since all that is referred to is there from the start; and is gone only if it was
// deleted.
func (j *delayedJoin) check(t *rapid.T) {
	for _, c := range topologytest.Changes(j.d, j.joined) {
		_, there := j.lefts[c.Key]
		switch {
		case c.HasNew() && c.New.Left.To.Valid && !c.New.Right.Valid:
			t.Fatalf("%d is seen without what it refers to: %+v", c.Key, c.New)
		case !c.HasNew() && there:
			t.Fatalf("%d is deleted, and there: %+v", c.Key, c.Old)
		}
	}
}

// TestForeignKeyAnsweredLater moves rows whose answers are outstanding: they keep the
// result that they have until the one about where they are now has come.
func TestForeignKeyAnsweredLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := newDelayedJoin(t)
		for range rapid.IntRange(1, 20).Draw(t, "transactions") {
			// One row a transaction: a row that is deleted and inserted again is looked at between.
			j.d.Tx(func(tx *topologytest.Tx) { j.one(t, tx) })
			j.check(t)
			if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
				j.d.Reopen()
			}
		}
		j.d.Settle()
		j.check(t)
		want := map[int64]pairOf{}
		for k, l := range j.lefts {
			want[k] = pairOf{Left: l}
			if r, has := j.rights[l.To.V]; l.To.Valid && has {
				want[k] = pairOf{l, sql.Null[referred]{V: r, Valid: true}}
			}
		}
		if got := topologytest.Rows(j.d, j.joined); !maps.Equal(got, want) {
			t.Fatalf("\n got %+v\nwant %+v", got, want)
		}
	})
}
