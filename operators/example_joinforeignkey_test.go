package operators_test

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// A change of a customer reaches every order; an order that moves changes once.
func ExampleJoinForeignKey() {
	b := topology.New("foreign-key")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	lines := operators.JoinForeignKey("lines", orders, customers,
		func(o Order) int64 { return o.CustomerID },
		func(o Order, c Customer) Line { return Line{c.Name, o.Cents} })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 7, Order{CustomerID: 1, Cents: 250})
	topologytest.Insert(d, orders, 8, Order{CustomerID: 1, Cents: 100})
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, customers, 2, Customer{Name: "Bob"})
	fmt.Println(topologytest.Rows(d, lines))
	topologytest.Changes(d, lines)

	topologytest.Update(d, orders, 8, Order{CustomerID: 2, Cents: 100})
	for _, c := range topologytest.Changes(d, lines) {
		fmt.Println(c.Key, c.Old, "->", c.New)
	}
	// Output:
	// map[7:{Ann 250} 8:{Ann 100}]
	// 8 {Ann 100} -> {Bob 100}
}

// A foreign key that is NULL joins nothing.
func ExampleJoinForeignKeyNull() {
	b := topology.New("foreign-key-null")
	shop := sources.NewDatabase("shop", nil)
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	sent := operators.JoinForeignKeyNull("sent", parcels, orders,
		func(p Parcel) sql.Null[int64] { return p.OrderID },
		func(p Parcel, o Order) string { return fmt.Sprintf("%d g for %d", p.Weight, o.Cents) })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 0, Order{Cents: 5})
	topologytest.Insert(d, parcels, 1, Parcel{Weight: 300})
	topologytest.Insert(d, parcels, 2, Parcel{Weight: 200, OrderID: sql.Null[int64]{V: 0, Valid: true}})
	fmt.Println(topologytest.Rows(d, sent))
	// Output: map[2:200 g for 5]
}

func ExampleLeftJoinForeignKey() {
	b := topology.New("left-foreign-key")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	names := operators.LeftJoinForeignKey("names", orders, customers,
		func(o Order) int64 { return o.CustomerID },
		func(_ Order, c Customer, known bool) string {
			if !known {
				return "?"
			}
			return c.Name
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, orders, 7, Order{CustomerID: 1})
	fmt.Println(topologytest.Rows(d, names))
	topologytest.Delete(d, customers, 1)
	fmt.Println(topologytest.Rows(d, names))
	// Output:
	// map[7:Ann]
	// map[7:?]
}

func ExampleLeftJoinForeignKeyNull() {
	b := topology.New("left-foreign-key-null")
	shop := sources.NewDatabase("shop", nil)
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	all := operators.LeftJoinForeignKeyNull("all", parcels, orders,
		func(p Parcel) sql.Null[int64] { return p.OrderID },
		func(_ Parcel, _ Order, ordered bool) bool { return ordered })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 0, Order{Cents: 5})
	topologytest.Insert(d, parcels, 1, Parcel{})
	topologytest.Insert(d, parcels, 2, Parcel{OrderID: sql.Null[int64]{V: 0, Valid: true}})
	fmt.Println(topologytest.Rows(d, all))
	// Output: map[1:false 2:true]
}
