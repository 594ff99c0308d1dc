package topology_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

type order struct {
	CustomerID int64
	Cents      int64
}

type customer struct{ Name string }

type line struct {
	Customer string
	Cents    int64
}

// change inserts a node at one place of the revenue topology.
type change struct {
	filterBefore, filterElsewhere bool
	version, topologyVersion      int
	database                      string
	window                        time.Duration
}

func build(name string, c change) *topology.Topology {
	b := topology.New(name, topology.Version(c.topologyVersion))
	if c.database == "" {
		c.database = "shop"
	}
	shop := sources.NewDatabase(c.database, nil)
	orders := sources.Table[int64, order](b, shop, "public.orders")
	customers := sources.Table[int64, customer](b, shop, "public.customers")
	if c.filterElsewhere {
		sinks.View(operators.Filter(customers, func(int64, customer) bool { return true }), "all")
	}
	paid := operators.Filter(orders, func(_ int64, o order) bool { return o.Cents > 0 })
	if c.filterBefore {
		paid = operators.Filter(paid, func(int64, order) bool { return true })
	}
	lines := operators.JoinForeignKey("lines", paid, customers,
		func(o order) int64 { return o.CustomerID },
		func(o order, c customer) line { return line{c.Name, o.Cents} })
	totals := operators.Aggregate("totals",
		operators.GroupBy(lines, func(_ int64, l line) string { return l.Customer }),
		aggregate.Combine2(aggregate.Sum(func(l line) int64 { return l.Cents }),
			aggregate.Max(func(l line) int64 { return l.Cents }),
			func(sum, most int64) line { return line{Cents: sum + most} }), operators.NodeVersion(c.version))
	sinks.View(totals, "revenue")
	sinks.Table(totals, sinks.NewTarget("warehouse", nil), "revenue")
	if c.window > 0 {
		events := sources.Stream[int64, order](b, shop, "public.events")
		sinks.Stream(operators.Filter(events, func(int64, order) bool { return true }),
			sinks.NewTarget("out", nil), "events")
		counts := operators.Aggregate("counts", operators.Window(
			operators.GroupBy(events, func(_ int64, o order) int64 { return o.CustomerID }),
			windows.Tumbling(c.window).Grace(time.Minute)), aggregate.Count[order]())
		sinks.View(counts, "per-customer")
	}
	return b.MustBuild()
}

// TestDescribe compares with testdata/describe.txt; -rewrite writes it.
func TestDescribe(t *testing.T) {
	top := build("revenue", change{window: time.Hour})
	path := filepath.Join("testdata", "describe.txt")
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "text":
			return top.Describe()
		case "mermaid":
			return top.Mermaid()
		case "dot":
			return top.DOT()
		case "hashes": // must never change for what is the same, or state is rebuilt
			var b strings.Builder
			for _, n := range top.Nodes() {
				fmt.Fprintf(&b, "%016x %s\n", n.Hash(), n.Name)
			}
			return b.String()
		}
		return "unknown command"
	})
}

func hashes(t *topology.Topology) map[string]uint64 {
	out := map[string]uint64{}
	for _, n := range t.Nodes() {
		out[n.Name] = n.Hash()
	}
	return out
}

// TestHash shows what changes the identity of a node and what does not.
func TestHash(t *testing.T) {
	was := hashes(build("revenue", change{}))
	for name, c := range map[string]struct {
		change
		same bool
	}{
		"the same again":             {change{}, true},
		"a filter in another branch": {change{filterElsewhere: true}, true},
		"another topology beside it": {change{window: time.Hour}, true},
		"a filter before it":         {change{filterBefore: true}, false},
		"another version":            {change{version: 1}, false},
		"another database":           {change{database: "store"}, false},
	} {
		if now := hashes(build("revenue", c.change)); (now["totals"] == was["totals"]) != c.same {
			t.Errorf("%s: the hash is the same: %v, want %v", name, !c.same, c.same)
		}
	}
	hour, day := build("revenue", change{window: time.Hour}), build("revenue", change{window: 24 * time.Hour})
	if hashes(hour)["counts"] == hashes(day)["counts"] {
		t.Error("another window leaves the hash as it is")
	}
	if hour.Hash() == day.Hash() || build("a", change{}).Hash() == build("b", change{}).Hash() {
		t.Error("another topology has the same hash")
	}
}

// TestDeepDiamondsHashFast would not end if a hash walked every path.
func TestDeepDiamondsHashFast(t *testing.T) {
	b := topology.New("diamonds")
	in := sources.Table[int64, customer](b, sources.NewDatabase("shop", nil), "public.customers")
	for i := range 60 {
		in = operators.Join(fmt.Sprintf("join-%d", i), in, in, func(l, _ customer) customer { return l })
	}
	if b.MustBuild().Hash() == 0 {
		t.Error("the hash is 0")
	}
}

// TestErrors compares what Build says of wrong topologies with testdata/errors.txt:
// everything at once, with names and remedies.
func TestErrors(t *testing.T) {
	wrong := map[string]func(b *topology.Builder){
		"empty":  func(*topology.Builder) {},
		"many":   manyErrors,
		"types":  wrongTypes,
		"unread": func(b *topology.Builder) { source(b, "public.a") },
		"zero": func(b *topology.Builder) {
			var zero topology.Table[int64, order]
			operators.LeftJoin("left", source(b, "public.a"), zero, func(l, _ order, _ bool) order { return l })
		},
		"reads":      readAgain,
		"aggregates": wrongAggregates,
		"joins":      wrongJoins,
		"functions":  nilFunctions,
		"spans":      finerSpans,
		"foreign": func(b *topology.Builder) {
			other := topology.New("other")
			operators.Join("join", source(b, "public.a"), source(other, "public.a"),
				func(l, _ order) order { return l })
		},
	}
	path := filepath.Join("testdata", "errors.txt")
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		name := "wrong"
		if d.HasArg("name") {
			d.ScanArgs(t, "name", &name)
		}
		b := topology.New(name)
		wrong[d.CmdArgs[0].Key](b)
		top, err := b.Build()
		if err == nil || top != nil {
			t.Fatalf("Build gives %v, %v; want an error alone", top, err)
		}
		return err.Error() + "\n"
	})
}

// nilFunctions gives nil where each kind of operator asks for a function.
func nilFunctions(b *topology.Builder) {
	type (
		none   = func(int64, order) bool
		keys   = func(int64, order) int64
		joiner = func(order, order) order
		fk     = func(order) int64
	)
	a, s := source(b, "public.a"), operators.ToStream("s", source(b, "public.b"))
	operators.Filter(a, none(nil))
	operators.Rekey(s, (func(int64, record.Change[int64, order]) int64)(nil))
	operators.Join("join", a, a, joiner(nil))
	operators.JoinForeignKey("foreign", a, a, fk(nil), joiner(nil))
	operators.JoinForeignKeys2("references", a, operators.Refer(a, fk(nil)), operators.Refer(a, keyOf),
		func(order, sql.Null[order], sql.Null[order]) order { return order{} })
	operators.Enrich("enrich", s, a, nil, func(_ record.Change[int64, order], o order) order { return o })
	operators.Process("process", s,
		(func(*operators.Stores) operators.Processor[int64, record.Change[int64, order], int64, int64])(nil))
	groups := operators.GroupBy(a, keys(nil))
	operators.Aggregate("sum", groups, aggregate.Sum(fk(nil)))
	operators.Aggregate("top", groups, aggregate.TopN(3, fk(nil), fk(nil)))
	operators.Aggregate("by-time", operators.WindowBy(groups, windows.Tumbling(time.Minute), nil),
		aggregate.Count[order]())
	type row = record.Change[int64, order]
	operators.Aggregate("cogroup", operators.Cogroup2(operators.GroupByKey(s), operators.GroupByKey(s)),
		aggregate.Custom(aggregate.Cogroup2[row, row, int64](nil, nil)))
	sources.Table[int64, order](b, sources.NewDatabase("shop", nil), "public.timed",
		sources.EventTime[order](nil))
}

func keyOf(order) int64 { return 0 }

// finerSpans gives spans that event times, which are in microseconds, cannot tell.
func finerSpans(b *topology.Builder) {
	a := source(b, "public.a")
	s := operators.ToStream("s", a)
	const fine = 1500 * time.Nanosecond
	operators.TTL("ttl", a, fine)
	operators.Versioned("versions", a, fine)
	operators.SuppressUntilTimeLimit("suppress", a, fine)
	operators.DeduplicateByKey("deduplicate", s, windows.Within(fine))
	for name, w := range map[string]windows.Definition{
		"tumbling": windows.Tumbling(fine), "offset": windows.Tumbling(time.Second).Offset(fine),
		"hopping": windows.Hopping(time.Second, fine), "sliding": windows.Sliding(fine),
		"session": windows.Session(fine), "grace": windows.Days(nil).Grace(fine),
	} {
		if err := w.Validate(); err == nil {
			b.Errorf("windows %s: nothing is found", name)
		}
	}
	operators.Aggregate("windows", operators.Window(operators.GroupByKey(s), windows.Tumbling(fine)),
		aggregate.Count[record.Change[int64, order]](), operators.Retention(fine))
}

// TestNamesOfViews gives a view the name of the operator that it shows.
func TestNamesOfViews(t *testing.T) {
	b := topology.New("names")
	groups := operators.GroupBy(source(b, "public.a"), func(k int64, _ order) int64 { return k })
	sinks.View(operators.Aggregate("stock", groups, aggregate.Count[order]()), "stock")
	if _, err := b.Build(); err != nil {
		t.Error(err)
	}
}

func source(b *topology.Builder, table string) topology.Table[int64, order] {
	return sources.Table[int64, order](b, sources.NewDatabase("shop", nil), table)
}

func manyErrors(b *topology.Builder) {
	in := source(b, "public.a")
	same := func(l, _ order) order { return l }
	operators.Join("twice", in, in, same)
	operators.Join("twice", in, in, same)
	operators.Join("", in, in, same)
	operators.Join("wrong name", in, in, same)
	sinks.Table(in, nil, "out")
	sources.Table[int64, order](b, nil, "public.c")
	sources.Messages(b, sources.NewDatabase("shop", nil), "")
}

// readAgain reads a table three times and the messages of a prefix twice.
func readAgain(b *topology.Builder) {
	shop := sources.NewDatabase("shop", nil)
	source(b, "public.a")
	sources.Stream[int64, order](b, shop, "public.a")
	source(b, "public.a")
	sources.Messages(b, shop, "outbox")
	sources.Messages(b, shop, "outbox")
	operators.Merge(sources.Stream[int64, order](b, shop, "public.a", sources.As[order]("again")))
}

func wrongTypes(b *topology.Builder) {
	in := source(b, "public.a")
	operators.MapValues(in, func(int64, order) func() { return nil })
	operators.Aggregate("by-float", operators.GroupBy(in, func(int64, order) float64 { return 0 }),
		aggregate.Count[order]())
	sources.Table[time.Time, struct{ C chan int }](b, sources.NewDatabase("shop", nil), "public.d")
}

func wrongAggregates(b *topology.Builder) {
	in := source(b, "public.a")
	groups := operators.GroupBy(in, func(k int64, _ order) int64 { return k })
	operators.Aggregate("no-remove", groups, aggregate.Reduce(func(a, _ order) order { return a }))
	operators.Aggregate("no-aggregator", groups, aggregate.Aggregator[order, int64]{})
	operators.Aggregate("no-rows", groups, aggregate.TopN(0, func(o order) int64 { return o.Cents },
		func(o order) int64 { return o.Cents }))
	operators.Aggregate("window",
		operators.Window(groups, windows.Tumbling(0).Grace(-1)), aggregate.Count[order]())
}

func wrongJoins(b *topology.Builder) {
	in := source(b, "public.a")
	shop := sources.NewDatabase("shop", nil)
	left := func(l order, _ bool, _ order, _ bool) order { return l }
	of := func(o order) int64 { return o.CustomerID }
	operators.OuterJoinForeignKey("", in, in, of, left)
	operators.JoinForeignKeys2("", in, operators.Refer(in, of), operators.Refer(in, of),
		func(order, sql.Null[order], sql.Null[order]) func() { return nil })
	versions := operators.Versioned("versions", in, -time.Second)
	events := sources.Stream[int64, order](b, shop, "public.events")
	join := func(l, _ order) order { return l }
	operators.EnrichAsOf("as-of", events, versions, of, join, operators.WaitForRows(-time.Second))
	operators.EnrichAsOf("as-of-long", events, operators.Versioned("short", in, time.Second), of, join,
		operators.WaitForRows(time.Minute))
	global := sources.GlobalTable[int64, order](b, shop, "public.global")
	operators.Join("with-global", in, global.Table(), join)
	operators.Aggregate("no-reduce", operators.GroupBy(in, func(k int64, _ order) int64 { return k }),
		aggregate.ReduceTable(func(a, _ order) order { return a }, nil))
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"shop": true, "2nd-shop": true, strings.Repeat("a", 63): true, "": false, "-a": false, "A": false,
		"a_b": false, "a b": false, "\u00e9": false, strings.Repeat("a", 64): false,
	} {
		if err := topology.CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) is %v", name, err)
		}
	}
}
