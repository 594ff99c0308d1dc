package kafka

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/jsontopics"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	kafkasink "github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// A list of records that an exchange brings together from three partitions has them all,
// though their offsets and what they are ordered by are the same.
func TestRecordsOfSeveralPartitionsWithOneOffset(t *testing.T) {
	type all struct {
		Records int64   `json:"records"`
		Cents   []int64 `json:"cents"`
	}
	w := newWorld(t, 3)
	b := topology.New("lists")
	db := sources.NewDatabase("shop", jsontopics.Source(w.app+"."))
	orders := sources.Stream[string, order](b, db, "public.orders")
	lists := operators.Aggregate("lists",
		operators.GroupBy(orders, func(_ string, o order) string { return o.Customer }),
		aggregate.Combine2(aggregate.Count[order](),
			aggregate.Collect(func(order) int64 { return 0 }, func(o order) int64 { return o.Cents }),
			func(n int64, cents []int64) all { return all{n, cents} }))
	target := sinks.NewTarget("out", kafkasink.Target(kafkasink.Config{
		Brokers: w.cluster.Brokers(), CreateTopics: true, Partitions: 1,
	}))
	sinks.Table(lists, target, w.app+"-lists")

	var want []int64
	for i := range int64(24) {
		value, _ := json.Marshal(map[string]any{"customer": "c", "cents": i})
		w.put("orders", "o"+strconv.FormatInt(i, 10), string(value))
		want = append(want, i)
	}
	m := w.start(t.TempDir(), b.MustBuild())
	var got all
	if !await.Within(60*time.Second, func() bool {
		if err := json.Unmarshal(w.cluster.Latest(t, w.app+"-lists")[`"c"`], &got); err != nil {
			return false
		}
		return got.Records == int64(len(want))
	}) {
		t.Fatalf("%d of %d records came: %s", got.Records, len(want), w.cluster.Latest(t, w.app+"-lists"))
	}
	slices.Sort(got.Cents)
	if !slices.Equal(got.Cents, want) {
		t.Errorf("the list is %v, want %v", got.Cents, want)
	}
	w.end(m)
}
