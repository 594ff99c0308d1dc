package operators_test

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Price is a price from some time on.
type Price struct {
	From  time.Time
	Cents int64
}

// Sale is a sale of an article at some time.
type Sale struct {
	At      time.Time
	Article string
}

func priceFrom(p Price) time.Time { return p.From }

func saleAt(s Sale) time.Time { return s.At }

func hour(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }

// A price that comes late does not become the price of now, but is remembered; a stream
// of the table shows it.
func ExampleVersioned() {
	b := topology.New("versioned")
	shop := sources.NewDatabase("shop", nil)
	prices := sources.Table[string, Price](b, shop, "public.prices", sources.EventTime(priceFrom))
	versions := operators.Versioned("price-history", prices, 24*time.Hour)
	now := operators.MapValues(versions.Table, func(_ string, p Price) int64 { return p.Cents })
	changes := operators.ToStream("price-changes", versions.Table)

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, prices, "tea", Price{hour(10), 300})
	topologytest.Update(d, prices, "tea", Price{hour(8), 250}) // late
	topologytest.Update(d, prices, "tea", Price{hour(12), 320})
	fmt.Println(topologytest.Rows(d, now))
	for _, c := range topologytest.Values(d, changes) {
		fmt.Printf("from %d:00: %d\n", c.New.From.Hour(), c.New.Cents)
	}
	// Output:
	// map[tea:320]
	// from 10:00: 300
	// from 8:00: 250
	// from 12:00: 320
}

// Each sale gets the price of its own time.
func ExampleEnrichAsOf() {
	b := topology.New("as-of")
	shop := sources.NewDatabase("shop", nil)
	prices := sources.Table[string, Price](b, shop, "public.prices", sources.EventTime(priceFrom))
	sales := sources.Stream[int64, Sale](b, shop, "public.sales", sources.EventTime(saleAt))
	sold := operators.EnrichAsOf("sold", sales, operators.Versioned("price-history", prices, 24*time.Hour),
		func(s Sale) string { return s.Article },
		func(s Sale, p Price) string { return fmt.Sprintf("%d:00 %d", s.At.Hour(), p.Cents) })

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, prices, "tea", Price{hour(10), 300})
	topologytest.Update(d, prices, "tea", Price{hour(12), 320})
	topologytest.Emit(d, sales, 1, Sale{hour(11), "tea"})
	topologytest.Emit(d, sales, 2, Sale{hour(13), "tea"})
	topologytest.Emit(d, sales, 3, Sale{hour(9), "tea"}) // there was no price
	for _, s := range topologytest.Values(d, sold) {
		fmt.Println(s)
	}
	// Output:
	// 11:00 300
	// 13:00 320
}

func ExampleLeftEnrichAsOf() {
	b := topology.New("left-as-of")
	shop := sources.NewDatabase("shop", nil)
	prices := sources.Table[string, Price](b, shop, "public.prices", sources.EventTime(priceFrom))
	sales := sources.Stream[int64, Sale](b, shop, "public.sales", sources.EventTime(saleAt))
	sold := operators.LeftEnrichAsOf("sold", sales, operators.Versioned("price-history", prices, time.Hour),
		func(s Sale) string { return s.Article },
		func(s Sale, p Price, known bool) string {
			return fmt.Sprintf("%d:00 %d %t", s.At.Hour(), p.Cents, known)
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, prices, "tea", Price{hour(8), 300})
	topologytest.Update(d, prices, "tea", Price{hour(12), 320})
	topologytest.Emit(d, sales, 1, Sale{hour(11), "tea"})
	topologytest.Emit(d, sales, 2, Sale{hour(10), "tea"}) // longer ago than the retention
	for _, s := range topologytest.Values(d, sold) {
		fmt.Println(s)
	}
	// Output:
	// 11:00 300 true
	// 10:00 0 false
}

// The key may be missing, and the joiner decides whether the record goes on.
func ExampleEnrichAsOfContext() {
	b := topology.New("as-of-context")
	shop := sources.NewDatabase("shop", nil)
	prices := sources.Table[string, Price](b, shop, "public.prices", sources.EventTime(priceFrom))
	sales := sources.Stream[int64, Sale](b, shop, "public.sales", sources.EventTime(saleAt))
	sold := operators.EnrichAsOfContext(
		"sold", sales, operators.Versioned("price-history", prices, 24*time.Hour),
		func(_ record.Context, _ int64, s Sale) (string, bool, error) { return s.Article, s.Article != "", nil },
		func(ctx record.Context, _ int64, _ Sale, p Price, known bool) (string, bool, error) {
			return fmt.Sprintf("%d:00 %d", ctx.Time.Hour(), p.Cents), known || ctx.Time.Hour() > 10, nil
		})

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, prices, "tea", Price{hour(8), 300})
	topologytest.Emit(d, sales, 1, Sale{hour(9), "tea"})
	topologytest.Emit(d, sales, 2, Sale{hour(9), ""})
	topologytest.Emit(d, sales, 3, Sale{hour(11), ""})
	for _, s := range topologytest.Values(d, sold) {
		fmt.Println(s)
	}
	// Output:
	// 9:00 300
	// 11:00 0
}

// A sale waits two hours for a price that comes late.
func ExampleWaitForRows() {
	b := topology.New("wait")
	shop := sources.NewDatabase("shop", nil)
	prices := sources.Table[string, Price](b, shop, "public.prices", sources.EventTime(priceFrom))
	sales := sources.Stream[int64, Sale](b, shop, "public.sales", sources.EventTime(saleAt))
	sold := operators.EnrichAsOf("sold", sales, operators.Versioned("price-history", prices, 24*time.Hour),
		func(s Sale) string { return s.Article },
		func(s Sale, p Price) string { return fmt.Sprintf("%d:00 %d", s.At.Hour(), p.Cents) },
		operators.WaitForRows(2*time.Hour))

	d := topologytest.New(nil, b.MustBuild())
	defer d.Close()
	topologytest.Insert(d, prices, "tea", Price{hour(8), 300})
	topologytest.Emit(d, sales, 1, Sale{hour(11), "tea"})
	fmt.Println(topologytest.Values(d, sold))
	topologytest.Update(d, prices, "tea", Price{hour(10), 320})
	topologytest.Emit(d, sales, 2, Sale{hour(13), "tea"})
	fmt.Println(topologytest.Values(d, sold))
	// Output:
	// []
	// [11:00 320]
}
