package engine

import (
	"slices"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestEventsOfOneRow reach a target in the stream's order, also where some have come a
// longer way than others.
func TestEventsOfOneRow(t *testing.T) {
	b := newBench(t, func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
		in := sources.Stream[int64, item](b, db, "public.items", sources.WithSnapshot[item]())
		both := operators.Merge(in, operators.FlatMap(in, func(k int64, _ item, emit func(int64, item)) {
			emit(k, item{"first"})
			emit(k, item{"second"})
		}))
		sinks.Stream(both, target, "items")
	})
	b.source.tx(true, 1)
	var got []string
	if err := b.run(func(*Engine) {
		for range 3 {
			got = append(got, string(wait(t, b.target.taken).event.Value))
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{`{"name":"item 1"}`, `{"name":"first"}`, `{"name":"second"}`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
