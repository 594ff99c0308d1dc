package apptest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Sums is a row of the view "sums": what the lines of every eighth order add up to.
type Sums struct {
	Weight sql.Null[float64]        `db:"weight"`
	Qty    sql.Null[record.Decimal] `db:"qty"`
}

// SumsSQL is what the view "sums" equals: the numeric column exactly, the float within
// a bound that is relative to the sum of absolute values, its third column.
const SumsSQL = `select order_id % 8, sum(weight), sum(abs(weight)), trim_scale(sum(qty))
	from lines group by 1 order by 1`

func lineSums(lines topology.Table[LineKey, Line]) topology.Table[int64, Sums] {
	return operators.Aggregate("line-sums",
		operators.GroupBy(lines, func(k LineKey, _ Line) int64 { return k.OrderID % 8 }),
		aggregate.Combine2(
			aggregate.SumFloatNull(func(l Line) sql.Null[float64] { return l.Weight }),
			aggregate.SumDecimalNull(func(l Line) sql.Null[record.Decimal] { return l.Qty }),
			func(weight sql.Null[float64], qty sql.Null[record.Decimal]) Sums { return Sums{weight, qty} }))
}

// magnitude is a number of either sign between 10^-usual and 10^usual, now and then one
// of 10^far, or NULL. What a far one buries has to show again once it is taken away.
func magnitude(r *rand.Rand, usual, far int) string {
	exp := r.IntN(2*usual+1) - usual
	switch r.IntN(16) {
	case 0:
		return "null"
	case 1:
		exp = far
	}
	return fmt.Sprintf("'%.16fe%d'", r.Float64()*2-1, exp)
}
