// Command outbox delivers the events of an outbox table, each with the state of the
// order and the customer it is about as of the transaction that wrote it, as lines of
// JSON to standard output.
//
//	go run ./examples/outbox
//
// It starts a PostgreSQL of its own, unless -url names one. With -brokers the events go to
// the Kafka topic shop-events instead, exactly once.
package main

import (
	"context"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/outbox/outbox"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func main() { example.Main(example.Program{Name: "outbox", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: env.URL}))
	// file.Target(file.Config{Path: ...}) holds each event exactly once, whatever crashes,
	// and so does Kafka; standard output cannot be taken back.
	target := file.Stdout()
	if env.Brokers != nil {
		target = kafka.Target(kafka.Config{Brokers: env.Brokers, CreateTopics: true})
	}
	topo, err := outbox.Topology(shop, sinks.NewTarget("events", target))
	if err != nil {
		return err
	}
	app, err := tailrace.New(tailrace.Config{
		App: "outbox", StateDir: env.StateDir, Addr: env.Addr, Logger: env.Logger,
	}, topo)
	if err != nil {
		return err
	}
	return app.Run(ctx)
}
