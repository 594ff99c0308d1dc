package topologytest_test

import (
	"slices"
	"testing"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// TestArrayColumn pipes in a row with an array, which a slice is read from.
func TestArrayColumn(t *testing.T) {
	type ticket struct{ Tags []string }
	b := topology.New("tickets")
	tickets := sources.Table[int64, ticket](b, sources.NewDatabase("desk", nil), "public.tickets")
	tags := operators.MapValues(tickets, func(_ int64, v ticket) []string { return v.Tags })
	d := topologytest.New(t, b.MustBuild())
	want := []string{"a", `b,"c"`, ""}
	topologytest.Insert(d, tickets, 1, ticket{Tags: want})
	if got, ok := topologytest.Row(d, tags, 1); !ok || !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
