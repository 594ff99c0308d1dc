// Command revenue keeps what each customer of a shop has paid as a live view.
//
//	go run ./examples/revenue
//
// It starts a PostgreSQL of its own, unless -url names one, and prints the rows of the
// view as they change. The view is also served over HTTP. With -brokers the revenue also
// goes to the compacted Kafka topic revenue_per_customer, exactly once.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func main() { example.Main(example.Program{Name: "revenue", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: env.URL}))
	var target *sinks.Target
	if env.Brokers != nil {
		target = sinks.NewTarget("kafka", kafka.Target(kafka.Config{Brokers: env.Brokers, CreateTopics: true}))
	}
	topo, top, err := revenue.Topology(shop, target)
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: "revenue", StateDir: env.StateDir, Addr: env.Addr, Logger: env.Logger,
	}, topo)
	if err != nil {
		return err
	}
	go example.Print(ctx, env.Out, app, top)
	return app.Run(ctx)
}
