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
