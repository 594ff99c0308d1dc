// Command orders makes one document of each order of a shop, with its customer and its
// lines, from four tables, and keeps them as a live view.
//
//	go run ./examples/orders
//
// It starts a PostgreSQL of its own, unless -url names one, and prints the documents
// as they change. They are also served over HTTP, and can be searched by customer.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/orders/orders"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func main() { example.Main(example.Program{Name: "orders", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: env.URL}))
	topo, documents, err := orders.Topology(shop, nil)
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: "orders", StateDir: env.StateDir, Addr: env.Addr, Logger: env.Logger,
	}, topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, documents)
	return app.Run(ctx)
}
