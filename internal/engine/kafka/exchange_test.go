package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// memberRun is a member of the group in this process.
type memberRun struct {
	engine *Engine
	stop   func()
	done   chan error
}

// start starts a member over a state directory.
func (w *world) start(dir string, topo *topology.Topology) *memberRun {
	w.t.Helper()
	return w.startWith(dir, topo, func(*Config) {})
}

// startWith is start with a configuration of its own.
func (w *world) startWith(dir string, topo *topology.Topology, change func(*Config)) *memberRun {
	w.t.Helper()
	d, err := state.OpenDir(dir, state.Identity{App: w.app}, state.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	host := view.NewHost(view.HostOptions{})
	in, out := engine.Connectors(topo)
	cfg := Config{
		App: w.app, Topologies: []*topology.Topology{topo}, Dir: d, Host: host, Brokers: w.cluster.Brokers(),
		Sources: in, Targets: out,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Dropped: w.dropped,
		Limits: Limits{
			MaxIdle:        w.maxIdle,
			CommitInterval: 10 * time.Millisecond, SessionTimeout: 6 * time.Second,
			TransactionTimeout: 3 * time.Second, // a restore waits for what a test has left open
		},
	}
	change(&cfg)
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	e.purgeEvery, e.throughTopics = w.purgeEvery, w.throughTopics
	ctx, cancel := context.WithCancel(context.Background())
	m := &memberRun{engine: e, stop: cancel, done: make(chan error, 1)}
	go func() {
		err := e.Run(ctx)
		host.Close(context.Background())
		if closeErr := d.Close(); err == nil {
			err = closeErr
		}
		m.done <- err
	}()
	return m
}

func (w *world) end(m *memberRun) {
	w.t.Helper()
	m.stop()
	if err := <-m.done; err != nil {
		w.t.Errorf("a member ended: %v", err)
	}
}

// eventually waits until the output is as wanted.
func (w *world) eventually(topic string, want map[string]string) {
	w.t.Helper()
	var got map[string]string
	if !await.Within(60*time.Second, func() bool {
		got = map[string]string{}
		for key, value := range w.cluster.Latest(w.t, topic) {
			got[key] = string(value)
		}
		return maps.Equal(got, want)
	}) {
		w.t.Fatalf("%s:\ngot  %v\nwant %v", topic, got, want)
	}
}

// totals is the number of orders and their cents by customer.
func (w *world) totals() *topology.Topology {
	b := topology.New("totals")
	db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
	orders := sources.Table[string, order](b, db, "public.orders")
	byCustomer := operators.GroupBy(orders, func(_ string, o order) string { return o.Customer })
	sums := operators.Aggregate("sums", byCustomer, aggregate.Sum(func(o order) int64 { return o.Cents }))
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 2,
	}))
	sinks.Table(sums, target, w.app+"-sums")
	return b.MustBuild()
}

// A topology with an exchange runs as tasks of two sub-topologies, and the members share
// them.
func TestExchangeOverTopics(t *testing.T) {
	w := newWorld(t, 3)
	w.throughTopics = true
	sums := map[string]int64{}
	latest := map[string]order{}
	put := func(i int) {
		key, o := "o"+strconv.Itoa(i%17), order{fmt.Sprint("c", i%5), int64(i)}
		if old, ok := latest[key]; ok {
			sums[old.Customer] -= old.Cents
		}
		latest[key] = o
		sums[o.Customer] += o.Cents
		value, _ := json.Marshal(map[string]any{"customer": o.Customer, "cents": o.Cents})
		w.put("orders", key, string(value))
	}
	want := func() map[string]string {
		out := map[string]string{}
		for c, cents := range sums {
			rows := slices.Collect(maps.Values(latest))
			if slices.ContainsFunc(rows, func(o order) bool { return o.Customer == c }) {
				out[strconv.Quote(c)] = fmt.Sprintf(`{"key":%q,"value":%d}`, c, cents)
			}
		}
		return out
	}
	for i := range 60 {
		put(i)
	}
	first := w.start(t.TempDir(), w.totals())
	w.eventually(w.app+"-sums", want())
	second := w.start(t.TempDir(), w.totals())
	for i := range 60 {
		put(i * 7)
	}
	w.eventually(w.app+"-sums", want())
	w.end(first)
	for i := range 20 {
		put(i * 3)
	}
	w.eventually(w.app+"-sums", want())
	w.purged(changelog.RepartitionTopic(w.app, "sums"))
	w.end(second)
}

// purged waits until nothing but the newest records of a topic are left: the last purge is
// before the last commit.
func (w *world) purged(topic string) {
	w.t.Helper()
	admin := kadm.NewClient(w.client)
	await.That(w.t, "consumed records of "+topic+" are deleted", func() bool {
		starts, err := admin.ListStartOffsets(w.t.Context(), topic)
		if err == nil {
			err = starts.Error()
		}
		if err != nil {
			w.t.Fatal(err)
		}
		deleted := len(starts) > 0
		starts.Each(func(o kadm.ListedOffset) { deleted = deleted && o.Offset > 0 })
		return deleted
	})
}
