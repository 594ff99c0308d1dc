package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// A row that stops fitting is deleted from the result. Rows that never fitted put
// nothing out.
func ExampleFilter() {
	b := topology.New("filter")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	paid := operators.Filter(orders, func(_ int64, o Order) bool { return o.Status == "paid" })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 1, Order{Status: "new", Cents: 5})
	topologytest.Update(d, orders, 1, Order{Status: "paid", Cents: 5})
	topologytest.Update(d, orders, 1, Order{Status: "refunded", Cents: 5})
	for _, c := range topologytest.Changes(d, paid) {
		fmt.Println(c.Key, c.HasOld(), "->", c.HasNew())
	}
	// Output:
	// 1 false -> true
	// 1 true -> false
}

func ExampleMapValues() {
	b := topology.New("map-values")
	shop := sources.NewDatabase("shop", nil)
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	names := operators.MapValues(customers, func(_ int64, c Customer) string { return c.Name })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann", City: "Oslo"})
	topologytest.Update(d, customers, 1, Customer{Name: "Ann", City: "Bern"}) // changes no name
	for _, c := range topologytest.Changes(d, names) {
		fmt.Printf("%d: %q -> %q\n", c.Key, c.Old, c.New)
	}
	// Output:
	// 1: "" -> "Ann"
}
