package kafka_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/kafka"
	"github.com/tailrace/tailrace/topology"
)

// topicsWorld is a cluster with plain topics of a test, whose names begin with name.
type topicsWorld struct {
	*testing.T
	cluster *kafkatest.Cluster
	client  *kgo.Client
	name    string
}

func newTopicsWorld(t *testing.T, topics ...string) *topicsWorld {
	t.Helper()
	w := &topicsWorld{T: t, cluster: kafkatest.Shared(t), name: fmt.Sprintf("p%d", time.Now().UnixNano())}
	var err error
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.Brokers()...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	for i := range topics {
		topics[i] = w.name + topics[i]
	}
	if _, err := kadm.NewClient(w.client).CreateTopics(t.Context(), 2, 1, nil, topics...); err != nil {
		t.Fatal(err)
	}
	return w
}

// put writes a record; "" is no value. Its timestamp is so many milliseconds behind start.
func (w *topicsWorld) put(topic, key, value string, at time.Time, headers ...kgo.RecordHeader) {
	w.Helper()
	r := &kgo.Record{Topic: w.name + topic, Key: []byte(key), Timestamp: at, Headers: headers}
	if value != "" {
		r.Value = []byte(value)
	}
	if err := w.client.ProduceSync(w.Context(), r).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

type click struct{ User, Page string }

type user struct {
	Name   string
	Points int64
	Region int64
}

type seen struct{ Page, Name, Region, Trace string }

// clicks enriches the stream of clicks with users and, globally, regions.
func (w *topicsWorld) clicks(app string) *topology.Topology {
	b := topology.New(app)
	shop := sources.NewDatabase("shop", nil)
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 2,
	}))
	clicks := sources.Stream[string, click](b, shop, "public.clicks")
	users := sources.Table[string, user](b, shop, "public.users")
	regions := sources.GlobalTable[int64, struct{ Name string }](b, shop, "public.regions")
	type known struct {
		seen
		region int64
	}
	withUser := operators.EnrichContext("user", clicks, users,
		func(_ record.Context, _ string, c click) (string, bool, error) { return c.User, true, nil },
		func(ctx record.Context, _ string, c click, u user, has bool) (known, bool, error) {
			s := seen{Page: c.Page, Name: "nobody"}
			if has {
				s.Name = u.Name
			}
			for _, h := range ctx.Tx.Headers {
				s.Trace += fmt.Sprintf("%s=%x;", h.Key, h.Value)
			}
			return known{s, u.Region}, true, nil
		})
	out := operators.LeftEnrichGlobal("region", withUser, regions,
		func(_ string, k known) int64 { return k.region },
		func(k known, r struct{ Name string }, _ bool) seen {
			k.Region = r.Name
			return k.seen
		})
	sinks.Stream(out, target, w.name+app)
	return b.MustBuild()
}

// run runs an app over the topics until during returns.
func (w *topicsWorld) run(app, dir string, start sources.Start, during func()) {
	w.Helper()
	cfg := tailrace.Config{
		App: w.name + "-" + app, StateDir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Kafka: &tailrace.Kafka{Brokers: w.cluster.Brokers(), CommitInterval: 10 * time.Millisecond},
	}
	cfg.Bind("shop", kafka.Topics(kafka.Config{
		Topics: []kafka.Topic{
			{Table: "public.clicks", Topic: w.name + "clicks", Start: start},
			{Table: "public.users", Topic: w.name + "users"},
			{Table: "public.regions", Topic: w.name + "regions", Key: kafka.Int64, Value: kafka.JSON},
		},
		Undecodable: sources.Undecodable{Verdict: topology.DeadLetter},
	}))
	a, err := tailrace.New(cfg, w.clicks(app))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	if err := a.WaitReady(ctx); err != nil {
		w.Errorf("the app ended: %v", <-done)
		return
	}
	during()
	cancel()
	if err := <-done; err != nil {
		w.Errorf("the app ended: %v", err)
	}
}

// events waits for what an app has put out, by page.
func (w *topicsWorld) events(app string, pages ...string) map[string]*kgo.Record {
	w.Helper()
	var got map[string]*kgo.Record
	if !await.Within(60*time.Second, func() bool {
		topics, err := kadm.NewClient(w.client).ListTopics(w.Context(), w.name+app)
		if err != nil || !topics.Has(w.name+app) {
			return false
		}
		got = map[string]*kgo.Record{}
		for _, r := range w.cluster.Read(w, w.name+app) {
			page, _, _ := strings.Cut(strings.TrimPrefix(string(r.Value), `{"page":"`), `"`)
			if got[page] != nil {
				w.Errorf("%s came twice", page)
			}
			got[page] = r
		}
		return len(got) >= len(pages)
	}) || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(pages))) {
		w.Fatalf("%s: got %v, want %v", app, slices.Sorted(maps.Keys(got)), pages)
	}
	return got
}

// TestPlainTopics joins a stream of a topic to a table of one and to a global one: unknown
// fields are passed over, a record without value deletes, a value of another type is a dead
// letter, headers and timestamps come through as they were.
func TestPlainTopics(t *testing.T) {
	w := newTopicsWorld(t, "clicks", "users", "regions")
	at := time.UnixMilli(time.Now().Add(-time.Hour).UnixMilli()).UTC()
	step := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	w.put("regions", string(binary.BigEndian.AppendUint64(nil, 7)), `{"name":"north"}`, step(0))
	w.put("users", "u1", `{"name":"Ada","points":"5","region":7,"more":{"x":[1,{}]},"flag":true}`, step(1))
	w.put("users", "u2", `{"name":"Bob","points":1,"region":8}`, step(2))
	w.put("clicks", "a", `{"user":"u1","page":"first"}`, step(3))
	w.put("users", "u1", `{"name":"Eve","points":"many","region":7}`, step(4)) // a dead letter
	w.put("clicks", "b", `{"user":"u1","page":"second"}`, step(5),
		kgo.RecordHeader{Key: "trace", Value: []byte{0, 0xff}}, kgo.RecordHeader{Key: "trace"})
	w.put("users", "u1", "", step(6))
	w.put("clicks", "a", `{"user":"u1","page":"third"}`, step(7))
	w.put("clicks", "a", `{"user":"u2","page":"fourth"}`, step(8))
	dir := t.TempDir()
	w.run("all", dir, sources.Start{}, func() {
		got := w.events("all", "first", "second", "third", "fourth")
		for page, want := range map[string]string{
			"first":  `{"page":"first","name":"Ada","region":"north","trace":""}`,
			"second": `{"page":"second","name":"Ada","region":"north","trace":"trace=00ff;trace=;"}`,
			"third":  `{"page":"third","name":"nobody","region":"","trace":""}`,
			"fourth": `{"page":"fourth","name":"Bob","region":"","trace":""}`,
		} {
			if string(got[page].Value) != want {
				t.Errorf("got  %s\nwant %s", got[page].Value, want)
			}
		}
		r := got["second"]
		own := slices.DeleteFunc(slices.Clone(r.Headers), func(h kgo.RecordHeader) bool {
			return strings.HasPrefix(h.Key, "tailrace-")
		})
		if string(r.Key) != `"b"` || !r.Timestamp.Equal(step(5)) || len(own) != 2 ||
			string(own[0].Value) != "\x00\xff" || own[1].Value != nil {
			t.Errorf("key %s at %v with headers %q", r.Key, r.Timestamp, own)
		}
		letters := w.cluster.Read(t, w.name+"-all-dead-letters")
		if len(letters) != 1 || !strings.Contains(string(letters[0].Value), `"many"`) ||
			!letters[0].Timestamp.Equal(step(4)) {
			t.Errorf("the dead letters are %v", letters)
		}
	})
	w.starts(dir, step(7))
}

// starts begins with topics elsewhere than at their beginning, and only as long as there are no offsets.
func (w *topicsWorld) starts(dir string, third time.Time) {
	w.run("timed", w.TempDir(), sources.Start{Time: third}, func() { w.events("timed", "third", "fourth") })
	latest := w.TempDir()
	w.run("latest", latest, sources.Start{Latest: true}, func() {})
	// The app has processed nothing, and where it begins is known all the same.
	w.put("clicks", "c", `{"user":"u2","page":"fifth"}`, third.Add(time.Second))
	w.run("latest", latest, sources.Start{Latest: true}, func() { w.events("latest", "fifth") })
	w.run("all", dir, sources.Start{Latest: true}, func() {
		w.events("all", "first", "second", "third", "fourth", "fifth")
	})
}

// TestTableFromTheMiddle refuses a table that would lack what lies before.
func TestTableFromTheMiddle(t *testing.T) {
	b := topology.New("t")
	shop := sources.NewDatabase("shop", kafka.Topics(kafka.Config{Topics: []kafka.Topic{
		{Table: "public.users", Start: sources.Start{Latest: true}},
	}}))
	sinks.View(sources.Table[string, user](b, shop, "public.users"), "users")
	a, err := tailrace.New(tailrace.Config{App: "t", StateDir: t.TempDir(),
		Kafka: &tailrace.Kafka{Brokers: []string{"127.0.0.1:1"}}}, b.MustBuild())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Start") {
		t.Errorf("got %v", err)
	}
}
