package main

import (
	"database/sql"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Rows of the shop, with what the topologies here read of them.
type (
	order struct {
		CustomerID sql.Null[int64]
		Status     string
		Cents      int64
	}
	customer struct{ Name string }
	// orderLine is a row of the view "lines".
	orderLine struct {
		Customer string `db:"customer"`
		Status   string `db:"status"`
		Cents    int64  `db:"cents"`
	}
	totals struct {
		Orders int64 `db:"orders"`
		Cents  int64 `db:"cents"`
	}
)

// linesTopology keeps every order with its customer's name as a view, and the orders of
// each customer as another: state and views grow with the table.
func linesTopology(shop *sources.Database) (*topology.Topology, *view.View[int64, orderLine], error) {
	b := topology.New("lines")
	orders := sources.Table[int64, order](b, shop, "public.orders")
	customers := sources.Table[int64, customer](b, shop, "public.customers")
	lines := operators.JoinForeignKeyNull("order-customer", orders, customers,
		func(o order) sql.Null[int64] { return o.CustomerID },
		func(o order, c customer) orderLine { return orderLine{c.Name, o.Status, o.Cents} })
	perCustomer := operators.Aggregate("customer-totals",
		operators.GroupBy(lines, func(_ int64, l orderLine) string { return l.Customer }),
		aggregate.Combine2(aggregate.Count[orderLine](), aggregate.Sum(func(l orderLine) int64 { return l.Cents }),
			func(n, cents int64) totals { return totals{n, cents} }))
	v := sinks.View(lines, "lines")
	sinks.View(perCustomer, "per-customer")
	topo, err := b.Build()
	return topo, v, err
}

// linesChecks compare both views with SQL.
var linesChecks = []tailrace.Check{
	{View: "lines", SQL: `SELECT o.id AS key, c.name AS customer, o.status, o.cents
		FROM orders o JOIN customers c ON c.id = o.customer_id`},
	{View: "per-customer", SQL: `SELECT c.name AS key, count(*) AS orders, sum(o.cents)::bigint AS cents
		FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY c.name`},
}

// wideRow is a row of eight columns and about 100 bytes.
type wideRow struct {
	Shop     int32
	Customer int64
	Cents    int64
	Status   string
	Sku      string
	City     string
	Placed   int64
}

// wideSchema fills the table that wideTopology reads.
const wideSchema = `CREATE TABLE wide (id bigint PRIMARY KEY, shop int NOT NULL, customer bigint NOT NULL,
	cents bigint NOT NULL, status text NOT NULL, sku text NOT NULL, city text NOT NULL, placed bigint NOT NULL);
ALTER PUBLICATION shop ADD TABLE wide`

const wideFill = `INSERT INTO wide SELECT i, i %% 1000, i * 7919 %% 100000, i * 31 %% 100000,
	(ARRAY['placed', 'paid', 'shipped'])[i %% 3 + 1], md5(i::text), 'city number ' || i %% 5000,
	1767225600000000 + i FROM generate_series(1::bigint, %d) i`

const wideSQL = `SELECT shop AS key, count(*) AS orders, sum(cents + length(status) + length(sku) +
	length(city) + customer % 2 + placed % 2)::bigint AS cents FROM wide GROUP BY shop`

// wideTopology reads all columns of a table into a table of totals.
func wideTopology(shop *sources.Database) (*topology.Topology, error) {
	b := topology.New("wide")
	rows := sources.Table[int64, wideRow](b, shop, "public.wide")
	perShop := operators.Aggregate("shop-totals",
		operators.GroupBy(rows, func(_ int64, r wideRow) int32 { return r.Shop }),
		aggregate.Combine2(aggregate.Count[wideRow](),
			aggregate.Sum(func(r wideRow) int64 {
				return r.Cents + int64(len(r.Status)+len(r.Sku)+len(r.City)) + r.Customer%2 + r.Placed%2
			}),
			func(n, cents int64) totals { return totals{n, cents} }))
	sinks.View(perShop, "per-shop")
	return b.Build()
}
