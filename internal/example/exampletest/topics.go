package exampletest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/example"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// Prefix begins the names of the topics that Replicate writes.
const Prefix = "shop"

// Copies collects the tables that are replicated.
type Copies struct {
	b      *topology.Builder
	shop   *sources.Database
	target *sinks.Target
	topics []string
}

// Copy replicates a table.
func Copy[K comparable, V any](c *Copies, table string) {
	rows, topic := sources.Table[K, V](c.b, c.shop, table), Prefix+"."+table
	c.topics = append(c.topics, topic)
	sinks.Table(rows, c.target, table, kafka.Output{Topic: topic, Format: kafka.DebeziumSchema})
	sinks.View(rows, table)
}

// Replicate copies tables to topics, in the form that Debezium gives them. It returns once
// there are the topics.
func (d *DB) Replicate(t *testing.T, cluster *kafkatest.Cluster, tables func(c *Copies)) *tailrace.App {
	t.Helper()
	b := topology.New("replicator")
	c := &Copies{
		b: b, shop: sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: d.URL})),
		target: sinks.NewTarget("topics", kafka.Target(kafka.Config{
			Brokers: cluster.Brokers(), CreateTopics: true, Partitions: 3,
		})),
	}
	tables(c)
	app := d.Run(t, "replicator", b.MustBuild())
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	await.That(t, "the tables' topics are there", func() bool {
		topics, err := kadm.NewClient(cl).ListTopics(t.Context(), c.topics...)
		return err == nil && topics.Error() == nil
	})
	return app
}

// Keys of the shop's tables, with a field for each column as Debezium has them.
type (
	id      struct{ ID int64 }
	lineKey struct {
		OrderID int64
		Line    int32
	}
)

// CopyShop copies the tables of NewShop, but for the outbox.
func CopyShop(c *Copies) {
	type customer struct {
		ID         int64
		Name, City string
	}
	type product struct {
		ID   int64
		Name string
	}
	type order struct {
		ID         int64
		CustomerID sql.Null[int64]
		Status     string
		Cents      int64
	}
	type orderLine struct {
		OrderID   int64
		Line      int32
		ProductID int64
		Quantity  int32
		Cents     int64
	}
	Copy[id, customer](c, "public.customers")
	Copy[id, product](c, "public.products")
	Copy[id, order](c, "public.orders")
	Copy[lineKey, orderLine](c, "public.order_lines")
}

// OverTopics runs an example as its command line does, over the topics of Replicate, until the
// test ends.
func OverTopics(t *testing.T, p example.Program, cluster *kafkatest.Cluster) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- example.Run(ctx, p, []string{
			"-brokers", strings.Join(cluster.Brokers(), ","), "-topics", Prefix,
		}, io.Discard, io.Discard)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the example ended: %v", err)
		}
	})
}

// SameTopic folds a table's topic until it equals SQL, whose columns are the key and the
// row in JSON, and then has Kafka's own console consumer print the same.
func (d *DB) SameTopic(t *testing.T, cluster *kafkatest.Cluster, topic, query string) {
	t.Helper()
	want := map[string]string{}
	for _, r := range d.Strings(query) {
		want[r[0]] = OneSpelling(t, r[1])
	}
	if len(want) == 0 {
		t.Fatal("SQL gives no rows, so nothing is compared")
	}
	var got map[string]string
	if !await.Within(await.Limit, func() bool {
		got = map[string]string{}
		for key, value := range cluster.Latest(t, topic) {
			got[key] = OneSpelling(t, string(value))
		}
		return maps.Equal(got, want)
	}) {
		t.Fatalf("topic %s holds\n%v\nwant\n%v", topic, got, want)
	}
	printed := map[string]string{}
	for key, value := range cluster.ConsoleLatest(t, topic) {
		printed[key] = OneSpelling(t, value)
	}
	if !maps.Equal(printed, want) {
		t.Errorf("of topic %s the console consumer prints\n%v\nwant\n%v", topic, printed, want)
	}
}

// OneSpelling writes equal JSON equally.
func OneSpelling(t *testing.T, value string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return fmt.Sprint(v) // objects in the order of their keys
}
