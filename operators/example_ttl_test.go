package operators_test

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Carts that nobody has touched for an hour are left out, also while the database is idle.
func ExampleTTL() {
	b := topology.New("ttl")
	carts := sources.Table[int64, Note](b, sources.NewDatabase("shop", nil), "public.carts")
	live := operators.TTL("live-carts", carts, time.Hour)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, carts, 1, Note{"tea"})
	topologytest.Insert(d, carts, 2, Note{"cups"})
	d.AdvanceTime(50 * time.Minute)
	topologytest.Update(d, carts, 2, Note{"cups, spoons"})
	d.AdvanceTime(10 * time.Minute)
	fmt.Println(topologytest.Rows(d, live))
	topologytest.Update(d, carts, 1, Note{"more tea"})
	fmt.Println(topologytest.Rows(d, live))
	// Output:
	// map[2:{cups, spoons}]
	// map[1:{more tea} 2:{cups, spoons}]
}
