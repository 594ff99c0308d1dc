// Command revenue keeps what each customer of a shop has paid as a live view.
//
//	go run ./examples/revenue
//
// It starts a PostgreSQL of its own, unless -url names one, and prints the rows of the
// view as they change. The view is also served over HTTP. With -brokers the revenue also
// goes to the compacted Kafka topic revenue_per_customer, exactly once. With -topics as
// well it reads Debezium's topics instead of a database, as a member of a consumer group.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/example"
)

func main() { example.Main(example.Program{Name: "revenue", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	topo, top, err := revenue.Topology(env.Shop(), env.KafkaTarget())
	if err != nil {
		return err
	}
	app, err := tailrace.New(env.Config("revenue"), topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, top)
	return app.Run(ctx)
}
