package operators_test

import (
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestLargeTransaction has more changes in one step than a node keeps for its second
// reader, a parent with more children than a chunk, and a TRUNCATE of all.
func TestLargeTransaction(t *testing.T) {
	const rows = 66_000
	b := topology.New("large")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	lines := operators.JoinForeignKey("lines", orders, customers, func(o Order) int64 { return o.CustomerID },
		func(o Order, c Customer) Line { return Line{c.Name, o.Cents} })
	count := func(name string) topology.Table[string, int64] {
		return operators.Aggregate(name,
			operators.GroupBy(lines, func(_ int64, l Line) string { return l.Customer }),
			aggregate.Count[Line]())
	}
	first, second := count("first"), count("second")
	d := topologytest.New(t, b.MustBuild())
	check := func(name string, want int64) {
		t.Helper()
		for _, table := range []topology.Table[string, int64]{first, second} {
			if got, _ := topologytest.Row(d, table, name); got != want {
				t.Errorf("%s has %d lines, want %d", name, got, want)
			}
		}
	}
	topologytest.Insert(d, customers, 1, Customer{Name: "Ann"})
	d.Tx(func(tx *topologytest.Tx) {
		for i := range int64(rows) {
			topologytest.Insert(tx, orders, i, Order{CustomerID: 1, Cents: i})
		}
	})
	check("Ann", rows)
	topologytest.Update(d, customers, 1, Customer{Name: "Bob"})
	check("Ann", 0)
	check("Bob", rows)
	topologytest.Truncate(d, orders)
	check("Bob", 0)
}
