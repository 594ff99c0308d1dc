package operators_test

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// Note is a row of text.
type Note struct{ Text string }

// Amount is a row of a sum of money.
type Amount struct{ Cents int64 }

// Impressions and clicks of one advertisement that are at most a minute apart.
func ExampleJoinWindow() {
	b := topology.New("join-window")
	shop := sources.NewDatabase("shop", nil)
	shown := sources.Stream[int64, Note](b, shop, "public.shown")
	clicked := sources.Stream[int64, Note](b, shop, "public.clicked")
	pairs := operators.JoinWindow("shown-clicked", shown, clicked, windows.Within(time.Minute),
		func(page, click Note) string { return page.Text + " " + click.Text })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, shown, 7, Note{"/home"})
	d.AdvanceTime(50 * time.Second)
	topologytest.Emit(d, clicked, 7, Note{"first"})
	topologytest.Emit(d, clicked, 8, Note{"of another"})
	d.AdvanceTime(50 * time.Second)
	topologytest.Emit(d, clicked, 7, Note{"second"}) // too long after
	fmt.Println(topologytest.Values(d, pairs))
	// Output: [/home first]
}

// Payments that come after the order, or do not: the heartbeat of an idle database is
// enough to find out.
func ExampleLeftJoinWindow() {
	b := topology.New("left-join-window")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Stream[int64, Note](b, shop, "public.orders")
	payments := sources.Stream[int64, Note](b, shop, "public.payments")
	paid := operators.LeftJoinWindow("paid", orders, payments, windows.Within(time.Hour).Before(0),
		func(order, payment Note, isPaid bool) string {
			if !isPaid {
				return order.Text + ": not paid in time"
			}
			return order.Text + ": " + payment.Text
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, orders, 1, Note{"tea"})
	topologytest.Emit(d, orders, 2, Note{"cups"})
	topologytest.Emit(d, payments, 2, Note{"cash"})
	fmt.Println(topologytest.Values(d, paid))
	d.AdvanceTime(2 * time.Hour)
	fmt.Println(topologytest.Values(d, paid))
	// Output:
	// [cups: cash]
	// [tea: not paid in time]
}

// Two reports that should agree: what is missing in one of them goes out as well.
func ExampleOuterJoinWindow() {
	b := topology.New("outer-join-window")
	shop := sources.NewDatabase("shop", nil)
	ours := sources.Stream[int64, Amount](b, shop, "public.ours")
	theirs := sources.Stream[int64, Amount](b, shop, "public.theirs")
	diff := operators.OuterJoinWindow("difference", ours, theirs, windows.Within(time.Minute),
		func(our Amount, hasOur bool, their Amount, hasTheir bool) string {
			return fmt.Sprint(our.Cents, hasOur, their.Cents, hasTheir)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, ours, 1, Amount{100})
	topologytest.Emit(d, theirs, 1, Amount{100})
	topologytest.Emit(d, ours, 2, Amount{50})
	topologytest.Emit(d, theirs, 3, Amount{70})
	d.AdvanceTime(2 * time.Minute)
	for _, v := range topologytest.Values(d, diff) {
		fmt.Println(v)
	}
	// Output:
	// 100 true 100 true
	// 0 false 70 true
	// 50 true 0 false
}

// Two logins of one user from different places within a minute.
func ExampleSelfJoinWindow() {
	b := topology.New("self-join-window")
	shop := sources.NewDatabase("shop", nil)
	logins := sources.Stream[int64, Note](b, shop, "public.logins")
	pairs := operators.SelfJoinWindow("twice", logins, windows.Within(time.Minute).After(0),
		func(later, earlier Note) [2]string { return [2]string{earlier.Text, later.Text} })
	moved := operators.Filter(pairs, func(_ int64, p [2]string) bool { return p[0] != p[1] })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Emit(d, logins, 1, Note{"Oslo"})
	d.AdvanceTime(30 * time.Second)
	topologytest.Emit(d, logins, 1, Note{"Rome"})
	topologytest.Emit(d, logins, 2, Note{"Oslo"})
	fmt.Println(topologytest.Values(d, moved))
	// Output: [[Oslo Rome]]
}
