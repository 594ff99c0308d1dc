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

// clicksAt writes clicks of pages at seconds after 00:00, each in a transaction.
func clicksAt(d *topologytest.Driver, clicks topology.Stream[int64, Click], seconds ...int) {
	start := d.Now()
	for i, second := range seconds {
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(start.Add(time.Duration(second) * time.Second))
			topologytest.Emit(tx, clicks, int64(i), Click{Page: "/home"})
		})
	}
}

// Clicks in each minute, every half minute: a click is in two windows.
func ExampleWindow_hopping() {
	b := topology.New("hopping")
	clicks := sources.Stream[int64, Click](b, sources.NewDatabase("shop", nil), "public.clicks")
	counts := operators.Aggregate("clicks-per-minute",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Hopping(time.Minute, 30*time.Second).Grace(time.Minute)),
		aggregate.Count[Click]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	clicksAt(d, clicks, 30, 50, 70)
	for key, n := range topologytest.Rows(d, counts) {
		fmt.Println(key.Window.StartTime().Format("15:04:05"), n)
	}
	// Unordered output:
	// 00:00:00 2
	// 00:00:30 3
	// 00:01:00 1
}

// The most clicks that ever came within ten seconds show in some sliding window: there
// is one for each group of clicks that close together.
func ExampleWindow_sliding() {
	b := topology.New("sliding")
	clicks := sources.Stream[int64, Click](b, sources.NewDatabase("shop", nil), "public.clicks")
	counts := operators.Aggregate("clicks-in-ten-seconds",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Sliding(10*time.Second).Grace(time.Minute)),
		aggregate.Count[Click]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	clicksAt(d, clicks, 20, 25, 28, 33)
	most := int64(0)
	for _, n := range topologytest.Rows(d, counts) {
		most = max(most, n)
	}
	fmt.Println(most)
	// Output: 3
}

// Visits: clicks at most a minute apart. The click at second 110 makes two visits one.
func ExampleWindow_session() {
	b := topology.New("session")
	clicks := sources.Stream[int64, Click](b, sources.NewDatabase("shop", nil), "public.clicks")
	visits := operators.Aggregate("visits",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Session(time.Minute).Grace(time.Minute)),
		aggregate.Count[Click]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for _, second := range []int{10, 60, 150, 110} {
		clicksAt(d, clicks, second)
		for _, c := range topologytest.Changes(d, visits) {
			w := c.Key.Window
			fmt.Println(w.StartTime().Format("04:05"), "to", w.EndTime().Format("04:05"), c.New, c.HasNew())
		}
		fmt.Println("--")
	}
	// Output:
	// 00:10 to 00:10 1 true
	// --
	// 00:10 to 00:10 0 false
	// 00:10 to 01:00 2 true
	// --
	// 02:30 to 02:30 1 true
	// --
	// 00:10 to 01:00 0 false
	// 00:10 to 02:30 4 true
	// 02:30 to 02:30 0 false
	// --
}

// A window's result, once, when it closes. The heartbeat of an idle database closes
// windows, too.
func ExampleEmitOnClose() {
	b := topology.New("on-close")
	clicks := sources.Stream[int64, Click](b, sources.NewDatabase("shop", nil), "public.clicks")
	counts := operators.Aggregate("clicks-per-minute",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Tumbling(time.Minute)),
		aggregate.Count[Click](), operators.EmitOnClose())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	clicksAt(d, clicks, 10, 20)
	fmt.Println(len(topologytest.Rows(d, counts)))
	d.AdvanceTime(time.Minute)
	for key, n := range topologytest.Rows(d, counts) {
		fmt.Println(key.Window.StartTime().Format("15:04"), n)
	}
	// Output:
	// 0
	// 00:00 2
}

// Rows of windows are deleted a while after the windows have closed.
func ExampleRetention() {
	b := topology.New("retention")
	clicks := sources.Stream[int64, Click](b, sources.NewDatabase("shop", nil), "public.clicks")
	counts := operators.Aggregate("clicks-per-minute",
		operators.Window(operators.GroupBy(clicks, func(_ int64, c Click) string { return c.Page }),
			windows.Tumbling(time.Minute)),
		aggregate.Count[Click](), operators.Retention(time.Hour))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	clicksAt(d, clicks, 10, 20)
	d.AdvanceTime(time.Minute)
	fmt.Println(len(topologytest.Rows(d, counts)))
	d.AdvanceTime(time.Hour)
	fmt.Println(len(topologytest.Rows(d, counts)))
	// Output:
	// 1
	// 0
}

// Booking is a row with a time in it that may be corrected.
type Booking struct {
	Room string
	At   time.Time
}

// Windows over a table: a booking that is moved moves from day to day.
func ExampleWindowBy() {
	b := topology.New("window-by")
	bookings := sources.Table[int64, Booking](b, sources.NewDatabase("hotel", nil), "public.bookings")
	perDay := operators.Aggregate("bookings-per-day",
		operators.WindowBy(
			operators.GroupBy(bookings, func(_ int64, b Booking) string { return b.Room }),
			windows.Tumbling(24*time.Hour),
			func(b Booking) time.Time { return b.At }),
		aggregate.Count[Booking]())

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	show := func() {
		for _, c := range topologytest.Changes(d, perDay) {
			fmt.Println(c.Key.Key, c.Key.Window.StartTime().Format("Jan 2"), c.New, c.HasNew())
		}
	}
	day := time.Date(2026, 5, 4, 15, 0, 0, 0, time.UTC)
	topologytest.Insert(d, bookings, 1, Booking{Room: "attic", At: day})
	show()
	topologytest.Update(d, bookings, 1, Booking{Room: "attic", At: day.AddDate(0, 0, 1)})
	show()
	// Output:
	// attic May 4 1 true
	// attic May 4 0 false
	// attic May 5 1 true
}

// One aggregate of two streams, each with an adder of its own.
func ExampleCogroup2() {
	b := topology.New("cogroup")
	shop := sources.NewDatabase("shop", nil)
	clicks := sources.Stream[int64, Click](b, shop, "public.clicks")
	orders := sources.Stream[int64, Order](b, shop, "public.orders")
	type Day struct{ Clicks, Cents int64 }
	days := operators.Aggregate("days",
		operators.Cogroup2(
			operators.GroupBy(clicks, func(int64, Click) string { return "today" }),
			operators.GroupBy(orders, func(int64, Order) string { return "today" })),
		aggregate.Custom(aggregate.Cogroup2(
			func(day Day, _ Click) Day { day.Clicks++; return day },
			func(day Day, o Order) Day { day.Cents += o.Cents; return day })))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, clicks, 1, Click{Page: "/home"})
	topologytest.Emit(d, clicks, 2, Click{Page: "/pay"})
	topologytest.Emit(d, orders, 1, Order{Cents: 250})
	fmt.Println(topologytest.Rows(d, days))
	// Output: map[today:{2 250}]
}
