package operators_test

import (
	"fmt"
	"strings"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

func ExampleMap() {
	b := topology.New("map")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	pages := operators.Map(clicks, func(_ int64, c Click) (string, int) { return c.Page, len(c.Page) })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	for _, r := range topologytest.Records(d, pages) {
		fmt.Println(r.Key, r.Value)
	}
	// Output: /home 5
}

// MapContext is told the record's time and transaction, and may fail.
func ExampleMapContext() {
	b := topology.New("map-context")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	seen := operators.MapContext(clicks, func(ctx record.Context, k int64, c Click) (int64, string, error) {
		if c.Page == "" {
			return k, "", fmt.Errorf("a click without a page")
		}
		return k, fmt.Sprintf("%s at %s in transaction %d", c.Page, ctx.Time.Format("15:04"), ctx.Tx.XID), nil
	})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	fmt.Println(topologytest.Values(d, seen))
	err := d.TryTx(func(tx *topologytest.Tx) { topologytest.Emit(tx, clicks, 2, Click{}) })
	fmt.Println(err)
	// Output:
	// [/home at 00:00 in transaction 1]
	// topology: map "map#1" at shop:0/20: topology: user function failed: a click without a page
}

func ExampleMapStreamValues() {
	b := topology.New("map-stream-values")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	pages := operators.MapStreamValues(clicks, func(_ int64, c Click) string { return c.Page })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	topologytest.Emit(d, clicks, 2, Click{Page: "/cart"})
	fmt.Println(topologytest.Values(d, pages))
	// Output: [/home /cart]
}

func ExampleRekey() {
	b := topology.New("rekey")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	byPage := operators.Rekey(clicks, func(_ int64, c Click) string { return c.Page })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{CustomerID: 9, Page: "/home"})
	for _, r := range topologytest.Records(d, byPage) {
		fmt.Println(r.Key, r.Value.CustomerID)
	}
	// Output: /home 9
}

// The records made of one keep its place, in the order in which they were emitted.
func ExampleFlatMap() {
	b := topology.New("flat-map")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	parts := operators.FlatMap(clicks, func(k int64, c Click, emit func(int64, string)) {
		for part := range strings.SplitSeq(strings.Trim(c.Page, "/"), "/") {
			emit(k, part)
		}
	})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/shoes/red"})
	fmt.Println(topologytest.Values(d, parts))
	// Output: [shoes red]
}

func ExamplePeek() {
	b := topology.New("peek")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	operators.Peek(clicks, func(ctx record.Context, k int64, c Click) {
		fmt.Println(ctx.Node, k, c.Page)
	})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	// Output: peek#1 1 /home
}
