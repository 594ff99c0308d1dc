package topologytest_test

import (
	"context"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

type Customer struct{ Name string }

type Order struct {
	CustomerID int64
	Cents      int64
}

type Line struct {
	Customer string
	Cents    int64
}

// A topology is built as in the program. In a test the first argument of New is the
// *testing.T.
func Example() {
	b := topology.New("revenue")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	lines := operators.JoinForeignKey("order-customer", orders, customers,
		func(o Order) int64 { return o.CustomerID },
		func(o Order, c Customer) Line { return Line{c.Name, o.Cents} })
	revenue := operators.Aggregate("revenue-per-customer",
		operators.GroupBy(lines, func(_ int64, l Line) string { return l.Customer }),
		aggregate.Sum(func(l Line) int64 { return l.Cents }))
	top := sinks.View(revenue, "revenue")

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, customers, 1, Customer{"Ann"})
	topologytest.Insert(d, customers, 2, Customer{"Bob"})
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, orders, 7, Order{CustomerID: 1, Cents: 250})
		topologytest.Insert(tx, orders, 8, Order{CustomerID: 2, Cents: 100})
	})
	fmt.Println(topologytest.Rows(d, revenue))

	topologytest.Update(d, orders, 8, Order{CustomerID: 1, Cents: 100})
	fmt.Println(topologytest.Rows(d, revenue))

	cents, ok, _, err := top.Get(context.Background(), "Ann")
	fmt.Println(cents, ok, err)
	// Output:
	// map[Ann:250 Bob:100]
	// map[Ann:350]
	// 350 true <nil>
}

// Changes shows what each transaction did: one net change a key.
func ExampleChanges() {
	b := topology.New("names")
	shop := sources.NewDatabase("shop", nil)
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	names := operators.MapValues(customers, func(_ int64, c Customer) string { return c.Name })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, customers, 1, Customer{"Ann"})
		topologytest.Update(tx, customers, 1, Customer{"Anna"})
		topologytest.Insert(tx, customers, 2, Customer{"Bob"})
		topologytest.Delete(tx, customers, 2)
	})
	for _, c := range topologytest.Changes(d, names) {
		fmt.Printf("%d: %q -> %q\n", c.Key, c.Old, c.New)
	}
	// Output:
	// 1: "" -> "Anna"
}

// Crash loses what is not committed; with Epochs that can be several transactions,
// which the database sends again.
func ExampleDriver_Crash() {
	b := topology.New("count")
	shop := sources.NewDatabase("shop", nil)
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	count := operators.Aggregate("customers-per-name",
		operators.GroupBy(customers, func(_ int64, c Customer) string { return c.Name }),
		aggregate.Count[Customer]())

	d := topologytest.New(nil, b.MustBuild(), topologytest.Epochs(2))
	defer d.Close()
	topologytest.Insert(d, customers, 1, Customer{"Ann"})
	fmt.Println(topologytest.Rows(d, count))
	d.Crash()
	topologytest.Insert(d, customers, 2, Customer{"Ann"})
	fmt.Println(topologytest.Rows(d, count))
	// Output:
	// map[]
	// map[Ann:2]
}
