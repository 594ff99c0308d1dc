package operators_test

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// A customer that is edited over and over goes out once in ten seconds.
func ExampleSuppressUntilTimeLimit() {
	b := topology.New("suppress")
	shop := sources.NewDatabase("shop", nil)
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	calm := operators.SuppressUntilTimeLimit("calm", customers, 10*time.Second)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for _, name := range []string{"A", "An", "Ann"} {
		topologytest.Upsert(d, customers, 1, Customer{Name: name, City: "Oslo"})
		d.AdvanceTime(4 * time.Second)
	}
	for _, c := range topologytest.Changes(d, calm) {
		fmt.Println(c.Key, c.New)
	}
	// Output: 1 {Ann Oslo}
}

// One result for each minute, when the minute is over.
func ExampleSuppressUntilWindowCloses() {
	b := topology.New("final")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	minutes := windows.Tumbling(time.Minute).Grace(10 * time.Second)
	counts := operators.Aggregate("clicks", operators.Window(
		operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }), minutes),
		aggregate.Count[Click]())
	final := operators.SuppressUntilWindowCloses("final", counts, minutes)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	d.AdvanceTime(30 * time.Second)
	topologytest.Emit(d, clicks, 2, Click{Page: "/home"})
	fmt.Println(len(topologytest.Changes(d, counts)), len(topologytest.Changes(d, final)))
	d.AdvanceTime(40 * time.Second)
	for _, c := range topologytest.Changes(d, final) {
		fmt.Println(c.Key.Key, c.Key.Window.StartTime().Format(time.TimeOnly), c.New)
	}
	// Output:
	// 2 0
	// /home 00:00:00 2
}
