package operators_test

import (
	"maps"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestAggregateInPartitions moves rows between groups of different partitions.
func TestAggregateInPartitions(t *testing.T) {
	b := topology.New("totals")
	rows := sources.Table[int64, row](b, sources.NewDatabase("db", nil), "public.t")
	totals := operators.Aggregate("totals",
		operators.GroupBy(rows, func(_ int64, r row) string { return r.S }), aggregate.Sum(byB))
	d := topologytest.New(t, b.MustBuild(), topologytest.Partitions(4), topologytest.CheckEverything())
	d.Tx(func(tx *topologytest.Tx) {
		for k := range int64(20) {
			topologytest.Insert(tx, rows, k, row{B: k, S: string(rune('a' + k%5))})
		}
	})
	topologytest.Update(d, rows, 3, row{B: 3, S: "e"})
	topologytest.UpdateKey(d, rows, 4, 400, row{B: 4, S: "z"})
	topologytest.Delete(d, rows, 0)
	want := map[string]int64{"a": 30, "b": 34, "c": 38, "d": 39, "e": 45, "z": 4}
	if got := topologytest.Rows(d, totals); !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	topologytest.Truncate(d, rows)
	if got := topologytest.Rows(d, totals); len(got) > 0 {
		t.Fatalf("got %v after TRUNCATE", got)
	}
}

// TestForeignKeysResume divides two foreign-key joins, one over the other, that have run
// whole: the second reads the first while both make up what their parts keep, and must not
// be given a row without the one that it has always referred to.
func TestForeignKeysResume(t *testing.T) {
	b := topology.New("resume")
	rows := sources.Table[int64, row](b, sources.NewDatabase("db", nil), "public.t")
	itself := func(r row) int64 { return r.B }
	join := func(name string, left topology.Table[int64, row]) topology.Table[int64, row] {
		return operators.LeftJoinForeignKey(name, left, rows, itself, func(l, _ row, has bool) row {
			if !has {
				t.Errorf("%s: %+v has no row to refer to", name, l)
			}
			return l
		})
	}
	last := join("second", join("first", rows))
	d := topologytest.New(t, b.MustBuild())
	topologytest.Insert(d, rows, 7, row{A: 1, B: 7})
	d.Reopen(topologytest.Partitions(2))
	topologytest.Update(d, rows, 7, row{A: 2, B: 7})
	topologytest.Delete(d, rows, 7)
	if got := topologytest.Rows(d, last); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}
