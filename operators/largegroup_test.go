package operators_test

import (
	"slices"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// touched counts the entries that a database is asked for and given: each one costs it
// O(log n).
type touched struct {
	state.DB
	read, written int
}

func (c *touched) Get(dst, key []byte) ([]byte, bool, error) {
	c.read++
	return c.DB.Get(dst, key)
}

func (c *touched) NewIter(lower, upper []byte) (state.Iter, error) {
	it, err := c.DB.NewIter(lower, upper)
	return &touchedIter{it, c}, err
}

func (c *touched) NewBatch() state.Batch { return &touchedBatch{c.DB.NewBatch(), c} }

func (c *touched) Commit(b state.Batch, sync bool) error {
	return c.DB.Commit(b.(*touchedBatch).Batch, sync)
}

type touchedBatch struct {
	state.Batch
	c *touched
}

func (b *touchedBatch) Set(key, value []byte) error {
	b.c.written++
	return b.Batch.Set(key, value)
}

func (b *touchedBatch) Delete(key []byte) error {
	b.c.written++
	return b.Batch.Delete(key)
}

type touchedIter struct {
	state.Iter
	c *touched
}

func (i *touchedIter) count(ok bool) bool {
	i.c.read++
	return ok
}

func (i *touchedIter) First() bool            { return i.count(i.Iter.First()) }
func (i *touchedIter) Last() bool             { return i.count(i.Iter.Last()) }
func (i *touchedIter) SeekGE(key []byte) bool { return i.count(i.Iter.SeekGE(key)) }
func (i *touchedIter) SeekLT(key []byte) bool { return i.count(i.Iter.SeekLT(key)) }
func (i *touchedIter) Next() bool             { return i.count(i.Iter.Next()) }
func (i *touchedIter) Prev() bool             { return i.count(i.Iter.Prev()) }

// TestLargeGroups counts what one change in a group of a hundred, a thousand and ten
// thousand rows reads and writes: the same number of entries, each of which a sorted
// store finds in O(log n). Only Collect, whose result has all rows, also reads them, once
// a step.
func TestLargeGroups(t *testing.T) {
	of := func(c cell) string { return c.V }
	for name, agg := range map[string]aggregate.Aggregator[cell, []string]{
		"top-n": aggregate.TopN(5, of, of), "bottom-n": aggregate.BottomN(5, of, of),
		"collect": aggregate.Collect(of, of), "collect-desc": aggregate.CollectDesc(of, of),
	} {
		t.Run(name, func(t *testing.T) {
			var reads, writes []int
			for _, n := range []int64{100, 1_000, 10_000} {
				read, written := changesInGroup(t, agg, n)
				reads, writes = append(reads, read), append(writes, written)
			}
			t.Logf("%d changes of rows: %d entries read, %d written", largeGroupChanges, reads, writes)
			if len(slices.Compact(writes)) > 1 {
				t.Errorf("in larger groups %d entries are written", writes)
			}
			if name == "collect" || name == "collect-desc" {
				for i, n := range []int{100, 1_000, 10_000} {
					reads[i] -= largeGroupChanges * n
				}
			}
			if slices.Max(reads)-slices.Min(reads) > largeGroupChanges {
				t.Errorf("in larger groups %d entries are read, besides the result's", reads)
			}
		})
	}
}

// largeGroupChanges are an update of the greatest, the least and a middle row to be
// another, an insert and a delete, four times.
const largeGroupChanges = 4 * 5

func changesInGroup(
	t *testing.T, agg aggregate.Aggregator[cell, []string], n int64,
) (read, written int) {
	t.Helper()
	b := topology.New("large")
	rows := sources.Table[int64, cell](b, sources.NewDatabase("db", nil), "public.t")
	all := func(int64, cell) string { return "all" }
	lists := operators.Aggregate("lists", operators.GroupBy(rows, all), agg)
	db := &touched{DB: state.NewMemory()}
	d := topologytest.New(t, b.MustBuild(), topologytest.DB(db))
	label := func(i int64) string { return text(1_000_000 + i) }
	d.Tx(func(tx *topologytest.Tx) {
		for i := range n {
			topologytest.Insert(tx, rows, i, cell{label(10 * i)})
		}
	})
	d.Reopen() // nothing is in memory
	topologytest.Update(d, rows, 1, cell{label(11)})
	db.read, db.written = 0, 0
	for i := range int64(largeGroupChanges / 5) {
		topologytest.Update(d, rows, n-1, cell{label(10*n + i)})
		topologytest.Update(d, rows, 0, cell{label(i + 1)})
		topologytest.Update(d, rows, n/2, cell{label(10*n - 11 - i)})
		topologytest.Insert(d, rows, n+i, cell{label(10*n + 100 + i)})
		topologytest.Delete(d, rows, n+i)
	}
	read, written = db.read, db.written
	got := topologytest.Rows(d, lists)["all"] // the row that was changed last is among the first
	if !slices.Contains(got, label(10*n+3)) && !slices.Contains(got, label(4)) {
		t.Errorf("the list of %d rows is %v", n, got)
	}
	return read, written
}
