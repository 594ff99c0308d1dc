package operators_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// The benchmarks feed steps of 1,000 updates of 10,000 hot orders that belong to 1,000
// customers; a tenth of the updates move an order to another customer. What a node
// costs is its line less that of "source". Everything is hot, and commits are not in
// the time.
//
//	go test ./operators -run NONE -bench Nodes

type benchOrder struct {
	CustomerID int64
	Cents      int64
}

const (
	benchOrders    = 10_000
	benchCustomers = 1_000
	benchStep      = 1_000
)

// benchNodes are what is measured: what hangs behind the source.
var benchNodes = []struct {
	name string
	// allocs is how many allocations a row may make.
	allocs float64
	add    func(orders topology.Table[int64, benchOrder], customers topology.Table[int64, Customer])
}{
	{"source", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {}},
	{"filter", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.Filter(o, func(_ int64, o benchOrder) bool { return o.Cents%5 != 0 }))
	}},
	{"map-values", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.MapValues(o, func(_ int64, o benchOrder) int64 { return o.Cents }))
	}},
	{"join", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.LeftJoin("join", o, c,
			func(o benchOrder, c Customer, _ bool) Line { return Line{c.Name, o.Cents} }))
	}},
	{"join-foreign-key", 0.3, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.JoinForeignKey("fk", o, c, func(o benchOrder) int64 { return o.CustomerID },
			func(o benchOrder, c Customer) Line { return Line{c.Name, o.Cents} }))
	}},
	{"count-sum", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.Aggregate("agg", byCustomer(o),
			aggregate.Combine2(aggregate.Count[benchOrder](), aggregate.Sum(benchCents),
				func(n, cents int64) benchOrder { return benchOrder{n, cents} })))
	}},
	{"sum-float", 0, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.Aggregate("agg", byCustomer(o),
			aggregate.SumFloat(func(o benchOrder) float64 { return float64(o.Cents) / 100 })))
	}},
	{"max", 8, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.Aggregate("agg", byCustomer(o),
			aggregate.Max(benchCents)))
	}},
	{"top-3", 16, func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]) {
		read(operators.Aggregate("agg", byCustomer(o),
			aggregate.TopN(3, benchCents, benchCents)))
	}},
}

func benchCents(o benchOrder) int64 { return o.Cents }

func byCustomer(o topology.Table[int64, benchOrder]) operators.Grouped[int64, benchOrder] {
	return operators.GroupBy(o, func(_ int64, o benchOrder) int64 { return o.CustomerID })
}

// read adds a node that walks its input, as a sink does, and drops it.
func read[K comparable, V any](in topology.Table[K, V]) {
	topology.Add(in.Builder(), topology.Node{
		Kind: "reader", Inputs: []*topology.Node{in.Node()},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &reader[K, V]{in: topology.TableInput[K, V](rt, 0)}, nil
		},
	})
}

type reader[K comparable, V any] struct {
	in topology.TableOutput[K, V]
	n  int
}

func (r *reader[K, V]) Step(*topology.Step) error {
	return r.in.Changes(func(chunk []record.Change[K, V]) bool {
		r.n += len(chunk)
		return true
	})
}

func (r *reader[K, V]) EndStep() {}

// bench is a task with its input.
type bench struct {
	task  *task.Task
	db    state.DB
	steps [][]record.Row
	next  int
}

func newBench(
	tb testing.TB, add func(o topology.Table[int64, benchOrder], c topology.Table[int64, Customer]),
) *bench {
	b := topology.New("bench")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, benchOrder](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	read(orders)
	read(customers)
	add(orders, customers)
	top, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	id := uint32(16)
	db := state.NewMemory()
	t, err := task.New(task.Config{
		Topology: top, Env: &state.Env{DB: db},
		StoreID: func(string) uint32 { id++; return id },
	})
	if err != nil {
		tb.Fatal(err)
	}
	out := &bench{task: t, db: db}
	rel := relation("orders", "id", "customer_id", "cents")
	cust := relation("customers", "id", "name", "city")
	rng := rand.New(rand.NewPCG(1, 2))
	var first []record.Row
	for i := range benchCustomers {
		first = append(first, record.Row{Rel: cust, Op: record.Insert, New: values(i, fmt.Sprint("c", i), "x")})
	}
	of := make([]int, benchOrders)
	for i := range of {
		of[i] = i % benchCustomers
		first = append(first, record.Row{Rel: rel, Op: record.Insert, New: values(i, of[i], 1)})
	}
	out.step(tb, first)
	for range 50 {
		var rows []record.Row
		for range benchStep {
			i := rng.IntN(benchOrders)
			if rng.IntN(10) == 0 {
				of[i] = rng.IntN(benchCustomers)
			}
			rows = append(rows, record.Row{Rel: rel, Op: record.Update, New: values(i, of[i], rng.IntN(10_000))})
		}
		out.steps = append(out.steps, rows)
	}
	for range out.steps { // every key hot, every buffer grown
		out.run(tb)
	}
	out.commit(tb)
	return out
}

func relation(table string, columns ...string) *record.Relation {
	r := &record.Relation{Schema: "public", Name: table}
	for i, c := range columns {
		r.Columns = append(r.Columns, record.Column{Name: c, Key: i == 0})
	}
	return r
}

func values(vs ...any) record.Tuple {
	t := make(record.Tuple, len(vs))
	for i, v := range vs {
		t[i] = record.Value{Kind: record.Text, Data: fmt.Append(nil, v)}
	}
	return t
}

func (b *bench) step(tb testing.TB, rows []record.Row) {
	tx := &record.Tx{Source: "shop", Position: 16}
	b.task.Begin(tx)
	err := b.task.Rows(tx, rows)
	if err == nil {
		err = b.task.End(tx)
	}
	if err == nil {
		err = b.task.Step()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func (b *bench) run(tb testing.TB) {
	b.step(tb, b.steps[b.next%len(b.steps)])
	b.next++
}

func (b *bench) commit(tb testing.TB) {
	ready, err := b.task.Seal()
	if err != nil {
		tb.Fatal(err)
	}
	batch := b.db.NewBatch()
	for _, s := range ready.Stores {
		if err := s.Flush(batch); err != nil {
			tb.Fatal(err)
		}
	}
	if err := b.db.Commit(batch, false); err != nil {
		tb.Fatal(err)
	}
	b.task.Committed(ready.Checkpoint)
}

func BenchmarkNodes(b *testing.B) {
	for _, n := range benchNodes {
		b.Run(n.name, func(b *testing.B) {
			x := newBench(b, n.add)
			b.ReportAllocs()
			for b.Loop() {
				if x.next%10 == 0 { // uncommitted deletes would pile up
					b.StopTimer()
					x.commit(b)
					b.StartTimer()
				}
				x.run(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchStep), "ns/row")
		})
	}
}

// TestAllocations keeps the hot path free of allocations. What is allowed beside the
// step's own few is said at each node: the ordered store of entries and of the foreign
// key index writes into an arena that grows.
func TestAllocations(t *testing.T) {
	for _, n := range benchNodes {
		x := newBench(t, n.add)
		perStep := testing.AllocsPerRun(50, func() { x.run(t) })
		if perStep > 20+n.allocs*benchStep {
			t.Errorf("%s: %.0f allocations a step of %d rows", n.name, perStep, benchStep)
		} else {
			t.Logf("%s: %.0f allocations a step of %d rows", n.name, perStep, benchStep)
		}
	}
}
