package operators_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// The sequences of this file are those of Kafka Streams' own tests and of its 4.3.1
// test driver, and those in which it is wrong, with the right result. A millisecond
// there is a microsecond here. Records are written key+value@time, each a transaction;
// results key[start,end]=value, a deleted row as ~.

// changesOf feeds a sequence and returns the changes that each record made, in order of
// their text, with "; " between records.
func changesOf(
	t *testing.T, def windows.Definition, agg aggregate.Aggregator[tick, string], input string,
	opts ...operators.AggregateOption,
) string {
	t.Helper()
	b := topology.New("sequence")
	in := sources.Stream[int64, tick](b, sources.NewDatabase("db", nil), "public.t", sources.EventTime(tickTime))
	out := operators.Aggregate("out",
		operators.Window(operators.GroupBy(in, func(_ int64, t tick) string { return t.Key }), def), agg, opts...)
	d := topologytest.New(t, b.MustBuild(), topologytest.CheckEverything())
	var all []string
	for i, r := range ticksOf(t, input) {
		topologytest.Emit(d, in, int64(i), r)
		all = append(all, changesNow(d, out))
	}
	return strings.TrimRight(strings.Join(all, "; "), "; ")
}

func changesNow(d *topologytest.Driver, out topology.Table[tickKey, string]) string {
	var step []string
	for _, c := range topologytest.Changes(d, out) {
		value := "~"
		if c.HasNew() {
			value = c.New
		}
		step = append(step, fmt.Sprintf("%s[%d,%d]=%s", c.Key.Key, c.Key.Window.Start, c.Key.Window.End, value))
	}
	slices.Sort(step)
	return strings.Join(step, " ")
}

func ticksOf(t *testing.T, input string) (out []tick) {
	t.Helper()
	for _, field := range strings.Fields(input) {
		r, at, _ := strings.Cut(field, "@")
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tick{Key: r[:1], V: r[1:], At: n})
	}
	return out
}

func countTicks() aggregate.Aggregator[tick, string] {
	return aggregate.Map(aggregate.Count[tick](), func(n int64) string { return strconv.FormatInt(n, 10) })
}

func concatTicks() aggregate.Aggregator[tick, string] {
	join := func(a, b string) string { return strings.TrimPrefix(a+"+"+b, "+") }
	return aggregate.Custom(aggregate.Fold[tick, string, string]{
		Add: func(s string, t tick) string { return join(s, t.V) }, Merge: join,
		Result: func(s string) string { return s },
	})
}

// TestWindowSequences are the worked sequences of Kafka Streams.
func TestWindowSequences(t *testing.T) {
	onClose := []operators.AggregateOption{operators.EmitOnClose()}
	for _, c := range []struct {
		name  string
		def   windows.Definition
		agg   aggregate.Aggregator[tick, string]
		opts  []operators.AggregateOption
		input string
		want  string
	}{
		{
			"hopping, on update", windows.Hopping(us(10), us(5)), concatTicks(), nil,
			"A1@0 A2@5 A3@10 B4@6 B5@11 B6@15 C7@25",
			"A[0,10]=1; A[0,10]=1+2 A[5,15]=2; A[10,20]=3 A[5,15]=2+3; B[5,15]=4; B[10,20]=5 B[5,15]=4+5; " +
				"B[10,20]=5+6 B[15,25]=6; C[20,30]=7 C[25,35]=7",
		},
		{
			// Kafka Streams loses [10,20) of A and B, which close in the jump.
			"hopping, on close: windows lost on close", windows.Hopping(us(10), us(5)), concatTicks(), onClose,
			"A1@0 A2@5 A3@10 B4@6 B5@11 B6@15 C7@25",
			"; ; A[0,10]=1+2; ; ; A[5,15]=2+3 B[5,15]=4+5; A[10,20]=3 B[10,20]=5+6 B[15,25]=6",
		},
		{
			"windows lost on close: a long pause", windows.Tumbling(us(10)), countTicks(), onClose,
			"k@1 k@12 k@22 k@32 k@42",
			"; k[0,10]=1; k[10,20]=1; k[20,30]=1; k[30,40]=1",
		},
		{
			"tumbling 2, grace 1", windows.Tumbling(us(2)).Grace(us(1)), countTicks(), nil,
			"k@0 k@1 k@2 k@1 k@0 k@5 k@0",
			"k[0,2]=1; k[0,2]=2; k[2,4]=1; k[0,2]=3; k[0,2]=4; k[4,6]=1",
		},
		{
			"tumbling 2, grace 1, on close", windows.Tumbling(us(2)).Grace(us(1)), countTicks(), onClose,
			"k@0 k@1 k@2 k@1 k@0 k@5 k@0",
			"; ; ; ; ; k[0,2]=4 k[2,4]=1",
		},
		{
			"tumbling 2, grace 2, jump", windows.Tumbling(us(2)).Grace(us(2)), countTicks(), onClose,
			"k@0 k@1 k@2 k@0 k@3 k@0 k@4 k@0 k@30",
			"; ; ; ; ; ; k[0,2]=4; ; k[2,4]=2 k[4,6]=1",
		},
		{
			"sliding 5, grace 15, on close", windows.Sliding(us(5)).Grace(us(15)), countTicks(), onClose,
			"k@10 k@11 k@10 k@13 k@10 k@24 k@5 k@7 k@90",
			"; ; ; ; ; ; ; ; k[11,16]=2 k[12,17]=1 k[19,24]=1 k[5,10]=5 k[6,11]=5 k[8,13]=5",
		},
		{
			"sliding: records before the difference", windows.Sliding(us(10)), concatTicks(), nil,
			"k1@3 k2@5 k3@12",
			"k[0,10]=1; k[0,10]=1+2 k[4,14]=2; k[2,12]=1+2+3 k[4,14]=2+3 k[6,16]=3",
		},
		{
			// Kafka Streams gives [101,111]={z}.
			"sliding forgets", windows.Sliding(us(10)), concatTicks(), nil,
			"b@111 ax@101 az@111",
			"b[101,111]=; ; a[101,111]=x+z a[102,112]=z",
		},
		{
			// Kafka Streams gives the first result of [5,10] at the second record.
			"suppress is not final: sliding", windows.Sliding(us(5)), countTicks(), onClose,
			"a@10 a@10 b@11",
			"; ; a[5,10]=2",
		},
		{
			"session gap 5", windows.Session(us(5)), countTicks(), nil,
			"a@0 a@5 a@1 b@11 a@5 a@30",
			"a[0,0]=1; a[0,0]=~ a[0,5]=2; a[0,5]=3; b[11,11]=1; ; a[30,30]=1",
		},
		{
			"session gap 5, on close", windows.Session(us(5)), countTicks(), onClose,
			"a@0 a@5 a@1 b@11 a@5 a@30",
			"; ; ; a[0,5]=3; ; b[11,11]=1",
		},
		{
			// Kafka Streams releases a[0,0]=1 at b@5, and a[0,5]=2 later.
			"suppress is not final: session", windows.Session(us(5)), countTicks(), onClose,
			"a@0 b@5 a@5 b@11",
			"; ; ; a[0,5]=2 b[5,5]=1",
		},
		{
			// Kafka Streams gives a[15,15]=1, and a[15,18]=2 later: the closed session again.
			"session on-close is not final", windows.Session(us(3)), countTicks(), onClose,
			"a@15 b@19 b@20 a@18 b@100",
			"; a[15,15]=1; ; ; a[18,18]=1 b[19,20]=2",
		},
		{
			// Kafka Streams' default store has expired the session: 1 twice.
			"session drop bound", windows.Session(us(5)).Grace(us(3)), countTicks(), nil,
			"b@20 a@12 a@12 a@11",
			"b[20,20]=1; a[12,12]=1; a[12,12]=2; a[11,12]=3 a[12,12]=~",
		},
		{
			"sessions that become one", windows.Session(us(5)).Grace(us(20)), concatTicks(), nil,
			"a1@0 a2@10 a3@5",
			"a[0,0]=1; a[10,10]=2; a[0,0]=~ a[0,10]=1+2+3 a[10,10]=~",
		},
		{
			"retention", windows.Tumbling(us(10)), countTicks(),
			[]operators.AggregateOption{operators.Retention(us(5))},
			"a@1 b@14 c@15 d@40 d@50",
			"a[0,10]=1; b[10,20]=1; a[0,10]=~ c[10,20]=1; d[40,50]=1; b[10,20]=~ c[10,20]=~ d[50,60]=1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := changesOf(t, c.def, c.agg, c.input, c.opts...); got != c.want {
				t.Errorf("of %s:\n got %s\nwant %s", c.input, got, c.want)
			}
		})
	}
}

// TestCogroupHasOneStreamTime: Kafka Streams has one stream time an input, accepts L@9
// and begins [0,10) anew.
func TestCogroupHasOneStreamTime(t *testing.T) {
	b := topology.New("cogroup")
	db := sources.NewDatabase("db", nil)
	left := sources.Stream[int64, tick](b, db, "public.l", sources.EventTime(tickTime))
	right := sources.Stream[int64, tick](b, db, "public.r", sources.EventTime(tickTime))
	key := func(_ int64, t tick) string { return t.Key }
	both := operators.Cogroup2(operators.GroupBy(left, key), operators.GroupBy(right, key))
	out := operators.Aggregate("out", operators.Window(both, windows.Tumbling(us(10))),
		aggregate.Custom(aggregate.Cogroup2(
			func(s string, _ tick) string { return s + "L" }, func(s string, _ tick) string { return s + "R" })))
	d := topologytest.New(t, b.MustBuild())
	topologytest.Emit(d, left, 1, tick{"k", "", 1})
	topologytest.Emit(d, right, 2, tick{"k", "", 5})
	topologytest.Emit(d, right, 3, tick{"k", "", 12})
	topologytest.Emit(d, left, 4, tick{"k", "", 9})
	d.Tx(func(tx *topologytest.Tx) { // one transaction: in order of its rows
		for i, in := range []topology.Stream[int64, tick]{right, left, left, right} {
			topologytest.Emit(tx, in, int64(i), tick{"k", "", 13})
		}
	})
	want := "k[0,10]=LR k[10,20]=RRLLR"
	var got []string
	for k, v := range topologytest.Rows(d, out) {
		got = append(got, fmt.Sprintf("%s[%d,%d]=%s", k.Key, k.Window.Start, k.Window.End, v))
	}
	slices.Sort(got)
	if s := strings.Join(got, " "); s != want || d.Dropped("late") != 1 {
		t.Errorf("got %s, %d late; want %s, 1 late", s, d.Dropped("late"), want)
	}
}

// TestWindowErrors: what makes no sense is refused at Build, all at once, with a remedy.
func TestWindowErrors(t *testing.T) {
	b := topology.New("wrong")
	db := sources.NewDatabase("db", nil)
	in := sources.Stream[int64, tick](b, db, "public.s")
	rows := sources.Table[int64, tick](b, db, "public.t")
	key := func(_ int64, t tick) string { return t.Key }
	stream, table := operators.GroupBy(in, key), operators.GroupBy(rows, key)
	noMerge := aggregate.Custom(aggregate.Fold[tick, int64, int64]{
		Add: func(n int64, _ tick) int64 { return n + 1 }, Result: func(n int64) int64 { return n },
	})
	count := aggregate.Count[tick]()
	tumbling := windows.Tumbling(us(5))
	operators.Aggregate("no-merge", operators.Window(stream, windows.Session(us(5))), noMerge)
	operators.Aggregate("bad-hop", operators.Window(stream, windows.Hopping(us(5), us(6)).Grace(us(-1))), count)
	operators.Aggregate("window-of-table", operators.Window(table, tumbling), count)
	operators.Aggregate("window-by-of-stream", operators.WindowBy(stream, tumbling, tickTime), count)
	operators.Aggregate("sessions-of-table", operators.WindowBy(table, windows.Session(us(5)), tickTime), count)
	operators.Aggregate("never-closes", operators.WindowBy(table, tumbling, tickTime), count,
		operators.EmitOnClose(), operators.Retention(us(-1)))
	operators.Aggregate("no-window", stream, count, operators.EmitOnClose())
	operators.Aggregate("nil-window", operators.Window(stream, nil), count)
	operators.Aggregate("twice", operators.Window(operators.Window(stream, tumbling), tumbling), count)
	operators.Aggregate("cogroup-of-table", operators.Cogroup2(stream, table),
		aggregate.Count[aggregate.OneOf2[tick, tick]]())
	operators.Aggregate("cogroup-of-windows",
		operators.Cogroup2(operators.Window(stream, tumbling), operators.Window(stream, tumbling)),
		aggregate.Count[aggregate.OneOf2[tick, tick]]())
	_, err := b.Build()
	if err == nil {
		t.Fatal("Build takes it all")
	}
	for _, want := range []string{
		`"no-merge": a record can make two sessions one (session 5µs), and the aggregator cannot merge; give its`,
		`"bad-hop": windows: advance 6µs is larger than size 5µs`, "grace is -1µs; it must not be negative",
		`"window-of-table": operators: "db/public.t" is a table, whose rows have no one time; use WindowBy`,
		`"window-by-of-stream": operators: "db/public.s" is a stream; use Window`,
		`"sessions-of-table": operators: session 5µs windows over a table are not supported`,
		`"never-closes": EmitOnClose was asked for, and no window ever closes`,
		"Retention was asked for, and no window ever closes", "the retention is -1µs; it must not be negative",
		`"no-window": EmitOnClose was asked for`, `"nil-window": operators: no windows were given`,
		`"twice": operators: the groups are windowed already (tumbling 5µs)`,
		`"cogroup-of-table": operators: "db/public.t" is a table, and a cogroup is of streams`,
		`"cogroup-of-windows": operators: an input of a cogroup is windowed (tumbling 5µs)`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}
