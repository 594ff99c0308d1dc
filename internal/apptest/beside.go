package apptest

import (
	"database/sql"
	"fmt"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Beside is a topology over the shop's tables that is added beside another.
type Beside struct {
	Topology *topology.Topology
	Pairs    *view.View[int64, Pair]
}

// NewBeside builds one of any name. It keeps PairsSQL as the view "beside-pairs" and as
// the table beside_pairs in the warehouse, and writes the events of the outbox.
func NewBeside(name string, shop *sources.Database, warehouse, events *sinks.Target) (*Beside, error) {
	n := &Beside{}
	b := topology.New(name)
	pairs := joinPairs(b, shop)
	n.Pairs = sinks.View(pairs, "beside-pairs")
	sinks.Table(operators.MapValues(pairs, func(_ int64, p Pair) Pair { return p }), warehouse, "beside_pairs")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	sinks.Stream(enriched(b, shop, customers), events, "events")
	var err error
	n.Topology, err = b.Build()
	return n, err
}

// joinPairs joins the two tables of pairs, and panics where one row of a pair is not what
// the other is.
func joinPairs(b *topology.Builder, shop *sources.Database) topology.Table[int64, Pair] {
	return operators.OuterJoin("pairs",
		sources.Table[int64, Pair](b, shop, "public.pair_a"),
		sources.Table[int64, Pair](b, shop, "public.pair_b"),
		func(l Pair, hasL bool, r Pair, hasR bool) Pair {
			if !hasL || !hasR || l != r {
				panic(fmt.Sprintf("a pair that no committed state had: %v %v, %v %v", l, hasL, r, hasR))
			}
			return l
		})
}

// enriched are the events of the outbox with the names of their customers.
func enriched(
	b *topology.Builder, shop *sources.Database, customers topology.Table[int64, Customer],
) topology.Stream[int64, Enriched] {
	return operators.LeftEnrich("events", sources.Outbox[int64, Outbox](b, shop, "public.outbox"), customers,
		func(o Outbox) int64 { return o.CustomerID },
		func(o Outbox, c Customer, ok bool) Enriched {
			return Enriched{o.What, sql.Null[string]{V: c.Name, Valid: ok}}
		})
}
