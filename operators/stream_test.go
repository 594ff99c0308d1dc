package operators_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// event is a row of an append-only table.
type event struct {
	N   int64
	Ref int64
	At  time.Time
}

// streams is a topology with every operator on streams, and the oracle's copy of its
// input: events and reference rows by transaction.
type streams struct {
	events, others         topology.Stream[int64, event]
	table                  topology.Table[int64, cell]
	enriched, leftEnriched topology.Stream[int64, string]
	merged                 topology.Stream[int64, string]
	latest                 topology.Table[int64, event]
	changes                topology.Stream[int64, record.Change[int64, cell]]
	sums                   topology.Table[int64, int64]
	firsts                 topology.Table[int64, []int64]
	last                   topology.Table[int64, int64]
	windows                topology.Table[windows.Windowed[int64], int64]
	kept                   topology.Table[string, int64]
	topology               *topology.Topology
}

const (
	windowSize  = 10 * time.Second
	windowGrace = 5 * time.Second
)

func newStreams() *streams {
	s := &streams{}
	b := topology.New("streams")
	db := sources.NewDatabase("db", nil)
	eventTime := sources.EventTime(func(e event) time.Time { return e.At })
	inTime := sources.Lag[event](0) // so that heartbeats let time pass
	s.events = sources.Stream[int64, event](b, db, "public.events", eventTime, inTime)
	s.others = sources.Stream[int64, event](b, db, "public.others", eventTime, inTime)
	s.table = sources.Table[int64, cell](b, db, "public.reference")
	ref := func(e event) int64 { return e.Ref }
	s.enriched = operators.Enrich("enriched", s.events, s.table, ref,
		func(e event, c cell) string { return fmt.Sprint(e.N, c.V) })
	s.leftEnriched = operators.LeftEnrich("left-enriched", s.events, s.table, ref,
		func(e event, c cell, has bool) string { return fmt.Sprint(e.N, c.V, has) })

	branches := operators.Split(s.events,
		operators.Branch[int64, event]{Name: "even", When: func(_ int64, e event) bool { return e.N%2 == 0 }},
		operators.Branch[int64, event]{Name: "third", When: func(_ int64, e event) bool { return e.N%3 == 0 }})
	twice := operators.FlatMap(branches["even"], func(k int64, e event, emit func(int64, string)) {
		emit(k, fmt.Sprint(e.N, "a"))
		emit(k, fmt.Sprint(e.N, "b"))
	})
	third := operators.MapStreamValues(branches["third"],
		func(_ int64, e event) string { return fmt.Sprint(e.N, "t") })
	other := operators.MapStreamValues(s.others, func(_ int64, e event) string { return fmt.Sprint(e.N, "o") })
	s.merged = operators.Merge(other, third, twice)

	s.latest = operators.ToTable("latest", s.events)
	s.changes = operators.ToStream("changes", s.table)
	byRef := operators.GroupBy(s.events, func(_ int64, e event) int64 { return e.Ref })
	s.sums = operators.Aggregate("sums", byRef, aggregate.Sum(func(e event) int64 { return e.N }))
	s.firsts = operators.Aggregate("firsts", byRef,
		aggregate.Collect(func(event) int { return 0 }, func(e event) int64 { return e.N }))
	s.last = operators.Aggregate("last", operators.GroupBy(
		operators.MapStreamValues(s.events, func(_ int64, e event) int64 { return e.N }),
		func(k, _ int64) int64 { return k }), aggregate.Reduce(func(a, b int64) int64 { return a*31 + b }))
	// Filtered records count for stream time: the filter drops half of them.
	odd := operators.Filter(operators.Merge(s.events, s.others),
		func(_ int64, e event) bool { return e.N%2 == 1 })
	s.windows = operators.Aggregate("windows", operators.Window(
		operators.GroupBy(odd, func(_ int64, e event) int64 { return e.Ref }),
		windows.Tumbling(windowSize).Grace(windowGrace)), aggregate.Count[event]())
	s.kept = operators.Aggregate("kept", operators.GroupBy(s.table, func(_ int64, c cell) string { return c.V }),
		aggregate.Count[cell](), operators.KeepEmpty())
	s.topology = b.MustBuild()
	return s
}

// streamOracle computes with slices and maps what streams puts out.
type streamOracle struct {
	table        map[int64]cell
	time         time.Time
	enriched     []string
	leftEnriched []string
	merged       []string
	latest       map[int64]event
	changes      []string
	sums         map[int64]int64
	firsts       map[int64][]int64
	last         map[int64]int64
	windows      map[windows.Windowed[int64]]int64
	kept         map[string]int64
	late         int
}

func newStreamOracle() *streamOracle {
	return &streamOracle{
		table: map[int64]cell{}, latest: map[int64]event{}, sums: map[int64]int64{},
		firsts: map[int64][]int64{}, last: map[int64]int64{},
		windows: map[windows.Windowed[int64]]int64{}, kept: map[string]int64{},
	}
}

// streamRow is an event of a transaction.
type streamRow struct {
	key   int64
	event event
	other bool
}

// transaction takes the events of a transaction, with the table as it left it.
func (o *streamOracle) transaction(rows []streamRow, table map[int64]cell, now time.Time) {
	before := o.time
	for _, r := range rows {
		e, n := r.event, fmt.Sprint(r.event.N)
		if e.At.After(o.time) {
			o.time = e.At
		}
		if e.N%2 == 1 {
			start := e.At.Truncate(windowSize)
			if !before.Before(start.Add(windowSize + windowGrace)) {
				o.late++
			} else {
				w := windows.Window{Start: start.UnixMicro(), End: start.Add(windowSize).UnixMicro()}
				o.windows[windows.Windowed[int64]{Key: e.Ref, Window: w}]++
			}
		}
		if r.other {
			o.merged = append(o.merged, n+"o")
			continue
		}
		c, has := table[e.Ref]
		if has {
			o.enriched = append(o.enriched, n+c.V)
		}
		o.leftEnriched = append(o.leftEnriched, n+c.V+fmt.Sprint(has))
		switch {
		case e.N%2 == 0:
			o.merged = append(o.merged, n+"a", n+"b")
		case e.N%3 == 0:
			o.merged = append(o.merged, n+"t")
		}
		o.latest[r.key] = e
		o.sums[e.Ref] += e.N
		o.firsts[e.Ref] = append(o.firsts[e.Ref], e.N)
		if last, ok := o.last[r.key]; ok {
			o.last[r.key] = last*31 + e.N
		} else {
			o.last[r.key] = e.N
		}
	}
	for _, k := range slices.Sorted(maps.Keys(union(o.table, table))) {
		before, had := o.table[k]
		after, has := table[k]
		if had != has || before != after {
			o.changes = append(o.changes, fmt.Sprint(k, before, had, after, has))
		}
	}
	o.table = maps.Clone(table)
	for v := range o.kept {
		o.kept[v] = 0
	}
	for _, c := range table {
		o.kept[c.V]++
	}
	_ = now
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// TestRandomStreams runs random transactions of events and reference rows, cut and
// crashed in random ways. The oracle knows nothing of cuts.
func TestRandomStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, o, c := newStreams(), newStreamOracle(), drawCut(t)
		d := topologytest.New(t, s.topology, c.options()...)
		table := map[int64]cell{}
		start, n := d.Now(), int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			var rows []streamRow
			beat := rapid.IntRange(0, 6).Draw(t, "beat") == 0
			d.Tx(func(tx *topologytest.Tx) {
				for range rapid.IntRange(1, 6).Draw(t, "rows") {
					n++
					k := rapid.Int64Range(0, 3).Draw(t, "key")
					if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
						writeReference(t, tx, s.table, table, k)
						continue
					}
					r := streamRow{key: k, other: rapid.IntRange(0, 3).Draw(t, "other") == 0, event: event{
						N: n, Ref: rapid.Int64Range(0, 3).Draw(t, "ref"),
						At: start.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "at")) * time.Second),
					}}
					rows = append(rows, r)
					if r.other {
						topologytest.Emit(tx, s.others, k, r.event)
					} else {
						topologytest.Emit(tx, s.events, k, r.event)
					}
				}
			})
			o.transaction(rows, table, d.Now())
			if beat && c.epochs == 1 { // with larger epochs the count of what is committed would be off
				d.AdvanceTime(7 * time.Second)
				if d.Now().After(o.time) {
					o.time = d.Now()
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
				d.Crash()
			}
		}
		d.Commit()
		s.compare(t, d, o)
	})
}

func writeReference(
	t *rapid.T, tx *topologytest.Tx, table topology.Table[int64, cell], rows map[int64]cell, k int64,
) {
	if _, has := rows[k]; has && rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
		topologytest.Delete(tx, table, k)
		delete(rows, k)
		return
	}
	c := cell{rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "v")}
	topologytest.Upsert(tx, table, k, c)
	rows[k] = c
}

func (s *streams) compare(t *rapid.T, d *topologytest.Driver, o *streamOracle) {
	equalList(t, "enriched", topologytest.Values(d, s.enriched), o.enriched)
	equalList(t, "left enriched", topologytest.Values(d, s.leftEnriched), o.leftEnriched)
	equalList(t, "merged", topologytest.Values(d, s.merged), o.merged)
	var changes []string
	for _, c := range topologytest.Values(d, s.changes) {
		changes = append(changes, fmt.Sprint(c.Key, c.Old, c.HasOld(), c.New, c.HasNew()))
	}
	equalList(t, "changes", changes, o.changes)
	equalMap(t, "latest", topologytest.Rows(d, s.latest), o.latest)
	equalMap(t, "sums", topologytest.Rows(d, s.sums), o.sums)
	equalMap(t, "firsts", topologytest.Rows(d, s.firsts), o.firsts)
	equalMap(t, "last", topologytest.Rows(d, s.last), o.last)
	equalMap(t, "windows", topologytest.Rows(d, s.windows), o.windows)
	equalMap(t, "kept", topologytest.Rows(d, s.kept), o.kept)
	if got := d.Dropped("late"); got != o.late {
		t.Fatalf("%d records were late, want %d", got, o.late)
	}
}

func equalList(t *rapid.T, what string, got, want []string) {
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func equalMap[K comparable, V any](t *rapid.T, what string, got, want map[K]V) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// TestKeepEmptyCounts shows that an empty group that is kept does not depend on how
// transactions are cut into steps: the row of another transaction came and went.
func TestKeepEmptyCounts(t *testing.T) {
	for _, epochs := range []int{1, 2, 10} {
		b := topology.New("kept")
		table := sources.Table[int64, cell](b, sources.NewDatabase("db", nil), "public.t")
		kept := operators.Aggregate("kept", operators.GroupBy(table, func(_ int64, c cell) string { return c.V }),
			aggregate.Count[cell](), operators.KeepEmpty())
		d := topologytest.New(t, b.MustBuild(), topologytest.Epochs(epochs))
		topologytest.Insert(d, table, 1, cell{"x"})
		topologytest.Delete(d, table, 1)
		d.Tx(func(tx *topologytest.Tx) { // never committed, so never there
			topologytest.Insert(tx, table, 2, cell{"y"})
			topologytest.Delete(tx, table, 2)
		})
		d.Commit()
		if got, want := topologytest.Rows(d, kept), map[string]int64{"x": 0}; !maps.Equal(got, want) {
			t.Errorf("epochs of %d: %v, want %v", epochs, got, want)
		}
	}
}
