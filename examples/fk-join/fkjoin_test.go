package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/fk-join/fkjoin"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/internal/example/exampletest"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/view"
)

func TestMain(m *testing.M) { kafkatest.Main(m, pgservertest.StopShared) }

// show writes a view in short: customer, first name, addresses.
func show(t *testing.T, v *view.View[int32, fkjoin.Resident]) string {
	t.Helper()
	var b strings.Builder
	rows := v.Range(t.Context(), view.Span[int32]{})
	for id, r := range rows.All() {
		fmt.Fprintf(&b, "%d %s:", id, r.Customer.FirstName)
		for _, a := range r.Addresses {
			fmt.Fprintf(&b, " %d", a.ID-100_000)
		}
		b.WriteString("; ")
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// inventory is a database with the example's tables.
func inventory(t *testing.T) *exampletest.DB {
	t.Helper()
	s := &exampletest.DB{DB: pgservertest.New(t)}
	c, err := pgx.Connect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	err = fkjoin.Create(t.Context(), c)
	c.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFKJoinOverTopics runs the example over Debezium's topics, and compares the topics that it
// writes with SQL.
func TestFKJoinOverTopics(t *testing.T) {
	cluster := kafkatest.Shared(t)
	s := inventory(t)
	type key struct{ ID int32 }
	replicator := s.Replicate(t, cluster, func(c *exampletest.Copies) {
		exampletest.Copy[key, fkjoin.Customer](c, "inventory.customers")
		exampletest.Copy[key, fkjoin.Address](c, "inventory.addresses")
	})
	exampletest.OverTopics(t, example.Program{Name: "fk-join", Run: run}, cluster)
	same := func() {
		t.Helper()
		s.Settle(t, replicator)
		for topic, query := range map[string]string{
			"customers_with_addresses": fkjoin.SQLWithAddresses, "customers": fkjoin.SQLAll,
		} {
			s.SameTopic(t, cluster, topic, `SELECT key::text, to_json(q)::text FROM (`+query+`) AS q`)
		}
	}
	same()
	for _, step := range fkjoin.Steps {
		s.Exec(step.SQL)
	}
	s.Exec("DELETE FROM inventory.addresses WHERE customer_id = 1001")
	s.Exec("DELETE FROM inventory.customers WHERE id = 1003")
	same()
}

func TestScenario(t *testing.T) {
	s := inventory(t)
	topo, views, err := fkjoin.Topology(
		sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: s.URL})), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := s.Run(t, "fk-join", topo)
	checks := []tailrace.Check{
		{View: "customers-with-addresses", SQL: fkjoin.SQLWithAddresses},
		{View: "customers", SQL: fkjoin.SQLAll},
	}
	steps := []struct{ sql, with, all string }{
		{
			"",
			"1001 Sally: 1 2; 1002 George: 3 4 5",
			"1001 Sally: 1 2; 1002 George: 3 4 5; 1003 Edward:; 1004 Anne:",
		},
		{fkjoin.Steps[0].SQL, "1001 Sarah: 1 2; 1002 George: 3 4 5",
			"1001 Sarah: 1 2; 1002 George: 3 4 5; 1003 Edward:; 1004 Anne:"},
		{fkjoin.Steps[1].SQL, "1001 Sarah: 1; 1002 George: 3 4 5; 1003 Edward: 2",
			"1001 Sarah: 1; 1002 George: 3 4 5; 1003 Edward: 2; 1004 Anne:"},
		{fkjoin.Steps[2].SQL, "1001 Sarah: 1 2 3; 1002 George: 4 5",
			"1001 Sarah: 1 2 3; 1002 George: 4 5; 1003 Edward:; 1004 Anne:"},
		{fkjoin.Steps[3].SQL, "1002 George: 4 5; 1004 Anne: 1 2 3",
			"1001 Sarah:; 1002 George: 4 5; 1003 Edward:; 1004 Anne: 1 2 3"},
		{fkjoin.Steps[4].SQL, "1001 Sally: 1 2; 1002 George: 3 4 5",
			"1001 Sally: 1 2; 1002 George: 3 4 5; 1003 Edward:; 1004 Anne:"},
		{"DELETE FROM inventory.addresses WHERE customer_id = 1001", "1002 George: 3 4 5",
			"1001 Sally:; 1002 George: 3 4 5; 1003 Edward:; 1004 Anne:"},
		{"DELETE FROM inventory.customers WHERE id = 1003", "1002 George: 3 4 5",
			"1001 Sally:; 1002 George: 3 4 5; 1004 Anne:"},
	}
	for i, step := range steps {
		if step.sql != "" {
			s.Exec(step.sql)
		}
		s.Settle(t, app)
		if got := show(t, views.WithAddresses); got != step.with {
			t.Errorf("step %d: with addresses: got %s, want %s", i, got, step.with)
		}
		if got := show(t, views.All); got != step.all {
			t.Errorf("step %d: all: got %s, want %s", i, got, step.all)
		}
		s.Equal(t, app, checks...)
	}
}
