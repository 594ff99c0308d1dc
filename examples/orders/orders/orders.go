// Package orders is the topology of the orders example: one document per order,
// with its customer and its lines, from four tables.
package orders

import (
	"database/sql"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Order is what is read of a row of orders.
type Order struct {
	CustomerID sql.Null[int64]
	Status     string
	Cents      int64
}

// Customer is what is read of a row of customers.
type Customer struct {
	ID   int64
	Name string
	City string
}

// Product is what is read of a row of products.
type Product struct{ Name string }

// LineKey is the primary key of order_lines.
type LineKey struct {
	OrderID int64
	Line    int32
}

// OrderLine is what is read of a row of order_lines.
type OrderLine struct {
	Line      int32
	ProductID int64
	Quantity  int32
	Cents     int64
}

// Item is a line in a document.
type Item struct {
	Line     int32
	Product  sql.Null[string]
	Quantity int32
	Cents    int64
}

// Head is an order with its customer, if it has one.
type Head struct {
	Status   string
	Cents    int64
	Customer sql.Null[Customer]
}

// Document is an order with everything that belongs to it.
type Document struct {
	Status   string
	Cents    int64
	Customer sql.Null[Customer]
	Items    []Item
}

// SQL is what the view always equals.
const SQL = `SELECT o.id AS key, o.status, o.cents,
		(SELECT json_build_object('id', c.id, 'name', c.name, 'city', c.city)
			FROM customers AS c WHERE c.id = o.customer_id) AS customer,
		coalesce((SELECT json_agg(json_build_object('line', l.line, 'product', p.name,
				'quantity', l.quantity, 'cents', l.cents) ORDER BY l.line)
			FROM order_lines AS l LEFT JOIN products AS p ON p.id = l.product_id
			WHERE l.order_id = o.id), '[]') AS items
	FROM orders AS o`

// Topology builds the topology. Its result is kept as the view "orders", which can be
// searched by customer, and, where a warehouse is given, as the table
// order_documents in it.
func Topology(
	shop *sources.Database, warehouse *sinks.Target,
) (*topology.Topology, *view.View[int64, Document], error) {
	b := topology.New("orders")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	lines := sources.Table[LineKey, OrderLine](b, shop, "public.order_lines")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	products := sources.Table[int64, Product](b, shop, "public.products")

	items := operators.LeftJoinForeignKey("line-product", lines, products,
		func(l OrderLine) int64 { return l.ProductID },
		func(l OrderLine, p Product, ok bool) Item {
			return Item{
				Line:     l.Line,
				Product:  sql.Null[string]{V: p.Name, Valid: ok},
				Quantity: l.Quantity,
				Cents:    l.Cents,
			}
		})
	lists := operators.Aggregate("items-per-order",
		operators.GroupBy(items, func(k LineKey, _ Item) int64 { return k.OrderID }),
		aggregate.Collect(
			func(i Item) int32 { return i.Line },
			func(i Item) Item { return i }))
	heads := operators.LeftJoinForeignKeyNull("order-customer", orders, customers,
		func(o Order) sql.Null[int64] { return o.CustomerID },
		func(o Order, c Customer, ok bool) Head {
			return Head{Status: o.Status, Cents: o.Cents, Customer: sql.Null[Customer]{V: c, Valid: ok}}
		})
	documents := operators.LeftJoin("order-document", heads, lists,
		func(h Head, items []Item, _ bool) Document {
			if items == nil {
				items = []Item{} // An order without lines has an empty list, and not null.
			}
			return Document{Status: h.Status, Cents: h.Cents, Customer: h.Customer, Items: items}
		})

	if warehouse != nil {
		sinks.Table(documents, warehouse, "order_documents")
	}
	kept := sinks.View(documents, "orders",
		view.Index("customer", func(_ int64, d Document) sql.Null[int64] {
			return sql.Null[int64]{V: d.Customer.V.ID, Valid: d.Customer.Valid}
		}))
	topo, err := b.Build()
	return topo, kept, err
}
