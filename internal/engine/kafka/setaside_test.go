package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// twice reads the orders twice: with cents that have to be a number, and as text.
func (w *world) twice(policy sources.Undecodable) *topology.Topology {
	type text struct{ Cents string }
	b := topology.New("twice")
	db := sources.NewDatabase("shop", jsontopics.With(w.app+".", policy))
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 2,
	}))
	orders := sources.Table[string, order](b, db, "public.orders")
	texts := sources.Table[string, text](b, db, "public.orders", sources.As[text]("texts"))
	sinks.Table(operators.Join("both", texts, orders, func(t text, o order) string {
		return t.Cents + " of " + o.Customer
	}), target, w.app+"-both")
	return b.MustBuild()
}

// putBroken writes orders of which some cannot be read, and returns what the others come
// to, and the offsets of those by partition.
func (w *world) putBroken() (want map[string]string, broken []*kgo.Record) {
	w.t.Helper()
	want = map[string]string{}
	topic := w.app + ".public.orders"
	at := time.UnixMilli(time.Now().UnixMilli())
	for i := range 40 {
		key := fmt.Sprint("o", i%20)
		r := &kgo.Record{Topic: topic, Key: []byte(key), Timestamp: at.Add(time.Duration(i) * time.Millisecond)}
		switch i % 20 {
		case 3:
			r.Value = []byte("\x00\xff no JSON")
			r.Headers = []kgo.RecordHeader{{Key: "trace", Value: []byte{0, 1, 0xff}}, {Key: "trace", Value: nil}}
		case 7:
			r.Value = fmt.Appendf(nil, `{"customer":"c%d","cents":"many"}`, i)
		case 11: // is broken in its second form only, so that the first one stays
			r.Value = fmt.Appendf(nil, `{"customer":"c%d","cents":%d}`, i, i)
			if i > 20 {
				r.Value = []byte(`{`)
			} else {
				want[key] = fmt.Sprintf("%d of c%d", i, i)
			}
		default:
			r.Value = fmt.Appendf(nil, `{"customer":"c%d","cents":%d}`, i, i)
			want[key] = fmt.Sprintf("%d of c%d", i, i)
		}
		bad := i%20 == 3 || i%20 == 7 || i == 31
		if err := w.client.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
		if bad {
			broken = append(broken, r)
		}
	}
	json := map[string]string{}
	for key, value := range want {
		json[fmt.Sprintf("%q", key)] = fmt.Sprintf(`{"key":%q,"value":%q}`, key, value)
	}
	return json, broken
}

// letterLine is what a record and its letter have in common.
func letterLine(r *kgo.Record, topic, partition, offset string, headers []kgo.RecordHeader) string {
	return fmt.Sprintf("%s/%s@%s %q=%q at %d %q", topic, partition, offset, r.Key, r.Value,
		r.Timestamp.UnixMilli(), headers)
}

// TestUndecodableStops names topic, partition, offset and remedy.
func TestUndecodableStops(t *testing.T) {
	w := newWorld(t, 2)
	_, broken := w.putBroken()
	m := w.start(t.TempDir(), w.twice(sources.Undecodable{}))
	err := <-m.done
	m.stop()
	if !errors.Is(err, sources.ErrDecode) {
		t.Fatalf("the member ended with %v", err)
	}
	named := slices.ContainsFunc(broken, func(r *kgo.Record) bool {
		return strings.Contains(err.Error(), fmt.Sprintf("%s/%d offset %d", r.Topic, r.Partition, r.Offset)) ||
			strings.Contains(err.Error(), fmt.Sprintf("offset %d of %s/%d", r.Offset, r.Topic, r.Partition))
	})
	if !strings.Contains(err.Error(), "Undecodable") {
		t.Errorf("the error names no remedy: %v", err)
	}
	if !named || strings.Contains(err.Error(), "many") {
		t.Errorf("the error names none of the broken records, or their values: %v", err)
	}
}

// TestUndecodableSkipped leaves broken records out, whichever of the readers cannot use them.
func TestUndecodableSkipped(t *testing.T) {
	w := newWorld(t, 2)
	want, broken := w.putBroken()
	counted := map[string]int{}
	w.dropped = func(_, node, reason string, n int) { counted[node+" "+reason] += n }
	m := w.start(t.TempDir(), w.twice(sources.Undecodable{Verdict: topology.Skip}))
	w.eventually(w.app+"-both", want)
	w.end(m)
	each := len(broken)
	if !maps.Equal(counted, map[string]int{"shop/public.orders skipped": each, "texts skipped": each}) {
		t.Errorf("counted %v, want %d each", counted, each)
	}
}

// TestDeadLetterTopic writes broken records to a topic, byte for byte and exactly once, though the
// member dies between writing them and the commit.
func TestDeadLetterTopic(t *testing.T) {
	w := newWorld(t, 2)
	want, broken := w.putBroken()
	policy := sources.Undecodable{Verdict: topology.DeadLetter, Topic: w.app + "-broken"}
	off := failpoint.Set(failpoint.KafkaProduced, func(hit int) error {
		if hit == 1 {
			return failpoint.ErrInjected
		}
		return nil
	})
	defer off()
	dir := t.TempDir()
	m := w.start(dir, w.twice(policy))
	if err := <-m.done; !errors.Is(err, failpoint.ErrInjected) {
		t.Fatalf("the member ended with %v", err)
	}
	m.stop()
	m = w.start(dir, w.twice(policy))
	w.eventually(w.app+"-both", want)
	w.end(m)

	var lines, wantLines []string
	for _, r := range broken {
		wantLines = append(wantLines,
			letterLine(r, r.Topic, fmt.Sprint(r.Partition), fmt.Sprint(r.Offset), r.Headers))
	}
	for _, r := range w.cluster.Read(t, policy.Topic) {
		added := map[string]string{}
		var own []kgo.RecordHeader
		for _, h := range r.Headers {
			if strings.HasPrefix(h.Key, headerError) {
				added[h.Key] = string(h.Value)
			} else {
				own = append(own, h)
			}
		}
		if added[headerError] == "" || added[headerApp] != w.app {
			t.Errorf("the headers say %v", added)
		}
		if strings.Contains(string(r.Value), "many") && added[headerNode] != "shop/public.orders" {
			t.Errorf("the node that failed is %q", added[headerNode])
		}
		lines = append(lines, letterLine(r, added[headerTopic], added[headerPartition], added[headerOffset], own))
	}
	slices.Sort(lines)
	slices.Sort(wantLines)
	if !slices.Equal(lines, wantLines) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(wantLines, "\n"))
	}
}

// TestDeadLettersAreNotRead refuses a topic for dead letters that is an input.
func TestDeadLettersAreNotRead(t *testing.T) {
	w := newWorld(t, 1)
	topo := w.twice(sources.Undecodable{Verdict: topology.DeadLetter, Topic: w.app + ".public.orders"})
	in, out := engine.Connectors(topo)
	_, err := New(Config{App: w.app, Topologies: []*topology.Topology{topo}, Sources: in, Targets: out})
	if err == nil || !strings.Contains(err.Error(), "Undecodable.Topic") {
		t.Errorf("got %v", err)
	}
}
