package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestRefusedMember has a member of another topology: Run's error is one that users can tell,
// and the others go on.
func TestRefusedMember(t *testing.T) {
	cluster := kafkatest.Shared(t)
	name := fmt.Sprintf("told%d", time.Now().UnixNano())
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic := name + ".public.items"
	if _, err := kadm.NewClient(client).CreateTopics(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	build := func(sums string) *topology.Topology {
		b := topology.New("shop")
		items := sources.Table[string, struct{ N int64 }](b,
			sources.NewDatabase("shop", jsontopics.Source(name+".")), "public.items")
		sinks.View(operators.Aggregate(sums,
			operators.GroupBy(items, func(string, struct{ N int64 }) string { return "all" }),
			aggregate.Sum(func(i struct{ N int64 }) int64 { return i.N })), "sums")
		return b.MustBuild()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(sums string) (*tailrace.App, chan error) {
		app, err := tailrace.New(tailrace.Config{App: name, StateDir: t.TempDir() + "/state",
			Kafka: &tailrace.Kafka{Brokers: cluster.Brokers(), CommitInterval: 10 * time.Millisecond}}, build(sums))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- app.Run(ctx) }()
		return app, done
	}
	first, ended := run("sums")
	if err := first.WaitFor(ctx, nil); err != nil {
		t.Fatal(err)
	}
	_, other := run("others")
	if err := <-other; !errors.Is(err, tailrace.ErrGroupRefused) || !strings.Contains(err.Error(), "topology") {
		t.Errorf("a member of another topology ended with %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the first has ended: %v", err)
	default:
	}
}
