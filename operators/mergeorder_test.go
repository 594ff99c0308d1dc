package operators_test

import (
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestMergesOfMerges: what one row has made comes by ways of different length, of which one
// is the beginning of another, and is merged and divided again. The driver checks that each
// stream is in the order of its tags.
func TestMergesOfMerges(t *testing.T) {
	thrice := func(k, v int64, emit func(int64, int64)) {
		for i := range int64(3) {
			emit(k, 10*v+i)
		}
	}
	b := topology.New("merges")
	db := sources.NewDatabase("db", nil)
	in := sources.Stream[int64, int64Row](b, db, "public.s")
	s := operators.MapStreamValues(in, func(_ int64, r int64Row) int64 { return r.N })
	other := operators.MapStreamValues(sources.Stream[int64, int64Row](b, db, "public.other"),
		func(_ int64, r int64Row) int64 { return r.N })
	var got []int64
	for _, m := range []topology.Stream[int64, int64]{
		operators.Merge(other, operators.Merge(s, operators.FlatMap(s, thrice))),
		operators.FlatMap(operators.Merge(s, operators.FlatMap(s, thrice)), thrice),
	} {
		operators.Foreach(m, func(_ record.Context, _, v int64) error {
			got = append(got, v)
			return nil
		})
	}
	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything())
	for n := range int64(3) {
		d.Tx(func(tx *topologytest.Tx) {
			for k := range n + 1 {
				topologytest.Emit(tx, in, k, int64Row{N: k})
			}
		})
	}
	d.Commit()
	if want := 6 * (4 + 12); len(got) != want {
		t.Errorf("%d records, want %d", len(got), want)
	}
}

type int64Row struct{ N int64 }

func (r int64Row) number() int64 { return r.N }

// TestOptionsOfAggregates: what a group holds when nobody touches it again depends on them.
func TestOptionsOfAggregates(t *testing.T) {
	hash := func(n int) uint64 {
		b := topology.New("options")
		in := sources.Table[int64, int64Row](b, sources.NewDatabase("db", nil), "public.s")
		operators.Aggregate("list", operators.GroupBy(in, func(_ int64, r int64Row) int64 { return r.N }),
			aggregate.Map(aggregate.TopN(n, int64Row.number, int64Row.number),
				func(l []int64) int64 { return int64(len(l)) }))
		return b.MustBuild().Hash()
	}
	once, again := hash(5), hash(5)
	if once == hash(10) || once != again {
		t.Error("lists of 5 and of 10 rows are one topology, or two of 5 are not")
	}
}
