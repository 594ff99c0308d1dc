package operators_test

import (
	"maps"
	"strings"
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

// TestOrphansTimes: of right rows that lose several references in one step, the result
// has the largest time of these, in whatever order the parts of the join come to them.
func TestOrphansTimes(t *testing.T) {
	for _, partitions := range []int{0, 1, 16} {
		b := topology.New("orphans")
		db := sources.NewDatabase("db", nil)
		left := sources.Table[int64, timed](b, db, "public.l", sources.EventTime(timeOf))
		right := sources.Table[int64, cell](b, db, "public.r")
		out := operators.OuterJoinForeignKey("out", left, right,
			func(l timed) int64 { return int64(len(l.V)) },
			func(_ timed, hasLeft bool, _ cell, _ bool) bool { return hasLeft })
		d := topologytest.New(t, b.MustBuild(), topologytest.Partitions(partitions))
		const rows = 20
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(moment(1))
			for i := range int64(rows) {
				topologytest.Insert(tx, right, i, cell{"r"})
				for j := range int64(3) {
					v := strings.Repeat("x", int(i))
					topologytest.Insert(tx, left, 3*i+j, timed{moment(10 + (i+j)%3), v})
				}
			}
		})
		topologytest.Changes(d, out)
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(moment(2))
			for k := range int64(3 * rows) {
				topologytest.Delete(tx, left, k)
			}
		})
		orphans := 0
		for _, c := range topologytest.Changes(d, out) {
			if !c.Key.Right.Valid {
				continue
			}
			if orphans++; c.Time != moment(12).UnixMicro() {
				t.Errorf("%d partitions: right row %d has time %d, want 12", partitions, c.Key.Right.V,
					c.Time-epoch.UnixMicro())
			}
		}
		if orphans != rows {
			t.Errorf("%d partitions: %d right rows without references, want %d", partitions, orphans, rows)
		}
	}
}
