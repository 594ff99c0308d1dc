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
)

func main() { example.Main(example.Program{Name: "orders", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	topo, documents, err := orders.Topology(env.Shop(), env.KafkaTarget())
	if err != nil {
		return err
	}
	app, err := tailrace.New(env.Config("orders"), topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, documents)
	return app.Run(ctx)
}
