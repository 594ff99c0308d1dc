package operators_test

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Three tables with the same keys, in one operator: a transaction that writes all of
// them changes the result once.
func ExampleJoin3() {
	b := topology.New("join3")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	customers := sources.Table[int64, Customer](b, shop, "public.receivers")
	sent := operators.Join3("sent", orders, parcels, customers,
		func(o Order, p Parcel, c Customer) string {
			return fmt.Sprintf("%d cents, %d g to %s", o.Cents, p.Weight, c.Name)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 7, Order{Cents: 250})
	topologytest.Insert(d, customers, 7, Customer{Name: "Ann"})
	topologytest.Insert(d, parcels, 7, Parcel{Weight: 300})
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Update(tx, orders, 7, Order{Cents: 200})
		topologytest.Update(tx, customers, 7, Customer{Name: "Bob"})
	})
	topologytest.Delete(d, parcels, 7)
	for _, c := range topologytest.Changes(d, sent) {
		fmt.Printf("%q -> %q\n", c.Old, c.New)
	}
	// Output:
	// "" -> "250 cents, 300 g to Ann"
	// "250 cents, 300 g to Ann" -> "200 cents, 300 g to Bob"
	// "200 cents, 300 g to Bob" -> ""
}

func ExampleJoin4() {
	b := topology.New("join4")
	db := sources.NewDatabase("db", nil)
	type part struct{ N int }
	var parts [4]topology.Table[string, part]
	for i := range parts {
		parts[i] = sources.Table[string, part](b, db, fmt.Sprint("public.part", i))
	}
	sum := operators.Join4("sum", parts[0], parts[1], parts[2], parts[3],
		func(a, b, c, d part) int { return a.N + b.N + c.N + d.N })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for i, p := range parts {
		fmt.Println(topologytest.Rows(d, sum))
		topologytest.Insert(d, p, "k", part{i})
	}
	fmt.Println(topologytest.Rows(d, sum))
	// Output:
	// map[]
	// map[]
	// map[]
	// map[]
	// map[k:6]
}

// Sides that are optional may be missing, as in LEFT JOIN.
func ExampleJoinSides3() {
	b := topology.New("sides3")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	customers := sources.Table[int64, Customer](b, shop, "public.receivers")
	state := operators.JoinSides3("state",
		operators.Required(orders), operators.Optional(parcels), operators.Optional(customers),
		func(_ sql.Null[Order], p sql.Null[Parcel], c sql.Null[Customer]) string {
			return fmt.Sprintf("packed %t, address known %t", p.Valid, c.Valid)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, parcels, 7, Parcel{Weight: 300})
	fmt.Println(topologytest.Rows(d, state))
	topologytest.Insert(d, orders, 7, Order{Cents: 250})
	fmt.Println(topologytest.Rows(d, state))
	topologytest.Insert(d, customers, 7, Customer{Name: "Ann"})
	fmt.Println(topologytest.Rows(d, state))
	// Output:
	// map[]
	// map[7:packed true, address known false]
	// map[7:packed true, address known true]
}

// Four optional sides are a FULL OUTER JOIN: a row for each key that any table has.
func ExampleJoinSides4() {
	b := topology.New("sides4")
	db := sources.NewDatabase("db", nil)
	type part struct{ N int }
	var parts [4]topology.Table[string, part]
	var sides [4]operators.Side[string, part]
	for i := range parts {
		parts[i] = sources.Table[string, part](b, db, fmt.Sprint("public.part", i))
		sides[i] = operators.Optional(parts[i])
	}
	there := operators.JoinSides4("there", sides[0], sides[1], sides[2], sides[3],
		func(a, b, c, d sql.Null[part]) []bool { return []bool{a.Valid, b.Valid, c.Valid, d.Valid} })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, parts[1], "x", part{1})
	topologytest.Insert(d, parts[3], "x", part{1})
	topologytest.Insert(d, parts[2], "y", part{1})
	fmt.Println(topologytest.Rows(d, there))
	// Output: map[x:[false true false true] y:[false false true false]]
}
