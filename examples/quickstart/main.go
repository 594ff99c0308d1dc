// Command quickstart is the program of the README.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

type Order struct {
	CustomerID int64 // the column customer_id
	Cents      int64
	Status     string
}

type Customer struct{ Name string }

type Paid struct {
	Customer string
	Cents    int64
}

type Revenue struct{ Orders, Cents int64 }

func main() {
	b := topology.New("revenue")
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: os.Getenv("SHOP_URL")}))
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")

	paid := operators.JoinForeignKey("order-customer",
		operators.Filter(orders, func(_ int64, o Order) bool { return o.Status == "paid" }), customers,
		func(o Order) int64 { return o.CustomerID },
		func(o Order, c Customer) Paid { return Paid{Customer: c.Name, Cents: o.Cents} })
	revenue := operators.Aggregate("revenue-per-customer",
		operators.GroupBy(paid, func(_ int64, p Paid) string { return p.Customer }),
		aggregate.Combine2(aggregate.Count[Paid](), aggregate.Sum(func(p Paid) int64 { return p.Cents }),
			func(n, cents int64) Revenue { return Revenue{Orders: n, Cents: cents} }))
	sinks.View(revenue, "revenue")

	topo, err := b.Build()
	if err != nil {
		log.Fatal(err)
	}
	app, err := tailrace.New(tailrace.Config{
		App: "revenue", StateDir: "revenue-state", Addr: "127.0.0.1:8080", VerifySQL: true,
	}, topo)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
