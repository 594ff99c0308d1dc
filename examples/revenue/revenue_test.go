package main

import (
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

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
