// Command fk-join keeps customers with all their addresses as live views, while
// addresses move from one customer to another.
//
//	go run ./examples/fk-join
//
// It starts a PostgreSQL of its own, unless -url names one, and prints the customers
// as they change: each at most once a transaction. With -brokers they go to Kafka topics, too.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/fk-join/fkjoin"
	"github.com/tailrace/tailrace/internal/example"
)

func main() {
	example.Main(example.Program{Name: "fk-join", Create: fkjoin.Create, Write: fkjoin.Write, Run: run})
}

func run(ctx context.Context, env example.Env) error {
	topo, views, err := fkjoin.Topology(env.Shop(), env.KafkaTarget())
	if err != nil {
		return err
	}
	app, err := tailrace.New(env.Config("fk-join"), topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, views.WithAddresses)
	go example.Print(ctx, env.Out, app, views.All)
	return app.Run(ctx)
}
