package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The rows of each group of a table are combined, and taken out again when they change.
func Example_reduceTable() {
	b := topology.New("reduce")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	totals := operators.Aggregate("totals",
		operators.GroupBy(orders, func(_ int64, o Order) int64 { return o.CustomerID }),
		aggregate.ReduceTable(
			func(acc, o Order) Order { return Order{CustomerID: o.CustomerID, Cents: acc.Cents + o.Cents} },
			func(acc, o Order) Order { return Order{CustomerID: o.CustomerID, Cents: acc.Cents - o.Cents} }))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 1, Order{CustomerID: 1, Cents: 100})
	topologytest.Insert(d, orders, 2, Order{CustomerID: 1, Cents: 50})
	topologytest.Update(d, orders, 1, Order{CustomerID: 1, Cents: 70})
	topologytest.Delete(d, orders, 2)
	for _, c := range topologytest.Changes(d, totals) {
		fmt.Println(c.Key, c.Old.Cents, "->", c.New.Cents)
	}
	// Output:
	// 1 0 -> 100
	// 1 100 -> 150
	// 1 150 -> 120
	// 1 120 -> 70
}
