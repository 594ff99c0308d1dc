// Command fk-join keeps customers with all their addresses as live views, while
// addresses move from one customer to another.
//
//	go run ./examples/fk-join
//
// It starts a PostgreSQL of its own, unless -url names one, and prints the customers
// as they change: each at most once a transaction.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/fk-join/fkjoin"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func main() {
	example.Main(example.Program{Name: "fk-join", Create: fkjoin.Create, Write: fkjoin.Write, Run: run})
}

func run(ctx context.Context, env example.Env) error {
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: env.URL}))
	topo, views, err := fkjoin.Topology(shop)
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: "fk-join", StateDir: env.StateDir, Addr: env.Addr, Logger: env.Logger,
	}, topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, views.WithAddresses)
	go example.Print(ctx, env.Out, app, views.All)
	return app.Run(ctx)
}
