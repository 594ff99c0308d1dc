package operators_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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

// tick is an event of the tests of windows. At is its time in Unix microseconds, V
// says which one it is.
type tick struct {
	Key, V string
	At     int64
}

type tickKey = windows.Windowed[string]

// us is so many microseconds.
func us(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func tickTime(t tick) time.Time { return time.UnixMicro(t.At) }

func tickV(t tick) string { return t.V }

// trace is an aggregator that shows all that matters: how many values there are, which
// ones in which order, and what the entries hold.
func trace() aggregate.Aggregator[tick, string] {
	return aggregate.Combine4(aggregate.Count[tick](),
		aggregate.Custom(aggregate.Fold[tick, string, string]{
			Add:    func(s string, t tick) string { return s + t.V },
			Merge:  func(a, b string) string { return a + b },
			Result: func(s string) string { return s },
		}), aggregate.Max(tickV), aggregate.Collect(tickV, tickV),
		func(n int64, all, most string, list []string) string {
			return fmt.Sprint(n, " ", all, " ", most, " ", list)
		})
}

// traceOf is what trace gives for values in their order.
func traceOf(vs []string) string {
	return fmt.Sprint(
		len(vs),
		" ",
		strings.Join(vs, ""),
		" ",
		slices.Max(vs),
		" ",
		slices.Sorted(slices.Values(vs)),
	)
}

// windowOracle keeps the windows of one definition the simple way: everything that ever
// came, and what it makes of that.
type windowOracle struct {
	name string
	def  windows.Definition
	// take adds a record to its windows, judged at the time before its transaction.
	take     func(o *windowOracle, t tick, before int64)
	contents map[tickKey][]string
	accepted map[string][]tick
	late     int
	// ended is when the row of a closed window goes, with retention.
	ended     map[tickKey]int64
	retention int64
}

func newWindowOracle(
	name string,
	def windows.Definition,
	take func(*windowOracle, tick, int64),
) *windowOracle {
	return &windowOracle{
		name: name, def: def, take: take, contents: map[tickKey][]string{},
		accepted: map[string][]tick{}, ended: map[tickKey]int64{}, retention: -1,
	}
}

func (o *windowOracle) rows(onClose bool, now int64) map[tickKey]string {
	out := map[tickKey]string{}
	for k, vs := range o.contents {
		closed := now >= o.def.Closes(k.Window)
		if end, ended := o.ended[k]; ended && now >= end {
			continue
		}
		if closed || !onClose {
			out[k] = traceOf(vs)
		}
	}
	return out
}

// pass lets time pass to the end of a transaction.
func (o *windowOracle) pass(now int64) {
	for k := range o.contents {
		if closes := o.def.Closes(k.Window); now >= closes && o.retention >= 0 && o.ended[k] == 0 {
			o.ended[k] = max(closes+o.retention, now+1)
		}
	}
}

// takeHopping is the definition of hopping windows, word by word: all windows that
// begin at a multiple of advance.
func takeHopping(size, advance, grace int64) func(*windowOracle, tick, int64) {
	return func(o *windowOracle, t tick, before int64) {
		late := false
		for start := (t.At/advance - size/advance - 2) * advance; start <= t.At; start += advance {
			if t.At >= start+size || start < 0 && t.At >= 0 {
				continue
			}
			if before >= start+size+grace {
				late = true
				continue
			}
			k := tickKey{Key: t.Key, Window: windows.Window{Start: start, End: start + size}}
			o.contents[k] = append(o.contents[k], t.V)
		}
		if late {
			o.late++
		}
	}
}

// takeSliding makes all windows anew of all records that were ever accepted, and keeps
// those that had closed as they were.
func takeSliding(d, grace int64) func(*windowOracle, tick, int64) {
	return func(o *windowOracle, t tick, before int64) {
		open := func(w windows.Window) bool { return w.End+grace >= before }
		if t.At+d+grace < before {
			o.late++
			return
		}
		o.accepted[t.Key] = append(o.accepted[t.Key], t)
		late := false
		seen := map[windows.Window]bool{}
		for _, r := range o.accepted[t.Key] {
			ending := windows.Window{Start: r.At - d, End: r.At}
			if r.At >= 0 && r.At < d {
				ending = windows.Window{Start: 0, End: d}
			}
			for _, w := range []windows.Window{ending, {Start: r.At + 1, End: r.At + 1 + d}} {
				var vs []string
				for _, in := range o.accepted[t.Key] {
					if w.Start <= in.At && in.At <= w.End {
						vs = append(vs, in.V)
					}
				}
				if seen[w] || len(vs) == 0 {
					continue
				}
				seen[w] = true
				if open(w) {
					o.contents[tickKey{Key: t.Key, Window: w}] = vs
				} else if w.Start <= t.At && t.At <= w.End {
					late = true
				}
			}
		}
		if late {
			o.late++
		}
	}
}

// takeSession joins the sessions in reach that are open.
func takeSession(gap, grace int64) func(*windowOracle, tick, int64) {
	return func(o *windowOracle, t tick, before int64) {
		session := windows.Window{Start: t.At, End: t.At}
		var found []tickKey
		for k := range o.contents {
			if k.Key == t.Key && k.Window.End+gap+grace >= before &&
				k.Window.End >= t.At-gap && k.Window.Start <= t.At+gap {
				found = append(found, k)
				session.Start, session.End = min(session.Start, k.Window.Start), max(session.End, k.Window.End)
			}
		}
		if session.End+gap+grace < before {
			o.late++
			return
		}
		slices.SortFunc(found, func(a, b tickKey) int { return cmp.Compare(a.Window.Start, b.Window.Start) })
		var vs []string
		for _, k := range found {
			vs = append(vs, o.contents[k]...)
			delete(o.contents, k)
		}
		o.contents[tickKey{Key: t.Key, Window: session}] = append(vs, t.V)
	}
}

// windowed is a table of the test and its oracle.
type windowed struct {
	*windowOracle
	table   topology.Table[tickKey, string]
	onClose bool
}

func windowKinds() []func() *windowOracle {
	hopping := windows.Hopping(us(10), us(3)).Grace(us(4))
	sliding := windows.Sliding(us(5)).Grace(us(3))
	session := windows.Session(us(4)).Grace(us(2))
	return []func() *windowOracle{
		func() *windowOracle {
			return newWindowOracle("tumbling", windows.Tumbling(us(10)), takeHopping(10, 10, 0))
		},
		func() *windowOracle { return newWindowOracle("hopping", hopping, takeHopping(10, 3, 4)) },
		func() *windowOracle { return newWindowOracle("sliding", sliding, takeSliding(5, 3)) },
		func() *windowOracle { return newWindowOracle("session", session, takeSession(4, 2)) },
	}
}

// windowTables makes each kind of window four times: with results at each change and on
// close, each for good and with retention.
func windowTables(grouped operators.Grouped[string, tick]) []windowed {
	var out []windowed
	for _, kind := range windowKinds() {
		for i := range 4 {
			w := windowed{windowOracle: kind()}
			name := w.name
			var opts []operators.AggregateOption
			if i&1 != 0 {
				name, w.onClose = name+"-on-close", true
				opts = append(opts, operators.EmitOnClose())
			}
			if i&2 != 0 {
				name, w.retention = name+"-retained", int64(7*(i>>1))
				opts = append(opts, operators.Retention(us(w.retention)))
			}
			w.name = name
			w.table = operators.Aggregate(name, operators.Window(grouped, w.def), trace(), opts...)
			out = append(out, w)
		}
	}
	return out
}

// TestRandomWindows runs random records, out of order and late, through all kinds of
// windows over one stream and over a cogroup, cut, crashed and reopened at random, with
// heartbeats and jumps in time. The oracles know nothing of cuts.
func TestRandomWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := topology.New("windows")
		db := sources.NewDatabase("db", nil)
		first := sources.Stream[int64, tick](
			b,
			db,
			"public.first",
			sources.EventTime(tickTime),
			sources.Lag[tick](0),
		)
		second := sources.Stream[int64, tick](
			b,
			db,
			"public.second",
			sources.EventTime(tickTime),
			sources.Lag[tick](0),
		)
		key := func(_ int64, t tick) string { return t.Key }
		tables := windowTables(operators.GroupBy(operators.Merge(first, second), key))
		both := operators.Cogroup2(operators.GroupBy(first, key), operators.GroupBy(second, key))
		cogroups := cogroupTables(both)
		c := drawCut(t)
		d := topologytest.New(t, b.MustBuild(), c.options()...)
		base, now, n := int64(0), int64(topology.NoTime), 0
		beats := rapid.Bool().Draw(t, "beats")
		if beats {
			base = d.Now().UnixMicro()
		}
		clock := base
		for range rapid.IntRange(1, 14).Draw(t, "transactions") {
			before := now
			if beats && rapid.IntRange(0, 4).Draw(t, "beat") == 0 {
				by := rapid.SampledFrom([]int64{1, 3, 30}).Draw(t, "by")
				d.AdvanceTime(us(by))
				now = max(now, d.Now().UnixMicro())
			} else {
				clock += rapid.SampledFrom([]int64{0, 1, 2, 5, 40}).Draw(t, "clock")
				d.Tx(func(tx *topologytest.Tx) {
					for range rapid.IntRange(1, 4).Draw(t, "records") {
						r := tick{
							Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), V: string(rune('a' + n%26)),
							At: max(base, clock+rapid.Int64Range(-14, 4).Draw(t, "at")),
						}
						n++
						from := first
						if rapid.Bool().Draw(t, "second") {
							from = second
						}
						topologytest.Emit(tx, from, int64(n), r)
						for _, w := range tables {
							w.take(w.windowOracle, r, before)
						}
						for _, w := range cogroups {
							v := r
							if from == second {
								v.V = strings.ToUpper(v.V)
							}
							w.take(w.windowOracle, v, before)
						}
						now = max(now, r.At)
					}
				})
			}
			for _, w := range append(tables, cogroups...) {
				w.pass(now)
			}
			switch rapid.IntRange(0, 8).Draw(t, "crash") {
			case 0:
				d.Crash()
			case 1:
				d.Reopen()
			}
			if c.epochs == 1 {
				compareWindows(t, d, tables, now)
			}
		}
		d.Commit()
		compareWindows(t, d, tables, now)
		compareWindows(t, d, cogroups, now)
		late := 0
		for _, w := range append(tables, cogroups...) {
			late += w.late
		}
		if got := d.Dropped("late"); got != late {
			t.Fatalf("%d records were late, want %d", got, late)
		}
	})
}

// cogroupTables are windows over two inputs; the second one's adder writes capitals.
func cogroupTables(both operators.Grouped[string, aggregate.OneOf2[tick, tick]]) []windowed {
	add := aggregate.Cogroup2(func(s []string, t tick) []string { return append(slices.Clip(s), t.V) },
		func(s []string, t tick) []string { return append(slices.Clip(s), strings.ToUpper(t.V)) })
	add.Merge = func(a, b []string) []string { return append(slices.Clip(a), b...) }
	var out []windowed
	for _, kind := range windowKinds() {
		w := windowed{windowOracle: kind()}
		w.table = operators.Aggregate("co-"+w.name, operators.Window(both, w.def),
			aggregate.Map(aggregate.Custom(add), traceOf))
		out = append(out, w)
	}
	return out
}

func compareWindows(t *rapid.T, d *topologytest.Driver, tables []windowed, now int64) {
	for _, w := range tables {
		equalMap(t, w.name, topologytest.Rows(d, w.table), w.rows(w.onClose, now))
		if !w.onClose {
			continue
		}
		for _, c := range topologytest.Changes(d, w.table) {
			if c.HasOld() && (c.HasNew() || w.retention < 0) {
				t.Fatalf("%s: window %v had the result %q already", w.name, c.Key, c.Old)
			}
		}
	}
}
