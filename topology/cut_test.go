package topology_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// streams is a topology of streams, with every reason to cut one.
func streams() *topology.Topology {
	b := topology.New("streams")
	db := sources.NewDatabase("shop", nil)
	events := sources.Stream[int64, order](b, db, "public.events")
	customers := sources.Table[int64, customer](b, db, "public.customers")
	regions := sources.GlobalTable[int64, customer](b, db, "public.regions")
	line := func(o order, c customer) line { return line{c.Name, o.Cents} }
	byCustomer := operators.Rekey(events, func(_ int64, o order) int64 { return o.CustomerID })
	operators.ToTable("last", byCustomer)
	operators.ToTable("same", operators.Filter(events, func(int64, order) bool { return true }))
	here := operators.EnrichGlobal("here", events, regions,
		func(k int64, _ order) int64 { return k }, line)
	operators.Aggregate("counts", operators.GroupByKey(here), aggregate.Count[lineOf]())
	named := operators.Enrich("named", events, customers, func(o order) int64 { return o.CustomerID }, line)
	operators.Aggregate("again", operators.GroupByKey(named), aggregate.Count[lineOf]())
	operators.Foreach(operators.Repartition("spread", events),
		func(record.Context, int64, order) error { return nil })
	return b.MustBuild()
}

type lineOf = line

// apart is a topology whose sub-topologies can be tasks of their own: what comes divided
// by a topic meets what comes from an exchange.
func apart() *topology.Topology {
	b := topology.New("apart")
	db := sources.NewDatabase("shop", nil)
	events := sources.Stream[int64, order](b, db, "public.events")
	orders := sources.Table[int64, order](b, db, "public.orders")
	customers := sources.Table[int64, customer](b, db, "public.customers")
	byCustomer := operators.Rekey(events, func(_ int64, o order) int64 { return o.CustomerID })
	operators.Aggregate("counts", operators.GroupByKey(byCustomer), aggregate.Count[order]())
	totals := operators.Aggregate("totals",
		operators.GroupBy(orders, func(_ int64, o order) int64 { return o.CustomerID }), aggregate.Count[order]())
	operators.Join("both", totals, customers, func(n int64, c customer) line { return line{c.Name, n} })
	operators.Join("here", customers, orders, func(c customer, o order) line { return line{c.Name, o.Cents} })
	operators.ToTable("same", operators.Filter(events, func(int64, order) bool { return true }))
	return b.MustBuild()
}

// TestCutForTopicsRefuses names what cannot run as tasks of their own.
func TestCutForTopicsRefuses(t *testing.T) {
	_, err := streams().CutForTopics()
	if err == nil || !strings.Contains(err.Error(), `"shop/public.regions" cannot run apart`) {
		t.Errorf("a global table: %v", err)
	}
	b := topology.New("named")
	db := sources.NewDatabase("shop", nil)
	operators.Enrich("named", sources.Stream[int64, order](b, db, "public.events"),
		sources.Table[int64, customer](b, db, "public.customers"), func(o order) int64 { return o.CustomerID },
		func(o order, c customer) line { return line{c.Name, o.Cents} })
	_, err = b.MustBuild().CutForTopics()
	if err == nil || !strings.Contains(err.Error(), `enrich "named" cannot run apart`) {
		t.Errorf("a lookup behind an exchange: %v", err)
	}
	_, err = build("revenue", change{window: time.Hour}).CutForTopics()
	if err == nil || !strings.Contains(err.Error(), "stream time") {
		t.Errorf("a window behind an exchange: %v", err)
	}
}

// TestCut compares with testdata/cut.txt; -rewrite writes it.
func TestCut(t *testing.T) {
	path := filepath.Join("testdata", "cut.txt")
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		top := streams()
		if d.HasArg("revenue") {
			top = build("revenue", change{window: time.Hour})
		}
		cut, err := top.Cut()
		if d.HasArg("apart") {
			cut, err = apart().CutForTopics()
		}
		if err != nil {
			return err.Error()
		}
		switch d.Cmd {
		case "text":
			return cut.Describe()
		case "mermaid":
			return cut.Mermaid()
		case "dot":
			return cut.DOT()
		}
		return "unknown command"
	})
}

// TestCutRefuses names each node that cannot run in partitions.
func TestCutRefuses(t *testing.T) {
	b := topology.New("refused")
	rows := sources.Table[int64, order](b, sources.NewDatabase("shop", nil), "public.orders")
	operators.MapValues(rows, func(_ int64, o order) int64 { return o.Cents }).
		OnError(func(record.Context, *topology.Failure) topology.Verdict { return topology.Skip })
	operators.SuppressUntilTimeLimit("few", rows, time.Hour, operators.MaxRecords(5))
	topology.Add(b, topology.Node{
		Name: "own", Kind: "mine", Inputs: []*topology.Node{rows.Node()},
		New: func(*topology.Runtime) (topology.Operator, error) { return nil, nil },
	})
	_, err := b.MustBuild().Cut()
	if err == nil {
		t.Fatal("the topology was cut")
	}
	for _, want := range []string{
		`suppress "few" cannot run in partitions`, "MaxRecords", "leave it out, or run the topology whole",
		`map-values "map-values#1" cannot run in partitions: its error policy`, `mine "own"`, "Node.Needs",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// TestPartitionOf holds the hash to what Kafka's clients compute, known from their tests:
// state is found by it.
func TestPartitionOf(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := topology.PartitionOf([]byte(key), 1<<31-1); got != int(uint32(want)&0x7fffffff)%(1<<31-1) {
			t.Errorf("%q goes to %d, want %d", key, got, uint32(want)&0x7fffffff)
		}
	}
}
