package algebra

import (
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// Order is a row that is updated.
type Order struct{ CustomerID, Cents int64 }

// Customer is a row that others refer to.
type Customer struct{ Name string }

// Click is a row that is inserted.
type Click struct{ CustomerID, Page int64 }

// Case is one thing to measure: what hangs behind the sources. What an operator costs
// is its figure less that of "source" or "stream".
type Case struct {
	Name string
	// Events says that the input is clicks, which are inserted, and not orders, which
	// are updated.
	Events bool
	// Lists says that each result is a list, which cannot be made without an allocation.
	Lists bool
	add   func(s *shop)
}

// shop are the sources of a case.
type shop struct {
	b         *topology.Builder
	db        *sources.Database
	orders    topology.Table[int64, Order]
	customers topology.Table[int64, Customer]
	clicks    topology.Stream[int64, Click]
}

// Build makes the case's topology.
func (c Case) Build() (*topology.Topology, error) {
	b := topology.New("algebra")
	db := sources.NewDatabase("shop", nil)
	s := &shop{
		b: b, db: db, orders: sources.Table[int64, Order](b, db, "public.orders"),
		customers: sources.Table[int64, Customer](b, db, "public.customers"),
		clicks:    sources.Stream[int64, Click](b, db, "public.clicks"),
	}
	drainTable(s.orders)
	drainTable(s.customers)
	drainStream(s.clicks)
	c.add(s)
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

func customerOf(o Order) int64 { return o.CustomerID }

func centsOf(o Order) int64 { return o.Cents }

func clickedBy(c Click) int64 { return c.CustomerID }

func pageOf(c Click) int64 { return c.Page }

func line(o Order, c Customer) int64 { return o.Cents + int64(len(c.Name)) }

// paidAt is a time in an order's row.
func paidAt(o Order) time.Time { return time.UnixMicro(o.Cents * 1_000) }

func (s *shop) byCustomer() operators.Grouped[int64, Order] {
	return operators.GroupBy(s.orders, func(_ int64, o Order) int64 { return o.CustomerID })
}

func (s *shop) clicksByCustomer() operators.Grouped[int64, Click] {
	return operators.GroupBy(s.clicks, func(_ int64, c Click) int64 { return c.CustomerID })
}

// someClicks are half of the clicks.
func (s *shop) someClicks() topology.Stream[int64, Click] {
	return operators.Filter(s.clicks, func(k int64, _ Click) bool { return k%2 == 0 })
}

func aggregated[R any](agg aggregate.Aggregator[Order, R]) func(s *shop) {
	return func(s *shop) { drainTable(operators.Aggregate("aggregate", s.byCustomer(), agg)) }
}
