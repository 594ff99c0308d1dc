package kafka

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/windows"
)

// beating reads topics of JSON beside which there are heartbeats: Unix milliseconds.
type beating struct {
	sources.TopicReader
	topic string
}

// Heartbeats implements sources.HeartbeatReader.
func (b beating) Heartbeats() (topic string, at func(r *sources.TopicRecord) (int64, error)) {
	return b.topic, func(r *sources.TopicRecord) (int64, error) {
		ms, err := strconv.ParseInt(string(r.Value), 10, 64)
		return ms * 1000, err
	}
}

// minutes counts orders of a key in each minute, once that is over, and in one that is not.
func (w *world) minutes() *topology.Topology {
	b := topology.New("minutes")
	db := sources.NewDatabase("shop", beating{
		jsontopics.Source(w.app + ".").(sources.TopicReader), w.app + "-beats",
	})
	orders := sources.Stream[string, order](b, db, "public.orders")
	counts := operators.Aggregate("per-minute",
		operators.Window(operators.GroupByKey(orders), windows.Tumbling(time.Minute)),
		aggregate.Count[order](), operators.EmitOnClose())
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 1,
	}))
	sinks.Table(counts, target, w.app+"-counts")
	return b.MustBuild()
}

// TestHeartbeatsCloseWindows has one topic of heartbeats close windows of tasks whose inputs
// are idle: once, also where a member dies before the commit, and after what was written before.
func TestHeartbeatsCloseWindows(t *testing.T) {
	w := newWorld(t, 3)
	w.maxIdle = time.Hour // so that nothing goes on because it has waited long enough
	if _, err := kadm.NewClient(w.client).CreateTopics(t.Context(), 1, 1, nil, w.app+"-beats"); err != nil {
		t.Fatal(err)
	}
	minute := time.Now().Add(-time.Hour).Truncate(time.Minute).UTC()
	put := func(topic, key, value string, second int) {
		t.Helper()
		r := &kgo.Record{Topic: w.app + topic, Key: []byte(key), Value: []byte(value),
			Timestamp: minute.Add(time.Duration(second) * time.Second)}
		if err := w.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	beat := func(second int) {
		t.Helper()
		put("-beats", "", strconv.FormatInt(minute.Add(time.Duration(second)*time.Second).UnixMilli(), 10), second)
	}
	want := map[string]string{}
	keys := func(minutes, count int) {
		start := minute.Add(time.Duration(minutes) * time.Minute)
		for i := range 12 { // on all partitions
			key := fmt.Sprint("k", i)
			k := fmt.Sprintf(`{"key":%q,"window":{"start":%d,"end":%d}`, key, start.UnixMicro(),
				start.Add(time.Minute).UnixMicro())
			want[k+"}"] = fmt.Sprintf(`%s,"value":%d}`, k, count)
		}
	}
	for i := range 12 {
		put(".public.orders", fmt.Sprint("k", i), `{"customer":"c","cents":1}`, 10)
	}
	beat(59)
	dir := t.TempDir()
	m := w.start(dir, w.minutes())
	// The second heartbeat is the first to close anything; the order before it comes in first.
	for i := range 12 {
		put(".public.orders", fmt.Sprint("k", i), `{"customer":"c","cents":1}`, 58)
	}
	beat(60)
	keys(0, 2)
	w.eventually(w.app+"-counts", want)
	w.end(m)

	off := failpoint.Set(failpoint.KafkaProduced, func(hit int) error {
		if hit == 1 {
			return failpoint.ErrInjected
		}
		return nil
	})
	defer off()
	for i := range 12 {
		put(".public.orders", fmt.Sprint("k", i), `{"customer":"c","cents":1}`, 70)
	}
	beat(125)
	m = w.start(dir, w.minutes())
	if err := <-m.done; err == nil {
		t.Fatal("the failpoint was not hit")
	}
	m.stop()
	m = w.start(dir, w.minutes())
	keys(1, 1)
	w.eventually(w.app+"-counts", want)
	w.end(m)
	if n := len(w.cluster.Read(t, w.app+"-counts")); n != len(want) {
		t.Errorf("%d records came for %d windows", n, len(want))
	}
	offsets, err := kadm.NewClient(w.client).FetchOffsets(t.Context(), w.app)
	if err != nil {
		t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if kept := fmt.Sprintf(`"beats":{"%s-beats/0":3}`, w.app); !strings.Contains(o.Metadata, kept) {
			t.Errorf("beside %s/%d is %s, want %s", o.Topic, o.Partition, o.Metadata, kept)
		}
	})
}
