package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func TestMain(m *testing.M) { kafkatest.Main(m, pgservertest.StopShared) }

func TestRevenue(t *testing.T) {
	s := exampletest.NewShop(t)
	warehouse := pgservertest.New(t)
	topo, _, err := revenue.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})),
		sinks.NewTarget("warehouse", sinkpg.Target(sinkpg.Config{URL: warehouse.URL, CreateTables: true})))
	if err != nil {
		t.Fatal(err)
	}
	app := s.Run(t, "revenue", topo)
	check := tailrace.Check{View: "revenue", SQL: revenue.SQL}
	s.Write(t, app, check)
	s.Equal(t, app, check)
	s.SameTable(t, app, revenue.SQL, warehouse, `SELECT key, orders, cents FROM revenue_per_customer`)
}

// TestRevenueKafka folds the compacted topic and compares it with SQL.
func TestRevenueKafka(t *testing.T) {
	cluster := kafkatest.Shared(t)
	s := exampletest.NewShop(t)
	topo, _, err := revenue.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})),
		sinks.NewTarget("kafka", kafka.Target(kafka.Config{Brokers: cluster.Brokers(), CreateTopics: true})))
	if err != nil {
		t.Fatal(err)
	}
	app := s.Run(t, "revenue", topo)
	s.Write(t, app)
	s.Settle(t, app)
	want := map[string]string{}
	for _, r := range s.Strings(`SELECT to_json(key), json_build_object('key', key, 'orders', orders, 'cents', cents)::jsonb
		FROM (` + revenue.SQL + `) AS r`) {
		want[r[0]] = oneSpelling(t, []byte(r[1]))
	}
	if len(want) == 0 {
		t.Fatal("SQL gives no rows, so nothing is compared")
	}
	var got map[string]string
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		got = map[string]string{}
		for key, value := range cluster.Latest(t, "revenue_per_customer") {
			got[key] = oneSpelling(t, value)
		}
		if maps.Equal(got, want) {
			return
		}
	}
	t.Errorf("the topic holds\n%v\nwant\n%v", got, want)
}

// oneSpelling writes equal JSON objects equally.
func oneSpelling(t *testing.T, value []byte) string {
	t.Helper()
	fields := map[string]any{}
	if err := json.Unmarshal(value, &fields); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fields) // in order of the keys
}
