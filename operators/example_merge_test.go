package operators_test

import (
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Merged streams are in commit order, whichever way a record took.
func ExampleMerge() {
	b := topology.New("merge")
	shop := sources.NewDatabase("shop", nil)
	web := sources.Stream[int64, Click](b, shop, "public.web_clicks")
	phone := sources.Stream[int64, Click](b, shop, "public.phone_clicks")
	all := operators.Merge(phone, web)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	d.Tx(func(tx *topologytest.Tx) {
		topologytest.Emit(tx, web, 1, Click{Page: "/a"})
		topologytest.Emit(tx, phone, 2, Click{Page: "/b"})
		topologytest.Emit(tx, web, 3, Click{Page: "/c"})
	})
	for _, r := range topologytest.Records(d, all) {
		fmt.Println(r.Key, r.Value.Page)
	}
	// Output:
	// 1 /a
	// 2 /b
	// 3 /c
}

// Each record goes to the first branch that takes it.
func ExampleSplit() {
	b := topology.New("split")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	branches := operators.Split(clicks,
		operators.Branch[int64, Click]{Name: "cart", When: func(_ int64, c Click) bool {
			return c.Page == "/cart"
		}},
		operators.Branch[int64, Click]{Name: "rest"})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	topologytest.Emit(d, clicks, 2, Click{Page: "/cart"})
	fmt.Println("cart:", len(topologytest.Records(d, branches["cart"])))
	fmt.Println("rest:", len(topologytest.Records(d, branches["rest"])))
	// Output:
	// cart: 1
	// rest: 1
}
