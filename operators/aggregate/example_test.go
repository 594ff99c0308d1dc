package aggregate_test

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Sale is a row of the table that the examples aggregate.
type Sale struct {
	Item   string
	Cents  int64
	Weight float64
	Tax    record.Decimal
	Rating sql.Null[int64] // NULL where the buyer gave none
	At     time.Time
}

// day is the table's content.
var day = []Sale{
	{"ink", 250, 0.1, record.NewDecimal(47, -2), sql.Null[int64]{V: 5, Valid: true}, at(9)},
	{"pen", 120, 0.2, record.NewDecimal(23, -2), sql.Null[int64]{}, at(11)},
	{"cap", 400, 0.3, record.NewDecimal(76, -2), sql.Null[int64]{V: 4, Valid: true}, at(10)},
}

func at(hour int) time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }

// total computes an aggregate over the whole table: one group.
func total[R any](agg aggregate.Aggregator[Sale, R]) R {
	b := topology.New("sales")
	sales := sources.Table[int64, Sale](b, sources.NewDatabase("shop", nil), "public.sales")
	result := operators.Aggregate("total",
		operators.GroupBy(sales, func(int64, Sale) bool { return true }), agg)
	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for i, s := range day {
		topologytest.Insert(d, sales, int64(i), s)
	}
	r, _ := topologytest.Row(d, result, true)
	return r
}

func ExampleCount() {
	fmt.Println(total(aggregate.Count[Sale]()))
	// Output: 3
}

func ExampleCountIf() {
	fmt.Println(total(aggregate.CountIf(func(s Sale) bool { return s.Cents > 200 })))
	// Output: 2
}

func ExampleCountNotNull() {
	fmt.Println(total(aggregate.CountNotNull(func(s Sale) sql.Null[int64] { return s.Rating })))
	// Output: 2
}

func ExampleSum() {
	fmt.Println(total(aggregate.Sum(func(s Sale) int64 { return s.Cents })))
	// Output: 770
}

// A function that returns NULL leaves the row out: SUM(cents) FILTER (WHERE ...).
func ExampleSumNull() {
	fmt.Println(total(aggregate.SumNull(func(s Sale) sql.Null[int64] {
		return sql.Null[int64]{V: s.Cents, Valid: s.Item != "cap"}
	})))
	fmt.Println(total(aggregate.SumNull(func(Sale) sql.Null[int64] { return sql.Null[int64]{} })).Valid)
	// Output:
	// {370 true}
	// false
}

// Floats are added exactly and rounded once: 0.1 + 0.2 + 0.3 is 0.6.
func ExampleSumFloat() {
	fmt.Println(total(aggregate.SumFloat(func(s Sale) float64 { return s.Weight })))
	// Output: 0.6
}

func ExampleSumDecimal() {
	fmt.Println(total(aggregate.SumDecimal(func(s Sale) record.Decimal { return s.Tax })))
	// Output: 1.46
}

// Averages of integers are decimals, rounded as PostgreSQL rounds them.
func ExampleAvg() {
	fmt.Println(total(aggregate.Avg(func(s Sale) int64 { return s.Cents })))
	// Output: 256.6666666666666667
}

func ExampleAvgNull() {
	fmt.Println(total(aggregate.AvgNull(func(s Sale) sql.Null[int64] { return s.Rating })))
	// Output: {4.5 true}
}

func ExampleAvgFloat() {
	fmt.Println(total(aggregate.AvgFloat(func(s Sale) float64 { return s.Weight })))
	// Output: 0.19999999999999998
}

// The scale is that of the column: numeric(12,2).
func ExampleAvgDecimal() {
	fmt.Println(total(aggregate.AvgDecimal(2, func(s Sale) record.Decimal { return s.Tax })))
	// Output: 0.48666666666666666667
}

func ExampleMin() {
	fmt.Println(total(aggregate.Min(func(s Sale) string { return s.Item })))
	// Output: cap
}

func ExampleMax() {
	fmt.Println(total(aggregate.Max(func(s Sale) time.Time { return s.At })).Format("15:04"))
	// Output: 11:00
}

func ExampleMinNull() {
	fmt.Println(total(aggregate.MinNull(func(s Sale) sql.Null[int64] { return s.Rating })))
	// Output: {4 true}
}

func ExampleMaxNull() {
	fmt.Println(total(aggregate.MaxNull(func(s Sale) sql.Null[int64] { return s.Rating })))
	// Output: {5 true}
}

// array_agg(item ORDER BY at)
func ExampleCollect() {
	fmt.Println(total(aggregate.Collect(
		func(s Sale) time.Time { return s.At }, func(s Sale) string { return s.Item })))
	// Output: [ink cap pen]
}

func ExampleCollectDesc() {
	fmt.Println(total(aggregate.CollectDesc(
		func(s Sale) time.Time { return s.At }, func(s Sale) string { return s.Item })))
	// Output: [pen cap ink]
}

func ExampleTopN() {
	fmt.Println(total(aggregate.TopN(2,
		func(s Sale) int64 { return s.Cents }, func(s Sale) string { return s.Item })))
	// Output: [cap ink]
}

func ExampleBottomN() {
	fmt.Println(total(aggregate.BottomN(2,
		func(s Sale) int64 { return s.Cents }, func(s Sale) string { return s.Item })))
	// Output: [pen ink]
}

func ExampleArgMin() {
	fmt.Println(total(aggregate.ArgMin(
		func(s Sale) int64 { return s.Cents }, func(s Sale) string { return s.Item })))
	// Output: pen
}

func ExampleArgMax() {
	fmt.Println(total(aggregate.ArgMax(
		func(s Sale) int64 { return s.Cents }, func(s Sale) string { return s.Item })))
	// Output: cap
}

func ExampleMap() {
	fmt.Println(total(aggregate.Map(aggregate.Count[Sale](),
		func(n int64) string { return fmt.Sprintf("%d sales", n) })))
	// Output: 3 sales
}

func ExampleCombine2() {
	type Summary struct {
		Sales int64
		Most  int64
	}
	fmt.Printf("%+v\n", total(aggregate.Combine2(
		aggregate.Count[Sale](), aggregate.Max(func(s Sale) int64 { return s.Cents }),
		func(n, most int64) Summary { return Summary{n, most} })))
	// Output: {Sales:3 Most:400}
}

// The sum of squares, which package aggregate does not have.
func ExampleCustom() {
	fmt.Println(total(aggregate.Custom(aggregate.Fold[Sale, int64, int64]{
		Add:    func(sum int64, s Sale) int64 { return sum + s.Cents*s.Cents },
		Remove: func(sum int64, s Sale) int64 { return sum - s.Cents*s.Cents },
		Result: func(sum int64) int64 { return sum },
	})))
	// Output: 236900
}

// Reduce is for streams: it cannot take values out again.
func ExampleReduce() {
	b := topology.New("reduce")
	sales := sources.Stream[int64, Sale](b, sources.NewDatabase("shop", nil), "public.sales")
	last := operators.Aggregate("dearest", operators.GroupByKey(sales),
		aggregate.Reduce(func(a, b Sale) Sale {
			if b.Cents > a.Cents {
				return b
			}
			return a
		}))
	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	for _, s := range day {
		topologytest.Emit(d, sales, 1, s)
	}
	dearest, _ := topologytest.Row(d, last, 1)
	fmt.Println(dearest.Item)
	// Output: cap
}
