package kafka

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// inOrder is what has come through an exchange under a key: how much, up to which number,
// and how often another number than the next.
type inOrder struct {
	Count  int64 `json:"count"`
	Last   int64 `json:"last"`
	Broken int64 `json:"broken"`
}

// counted sends orders, numbered by their cents, through an exchange, and looks at what comes out.
func (w *world) counted() *topology.Topology {
	b := topology.New("counted")
	db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
	orders := sources.Stream[string, order](b, db, "public.orders")
	byCustomer := operators.GroupBy(orders, func(_ string, o order) string { return o.Customer })
	counts := operators.Aggregate("counts", byCustomer, aggregate.Custom(aggregate.Fold[order, inOrder, inOrder]{
		Add: func(c inOrder, o order) inOrder {
			if o.Cents != c.Last+1 {
				c.Broken++
			}
			c.Count, c.Last = c.Count+1, o.Cents
			return c
		},
		Result: func(c inOrder) inOrder { return c },
	}))
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 1,
	}))
	sinks.Table(counts, target, w.app+"-counts")
	return b.MustBuild()
}

// numbered writes orders whose customers each have one key, and are counted from 1.
type numbered struct {
	w    *world
	last map[string]int64
}

func (n *numbered) put(count int) {
	for i := range count {
		key := strconv.Itoa(i % 11)
		n.last["c"+key]++
		value, _ := json.Marshal(map[string]any{"customer": "c" + key, "cents": n.last["c"+key]}) // of plain types
		n.w.put("orders", "o"+key, string(value))
	}
}

func (n *numbered) want() map[string]string {
	out := map[string]string{}
	for c, last := range n.last {
		out[strconv.Quote(c)] = fmt.Sprintf(`{"key":%q,"count":%d,"last":%d,"broken":0}`, c, last, last)
	}
	return out
}

// ends are the high watermarks of the exchange.
func (w *world) ends(topic string) map[int32]int64 {
	w.t.Helper()
	listed, err := kadm.NewClient(w.client).ListEndOffsets(w.t.Context(), topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out
}

// What goes through an exchange on one member is not written to its topic.
func TestHandOver(t *testing.T) {
	w := newWorld(t, 3)
	n := &numbered{w, map[string]int64{}}
	m := w.start(t.TempDir(), w.counted())
	topic := changelog.RepartitionTopic(w.app, "counts")
	n.put(50)
	w.eventually(w.app+"-counts", n.want())
	before := w.ends(topic)
	for range 5 {
		n.put(40)
		w.eventually(w.app+"-counts", n.want())
	}
	if after := w.ends(topic); !maps.Equal(before, after) || len(after) != 3 {
		t.Errorf("the exchange's topic ends at %v, and did at %v", after, before)
	}
	w.end(m)
}

// Members come, go and crash while records go through an exchange: some of it through the
// topic, some not. None is lost, doubled, or overtakes another one of its key.
func TestHandOverWhileMembersChange(t *testing.T) {
	w := newWorld(t, 4)
	n := &numbered{w, map[string]int64{}}
	dirs := [3]string{t.TempDir(), t.TempDir(), t.TempDir()}
	var crew [3]*memberRun
	crew[0] = w.start(dirs[0], w.counted())
	n.put(100)
	for round := range 4 {
		crew[1] = w.start(dirs[1], w.counted())
		n.put(150)
		crew[2] = w.start(dirs[2], w.counted())
		n.put(150)
		w.end(crew[0])
		n.put(150)
		w.end(crew[1])
		if round%2 == 0 {
			w.eventually(w.app+"-counts", n.want())
		}
		crew[0] = w.start(dirs[0], w.counted())
		n.put(100)
		w.end(crew[2])
		n.put(100)
	}
	w.eventually(w.app+"-counts", n.want())
	w.end(crew[0])
}

// What a former owner of an input has written to the exchange in a transaction that is not
// over there comes before what is handed over, also where it is over for the input's offsets.
func TestHandOverBehindOpenTransaction(t *testing.T) {
	w := newWorld(t, 1)
	n := &numbered{w, map[string]int64{}}
	m := w.start(t.TempDir(), w.counted())
	n.put(22)
	w.eventually(w.app+"-counts", n.want())
	w.end(m)

	former, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.Brokers()...), kgo.TransactionalID(w.app+"-former"))
	if err != nil {
		t.Fatal(err)
	}
	defer former.Close()
	if err := former.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	left := writtenOrders(t, 33)["c3"]
	left = &kgo.Record{
		Topic: changelog.RepartitionTopic(w.app, "counts"),
		Key:   left.Key, Value: left.Value, Timestamp: left.Timestamp,
	}
	if err := former.ProduceSync(t.Context(), left).FirstErr(); err != nil {
		t.Fatal(err)
	}
	n.last["c3"]++

	m = w.start(t.TempDir(), w.counted())
	topic := changelog.RepartitionTopic(w.app, "counts")
	ends := w.ends(topic)
	n.put(22)
	await.That(t, "records are written to the topic, behind the open transaction", func() bool {
		return w.ends(topic)[0] > ends[0]
	})
	if err := former.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	w.eventually(w.app+"-counts", n.want())
	w.end(m)
}

// writtenOrders is what a member writes to the exchange's topic for the last of count orders of each
// customer, by customer.
func writtenOrders(t *testing.T, count int) map[string]*kgo.Record {
	t.Helper()
	w := newWorld(t, 1)
	w.throughTopics, w.purgeEvery = true, time.Hour
	n := &numbered{w, map[string]int64{}}
	n.put(count)
	m := w.start(t.TempDir(), w.counted())
	w.eventually(w.app+"-counts", n.want())
	w.end(m)
	out := map[string]*kgo.Record{}
	for _, r := range w.cluster.Read(t, changelog.RepartitionTopic(w.app, "counts")) {
		for c := range n.last {
			if bytes.HasPrefix(r.Key, []byte("o"+c[1:]+"\x00")) {
				out[c] = r
			}
		}
	}
	if len(out) != len(n.last) {
		t.Fatalf("records of %d of %d customers", len(out), len(n.last))
	}
	return out
}
