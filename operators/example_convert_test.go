package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The latest click of each customer.
func ExampleToTable() {
	b := topology.New("to-table")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	latest := operators.ToTable("latest-click",
		operators.Rekey(clicks, func(_ int64, c Click) int64 { return c.CustomerID }))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{CustomerID: 9, Page: "/home"})
	topologytest.Emit(d, clicks, 2, Click{CustomerID: 9, Page: "/cart"})
	fmt.Println(topologytest.Rows(d, latest))
	// Output: map[9:{9 /cart}]
}

// A stream of what each transaction changed: one record a key.
func ExampleToStream() {
	b := topology.New("to-stream")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	changes := operators.ToStream("order-changes", orders)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, orders, 2, Order{Cents: 10})
		topologytest.Insert(tx, orders, 1, Order{Cents: 10})
		topologytest.Update(tx, orders, 2, Order{Cents: 20})
	})
	for _, c := range topologytest.Values(d, changes) {
		fmt.Println(c.Key, c.HasOld(), c.New.Cents)
	}
	// Output:
	// 1 false 10
	// 2 false 20
}
