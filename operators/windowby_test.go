package operators_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// tickRow is a row with a time in it, 0 for none.
type tickRow struct {
	V  string
	At int64
}

func rowTime(r tickRow) time.Time {
	if r.At == 0 {
		return time.Time{}
	}
	return time.UnixMicro(r.At)
}

// rowWindows is the oracle of windows over a table: which rows each window holds. With
// a grace, a window that has closed stays as it was.
type rowWindows struct {
	size, advance, grace int64
	closes               bool
	holds                map[windows.Window]map[int64]string
	late                 int
}

func (o *rowWindows) of(r tickRow) (in []windows.Window) {
	for start := (r.At/o.advance - o.size/o.advance - 1) * o.advance; start <= r.At; start += o.advance {
		if r.At < start+o.size && r.At > 0 {
			in = append(in, windows.Window{Start: start, End: start + o.size})
		}
	}
	return in
}

// change takes a row's net change in a transaction.
func (o *rowWindows) change(id int64, old, now *tickRow, before int64) {
	for _, side := range []*tickRow{old, now} {
		if side == nil {
			continue
		}
		late := false
		for _, w := range o.of(*side) {
			switch {
			case o.closes && before >= w.End+o.grace:
				late = true
			case side == old:
				delete(o.holds[w], id)
			default:
				if o.holds[w] == nil {
					o.holds[w] = map[int64]string{}
				}
				o.holds[w][id] = side.V
			}
		}
		if late {
			o.late++
		}
	}
}

func (o *rowWindows) rows(closedAt int64) map[tickKey]string {
	out := map[tickKey]string{}
	for w, rows := range o.holds {
		if len(rows) > 0 && (closedAt == topology.NoTime || closedAt >= w.End+o.grace) {
			out[tickKey{Key: "all", Window: w}] = traceOfRows(rows)
		}
	}
	return out
}

func traceOfRows(rows map[int64]string) string {
	vs := slices.Sorted(maps.Values(rows))
	return text(len(vs)) + " " + vs[len(vs)-1] + " " + text(vs)
}

func rowTrace() aggregate.Aggregator[tickRow, string] {
	v := func(r tickRow) string { return r.V }
	return aggregate.Combine3(aggregate.Count[tickRow](), aggregate.Max(v), aggregate.Collect(v, v),
		func(n int64, most string, all []string) string { return text(n) + " " + most + " " + text(all) })
}

// TestRandomWindowBy corrects, moves and deletes rows at random, and compares windows
// over them, which never close or close by stream time, with plain loops.
func TestRandomWindowBy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := topology.New("windows-of-rows")
		in := sources.Table[int64, tickRow](b, sources.NewDatabase("db", nil), "public.t")
		grouped := operators.GroupBy(in, func(int64, tickRow) string { return "all" })
		open := &rowWindows{size: 10, advance: 4, holds: map[windows.Window]map[int64]string{}}
		closing := &rowWindows{
			size: 10, advance: 10, grace: 5, closes: true, holds: map[windows.Window]map[int64]string{},
		}
		tumbling := windows.Tumbling(us(10)).Grace(us(5))
		tables := []topology.Table[tickKey, string]{
			operators.Aggregate("open", operators.WindowBy(grouped, windows.Hopping(us(10), us(4)), rowTime),
				rowTrace()),
			operators.Aggregate("closing", operators.WindowBy(grouped, tumbling, rowTime), rowTrace()),
			operators.Aggregate("on-close", operators.WindowBy(grouped, tumbling, rowTime), rowTrace(),
				operators.EmitOnClose()),
		}
		c := drawCut(t)
		d := topologytest.New(t, b.MustBuild(), c.options()...)
		rows, now := map[int64]tickRow{}, int64(topology.NoTime)
		for range rapid.IntRange(1, 14).Draw(t, "transactions") {
			was := maps.Clone(rows)
			if rapid.IntRange(0, 2).Draw(t, "beat") == 0 {
				d.AdvanceTime(us(rapid.SampledFrom([]int64{1, 4, 30}).Draw(t, "by")))
				now = d.Now().UnixMicro()
			}
			before := now
			d.Tx(func(tx *topologytest.Tx) {
				for range rapid.IntRange(1, 4).Draw(t, "rows") {
					writeRow(t, tx, in, rows, d.Now().UnixMicro())
				}
			})
			now = d.Now().UnixMicro()
			for _, id := range slices.Sorted(maps.Keys(union(was, rows))) {
				old, now := find(was, id), find(rows, id)
				if old != nil && now != nil && *old == *now {
					continue
				}
				open.change(id, old, now, before)
				closing.change(id, old, now, before)
			}
			if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
				d.Crash()
			}
			if c.epochs == 1 {
				equalMap(t, "open", topologytest.Rows(d, tables[0]), open.rows(topology.NoTime))
			}
		}
		d.Commit()
		equalMap(t, "open", topologytest.Rows(d, tables[0]), open.rows(topology.NoTime))
		equalMap(t, "closing", topologytest.Rows(d, tables[1]), closing.rows(topology.NoTime))
		equalMap(t, "on close", topologytest.Rows(d, tables[2]), closing.rows(now))
		if got, want := d.Dropped("late"), 2*closing.late; got != want {
			t.Fatalf("%d changes were late, want %d", got, want)
		}
	})
}

func find(rows map[int64]tickRow, id int64) *tickRow {
	if r, ok := rows[id]; ok {
		return &r
	}
	return nil
}

func writeRow(
	t *rapid.T, tx *topologytest.Tx, table topology.Table[int64, tickRow], rows map[int64]tickRow, now int64,
) {
	id := rapid.Int64Range(0, 4).Draw(t, "id")
	if _, has := rows[id]; has && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		topologytest.Delete(tx, table, id)
		delete(rows, id)
		return
	}
	r := tickRow{
		V:  rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "v"),
		At: now + rapid.Int64Range(-25, 5).Draw(t, "at"),
	}
	if rapid.IntRange(0, 9).Draw(t, "no time") == 0 {
		r.At = 0
	}
	topologytest.Upsert(tx, table, id, r)
	rows[id] = r
}
