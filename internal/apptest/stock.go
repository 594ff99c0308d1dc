package apptest

import (
	"database/sql"
	"math/rand/v2"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// DepotSchema makes the tables of a second database.
const DepotSchema = pairsSchema

// DepotTx returns a transaction of the second database.
func DepotTx(r *rand.Rand, stamp int64) string {
	return "begin;" + pairStatement(r, stamp) + "commit;"
}

// Stocked is a customer of the shop and the pair of the depot with the customer's id.
type Stocked struct {
	Name  sql.Null[string] `db:"name"`
	Stamp sql.Null[int64]  `db:"stamp"`
}

// NewStock builds a topology that joins tables of two databases, as the view "stock" and
// the table stock of the warehouse.
func NewStock(shop, depot *sources.Database, warehouse *sinks.Target) (*topology.Topology, error) {
	b := topology.New("stock")
	stock := operators.OuterJoin("stock",
		sources.Table[int64, Customer](b, shop, "public.customers"), joinPairs(b, depot),
		func(c Customer, hasC bool, p Pair, hasP bool) Stocked {
			return Stocked{sql.Null[string]{V: c.Name, Valid: hasC}, sql.Null[int64]{V: p.Stamp, Valid: hasP}}
		})
	sinks.View(stock, "stock")
	sinks.Table(stock, warehouse, "stock")
	return b.Build()
}
