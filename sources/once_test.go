package sources_test

import (
	"slices"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestOnce holds a plan to what a rebuild does: it says of streams whose records do not
// come again that what they have built up is lost.
func TestOnce(t *testing.T) {
	type event struct{ Kind string }
	type add = func(*topology.Builder, *sources.Database) topology.Stream[int64, event]
	for name, c := range map[string]struct {
		add  add
		want []string
	}{
		"stream": {func(b *topology.Builder, db *sources.Database) topology.Stream[int64, event] {
			return sources.Stream[int64, event](b, db, "public.events")
		}, []string{"shop/public.events"}},
		"with snapshot": {func(b *topology.Builder, db *sources.Database) topology.Stream[int64, event] {
			return sources.Stream[int64](b, db, "public.events", sources.WithSnapshot[event]())
		}, nil},
		"outbox": {func(b *topology.Builder, db *sources.Database) topology.Stream[int64, event] {
			return sources.Outbox[int64, event](b, db, "public.events")
		}, []string{"shop/public.events"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := topology.New("kinds")
			events := c.add(b, sources.NewDatabase("shop", nil))
			kinds := operators.Aggregate("count",
				operators.GroupBy(events, func(_ int64, e event) string { return e.Kind }), aggregate.Count[event]())
			sinks.View(kinds, "kinds")
			nodes := b.MustBuild().Summary().Nodes
			i := slices.IndexFunc(nodes, func(n topology.NodeSummary) bool { return n.Name == "count" })
			if got := nodes[i].Once; !slices.Equal(got, c.want) {
				t.Errorf("the aggregate loses the records of %q, want %q", got, c.want)
			}
		})
	}
}
