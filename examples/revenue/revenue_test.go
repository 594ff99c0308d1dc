package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/dev"
	"github.com/tailrace/tailrace/internal/example"
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
	s.SameTopic(t, cluster, "revenue_per_customer", topicSQL)
}

// TestRevenueOverDev runs the example over the broker of `tailrace dev`, while its shop goes on.
func TestRevenueOverDev(t *testing.T) {
	d, err := dev.Start(t.Context(), dev.Options{Orders: 200})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- example.Run(ctx, example.Program{Name: "revenue", Run: run}, []string{
			"-brokers", strings.Join(d.Brokers(), ","), "-topics", "shop",
		}, io.Discard, io.Discard)
	}()
	sameAsShop(t, d)
	for range 500 {
		if err := d.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sameAsShop(t, d)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// sameAsShop folds the topic of the revenue until it equals what the shop knows.
func sameAsShop(t *testing.T, d *dev.Dev) {
	t.Helper()
	want := map[string]string{}
	for name, sum := range d.Revenue() {
		want[strconv.Quote(name)] = exampletest.OneSpelling(t, fmt.Sprintf(`{"key":%q,"orders":%d,"cents":%d}`,
			name, sum[0], sum[1]))
	}
	if len(want) < 10 {
		t.Fatalf("the shop has %d customers that have paid", len(want))
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var got map[string]string
	if !await.Within(await.Limit, func() bool {
		topics, err := kadm.NewClient(cl).ListTopics(t.Context(), "revenue_per_customer")
		if err != nil || !topics.Has("revenue_per_customer") {
			return false
		}
		got = map[string]string{}
		for key, value := range kafkatest.At(d.Brokers()...).Latest(t, "revenue_per_customer") {
			got[key] = exampletest.OneSpelling(t, string(value))
		}
		return maps.Equal(got, want)
	}) {
		t.Errorf("the topic holds\n%v\nwant\n%v", got, want)
	}
}

// topicSQL is what the topic of the revenue always equals.
const topicSQL = `SELECT to_json(key), to_json(q)::text FROM (` + revenue.SQL + `) AS q`

// TestRevenueOverTopics replicates the shop into topics in Debezium's form and runs the
// example over these, as a member of a consumer group.
func TestRevenueOverTopics(t *testing.T) {
	cluster := kafkatest.New(t) // of its own, since the other test writes the same topic
	s := exampletest.NewShop(t)
	replicator := s.Replicate(t, cluster, exampletest.CopyShop)
	s.Write(t, replicator)
	s.Settle(t, replicator)
	exampletest.OverTopics(t, example.Program{Name: "revenue", Run: run}, cluster)
	s.SameTopic(t, cluster, "revenue_per_customer", topicSQL)
	s.Write(t, replicator)
	s.Settle(t, replicator)
	s.SameTopic(t, cluster, "revenue_per_customer", topicSQL)
}
