package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

type order struct {
	Customer string
	Cents    int64
}

type rate struct{ Percent int64 }

type priced struct {
	Customer string
	Cents    int64
}

// world is a cluster with the input topics of a test.
type world struct {
	t       *testing.T
	cluster *kafkatest.Cluster
	app     string
	client  *kgo.Client
	policy  topology.ErrorPolicy // of the join; it fails on negative cents
	dropped func(topology, node, reason string, count int)
	maxIdle time.Duration
	// throughTopics hands nothing over within a process.
	throughTopics bool
	purgeEvery    time.Duration
}

func newWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	w := &world{
		t: t, cluster: kafkatest.Shared(t), app: fmt.Sprintf("t%d", time.Now().UnixNano()),
		purgeEvery: 100 * time.Millisecond,
	}
	var err error
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.Brokers()...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	_, err = kadm.NewClient(w.client).CreateTopics(t.Context(), partitions, 1, nil,
		w.app+".public.orders", w.app+".public.rates")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) put(topic, key, value string) {
	w.t.Helper()
	r := &kgo.Record{Topic: w.app + ".public." + topic, Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	if err := w.client.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// topology is orders joined to rates under the same key.
func (w *world) topology() (*topology.Topology, *view.View[string, priced]) {
	b := topology.New("shop")
	db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
	orders := sources.Table[string, order](b, db, "public.orders")
	rates := sources.Table[string, rate](b, db, "public.rates")
	out := operators.Join("priced", orders, rates, func(o order, r rate) priced {
		if o.Cents < 0 {
			panic("negative")
		}
		return priced{o.Customer, o.Cents * (100 + r.Percent) / 100}
	})
	if w.policy != nil {
		out = out.OnError(w.policy)
	}
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 2,
	}))
	sinks.Table(out, target, w.app+"-priced")
	v := sinks.View(out, "priced")
	return b.MustBuild(), v
}

// run runs a member over a state directory while during does its work.
func (w *world) run(dir string, during func(host *view.Host, v *view.View[string, priced])) error {
	w.t.Helper()
	d, err := state.OpenDir(dir, state.Identity{App: w.app}, state.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	host := view.NewHost(view.HostOptions{})
	defer host.Close(context.Background())
	topo, v := w.topology()
	in, out := engine.Connectors(topo)
	e, err := New(Config{
		App: w.app, Topologies: []*topology.Topology{topo}, Dir: d, Host: host, Brokers: w.cluster.Brokers(),
		Sources: in, Targets: out,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Limits: Limits{CommitInterval: 10 * time.Millisecond},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() {
		err := e.Run(ctx)
		if err != nil {
			w.t.Errorf("the engine ended: %v", err)
		}
		done <- err
	}()
	during(host, v)
	cancel()
	return <-done
}

// settle waits until a view shows all that the input topics hold.
func (w *world) settle(host *view.Host) {
	w.t.Helper()
	topics := []string{w.app + ".public.orders", w.app + ".public.rates"}
	ends, err := kadm.NewClient(w.client).ListEndOffsets(w.t.Context(), topics...)
	if err != nil {
		w.t.Fatal(err)
	}
	at := record.Positions{}
	ends.Each(func(o kadm.ListedOffset) {
		at[fmt.Sprintf("%s/%d", o.Topic, o.Partition)] = uint64(o.Offset)
	})
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := host.WaitFor(ctx, at); err != nil {
		w.t.Fatal(err)
	}
}

// One record goes all the way: topic, join, changelog, output topic, view.
func TestJoinOverTopics(t *testing.T) {
	w := newWorld(t, 2)
	for i := range 20 {
		w.put("orders", fmt.Sprint("o", i), fmt.Sprintf(`{"customer":"c%d","cents":%d}`, i%3, 100*i))
	}
	for i := range 20 {
		w.put("rates", fmt.Sprint("o", i), `{"percent":10}`)
	}
	want := map[string]string{}
	for i := range 20 {
		want[fmt.Sprintf("%q", fmt.Sprint("o", i))] = fmt.Sprintf(`{"key":"o%d","customer":"c%d","cents":%d}`,
			i, i%3, 110*i)
	}
	dir := t.TempDir()
	err := w.run(dir, func(host *view.Host, v *view.View[string, priced]) {
		w.settle(host)
		row, ok, _, err := v.Get(t.Context(), "o7")
		if err != nil || !ok || row.Cents != 770 {
			t.Errorf("got %+v, %v, %v", row, ok, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for key, value := range w.cluster.Latest(t, w.app+"-priced") {
		got[key] = string(value)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", slices.Sorted(maps.Values(got)), slices.Sorted(maps.Values(want)))
	}
}
