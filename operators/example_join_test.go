package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Both sides change in one transaction; the result changes once.
func ExampleJoin() {
	b := topology.New("join")
	shop := sources.NewDatabase("shop", nil)
	names := sources.Table[int64, Customer](b, shop, "public.names")
	orders := sources.Table[int64, Order](b, shop, "public.first_orders")
	lines := operators.Join("lines", names, orders,
		func(c Customer, o Order) Line { return Line{c.Name, o.Cents} })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Insert(tx, names, 1, Customer{Name: "Ann"})
		topologytest.Insert(tx, orders, 1, Order{Cents: 5})
	})
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Update(tx, names, 1, Customer{Name: "Bob"})
		topologytest.Update(tx, orders, 1, Order{Cents: 7})
	})
	for _, c := range topologytest.Changes(d, lines) {
		fmt.Println(c.Old, "->", c.New)
	}
	// Output:
	// { 0} -> {Ann 5}
	// {Ann 5} -> {Bob 7}
}

func ExampleLeftJoin() {
	b := topology.New("left-join")
	shop := sources.NewDatabase("shop", nil)
	names := sources.Table[int64, Customer](b, shop, "public.names")
	orders := sources.Table[int64, Order](b, shop, "public.first_orders")
	greetings := operators.LeftJoin("greetings", names, orders,
		func(c Customer, o Order, ordered bool) string {
			if !ordered {
				return c.Name + " has not ordered yet"
			}
			return fmt.Sprintf("%s ordered for %d", c.Name, o.Cents)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, names, 1, Customer{Name: "Ann"})
	fmt.Println(topologytest.Rows(d, greetings))
	topologytest.Insert(d, orders, 1, Order{Cents: 5})
	topologytest.Insert(d, orders, 2, Order{Cents: 9}) // nobody's
	fmt.Println(topologytest.Rows(d, greetings))
	// Output:
	// map[1:Ann has not ordered yet]
	// map[1:Ann ordered for 5]
}

func ExampleOuterJoin() {
	b := topology.New("outer-join")
	shop := sources.NewDatabase("shop", nil)
	names := sources.Table[int64, Customer](b, shop, "public.names")
	orders := sources.Table[int64, Order](b, shop, "public.first_orders")
	sides := operators.OuterJoin("sides", names, orders,
		func(_ Customer, named bool, _ Order, ordered bool) string {
			return fmt.Sprintf("named %v, ordered %v", named, ordered)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, names, 1, Customer{Name: "Ann"})
	topologytest.Insert(d, orders, 1, Order{})
	topologytest.Insert(d, orders, 2, Order{})
	fmt.Println(topologytest.Rows(d, sides))
	// Output:
	// map[1:named true, ordered true 2:named false, ordered true]
}
