package example

import (
	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/debezium"
	"github.com/tailrace/tailrace/sources/postgres"
)

// Shop is the database that the program reads: itself, or what Debezium has made of it.
func (e Env) Shop() *sources.Database {
	if e.Topics != "" {
		return sources.NewDatabase("shop", debezium.Topics(debezium.Config{Prefix: e.Topics}))
	}
	return sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: e.URL}))
}

// KafkaTarget is where results go with -brokers, else nil.
func (e Env) KafkaTarget() *sinks.Target {
	if e.Brokers == nil {
		return nil
	}
	return sinks.NewTarget("kafka", kafka.Target(kafka.Config{Brokers: e.Brokers, CreateTopics: true}))
}

// Config is the configuration of the program's app.
func (e Env) Config(app string) tailrace.Config {
	cfg := tailrace.Config{App: app, StateDir: e.StateDir, Addr: e.Addr, Logger: e.Logger}
	if e.Topics != "" {
		cfg.Kafka = &tailrace.Kafka{Brokers: e.Brokers}
	}
	return cfg
}
