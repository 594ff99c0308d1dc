package operators_test

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Orders without a customer and customers without an order are kept, each under a key
// that says which side it stands for.
func ExampleOuterJoinForeignKey() {
	b := topology.New("outer-foreign-key")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	all := operators.OuterJoinForeignKey("all", orders, customers,
		func(o Order) int64 { return o.CustomerID },
		func(o Order, ordered bool, c Customer, known bool) string {
			switch {
			case !known:
				return fmt.Sprintf("%d by nobody we know", o.Cents)
			case !ordered:
				return c.Name + " has no orders"
			}
			return fmt.Sprintf("%d by %s", o.Cents, c.Name)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	show := func() {
		for _, c := range topologytest.Changes(d, all) {
			name := fmt.Sprint("order ", c.Key.Left.V)
			if c.Key.Right.Valid {
				name = fmt.Sprint("customer ", c.Key.Right.V)
			}
			fmt.Printf("%s: %q -> %q\n", name, c.Old, c.New)
		}
	}
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, customers, 2, Customer{Name: "Bob"})
	topologytest.Insert(d, orders, 7, Order{CustomerID: 3, Cents: 250})
	show()
	fmt.Println("the order moves")
	topologytest.Update(d, orders, 7, Order{CustomerID: 1, Cents: 250})
	show()
	// Output:
	// customer 1: "" -> "Ann has no orders"
	// customer 2: "" -> "Bob has no orders"
	// order 7: "" -> "250 by nobody we know"
	// the order moves
	// order 7: "250 by nobody we know" -> "250 by Ann"
	// customer 1: "Ann has no orders" -> ""
}

// A foreign key that is NULL refers to nothing.
func ExampleOuterJoinForeignKeyNull() {
	b := topology.New("outer-foreign-key-null")
	shop := sources.NewDatabase("shop", nil)
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	all := operators.OuterJoinForeignKeyNull("all", parcels, orders,
		func(p Parcel) sql.Null[int64] { return p.OrderID },
		func(_ Parcel, hasParcel bool, _ Order, hasOrder bool) string {
			return fmt.Sprintf("parcel %t order %t", hasParcel, hasOrder)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 0, Order{Cents: 5})
	topologytest.Insert(d, parcels, 1, Parcel{Weight: 300})
	fmt.Println(topologytest.Row(d, all, operators.LeftKey[int64, int64](1)))
	fmt.Println(topologytest.Row(d, all, operators.RightKey[int64](int64(0))))
	// Output:
	// parcel true order false true
	// parcel false order true true
}
