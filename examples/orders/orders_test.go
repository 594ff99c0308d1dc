package main

import (
	"database/sql"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/orders/orders"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	sinkpg "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

func TestMain(m *testing.M) { kafkatest.Main(m, pgservertest.StopShared) }

// TestOrdersOverTopics runs the example over Debezium's topics, and compares the topic that it
// writes with SQL.
func TestOrdersOverTopics(t *testing.T) {
	cluster := kafkatest.Shared(t)
	s := exampletest.NewShop(t)
	replicator := s.Replicate(t, cluster, exampletest.CopyShop)
	exampletest.OverTopics(t, example.Program{Name: "orders", Run: run}, cluster)
	s.Write(t, replicator)
	s.Settle(t, replicator)
	s.SameTopic(t, cluster, "order_documents",
		`SELECT key::text, to_json(q)::text FROM (`+orders.SQL+`) AS q`)
}

func TestOrders(t *testing.T) {
	s := exampletest.NewShop(t)
	warehouse := pgservertest.New(t)
	topo, documents, err := orders.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})),
		sinks.NewTarget("warehouse", sinkpg.Target(sinkpg.Config{URL: warehouse.URL, CreateTables: true})))
	if err != nil {
		t.Fatal(err)
	}
	app := s.Run(t, "orders", topo)
	check := tailrace.Check{View: "orders", SQL: orders.SQL}
	s.Write(t, app, check)
	s.Equal(t, app, check)
	s.SameTable(t, app, `SELECT key, status, cents, customer::jsonb, items::jsonb FROM (`+orders.SQL+`) AS q`,
		warehouse, `SELECT key, status, cents, customer, items FROM order_documents`)

	// The index finds the orders of a customer, as SQL does.
	most := s.Query(`SELECT customer_id, count(*) FROM orders AS o WHERE EXISTS
		(SELECT FROM customers AS c WHERE c.id = o.customer_id) GROUP BY 1 ORDER BY 2 DESC LIMIT 1`)[0]
	id, want, found := most[0].(int64), most[1].(int64), int64(0)
	rows := documents.Lookup(t.Context(), "customer", sql.Null[int64]{V: id, Valid: true})
	for _, d := range rows.All() {
		found++
		if d.Customer.V.ID != id {
			t.Errorf("looked for customer %d, found an order of %d", id, d.Customer.V.ID)
		}
	}
	if rows.Err() != nil || found != want {
		t.Errorf("customer %d has %d orders, the index finds %d (%v)", id, want, found, rows.Err())
	}
}
