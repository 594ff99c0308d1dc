package operators_test

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// An aggregate over a table follows updates and deletes. A group ends with its last
// row.
func ExampleAggregate() {
	b := topology.New("aggregate")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	type Total struct{ Orders, Cents int64 }
	totals := operators.Aggregate("totals",
		operators.GroupBy(orders, func(_ int64, o Order) string { return o.Status }),
		aggregate.Combine2(aggregate.Count[Order](), aggregate.Sum(func(o Order) int64 { return o.Cents }),
			func(n, cents int64) Total { return Total{n, cents} }))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 1, Order{Status: "new", Cents: 5})
	topologytest.Insert(d, orders, 2, Order{Status: "new", Cents: 7})
	fmt.Println(topologytest.Rows(d, totals))
	topologytest.Update(d, orders, 2, Order{Status: "paid", Cents: 7})
	fmt.Println(topologytest.Rows(d, totals))
	topologytest.Delete(d, orders, 1)
	fmt.Println(topologytest.Rows(d, totals))
	// Output:
	// map[new:{2 12}]
	// map[new:{1 5} paid:{1 7}]
	// map[paid:{1 7}]
}

// NULL is a group of its own.
func ExampleGroupBy() {
	b := topology.New("group-by")
	shop := sources.NewDatabase("shop", nil)
	parcels := sources.Table[int64, Parcel](b, shop, "public.parcels")
	weights := operators.Aggregate("weights",
		operators.GroupBy(parcels, func(_ int64, p Parcel) sql.Null[int64] { return p.OrderID }),
		aggregate.Sum(func(p Parcel) int64 { return p.Weight }))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, parcels, 1, Parcel{Weight: 300})
	topologytest.Insert(d, parcels, 2, Parcel{Weight: 200, OrderID: sql.Null[int64]{V: 7, Valid: true}})
	topologytest.Insert(d, parcels, 3, Parcel{Weight: 100})
	fmt.Println(topologytest.Rows(d, weights))
	// Output: map[{0 false}:400 {7 true}:200]
}

func ExampleGroupByKey() {
	b := topology.New("group-by-key")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	byPage := operators.Rekey(clicks, func(_ int64, c Click) string { return c.Page })
	counts := operators.Aggregate("counts",
		operators.GroupByKey(byPage), aggregate.Count[Click]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	topologytest.Emit(d, clicks, 2, Click{Page: "/home"})
	fmt.Println(topologytest.Rows(d, counts))
	// Output: map[/home:2]
}

// KeepEmpty keeps the row of a group that has lost its last row.
func ExampleKeepEmpty() {
	b := topology.New("keep-empty")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	counts := operators.Aggregate("counts",
		operators.GroupBy(orders, func(_ int64, o Order) string { return o.Status }),
		aggregate.Count[Order](), operators.KeepEmpty())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, orders, 1, Order{Status: "new"})
	topologytest.Delete(d, orders, 1)
	fmt.Println(topologytest.Rows(d, counts))
	// Output: map[new:0]
}

// Clicks a page and minute. A record that comes after its window has closed, here 30
// seconds after its end, is dropped and counted.
func ExampleWindow() {
	b := topology.New("window")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	counts := operators.Aggregate("clicks-per-minute",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Tumbling(time.Minute).Grace(30*time.Second)),
		aggregate.Count[Click]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	start := d.Now()
	for i, second := range []int{10, 70, 50, 90, 20} {
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(start.Add(time.Duration(second) * time.Second))
			topologytest.Emit(tx, clicks, int64(i), Click{Page: "/home"})
		})
	}
	for key, n := range topologytest.Rows(d, counts) {
		fmt.Println(key.Key, key.Window.StartTime().Format("15:04"), n)
	}
	fmt.Println("late:", d.Dropped("late"))
	// Unordered output:
	// /home 00:00 2
	// /home 00:01 2
	// late: 1
}
