package main

import (
	"database/sql"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

type algebraOrder struct{ CustomerID, Cents int64 }

type algebraCustomer struct{ Name string }

type algebraClick struct{ CustomerID, Page int64 }

// algebraShop are the sources that operators are measured over.
type algebraShop struct {
	b         *topology.Builder
	db        *sources.Database
	orders    topology.Table[int64, algebraOrder]
	customers topology.Table[int64, algebraCustomer]
	clicks    topology.Stream[int64, algebraClick]
}

// algebraOperator is one thing to measure: what hangs behind the sources. What it costs
// is its line less that of "source" or "stream".
type algebraOperator struct {
	name string
	// events says that the input is clicks, which are inserted, and not orders, which
	// are updated.
	events bool
	add    func(s *algebraShop)
}

func (o algebraOperator) build() (*topology.Topology, error) {
	b := topology.New("algebra")
	db := sources.NewDatabase("shop", nil)
	s := &algebraShop{
		b: b, db: db, orders: sources.Table[int64, algebraOrder](b, db, "public.orders"),
		customers: sources.Table[int64, algebraCustomer](b, db, "public.customers"),
		clicks:    sources.Stream[int64, algebraClick](b, db, "public.clicks"),
	}
	drainTable(s.orders)
	drainTable(s.customers)
	drainStream(s.clicks)
	o.add(s)
	return b.Build()
}

// drainTable adds a node that walks a table, as a sink does, and drops it.
func drainTable[K comparable, V any](in topology.Table[K, V]) {
	topology.Add(in.Builder(), topology.Node{
		Kind: "drain", Inputs: []*topology.Node{in.Node()},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			table := topology.TableInput[K, V](rt, 0)
			return drain(func() error { return table.Changes(func([]record.Change[K, V]) bool { return true }) }), nil
		},
	})
}

func drainStream[K comparable, V any](in topology.Stream[K, V]) {
	topology.Add(in.Builder(), topology.Node{
		Kind: "drain", Inputs: []*topology.Node{in.Node()},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			stream := topology.StreamInput[K, V](rt, 0)
			return drain(func() error { return stream.Records(func([]record.Record[K, V]) bool { return true }) }), nil
		},
	})
}

type drain func() error

func (d drain) Step(*topology.Step) error { return d() }
func (drain) EndStep()                    {}

func customerOf(o algebraOrder) int64 { return o.CustomerID }

func centsOf(o algebraOrder) int64 { return o.Cents }

func clickedBy(c algebraClick) int64 { return c.CustomerID }

func line(o algebraOrder, c algebraCustomer) int64 { return o.Cents + int64(len(c.Name)) }

func (s *algebraShop) byCustomer() operators.Grouped[int64, algebraOrder] {
	return operators.GroupBy(s.orders, func(_ int64, o algebraOrder) int64 { return o.CustomerID })
}

func (s *algebraShop) aggregate(agg aggregate.Aggregator[algebraOrder, int64]) {
	drainTable(operators.Aggregate("aggregate", s.byCustomer(), agg))
}

// algebraOperators are measured in this order. A new operator adds a line.
var algebraOperators = []algebraOperator{
	{"source", false, func(*algebraShop) {}},
	{"filter", false, func(s *algebraShop) {
		drainTable(operators.Filter(s.orders, func(_ int64, o algebraOrder) bool { return o.Cents%5 != 0 }))
	}},
	{"map-values", false, func(s *algebraShop) {
		drainTable(operators.MapValues(s.orders, func(_ int64, o algebraOrder) int64 { return o.Cents }))
	}},
	{"join", false, func(s *algebraShop) {
		drainTable(operators.LeftJoin("join", s.orders, s.customers,
			func(o algebraOrder, c algebraCustomer, _ bool) int64 { return line(o, c) }))
	}},
	{"join-sides-3", false, func(s *algebraShop) {
		drainTable(operators.JoinSides3("join", operators.Required(s.orders), operators.Optional(s.customers),
			operators.Required(s.orders),
			func(o sql.Null[algebraOrder], c sql.Null[algebraCustomer], _ sql.Null[algebraOrder]) int64 {
				return line(o.V, c.V)
			}))
	}},
	{"join-foreign-key", false, func(s *algebraShop) {
		drainTable(operators.JoinForeignKey("join", s.orders, s.customers, customerOf, line))
	}},
	{"outer-join-foreign-key", false, func(s *algebraShop) {
		drainTable(operators.OuterJoinForeignKey("join", s.orders, s.customers, customerOf,
			func(o algebraOrder, _ bool, c algebraCustomer, _ bool) int64 { return line(o, c) }))
	}},
	{"join-foreign-keys-2", false, func(s *algebraShop) {
		drainTable(operators.JoinForeignKeys2("join", s.orders, operators.Refer(s.customers, customerOf),
			operators.Refer(s.customers, func(o algebraOrder) int64 { return o.Cents % algebraCustomers }),
			func(o algebraOrder, c, _ sql.Null[algebraCustomer]) int64 { return line(o, c.V) }))
	}},
	{"count", false, func(s *algebraShop) { s.aggregate(aggregate.Count[algebraOrder]()) }},
	{"sum", false, func(s *algebraShop) { s.aggregate(aggregate.Sum(centsOf)) }},
	{"reduce", false, func(s *algebraShop) {
		drainTable(operators.Aggregate("aggregate",
			operators.GroupBy(operators.MapValues(s.orders, func(_ int64, o algebraOrder) int64 { return o.Cents }),
				func(k, _ int64) int64 { return k % algebraCustomers }),
			aggregate.ReduceTable(func(a, v int64) int64 { return a + v }, func(a, v int64) int64 { return a - v })))
	}},
	{"max", false, func(s *algebraShop) { s.aggregate(aggregate.Max(centsOf)) }},
	{"top-10", false, func(s *algebraShop) {
		drainTable(operators.Aggregate("aggregate", s.byCustomer(), aggregate.TopN(10, centsOf, centsOf)))
	}},
	{"collect", false, func(s *algebraShop) {
		drainTable(operators.Aggregate("aggregate", s.byCustomer(), aggregate.Collect(centsOf, centsOf)))
	}},
	{"to-stream", false, func(s *algebraShop) { drainStream(operators.ToStream("stream", s.orders)) }},
	{"ttl", false, func(s *algebraShop) { drainTable(operators.TTL("ttl", s.orders, time.Second)) }},
	{"versioned", false, func(s *algebraShop) {
		drainTable(operators.Versioned("versions", s.orders, time.Second).Table)
	}},
	{"stream", true, func(*algebraShop) {}},
	{"map", true, func(s *algebraShop) {
		drainStream(operators.Map(s.clicks, func(k int64, c algebraClick) (int64, int64) { return k, c.Page }))
	}},
	{"merge", true, func(s *algebraShop) { drainStream(operators.Merge(s.clicks, s.clicks)) }},
	{"enrich", true, func(s *algebraShop) {
		drainStream(operators.Enrich("enrich", s.clicks, s.customers, clickedBy,
			func(c algebraClick, _ algebraCustomer) int64 { return c.Page }))
	}},
	{"enrich-as-of", true, func(s *algebraShop) {
		drainStream(operators.EnrichAsOf("enrich", s.clicks,
			operators.Versioned("versions", s.customers, time.Second), clickedBy,
			func(c algebraClick, _ algebraCustomer) int64 { return c.Page }))
	}},
	{"enrich-as-of-waiting", true, func(s *algebraShop) {
		drainStream(operators.EnrichAsOf("enrich", s.clicks,
			operators.Versioned("versions", s.customers, time.Second), clickedBy,
			func(c algebraClick, _ algebraCustomer) int64 { return c.Page },
			operators.WaitForRows(100*time.Millisecond)))
	}},
	{"enrich-global", true, func(s *algebraShop) {
		global := sources.GlobalTable[int64](s.b, s.db, "public.customers", sources.As[algebraCustomer]("global"))
		drainStream(operators.EnrichGlobal("enrich", s.clicks, global,
			func(_ int64, c algebraClick) int64 { return c.CustomerID },
			func(c algebraClick, _ algebraCustomer) int64 { return c.Page }))
	}},
	{"stream-count", true, func(s *algebraShop) {
		drainTable(operators.Aggregate("aggregate",
			operators.GroupBy(s.clicks, func(_ int64, c algebraClick) int64 { return c.CustomerID }),
			aggregate.Count[algebraClick]()))
	}},
	{"tumbling", true, func(s *algebraShop) {
		drainTable(operators.Aggregate("aggregate", operators.Window(
			operators.GroupBy(s.clicks, func(_ int64, c algebraClick) int64 { return c.CustomerID }),
			windows.Tumbling(time.Second)), aggregate.Count[algebraClick]()))
	}},
	{"to-table", true, func(s *algebraShop) { drainTable(operators.ToTable("table", s.clicks)) }},
}
