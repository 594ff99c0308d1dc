package operators_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestChangedFunction has a function that gives another result for a row than it gave
// before, as after a deployment that forgot the Version: a group that would lose more rows
// than it has stops the topology, and nothing below zero is ever seen.
func TestChangedFunction(t *testing.T) {
	least := int64(10)
	b := topology.New("changed")
	shop := sources.NewDatabase("shop", nil)
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	large := operators.Filter(orders, func(_ int64, o Order) bool { return o.Cents >= least })
	counts := operators.Aggregate("counts",
		operators.GroupBy(large, func(_ int64, o Order) int64 { return o.CustomerID }),
		aggregate.Count[Order]())
	d := topologytest.New(t, b.MustBuild())
	topologytest.Insert(d, orders, 1, Order{CustomerID: 7, Cents: 20})
	topologytest.Insert(d, orders, 2, Order{CustomerID: 7, Cents: 5})
	topologytest.Insert(d, orders, 3, Order{CustomerID: 7, Cents: 5})
	least = 1
	err := d.TryTx(func(tx *topologytest.Tx) {
		topologytest.Delete(tx, orders, 2)
		topologytest.Delete(tx, orders, 3)
	})
	var failure *topology.Failure
	if !errors.As(err, &failure) || failure.Node.Name != "counts" || !strings.Contains(err.Error(), "Version") {
		t.Fatalf("two rows that were never counted leave a group of one: %v", err)
	}
	if n, ok := topologytest.Row(d, counts, 7); n != 1 || !ok {
		t.Errorf("the group has %d rows after the failure, want 1 as before", n)
	}
}
