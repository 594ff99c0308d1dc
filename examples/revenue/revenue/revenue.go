// Package revenue is the topology of the revenue example: what each customer has
// paid, as a view.
package revenue

import (
	"database/sql"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Order is what is read of a row of orders; other columns are never decoded.
type Order struct {
	CustomerID sql.Null[int64]
	Status     string
	Cents      int64
}

// Customer is what is read of a row of customers.
type Customer struct{ Name string }

// Line is an order with its customer's name.
type Line struct {
	Customer string
	Cents    int64
}

// Revenue is what one customer has paid.
type Revenue struct{ Orders, Cents int64 }

// SQL is what the view always equals.
const SQL = `SELECT c.name AS key, count(*) AS orders, sum(o.cents) AS cents
	FROM orders AS o JOIN customers AS c ON c.id = o.customer_id
	WHERE o.status = 'paid' GROUP BY c.name`

// Topology builds the topology. Its result is kept as the view "revenue", and, where
// a warehouse is given, as the table revenue_per_customer in it.
func Topology(
	shop *sources.Database, warehouse *sinks.Target,
) (*topology.Topology, *view.View[string, Revenue], error) {
	b := topology.New("revenue")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")

	paid := operators.Filter(orders, func(_ int64, o Order) bool { return o.Status == "paid" })
	lines := operators.JoinForeignKeyNull("order-customer", paid, customers,
		func(o Order) sql.Null[int64] { return o.CustomerID },
		func(o Order, c Customer) Line { return Line{Customer: c.Name, Cents: o.Cents} })
	revenue := operators.Aggregate("revenue-per-customer",
		operators.GroupBy(lines, func(_ int64, l Line) string { return l.Customer }),
		aggregate.Combine2(
			aggregate.Count[Line](),
			aggregate.Sum(func(l Line) int64 { return l.Cents }),
			func(n, cents int64) Revenue { return Revenue{Orders: n, Cents: cents} }))

	if warehouse != nil {
		sinks.Table(revenue, warehouse, "revenue_per_customer")
	}
	top := sinks.View(revenue, "revenue")
	topo, err := b.Build()
	return topo, top, err
}
