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
)

func main() { example.Main(example.Program{Name: "outbox", Run: run}) }

func run(ctx context.Context, env example.Env) error {
	// file.Target(file.Config{Path: ...}) holds each event exactly once, whatever crashes,
	// and so does Kafka; standard output cannot be taken back.
	target := env.KafkaTarget()
	if target == nil {
		target = sinks.NewTarget("events", file.Stdout())
	}
	topo, err := outbox.Topology(env.Shop(), target)
	if err != nil {
		return err
	}
	app, err := tailrace.New(env.Config("outbox"), topo)
	if err != nil {
		return err
	}
	return env.Follow(ctx, app)
}
