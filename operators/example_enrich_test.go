package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// An event sees the table as of its own transaction: the customer that is written
// after it, but with it, is there.
func ExampleEnrich() {
	b := topology.New("enrich")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	named := operators.Enrich("named-clicks", clicks, customers,
		func(c Click) int64 { return c.CustomerID },
		func(c Click, who Customer) string { return who.Name + " " + c.Page })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Emit(tx, clicks, 1, Click{CustomerID: 9, Page: "/home"})
		topologytest.Insert(tx, customers, 9, Customer{Name: "Ann"})
	})
	topologytest.Emit(d, clicks, 2, Click{CustomerID: 5, Page: "/home"}) // of nobody we know
	topologytest.Update(d, customers, 9, Customer{Name: "Anna"})         // what went out stays
	fmt.Println(topologytest.Values(d, named))
	// Output: [Ann /home]
}

func ExampleLeftEnrich() {
	b := topology.New("left-enrich")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	named := operators.LeftEnrich("named-clicks", clicks, customers,
		func(c Click) int64 { return c.CustomerID },
		func(c Click, who Customer, known bool) string {
			if !known {
				who.Name = "somebody"
			}
			return who.Name + " " + c.Page
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{CustomerID: 5, Page: "/home"})
	fmt.Println(topologytest.Values(d, named))
	// Output: [somebody /home]
}

// The general form: the key may be missing, and the joiner decides what goes on.
func ExampleEnrichContext() {
	b := topology.New("enrich-context")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	cities := operators.EnrichContext("cities", clicks, customers,
		func(_ record.Context, _ int64, c Click) (int64, bool, error) {
			return c.CustomerID, c.CustomerID != 0, nil
		},
		func(_ record.Context, _ int64, _ Click, who Customer, known bool) (string, bool, error) {
			return who.City, known && who.City != "", nil
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann", City: "Oslo"})
	topologytest.Insert(d, customers, 2, Customer{Name: "Bob"})
	for key, customer := range []int64{1, 2, 0} {
		topologytest.Emit(d, clicks, int64(key), Click{CustomerID: customer})
	}
	fmt.Println(topologytest.Values(d, cities))
	// Output: [Oslo]
}
