package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// The key of the global table is found in the record's key and value.
func ExampleEnrichGlobal() {
	b := topology.New("global")
	shop := sources.NewDatabase("shop", nil)
	countries := sources.GlobalTable[string, Customer](b, shop, "public.countries")
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	named := operators.EnrichGlobal("named", clicks, countries,
		func(id int64, c Click) string { return c.Page[:2] },
		func(c Click, country Customer) string { return country.Name + c.Page[2:] })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, countries.Table(), "fr", Customer{Name: "France"})
	topologytest.Emit(d, clicks, 1, Click{Page: "fr/shoes"})
	topologytest.Emit(d, clicks, 2, Click{Page: "xx/shoes"})
	fmt.Println(topologytest.Values(d, named))
	// Output: [France/shoes]
}

func ExampleLeftEnrichGlobal() {
	b := topology.New("left-global")
	shop := sources.NewDatabase("shop", nil)
	countries := sources.GlobalTable[string, Customer](b, shop, "public.countries")
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	named := operators.LeftEnrichGlobal("named", clicks, countries,
		func(_ int64, c Click) string { return c.Page[:2] },
		func(c Click, country Customer, known bool) string {
			return fmt.Sprint(country.Name, c.Page[2:], " ", known)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) { // the event comes before the row, in one transaction
		topologytest.Emit(tx, clicks, 1, Click{Page: "fr/shoes"})
		topologytest.Insert(tx, countries.Table(), "fr", Customer{Name: "France"})
	})
	topologytest.Emit(d, clicks, 2, Click{Page: "xx/shoes"})
	fmt.Printf("%q\n", topologytest.Values(d, named))
	// Output: ["France/shoes true" "/shoes false"]
}

// The key may be missing.
func ExampleEnrichGlobalContext() {
	b := topology.New("global-context")
	shop := sources.NewDatabase("shop", nil)
	countries := sources.GlobalTable[string, Customer](b, shop, "public.countries")
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	named := operators.EnrichGlobalContext("named", clicks, countries,
		func(_ record.Context, _ int64, c Click) (string, bool, error) { return c.Page, c.Page != "", nil },
		func(_ record.Context, id int64, _ Click, country Customer, known bool) (string, bool, error) {
			return fmt.Sprint(id, country.Name, known), true, nil
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, countries.Table(), "", Customer{Name: "nowhere"})
	topologytest.Emit(d, clicks, 1, Click{})
	fmt.Println(topologytest.Values(d, named))
	// Output: [1false]
}
