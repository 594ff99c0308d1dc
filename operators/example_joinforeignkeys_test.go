package operators_test

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Delivery refers to an order, to the customer who takes it and to one that may be asked
// instead.
type Delivery struct {
	OrderID    int64
	CustomerID int64
	NeighborID sql.Null[int64]
}

// Both foreign keys move in one transaction, and so does what they refer to: the result
// changes once.
func ExampleJoinForeignKeys2() {
	b := topology.New("foreign-keys-2")
	shop := sources.NewDatabase("shop", nil)
	deliveries := sources.Table[int64, Delivery](b, shop, "public.deliveries")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	bills := operators.JoinForeignKeys2("bills", deliveries,
		operators.Refer(orders, func(d Delivery) int64 { return d.OrderID }),
		operators.Refer(customers, func(d Delivery) int64 { return d.CustomerID }),
		func(_ Delivery, o sql.Null[Order], c sql.Null[Customer]) Line { return Line{c.V.Name, o.V.Cents} })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 7, Order{Cents: 250})
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, deliveries, 1, Delivery{OrderID: 7, CustomerID: 1})
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, orders, 8, Order{Cents: 100})
		topologytest.Insert(tx, customers, 2, Customer{Name: "Bob"})
		topologytest.Update(tx, deliveries, 1, Delivery{OrderID: 8, CustomerID: 2})
		topologytest.Update(tx, customers, 2, Customer{Name: "Bo"})
	})
	for _, c := range topologytest.Changes(d, bills) {
		fmt.Println(c.Key, c.Old, "->", c.New)
	}
	// Output:
	// 1 { 0} -> {Ann 250}
	// 1 {Ann 250} -> {Bo 100}
}

// One table may be referred to twice; a reference may be optional, and NULL.
func ExampleJoinForeignKeys3() {
	b := topology.New("foreign-keys-3")
	shop := sources.NewDatabase("shop", nil)
	deliveries := sources.Table[int64, Delivery](b, shop, "public.deliveries")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	labels := operators.JoinForeignKeys3("labels", deliveries,
		operators.Refer(orders, func(d Delivery) int64 { return d.OrderID }),
		operators.Refer(customers, func(d Delivery) int64 { return d.CustomerID }),
		operators.ReferNull(customers, func(d Delivery) sql.Null[int64] { return d.NeighborID }).Optional(),
		func(_ Delivery, o sql.Null[Order], c, neighbor sql.Null[Customer]) string {
			if neighbor.Valid {
				return fmt.Sprintf("%d for %s, or %s", o.V.Cents, c.V.Name, neighbor.V.Name)
			}
			return fmt.Sprintf("%d for %s", o.V.Cents, c.V.Name)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 7, Order{Cents: 250})
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, customers, 2, Customer{Name: "Bob"})
	topologytest.Insert(d, deliveries, 1, Delivery{OrderID: 7, CustomerID: 1})
	topologytest.Insert(d, deliveries, 2, Delivery{
		OrderID: 7, CustomerID: 1, NeighborID: sql.Null[int64]{V: 2, Valid: true},
	})
	fmt.Println(topologytest.Rows(d, labels))
	// Output: map[1:250 for Ann 2:250 for Ann, or Bob]
}
